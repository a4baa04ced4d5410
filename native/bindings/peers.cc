#include "bindings/peers.h"

#include <chrono>
#include <utility>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/errors.h"
#include "bindings/job_queue.h"

namespace group_robust {
namespace {

constexpr napi_type_tag kPeersTag = {0x8f2d1c5b7a3e4960, 0xb1d4e7f20c5a6893};

/** Longest wait, far below where a clock's counter would overflow. */
constexpr int64_t kLongestMilliseconds = int64_t{1000} * 60 * 60 * 24 * 365;

std::chrono::milliseconds readMilliseconds(const Napi::Value& value, const std::string& name) {
  return std::chrono::milliseconds(readInteger(value, name, 0, kLongestMilliseconds));
}

MeetingPlace readPlace(const Napi::Value& value) {
  const auto object = readObject(value, "place");
  return {readString(object.Get("address"), "place.address"),
          static_cast<uint16_t>(readInteger(object.Get("port"), "place.port", 1, 65535)),
          readBoolean(object.Get("serves"), "place.serves"), readMilliseconds(object.Get("timeout"), "place.timeout")};
}

Endpoint readEndpoint(const Napi::Value& value) {
  const auto object = readObject(value, "endpoint");
  return {readString(object.Get("interface"), "endpoint.interface"),
          readString(object.Get("address"), "endpoint.address")};
}

/** Its thread does what waits for other processes, but for the sum of a gradient, which is the model's thread's. */
class PeersObject : public Napi::ObjectWrap<PeersObject> {
 public:
  explicit PeersObject(const Napi::CallbackInfo& info)
      : ObjectWrap(info), queue_(guarded(info.Env(), [&] { return JobQueue(info.Env()); })) {
    info.This().As<Napi::Object>().TypeTag(&kPeersTag);
  }

  static void install(Napi::Env env, Napi::Object exports) {
    exports.Set(
        "Peers",
        DefineClass(
            env, "Peers",
            {InstanceMethod<&PeersObject::meet>("meet"), InstanceMethod<&PeersObject::set>("set"),
             InstanceMethod<&PeersObject::wait>("wait"), InstanceMethod<&PeersObject::get>("get"),
             InstanceMethod<&PeersObject::count>("count"), InstanceMethod<&PeersObject::open>("open"),
             InstanceMethod<&PeersObject::connect>("connect"), InstanceMethod<&PeersObject::gather>("gather"),
             InstanceMethod<&PeersObject::broadcast>("broadcast"),
             InstanceMethod<&PeersObject::disconnect>("disconnect"), InstanceMethod<&PeersObject::traffic>("traffic"),
             InstanceMethod<&PeersObject::dispose>("dispose")}));
  }

  /** Made by the first job, on the queue's thread; those that use it come after that. */
  std::shared_ptr<Peers> peers;

 private:
  /** Queues what `prepare`, which reads the arguments, returns: work on the peers. */
  template <class Prepare, class... ToJs>
  Napi::Value queued(const Napi::CallbackInfo& info, Prepare prepare, ToJs... toJs) {
    return guarded(info.Env(), [&] {
      return queue_.submit(
          info.This().As<Napi::Object>(),
          [this, work = prepare()]() mutable {
            if (!peers) throw InputError("meet() comes first");
            return work(*peers);
          },
          toJs...);
    });
  }

  Napi::Value meet(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return queue_.submit(info.This().As<Napi::Object>(),
                           [this, place = readPlace(info[0])] { peers = std::make_shared<Peers>(place); });
    });
  }

  Napi::Value set(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      return [key = readString(info[0], "key"), value = readBytes(info[1], "value")](Peers& peers) {
        peers.set(key, value);
      };
    });
  }

  Napi::Value wait(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return [key = readString(info[0], "key"), timeout = readMilliseconds(info[1], "milliseconds")](Peers& peers) {
            return peers.wait(key, timeout);
          };
        },
        [](Napi::Env env, bool come) -> Napi::Value { return Napi::Boolean::New(env, come); });
  }

  Napi::Value get(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [key = readString(info[0], "key")](Peers& peers) { return peers.get(key); }; },
        toUint8Array);
  }

  Napi::Value count(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [key = readString(info[0], "key")](Peers& peers) { return peers.count(key); }; },
        [](Napi::Env env, int64_t count) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(count)); });
  }

  Napi::Value open(const Napi::CallbackInfo& info) {
    return queued(info, [&] { return [endpoint = readEndpoint(info[0])](Peers& peers) { peers.open(endpoint); }; });
  }

  Napi::Value connect(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      const int64_t size = readInteger(info[1], "size", 1, 1 << 20);
      return [rank = static_cast<int>(readInteger(info[0], "rank", 0, size - 1)), size = static_cast<int>(size),
              prefix = readString(info[2], "prefix")](Peers& peers) { peers.connect(rank, size, prefix); };
    });
  }

  Napi::Value gather(const Napi::CallbackInfo& info) {
    return queued(
        info, [&] { return [bytes = readBytes(info[0], "bytes")](Peers& peers) { return peers.gather(bytes); }; },
        [](Napi::Env env, const std::vector<std::vector<uint8_t>>& all) -> Napi::Value {
          auto list = Napi::Array::New(env, all.size());
          for (uint32_t rank = 0; rank < all.size(); ++rank) list.Set(rank, toUint8Array(env, all[rank]));
          return list;
        });
  }

  Napi::Value broadcast(const Napi::CallbackInfo& info) {
    return queued(
        info,
        [&] {
          return
              [bytes = readBytes(info[0], "bytes")](Peers& peers) mutable { return peers.broadcast(std::move(bytes)); };
        },
        toUint8Array);
  }

  Napi::Value disconnect(const Napi::CallbackInfo& info) {
    return queued(info, [&] {
      return [finished = readBoolean(info[0], "finished")](Peers& peers) { peers.disconnect(finished); };
    });
  }

  /** Answered at once. */
  Napi::Value traffic(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Peers::Traffic traffic = readPeers(info.This(), "this")->traffic();
      auto object = Napi::Object::New(info.Env());
      object.Set("bytes", static_cast<double>(traffic.bytes));
      object.Set("seconds", traffic.seconds);
      return object;
    });
  }

  void dispose(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { queue_.close(info.This().As<Napi::Object>(), [this] { peers.reset(); }); });
  }

  JobQueue queue_;  // last: its thread must end before what its jobs use
};

}  // namespace

void registerPeers(Napi::Env env, Napi::Object exports) { PeersObject::install(env, exports); }

std::shared_ptr<Peers> readPeers(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kPeersTag))
    throw InputError(name + ": expected Peers");
  const auto peers = PeersObject::Unwrap(value.As<Napi::Object>())->peers;
  if (!peers) throw InputError(name + ": meet() comes first");
  return peers;
}

}  // namespace group_robust
