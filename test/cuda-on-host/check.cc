/**
 * Runs the kernels of native/kernels on a CPU and compares every number they write with a float64 computation of its
 * own. Prints a line of JSON: for each kernel the number of cases and the largest error, as a share of what is allowed.
 * Exits 1 at the first number that is off. With an argument, only kernels whose name begins with it.
 */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"

using namespace group_robust;

namespace {

std::mt19937_64 generator(7);

template <class T>
constexpr double kRounding = sizeof(T) == 4 ? 0x1p-24 : 0x1p-8;

/** `count` numbers that begin `offset` elements after a boundary of 16 bytes; memory that is the last of its
 * allocation. */
template <class T>
class Array {
 public:
  Array(int64_t count, int64_t offset) : values(static_cast<size_t>(count + offset)), offset(offset) {
    for (T& value : values) narrow(std::numeric_limits<float>::quiet_NaN(), value);  // what is not written shows
  }
  static Array normal(int64_t count, int64_t offset, double deviation = 1) {
    Array array(count, offset);
    std::normal_distribution<float> distribution(0, static_cast<float>(deviation));
    for (T& value : array.values) narrow(distribution(generator), value);
    return array;
  }
  T* data() { return values.data() + offset; }
  double operator[](int64_t i) const { return widen(values[static_cast<size_t>(i + offset)]); }

 private:
  std::vector<T> values;
  int64_t offset;
};

std::string only;
bool wanted(const std::string& kernel) { return kernel.rfind(only, 0) == 0; }

struct Result {
  int cases = 0;
  double worst = 0;
};
std::map<std::string, Result> results;

/** @param terms sum of the sizes of what was added up, which rounding is relative to @param steps roundings allowed */
template <class T>
void compare(const std::string& kernel, const std::string& where, double got, double want, double terms, double steps) {
  // What T rounds once at the end, float32 rounds on the way.
  const double allowed =
      kRounding<T> * std::abs(want) + steps * kRounding<float> * terms + 1e-35;  // kernels take e^-88 as 0
  const double share = std::abs(got - want) / allowed;
  if (!(share <= 1)) {
    std::printf("%s, %s: %.9g in place of %.9g, %.3g times what is allowed\n", kernel.c_str(), where.c_str(), got, want,
                share);
    std::exit(1);
  }
  results[kernel].worst = std::max(results[kernel].worst, share);
}

template <class Run>
void launchOrFail(const Run& run) {
  if (launchCuda(run, nullptr) == cudaSuccess) return;
  std::puts("a launch failed");
  std::exit(1);
}

std::string at(int64_t row, int64_t column) {
  return "row " + std::to_string(row) + ", column " + std::to_string(column);
}

template <class T>
void rmsNorm(int64_t rows, int64_t columns, int64_t offset) {
  const std::string forward = "RMSNorm forward", backward = "RMSNorm backward";
  if (!wanted(forward)) return;
  ++results[forward].cases, ++results[backward].cases;
  auto x = Array<T>::normal(rows * columns, offset), weight = Array<T>::normal(columns, offset, 0.3),
       dy = Array<T>::normal(rows * columns, offset);
  Array<T> y(rows * columns, offset), dx(rows * columns, offset), again(rows * columns, offset);
  Array<float> inverse(rows, 0);
  const float epsilon = 1e-3f;
  launchOrFail(RmsNormForward<T>{x.data(), weight.data(), y.data(), inverse.data(), rows, columns, epsilon});
  launchOrFail(RmsNormForward<T>{x.data(), weight.data(), again.data(), nullptr, rows, columns, epsilon});
  launchOrFail(RmsNormBackward<T>{x.data(), weight.data(), inverse.data(), dy.data(), dx.data(), rows, columns});
  for (int64_t row = 0; row < rows; ++row) {
    double squares = 0, product = 0, sizes = 0;
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i) {
      const double term = dy[i] * (1 + weight[i - row * columns]) * x[i];
      squares += x[i] * x[i];
      product += term;
      sizes += std::abs(term);
    }
    const double mean = squares / static_cast<double>(columns) + epsilon, r = 1 / std::sqrt(mean);
    compare<float>(forward, at(row, -1), inverse[row], r, r, 24);
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t i = row * columns + column;
      const double scale = 1 + weight[column], wanted = x[i] * r * scale;
      compare<T>(forward, at(row, column), y[i], wanted, std::abs(wanted), 24);
      if (again[i] != y[i]) compare<T>(forward, at(row, column) + " without its inverse", again[i], y[i], 0, 0);
      const double share = r * r / static_cast<double>(columns) * x[i] * r;
      compare<T>(backward, at(row, column), dx[i], r * dy[i] * scale - share * product,
                 std::abs(r * dy[i] * scale) + std::abs(share) * sizes, 48);
    }
  }
}

