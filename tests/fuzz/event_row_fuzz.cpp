// A line becomes a record and the record rows: what stands in the columns is what a plain reading
// of the line says, in the form that Postgres can store. And a line is refused only for a reason.
//
// Input: the parser's policies, and the line.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ingest/event_parser.hpp"
#include "sink/copy_encoder.hpp"
#include "spool/timestamp.hpp"
#include "tests/fuzz/copy_row.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/json_tree.hpp"

namespace sluice::fuzz {
namespace {

using ingest::Refusal;
using sink::BoundColumn;
using sink::Column;
using sink::ColumnType;
using sink::Source;

constexpr std::int64_t kReceivedUs = 1'767'225'600'123'457;  // 2026-01-01
constexpr std::uint32_t kUid = 1000;
constexpr const char* kUnlikelyMember = "no such member";
constexpr std::array<std::string_view, 4> kTimes = {"time", "timestamp", "@timestamp", "ts"};
constexpr std::array<std::string_view, 7> kFields = {
    "type", "id", "source", "session_id", "parent_id", "dedupe_key", "data"};
const spool::Position kPosition{*spool::Uuid::parse("01234567-89ab-cdef-0123-456789abcdef"), 42};

ingest::ParserOptions options_of(unsigned policies) {
  using ingest::NulPolicy;
  constexpr std::array kNuls = {NulPolicy::replace, NulPolicy::strip, NulPolicy::reject};
  ingest::ParserOptions options;
  options.nul = kNuls[(policies & 3) % 3];
  if ((policies & 4) != 0) options.text = ingest::TextPolicy::reject;
  if ((policies & 8) != 0) options.misfit = ingest::MisfitPolicy::reject;
  if ((policies & 16) != 0) options.duplicate_keys = ingest::DuplicateKeyPolicy::reject;
  if ((policies & 64) != 0) options.default_type = "";
  return options;
}

// The line by a plain reading: the tree by which members are known, and the one that is stored.
struct PlainLine {
  JsonTree known;   // strings as the parser compares them
  JsonTree stored;  // the same, mended
  TextSeen seen;
};

std::optional<PlainLine> read_plain(std::string_view line, const ingest::ParserOptions& options) {
  PlainLine plain;
  TextSeen seen;
  auto known = read_json(line, {}, seen);
  const bool strips = options.nul == ingest::NulPolicy::strip;
  const TextRules rules{strips ? TextRules::Nul::strip : TextRules::Nul::replace, true};
  auto stored = read_json(line, rules, plain.seen);
  if (!known || !stored) return std::nullopt;
  plain.known = std::move(*known);
  plain.stored = std::move(*stored);
  return plain;
}

bool is_string(const JsonTree& tree) {
  return tree.kind == JsonTree::Kind::string;
}

bool is_type(const JsonTree& tree) {
  return is_string(tree) && !tree.text.empty() && tree.text.size() <= 200 &&
         std::none_of(tree.text.begin(), tree.text.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte < 0x20 || byte == 0x7F;
         });
}

std::optional<spool::Uuid> id_in(const JsonTree& tree) {
  if (!is_string(tree)) return std::nullopt;
  const auto uuid = spool::Uuid::parse(tree.text);
  return uuid ? uuid : spool::Uuid::parse_ulid(tree.text);
}

// Which member counts for each known field, and what is left.
class PlainEvent {
 public:
  explicit PlainEvent(const PlainLine& line) : line_(line) {
    const auto& members = line.known.members;
    std::vector<bool> is_extra(members.size(), true);
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (is_known(members[i].key)) is_extra[i] = false;
      last_[members[i].key] = i;
    }
    for (const std::string_view field : kFields) {
      const auto member = given(field);
      if (!member) continue;
      if (fits(field, members[*member].value)) {
        taken_[std::string(field)] = *member;
      } else {
        is_extra[*member] = true;
        has_misfit = true;
      }
    }
    take_time(is_extra);
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (is_extra[i]) extra.members.push_back(line.stored.members[i]);
    }
    extra.kind = JsonTree::Kind::object;
  }

  // As it is stored; null if the event has none.
  [[nodiscard]] const JsonTree* field(const std::string& name) const {
    const auto found = taken_.find(name);
    return found == taken_.end() ? nullptr : &line_.stored.members[found->second].value;
  }
  [[nodiscard]] std::optional<spool::Uuid> uuid(const std::string& name) const {
    const auto found = taken_.find(name);
    return found == taken_.end() ? std::nullopt : id_in(line_.known.members[found->second].value);
  }

  static bool is_known(std::string_view key) {
    return std::find(kFields.begin(), kFields.end(), key) != kFields.end() ||
           std::find(kTimes.begin(), kTimes.end(), key) != kTimes.end();
  }

  bool has_misfit = false;
  std::int64_t occurred_us = kReceivedUs;
  JsonTree extra;

 private:
  // The last member of the name, unless it says that there is none.
  [[nodiscard]] std::optional<std::size_t> given(std::string_view name) const {
    const auto found = last_.find(std::string(name));
    if (found == last_.end()) return std::nullopt;
    const bool is_null =
        line_.known.members[found->second].value.kind == JsonTree::Kind::null && name != "data";
    return is_null ? std::nullopt : std::optional(found->second);
  }

  static bool fits(std::string_view field, const JsonTree& value) {
    if (field == "data") return true;
    if (field == "type") return is_type(value);
    if (field == "id" || field == "parent_id") return id_in(value).has_value();
    return is_string(value);
  }

  void take_time(std::vector<bool>& is_extra) {
    bool found = false;
    for (const std::string_view name : kTimes) {
      const auto member = given(name);
      if (!member) continue;
      is_extra[*member] = true;
      if (found) continue;
      found = true;
      const JsonTree& value = line_.known.members[*member].value;
      const auto us = is_string(value)                       ? spool::parse_rfc3339_us(value.text)
                      : value.kind == JsonTree::Kind::number ? spool::parse_epoch_us(value.text)
                                                             : std::nullopt;
      if (us) occurred_us = *us;
      is_extra[*member] = !us;
      has_misfit = has_misfit || !us;
    }
  }

  const PlainLine& line_;
  std::map<std::string, std::size_t> last_;
  std::map<std::string, std::size_t> taken_;
};

