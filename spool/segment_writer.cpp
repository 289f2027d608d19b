#include "spool/segment_writer.hpp"

#include <array>
#include <cerrno>
#include <utility>

namespace sluice::spool {
namespace {

// The bytes of the header and the head that a new file begins with.
std::vector<std::byte> first_bytes(const SegmentHeader& header, std::span<const SegmentRef> refs,
                                   std::span<const ProducerMark> marks, std::int64_t now_us) {
  std::vector<std::byte> payload;
  for (const SegmentRef& ref : refs) append_ref(payload, ref);
  for (const ProducerMark& mark : marks) append_mark(payload, mark);

  BlockHeader head;
  head.kind = BlockKind::head;
  head.payload_bytes = static_cast<std::uint32_t>(payload.size());
  head.written_us = now_us;
  head.refs_count = static_cast<std::uint32_t>(refs.size());
  head.marks_count = static_cast<std::uint32_t>(marks.size());
  const std::array<Bytes, 1> pieces{payload};
  head.payload_crc = payload_crc(head, header.id, pieces);

  const auto segment_bytes = encode(header);
  const auto head_bytes = encode(head, header.id);
  std::vector<std::byte> bytes(segment_bytes.begin(), segment_bytes.end());
  bytes.insert(bytes.end(), head_bytes.begin(), head_bytes.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

}  // namespace

bool is_no_space(std::error_code error) {
  return error == std::errc::no_space_on_device || error.value() == EDQUOT ||
         error == std::errc::file_too_large;
}

SegmentWriter::SegmentWriter(Disk& disk, std::unique_ptr<DiskFile> file,
                             const SegmentHeader& header)
    : disk_(disk),
      id_(header.id),
      name_(segment_name(header.ordinal, header.id, ".log")),
      temporary_name_(segment_name(header.ordinal, header.id, ".tmp")),
      file_(std::move(file)) {}

std::variant<std::unique_ptr<SegmentWriter>, std::error_code> SegmentWriter::begin(
    Disk& disk, const SegmentHeader& header, std::span<const SegmentRef> refs,
    std::span<const ProducerMark> marks, std::int64_t now_us) {
  const std::string temporary = segment_name(header.ordinal, header.id, ".tmp");
  auto opened = disk.open(temporary, OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&opened)) return *error;
  std::unique_ptr<SegmentWriter> writer(
      new SegmentWriter(disk, std::move(std::get<0>(opened)), header));
  const auto bytes = first_bytes(header, refs, marks, now_us);
  const std::array<Bytes, 1> pieces{bytes};
  if (const auto error = writer->file_->write(0, pieces)) {
    (void)disk.remove(temporary);
    return error;
  }
  writer->bytes_ = bytes.size();
  return writer;
}

std::error_code SegmentWriter::give_name() {
  std::error_code error = file_->sync();
  if (!error) error = disk_.rename(temporary_name_, name_);
  if (error) {
    (void)disk_.remove(temporary_name_);
    return error;
  }
  error = disk_.sync_directory("");
  if (error) {
    (void)disk_.remove(name_);
    return error;
  }
  synced_bytes_ = bytes_;
  return {};
}

SegmentWriter::Result SegmentWriter::append(BlockKind kind, std::uint32_t count,
                                            std::span<const ProducerMark> marks,
                                            std::span<const Bytes> records, std::int64_t now_us,
                                            bool sync_too) {
  marks_bytes_.clear();
  for (const ProducerMark& mark : marks) append_mark(marks_bytes_, mark);
  // The block's own header stands in front of the pieces when it is known.
  pieces_.assign(1, Bytes());
  if (!marks_bytes_.empty()) pieces_.push_back(marks_bytes_);
  pieces_.insert(pieces_.end(), records.begin(), records.end());

  BlockHeader header;
  header.kind = kind;
  std::uint64_t payload_bytes = 0;
  for (const Bytes& piece : pieces_) payload_bytes += piece.size();
  header.payload_bytes = static_cast<std::uint32_t>(payload_bytes);
  header.count = count;
  header.first_index = end_index_;
  header.synced_upto = synced_bytes_;
  header.written_us = now_us;
  header.marks_count = static_cast<std::uint32_t>(marks.size());
  header.payload_crc = payload_crc(header, id_, std::span(pieces_).subspan(1));
  const BlockHeaderBytes header_bytes = encode(header, id_);
  pieces_.front() = header_bytes;

  if (const auto error = file_->write(bytes_, pieces_)) {
    return is_no_space(error) ? no_space() : fail("write", error);
  }
  if (sync_too) {
    // A file system that takes space only now says so here; then the block's fate is unknown.
    if (const auto error = file_->sync()) return fail("sync", error);
  }
  bytes_ += header.block_bytes();
  end_index_ += count;
  told_bytes_ = header.synced_upto;
  if (sync_too) synced_bytes_ = bytes_;
  return Result::done;
}

SegmentWriter::Result SegmentWriter::sync() {
  if (const auto error = file_->sync()) return fail("sync", error);
  synced_bytes_ = bytes_;
  return Result::done;
}

SegmentWriter::Result SegmentWriter::no_space() {
  if (const auto error = file_->truncate(bytes_)) return fail("truncate", error);
  return Result::no_space;
}

SegmentWriter::Result SegmentWriter::fail(std::string_view step, std::error_code error) {
  failure_ = {step, error};
  return Result::failed;
}

}  // namespace sluice::spool
