#include <napi.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "simulator/group_sums.h"
#include "simulator/losses.h"
#include "simulator/saddle.h"

/**
 * The simulator's own small addon, without LibTorch, so that it loads in a millisecond: all that
 * src/native/simulator.ts lists. Each loop is compiled for every width of vectors; the caller takes one of `widths`.
 */
namespace group_robust::simulator {
namespace {

// Where processors of one architecture have vectors of several widths, and the compiler knows their names.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define SIMULATOR_X86 1
#endif

std::vector<int> presentWidths() {
  std::vector<int> widths;
#ifdef SIMULATOR_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq"))
    widths.push_back(8);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    widths.push_back(4);
#endif
  widths.push_back(2);
  return widths;
}

template <int kLanes, class Loss>
SIMULATOR_INLINE void stepLanes(const Loss& loss, const SaddlePairs& pairs, bool groupFirst, const SaddleRuns& runs,
                                int64_t count) {
  // The paper's shape, whose loops are unrolled, and any other.
  if (pairs.columns == 4 && pairs.groups == 2)
    stepRuns<Vector<kLanes>, 4, 2>(loss, pairs, groupFirst, runs, count);
  else
    stepRuns<Vector<kLanes>, 0, 0>(loss, pairs, groupFirst, runs, count);
}

template <int kLanes, class Loss>
SIMULATOR_INLINE void sumLanes(const Loss& loss, const std::vector<GroupPairs>& groups, const double* theta,
                               double* losses, double* gradients) {
  for (const GroupPairs& group : groups) {
    *losses++ = group.dimension == 4 ? sumGroup<Vector<kLanes>, 4>(loss, group, theta, gradients)
                                     : sumGroup<Vector<kLanes>, 0>(loss, group, theta, gradients);
    gradients += group.dimension;
  }
}

/** The same loops for each width, with the instructions it needs. */
#define SIMULATOR_WIDTH(lanes, attribute)                                                                  \
  template <class Loss>                                                                                    \
  attribute void step##lanes(const Loss& loss, const SaddlePairs& pairs, bool groupFirst, SaddleRuns runs, \
                             int64_t count) {                                                              \
    stepLanes<lanes>(loss, pairs, groupFirst, runs, count);                                                \
  }                                                                                                        \
  template <class Loss>                                                                                    \
  attribute void sum##lanes(const Loss& loss, const std::vector<GroupPairs>& groups, const double* theta,  \
                            double* losses, double* gradients) {                                           \
    sumLanes<lanes>(loss, groups, theta, losses, gradients);                                               \
  }
SIMULATOR_WIDTH(2, )
#ifdef SIMULATOR_X86
SIMULATOR_WIDTH(4, __attribute__((target("arch=x86-64-v3"))))
SIMULATOR_WIDTH(8, __attribute__((target("arch=x86-64-v4"))))
#endif
#undef SIMULATOR_WIDTH

template <class Loss>
auto stepper(int width) {
#ifdef SIMULATOR_X86
  if (width == 8) return step8<Loss>;
  if (width == 4) return step4<Loss>;
#endif
  return step2<Loss>;
}
template <class Loss>
auto summer(int width) {
#ifdef SIMULATOR_X86
  if (width == 8) return sum8<Loss>;
  if (width == 4) return sum4<Loss>;
#endif
  return sum2<Loss>;
}

int readWidth(const Napi::Value& value) {
  const int width = value.As<Napi::Number>().Int32Value();
  for (const int present : presentWidths())
    if (width == present) return width;
  throw Napi::RangeError::New(value.Env(),
                              "vectors of " + std::to_string(width) + " numbers are not for this processor");
}

/** f(loss) with the loss that `value` describes. */
template <class F>
auto withLoss(const Napi::Object& value, const F& f) {
  const auto number = [&](const char* key) { return value.Get(key).As<Napi::Number>().DoubleValue(); };
  const std::string kind = value.Get("kind").As<Napi::String>();
  if (kind == "logistic") return f(Logistic{number("beta"), number("smoothing")});
  if (kind == "square") return f(Square{number("target")});
  if (kind == "hinge") return f(Hinge{number("beta")});
  throw Napi::RangeError::New(value.Env(), "no loss of kind " + kind);
}

/** The numbers of a Float64Array that has to hold `size`. */
double* numbers(const Napi::Value& value, size_t size, const char* name) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float64_array) {
    auto array = value.As<Napi::Float64Array>();
    if (array.ElementLength() == size) return array.Data();
  }
  throw Napi::RangeError::New(value.Env(), std::string(name) + " must be " + std::to_string(size) + " doubles");
}

/** Numbers at the start of a cache line, where JavaScript's arrays are not: a vector across two lines takes twice as
 * long to load. */
class Aligned {
 public:
  Aligned(const double* from, size_t size) : numbers_(new(std::align_val_t{64}) double[size]) {
    std::copy(from, from + size, numbers_.get());
  }
  double* data() const { return numbers_.get(); }

 private:
  struct Free {
    void operator()(double* numbers) const { ::operator delete[](numbers, std::align_val_t{64}); }
  };
  std::unique_ptr<double[], Free> numbers_;
};
Aligned aligned(const Napi::Value& value, size_t size, const char* name) { return {numbers(value, size, name), size}; }

