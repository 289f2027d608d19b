// Reads one segment file block by block: what is whole, and where bytes are bad.
#pragma once

#include <cstdint>
#include <optional>
#include <system_error>
#include <variant>
#include <vector>

#include "spool/block.hpp"
#include "spool/segment_format.hpp"

namespace sluice::spool {

// A window that slides over a file, so that small blocks do not cost a read each. Bytes are read
// once: what the file got after that is not seen behind the limit of the call that read it.
//
// Thread: one.
class FileWindow final {
 public:
  FileWindow(DiskFile& file, std::size_t bytes) : file_(file), window_bytes_(bytes) {}
  FileWindow(const FileWindow&) = delete;
  FileWindow& operator=(const FileWindow&) = delete;

  // The bytes at [offset, offset + count), valid until the next call; fewer only where the file, or
  // what is below `limit`, ends, or where it cannot be read: then error() says so.
  [[nodiscard]] Bytes at(std::uint64_t offset, std::size_t count, std::uint64_t limit);
  // Of the last call.
  [[nodiscard]] std::error_code error() const { return error_; }

 private:
  void slide(std::uint64_t offset, std::size_t bytes);

  DiskFile& file_;
  const std::size_t window_bytes_;
  std::error_code error_;
  std::vector<std::byte> buffer_;
  std::uint64_t begin_ = 0;  // buffer_[0, filled_) is the file's [begin_, begin_ + filled_)
  std::size_t filled_ = 0;
};

// A block that is whole: its checksums are right, and its records are.
struct ScannedBlock {
  BlockHeader header;
  std::uint64_t offset = 0;
  Bytes payload;  // valid until the next call

  [[nodiscard]] std::uint64_t end_offset() const { return offset + header.block_bytes(); }
  [[nodiscard]] Bytes records() const { return payload.subspan(header.records_offset()); }
};

// Bad bytes; the next whole block, or the limit, is at `end_offset`.
struct Damage {
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
};

struct ScanEnd {};

// Thread: one.
class SegmentScan final {
 public:
  // REQUIRES: `file` outlives the scan and is the segment's.
  // `window_bytes`: of small blocks that are read at once. Less than a full block, whose rest then
  // follows behind what is there of it; of a larger window each full block would leave a piece of
  // the next one to be moved.
  SegmentScan(DiskFile& file, const Uuid& segment, std::size_t window_bytes = 128 * 1024)
      : window_(file, window_bytes), segment_(segment) {}

  // The block at next_offset(), the damage there, or the end when that is `limit`. Goes on behind
  // what it returned.
  using Step = std::variant<ScannedBlock, Damage, ScanEnd>;
  [[nodiscard]] Step next(std::uint64_t limit);
  // Why the last next() found damage, if the bytes there could not be read.
  [[nodiscard]] std::error_code read_error() const { return read_error_; }

  [[nodiscard]] std::uint64_t next_offset() const { return next_; }
  void seek(std::uint64_t offset) { next_ = offset; }

 private:
  [[nodiscard]] std::optional<ScannedBlock> block_at(std::uint64_t offset, std::uint64_t limit);
  [[nodiscard]] std::uint64_t end_of_damage(std::uint64_t limit);

  FileWindow window_;
  const Uuid segment_;
  std::uint64_t next_ = kSegmentHeaderBytes;
  std::error_code read_error_;
};

// The header of a segment file, read from its beginning; NotASegment also if it is too short.
[[nodiscard]] std::variant<SegmentHeader, OtherVersion, NotASegment> read_segment_header(
    DiskFile& file);
// The header of a file whose own has bad bytes, by the file's name and by the head block behind it,
// whose checksum goes by the uuid in the name. None: there is no such block. Unknown stay the seed
// of the hashes (0), which the other segments' headers have, and what it supersedes: its refs tell
// that as well.
[[nodiscard]] std::optional<SegmentHeader> rebuild_segment_header(DiskFile& file,
                                                                  const SegmentName& named,
                                                                  std::uint64_t file_bytes);
// The seal, if the last bytes of the file are one.
[[nodiscard]] std::optional<BlockHeader> read_seal(DiskFile& file, const Uuid& segment,
                                                   std::uint64_t file_bytes);

}  // namespace sluice::spool