template <class T>
void rotary(int64_t rows, int64_t heads, int64_t half, float direction, int64_t offset) {
  const std::string kernel = "rotary";
  if (!wanted(kernel)) return;
  ++results[kernel].cases;
  auto x = Array<T>::normal(rows * heads * 2 * half, offset), cos = Array<T>::normal(rows * half, offset),
       sin = Array<T>::normal(rows * half, offset);
  Array<T> y(rows * heads * 2 * half, offset);
  launchOrFail(Rotation<T>{x.data(), cos.data(), sin.data(), y.data(), rows, heads, half, direction});
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t i = 0; i < half; ++i) {
        const int64_t first = (row * heads + head) * 2 * half + i, second = first + half;
        const double c = cos[row * half + i], s = direction * sin[row * half + i];
        const double sizes = (std::abs(x[first]) + std::abs(x[second])) * (std::abs(c) + std::abs(s));
        compare<T>(kernel, at(row, first), y[first], x[first] * c - x[second] * s, sizes, 3);
        compare<T>(kernel, at(row, second), y[second], x[second] * c + x[first] * s, sizes, 3);
      }
}

template <class T>
void geglu(int64_t size, double deviation, int64_t offset) {
  const std::string forward = "GeGLU forward", backward = "GeGLU backward";
  if (!wanted(forward)) return;
  ++results[forward].cases, ++results[backward].cases;
  auto gate = Array<T>::normal(size, offset, deviation), up = Array<T>::normal(size, offset),
       dy = Array<T>::normal(size, offset);
  Array<T> y(size, offset), dgate(size, offset), dup(size, offset);
  launchOrFail(GegluForward<T>{gate.data(), up.data(), y.data(), size});
  launchOrFail(GegluBackward<T>{gate.data(), up.data(), dy.data(), dgate.data(), dup.data(), size});
  for (int64_t i = 0; i < size; ++i) {
    // 1 + tanh u = 2 / (1 + e^-2u), which keeps its digits where tanh u is near -1.
    const double x = gate[i], slope = std::sqrt(2 / M_PI), u = slope * (x + 0.044715 * x * x * x);
    const double logistic = 1 / (1 + std::exp(-2 * u)), bell = logistic / (1 + std::exp(2 * u));
    const double gelu = x * logistic, bend = 2 * x * bell * slope * (1 + 3 * 0.044715 * x * x);
    const double precise = std::isfinite(bend) ? bend : 0,
                 steps = 16 + 8 * std::abs(u);  // e^-2u has u's error as its own
    compare<T>(forward, at(0, i), y[i], gelu * up[i], std::abs(gelu * up[i]), steps);
    compare<T>(backward, "up " + at(0, i), dup[i], gelu * dy[i], std::abs(gelu * dy[i]), steps);
    const double sizes = std::abs(dy[i] * up[i]) * (logistic + std::abs(precise));
    compare<T>(backward, "gate " + at(0, i), dgate[i], (logistic + precise) * dy[i] * up[i], sizes, steps);
  }
}