void stepRunsOf(const Napi::CallbackInfo& info) {
  const auto problem = info[2].As<Napi::Object>();
  const auto whole = [&](const char* key) { return problem.Get(key).As<Napi::Number>().Int64Value(); };
  SaddlePairs pairs{};
  pairs.columns = whole("columns");
  pairs.groups = whole("groups");
  const auto count = static_cast<size_t>(whole("count"));
  const Aligned rows = aligned(problem.Get("rows"), count * pairs.columns, "rows");
  pairs.rows = rows.data();
  const auto offsets = problem.Get("offsets");
  pairs.offsets = offsets.IsUndefined() ? nullptr : numbers(offsets, count, "offsets");
  pairs.starts = numbers(problem.Get("starts"), pairs.groups + 1, "starts");
  if (pairs.columns % 4 != 0) throw Napi::RangeError::New(info.Env(), "columns must come in fours");
  if (pairs.starts[0] != 0 || pairs.starts[pairs.groups] != static_cast<double>(count))
    throw Napi::RangeError::New(info.Env(), "starts must go from 0 to the number of pairs");

  auto random = info[4].As<Napi::BigUint64Array>();
  if (random.ElementLength() != 2 * kRuns) throw Napi::RangeError::New(info.Env(), "random must be 32 integers");
  const size_t size = (2 * pairs.columns + 5 * pairs.groups + 2) * kRuns;
  double* given = numbers(info[5], size, "state");
  const Aligned state(given, size);
  double* at = state.data();
  const auto next = [&](int64_t variables) {
    double* here = at;
    at += variables * kRuns;
    return here;
  };
  SaddleRuns runs{};
  runs.random = random.Data();
  runs.theta = next(pairs.columns);
  runs.thetaSum = next(pairs.columns);
  runs.logits = next(pairs.groups);
  runs.alpha = next(pairs.groups);
  runs.alphaSum = next(pairs.groups);
  runs.thetaFactor = next(pairs.groups);
  runs.alphaFactor = next(pairs.groups);
  runs.limit = next(1);
  runs.simultaneous = next(1);
  withLoss(info[1].As<Napi::Object>(), [&]<class Loss>(const Loss& loss) {
    stepper<Loss>(readWidth(info[0]))(loss, pairs, info[3].As<Napi::Boolean>(), runs,
                                      info[6].As<Napi::Number>().Int64Value());
  });
  std::copy(state.data(), state.data() + size, given);
}

/** What a full batch reads and writes, for as long as its function lives. */
struct FullBatch {
  std::vector<Aligned> numbers;
  std::vector<GroupPairs> groups;
  std::vector<Napi::Reference<Napi::Value>> arrays;  // hold the three below
  const double* theta;
  double* losses;
  double* gradients;
};

Napi::Value fullBatch(const Napi::CallbackInfo& info) {
  const auto list = info[2].As<Napi::Array>();
  const int64_t dimension = info[3].As<Napi::Number>().Int64Value();
  auto batch = std::make_shared<FullBatch>();
  for (uint32_t g = 0; g < list.Length(); ++g) {
    const auto group = list.Get(g).As<Napi::Object>();
    const int64_t count = group.Get("count").As<Napi::Number>().Int64Value();
    const int64_t padded = (count + kPadding - 1) / kPadding * kPadding;
    const auto keep = [&](const char* key, size_t size) {
      batch->numbers.push_back(aligned(group.Get(key), size, key));
      return batch->numbers.back().data();
    };
    const double* columns = keep("columns", padded * dimension);
    batch->groups.push_back(
        {count, dimension, columns, group.Get("offsets").IsUndefined() ? nullptr : keep("offsets", padded)});
  }
  batch->theta = numbers(info[4], dimension, "theta");
  batch->losses = numbers(info[5], list.Length(), "losses");
  batch->gradients = numbers(info[6], list.Length() * dimension, "gradients");
  for (const size_t argument : {4, 5, 6}) batch->arrays.push_back(Napi::Reference<Napi::Value>::New(info[argument], 1));
  return withLoss(info[1].As<Napi::Object>(), [&]<class Loss>(const Loss& loss) -> Napi::Value {
    const auto sum = summer<Loss>(readWidth(info[0]));
    return Napi::Function::New(info.Env(), [=](const Napi::CallbackInfo&) {
      sum(loss, batch->groups, batch->theta, batch->losses, batch->gradients);
    });
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto widths = presentWidths();
  auto list = Napi::Array::New(env, widths.size());
  for (size_t n = 0; n < widths.size(); ++n) list.Set(n, widths[n]);
  exports.Set("widths", list);
  exports.Set("runs", kRuns);
  exports.Set("padding", kPadding);
  exports.Set("stepRuns", Napi::Function::New(env, stepRunsOf, "stepRuns"));
  exports.Set("fullBatch", Napi::Function::New(env, fullBatch, "fullBatch"));
  return exports;
}

}  // namespace
}  // namespace group_robust::simulator

static Napi::Object start(Napi::Env env, Napi::Object exports) { return group_robust::simulator::init(env, exports); }
NODE_API_MODULE(group_robust_simulator, start)
