#include "spool/segment_scan.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace sluice::spool {
namespace {

// Blocks begin at multiples of this.
constexpr std::uint64_t kAlignment = 8;

}  // namespace

Bytes FileWindow::at(std::uint64_t offset, std::size_t count, std::uint64_t limit) {
  if (offset >= limit) return {};
  count = static_cast<std::size_t>(std::min<std::uint64_t>(count, limit - offset));
  const bool inside = offset >= begin_ && offset + count <= begin_ + filled_;
  if (!inside) {
    const std::size_t wanted = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::max(count, window_bytes_), limit - offset));
    if (buffer_.size() < wanted) buffer_.resize(wanted);
    // What one large block needed is given back when blocks are small again.
    if (buffer_.size() > 4 * window_bytes_ && wanted <= window_bytes_) {
      buffer_ = std::vector<std::byte>(wanted);
    }
    begin_ = offset;
    std::size_t got = 0;
    if (file_.read(offset, std::span(buffer_).first(wanted), got)) got = 0;
    filled_ = got;
  }
  const std::size_t at = static_cast<std::size_t>(offset - begin_);
  return Bytes(buffer_).subspan(at, std::min(count, filled_ - std::min(filled_, at)));
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
  if (next_ >= limit) return ScanEnd{};
  if (const auto block = block_at(next_, limit)) {
    next_ = block->end_offset();
    return *block;
  }
  Damage damage{next_, limit};
  for (std::uint64_t offset = next_ + kAlignment; offset + kBlockHeaderBytes <= limit;
       offset += kAlignment) {
    const Bytes head = window_.at(offset, kBlockHeaderBytes, limit);
    if (head.size() < kBlockHeaderBytes) break;
    if (decode_block_header(head, segment_) && block_at(offset, limit)) {
      damage.end_offset = offset;
      break;
    }
  }
  next_ = damage.end_offset;
  return damage;
}

std::variant<SegmentHeader, OtherVersion, NotASegment> read_segment_header(DiskFile& file) {
  SegmentHeaderBytes bytes{};
  std::size_t got = 0;
  if (file.read(0, bytes, got) || got < bytes.size()) return NotASegment{};
  return decode_segment_header(bytes);
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
