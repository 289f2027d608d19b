// The bytes of a segment file: docs/spool_format.md as types, and their way to and from a buffer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "spool/disk.hpp"
#include "spool/producer_table.hpp"
#include "spool/uuid.hpp"

namespace sluice::spool {

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kSegmentHeaderBytes = 128;
inline constexpr std::size_t kBlockHeaderBytes = 64;
inline constexpr std::size_t kRefBytes = 48;
inline constexpr std::size_t kMarkBytes = 24;
// No block is larger: one line of 16 MiB and the chunk that it came in, or a head with a million
// marks. A header that says more is damage.
inline constexpr std::uint32_t kPayloadBytesMax = 64u << 20;

struct SegmentHeader {
  Uuid id;
  std::uint64_t ordinal = 0;
  std::int64_t created_us = 0;  // since the Unix epoch
  std::uint64_t hash_seed = 0;
  Uuid supersedes;  // all zero: none
  std::uint64_t supersedes_from = 0;

  [[nodiscard]] bool does_supersede() const { return supersedes != Uuid{}; }
};

enum class BlockKind : std::uint8_t { events = 1, idle = 2, seal = 3, head = 4 };

struct BlockHeader {
  BlockKind kind = BlockKind::events;
  std::uint32_t payload_bytes = 0;
  std::uint32_t count = 0;
  std::uint64_t first_index = 0;
  std::uint64_t synced_upto = 0;
  std::int64_t written_us = 0;  // since the Unix epoch
  std::uint32_t marks_count = 0;
  std::uint32_t refs_count = 0;
  std::uint32_t payload_crc = 0;

  [[nodiscard]] std::uint64_t end_index() const { return first_index + count; }
  [[nodiscard]] std::uint64_t block_bytes() const { return kBlockHeaderBytes + payload_bytes; }
  // Where the records begin in the payload.
  [[nodiscard]] std::uint64_t records_offset() const {
    return std::uint64_t{refs_count} * kRefBytes + std::uint64_t{marks_count} * kMarkBytes;
  }
};

// What one segment knows of another.
struct SegmentRef {
  Uuid id;
  std::uint64_t ordinal = 0;
  std::uint64_t synced_bytes = 0;
  std::uint64_t end_index = 0;
  bool closed = false;  // it ends there
};

using SegmentHeaderBytes = std::array<std::byte, kSegmentHeaderBytes>;
using BlockHeaderBytes = std::array<std::byte, kBlockHeaderBytes>;

[[nodiscard]] SegmentHeaderBytes encode(const SegmentHeader& header);

struct NotASegment {};
struct OtherVersion {
  std::uint32_t version;
};
// REQUIRES: bytes.size() >= kSegmentHeaderBytes
[[nodiscard]] std::variant<SegmentHeader, OtherVersion, NotASegment> decode_segment_header(
    Bytes bytes);

[[nodiscard]] BlockHeaderBytes encode(const BlockHeader& header, const Uuid& segment);
// None if these are not the bytes of a block header of this segment.
// REQUIRES: bytes.size() >= kBlockHeaderBytes
[[nodiscard]] std::optional<BlockHeader> decode_block_header(Bytes bytes, const Uuid& segment);

// Of a payload in pieces.
[[nodiscard]] std::uint32_t payload_crc(const BlockHeader& header, const Uuid& segment,
                                        std::span<const Bytes> payload);

void append_ref(std::vector<std::byte>& out, const SegmentRef& ref);
void append_mark(std::vector<std::byte>& out, const ProducerMark& mark);
// REQUIRES: the payload of a block with this header, whose checksum is right.
[[nodiscard]] std::vector<SegmentRef> refs_in(const BlockHeader& header, Bytes payload);
[[nodiscard]] std::vector<ProducerMark> marks_in(const BlockHeader& header, Bytes payload);
// True if the bytes are `count` whole records one after the other, with every span in its text.
[[nodiscard]] bool are_records(Bytes bytes, std::uint32_t count);

// "seg-<ordinal>-<uuid>", with the extension.
[[nodiscard]] std::string segment_name(std::uint64_t ordinal, const Uuid& id,
                                       std::string_view extension);
struct SegmentName {
  std::uint64_t ordinal;
  Uuid id;
};
[[nodiscard]] std::optional<SegmentName> parse_segment_name(std::string_view name,
                                                            std::string_view extension);

}  // namespace sluice::spool
