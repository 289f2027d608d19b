#include "tests/fuzz/copy_row.hpp"

#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/json_tree.hpp"

namespace sluice::fuzz {
namespace {

constexpr std::int64_t kPostgresEpochUs = 946'684'800'000'000;  // 2000-01-01 in Unix time

std::string encoded(const sink::CopyEncoder& encoder, const spool::EventView& event,
                    const spool::Position& position) {
  sink::CopyBuffer buffer;
  const auto error = encoder.append_row(event, position, buffer);
  must(!error.has_value(), "a row whose columns take anything is not refused");
  return {reinterpret_cast<const char*>(buffer.bytes().data()), buffer.size()};
}

std::uint32_t take_number(std::string_view& bytes, std::size_t size) {
  must(bytes.size() >= size, "a row is not cut short");
  std::uint32_t number = 0;
  for (const char c : bytes.substr(0, size)) number = number << 8 | static_cast<unsigned char>(c);
  bytes.remove_prefix(size);
  return number;
}

// One field of text format; the end of the row or the tab behind it stays.
CopyField take_text(std::string_view& row) {
  if (row.substr(0, 2) == "\\N" && (row.at(2) == '\t' || row.at(2) == '\n')) {
    row.remove_prefix(2);
    return std::nullopt;
  }
  constexpr std::string_view kLetters = "bfnrtv";
  constexpr std::string_view kMeanings = "\b\f\n\r\t\v";
  std::string text;
  while (row.at(0) != '\t' && row.at(0) != '\n') {
    must(row.front() != '\r', "a row has no bare CR");
    if (row.front() == '\\') {
      row.remove_prefix(1);
      must(row.at(0) != '.' && row.at(0) != 'x' && (row.at(0) < '0' || row.at(0) > '9'),
           "a backslash stands before what is escaped only");
      const auto letter = kLetters.find(row.at(0));
      text += letter == std::string_view::npos ? row.front() : kMeanings[letter];
    } else {
      text += row.front();
    }
    row.remove_prefix(1);
  }
  return text;
}

}  // namespace

std::vector<CopyField> binary_row(const sink::CopyEncoder& encoder, const spool::EventView& event,
                                  const spool::Position& position) {
  must(encoder.format() == sink::CopyFormat::binary, "all columns have binary encoders");
  const std::string bytes = encoded(encoder, event, position);
  std::string_view row = bytes;
  std::vector<CopyField> fields(take_number(row, 2));
  for (CopyField& field : fields) {
    const std::uint32_t size = take_number(row, 4);
    if (size == 0xffffffff) continue;
    must(size <= row.size(), "a value is not cut short");
    field = row.substr(0, size);
    row.remove_prefix(size);
  }
  must(row.empty(), "a row ends with its last value");
  return fields;
}

std::vector<CopyField> text_row(const sink::CopyEncoder& encoder, const spool::EventView& event,
                                const spool::Position& position) {
  must(encoder.format() == sink::CopyFormat::text, "a column has no binary encoder");
  const std::string bytes = encoded(encoder, event, position);
  must(!bytes.empty() && bytes.back() == '\n', "a row ends its line");
  std::vector<CopyField> fields;
  for (std::string_view row = bytes; !row.empty(); row.remove_prefix(1)) {
    fields.push_back(take_text(row));
    must(row.front() == '\t' || row.size() == 1, "a row is one line");
  }
  return fields;
}

CopyField json_of(const CopyField& jsonb) {
  if (!jsonb) return std::nullopt;
  must(!jsonb->empty() && jsonb->front() == 1, "jsonb has the version that Postgres knows");
  return jsonb->substr(1);
}

std::string bytes_of(const spool::Uuid& uuid) {
  return {reinterpret_cast<const char*>(uuid.bytes.data()), uuid.bytes.size()};
}

std::string moment_bytes(std::int64_t unix_us) {
  const auto us = static_cast<std::uint64_t>(unix_us - kPostgresEpochUs);
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(us >> shift & 0xff);
  return bytes;
}

bool is_utf8(std::string_view text) {
  TextSeen seen;
  std::string quoted = "\"";
  for (const char c : text) {
    const bool is_plain = static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\';
    quoted += is_plain ? c : ' ';
  }
  return read_json(quoted + '"', {}, seen).has_value() && !seen.bad_utf8;
}

}  // namespace sluice::fuzz
