#include "kernels/tree_attention.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "kernels/implementation.h"
#include "kernels/parallel.h"
#include "kernels/precision.h"
#include "kernels/rows/element.h"

namespace group_robust {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** Enough rows for good matrix products, few enough that scores stay in cache and little of the unseen is computed. */
constexpr int64_t kTileRows = 64;

/** Columns [prompt, promptEnd) and [own, end) of a tile's scores: those that one row sees. */
struct VisibleColumns {
  int64_t prompt;
  int64_t promptEnd;
  int64_t own;
  int64_t end;
};

/** Rows of keys that stand side by side as columns of a tile's scores. */
struct KeyBlock {
  int64_t first;
  int64_t count;
  int64_t column;
};

/** Consecutive rows of one tree, and the keys that any of them sees: up to two blocks, the first at column 0. */
struct Tile {
  int64_t first;
  int64_t rows;
  std::vector<KeyBlock> blocks;
  std::vector<VisibleColumns> visible;  // [rows]

  int64_t columns() const { return blocks.back().column + blocks.back().count; }
};

struct Tiles : torch::CustomClassHolder {
  AttentionSettings settings;
  std::vector<Tile> list;  // in the order of their rows

  Tiles(const std::vector<AttentionTree>& trees, const AttentionSettings& attention)
      : settings(attention),
        reach_(attention.window == 0 ? std::numeric_limits<int64_t>::max() : attention.window - 1) {
    for (const AttentionTree& tree : trees) {
      append(tree, tree.begin, tree.prompt);
      int64_t start = tree.begin + tree.prompt;
      for (const int64_t length : tree.responses) {
        append(tree, start, length);
        start += length;
      }
    }
  }

 private:
  /** Rows [start, start + length) are the prompt or a response. What is short shares the tile before it. */
  void append(const AttentionTree& tree, int64_t start, int64_t length) {
    const bool isPrompt = start == tree.begin;
    const bool joins = !isPrompt && list.back().rows + length <= kTileRows;
    // Of the prompt the rows that a response's first row sees; its later ones see no more.
    const int64_t firstSeen = firstInReach(tree.prompt), seenPrompt = isPrompt ? 0 : tree.prompt - firstSeen;
    const int64_t promptEnd = tree.begin + tree.prompt;
    for (int64_t row = start; row < start + length; ++row) {
      const int64_t first = start + firstInReach(row - start);
      if ((row == start && !joins) || list.back().rows == kTileRows) {
        list.push_back({row, 0, {}, {}});
        if (!isPrompt) list.back().blocks.push_back({tree.begin + firstSeen, seenPrompt, 0});
        list.back().blocks.push_back({first, row - first, seenPrompt});
      }
      Tile& tile = list.back();
      KeyBlock& own = tile.blocks.back();
      own.count = row + 1 - own.first;
      // The prompt's keys are in the first block, also where a response shares the prompt's last tile.
      const int64_t column0 = tile.blocks.front().first;
      const int64_t prompt = std::min(tree.begin + firstInReach(tree.prompt + row - start), promptEnd);
      tile.visible.push_back({isPrompt ? 0 : prompt - column0, isPrompt ? 0 : promptEnd - column0,
                              own.column + first - own.first, own.column + own.count});
      ++tile.rows;
    }
  }

  /** The first position that one at `position` sees. */
  int64_t firstInReach(int64_t position) const { return position > reach_ ? position - reach_ : 0; }

  int64_t reach_;  // how far a row sees back
};

GROUP_ROBUST_INLINE inline float exponential(float a) { return expOfNegative(a); }
GROUP_ROBUST_INLINE inline double exponential(double a) { return std::exp(a); }
GROUP_ROBUST_INLINE inline double hyperbolicTangent(double a) { return std::tanh(a); }

/** In the order of laneSum. */
template <class Number>
GROUP_ROBUST_INLINE inline Number largestOf(const Number* row, int64_t n, Number largest) {
  Number lanes[kSumLanes];
  std::fill_n(lanes, kSumLanes, largest);
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes)
    for (int64_t lane = 0; lane < kSumLanes; ++lane)
      lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
  for (int64_t lane = 0; i < n; ++i, ++lane) lanes[lane] = row[i] > lanes[lane] ? row[i] : lanes[lane];
  for (const Number lane : lanes) largest = lane > largest ? lane : largest;
  return largest;
}

