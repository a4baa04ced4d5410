#include "bench/kernel_table.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <memory>

#include "error_types.h"
#include "kernels/geglu.h"
#include "kernels/lora_linear.h"
#include "kernels/rms_norm.h"
#include "kernels/rotary.h"
#include "kernels/token_log_prob.h"
#include "kernels/tree_attention.h"

namespace group_robust {
namespace {

using Inputs = std::vector<at::Tensor>;

at::Tensor normal(at::IntArrayRef shape, const at::Generator& generator, double deviation = 1) {
  return at::empty(shape, at::TensorOptions(at::kFloat)).normal_(0, deviation, generator);
}

/** `function` of `inputs`, differentiated by autograd in the first `differentiated` of them, with cotangent dy. */
KernelRun autogradRun(const Inputs& inputs, size_t differentiated, const at::Tensor& dy,
                      const std::function<at::Tensor(const Inputs&)>& function) {
  const auto leaves = std::make_shared<Inputs>();
  for (size_t i = 0; i < inputs.size(); ++i)
    leaves->push_back(inputs[i].detach().set_requires_grad(i < differentiated));
  const auto output = std::make_shared<at::Tensor>();
  return {[=]() -> Inputs {
            const c10::NoGradGuard noGrad;
            return {function(*leaves)};
          },
          [=]() -> Inputs {
            const c10::AutoGradMode record(true);
            if (!output->defined()) *output = function(*leaves);
            return torch::autograd::grad({*output}, Inputs(leaves->begin(), leaves->begin() + differentiated), {dy},
                                         /*retain_graph=*/true);
          }};
}

constexpr double kEpsilon = 1e-6;

BenchKernel rmsNormKernel() {
  return {
      "rms-norm",
      {"rows", "columns"},
      [](const KernelSizes& sizes, const at::Generator& generator) -> Inputs {
        const int64_t rows = sizes.at("rows"), columns = sizes.at("columns");
        return {normal({rows, columns}, generator), normal({columns}, generator), normal({rows, columns}, generator)};
      },
      [](const KernelSizes&, const Inputs& inputs, Kernels kernels) {
        const auto function = kernels == Kernels::kFused ? fusedRmsNorm : composedRmsNorm;
        return autogradRun(inputs, 1, inputs[2],
                           [function](const Inputs& leaves) { return function(leaves[0], leaves[1], kEpsilon); });
      },
      [](const KernelSizes& sizes, double bytes) -> KernelWork {
        const double columns = sizes.at("columns"), all = sizes.at("rows") * columns;
        return {(2 * all + columns) * bytes, 0};
      },
      [](const KernelSizes& sizes, double bytes) -> KernelWork {
        const double rows = sizes.at("rows"), columns = sizes.at("columns");
        return {(3 * rows * columns + columns) * bytes + rows * sizeof(float), 0};
      }};
}

BenchKernel rotaryKernel() {
  const auto work = [](const KernelSizes& sizes, double bytes) -> KernelWork {
    const double angles = sizes.at("tokens") * sizes.at("headSize");  // cosines and sines together
    return {(2 * angles * sizes.at("heads") + angles) * bytes, 0};
  };
  return {"rotary",
          {"tokens", "heads", "headSize"},
          [](const KernelSizes& sizes, const at::Generator& generator) -> Inputs {
            const int64_t tokens = sizes.at("tokens"), heads = sizes.at("heads"), headSize = sizes.at("headSize");
            const RotaryTable table = rotaryTable(at::arange(tokens), headSize, 10000, 1, at::kFloat);
            return {normal({tokens, heads, headSize}, generator), table.cos, table.sin,
                    normal({tokens, heads, headSize}, generator)};
          },
          [](const KernelSizes&, const Inputs& inputs, Kernels kernels) {
            const auto function = kernels == Kernels::kFused ? fusedRotate : composedRotate;
            return autogradRun(inputs, 1, inputs[3], [function](const Inputs& leaves) {
              return function(leaves[0], {leaves[1], leaves[2]});
            });
          },
          work,
          work};
}

BenchKernel gegluKernel() {
  const auto tensors = [](double count) {
    return [count](const KernelSizes& sizes, double bytes) -> KernelWork {
      return {count * static_cast<double>(sizes.at("rows") * sizes.at("columns")) * bytes, 0};
    };
  };
  return {"geglu",
          {"rows", "columns"},
          [](const KernelSizes& sizes, const at::Generator& generator) -> Inputs {
            const int64_t rows = sizes.at("rows"), columns = sizes.at("columns");
            // Wide enough for both tails of the tanh.
            return {normal({rows, columns}, generator, 3), normal({rows, columns}, generator),
                    normal({rows, columns}, generator)};
          },
          [](const KernelSizes&, const Inputs& inputs, Kernels kernels) {
            const auto function = kernels == Kernels::kFused ? fusedGeglu : composedGeglu;
            return autogradRun(inputs, 2, inputs[2],
                               [function](const Inputs& leaves) { return function(leaves[0], leaves[1]); });
          },
          tensors(3),
          tensors(5)};
}

BenchKernel tokenLogProbKernel() {
  // Below some rows the head's bytes are the limit, above its products.
  const auto work = [](const KernelSizes& sizes, double bytes) -> KernelWork {
    const auto positions = static_cast<double>(sizes.at("positions"));
    const auto weights = static_cast<double>(sizes.at("vocabulary") * sizes.at("hidden"));
    return positions < 16 ? KernelWork{weights * bytes, 0} : KernelWork{0, 2 * positions * weights};
  };
  return {
      "token-log-prob",
      {"positions", "vocabulary", "hidden"},
      [](const KernelSizes& sizes, const at::Generator& generator) -> Inputs {
        const int64_t positions = sizes.at("positions"), vocabulary = sizes.at("vocabulary");
        const int64_t hidden = sizes.at("hidden");
        return {normal({positions, hidden}, generator), normal({vocabulary, hidden}, generator, 0.05),
                at::randint(vocabulary, {positions}, generator, at::TensorOptions(at::kLong)),
                normal({positions}, generator)};
      },
      [](const KernelSizes&, const Inputs& inputs, Kernels kernels) {
        const auto function = kernels == Kernels::kFused ? fusedTokenLogProbabilities : composedTokenLogProbabilities;
        return autogradRun(inputs, 1, inputs[3].to(at::kDouble),
                           [function](const Inputs& leaves) { return function(leaves[0], leaves[1], leaves[2], 0); });
      },
      work,
      work};
}

BenchKernel loraLinearKernel() {
  // low-rank products of x and of the output, two forward, four backward, beside the frozen one.
  const auto work = [](double lowRankProducts) {
    return [lowRankProducts](const KernelSizes& sizes, double) -> KernelWork {
      const auto rows = static_cast<double>(sizes.at("rows")), rank = static_cast<double>(sizes.at("rank"));
      const auto in = static_cast<double>(sizes.at("in")), out = static_cast<double>(sizes.at("out"));
      return {0, 2 * rows * (in * out + lowRankProducts / 2 * rank * (in + out))};
    };
  };
  constexpr double kScale = 4;
  return {
      "lora-linear",
      {"rows", "in", "out", "rank"},
      [](const KernelSizes& sizes, const at::Generator& generator) -> Inputs {
        const int64_t rows = sizes.at("rows"), rank = sizes.at("rank");
        const int64_t in = sizes.at("in"), out = sizes.at("out");
        return {normal({rows, in}, generator), normal({rank, in}, generator, 0.1), normal({out, rank}, generator, 0.1),
                normal({out, in}, generator, 0.05), normal({rows, out}, generator)};
      },
      [](const KernelSizes&, const Inputs& inputs, Kernels kernels) -> KernelRun {
        if (kernels == Kernels::kLibTorch)
          return autogradRun(inputs, 3, inputs[4], [](const Inputs& leaves) {
            return at::linear(leaves[0], leaves[3]) + at::linear(at::linear(leaves[0], leaves[1]), leaves[2]) * kScale;
          });
        // The gradients of A and B go to accumulators, here a single one.
        LoraPair pair{inputs[1].detach().set_requires_grad(true), inputs[2].detach().set_requires_grad(true), kScale,
                      c10::make_intrusive<LoraGradient>()};
        pair.gradient->a = at::zeros_like(inputs[1]).unsqueeze(0);
        pair.gradient->b = at::zeros_like(inputs[2]).unsqueeze(0);
        pair.gradient->runs = std::make_shared<std::vector<AccumulatorRun>>(1, AccumulatorRun{0, inputs[0].size(0), 0});
        const KernelRun run = autogradRun({inputs[0], inputs[3]}, 1, inputs[4],
                                          [pair, scratch = c10::make_intrusive<Scratch>()](const Inputs& leaves) {
                                            return loraLinear(leaves[0], FrozenMatrix{leaves[1], scratch}, pair);
                                          });
        return {run.forward, [run, gradient = pair.gradient]() -> Inputs {
                  gradient->a.zero_();
                  gradient->b.zero_();
                  const Inputs dx = run.backward();
                  return {dx[0], gradient->a[0].clone(), gradient->b[0].clone()};
                }};
      },
      work(2),
      work(4),
      false};
}

/** Equal trees, end to end; `response` is the number of rows of each response. */
std::vector<AttentionTree> equalTrees(const KernelSizes& sizes) {
  const std::vector<int64_t> responses(sizes.at("responses"), sizes.at("response"));
  const int64_t length = sizes.at("prompt") + sizes.at("responses") * sizes.at("response");
  std::vector<AttentionTree> trees;
  for (int64_t t = 0; t < sizes.at("trees"); ++t) trees.push_back({t * length, length, sizes.at("prompt"), responses});
  return trees;
}

BenchKernel treeAttentionKernel() {
  // Arithmetic is the limit: a number of a query or an output passes memory once and is multiplied for every row that
  // it sees, and beyond some twenty of those that takes longer. Only pairs of rows of which one sees the other count,
  // with two products forward (scores, weighted values) and four backward; scores computed again count nothing.
  const auto work = [](double products) {
    return [products](const KernelSizes& sizes, double) -> KernelWork {
      const auto prompt = static_cast<double>(sizes.at("prompt")), response = static_cast<double>(sizes.at("response"));
      const auto responses = static_cast<double>(sizes.at("responses"));
      const double seen = prompt * (prompt + 1) / 2 + responses * (response * prompt + response * (response + 1) / 2);
      const auto width = static_cast<double>(sizes.at("heads") * sizes.at("headSize"));
      return {0, 2 * products * static_cast<double>(sizes.at("trees")) * seen * width};
    };
  };
  return {"tree-attention",
          {"trees", "prompt", "responses", "response", "heads", "keyValueHeads", "headSize"},
          [](const KernelSizes& sizes, const at::Generator& generator) -> Inputs {
            const int64_t heads = sizes.at("heads"), keyHeads = sizes.at("keyValueHeads");
            const int64_t headSize = sizes.at("headSize"), rows = sizes.at("trees") * equalTrees(sizes)[0].length;
            if (heads % keyHeads != 0) throw InputError("sizes.keyValueHeads: expected a divisor of heads");
            return {normal({rows, heads, headSize}, generator), normal({rows, keyHeads, headSize}, generator),
                    normal({rows, keyHeads, headSize}, generator), normal({rows, heads * headSize}, generator)};
          },
          [](const KernelSizes& sizes, const Inputs& inputs, Kernels kernels) {
            const AttentionSettings settings{1 / std::sqrt(static_cast<double>(sizes.at("headSize"))), 0, 0};
            return autogradRun(inputs, 3, inputs[3], [=, trees = equalTrees(sizes)](const Inputs& leaves) {
              if (kernels == Kernels::kFused)
                return fusedTreeAttention(leaves[0], leaves[1], leaves[2], trees, settings);
              TreeMasks masks;
              return composedTreeAttention(leaves[0], leaves[1], leaves[2], trees, masks, settings);
            });
          },
          work(2),
          work(4),
          /*anyThreads=*/false,
          /*cpuOnly=*/true};
}

}  // namespace

const std::vector<BenchKernel>& kernelTable() {
  static const std::vector<BenchKernel> table{rmsNormKernel(),      rotaryKernel(),     gegluKernel(),
                                              tokenLogProbKernel(), loraLinearKernel(), treeAttentionKernel()};
  return table;
}

}  // namespace group_robust
