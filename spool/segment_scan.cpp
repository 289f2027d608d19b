#include "spool/segment_scan.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace sluice::spool {
namespace {

// Blocks begin at multiples of this.
constexpr std::uint64_t kAlignment = 8;
// What cannot be read cannot be read in pieces of this.
constexpr std::uint64_t kMediumBlockBytes = 4096;
// How much larger than it has to be a window may stay.
constexpr std::size_t kKeptWindows = 16;

}  // namespace

Bytes FileWindow::at(std::uint64_t offset, std::size_t count, std::uint64_t limit) {
  error_ = {};
  if (offset >= limit) return {};
  count = static_cast<std::size_t>(std::min<std::uint64_t>(count, limit - offset));
  const bool inside = offset >= begin_ && offset + count <= begin_ + filled_;
  if (!inside) {
    const std::size_t wanted = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::max(count, window_bytes_), limit - offset));
    slide(offset, wanted);
    // What is asked for may be good where what comes behind it is not.
    if (error_ && count < wanted) slide(offset, count);
  }
  const std::size_t at = static_cast<std::size_t>(offset - begin_);
  return Bytes(buffer_).subspan(at, std::min(count, filled_ - std::min(filled_, at)));
}

// What of it is there already is not read again.
void FileWindow::slide(std::uint64_t offset, std::size_t bytes) {
  const bool overlaps = offset >= begin_ && offset < begin_ + filled_;
  const auto kept_at = overlaps ? static_cast<std::size_t>(offset - begin_) : 0;
  const std::size_t kept = overlaps ? filled_ - kept_at : 0;
  if (kept_at != 0) std::memmove(buffer_.data(), buffer_.data() + kept_at, kept);
  // What one large block needed is given back when blocks are small again.
  if (buffer_.size() > kKeptWindows * window_bytes_ && bytes <= window_bytes_) {
    buffer_.resize(bytes);
    buffer_.shrink_to_fit();
  }
  if (buffer_.size() < bytes) buffer_.resize(bytes);
  begin_ = offset;
  std::size_t got = 0;
  error_ = file_.read(offset + kept, std::span(buffer_).first(bytes).subspan(kept), got);
  filled_ = kept + (error_ ? 0 : got);
}

std::optional<ScannedBlock> SegmentScan::block_at(std::uint64_t offset, std::uint64_t limit) {
  const Bytes head = window_.at(offset, kBlockHeaderBytes, limit);
  if (head.size() < kBlockHeaderBytes) return std::nullopt;
  const auto header = decode_block_header(head, segment_);
  if (!header || header->block_bytes() > limit - offset) return std::nullopt;
  const auto bytes = static_cast<std::size_t>(header->block_bytes());
  const Bytes whole = window_.at(offset, bytes, limit);
  if (whole.size() < bytes) return std::nullopt;

  ScannedBlock block{*header, offset, whole.subspan(kBlockHeaderBytes)};
  const std::array<Bytes, 1> pieces{block.payload};
  if (payload_crc(*header, segment_, pieces) != header->payload_crc) return std::nullopt;
  if (!are_records(block.records(), header->count)) return std::nullopt;
  return block;
}

SegmentScan::Step SegmentScan::next(std::uint64_t limit) {
  read_error_ = {};
  if (next_ >= limit) return ScanEnd{};
  if (const auto block = block_at(next_, limit)) {
    next_ = block->end_offset();
    return *block;
  }
  read_error_ = window_.error();
  const Damage damage{next_, end_of_damage(limit)};
  next_ = damage.end_offset;
  return damage;
}

// Where the next whole block begins, or the limit.
std::uint64_t SegmentScan::end_of_damage(std::uint64_t limit) {
  const Bytes head = window_.at(next_, kBlockHeaderBytes, limit);
  if (head.size() == kBlockHeaderBytes) {
    const auto header = decode_block_header(head, segment_);
    if (header && header->block_bytes() < limit - next_ &&
        block_at(next_ + header->block_bytes(), limit)) {
      return next_ + header->block_bytes();
    }
  }
  std::uint64_t offset = next_ + kAlignment;
  while (offset + kBlockHeaderBytes <= limit) {
    const Bytes bytes = window_.at(offset, kBlockHeaderBytes, limit);
    if (bytes.size() < kBlockHeaderBytes) {
      if (!window_.error()) break;
      offset = (offset / kMediumBlockBytes + 1) * kMediumBlockBytes;
      continue;
    }
    if (decode_block_header(bytes, segment_) && block_at(offset, limit)) return offset;
    offset += kAlignment;
  }
  return limit;
}

std::variant<SegmentHeader, OtherVersion, NotASegment> read_segment_header(DiskFile& file) {
  SegmentHeaderBytes bytes{};
  std::size_t got = 0;
  if (file.read(0, bytes, got) || got < bytes.size()) return NotASegment{};
  return decode_segment_header(bytes);
}

std::optional<SegmentHeader> rebuild_segment_header(DiskFile& file, const SegmentName& named,
                                                    std::uint64_t file_bytes) {
  SegmentScan scan(file, named.id, 16 * 1024);
  const auto step = scan.next(file_bytes);
  const auto* block = std::get_if<ScannedBlock>(&step);
  if (block == nullptr || block->header.kind != BlockKind::head) return std::nullopt;
  SegmentHeader header;
  header.id = named.id;
  header.ordinal = named.ordinal;
  header.created_us = block->header.written_us;
  return header;
}

std::optional<BlockHeader> read_seal(DiskFile& file, const Uuid& segment,
                                     std::uint64_t file_bytes) {
  if (file_bytes < kSegmentHeaderBytes + kBlockHeaderBytes) return std::nullopt;
  BlockHeaderBytes bytes{};
  std::size_t got = 0;
  if (file.read(file_bytes - kBlockHeaderBytes, bytes, got) || got < bytes.size()) {
    return std::nullopt;
  }
  const auto header = decode_block_header(bytes, segment);
  if (!header || header->kind != BlockKind::seal) return std::nullopt;
  return header;
}

}  // namespace sluice::spool
