#pragma once

#include <algorithm>
#include <cstdint>

#include "simulator/vectors.h"

/**
 * Steps of Algorithms 1 and 3 of the paper (src/theory/algorithm.ts has them in TypeScript, and says what they are),
 * kRuns runs at once. One step of one run is a chain in which everything waits for what is before it; runs do not wait
 * for each other, so each is one lane of vectors, and the chains of all vectors are written in turn.
 */
namespace group_robust::simulator {

constexpr int kRuns = 16;

/** All groups' pairs one after the other; group g owns starts[g]..starts[g+1]−1. */
struct SaddlePairs {
  int64_t columns;  // of a row; a multiple of 4
  int64_t groups;
  const double* rows;     // [pairs × columns], d_i and zeros
  const double* offsets;  // [pairs] o_i, or null: all are 0
  const double* starts;   // [groups + 1]
};

/** What a run has, as [.. × kRuns] numbers: one run is a column. */
struct SaddleRuns {
  uint64_t* random;      // [2] state of xoroshiro128+
  double* theta;         // [columns]
  double* thetaSum;      // [columns]
  double* logits;        // [groups] log α, but for a constant
  double* alpha;         // [groups]
  double* alphaSum;      // [groups]
  double* thetaFactor;   // [groups] η_θ times the group's factor
  double* alphaFactor;   // [groups] η_α times it
  double* limit;         // [1] radius², or ∞
  double* simultaneous;  // [1] 1: θ moves with the old α, 0: with the new one
};

/** xoroshiro128+ and `integer` of src/numbers/random.ts. */
SIMULATOR_INLINE uint32_t nextNumber(uint64_t& a, uint64_t& b) {
  const uint64_t out = a + b;
  const uint64_t mixed = a ^ b;
  a = (a << 24 | a >> 40) ^ mixed ^ mixed << 16;
  b = mixed << 37 | mixed >> 27;
  return static_cast<uint32_t>(out);
}
inline uint32_t drawBelow(uint64_t& a, uint64_t& b, uint32_t bound) {
  for (;;) {
    const uint32_t drawn = nextNumber(a, b) ^ 0x80000000u;
    const uint32_t value = drawn % bound;
    if (drawn - value <= 0x100000000u - bound) return value;
  }
}

/**
 * One number below `bound` in each lane, and into `again` the lanes that have to draw again, of which there are next to
 * none. `inverse` is 1 / bound, rounded.
 */
template <class V>
SIMULATOR_INLINE V drawLanes(Words<V>& a, Words<V>& b, V bound, V inverse, Mask<V>& again) {
  const Words<V> out = (a + b) & 0xffffffff;
  const Words<V> mixed = a ^ b;
  a = (a << 24 | a >> 40) ^ mixed ^ mixed << 16;
  b = mixed << 37 | mixed >> 27;
  // As a double: under the exponent of 2⁵², whose last place is 1.
  const V drawn = (V)((out ^ 0x80000000) | (Words<V>)all<V>(0x1p52)) - 0x1p52;
  // The quotient is the nearest whole number to (drawn + ½)/bound − ½, which is never near a half.
  const V quotient = ((drawn + 0.5) * inverse - 0.5) + kRounder - kRounder;
  const V first = quotient * bound;
  again |= first > 0x1p32 - bound;
  return drawn - first;
}

/** Steps whose pairs are drawn at once. */
constexpr int kDrawn = 64;

/** Pairs of the next `steps` steps, [steps × kRuns], by row number. */
template <class V>
SIMULATOR_INLINE void drawPairs(const SaddlePairs& pairs, bool groupFirst, uint64_t* random, int steps, double* drawn) {
  constexpr int kLanes = kLanesOf<V>;
  const double* starts = pairs.starts;
  const int64_t groups = pairs.groups;
  const double total = starts[groups];
  for (int run = 0; run < kRuns; run += kLanes) {
    Words<V> state[2];
    Mask<V> again{};
    for (int n = 0; n < 2; ++n) __builtin_memcpy(&state[n], random + n * kRuns + run, sizeof state[n]);
    for (int step = 0; step < steps; ++step) {
      V first{}, size = all<V>(total);
      if (groupFirst) {
        const V group = drawLanes<V>(state[0], state[1], all<V>(groups), all<V>(1.0 / groups), again);
        first = all<V>(starts[0]);
        size = all<V>(starts[1] - starts[0]);
        for (int64_t g = 1; g < groups; ++g) {
          first = group >= static_cast<double>(g) ? all<V>(starts[g]) : first;
          size = group >= static_cast<double>(g) ? all<V>(starts[g + 1] - starts[g]) : size;
        }
      }
      store<V>(drawn + step * kRuns + run, first + drawLanes<V>(state[0], state[1], size, 1.0 / size, again));
    }
    // From the state before, number by number.
    if (any<V>(again)) {
      for (int lane = run; lane < run + kLanes; ++lane) {
        uint64_t& a = random[lane];
        uint64_t& b = random[kRuns + lane];
        for (int step = 0; step < steps; ++step) {
          double first = 0, size = total;
          if (groupFirst) {
            const uint32_t g = drawBelow(a, b, static_cast<uint32_t>(groups));
            first = starts[g];
            size = starts[g + 1] - first;
          }
          drawn[step * kRuns + lane] = first + drawBelow(a, b, static_cast<uint32_t>(size));
        }
      }
    } else {
      for (int n = 0; n < 2; ++n) __builtin_memcpy(random + n * kRuns + run, &state[n], sizeof state[n]);
    }
  }
}

/** Four columns of the rows at `pair`, transposed: x[j][lane] = rows[pair[lane]][j]. */
template <class V>
SIMULATOR_INLINE void gather(const double* rows, int64_t columns, const int64_t* pair, V (&x)[4]) {
  for (int lane = 0; lane < kLanesOf<V>; ++lane) {
    const double* row = rows + pair[lane] * columns;
    for (int j = 0; j < 4; ++j) x[j][lane] = row[j];
  }
}

/**
 * `count` steps of all runs. kColumns and kGroups are the numbers of them, or 0: any.
 * @param groupFirst Algorithm 3, which draws a group first; else Algorithm 1
 */
template <class V, int kColumns, int kGroups, class Loss>
SIMULATOR_INLINE void stepRuns(const Loss& loss, const SaddlePairs& pairs, bool groupFirst, SaddleRuns runs,
                               int64_t count) {
  constexpr int kLanes = kLanesOf<V>;
  constexpr int kVectors = kRuns / kLanes;
  const int64_t columns = kColumns > 0 ? kColumns : pairs.columns;
  const int64_t groups = kGroups > 0 ? kGroups : pairs.groups;
  const double* const starts = pairs.starts;
  alignas(64) double drawn[kDrawn * kRuns];

  for (int64_t done = 0; done < count; done += kDrawn) {
    const int steps = static_cast<int>(std::min<int64_t>(kDrawn, count - done));
    drawPairs<V>(pairs, groupFirst, runs.random, steps, drawn);
    for (int step = 0; step < steps; ++step) {
      V number[kVectors], x[kVectors][4], h[kVectors], value[kVectors], slope[kVectors], weight[kVectors];
      int64_t pair[kRuns];
      const auto at = [&](double* variable, int64_t n, int m) { return variable + n * kRuns + m * kLanes; };
      /** The one of [groups] numbers that belongs to the drawn pair. */
      const auto ofGroup = [&](double* variable, int m) {
        V result = load<V>(at(variable, 0, m));
        for (int64_t g = 1; g < groups; ++g) result = number[m] >= starts[g] ? load<V>(at(variable, g, m)) : result;
        return result;
      };

      // The margin; θ_step, which is loaded anyway, is added to the average here too.
      for (int m = 0; m < kVectors; ++m) {
        number[m] = load<V>(drawn + step * kRuns + m * kLanes);
        const Words<V> whole = (Words<V>)(number[m] + 0x1p52) & 0xffffffff;
        __builtin_memcpy(pair + m * kLanes, &whole, sizeof whole);
        h[m] = V{};
        if (pairs.offsets)
          for (int lane = 0; lane < kLanes; ++lane) h[m][lane] = -pairs.offsets[pair[m * kLanes + lane]];
      }
      for (int64_t j = 0; j < columns; j += 4)
        for (int m = 0; m < kVectors; ++m) {
          gather<V>(pairs.rows + j, columns, pair + m * kLanes, x[m]);
          V theta[4];
          for (int i = 0; i < 4; ++i) {
            theta[i] = load<V>(at(runs.theta, j + i, m));
            double* sum = at(runs.thetaSum, j + i, m);
            store<V>(sum, load<V>(sum) + theta[i]);
          }
          h[m] += (x[m][0] * theta[0] + x[m][1] * theta[1]) + (x[m][2] * theta[2] + x[m][3] * theta[3]);
        }

      for (int m = 0; m < kVectors; ++m) loss.evaluate(h[m], value[m], slope[m]);

      // log α and α; two groups, the paper's case, need one sigmoid of the difference.
      for (int m = 0; m < kVectors; ++m) {
        weight[m] = ofGroup(runs.alpha, m);
        const V rise = ofGroup(runs.alphaFactor, m) * value[m];
        if constexpr (kGroups == 2) {
          const V difference = load<V>(at(runs.logits, 0, m)) + (number[m] >= starts[1] ? -rise : rise);
          store<V>(at(runs.logits, 0, m), difference);
          const V e = exponential(negativeSize(difference));
          const V larger = 1.0 / (1.0 + e);
          const V smaller = e * larger;
          store<V>(at(runs.alpha, 0, m), difference >= 0.0 ? larger : smaller);
          store<V>(at(runs.alpha, 1, m), difference >= 0.0 ? smaller : larger);
        } else {
          V largest = all<V>(-INFINITY);
          for (int64_t g = 0; g < groups; ++g) {
            const Mask<V> own = (number[m] >= starts[g]) & (number[m] < starts[g + 1]);
            const V logit = load<V>(at(runs.logits, g, m)) + (own ? rise : V{});
            store<V>(at(runs.logits, g, m), logit);
            largest = logit > largest ? logit : largest;
          }
          V total{};
          for (int64_t g = 0; g < groups; ++g) {
            const V logit = load<V>(at(runs.logits, g, m)) - largest;
            store<V>(at(runs.logits, g, m), logit);
            const V e = exponential(logit);
            store<V>(at(runs.alpha, g, m), e);
            total += e;
          }
          for (int64_t g = 0; g < groups; ++g) store<V>(at(runs.alpha, g, m), load<V>(at(runs.alpha, g, m)) / total);
        }
        for (int64_t g = 0; g < groups; ++g) {
          double* sum = at(runs.alphaSum, g, m);
          store<V>(sum, load<V>(sum) + load<V>(at(runs.alpha, g, m)));
        }
      }

      Mask<V> outside{};
      V square[kVectors];
      for (int m = 0; m < kVectors; ++m) {
        const V q = load<V>(runs.simultaneous + m * kLanes) > 0.0 ? weight[m] : ofGroup(runs.alpha, m);
        const V pull = ofGroup(runs.thetaFactor, m) * q * slope[m];
        square[m] = V{};
        for (int64_t j = 0; j < columns; j += 4) {
          if (columns > 4) gather<V>(pairs.rows + j, columns, pair + m * kLanes, x[m]);
          for (int i = 0; i < 4; ++i) {
            double* theta = at(runs.theta, j + i, m);
            const V moved = load<V>(theta) - pull * x[m][i];
            store<V>(theta, moved);
            square[m] += moved * moved;
          }
        }
        outside |= square[m] > load<V>(runs.limit + m * kLanes);
      }
      if (any<V>(outside))
        for (int m = 0; m < kVectors; ++m) {
          const V limit = load<V>(runs.limit + m * kLanes);
          const V shrink = square[m] > limit ? squareRoot(limit / square[m]) : all<V>(1.0);
          for (int64_t j = 0; j < columns; ++j) {
            double* theta = at(runs.theta, j, m);
            store<V>(theta, load<V>(theta) * shrink);
          }
        }
    }
  }
}

}  // namespace group_robust::simulator
