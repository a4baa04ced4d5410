#include "kernels/token_log_prob.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/head_products.h"
#include "kernels/implementation.h"
#include "kernels/launch.h"
#include "kernels/parallel.h"
#include "kernels/precision.h"
#include "kernels/product.h"
#include "kernels/rows/token_log_prob.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

/** Rows of the head whose logits stay in cache between their product and their sums. */
constexpr int64_t kBlockRows = 64;
/** Rows of the head that one thread takes at a time. Fixed, so that sums do not depend on the number of threads. */
constexpr int64_t kSpanRows = 1024;
/** Logits that exist at once on a GPU: 256 MiB, all of Gemma's vocabulary for 256 rows, so that products fill the card.
 */
constexpr int64_t kGpuLogits = int64_t{1} << 26;
/** Logit gradients that exist at once in backward: 4 MiB, for the cache all threads share. */
constexpr int64_t kChunkGradients = int64_t{1} << 20;
/** Rows of the head whose share of a gradient is summed in float32; such sums meet in float64. */
constexpr int64_t kChunkRows = 4096;

/** log Σ exp of every position's logits is largest + log(total). */
struct RowSums {
  at::Tensor largest;  // [P] float32 or better
  at::Tensor total;    // [P] float64
  at::Tensor chosen;   // [P], the targets' logits
};

/** The head and its operands, as the CPU's loops take them. */
template <class T>
struct HeadRun {
  const T* head;  // [vocabulary, hidden]
  int64_t vocabulary;
  int64_t hidden;
  const float* panels;  // the hidden states, see panelWidth
  const int64_t* targets;
  int64_t positions;
  int64_t padded;  // positions in whole lanes
  float cap;       // of the logits; 0: none
};

/** The hidden states [P, H] as panels, with zeros in place of missing positions. */
std::vector<float> panelsOf(const at::Tensor& hidden, int64_t padded) {
  const int64_t positions = hidden.size(0), size = hidden.size(1);
  std::vector<float> panels(padded * size);
  const float* rows = hidden.const_data_ptr<float>();
  for (int64_t first = 0; first < padded; first += panelWidth(first, padded)) {
    const int64_t width = panelWidth(first, padded);
    for (int64_t p = first; p < std::min(positions, first + width); ++p)
      for (int64_t k = 0; k < size; ++k) panels[first * size + k * width + p - first] = rows[p * size + k];
  }
  return panels;
}

/** f(run, tile) with the types of the head's elements and of the registers. */
template <class F>
void withHead(const at::Tensor& head, const std::vector<float>& panels, const at::Tensor& targets, int64_t padded,
              double cap, const F& f) {
  withElement(head.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const HeadRun<T> run{
        elements<T>(head), head.size(0), head.size(1),           panels.data(), targets.const_data_ptr<int64_t>(),
        targets.size(0),   padded,       static_cast<float>(cap)};
    withRegisterTile([&](auto tile) { f(run, tile); });
  });
}

GROUP_ROBUST_VECTORISED void capNumbers(float* __restrict logits, int64_t count, float cap) {
  for (int64_t i = 0; i < count; ++i) logits[i] = cap * hyperbolicTangent(logits[i] / cap);
}

/** logits [end − begin, padded] of the head's rows [begin, end), capped. */
template <class T, class Tile>
void blockLogits(const HeadRun<T>& run, Tile tile, int64_t begin, int64_t end, std::vector<float>& wide,
                 float* logits) {
  const float* rows = wideWeights(run.head + begin * run.hidden, (end - begin) * run.hidden, wide);
  headLogits(tile, rows, end - begin, run.hidden, run.panels, logits, run.padded);
  if (run.cap != 0) capNumbers(logits, (end - begin) * run.padded, run.cap);
}

/** Adds a block of logits [rows, padded] to the sums of its positions. */
GROUP_ROBUST_VECTORISED void addToSums(const float* __restrict logits, int64_t rows, int64_t padded,
                                       float* __restrict largest, float* __restrict sum) {
  for (int64_t first = 0; first < padded; first += kLanes) {
    float top[kLanes], total[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) top[lane] = largest[first + lane];
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t lane = 0; lane < kLanes; ++lane) top[lane] = larger(logits[r * padded + first + lane], top[lane]);
    for (int64_t lane = 0; lane < kLanes; ++lane)
      total[lane] = raised({largest[first + lane], sum[first + lane]}, top[lane]);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        total[lane] += softmaxTerm(logits[r * padded + first + lane], top[lane]);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      largest[first + lane] = top[lane];
      sum[first + lane] = total[lane];
    }
  }
}