/** A vocabulary in `chunks`, each of `columns` logits; every seventh logit is -∞, as where a token is forbidden. */
void logSum(int64_t rows, int64_t columns, int64_t chunks, bool forbidden, int64_t offset) {
  const std::string forward = "log-sum forward", backward = "log-sum backward";
  if (!wanted(forward)) return;
  ++results[forward].cases, ++results[backward].cases;
  constexpr float none = -std::numeric_limits<float>::infinity();
  std::vector<Array<float>> logits, gradients;
  std::vector<float> largest(rows, none), chosen(rows, std::nanf("")), share(rows);
  std::vector<double> sum(rows, 0), exact(rows, 0);
  std::vector<int64_t> targets(rows);
  for (int64_t row = 0; row < rows; ++row) targets[row] = (row * 5 + 1) % (columns * chunks);
  const auto target = [&](int64_t row, int64_t chunk, int64_t column) {
    return targets[row] == chunk * columns + column;
  };
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    auto& of = logits.emplace_back(Array<float>::normal(rows * columns, offset, 10));
    for (int64_t i = 0; i < rows * columns; ++i)
      if (forbidden && i % 7 == 0 && !target(i / columns, chunk, i % columns)) of.data()[i] = none;
    gradients.push_back(of);
    const LogitChunk taken{of.data(), targets.data(), rows, columns, chunk * columns};
    launchOrFail(LogSumForward{taken, largest.data(), sum.data(), chosen.data()});
    for (int64_t i = 0; i < rows * columns; ++i) exact[i / columns] += std::exp(of[i]);
  }
  auto cotangent = Array<float>::normal(rows, 0);
  for (int64_t row = 0; row < rows; ++row) {
    const double got = largest[row] + std::log(sum[row]), wanted = std::log(exact[row]);
    compare<float>(forward, at(row, -1), got, wanted, 1 + std::abs(wanted), 64);
    const double logit = logits[targets[row] / columns][row * columns + targets[row] % columns];
    compare<float>(forward, at(row, targets[row]) + ", the target", chosen[row], logit, 0, 0);
    share[row] = static_cast<float>(cotangent[row] / sum[row]);
  }
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const LogitChunk given{gradients[chunk].data(), targets.data(), rows, columns, chunk * columns};
    launchOrFail(LogSumBackward{given, largest.data(), share.data(), cotangent.data()});
    for (int64_t i = 0; i < rows * columns; ++i) {
      const int64_t row = i / columns;
      const bool chosenOne = target(row, chunk, i % columns);
      const double probability = std::exp(logits[chunk][i] - std::log(exact[row]));
      const double sizes = std::abs(cotangent[row]) * (probability + chosenOne);
      compare<float>(backward, at(row, i % columns), gradients[chunk][i], cotangent[row] * (chosenOne - probability),
                     sizes, 128);
    }
  }
}

template <class T>
void all(int64_t offset) {
  // 20,000 columns are more than the threads of a block hold in registers.
  for (int64_t columns : {1, 3, 32, 33, 100, 2048, 2052, 20000}) rmsNorm<T>(2, columns, offset);
  for (int64_t half : {1, 5, 8, 32, 128})
    for (int64_t heads : {1, 3, 8}) rotary<T>(5, heads, half, half % 2 == 0 ? -1.f : 1.f, offset);
  for (int64_t size : {1, 7, 8, 1024, 16 * 1024 + 1, 16 * 1024}) geglu<T>(size, size == 1024 ? 30 : 3, offset);
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) only = arguments[1];
  for (int64_t offset : {0, 1}) {
    all<float>(offset), all<Bfloat16>(offset);
    for (bool forbidden : {false, true})
      logSum(3, 1000, 3, forbidden, offset), logSum(2, 1001, 2, forbidden, offset), logSum(5, 5, 1, forbidden, offset);
  }
  launchOrFail(RmsNormForward<float>{nullptr, nullptr, nullptr, nullptr, 0, 8, 1e-6f});  // nothing to do is no error
  launchOrFail(GegluForward<float>{nullptr, nullptr, nullptr, 0});
  const char* separator = "{";
  for (const auto& [kernel, result] : results) {
    std::printf("%s\"%s\":{\"cases\":%d,\"worst\":%.3g}", separator, kernel.c_str(), result.cases, result.worst);
    separator = ",";
  }
  std::puts("}");
}
