// Refused lines of producers that did not ask for acks: kept in the files aside/rejects-<n>.ndjson
// of the spool's directory (mode 0600), so that somebody can look at them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spool/disk.hpp"
#include "spool/event_record.hpp"
#include "spool/uuid.hpp"

namespace sluice::spool {

struct RejectLogOptions {
  std::uint64_t bytes_max = 64u << 20;  // of all the files; 0: nothing is kept
  // Of lines that are not yet written. A single longer one is taken too.
  std::size_t pending_bytes_max = 1u << 20;
  std::uint64_t file_bytes = 8u << 20;
  // The files have no room for more, or have room again. By the thread that calls write().
  std::function<void(bool full)> on_full = [](bool) {};
};

struct RejectedLine {
  std::string_view code;
  std::int64_t received_us = 0;  // since the Unix epoch
  std::uint32_t uid = kNoUid;
  std::uint64_t connection = 0;  // from 1, in the order of accepting
  std::uint64_t number = 0;      // of the line, from 1
  std::size_t line_bytes = 0;    // of the line as it came; 0: not known
  std::string_view line;         // what may be kept of it
};

// Nobody was promised anything about these lines: they are not synced, and what does not fit, or
// cannot be written, is only counted. So keep() costs the thread that reads the sockets a copy and
// never a wait for the disk; the journal's thread, which waits for the disk anyway, writes what has
// gathered. A thread of its own would be one more to stop for the sake of lines that are rare.
//
// Lines of the files are as aside_line() makes them, with the state "rejected", the code as their
// sqlstate, and as their segment and index a random uuid for each run and a count.
//
// Threads: keep() and the counts any, write() one.
class RejectLog final {
 public:
  // REQUIRES: the disk outlives it.
  RejectLog(RejectLogOptions options, Disk& disk, const Uuid& run);
  RejectLog(const RejectLog&) = delete;
  RejectLog& operator=(const RejectLog&) = delete;

  void keep(const RejectedLine& rejected);
  // Writes what has gathered, and lets go of its file when it is asked to (reject_purge.hpp). Cheap
  // when there is nothing.
  void write(std::int64_t now_ms);

  [[nodiscard]] std::uint64_t kept() const { return kept_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t unkept() const { return unkept_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Pending {
    RejectedLine rejected;  // but for its line
    std::string line;
  };

  void let_go_if_asked(std::int64_t now_ms);
  void look(std::int64_t now_ms);
  void set_full(bool full);
  [[nodiscard]] bool open_file();
  void write_lines(const std::vector<Pending>& lines);
  void flush(std::string& text, std::uint64_t lines);
  [[nodiscard]] std::string line_of(const Pending& pending);

  const RejectLogOptions options_;
  Disk& disk_;
  const Uuid run_;

  std::mutex mutex_;
  std::vector<Pending> pending_;
  std::size_t pending_bytes_ = 0;
  std::atomic<bool> has_pending_{false};
  std::atomic<bool> full_{false};
  std::atomic<std::uint64_t> kept_{0};
  std::atomic<std::uint64_t> unkept_{0};
  std::atomic<std::uint64_t> bytes_{0};

  // Of the thread that calls write().
  std::optional<std::int64_t> looked_ms_;
  std::int64_t asked_ms_ = 0;  // when it was last looked whether somebody asks
  std::uint64_t next_index_ = 0;
  std::uint32_t next_file_ = 1;
  std::unique_ptr<DiskFile> file_;  // next_file_ - 1
  std::uint64_t file_end_ = 0;
};

// aside/rejects-<n>.ndjson
[[nodiscard]] std::string reject_file_name(std::uint32_t file);
// The n of a name in the directory; none: it is no such file.
[[nodiscard]] std::optional<std::uint32_t> reject_file_number(std::string_view name);

}  // namespace sluice::spool