template <class Number>
GROUP_ROBUST_INLINE inline void clearUnseen(Number* row, int64_t columns, const VisibleColumns& seen) {
  std::fill(row, row + seen.prompt, Number(0));
  std::fill(row + seen.promptEnd, row + seen.own, Number(0));
  std::fill(row + seen.end, row + columns, Number(0));
}

/** Rows [begin, end) become softmax(scale · row) over the columns they see, 0 elsewhere. `bundle` rows see the same. */
template <class Number>
GROUP_ROBUST_VECTORISED void softmaxRows(Number* scores, int64_t begin, int64_t end, int64_t columns,
                                         const VisibleColumns* visible, int64_t bundle, Number scale) {
  for (int64_t r = begin; r < end; ++r) {
    const VisibleColumns seen = visible[r / bundle];
    Number* row = scores + r * columns;
    Number* __restrict prompt = row + seen.prompt;
    Number* __restrict own = row + seen.own;
    const int64_t promptCount = seen.promptEnd - seen.prompt, ownCount = seen.end - seen.own;
    const Number largest =
        largestOf(own, ownCount, largestOf(prompt, promptCount, -std::numeric_limits<Number>::infinity()));
    for (int64_t c = 0; c < promptCount; ++c) prompt[c] = exponential(scale * (prompt[c] - largest));
    for (int64_t c = 0; c < ownCount; ++c) own[c] = exponential(scale * (own[c] - largest));
    const Number factor = 1 / (laneSum(promptCount, [prompt](int64_t c) GROUP_ROBUST_INLINE { return prompt[c]; }) +
                               laneSum(ownCount, [own](int64_t c) GROUP_ROBUST_INLINE { return own[c]; }));
    for (int64_t c = 0; c < promptCount; ++c) prompt[c] *= factor;
    for (int64_t c = 0; c < ownCount; ++c) own[c] *= factor;
    clearUnseen(row, columns, seen);
  }
}

/** Scores become cap · tanh(scale · score / cap); `slopes`, where not null, the derivatives by the scaled scores. */
template <class Number>
GROUP_ROBUST_VECTORISED void capRows(Number* __restrict scores, Number* __restrict slopes, int64_t begin, int64_t end,
                                     Number scale, Number cap) {
  for (int64_t i = begin; i < end; ++i) {
    const Number t = hyperbolicTangent(scores[i] * (scale / cap));
    scores[i] = cap * t;
    if (slopes != nullptr) slopes[i] = 1 - t * t;
  }
}

/** The weights' gradients g become the scores': scale · w (g − Σ w g), 0 for columns that a row does not see. */
template <class Number>
GROUP_ROBUST_VECTORISED void softmaxGradientRows(const Number* weights, Number* gradients, int64_t begin, int64_t end,
                                                 int64_t columns, const VisibleColumns* visible, int64_t bundle,
                                                 Number scale) {
  for (int64_t r = begin; r < end; ++r) {
    const VisibleColumns seen = visible[r / bundle];
    const Number* __restrict w = weights + r * columns;
    Number* __restrict g = gradients + r * columns;
    const auto product = [=](int64_t c) GROUP_ROBUST_INLINE { return w[seen.prompt + c] * g[seen.prompt + c]; };
    const auto ownProduct = [=](int64_t c) GROUP_ROBUST_INLINE { return w[seen.own + c] * g[seen.own + c]; };
    const Number dot = laneSum(seen.promptEnd - seen.prompt, product) + laneSum(seen.end - seen.own, ownProduct);
    for (int64_t c = seen.prompt; c < seen.promptEnd; ++c) g[c] = scale * w[c] * (g[c] - dot);
    for (int64_t c = seen.own; c < seen.end; ++c) g[c] = scale * w[c] * (g[c] - dot);
    clearUnseen(gradients + r * columns, columns, seen);
  }
}