GROUP_ROBUST_VECTORISED void logitGradients(const float* logits, int64_t rows, int64_t padded,
                                            const float* __restrict largest, const float* __restrict share,
                                            float* gradients) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t p = 0; p < padded; ++p)
      gradients[r * padded + p] = logitGradient(logits[r * padded + p], largest[p], share[p]);
}

/** Gradients of capped logits become those of the logits before the cap. */
GROUP_ROBUST_VECTORISED void uncapGradients(const float* __restrict logits, float* __restrict gradients, int64_t count,
                                            float cap) {
  for (int64_t i = 0; i < count; ++i) gradients[i] *= 1 - (logits[i] / cap) * (logits[i] / cap);
}

/** f(b, e) over the blocks of [begin, end). */
template <class F>
void eachBlock(int64_t begin, int64_t end, const F& f) {
  for (int64_t block = begin; block < end; block += kBlockRows) f(block, std::min(end, block + kBlockRows));
}

/** f(n) for the positions whose target is in [begin, end). */
template <class F>
void eachTarget(const int64_t* targets, int64_t positions, int64_t begin, int64_t end, const F& f) {
  for (int64_t p = 0; p < positions; ++p)
    if (targets[p] >= begin && targets[p] < end) f(p);
}

/** Sums and the targets' logits; all logits too where `kept` [vocabulary, padded] is not null. */
template <class T, class Tile>
void forwardOnCpu(const HeadRun<T>& run, Tile tile, float* kept, float* chosen, float* largest, double* total) {
  const int64_t spans = (run.vocabulary + kSpanRows - 1) / kSpanRows, padded = run.padded;
  std::vector<float> tops(spans * padded, kNegativeInfinity), sums(spans * padded, 0.0F);
  parallelRows(spans, kSpanRows * padded, [&](int64_t firstSpan, int64_t lastSpan) {
    std::vector<float> wide, room(kept == nullptr ? kBlockRows * padded : 0);
    for (int64_t span = firstSpan; span < lastSpan; ++span)
      eachBlock(span * kSpanRows, std::min(run.vocabulary, (span + 1) * kSpanRows), [&](int64_t begin, int64_t end) {
        float* logits = kept == nullptr ? room.data() : kept + begin * padded;
        blockLogits(run, tile, begin, end, wide, logits);
        addToSums(logits, end - begin, padded, &tops[span * padded], &sums[span * padded]);
        eachTarget(run.targets, run.positions, begin, end,
                   [&](int64_t p) { chosen[p] = logits[(run.targets[p] - begin) * padded + p]; });
      });
  });
  for (int64_t p = 0; p < run.positions; ++p) {
    largest[p] = kNegativeInfinity;
    for (int64_t span = 0; span < spans; ++span) largest[p] = larger(tops[span * padded + p], largest[p]);
    total[p] = 0;
    for (int64_t span = 0; span < spans; ++span)
      if (const double sum = sums[span * padded + p]; sum != 0)
        total[p] += sum * std::exp(static_cast<double>(tops[span * padded + p]) - largest[p]);
  }
}

/**
 * What the softmax takes from the hidden states' gradient, as total[k / 16][position][k % 16], 0 before, with positions
 * in whole groups of 4. `largest` and `share` are [padded], 0 where there is no position; `kept` as forwardOnCpu left
 * it.
 */