// JSON as Postgres takes it for jsonb.
JsonTree stored_json(std::string_view text) {
  TextSeen seen;
  auto tree = read_json(text, {}, seen);
  must(tree.has_value(), "a column's JSON is JSON");
  must(seen.is_clean(), "a column's JSON has no text that Postgres cannot store");
  return std::move(*tree);
}

void must_be_utf8(const std::string& text) {
  must(text.find('\0') == std::string::npos, "text has no NUL");
  must(is_utf8(text), "text is UTF-8");
}

void check_text(const CopyField& field, const JsonTree* expected) {
  must(field.has_value() == (expected != nullptr), "a field is there if the line has it");
  if (!field) return;
  must_be_utf8(*field);
  must(*field == expected->text, "a field is what the line says");
}

void check_json(const CopyField& field, const JsonTree* expected) {
  must(field.has_value() == (expected != nullptr), "JSON is there if the line has it");
  if (field) must(stored_json(*field) == *expected, "JSON is what the line says");
}

void check_uuid(const CopyField& field, const std::optional<spool::Uuid>& expected) {
  must(field.has_value() == expected.has_value(), "an id is there if the line has it");
  if (field) must(*field == bytes_of(*expected), "an id is what the line says");
}

// The columns of the agent_log model and the dedupe key.
void check_fields(const spool::EventView& record, const PlainEvent& event) {
  static const std::vector<Column> kColumns = {
      {"id", Source::id},
      {"occurred_at", Source::occurred_at},
      {"type", Source::type},
      {"source", Source::source},
      {"session_id", Source::session_id},
      {"parent_id", Source::parent_id},
      {"dedupe_key", Source::dedupe_key},
      {"data", Source::data},
      {"extra", Source::extra},
      {"received_at", Source::received_at},
      {"uid", Source::uid},
  };
  static const std::vector<BoundColumn> kBound = {
      {ColumnType::uuid},  {ColumnType::timestamptz}, {ColumnType::text}, {ColumnType::text},
      {ColumnType::text},  {ColumnType::uuid},        {ColumnType::text}, {ColumnType::jsonb},
      {ColumnType::jsonb}, {ColumnType::timestamptz}, {ColumnType::int8},
  };
  const sink::CopyEncoder encoder(kColumns, kBound);
  const auto row = binary_row(encoder, record, kPosition);
  must(row.size() == kColumns.size(), "a row has all its columns");

  check_uuid(row[0], event.uuid("id") ? event.uuid("id") : spool::Uuid{});
  must(row[1] == moment_bytes(event.occurred_us), "the time is the line's");
  JsonTree default_type;
  default_type.text = "log";
  check_text(row[2], event.field("type") != nullptr ? event.field("type") : &default_type);
  check_text(row[3], event.field("source"));
  check_text(row[4], event.field("session_id"));
  check_uuid(row[5], event.uuid("parent_id"));
  check_text(row[6], event.field("dedupe_key"));
  check_json(json_of(row[7]), event.field("data"));
  check_json(json_of(row[8]), event.extra.members.empty() ? nullptr : &event.extra);
  must(row[9] == moment_bytes(kReceivedUs), "the receipt is the daemon's");
  must(row[10] == std::string("\0\0\0\0\0\0\x03\xE8", 8), "the uid is the daemon's");
}

