#include "spool/segment_format.hpp"

#include <charconv>
#include <cstdio>
#include <cstring>

#include "spool/crc32c.hpp"
#include "spool/event_record.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kMagic = "SLUICESG";
constexpr std::uint32_t kBlockMagic = 0x4b4c4253;  // "SBLK"

template <typename T>
void put(std::span<std::byte> bytes, std::size_t at, const T& value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <typename T>
T get(Bytes bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <typename T>
void append_value(std::vector<std::byte>& out, const T& value) {
  const auto bytes = std::as_bytes(std::span<const T, 1>(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::uint32_t crc_of(Bytes bytes) {
  Crc32c crc;
  crc.add(bytes);
  return crc.value();
}

std::uint32_t header_crc(Bytes header, const Uuid& segment) {
  Crc32c crc;
  crc.add_value(segment);
  crc.add(header.first(kBlockHeaderBytes - 4));
  return crc.value();
}

bool is_kind(std::uint8_t kind) {
  return kind >= static_cast<std::uint8_t>(BlockKind::events) &&
         kind <= static_cast<std::uint8_t>(BlockKind::head);
}

bool spans_lie_in_text(const EventView& event) {
  const std::uint64_t text = std::uint64_t{event.header().line_bytes} + event.header().tail_bytes;
  for (const FieldSpan& field : event.fields()) {
    if (std::uint64_t{field.begin} + field.length > text) return false;
  }
  return true;
}

}  // namespace

SegmentHeaderBytes encode(const SegmentHeader& header) {
  SegmentHeaderBytes bytes{};
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  put(bytes, 8, kFormatVersion);
  put(bytes, 12, static_cast<std::uint32_t>(kSegmentHeaderBytes));
  put(bytes, 16, header.id);
  put(bytes, 32, header.ordinal);
  put(bytes, 40, header.created_us);
  put(bytes, 48, header.hash_seed);
  put(bytes, 56, header.supersedes);
  put(bytes, 72, header.supersedes_from);
  put(bytes, 124, crc_of(Bytes(bytes).first(124)));
  return bytes;
}

std::variant<SegmentHeader, OtherVersion, NotASegment> decode_segment_header(Bytes bytes) {
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) return NotASegment{};
  // Before the checksum: another version may have its own somewhere else.
  const auto version = get<std::uint32_t>(bytes, 8);
  if (get<std::uint32_t>(bytes, 124) != crc_of(bytes.first(124))) {
    return version > kFormatVersion && get<std::uint32_t>(bytes, 12) != kSegmentHeaderBytes
               ? std::variant<SegmentHeader, OtherVersion, NotASegment>(OtherVersion{version})
               : NotASegment{};
  }
  if (version != kFormatVersion) return OtherVersion{version};
  SegmentHeader header;
  header.id = get<Uuid>(bytes, 16);
  header.ordinal = get<std::uint64_t>(bytes, 32);
  header.created_us = get<std::int64_t>(bytes, 40);
  header.hash_seed = get<std::uint64_t>(bytes, 48);
  header.supersedes = get<Uuid>(bytes, 56);
  header.supersedes_from = get<std::uint64_t>(bytes, 72);
  return header;
}

BlockHeaderBytes encode(const BlockHeader& header, const Uuid& segment) {
  BlockHeaderBytes bytes{};
  put(bytes, 0, kBlockMagic);
  put(bytes, 4, header.kind);
  put(bytes, 8, header.payload_bytes);
  put(bytes, 12, header.count);
  put(bytes, 16, header.first_index);
  put(bytes, 24, header.synced_upto);
  put(bytes, 32, header.written_us);
  put(bytes, 40, header.marks_count);
  put(bytes, 44, header.refs_count);
  put(bytes, 56, header.payload_crc);
  put(bytes, 60, header_crc(bytes, segment));
  return bytes;
}

std::optional<BlockHeader> decode_block_header(Bytes bytes, const Uuid& segment) {
  if (get<std::uint32_t>(bytes, 0) != kBlockMagic) return std::nullopt;
  if (get<std::uint32_t>(bytes, 60) != header_crc(bytes, segment)) return std::nullopt;
  BlockHeader header;
  if (!is_kind(get<std::uint8_t>(bytes, 4))) return std::nullopt;
  header.kind = get<BlockKind>(bytes, 4);
  header.payload_bytes = get<std::uint32_t>(bytes, 8);
  header.count = get<std::uint32_t>(bytes, 12);
  header.first_index = get<std::uint64_t>(bytes, 16);
  header.synced_upto = get<std::uint64_t>(bytes, 24);
  header.written_us = get<std::int64_t>(bytes, 32);
  header.marks_count = get<std::uint32_t>(bytes, 40);
  header.refs_count = get<std::uint32_t>(bytes, 44);
  header.payload_crc = get<std::uint32_t>(bytes, 56);
  if (header.payload_bytes > kPayloadBytesMax || header.payload_bytes % 8 != 0) return std::nullopt;
  if (header.records_offset() > header.payload_bytes) return std::nullopt;
  return header;
}

std::uint32_t payload_crc(const BlockHeader& header, const Uuid& segment,
                          std::span<const Bytes> payload) {
  Crc32c crc;
  crc.add_value(segment);
  crc.add_value(header.first_index);
  crc.add_value(header.count);
  crc.add_value(header.synced_upto);
  for (const Bytes& piece : payload) crc.add(piece);
  return crc.value();
}

void append_ref(std::vector<std::byte>& out, const SegmentRef& ref) {
  append_value(out, ref.id);
  append_value(out, ref.ordinal);
  append_value(out, ref.synced_bytes);
  append_value(out, ref.end_index);
  append_value(out, std::uint64_t{ref.closed ? 1u : 0u});
}

void append_mark(std::vector<std::byte>& out, const ProducerMark& mark) {
  append_value(out, mark.key.first);
  append_value(out, mark.key.second);
  append_value(out, mark.line);
}

std::vector<SegmentRef> refs_in(const BlockHeader& header, Bytes payload) {
  std::vector<SegmentRef> refs;
  for (std::size_t at = 0; refs.size() < header.refs_count; at += kRefBytes) {
    refs.push_back({get<Uuid>(payload, at), get<std::uint64_t>(payload, at + 16),
                    get<std::uint64_t>(payload, at + 24), get<std::uint64_t>(payload, at + 32),
                    get<std::uint64_t>(payload, at + 40) == 1});
  }
  return refs;
}

std::vector<ProducerMark> marks_in(const BlockHeader& header, Bytes payload) {
  std::vector<ProducerMark> marks;
  for (std::size_t at = header.refs_count * kRefBytes; marks.size() < header.marks_count;
       at += kMarkBytes) {
    marks.push_back({{get<std::uint64_t>(payload, at), get<std::uint64_t>(payload, at + 8)},
                     get<std::uint64_t>(payload, at + 16)});
  }
  return marks;
}

bool are_records(Bytes bytes, std::uint32_t count) {
  std::size_t at = 0;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (bytes.size() - at < sizeof(RecordHeader)) return false;
    const EventView event(bytes.data() + at);
    const RecordHeader& header = event.header();
    const std::uint64_t text = std::uint64_t{header.line_bytes} + header.tail_bytes;
    if (header.record_bytes != record_bytes(header.field_count, text)) return false;
    if (header.record_bytes > bytes.size() - at || !spans_lie_in_text(event)) return false;
    at += header.record_bytes;
  }
  return at == bytes.size();
}

std::string segment_name(std::uint64_t ordinal, const Uuid& id, std::string_view extension) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(ordinal));
  return "seg-" + std::string(digits) + "-" + id.text() + std::string(extension);
}

std::optional<SegmentName> parse_segment_name(std::string_view name, std::string_view extension) {
  constexpr std::size_t kBareLength = 4 + 16 + 1 + 36;
  if (name.size() != kBareLength + extension.size()) return std::nullopt;
  if (!name.starts_with("seg-") || name[20] != '-' || !name.ends_with(extension)) {
    return std::nullopt;
  }
  SegmentName parsed{};
  const char* digits_end = name.data() + 20;
  const auto [end, error] = std::from_chars(name.data() + 4, digits_end, parsed.ordinal, 16);
  const auto id = Uuid::parse(name.substr(21, 36));
  if (error != std::errc() || end != digits_end || !id) return std::nullopt;
  parsed.id = *id;
  return parsed;
}

}  // namespace sluice::spool