/** Shapes shared by all tiles, and the matrices of one tile as views of the batch's contiguous tensors. */
struct Layout {
  int64_t heads, keyHeads, headSize;
  /** Query heads taken at once. Those of a single key head lie side by side and make one tall matrix. */
  int64_t bundle;
  AttentionSettings settings;

  Layout(const at::Tensor& query, const at::Tensor& key, const AttentionSettings& attention)
      : heads(query.size(1)),
        keyHeads(key.size(1)),
        headSize(query.size(2)),
        bundle(keyHeads == 1 ? heads : 1),
        settings(attention) {}

  /** Of `t` [T, heads, headSize]: [rows · bundle, headSize]. */
  at::Tensor queries(const at::Tensor& t, const Tile& tile, int64_t head) const {
    return t.as_strided({tile.rows * bundle, headSize}, {heads / bundle * headSize, 1},
                        t.storage_offset() + (tile.first * heads + head) * headSize);
  }
  /** Of `t` [T, keyHeads, headSize]: [count, headSize]. */
  at::Tensor keys(const at::Tensor& t, const KeyBlock& block, int64_t head) const {
    return t.as_strided({block.count, headSize}, {keyHeads * headSize, 1},
                        t.storage_offset() + (block.first * keyHeads + head / (heads / keyHeads)) * headSize);
  }
  /** Of `t` [rows · bundle, columns]. */
  static at::Tensor columns(const at::Tensor& t, const KeyBlock& block) {
    return t.narrow(1, block.column, block.count);
  }

  /** [rows · bundle, columns] in memory that one tile after the other uses. */
  at::Tensor scratch(const std::vector<Tile>& tiles, const at::Tensor& like) const {
    int64_t largest = 0;
    for (const Tile& tile : tiles) largest = std::max(largest, tile.rows * bundle * tile.columns());
    return at::empty({largest}, like.options());
  }
  at::Tensor scores(const at::Tensor& scratch, const Tile& tile) const {
    return scratch.narrow(0, 0, tile.rows * bundle * tile.columns()).view({tile.rows * bundle, tile.columns()});
  }

  /** weights = softmax(scale · q kᵀ), capped between; `slopes`, where defined, get the cap's derivatives. */
  void softmax(at::Tensor& weights, at::Tensor& slopes, const at::Tensor& q, const at::Tensor& key, const Tile& tile,
               int64_t head) const {
    for (const KeyBlock& block : tile.blocks) {
      at::Tensor target = columns(weights, block);
      at::mm_out(target, q, keys(key, block, head).t());
    }
    AT_DISPATCH_FLOATING_TYPES(weights.scalar_type(), "treeAttention", [&] {
      auto* data = weights.data_ptr<scalar_t>();
      auto* derivatives = slopes.defined() ? slopes.data_ptr<scalar_t>() : nullptr;
      const int64_t columns = tile.columns();
      const auto scale = static_cast<scalar_t>(settings.scale), cap = static_cast<scalar_t>(settings.cap);
      parallelRows(weights.size(0), columns, [&](int64_t begin, int64_t end) {
        if (cap != 0) capRows<scalar_t>(data, derivatives, begin * columns, end * columns, scale, cap);
        softmaxRows<scalar_t>(data, begin, end, columns, tile.visible.data(), bundle, cap == 0 ? scale : 1);
      });
    });
  }

  void softmaxGradient(const at::Tensor& weights, at::Tensor& gradient, const Tile& tile) const {
    AT_DISPATCH_FLOATING_TYPES(weights.scalar_type(), "treeAttention", [&] {
      const auto* data = weights.const_data_ptr<scalar_t>();
      auto* target = gradient.data_ptr<scalar_t>();
      parallelRows(weights.size(0), tile.columns(), [&](int64_t begin, int64_t end) {
        softmaxGradientRows<scalar_t>(data, target, begin, end, tile.columns(), tile.visible.data(), bundle,
                                      static_cast<scalar_t>(settings.scale));
      });
    });
  }
};