// Of each key the last value, as jsonb has it.
std::map<std::string, JsonTree> as_jsonb(const JsonTree& object) {
  std::map<std::string, JsonTree> members;
  for (const auto& [key, value] : object.members) members[key] = value;
  return members;
}

// Where no column takes a field, `extra` has all of the line but the members that columns take.
void check_all_is_there(const CopyField& field, const PlainLine& line, const PlainEvent& event) {
  std::map<std::string, JsonTree> expected;
  for (std::size_t i = 0; i < line.known.members.size(); ++i) {
    // Two keys that mending makes one: which of them counts is nobody's promise.
    if (line.known.members[i].key != line.stored.members[i].key) return;
  }
  if (event.occurred_us == kReceivedUs) return;
  expected = as_jsonb(line.stored);
  for (const char* const taken : {"m", kUnlikelyMember}) expected.erase(taken);
  JsonTree none;
  none.kind = JsonTree::Kind::object;
  auto found = as_jsonb(field ? stored_json(*field) : none);
  // A known field that is null counts as missing.
  for (auto* members : {&expected, &found}) {
    std::erase_if(*members, [](const auto& member) {
      return PlainEvent::is_known(member.first) && member.second.kind == JsonTree::Kind::null;
    });
  }
  must(found == expected, "nothing that a line says is lost");
}

// A member, a pointer and the line itself, in both formats.
void check_lookups(const spool::EventView& record, const PlainLine& line, const PlainEvent& event) {
  static const std::vector<Column> kColumns = {
      {"extra", Source::extra},       {"line", Source::line},
      {"m", Source::member, "m"},     {"p", Source::pointer, "/data/a"},
      {"q", Source::pointer, "/o/0"}, {"none", Source::member, kUnlikelyMember},
  };
  static const std::vector<BoundColumn> kBinary(kColumns.size(), {ColumnType::json});
  static const std::vector<BoundColumn> kText = [] {
    auto bound = kBinary;
    bound.back() = {ColumnType::other};  // which has no binary encoder
    return bound;
  }();
  const auto row = binary_row(sink::CopyEncoder(kColumns, kBinary), record, kPosition);
  if (line.known.find(kUnlikelyMember) == nullptr) {
    must(row == text_row(sink::CopyEncoder(kColumns, kText), record, kPosition),
         "both formats say the same");
  }
  check_all_is_there(row[0], line, event);
  check_json(row[1], &line.stored);
  if (!line.seen.is_clean()) return;
  check_json(row[2], line.stored.find("m"));
  const JsonTree* const data = line.stored.find("data");
  check_json(row[3], data == nullptr ? nullptr : data->find("a"));
  const JsonTree* const o = line.stored.find("o");
  const bool has_items = o != nullptr && !o->items.empty();
  check_json(row[4], o == nullptr ? nullptr : has_items ? &o->items.front() : o->find("0"));
}

