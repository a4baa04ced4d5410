#include "kernels/token_log_prob.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/precision.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kChunkElements = 1 << 23;  // logits of one chunk, 32 MiB in float32

int64_t rowsPerChunk(int64_t vocabulary) { return std::max<int64_t>(1, kChunkElements / vocabulary); }

at::Tensor chunkLogits(const at::Tensor& hidden, const at::Tensor& head) {
  return at::linear(hidden, head).to(accurate(head.scalar_type()));
}

class TokenLogProbabilities : public torch::autograd::Function<TokenLogProbabilities> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& targets) {
    const int64_t rows = hidden.size(0), step = rowsPerChunk(head.size(0));
    const at::Tensor result = at::empty({rows}, at::TensorOptions(at::kDouble).device(hidden.device()));
    const at::Tensor normaliser = at::empty_like(result);
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t count = std::min(step, rows - begin);
      at::Tensor logits = chunkLogits(hidden.narrow(0, begin, count), head);
      const at::Tensor chosen =
          logits.gather(1, targets.narrow(0, begin, count).unsqueeze(1)).squeeze(1).to(at::kDouble);
      const at::Tensor largest = std::get<0>(logits.max(1, true));
      const at::Tensor total = logits.sub_(largest).exp_().sum(1);
      const at::Tensor logTotal = largest.squeeze(1).to(at::kDouble) + total.to(at::kDouble).log();
      normaliser.narrow(0, begin, count).copy_(logTotal);
      result.narrow(0, begin, count).copy_(chosen - logTotal);
    }
    ctx->save_for_backward({hidden, head, targets, normaliser});
    return result;
  }

  // d log p(target) / d logits = onehot(target) - softmax(logits)
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &hidden = saved[0], &head = saved[1], &targets = saved[2], &normaliser = saved[3];
    const int64_t rows = hidden.size(0), step = rowsPerChunk(head.size(0));
    const at::Tensor hiddenGradient = at::empty_like(hidden);
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t count = std::min(step, rows - begin);
      at::Tensor logits = chunkLogits(hidden.narrow(0, begin, count), head);
      const auto column = [&](const at::Tensor& values) {
        return values.narrow(0, begin, count).unsqueeze(1).to(logits.scalar_type());
      };
      const at::Tensor gradient = column(gradients[0]);
      at::Tensor wanted = logits.sub_(column(normaliser)).exp_().mul_(gradient.neg());
      wanted.scatter_add_(1, targets.narrow(0, begin, count).unsqueeze(1), gradient);
      hiddenGradient.narrow(0, begin, count).copy_(at::mm(wanted.to(head.scalar_type()), head));
    }
    return {hiddenGradient, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor tokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets) {
  return TokenLogProbabilities::apply(hidden, head, targets);
}

}  // namespace group_robust