class TreeAttention : public torch::autograd::Function<TreeAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& value, const std::vector<AttentionTree>& trees,
                            const AttentionSettings& settings) {
    const at::AutoDispatchBelowADInplaceOrView belowAutograd;
    const at::ScalarType precise = accurate(query.scalar_type());
    const at::Tensor q = query.to(precise).contiguous(), k = key.to(precise).contiguous(),
                     v = value.to(precise).contiguous();
    const auto tiles = c10::make_intrusive<Tiles>(trees, settings);
    const Layout layout(q, k, settings);
    const at::Tensor output = at::empty_like(q);
    const at::Tensor scratch = layout.scratch(tiles->list, q);
    for (const Tile& tile : tiles->list)
      for (int64_t head = 0; head < layout.heads; head += layout.bundle) {
        at::Tensor weights = layout.scores(scratch, tile), noSlopes;
        layout.softmax(weights, noSlopes, layout.queries(q, tile, head), k, tile, head);
        at::Tensor target = layout.queries(output, tile, head);
        for (const KeyBlock& block : tile.blocks)
          accumulate(target, Layout::columns(weights, block), layout.keys(v, block, head), block.column > 0);
      }
    ctx->save_for_backward({query, key, value});
    ctx->saved_data["tiles"] = c10::IValue::make_capsule(tiles);
    return output.view({q.size(0), -1}).to(query.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const at::AutoDispatchBelowADInplaceOrView belowAutograd;
    const auto saved = ctx->get_saved_variables();
    const at::ScalarType type = saved[0].scalar_type(), precise = accurate(type);
    const at::Tensor q = saved[0].to(precise).contiguous(), k = saved[1].to(precise).contiguous(),
                     v = saved[2].to(precise).contiguous();
    const at::Tensor dOutput = gradients[0].to(precise).contiguous().view(q.sizes());
    const auto holder = ctx->saved_data["tiles"].toCapsule();
    const auto& tiles = static_cast<const Tiles&>(*holder).list;
    const Layout layout(q, k, static_cast<const Tiles&>(*holder).settings);
    const bool capped = layout.settings.cap != 0;
    const at::Tensor dq = at::empty_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
    const at::Tensor scratch = layout.scratch(tiles, q), secondScratch = at::empty_like(scratch);
    const at::Tensor slopeScratch = capped ? at::empty_like(scratch) : at::Tensor();
    for (const Tile& tile : tiles)
      for (int64_t head = 0; head < layout.heads; head += layout.bundle) {
        at::Tensor weights = layout.scores(scratch, tile), dScores = layout.scores(secondScratch, tile);
        const at::Tensor rows = layout.queries(q, tile, head), dRows = layout.queries(dOutput, tile, head);
        at::Tensor slopes = capped ? layout.scores(slopeScratch, tile) : at::Tensor();
        layout.softmax(weights, slopes, rows, k, tile, head);
        for (const KeyBlock& block : tile.blocks) {
          at::Tensor dWeights = Layout::columns(dScores, block);
          at::mm_out(dWeights, dRows, layout.keys(v, block, head).t());
          layout.keys(dv, block, head).addmm_(Layout::columns(weights, block).t(), dRows);
        }
        layout.softmaxGradient(weights, dScores, tile);
        if (capped) dScores.mul_(slopes);
        at::Tensor dQueries = layout.queries(dq, tile, head);
        for (const KeyBlock& block : tile.blocks) {
          const at::Tensor dBlock = Layout::columns(dScores, block);
          accumulate(dQueries, dBlock, layout.keys(k, block, head), block.column > 0);
          layout.keys(dk, block, head).addmm_(dBlock.t(), rows);
        }
      }
    return {dq.to(type), dk.to(type), dv.to(type), at::Tensor(), at::Tensor()};
  }

 private:
  /** target = a b, or target += a b. */
  static void accumulate(at::Tensor& target, const at::Tensor& a, const at::Tensor& b, bool add) {
    if (add)
      target.addmm_(a, b);
    else
      at::mm_out(target, a, b);
  }
};