void check_refusal(Refusal refusal, std::string_view text, const ingest::ParserOptions& options) {
  const auto line = read_plain(text, options);
  const bool is_object = line && line->known.kind == JsonTree::Kind::object;
  const bool is_plain = is_object && text.find('\0') == std::string_view::npos;
  switch (refusal) {
    case Refusal::syntax:
    case Refusal::not_object:
    case Refusal::trailing:
      return must(!is_object, "what is one JSON object is not refused as none");
    case Refusal::bad_byte:
      return must(text.find('\0') != std::string_view::npos, "a NUL is refused, and no other byte");
    case Refusal::too_deep:
      return must(!line || line->seen.depth > 64, "64 levels are not too deep");
    case Refusal::nul:
      return must(!is_object || line->seen.nul, "only \\u0000 is refused as that");
    case Refusal::bad_utf8:
      return must(!is_object || line->seen.bad_utf8 || line->seen.lone_surrogate,
                  "good text is not refused as bad");
    case Refusal::limits:
      return must(text.size() > 1000, "a short line breaks no limit");
    case Refusal::number_range:
      return must(text.find_first_of("eE") != std::string_view::npos || text.size() > 300,
                  "a short number without exponent is in range");
    case Refusal::schema:
      return must(is_plain && !PlainEvent(*line).field("type") && options.default_type.empty(),
                  "only a missing type is refused as that");
    case Refusal::misfit:
      return must(is_plain && PlainEvent(*line).has_misfit, "a field that fits is not refused");
    case Refusal::dedupe_key:
      return must(is_plain && line->known.find("dedupe_key") != nullptr,
                  "only a dedupe_key is refused as that");
    case Refusal::duplicate_key:
      return must(is_plain && as_jsonb(line->known).size() < line->known.members.size(),
                  "only a key that is there twice is refused as that");
    case Refusal::no_route:
    case Refusal::too_long:
    case Refusal::full:
      return must(false, "the parser knows nothing of length and room, and here of no routes");
  }
}

void check_accepted(std::string_view text, const ingest::ParserOptions& options,
                    const spool::Chunk& chunk) {
  const auto line = read_plain(text, options);
  must(line && line->known.kind == JsonTree::Kind::object, "what is taken is a JSON object");
  must(line->seen.depth <= 64, "what is taken is not too deep");
  if (options.nul == ingest::NulPolicy::reject) must(!line->seen.nul, "\\u0000 is refused");
  if (options.text == ingest::TextPolicy::reject) {
    must(!line->seen.bad_utf8 && !line->seen.lone_surrogate, "bad text is refused");
  }
  const PlainEvent event(*line);
  if (options.misfit == ingest::MisfitPolicy::reject)
    must(!event.has_misfit, "misfits are refused");
  if (options.default_type.empty()) must(event.field("type") != nullptr, "a type is asked for");
  const spool::EventView record(chunk.bytes().data());
  must(record.line() == text, "a record has the line as it came");
  check_fields(record, event);
  check_lookups(record, *line, event);
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  fuzz::Input input(data, size);
  const ingest::ParserOptions options = fuzz::options_of(input.byte());
  const fuzz::ExactBytes line(input.rest());
  // The splitter hands on no blank line, and none with an LF.
  if (line.view().find_first_not_of(" \t") == std::string_view::npos) return 0;
  if (line.view().find('\n') != std::string_view::npos) return 0;

  ingest::IngestCounters counters;
  ingest::EventParser parser(options, counters);
  spool::ByteBudget budget(std::size_t{64} << 20);
  spool::Chunk chunk(budget, 512);
  const auto refusal =
      parser.parse(line.view(), {.received_us = fuzz::kReceivedUs, .uid = fuzz::kUid}, chunk);
  if (refusal) {
    fuzz::must(chunk.empty(), "a line that is refused leaves no record");
    fuzz::check_refusal(*refusal, line.view(), options);
  } else {
    fuzz::must(chunk.count() == 1, "a line that is taken is one record");
    fuzz::check_accepted(line.view(), options, chunk);
  }
  return 0;
}
