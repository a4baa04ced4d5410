#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace group_robust {

/** Where the processes of a job meet: c10d's TCPStore at this address. */
struct MeetingPlace {
  std::string address;
  uint16_t port;
  /** Whether this process keeps the store, which the others then reach. */
  bool serves;
  /** For whatever waits for another process. */
  std::chrono::milliseconds timeout;
};

/** How this process speaks to the others: by a network interface, or by the one that has an address. */
struct Endpoint {
  std::string interface;  // empty: by address
  std::string address;
};

/**
 * The processes of a job, this one among them, through c10d: a store of small values by key, and collectives, which
 * all processes call in the same order, each from any one thread at a time.
 *
 * Throws PeerError where the other processes, or the store, cannot be reached or do not answer in time.
 */
class Peers {
 public:
  /** Serves or reaches the store. */
  explicit Peers(const MeetingPlace& place);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  void set(const std::string& key, const std::vector<uint8_t>& value);
  /** Waits until there is a value. @returns whether it has come in time */
  bool wait(const std::string& key, std::chrono::milliseconds timeout);
  std::vector<uint8_t> get(const std::string& key);
  /** Adds one to a count that begins at 0. @returns the new count */
  int64_t count(const std::string& key);

  /** Opens the way to the others; waits for none of them. Comes before connect(). */
  void open(const Endpoint& endpoint);
  /**
   * Connects every process with every other one.
   * @param prefix before all keys of the connections: jobs that follow one another in one store do not see each other's
   */
  void connect(int rank, int size, const std::string& prefix);
  /** @returns what every process has given, by rank; the same number of bytes from each */
  std::vector<std::vector<uint8_t>> gather(const std::vector<uint8_t>& own);
  /** @returns what rank 0 has given; the others give as many bytes, which do not matter */
  std::vector<uint8_t> broadcast(std::vector<uint8_t> bytes);
  /**
   * Replaces a tensor by its sum over all processes, which is the same to the bit on all of them. Of one on a GPU by
   * NCCL where this is built with the one that LibTorch has, else through the CPU.
   */
  void sum(at::Tensor& tensor);
  /**
   * Breaks the connections off, which the others notice at once; the store stays. Once more does nothing.
   * @param finished whether all that was begun has been waited for; else what runs between GPUs is given up
   */
  void disconnect(bool finished);

  /** Of the collectives so far: what this process has given to them, and the time they took, waits included. */
  struct Traffic {
    int64_t bytes;
    double seconds;
  };
  Traffic traffic() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace group_robust