template <class T, class Tile>
void backwardOnCpu(const HeadRun<T>& run, Tile tile, const float* kept, const std::vector<float>& largest,
                   const std::vector<float>& share, int64_t positions, std::vector<double>& total) {
  const int64_t padded = run.padded, lanes = (run.hidden + kLanes - 1) / kLanes;
  const int64_t chunk = std::clamp(kChunkGradients / padded, kBlockRows, kChunkRows) / kBlockRows * kBlockRows;
  std::vector<float> gradients(std::min(chunk, run.vocabulary) * padded), sums(total.size());
  for (int64_t first = 0; first < run.vocabulary; first += chunk) {
    const int64_t rows = std::min(chunk, run.vocabulary - first);
    parallelRows((rows + kBlockRows - 1) / kBlockRows, kBlockRows * padded, [&](int64_t b, int64_t e) {
      std::vector<float> wide, logits;
      eachBlock(first + b * kBlockRows, std::min(first + rows, first + e * kBlockRows),
                [&](int64_t begin, int64_t end) {
                  float* target = &gradients[(begin - first) * padded];
                  const float* block = kept + begin * padded;
                  if (kept == nullptr) {
                    // The cap's slope needs the logits too, so they stay; otherwise their gradients replace them.
                    if (run.cap != 0) logits.resize(kBlockRows * padded);
                    float* room = run.cap == 0 ? target : logits.data();
                    blockLogits(run, tile, begin, end, wide, room);
                    block = room;
                  }
                  logitGradients(block, end - begin, padded, largest.data(), share.data(), target);
                  if (run.cap != 0) uncapGradients(block, target, (end - begin) * padded, run.cap);
                });
    });
    // Every thread takes some columns of the head for all of the chunk: no sum is shared.
    parallelRows(lanes, kLanes * rows, [&](int64_t begin, int64_t end) {
      const int64_t from = begin * positions * kLanes, to = end * positions * kLanes;
      std::fill(sums.begin() + from, sums.begin() + to, 0.0F);
      addHeadGradient(tile, run.head + first * run.hidden, rows, run.hidden, gradients.data(), padded, positions, begin,
                      end, sums.data());
      for (int64_t i = from; i < to; ++i) total[i] += sums[i];
    });
  }
}

int64_t wholeLanes(int64_t positions) { return (positions + kLanes - 1) / kLanes * kLanes; }

