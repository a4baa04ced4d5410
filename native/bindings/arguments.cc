#include "bindings/arguments.h"

#include <algorithm>
#include <cmath>

#include "bindings/errors.h"

namespace group_robust {
namespace {

void require(bool holds, const std::string& name, const char* expected) {
  if (!holds) throw InputError(name + ": expected " + expected);
}

template <class Array, class Element>
std::vector<Element> readTypedArray(const Napi::Value& value, const std::string& name, napi_typedarray_type type,
                                    const char* expected) {
  require(value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type, name, expected);
  const auto array = value.As<Array>();
  return std::vector<Element>(array.Data(), array.Data() + array.ElementLength());
}

}  // namespace

double readNumber(const Napi::Value& value, const std::string& name) {
  require(value.IsNumber(), name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t readInteger(const Napi::Value& value, const std::string& name, int64_t minimum, int64_t maximum) {
  const double number = readNumber(value, name);
  require(std::floor(number) == number, name, "a whole number");
  // Compared as it came: outside the range, converting it to an integer would mean nothing.
  if (number < static_cast<double>(minimum)) throw InputError(name + ": expected at least " + std::to_string(minimum));
  if (number > static_cast<double>(maximum)) throw InputError(name + ": expected at most " + std::to_string(maximum));
  return static_cast<int64_t>(number);
}

std::vector<int64_t> readIntegers(const Napi::Value& value, const std::string& name, int64_t minimum, int64_t maximum) {
  require(value.IsArray(), name, "an array of numbers");
  const auto array = value.As<Napi::Array>();
  std::vector<int64_t> integers;
  for (uint32_t i = 0; i < array.Length(); ++i)
    integers.push_back(readInteger(array.Get(i), name + "[" + std::to_string(i) + "]", minimum, maximum));
  return integers;
}

bool readBoolean(const Napi::Value& value, const std::string& name) {
  require(value.IsBoolean(), name, "true or false");
  return value.As<Napi::Boolean>().Value();
}

std::string readString(const Napi::Value& value, const std::string& name) {
  require(value.IsString(), name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<Napi::Value> readList(const Napi::Value& value, const std::string& name) {
  require(value.IsArray(), name, "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<Napi::Value> values;
  for (uint32_t i = 0; i < array.Length(); ++i) values.push_back(array.Get(i));
  return values;
}

std::vector<double> readFloat64Array(const Napi::Value& value, const std::string& name) {
  return readTypedArray<Napi::Float64Array, double>(value, name, napi_float64_array, "a Float64Array");
}

std::vector<int32_t> readInt32Array(const Napi::Value& value, const std::string& name) {
  return readTypedArray<Napi::Int32Array, int32_t>(value, name, napi_int32_array, "an Int32Array");
}

std::vector<uint8_t> readBytes(const Napi::Value& value, const std::string& name) {
  return readTypedArray<Napi::Uint8Array, uint8_t>(value, name, napi_uint8_array, "a Uint8Array");
}

Napi::Object readObject(const Napi::Value& value, const std::string& name) {
  require(value.IsObject(), name, "an object");
  return value.As<Napi::Object>();
}

Napi::Value toFloat64Array(Napi::Env env, const std::vector<double>& values) {
  auto array = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Value toUint8Array(Napi::Env env, const std::vector<uint8_t>& bytes) {
  auto array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

Napi::Value toFloat32Array(Napi::Env env, const std::vector<float>& values) {
  auto array = Napi::Float32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace group_robust
