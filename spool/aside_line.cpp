#include "spool/aside_line.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>

#include "spool/crc32c.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kChecksumKey = R"({"crc32c":")";

// 2026-01-01T00:00:00.123456Z
std::string utc_text(std::int64_t unix_us) {
  using namespace std::chrono;
  const sys_time<microseconds> time{microseconds(unix_us)};
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss clock(time - day);
  std::array<char, 64> text{};
  const int length = std::snprintf(
      text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%06dZ",
      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
      static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
      static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()),
      static_cast<int>(clock.subseconds().count()));
  return {text.data(), static_cast<std::size_t>(length)};
}

void append_escaped(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
}

void append_text(std::string& out, std::string_view key, std::string_view text) {
  out += ",\"";
  out += key;
  out += "\":\"";
  append_escaped(out, text);
  out += '"';
}

std::string checksum_text(std::string_view rest) {
  Crc32c checksum;
  checksum.add(std::as_bytes(std::span(rest)));
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%08x", checksum.value());
  return text.data();
}

// Walks over what aside_line() has written.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool expect(std::string_view literal) {
    if (!text_.starts_with(literal)) return false;
    text_.remove_prefix(literal.size());
    return true;
  }
  bool number(std::uint64_t& value, int base = 10) {
    const auto [end, error] =
        std::from_chars(text_.data(), text_.data() + text_.size(), value, base);
    if (error != std::errc()) return false;
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return true;
  }
  // Up to and with the closing quote.
  bool string(std::string& value) {
    value.clear();
    while (!text_.empty()) {
      const char c = text_.front();
      text_.remove_prefix(1);
      if (c == '"') return true;
      if (c != '\\') {
        value += c;
      } else if (!unescape(value)) {
        return false;
      }
    }
    return false;
  }

 private:
  bool unescape(std::string& value) {
    if (text_.empty()) return false;
    const char c = text_.front();
    text_.remove_prefix(1);
    if (c != 'u') {
      value += c;
      return c == '"' || c == '\\';
    }
    unsigned code = 0;
    if (text_.size() < 4) return false;
    const char* const end = text_.data() + 4;
    if (std::from_chars(text_.data(), end, code, 16).ptr != end) return false;
    text_.remove_prefix(4);
    value += static_cast<char>(code);
    return true;
  }

  std::string_view text_;
};

bool read_reason(Reader& reader, AsideHead& head) {
  std::string skipped;
  std::uint64_t uid = 0;
  return reader.expect(R"(,"time":")") && reader.string(skipped) && reader.expect(R"(,"uid":)") &&
         (reader.expect("null") || reader.number(uid)) && reader.expect(R"(,"table":")") &&
         reader.string(skipped) && reader.expect(R"(,"sqlstate":")") &&
         reader.string(head.sqlstate) && reader.expect(R"(,"message":")") &&
         reader.string(head.message) && reader.expect(R"(,"column":")") &&
         reader.string(head.column);
}

}  // namespace

std::string aside_line(const AsideRecord& record) {
  std::string rest = R"(,"state":"dead","segment":")" + record.segment.text() + R"(","index":)" +
                     std::to_string(record.index);
  append_text(rest, "time", utc_text(record.time_us));
  rest += R"(,"uid":)" + (record.uid == kNoUid ? "null" : std::to_string(record.uid));
  append_text(rest, "table", record.table);
  append_text(rest, "sqlstate", record.sqlstate);
  append_text(rest, "message", record.message);
  append_text(rest, "column", record.column);
  append_text(rest, "line", record.line);
  rest += '}';
  return std::string(kChecksumKey) + checksum_text(rest) + '"' + rest + '\n';
}

std::optional<std::uint32_t> aside_checksum(std::string_view head) {
  Reader reader(head);
  std::uint64_t checksum = 0;
  if (head.size() < kAsideChecksumBytes || !reader.expect(kChecksumKey) ||
      !reader.number(checksum, 16) || !reader.expect("\"")) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(checksum);
}

std::optional<AsideHead> aside_head(std::string_view head) {
  if (!aside_checksum(head)) return std::nullopt;
  Reader reader(head.substr(kAsideChecksumBytes));
  AsideHead found;
  std::string segment;
  if (!reader.expect(R"(,"state":"dead","segment":")") || !reader.string(segment) ||
      !reader.expect(R"(,"index":)") || !reader.number(found.index)) {
    return std::nullopt;
  }
  const auto id = Uuid::parse(segment);
  if (!id) return std::nullopt;
  found.segment = *id;
  if (!read_reason(reader, found)) found.sqlstate = found.message = found.column = "";
  return found;
}

}  // namespace sluice::spool
