#pragma once

#include <napi.h>

#include <deque>
#include <memory>
#include <mutex>
#include <set>

#include "bindings/job_queue.h"

namespace group_robust {

/**
 * What belongs to one JavaScript environment (the main thread's or a worker's): the way back from job threads, and the
 * threads to stop when it ends. Kept as Node-API instance data; nothing that refers to JavaScript is static.
 */
class Environment : public std::enable_shared_from_this<Environment> {
 public:
  /** Called once by the module's Init. */
  static void install(Napi::Env env);
  static std::shared_ptr<Environment> of(Napi::Env env);

  void add(std::shared_ptr<JobQueue::Thread> thread) { threads_.insert(std::move(thread)); }
  void remove(const std::shared_ptr<JobQueue::Thread>& thread) { threads_.erase(thread); }

  /** A job was queued: the event loop must not end before it is settled. JavaScript thread. */
  void expect(Napi::Env env);
  /** A job has run; settles it soon on the JavaScript thread. Called on a queue's thread. */
  void deliver(std::unique_ptr<Job> job);

 private:
  /** process.exit() ends the process without cleanUp on the main thread; its event is the last that JavaScript sees. */
  static void stopAtExit(Napi::Env env, std::weak_ptr<Environment> environment);
  /** Waits for the running jobs, and lets no other begin. */
  void stopThreads();
  static void settleDelivered(Napi::Env env, Napi::Function, Environment* environment, void*);
  static void cleanUp(void* self);
  using Wake = Napi::TypedThreadSafeFunction<Environment, void, &Environment::settleDelivered>;

  Wake wake_;
  std::set<std::shared_ptr<JobQueue::Thread>> threads_;  // JavaScript thread only
  size_t pending_ = 0;                                   // JavaScript thread only
  std::mutex mutex_;
  std::deque<std::unique_ptr<Job>> delivered_;  // guarded by mutex_
};

}  // namespace group_robust
