#include "distributed/peers.h"

#include <ATen/ATen.h>
#include <c10/util/Logging.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef GROUP_ROBUST_NCCL
#include <nccl.h>
#include <torch/csrc/cuda/nccl.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <cstdlib>
#include <mutex>
#include <utility>

#include "error_types.h"

namespace group_robust {
namespace {

/** What c10d throws has types of its own, or is a bare runtime_error of gloo's: all of it is about other processes. */
template <class Work>
auto aboutPeers(Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const PeerError&) {
    throw;
  } catch (const c10::Error& error) {
    throw PeerError(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw PeerError(error.what());
  }
}

/** Has LibTorch print no warnings of c10d's, which have stack traces and say nothing that the errors do not. */
void quietenLogging() {
  static const bool done = [] {
    setenv("TORCH_CPP_LOG_LEVEL", "ERROR", /*overwrite=*/0);
    // Python's torch calls this when it is imported; else nothing reads the variable.
    c10::initLogging();
    return true;
  }();
  static_cast<void>(done);
}

#ifdef GROUP_ROBUST_NCCL
/**
 * Whether the NCCL that LibTorch calls is the one whose header this was compiled with: the layout of its structures,
 * which c10d's classes hold, differs by version.
 */
bool fitsNccl() {
  constexpr uint64_t compiled = uint64_t{NCCL_MAJOR} << 32 | uint64_t{NCCL_MINOR} << 16 | uint64_t{NCCL_PATCH};
  return torch::cuda::nccl::version() == compiled;
}
#endif

at::Tensor tensorOf(std::vector<uint8_t>& bytes) {
  return at::from_blob(bytes.data(), {static_cast<int64_t>(bytes.size())}, at::kByte);
}

}  // namespace

struct Peers::State {
  using Clock = std::chrono::steady_clock;

  std::chrono::milliseconds timeout;
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0;
  int size = 1;
  std::string prefix;  // of keys
  std::shared_ptr<::gloo::transport::Device> device;
  mutable std::mutex mutex;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;  // guarded by mutex
#ifdef GROUP_ROBUST_NCCL
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl;  // guarded by mutex; made at the first sum on a GPU
#endif
  Traffic traffic{0, 0};  // guarded by mutex

  c10::intrusive_ptr<c10d::ProcessGroupGloo> connected() const {
    const std::lock_guard lock(mutex);
    if (!gloo) throw PeerError("this process is not connected with the others");
    return gloo;
  }

  /** One collective to which this process gives so many bytes. */
  template <class Collective>
  void run(int64_t bytes, Collective&& collective) {
    const auto start = Clock::now();
    aboutPeers(collective);
    const std::lock_guard lock(mutex);
    traffic.bytes += bytes;
    traffic.seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }

#ifdef GROUP_ROBUST_NCCL
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> betweenCards() {
    const std::lock_guard lock(mutex);
    if (!nccl) {
      // A lost peer is to throw from wait(), on the thread that waits; by default a watchdog ends the process by
      // abort().
      setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
      setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
      auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = timeout;
      nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>(prefix + "nccl", store),
                                                         rank, size, std::move(options));
    }
    return nccl;
  }
#endif
};

Peers::Peers(const MeetingPlace& place) : state_(std::make_unique<State>()) {
  quietenLogging();
  state_->timeout = place.timeout;
  aboutPeers([&] {
    c10d::TCPStoreOptions options;
    options.port = place.port;
    options.isServer = place.serves;
    options.waitWorkers = false;
    options.timeout = place.timeout;
    state_->store = c10::make_intrusive<c10d::TCPStore>(place.address, options);
  });
}

Peers::~Peers() = default;

void Peers::set(const std::string& key, const std::vector<uint8_t>& value) {
  aboutPeers([&] { state_->store->set(key, value); });
}

bool Peers::wait(const std::string& key, std::chrono::milliseconds timeout) {
  return aboutPeers([&] {
    const auto end = State::Clock::now() + timeout;
    try {
      state_->store->wait({key}, timeout);
      return true;
    } catch (const std::exception&) {
      // The type of the error does not tell a wait that was too short from a store that is gone.
      if (State::Clock::now() < end) throw;
      return state_->store->check({key});
    }
  });
}

std::vector<uint8_t> Peers::get(const std::string& key) {
  return aboutPeers([&] { return state_->store->get(key); });
}

int64_t Peers::count(const std::string& key) {
  return aboutPeers([&] { return state_->store->add(key, 1); });
}

void Peers::open(const Endpoint& endpoint) {
  aboutPeers([&] {
    state_->device = endpoint.interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(endpoint.address)
                                                : c10d::ProcessGroupGloo::createDeviceForInterface(endpoint.interface);
  });
}

void Peers::connect(int rank, int size, const std::string& prefix) {
  if (!state_->device) throw InputError("open() comes first");
  aboutPeers([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(state_->timeout);
    options->devices.push_back(state_->device);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<c10d::PrefixStore>(prefix + "gloo", state_->store), rank, size, std::move(options));
    const std::lock_guard lock(state_->mutex);
    state_->rank = rank;
    state_->size = size;
    state_->prefix = prefix;
    state_->gloo = std::move(gloo);
  });
}

std::vector<std::vector<uint8_t>> Peers::gather(const std::vector<uint8_t>& own) {
  const auto gloo = state_->connected();
  std::vector<uint8_t> given = own;
  std::vector<std::vector<uint8_t>> all(static_cast<size_t>(state_->size), std::vector<uint8_t>(own.size()));
  state_->run(static_cast<int64_t>(own.size()), [&] {
    std::vector<at::Tensor> inputs{tensorOf(given)};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (auto& bytes : all) outputs[0].push_back(tensorOf(bytes));
    gloo->allgather(outputs, inputs)->wait();
  });
  return all;
}

std::vector<uint8_t> Peers::broadcast(std::vector<uint8_t> bytes) {
  const auto gloo = state_->connected();
  state_->run(state_->rank == 0 ? static_cast<int64_t>(bytes.size()) : 0, [&] {
    std::vector<at::Tensor> tensors{tensorOf(bytes)};
    gloo->broadcast(tensors)->wait();
  });
  return bytes;
}

void Peers::sum(at::Tensor& tensor) {
  const auto gloo = state_->connected();
  state_->run(static_cast<int64_t>(tensor.nbytes()), [&] {
    std::vector<at::Tensor> tensors{tensor};
    if (tensor.is_cpu()) {
      gloo->allreduce(tensors)->wait();
      return;
    }
#ifdef GROUP_ROBUST_NCCL
    if (fitsNccl()) {
      state_->betweenCards()->allreduce(tensors)->wait();
      return;
    }
#endif
    tensors[0] = tensor.cpu();
    gloo->allreduce(tensors)->wait();
    tensor.copy_(tensors[0]);
  });
}

void Peers::disconnect(bool finished) {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
#ifdef GROUP_ROBUST_NCCL
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl;
#endif
  {
    const std::lock_guard lock(state_->mutex);
    gloo.swap(state_->gloo);
#ifdef GROUP_ROBUST_NCCL
    nccl.swap(state_->nccl);
#endif
  }
  // Outside the lock: their threads end here. Gloo's first, by which the others notice: the end of NCCL's may take
  // long.
  gloo.reset();
#ifdef GROUP_ROBUST_NCCL
  if (nccl) aboutPeers([&] { finished ? nccl->shutdown() : nccl->abort(); });
#endif
}

Peers::Traffic Peers::traffic() const {
  const std::lock_guard lock(state_->mutex);
  return state_->traffic;
}

}  // namespace group_robust