/** [length, length]: true where a row does not see a column. */
at::Tensor unseenColumns(const AttentionTree& tree, int64_t window, const at::Device& device) {
  const at::Tensor sees = at::zeros({tree.length, tree.length}, at::TensorOptions(at::kBool).device(device));
  sees.narrow(1, 0, tree.prompt).fill_(true);
  int64_t start = tree.prompt;
  for (const int64_t own : tree.responses) {
    sees.narrow(0, start, own).narrow(1, start, own).fill_(true);
    start += own;
  }
  // Rows lie in path order within a block, so "no later row" is causality.
  sees.tril_();
  if (window > 0) {
    std::vector<at::Tensor> parts{at::arange(tree.prompt, device)};
    for (const int64_t own : tree.responses) parts.push_back(at::arange(tree.prompt, tree.prompt + own, device));
    const at::Tensor positions = at::cat(parts);
    sees.logical_and_((positions.unsqueeze(1) - positions.unsqueeze(0)).lt(window));
  }
  return sees.logical_not();
}

}  // namespace

at::Tensor treeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::vector<AttentionTree>& trees, TreeMasks& masks, const AttentionSettings& settings) {
  // Tiles are for the CPU, where float64 may use them too.
  return query.is_cpu() && chosenKernels() != Kernels::kLibTorch
             ? fusedTreeAttention(query, key, value, trees, settings)
             : composedTreeAttention(query, key, value, trees, masks, settings);
}

at::Tensor fusedTreeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                              const std::vector<AttentionTree>& trees, const AttentionSettings& settings) {
  return TreeAttention::apply(query, key, value, trees, settings);
}

at::Tensor composedTreeAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                 const std::vector<AttentionTree>& trees, TreeMasks& masks,
                                 const AttentionSettings& settings) {
  const int64_t heads = query.size(1), headSize = query.size(2), groups = key.size(1);
  const int64_t shared = heads / groups;  // query heads that share one key and value
  const auto [found, isNew] = masks.try_emplace(settings.window);
  std::vector<at::Tensor>& unseen = found->second;
  std::vector<int64_t> lengths;
  for (const AttentionTree& tree : trees) {
    lengths.push_back(tree.length);
    if (isNew) unseen.push_back(unseenColumns(tree, settings.window, query.device()));
  }
  // At once: the gradient of a part by itself is a tensor of the whole batch.
  const std::vector<at::Tensor> queries = query.split_with_sizes(lengths), keys = key.split_with_sizes(lengths),
                                values = value.split_with_sizes(lengths);
  std::vector<at::Tensor> outputs;
  for (size_t t = 0; t < trees.size(); ++t) {
    const int64_t n = lengths[t];
    // Query head h uses key head h / shared: all of a group's query rows meet its keys in one product.
    const at::Tensor q =
        queries[t].view({n, groups, shared, headSize}).permute({1, 2, 0, 3}).reshape({groups, shared * n, headSize});
    const at::Tensor k = keys[t].transpose(0, 1), v = values[t].transpose(0, 1);
    const at::Tensor products = at::bmm(q, k.transpose(1, 2)) * settings.scale;
    const at::Tensor capped =
        settings.cap == 0 ? products
                          : at::tanh(products.to(accurate(products.scalar_type())) / settings.cap) * settings.cap;
    const at::Tensor scores =
        capped.view({groups, shared, n, n}).masked_fill(unseen[t], -std::numeric_limits<double>::infinity());
    const at::Tensor weights = at::softmax(scores, -1, accurate(scores.scalar_type())).to(query.scalar_type());
    outputs.push_back(at::bmm(weights.view({groups, shared * n, n}), v)
                          .view({groups, shared, n, headSize})
                          .permute({2, 0, 1, 3})
                          .reshape({n, heads * headSize}));
  }
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs);
}

}  // namespace group_robust
