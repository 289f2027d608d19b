#include "spool/aside_line.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <utility>

#include "spool/crc32c.hpp"
#include "spool/timestamp.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kChecksumKey = R"({"crc32c":")";

std::string utc_text(std::int64_t unix_us) {
  std::array<char, kRfc3339Bytes> text{};
  write_rfc3339(text.data(), unix_us);
  return {text.data(), text.size()};
}

constexpr std::array<std::string_view, kAsideStateCount + 1> kStateNames = {"dead", "waiting",
                                                                            "held", "rejected"};

std::optional<AsideState> state_named(std::string_view name) {
  for (std::size_t i = 0; i < kStateNames.size(); ++i) {
    if (kStateNames[i] == name) return static_cast<AsideState>(i);
  }
  return std::nullopt;
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

std::uint32_t checksum_of(std::string_view rest) {
  Crc32c checksum;
  checksum.add(std::as_bytes(std::span(rest)));
  return checksum.value();
}

std::string checksum_text(std::string_view rest) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%08x", checksum_of(rest));
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

// The members up to and with the index.
bool read_identity(Reader& reader, AsideState& state, Position& position) {
  std::string name;
  std::string segment;
  if (!reader.expect(R"(,"state":")") || !reader.string(name) ||
      !reader.expect(R"(,"segment":")") || !reader.string(segment) ||
      !reader.expect(R"(,"index":)") || !reader.number(position.index)) {
    return false;
  }
  const auto known = state_named(name);
  const auto id = Uuid::parse(segment);
  if (!known || !id) return false;
  state = *known;
  position.segment = *id;
  return true;
}

bool read_time(Reader& reader, std::int64_t& time_us) {
  std::string text;
  if (!reader.string(text)) return false;
  const auto time = parse_rfc3339_us(text, kAllTimes);
  time_us = time.value_or(0);
  return time.has_value();
}

// What lines of the first version lack may be missing.
bool read_origin(Reader& reader, AsideText& text) {
  std::string id;
  if (!reader.expect(R"(,"time":")") || !read_time(reader, text.time_us)) return false;
  if (reader.expect(R"(,"received":")") && !read_time(reader, text.received_us)) return false;
  if (reader.expect(R"(,"id":")")) {
    if (!reader.string(id)) return false;
    text.id = Uuid::parse(id);
  }
  std::uint64_t uid = kNoUid;
  if (!reader.expect(R"(,"uid":)") || !(reader.expect("null") || reader.number(uid))) return false;
  text.uid = static_cast<std::uint32_t>(uid);
  return (!reader.expect(R"(,"route":")") || reader.string(text.route)) &&
         (!reader.expect(R"(,"type":")") || reader.string(text.type));
}

bool read_reason(Reader& reader, AsideText& text) {
  return reader.expect(R"(,"table":")") && reader.string(text.table) &&
         reader.expect(R"(,"sqlstate":")") && reader.string(text.sqlstate) &&
         reader.expect(R"(,"message":")") && reader.string(text.message) &&
         reader.expect(R"(,"column":")") && reader.string(text.column);
}

}  // namespace

std::string_view aside_state_name(AsideState state) {
  return kStateNames[static_cast<std::size_t>(state)];
}

AsideRecord AsideText::record() const {
  return {state,
          position.segment,
          position.index,
          time_us,
          received_us,
          id.value_or(Uuid{}),
          uid,
          route,
          type,
          table,
          sqlstate,
          message,
          column,
          line};
}

std::string aside_line(const AsideRecord& record) {
  std::string rest = R"(,"state":")" + std::string(aside_state_name(record.state)) +
                     R"(","segment":")" + record.segment.text() + R"(","index":)" +
                     std::to_string(record.index);
  append_text(rest, "time", utc_text(record.time_us));
  if (record.received_us != 0) append_text(rest, "received", utc_text(record.received_us));
  if (record.id != Uuid{}) append_text(rest, "id", record.id.text());
  rest += R"(,"uid":)" + (record.uid == kNoUid ? "null" : std::to_string(record.uid));
  append_text(rest, "route", record.route);
  append_text(rest, "type", record.type);
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

std::optional<AsideText> aside_head(std::string_view head) {
  if (!aside_checksum(head)) return std::nullopt;
  Reader reader(head.substr(kAsideChecksumBytes));
  AsideText text;
  if (!read_identity(reader, text.state, text.position)) return std::nullopt;
  if (!read_origin(reader, text) || !read_reason(reader, text)) {
    text.sqlstate = text.message = text.column = "";
  }
  return text;
}

std::optional<AsideText> aside_text(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  const auto checksum = aside_checksum(line);
  if (!checksum || checksum_of(line.substr(kAsideChecksumBytes)) != *checksum) return std::nullopt;
  Reader reader(line.substr(kAsideChecksumBytes));
  AsideText text;
  if (!read_identity(reader, text.state, text.position) || !read_origin(reader, text) ||
      !read_reason(reader, text) || !reader.expect(R"(,"line":")") || !reader.string(text.line) ||
      !reader.expect("}")) {
    return std::nullopt;
  }
  return text;
}

}  // namespace sluice::spool
