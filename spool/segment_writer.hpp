// One segment file while this process writes it: made whole, then appended to block by block.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>
#include <vector>

#include "spool/disk.hpp"
#include "spool/segment_format.hpp"

namespace sluice::spool {

// Thread: the journal's (and, before that runs, the one that opens the spool).
class SegmentWriter final {
 public:
  // Begins the file under a temporary name: header and head are written. Nothing is left behind on
  // failure.
  [[nodiscard]] static std::variant<std::unique_ptr<SegmentWriter>, std::error_code> begin(
      Disk& disk, const SegmentHeader& header, std::span<const SegmentRef> refs,
      std::span<const ProducerMark> marks, std::int64_t now_us);
  // Syncs the file, gives it its name and syncs the directory: from here on it counts. After a
  // failure nothing of it is left, and the writer is of no more use.
  [[nodiscard]] std::error_code give_name();

  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  enum class Result {
    done,
    no_space,  // nothing of the block is in the file
    failed,    // the file is poisoned: it must not be written or synced again, see failure()
  };
  struct Failure {
    std::string_view step;  // "write", "sync", "truncate"
    std::error_code error;
  };

  // Appends a block; its records, if any, are the pieces. With `sync`, also syncs the file.
  // REQUIRES: not failed before.
  [[nodiscard]] Result append(BlockKind kind, std::uint32_t count,
                              std::span<const ProducerMark> marks, std::span<const Bytes> records,
                              std::int64_t now_us, bool sync);
  [[nodiscard]] Result sync();

  [[nodiscard]] const Failure& failure() const { return failure_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  // Length of the whole blocks, and of what of it is known to be durable.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t synced_bytes() const { return synced_bytes_; }
  // The greatest synced_upto that stands in the file.
  [[nodiscard]] std::uint64_t told_bytes() const { return told_bytes_; }
  [[nodiscard]] std::uint64_t end_index() const { return end_index_; }

 private:
  SegmentWriter(Disk& disk, std::unique_ptr<DiskFile> file, const SegmentHeader& header);

  [[nodiscard]] Result fail(std::string_view step, std::error_code error);
  [[nodiscard]] Result no_space();

  Disk& disk_;
  const Uuid id_;
  const std::string name_;
  const std::string temporary_name_;
  const std::unique_ptr<DiskFile> file_;
  std::uint64_t bytes_ = 0;
  std::uint64_t synced_bytes_ = 0;
  std::uint64_t told_bytes_ = 0;
  std::uint64_t end_index_ = 0;
  Failure failure_;
  std::vector<std::byte> marks_bytes_;
  std::vector<Bytes> pieces_;
};

[[nodiscard]] bool is_no_space(std::error_code error);

}  // namespace sluice::spool
