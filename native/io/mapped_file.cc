#include "io/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "error_types.h"

namespace group_robust {

/** A mapping as the signal handler sees it, which can take no lock: entries are used again, and never freed. */
struct GuardedRange {
  std::atomic<uintptr_t> begin{0};  // 0: not in use
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> lost{false};
  GuardedRange* next = nullptr;
};

namespace {

std::atomic<GuardedRange*> ranges{nullptr};
std::mutex rangesMutex;  // of those that add or reuse entries
struct sigaction previousAction;
uintptr_t pageSize;

/** Puts zeros in the place of what a file has lost, from the page at fault to the end, so that the thread goes on. */
void onBusError(int signal, siginfo_t* info, void*) {
  const int error = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (GuardedRange* range = ranges.load(); range != nullptr; range = range->next) {
    const uintptr_t begin = range->begin.load(), end = range->end.load();
    if (begin == 0 || address < begin || address >= end) continue;
    const uintptr_t page = address / pageSize * pageSize;
    if (::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED)
      break;
    range->lost = true;
    errno = error;
    return;
  }
  // Not ours: what was there before has it. A fault comes again on return; a signal that was sent has to be sent on.
  ::sigaction(SIGBUS, &previousAction, nullptr);
  if (info->si_code <= 0) ::raise(signal);
  errno = error;
}

GuardedRange* guardRange(const char* data, size_t size) {
  const std::lock_guard lock(rangesMutex);
  if (pageSize == 0) {
    pageSize = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = onBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &previousAction);
  }
  GuardedRange* range = ranges.load();
  while (range != nullptr && range->begin != 0) range = range->next;
  if (range == nullptr) {
    range = new GuardedRange;
    range->next = ranges.load();
    ranges = range;
  }
  range->lost = false;
  range->end = reinterpret_cast<uintptr_t>(data) + size;
  range->begin = reinterpret_cast<uintptr_t>(data);
  return range;
}

/** Whether the bytes are those of then; what only moves or links a file leaves its modification time. */
bool sameContent(const struct stat& a, const struct stat& b) {
#ifdef __APPLE__
  const auto &x = a.st_mtimespec, &y = b.st_mtimespec;
#else
  const auto &x = a.st_mtim, &y = b.st_mtim;
#endif
  return a.st_size == b.st_size && x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec;
}

}  // namespace

MappedFile::MappedFile(const std::string& path, int descriptor) : path_(path) {
  file_ = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (file_ < 0) throw InputError(path_ + ": cannot be used: " + std::strerror(errno));
  const auto fail = [&](const std::string& problem) {
    ::close(file_);
    throw InputError(path_ + ": " + problem);
  };
  if (::fstat(file_, &opened_) != 0 || !S_ISREG(opened_.st_mode)) fail("is not a regular file");
  size_ = static_cast<size_t>(opened_.st_size);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file_, 0);
  if (mapped == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(errno));
  data_ = static_cast<const char*>(mapped);
  range_ = guardRange(data_, size_);
}

MappedFile::~MappedFile() {
  if (range_ != nullptr) {
    range_->begin = 0;  // first: the addresses may be another's as soon as they are given back
    ::munmap(const_cast<char*>(data_), size_);
  }
  ::close(file_);
}

void MappedFile::release(size_t begin, size_t bytes) const {
  const size_t first = (begin + pageSize - 1) / pageSize * pageSize, last = (begin + bytes) / pageSize * pageSize;
  if (first < last) ::madvise(const_cast<char*>(data_) + first, last - first, MADV_DONTNEED);
}

void MappedFile::check() const {
  struct stat now {};
  if (::fstat(file_, &now) == 0 && sameContent(opened_, now) && !(range_ != nullptr && range_->lost)) return;
  throw InputError(path_ + ": was written to or cut short while it was in use; put it back as it was, and start again");
}

}  // namespace group_robust