/** Contiguous, hidden in float32. */
class CpuTokenLogProbabilities : public torch::autograd::Function<CpuTokenLogProbabilities> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& targets, double cap) {
    const int64_t padded = wholeLanes(hidden.size(0));
    const bool keeps = head.size(0) * padded <= kKeptLogits;
    const at::Tensor logits = keeps ? at::empty({head.size(0), padded}, hidden.options()) : at::Tensor();
    RowSums sums;
    const at::Tensor result = CpuTokenLogProbabilities::result(hidden, head, targets, cap, logits, sums);
    ctx->save_for_backward({hidden, head, targets, sums.largest, sums.total, logits, sums.chosen});
    ctx->saved_data["cap"] = cap;
    return result;
  }

  /** `logits` may be undefined: then they are not kept. */
  static at::Tensor result(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets, double cap,
                           const at::Tensor& logits, RowSums& sums) {
    const at::Tensor chosen = at::empty({hidden.size(0)}, hidden.options());
    sums = {at::empty_like(chosen), at::empty_like(chosen, at::kDouble), chosen};
    const int64_t padded = wholeLanes(hidden.size(0));
    const std::vector<float> panels = panelsOf(hidden, padded);
    withHead(head, panels, targets, padded, cap, [&](const auto& run, auto tile) {
      forwardOnCpu(run, tile, logits.defined() ? logits.mutable_data_ptr<float>() : nullptr,
                   chosen.mutable_data_ptr<float>(), sums.largest.mutable_data_ptr<float>(),
                   sums.total.mutable_data_ptr<double>());
    });
    return (chosen.to(at::kDouble) - sums.largest).sub_(sums.total.log());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &hidden = saved[0], &head = saved[1], &targets = saved[2], &logits = saved[5];
    const int64_t count = hidden.size(0), size = hidden.size(1), padded = wholeLanes(count);
    const auto paddedVector = [&](const at::Tensor& values) {
      std::vector<float> vector(padded, 0.0F);
      const at::Tensor single = values.to(at::kFloat).contiguous();
      std::copy_n(single.const_data_ptr<float>(), count, vector.begin());
      return vector;
    };
    const int64_t positions = (count + 3) / 4 * 4, lanes = (size + kLanes - 1) / kLanes;
    std::vector<double> total(lanes * positions * kLanes, 0.0);
    const std::vector<float> panels = logits.defined() ? std::vector<float>() : panelsOf(hidden, padded);
    const double cap = ctx->saved_data["cap"].toDouble();
    withHead(head, panels, targets, padded, cap, [&](const auto& run, auto tile) {
      backwardOnCpu(run, tile, logits.defined() ? logits.const_data_ptr<float>() : nullptr, paddedVector(saved[3]),
                    paddedVector(gradients[0] / saved[4]), positions, total);
    });
    // The targets' own share is added last, in float64: in a float32 sum, every later term would be rounded to its
    // size.
    at::Tensor cotangent = gradients[0];
    if (cap != 0) cotangent = cotangent * (1 - (saved[6].to(at::kDouble) / cap).square());
    const at::Tensor own = head.index_select(0, targets).to(at::kDouble).mul_(cotangent.unsqueeze(1));
    const at::Tensor dHidden = at::from_blob(total.data(), {lanes, positions, kLanes}, own.options())
                                   .permute({1, 0, 2})
                                   .reshape({positions, lanes * kLanes})
                                   .narrow(0, 0, count)
                                   .narrow(1, 0, size)
                                   .add(own)
                                   .to(at::kFloat);
    return {dHidden, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/**
 * Whether both operands are bfloat16 and their products are taken as they are, with float32 sums: on a GPU, whose
 * tensor cores do that at eight times the rate of float32 and more. The products of two such numbers are exact in
 * float32, so logits are those of widened operands but for the order of a sum.
 */
bool multipliesNarrow(const at::Tensor& hidden, const at::Tensor& head) {
  return (!hidden.is_cpu() || chosenKernels() == Kernels::kGpuPlan) && hidden.scalar_type() == at::kBFloat16 &&
         head.scalar_type() == at::kBFloat16;
}

/** x · weight in x's type, float32, for a weight in bfloat16: of what x is in bfloat16 and of what that leaves. */
at::Tensor splitProduct(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor high = x.to(weight.scalar_type());
  const at::Tensor low = (x - high).to(weight.scalar_type());
  return wideProduct(high, weight.t()).add_(wideProduct(low, weight.t()));
}

/** In LibTorch's operations, but for the two passes over a chunk's logits on CUDA, where they are fused. */
class ChunkedTokenLogProbabilities : public torch::autograd::Function<ChunkedTokenLogProbabilities> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& targets, double cap, bool fused) {
    const at::ScalarType precise = accurate(hidden.scalar_type());
    const at::Tensor rows = multipliesNarrow(hidden, head) ? hidden : hidden.to(precise);
    at::Tensor largest = at::full({rows.size(0)}, kNegativeInfinity, rows.options().dtype(precise));
    at::Tensor chosen = at::zeros_like(largest), total = at::zeros_like(largest, at::kDouble);
    eachChunk(rows, head, [&](int64_t begin, const at::Tensor& weight) {
      const at::Tensor logits = chunkLogits(rows, weight, cap);
#ifdef GROUP_ROBUST_CUDA
      if (fused) {
        launchOnCuda(logits, LogSumForward{chunkOf(logits, targets, begin), mutableElements<float>(largest),
                                           mutableElements<double>(total), mutableElements<float>(chosen)});
        return;
      }
#endif
      const at::Tensor top = at::maximum(largest, logits.amax(1));
      const at::Tensor shift = shiftFor(top);
      const at::Tensor terms = at::exp(logits - shift.unsqueeze(1)).sum(1);
      total = total * at::exp(largest - shift) + terms;
      largest = top;
      const auto [inside, place] = targetsIn(targets, begin, logits.size(1));
      chosen = at::where(inside, logits.gather(1, place.unsqueeze(1)).squeeze(1), chosen);
    });
    ctx->save_for_backward({hidden, head, targets, largest, total});
    ctx->saved_data["cap"] = cap;
    ctx->saved_data["fused"] = fused;
    return chosen.to(at::kDouble) - largest - total.log();
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &hidden = saved[0], &head = saved[1], &targets = saved[2], &largest = saved[3];
    const at::ScalarType precise = largest.scalar_type();
    const at::Tensor cotangent = gradients[0].to(precise), share = (gradients[0] / saved[4]).to(precise);
    const bool narrow = multipliesNarrow(hidden, head);
    const at::Tensor rows = narrow ? hidden : hidden.to(precise), dHidden = at::zeros_like(hidden, precise);
    const double cap = ctx->saved_data["cap"].toDouble();
    eachChunk(rows, head, [&](int64_t begin, const at::Tensor& weight) {
      const at::Tensor logits = chunkLogits(rows, weight, cap);
      const at::Tensor slopes = cap == 0 ? at::Tensor() : 1 - (logits / cap).square();
      const auto addTo = [&](const at::Tensor& dLogits) {
        if (cap != 0) dLogits.mul_(slopes);
        dHidden.add_(narrow ? splitProduct(dLogits, weight) : at::mm(dLogits, weight));
      };
#ifdef GROUP_ROBUST_CUDA
      if (ctx->saved_data["fused"].toBool()) {
        launchOnCuda(logits, LogSumBackward{chunkOf(logits, targets, begin), elements<float>(largest),
                                            elements<float>(share), elements<float>(cotangent)});
        addTo(logits);
        return;
      }
#endif
      logits.sub_(shiftFor(largest).unsqueeze(1)).exp_().mul_(share.unsqueeze(1).neg());
      const auto [inside, place] = targetsIn(targets, begin, logits.size(1));
      logits.scatter_add_(1, place.unsqueeze(1), cotangent.masked_fill(inside.logical_not(), 0).unsqueeze(1));
      addTo(logits);
    });
    return {dHidden.to(hidden.scalar_type()), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  /** In float32 or better: in bfloat16 each logit would be rounded to 8 bits. */
  static at::Tensor chunkLogits(const at::Tensor& rows, const at::Tensor& weight, double cap) {
    const at::Tensor logits =
        rows.scalar_type() == at::kBFloat16 ? wideProduct(rows, weight) : at::linear(rows, weight);
    return cap == 0 ? logits : logits.div_(cap).tanh_().mul_(cap);
  }

  /** f(begin, the head's rows from there in the type of `rows`), with so many logits or widened weights at once. */
  template <class F>
  static void eachChunk(const at::Tensor& rows, const at::Tensor& head, const F& f) {
    const bool widens = head.scalar_type() != rows.scalar_type();
    const int64_t numbers = std::max<int64_t>({1, rows.size(0), widens ? head.size(1) : 1});
    const int64_t most = (rows.is_cpu() ? kKeptLogits : kGpuLogits) / numbers;
    // Whole vectors, so that no row of logits begins within one.
    const int64_t step = std::max<int64_t>(kBlockRows, most / kBlockRows * kBlockRows);
    for (int64_t begin = 0; begin < head.size(0); begin += step)
      f(begin, head.narrow(0, begin, std::min(step, head.size(0) - begin)).to(rows.scalar_type()));
  }

  /** What is taken from a row's logits: its largest, or 0 where that is -∞ and the difference would be NaN. */
  static at::Tensor shiftFor(const at::Tensor& largest) { return largest.masked_fill(largest == kNegativeInfinity, 0); }

  /** Which targets are in the `count` columns from `begin` on, and where; somewhere for those that are not. */
  static std::pair<at::Tensor, at::Tensor> targetsIn(const at::Tensor& targets, int64_t begin, int64_t count) {
    return {targets.ge(begin).logical_and_(targets.lt(begin + count)), (targets - begin).clamp_(0, count - 1)};
  }

#ifdef GROUP_ROBUST_CUDA
  static LogitChunk chunkOf(const at::Tensor& logits, const at::Tensor& targets, int64_t begin) {
    return {mutableElements<float>(logits), targets.const_data_ptr<int64_t>(), logits.size(0), logits.size(1), begin};
  }

  template <class Run>
  static void launchOnCuda(const at::Tensor& logits, const Run& run) {
    const c10::cuda::CUDAGuard guard(logits.device());
    C10_CUDA_CHECK(launchCuda(run, c10::cuda::getCurrentCUDAStream(logits.device().index()).stream()));
  }
#endif
};

}  // namespace

at::Tensor tokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                 double cap) {
  const bool gpuPlanOnCpu = hidden.is_cpu() && chosenKernels() == Kernels::kGpuPlan;
  return fusedKernelsFor(hidden) && !gpuPlanOnCpu ? fusedTokenLogProbabilities(hidden, head, targets, cap)
                                                  : composedTokenLogProbabilities(hidden, head, targets, cap);
}

at::Tensor fusedTokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                      double cap) {
  if (!hidden.is_cpu()) return ChunkedTokenLogProbabilities::apply(hidden, head, targets.contiguous(), cap, true);
  const at::Tensor rows = hidden.to(at::kFloat).contiguous(), weight = head.contiguous(), places = targets.contiguous();
  if (recorded(hidden)) return CpuTokenLogProbabilities::apply(rows, weight, places, cap);
  RowSums sums;
  return CpuTokenLogProbabilities::result(rows, weight, places, cap, at::Tensor(), sums);
}

at::Tensor composedTokenLogProbabilities(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                                         double cap) {
  return ChunkedTokenLogProbabilities::apply(hidden, head, targets, cap, false);
}

}  // namespace group_robust
