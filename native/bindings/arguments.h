#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace group_robust {

/**
 * Readers for values from JavaScript. Each copies (a job may outlive, or race with, the caller's array) and throws
 * InputError naming `name` where the type or range is wrong. TypeScript checks too; this is the last line.
 */
double readNumber(const Napi::Value& value, const std::string& name);
/** Whole numbers above it are not all numbers of JavaScript. */
constexpr int64_t kLargestInteger = (int64_t{1} << 53) - 1;
/** Keeps every product of two sizes far from overflow. */
constexpr int64_t kLargestSize = int64_t{1} << 30;
/** A whole number in [minimum, maximum], which lies in the range of whatever type the caller keeps it in. */
int64_t readInteger(const Napi::Value& value, const std::string& name, int64_t minimum, int64_t maximum);
/** An array of such numbers. */
std::vector<int64_t> readIntegers(const Napi::Value& value, const std::string& name, int64_t minimum, int64_t maximum);
bool readBoolean(const Napi::Value& value, const std::string& name);
std::string readString(const Napi::Value& value, const std::string& name);
/** The elements of an array. */
std::vector<Napi::Value> readList(const Napi::Value& value, const std::string& name);
std::vector<double> readFloat64Array(const Napi::Value& value, const std::string& name);
std::vector<int32_t> readInt32Array(const Napi::Value& value, const std::string& name);
std::vector<uint8_t> readBytes(const Napi::Value& value, const std::string& name);
Napi::Object readObject(const Napi::Value& value, const std::string& name);

/** A new Float64Array with its own copy of `values`; never external memory, which some runtimes forbid. */
Napi::Value toFloat64Array(Napi::Env env, const std::vector<double>& values);
/** The same of bytes. */
Napi::Value toUint8Array(Napi::Env env, const std::vector<uint8_t>& bytes);
/** The same of float32. */
Napi::Value toFloat32Array(Napi::Env env, const std::vector<float>& values);

}  // namespace group_robust
