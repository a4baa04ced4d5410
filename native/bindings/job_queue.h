#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "bindings/errors.h"

namespace group_robust {

class Environment;

/** One call on its way: runs on the queue's thread, is settled and destroyed on the JavaScript thread. */
class Job {
 public:
  Job(Napi::Object owner) : owner_(Napi::Persistent(owner)) {}
  virtual ~Job() = default;
  /** On the queue's thread. Never throws. */
  virtual void run() noexcept = 0;
  /** On the JavaScript thread, after run(). */
  virtual void settle(Napi::Env env) = 0;
  /** Whether the queue's thread ends after this one. */
  virtual bool last() const { return false; }

 private:
  // Keeps the owning JS object, and so the queue and the model, alive until the job is settled.
  Napi::ObjectReference owner_;
};

/** A job whose outcome settles a promise. Result is void or anything movable. */
template <class Work, class ToJs>
class PromiseJob final : public Job {
 public:
  using Result = std::invoke_result_t<Work&>;
  static constexpr bool kVoid = std::is_void_v<Result>;

  PromiseJob(Napi::Object owner, Napi::Promise::Deferred deferred, Work work, ToJs toJs)
      : Job(owner), deferred_(deferred), work_(std::move(work)), toJs_(std::move(toJs)) {}

  void run() noexcept override {
    try {
      if constexpr (kVoid)
        work_();
      else
        result_.emplace(work_());
    } catch (...) {
      failure_ = currentFailure();
    }
  }

  void settle(Napi::Env env) override {
    if (failure_) return deferred_.Reject(toJsError(env, *failure_).Value());
    try {
      if constexpr (kVoid)
        deferred_.Resolve(toJs_(env));
      else
        deferred_.Resolve(toJs_(env, std::move(*result_)));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (...) {
      deferred_.Reject(toJsError(env, currentFailure()).Value());
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Work work_;
  ToJs toJs_;
  std::conditional_t<kVoid, std::optional<bool>, std::optional<Result>> result_;
  std::optional<Failure> failure_;
};

/**
 * One C++ thread and a queue, owned by one JS object (a member of its ObjectWrap; declare it LAST, so that it goes
 * first).
 *
 * Jobs run one after another in the order of the calls and settle promises, so two calls at the same time on one object
 * are two calls in a row. Own thread rather than libuv's pool, because OpenMP keeps one team of threads per calling
 * thread, and because long jobs would block file reads. While a job is pending the process stays alive; after that it
 * may exit. When the environment ends (exit, worker.terminate()), the running job is waited for and the rest dropped.
 */
class JobQueue {
 public:
  /** Throws where no thread can be started. */
  explicit JobQueue(Napi::Env env);
  ~JobQueue();
  JobQueue(const JobQueue&) = delete;
  JobQueue& operator=(const JobQueue&) = delete;

  /**
   * Queues `work` (called on the queue's thread, may throw, must touch no Napi value) and returns a promise of
   * `toJs(env, result)`, called on the JavaScript thread: `toJs(env)` if work returns void. `owner` is info.This():
   * it is kept alive, so both may use the owning C++ object. Rejects with DISPOSED after close().
   */
  template <class Work, class ToJs>
  Napi::Value submit(Napi::Object owner, Work work, ToJs toJs) {
    Napi::Env env = owner.Env();
    auto deferred = Napi::Promise::Deferred::New(env);
    if (closed_)
      deferred.Reject(toJsError(env, {"DISPOSED", "used after dispose()"}).Value());
    else
      push(env, std::make_unique<PromiseJob<Work, ToJs>>(owner, deferred, std::move(work), std::move(toJs)));
    return deferred.Promise();
  }

  /** The same for work without a result: a promise of undefined. */
  template <class Work>
  Napi::Value submit(Napi::Object owner, Work work) {
    return submit(owner, std::move(work), [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
  }

  /**
   * For dispose(): lets queued work finish, then runs `last` (frees the weights) on the queue's thread, which ends, and
   * `settled` on the JavaScript thread. Later submit() calls reject; a second close() does nothing.
   */
  void close(Napi::Object owner, std::function<void()> last, std::function<void(Napi::Env)> settled = nullptr);

  bool closed() const { return closed_; }

 private:
  struct Thread;

  void push(Napi::Env env, std::unique_ptr<Job> job);
  /** Stops and joins the thread, and takes it off the lists; once more does nothing. */
  void end();

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<Thread> thread_;
  bool closed_ = false;  // JavaScript thread only

  friend class Environment;
  friend struct LiveThreads;
};

/** Bytes outside V8's heap that a JS object keeps alive, told to V8 so that it collects in time. JavaScript thread
 * only. */
class ExternalMemory {
 public:
  explicit ExternalMemory(Napi::Env env) : env_(env) {}
  ~ExternalMemory() { set(0); }
  ExternalMemory(const ExternalMemory&) = delete;
  ExternalMemory& operator=(const ExternalMemory&) = delete;

  void set(int64_t bytes) {
    if (bytes == bytes_) return;
    int64_t total = 0;
    napi_adjust_external_memory(env_, bytes - bytes_, &total);
    bytes_ = bytes;
  }

 private:
  napi_env env_;
  int64_t bytes_ = 0;
};

}  // namespace group_robust
