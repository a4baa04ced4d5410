#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <string>

namespace group_robust {

/**
 * A regular file, mapped read-only for as long as the object lives. One that is removed, or replaced by renaming, stays
 * as it was. One that is written to in place changes the mapping, and one that is cut short takes pages away from it:
 * reading those gives zeros, where the system would end the process by SIGBUS, and check() tells of both.
 */
class MappedFile {
 public:
  /**
   * @param path for messages
   * @param descriptor the file, open at the caller's, who may close it afterwards
   * Throws InputError where that is no regular file.
   */
  MappedFile(const std::string& path, int descriptor);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }

  /** Pages of these bytes need not stay in memory; they are read from the file again where they are used again. */
  void release(size_t begin, size_t bytes) const;
  /** To be called after use of the data. Throws InputError where that may not have been what was opened. */
  void check() const;

 private:
  std::string path_;
  int file_ = -1;  // kept open: the path may come to mean another file
  struct stat opened_ {};
  const char* data_ = nullptr;
  size_t size_ = 0;
  struct GuardedRange* range_ = nullptr;
};

}  // namespace group_robust
