#include "kernels/rowwise_product.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "kernels/head_products.h"
#include "kernels/launch.h"
#include "kernels/parallel.h"

namespace group_robust {
namespace {

static_assert(kRowsAtOnce == kLanes, "rows lie in the lanes of one register");

/** Rows of the weight whose sums stay in cache until they are put in their place. */
constexpr int64_t kBlockRows = 64;

template <class T, class Tile>
void multiply(Tile tile, const T* weight, int64_t out, int64_t in, const float* panel, int64_t rows, float* y) {
  const int64_t blocks = (out + kBlockRows - 1) / kBlockRows;
  parallelRows(blocks, kBlockRows * in, [&](int64_t begin, int64_t end) {
    std::vector<float> wide, sums(kBlockRows * kLanes);
    for (int64_t first = begin * kBlockRows; first < std::min(out, end * kBlockRows); first += kBlockRows) {
      const int64_t count = std::min(kBlockRows, out - first);
      headLogits(tile, wideWeights(weight + first * in, count * in, wide), count, in, panel, sums.data(), kLanes);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < count; ++i) y[row * out + first + i] = sums[i * kLanes + row];
    }
  });
}

}  // namespace

at::Tensor rowwiseProduct(const at::Tensor& x, const at::Tensor& weight) {
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
  TORCH_CHECK(rows <= kRowsAtOnce, "rowwiseProduct: ", rows, " rows");
  const at::Tensor lying = weight.contiguous();
  // One row of `panel` holds one entry of every row of x, and zeros in the lanes that have none.
  const at::Tensor panel = at::zeros({in, kLanes}, x.options().dtype(at::kFloat));
  panel.narrow(1, 0, rows).copy_(x.t());
  const at::Tensor y = at::empty({rows, out}, panel.options());
  withElement(lying.scalar_type(), [&](auto element) {
    const auto* from = elements<decltype(element)>(lying);
    withRegisterTile(
        [&](auto tile) { multiply(tile, from, out, in, elements<float>(panel), rows, mutableElements<float>(y)); });
  });
  return y.to(x.scalar_type());
}

}  // namespace group_robust
