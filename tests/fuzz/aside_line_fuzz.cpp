// A record that was set aside comes back as it was written, and lines that nobody wrote are either
// none or such a record.
//
// Input: `w`, then the texts of a record, one a line; or `r` and a line behind its checksum, which
// is put before it; or anything else and a line.
#include <array>
#include <cstdio>
#include <string>

#include "spool/aside_line.hpp"
#include "spool/crc32c.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace sluice::fuzz {
namespace {

using spool::AsideRecord;
using spool::AsideText;

std::string with_checksum(std::string_view rest) {
  spool::Crc32c checksum;
  checksum.add(std::as_bytes(std::span(rest)));
  std::array<char, 32> head{};
  std::snprintf(head.data(), head.size(), "{\"crc32c\":\"%08x\"", checksum.value());
  return head.data() + std::string(rest);
}

bool is_same(const AsideText& text, const AsideRecord& record) {
  return text.state == record.state && text.position.segment == record.segment &&
         text.position.index == record.index && text.time_us == record.time_us &&
         text.received_us == record.received_us && text.id.value_or(spool::Uuid{}) == record.id &&
         text.uid == record.uid && text.route == record.route && text.type == record.type &&
         text.table == record.table && text.sqlstate == record.sqlstate &&
         text.message == record.message && text.column == record.column && text.line == record.line;
}

void check_written(Input input) {
  constexpr std::int64_t kLastUs = 253'402'300'799'999'999;  // the year 9999
  AsideRecord record;
  record.state = static_cast<spool::AsideState>(input.byte() % spool::kAsideStateCount);
  for (auto& byte : record.segment.bytes) byte = static_cast<std::uint8_t>(input.byte());
  for (auto& byte : record.id.bytes) byte = static_cast<std::uint8_t>(input.byte());
  for (int i = 0; i < 8; ++i) record.index = record.index << 8 | input.byte();
  record.time_us = static_cast<std::int64_t>(record.index) % kLastUs;
  record.received_us = record.time_us / 7;
  record.time_us = std::abs(record.time_us);
  record.received_us = std::abs(record.received_us);
  record.uid = record.index % 2 == 0 ? spool::kNoUid : static_cast<std::uint32_t>(record.index);
  for (auto* text : {&record.route, &record.type, &record.table, &record.sqlstate, &record.message,
                     &record.column}) {
    *text = input.piece();
  }
  record.line = input.rest();

  const ExactBytes line(spool::aside_line(record));
  must(line.view().find('\n') == line.view().size() - 1, "a record is one line");
  const auto text = spool::aside_text(line.view());
  must(text && is_same(*text, record), "a record comes back as it was written");
  for (std::size_t bytes = 0; bytes + 1 < line.view().size(); bytes += 1 + bytes / 4) {
    const ExactBytes head(line.view().substr(0, bytes));
    const auto found = spool::aside_head(head.view());
    must(!found || (found->state == record.state && found->position == text->position),
         "the head of a record is that record");
    must(!spool::aside_text(head.view()).has_value(), "half a record is none");
  }
}

void check_read(std::string_view bytes) {
  const ExactBytes line(bytes);
  (void)spool::aside_head(line.view());
  const auto text = spool::aside_text(line.view());
  if (!text) return;
  const auto again = spool::aside_text(spool::aside_line(text->record()));
  must(again && is_same(*again, text->record()), "a record that was read can be written again");
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::fuzz::Input input(data, size);
  switch (input.byte()) {
    case 'w':
      sluice::fuzz::check_written(input);
      break;
    case 'r':
      sluice::fuzz::check_read(sluice::fuzz::with_checksum(input.rest()));
      break;
    default:
      sluice::fuzz::check_read(input.rest());
  }
  return 0;
}
