#include "bindings/job_queue.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>

#include <set>
#include <string>
#include <system_error>

#include "bindings/environment.h"
#include "bindings/process.h"

namespace group_robust {

/** The part of a queue that its thread uses. */
struct JobQueue::Thread {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::unique_ptr<Job>> jobs;
  bool stop = false;  // drop what is queued, leave after the running job
  std::thread thread;

  void loop(Environment* environment) {
    for (;;) {
      std::unique_ptr<Job> job;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [this] { return stop || !jobs.empty(); });
        if (stop) return;
        job = std::move(jobs.front());
        jobs.pop_front();
      }
      applyRequestedThreads();
      job->run();
      const bool last = job->last();
      environment->deliver(std::move(job));
      if (last) return;
    }
  }

  void stopAndJoin() {
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_one();
    if (!thread.joinable()) return;
    // A library that gives up, as OpenMP does, calls exit() on the thread of the job.
    if (thread.get_id() == std::this_thread::get_id())
      thread.detach();
    else
      thread.join();
  }
};

/**
 * When the process ends without an end of the environment, static destructors run, and LibTorch's would run under a
 * job's feet. Its constructor asks for those of LibTorch's statics that are made at their first use, in forward and
 * backward passes, so this is younger and destroyed first, and waits for the running jobs. Environment::stopAtExit()
 * comes before all static destructors, wherever JavaScript is still asked.
 */
struct LiveThreads {
  std::mutex mutex;
  std::set<JobQueue::Thread*> threads;

  LiveThreads() {
    at::globalContext();
    at::accelerator::getAccelerator();
  }
  ~LiveThreads() {
    std::set<JobQueue::Thread*> rest;
    {
      std::lock_guard lock(mutex);
      rest.swap(threads);
    }
    for (auto* thread : rest) thread->stopAndJoin();
  }
};

namespace {

LiveThreads& liveThreads() {
  static LiveThreads threads;
  return threads;
}

/** dispose()'s job: no promise, and its thread ends with it. */
class LastJob final : public Job {
 public:
  LastJob(Napi::Object owner, std::function<void()> last, std::function<void(Napi::Env)> settled)
      : Job(owner), last_(std::move(last)), settled_(std::move(settled)) {}

  void run() noexcept override {
    try {
      last_();
    } catch (...) {
      // Freeing does not fail in a way that anybody could act on.
    }
  }

  void settle(Napi::Env env) override { settled_(env); }
  bool last() const override { return true; }

 private:
  std::function<void()> last_;
  std::function<void(Napi::Env)> settled_;
};

}  // namespace

JobQueue::JobQueue(Napi::Env env) : environment_(Environment::of(env)), thread_(std::make_shared<Thread>()) {
  // Before the thread is there, since making the registry may throw too.
  LiveThreads& live = liveThreads();
  try {
    thread_->thread =
        std::thread([thread = thread_.get(), environment = environment_.get()] { thread->loop(environment); });
  } catch (const std::system_error& error) {
    throw std::runtime_error(std::string("the system gives no thread for one more model (") + error.code().message() +
                             "): dispose of those that are done with, or raise the limit of threads (ulimit -u)");
  }
  environment_->add(thread_);
  std::lock_guard lock(live.mutex);
  live.threads.insert(thread_.get());
}

// Pending jobs keep the owner alive, so the thread is idle here (or has ended): joining takes no time.
JobQueue::~JobQueue() { end(); }

void JobQueue::end() {
  {
    std::lock_guard lock(liveThreads().mutex);
    liveThreads().threads.erase(thread_.get());
  }
  thread_->stopAndJoin();
  environment_->remove(thread_);
}

void JobQueue::push(Napi::Env env, std::unique_ptr<Job> job) {
  environment_->expect(env);
  {
    std::lock_guard lock(thread_->mutex);
    thread_->jobs.push_back(std::move(job));
  }
  thread_->changed.notify_one();
}

void JobQueue::close(Napi::Object owner, std::function<void()> last, std::function<void(Napi::Env)> settled) {
  if (closed_) return;
  closed_ = true;
  // The job keeps the owner, and so this queue, alive until it is settled. A thread that has ended still holds its
  // stack until it is joined.
  push(owner.Env(),
       std::make_unique<LastJob>(owner, std::move(last), [this, settled = std::move(settled)](Napi::Env env) {
         end();
         if (settled) settled(env);
       }));
}

// --- Environment: here, because it and JobQueue::Thread know each other ---

void Environment::install(Napi::Env env) {
  auto* holder = new std::shared_ptr<Environment>(std::make_shared<Environment>());
  env.SetInstanceData<std::shared_ptr<Environment>>(holder);
  Environment* self = holder->get();
  self->wake_ = Wake::New(env, "group-robust jobs", 0, 1, self);
  self->wake_.Unref(env);
  // Hooks run last in, first out: ours before the one that closes the thread-safe function.
  napi_add_env_cleanup_hook(env, cleanUp, self);
  stopAtExit(env, *holder);
}

void Environment::stopAtExit(Napi::Env env, std::weak_ptr<Environment> environment) {
  const auto process = env.Global().Get("process").As<Napi::Object>();
  const auto stop = Napi::Function::New(env, [environment](const Napi::CallbackInfo&) {
    if (const auto self = environment.lock()) self->stopThreads();
  });
  process.Get("once").As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), stop});
}

void Environment::stopThreads() {
  for (const auto& thread : threads_) thread->stopAndJoin();
}

std::shared_ptr<Environment> Environment::of(Napi::Env env) {
  return *env.GetInstanceData<std::shared_ptr<Environment>>();
}

void Environment::expect(Napi::Env env) {
  if (pending_++ == 0) wake_.Ref(env);
}

void Environment::deliver(std::unique_ptr<Job> job) {
  {
    std::lock_guard lock(mutex_);
    delivered_.push_back(std::move(job));
  }
  wake_.NonBlockingCall();
}

void Environment::settleDelivered(Napi::Env env, Napi::Function, Environment* environment, void*) {
  if (env == nullptr) return;  // the environment is ending; cleanUp drops the jobs
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::lock_guard lock(environment->mutex_);
      if (environment->delivered_.empty()) return;
      job = std::move(environment->delivered_.front());
      environment->delivered_.pop_front();
    }
    if (--environment->pending_ == 0) environment->wake_.Unref(env);
    try {
      job->settle(env);
    } catch (const Napi::Error&) {
      // Only when JavaScript is being terminated: nobody is left to tell.
    }
  }
}

void Environment::cleanUp(void* self) {
  auto* environment = static_cast<Environment*>(self);
  environment->stopThreads();
  for (const auto& thread : environment->threads_) {
    {
      std::lock_guard lock(liveThreads().mutex);
      liveThreads().threads.erase(thread.get());
    }
    thread->jobs.clear();
  }
  // No thread is left that could deliver. Jobs hold references to JavaScript, so they must go now, on this thread.
  environment->delivered_.clear();
  environment->wake_.Abort();
}

}  // namespace group_robust
