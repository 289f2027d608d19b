#include "ingest/event_parser.hpp"

#include <rapidjson/reader.h>
#define XXH_INLINE_ALL
#include <simdjson.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "ingest/json_steps.hpp"
#include "ingest/line_scan.hpp"
#include "ingest/line_stream.hpp"
#include "spool/timestamp.hpp"

namespace sluice::ingest {
namespace {

// UTF-8 under a name of ours, so that the reader takes runs of characters as LineStream passes them
// (see below).
struct LineText : rapidjson::UTF8<> {};

}  // namespace
}  // namespace sluice::ingest

// Where RapidJSON lets others in: how characters of a string are taken, how spaces are skipped, and
// whether a stream is cheap to copy.
namespace rapidjson {

template <>
struct Transcoder<sluice::ingest::LineText, sluice::ingest::LineText> : Transcoder<UTF8<>, UTF8<>> {
  // The reader parses in place: what is put goes to the stream it is taken from.
  template <typename Out>
  static bool Transcode(sluice::ingest::LineStream& in, Out&) {
    in.pass_run();
    return true;
  }
};

template <>
inline void SkipWhitespace(sluice::ingest::LineStream& stream) {
  stream.skip_space();
}

template <>
struct StreamTraits<sluice::ingest::LineStream> {
  enum { copyOptimization = 1 };
};

}  // namespace rapidjson

namespace sluice::ingest {
namespace {

using spool::Field;
using spool::FieldSpan;
using spool::RecordFlag;
using spool::Uuid;
using spool::ValueKind;

constexpr std::size_t kTypeBytesMax = 200;
constexpr std::size_t kDedupeKeyBytesMax = 256;
// Why exponents are bounded: Postgres takes numbers of up to 131,072 digits before and 16,383 after
// the point, but 1e131071 is eight bytes that become 131,079 characters for whoever reads them.
constexpr std::size_t kScaleMax = 16'383;
// No shorter number without exponent is out of range.
constexpr std::size_t kShortNumberBytes = 300;
// As the longest line: a redacted one may be longer than it came.
constexpr std::size_t kRedactedBytesMax = 16 * 1024 * 1024 - 1024;
constexpr std::int64_t kSkewUs = 86'400'000'000;

constexpr unsigned kParseFlags =
    rapidjson::kParseInsituFlag | rapidjson::kParseNumbersAsStringsFlag;
// A NUL, and what the stream may look at behind it.
constexpr std::size_t kPaddingBytes = 1 + LineStream::kPaddingBytes;
constexpr std::size_t kScratchKeptBytes = 256 * 1024;

// What a top-level member is to an event. The times come last: kTime + i is time_fields[i].
enum Known : std::size_t {
  kType,
  kId,
  kSource,
  kSessionId,
  kParentId,
  kDedupeKey,
  kData,
  kTime,
};
constexpr std::size_t kUnknown = ~std::size_t{0};
constexpr std::size_t kNone = ~std::size_t{0};

// A top-level member. Offsets are into the line; `key` and `string` are decoded, in the scratch
// copy.
struct Member {
  std::uint32_t key_begin = 0;
  std::uint32_t value_begin = 0;
  std::uint32_t value_end = 0;
  ValueKind kind = ValueKind::null;
  bool is_extra = false;
  std::size_t known = kUnknown;
  std::string_view key;
  std::string_view string;  // of a string value
};

bool is_json_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Whether the string that opens at `at` and decodes to `decoded_bytes` has no escapes: an escape is
// longer than what it stands for, so where the text would end without any stands another byte, or a
// quote that belongs to an escape.
bool is_plain_string(std::string_view line, std::uint32_t at, std::size_t decoded_bytes) {
  return line[at + 1 + decoded_bytes] == '"' && line[at + decoded_bytes] != '\\';
}

// The first place from `at` on that is no space; line.size() if there is none.
std::uint32_t skip_space(std::string_view line, std::uint32_t at) {
  while (at < line.size() && is_json_space(line[at])) ++at;
  return at;
}

// Past the closing quote of the string that opens at `at`.
// REQUIRES: there is one.
std::uint32_t end_of_string(std::string_view line, std::uint32_t at) {
  for (++at; line[at] != '"'; ++at) {
    if (line[at] == '\\') ++at;
  }
  return at + 1;
}

bool number_fits(std::string_view number, int exponent_max) {
  const auto exponent_at = number.find_first_of("eE");
  const auto mantissa = number.substr(0, exponent_at);
  const long exponent =
      exponent_at == std::string_view::npos
          ? 0
          : std::strtol(std::string(number.substr(exponent_at + 1)).c_str(), nullptr, 10);
  if (exponent > exponent_max || exponent < -static_cast<long>(kScaleMax)) return false;
  const auto point = mantissa.find('.');
  const long fraction_digits =
      point == std::string_view::npos ? 0 : static_cast<long>(mantissa.size() - point - 1);
  return fraction_digits - exponent <= static_cast<long>(kScaleMax);
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

// Another user's keys hash apart: multiplied by an odd constant, no two uids give the same seed.
std::uint64_t seed_of(std::uint64_t seed, std::uint32_t uid) {
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;
  return seed ^ (uid * kOdd);
}

std::string json_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace

// One line on its way to a record: validated by RapidJSON's reader, which calls the handler's
// functions below, then its top-level members are sorted into fields.
//
// Why not RapidJSON's own UTF-8 validation and its iterative mode: validation looks at each
// character by itself (more than half as much again for an event of 400 bytes) where simdjson's
// check of the whole line costs a tenth of that, only for lines that are not ASCII; and a handler
// that stops at depth 64 bounds the recursion as well as the iterative mode does, which is a sixth
// slower. Its 16-byte scan of strings begins at the next multiple of 16, behind the end of most
// strings of events; LineStream's begins with the string, and the parse takes a third less.
// In-situ parsing in a scratch copy saves another tenth and tells where each string stands.
class EventParser::Document {
 public:
  Document(ParserOptions options, IngestCounters& counters)
      : options_(std::move(options)),
        default_type_(options_.default_type.empty() ? "" : json_quoted(options_.default_type)),
        routes_(options_.routes, options_.time_fields),
        counters_(counters) {
    latest_.resize(kTime + options_.time_fields.size());
  }

  std::optional<Refusal> parse(std::string_view line, const Receipt& receipt, spool::Chunk& chunk) {
    line_ = line;
    kept_line_ = options_.redactor == nullptr ? line : std::string_view();
    refused_field_ = {};
    receipt_ = receipt;
    header_ = {};
    if (const auto refusal = copy_and_mend()) return refusal;
    if (const auto refusal = read_members()) return refusal;
    if (options_.redactor != nullptr) {
      if (const auto refusal = redact()) return refusal;
    }
    if (const auto refusal = sort_members()) return refusal;
    gather_spans();
    count_accepted();
    chunk.append(header_, fields_, line_, tail_);
    if (scratch_.size() > kScratchKeptBytes) {
      scratch_.resize(kScratchKeptBytes);
      scratch_.shrink_to_fit();
    }
    return std::nullopt;
  }

  std::optional<std::span<const TopMember>> members(std::string_view line) {
    line_ = line;
    header_ = {};
    if (copy_and_mend() || read_members()) return std::nullopt;
    top_members_.clear();
    for (const Member& member : members_) {
      top_members_.push_back(
          {member.key, member.kind, is_string(member) ? member.string : raw(member)});
    }
    return top_members_;
  }

  [[nodiscard]] std::string_view refused_field() const { return refused_field_; }
  [[nodiscard]] std::string_view kept_line() const { return kept_line_; }
  [[nodiscard]] bool redacts() const { return options_.redactor != nullptr; }

  [[nodiscard]] spool::ProducerKey producer_key(std::string_view name, std::uint32_t uid) const {
    const XXH128_hash_t hash =
        XXH3_128bits_withSeed(name.data(), name.size(), seed_of(options_.dedupe_seed, uid));
    return {hash.low64, hash.high64};
  }

  // --- RapidJSON's handler ---

  bool Null() { return scalar(ValueKind::null); }
  bool Bool(bool) { return scalar(ValueKind::boolean); }
  bool RawNumber(const char* text, rapidjson::SizeType length, bool) {
    const std::string_view number(text, length);
    const bool simple =
        length < kShortNumberBytes &&
        std::none_of(number.begin(), number.end(), [](char c) { return c == 'e' || c == 'E'; });
    if (!simple && !number_fits(number, options_.limits.exponent_max))
      return refuse(Refusal::number_range);
    return scalar(ValueKind::number);
  }
  bool String(const char* text, rapidjson::SizeType length, bool) {
    if (depth_ == 1) members_.back().string = {text, length};
    return scalar(ValueKind::string);
  }
  bool StartObject() { return depth_ == 0 ? enter() : container(ValueKind::object); }
  bool StartArray() {
    return depth_ == 0 ? refuse(Refusal::not_object) : container(ValueKind::array);
  }
  bool Key(const char* text, rapidjson::SizeType length, bool) {
    if (length > options_.limits.key_bytes_max) return refuse(Refusal::limits);
    return depth_ != 1 || begin_member({text, length});
  }
  bool EndObject(rapidjson::SizeType member_count) {
    --depth_;
    return member_count <= options_.limits.keys_max || refuse(Refusal::limits);
  }
  bool EndArray(rapidjson::SizeType) {
    --depth_;
    return true;
  }
  // Never called under kParseNumbersAsStringsFlag, but the reader wants to see them.
  bool Int(int) { return false; }
  bool Uint(unsigned) { return false; }
  bool Int64(std::int64_t) { return false; }
  bool Uint64(std::uint64_t) { return false; }
  bool Double(double) { return false; }

 private:
  bool refuse(Refusal refusal) {
    refusal_ = refusal;
    return false;
  }

  // Fills the scratch copy that is parsed in place, looks for what Postgres could not store and
  // notes in the header's flags what the encoder has to mend.
  std::optional<Refusal> copy_and_mend() {
    const LineScan scan = scan_line(line_);
    if (scan.has_nul) return Refusal::bad_byte;
    // One code for them all, wherever they stand.
    if (scan.has_control) return Refusal::syntax;
    if (scratch_.size() < line_.size() + kPaddingBytes) {
      scratch_.resize(line_.size() + kPaddingBytes);
    }
    std::memcpy(scratch_.data(), line_.data(), line_.size());
    std::memset(scratch_.data() + line_.size(), 0, kPaddingBytes);

    bool bad_text = scan.has_non_ascii && !simdjson::validate_utf8(line_.data(), line_.size());
    EscapeScan escapes;
    if (scan.has_backslash) escapes = mend_escapes({scratch_.data(), line_.size()});
    bad_text = bad_text || escapes.has_lone_surrogate;

    if (bad_text) {
      if (options_.text == TextPolicy::reject) return Refusal::bad_utf8;
      header_.flags |= RecordFlag::kReplaceText;
    }
    if (escapes.has_nul) {
      if (options_.nul == NulPolicy::reject) return Refusal::nul;
      header_.flags |=
          options_.nul == NulPolicy::strip ? RecordFlag::kStripNul : RecordFlag::kReplaceNul;
    }
    return std::nullopt;
  }

  // What is counted of accepted events only.
  void count_accepted() {
    if (key_is_twice_) add(counters_.duplicate_keys, 1);
    if ((header_.flags & RecordFlag::kReplaceText) != 0) add(counters_.text_mended, 1);
    constexpr unsigned kNul = RecordFlag::kReplaceNul | RecordFlag::kStripNul;
    if ((header_.flags & kNul) != 0) add(counters_.nul_mended, 1);
  }

  std::optional<Refusal> read_members() {
    members_.clear();
    depth_ = 0;
    refusal_.reset();
    LineStream stream(scratch_.data());
    const auto result = reader_.Parse<kParseFlags>(stream, *this);
    if (result.IsError()) {
      switch (result.Code()) {
        case rapidjson::kParseErrorTermination:
          return refusal_.value_or(Refusal::syntax);
        case rapidjson::kParseErrorDocumentRootNotSingular:
          return Refusal::trailing;
        case rapidjson::kParseErrorNumberTooBig:
          return Refusal::number_range;
        default:
          return Refusal::syntax;
      }
    }
    if (!members_.empty()) end_member(static_cast<std::uint32_t>(line_.rfind('}')));
    return std::nullopt;
  }

  // The line at hand becomes the redacted one, as if it had come so.
  std::optional<Refusal> redact() {
    const std::string_view redacted = options_.redactor->redact(line_, type_text());
    if (redacted.size() > kRedactedBytesMax) return Refusal::too_long;
    kept_line_ = redacted;
    if (redacted.data() == line_.data()) return std::nullopt;
    line_ = redacted;
    header_ = {};
    if (const auto refusal = copy_and_mend()) return refusal;
    return read_members();
  }

  [[nodiscard]] std::string_view type_text() const {
    const auto type = std::find_if(members_.rbegin(), members_.rend(),
                                   [](const Member& member) { return member.known == kType; });
    return type != members_.rend() && fits_type(*type) ? type->string : options_.default_type;
  }

  bool enter() { return ++depth_ <= options_.limits.depth_max || refuse(Refusal::too_deep); }

  bool scalar(ValueKind kind) {
    if (depth_ == 0) return refuse(Refusal::not_object);
    if (depth_ == 1) members_.back().kind = kind;
    return true;
  }

  bool container(ValueKind kind) {
    if (depth_ == 1) members_.back().kind = kind;
    return enter();
  }

  bool begin_member(std::string_view key) {
    const auto key_begin = static_cast<std::uint32_t>(key.data() - scratch_.data() - 1);
    if (members_.size() == options_.limits.keys_max) return refuse(Refusal::limits);
    if (!members_.empty()) end_member(key_begin);

    Member& member = members_.emplace_back();
    member.key = key;
    member.known = known(key);
    member.key_begin = key_begin;
    std::uint32_t at = is_plain_string(line_, key_begin, key.size())
                           ? key_begin + static_cast<std::uint32_t>(key.size()) + 2
                           : end_of_string(line_, key_begin);
    // The reader has not looked behind the key yet: there may be no colon and no value, and then
    // the line is refused.
    at = skip_space(line_, at);
    if (at < line_.size()) ++at;  // the colon
    member.value_begin = skip_space(line_, at);
    return true;
  }

  // `limit`: where the next key, or the object's closing brace, stands in the line.
  void end_member(std::uint32_t limit) {
    Member& member = members_.back();
    std::uint32_t end = limit;
    while (is_json_space(line_[end - 1])) --end;
    if (line_[limit] == '"') --end;  // the comma
    while (is_json_space(line_[end - 1])) --end;
    member.value_end = end;
    if (member.kind == ValueKind::string &&
        !is_plain_string(line_, member.value_begin, member.string.size())) {
      member.kind = ValueKind::escaped_string;
    }
  }

  [[nodiscard]] std::size_t known(std::string_view key) const {
    switch (key.size()) {
      case 2:
        if (key == "id") return kId;
        break;
      case 4:
        if (key == "type") return kType;
        if (key == "data") return kData;
        break;
      case 6:
        if (key == "source") return kSource;
        break;
      case 9:
        if (key == "parent_id") return kParentId;
        break;
      case 10:
        if (key == "session_id") return kSessionId;
        if (key == "dedupe_key") return kDedupeKey;
        break;
      default:
        break;
    }
    for (std::size_t i = 0; i < options_.time_fields.size(); ++i) {
      if (key == options_.time_fields[i]) return kTime + i;
    }
    return kUnknown;
  }

  [[nodiscard]] std::string_view raw(const Member& member) const {
    return line_.substr(member.value_begin, member.value_end - member.value_begin);
  }

  // Decides for each member whether it is a field, part of `extra`, or nothing: a known key's
  // earlier duplicates. Those of other keys all go to `extra`, where jsonb keeps the last.
  std::optional<Refusal> sort_members() {
    header_.uid = receipt_.uid;
    header_.received_us = receipt_.received_us;
    header_.occurred_us = receipt_.received_us;
    spool::set_line_delta(header_, receipt_.line_delta);
    fields_.clear();
    tail_ = {};
    key_is_twice_ = has_duplicate_keys();
    if (key_is_twice_ && options_.duplicate_keys == DuplicateKeyPolicy::reject) {
      return Refusal::duplicate_key;
    }
    std::fill(latest_.begin(), latest_.end(), kNone);
    for (std::size_t i = 0; i < members_.size(); ++i) {
      Member& member = members_[i];
      if (member.known == kUnknown) {
        member.is_extra = true;
        continue;
      }
      latest_[member.known] = i;
    }
    return sort_known();
  }

  // The member that counts for a known field; none if it is missing or, but for `data`, null.
  [[nodiscard]] Member* given(std::size_t which) {
    if (latest_[which] == kNone) return nullptr;
    Member& member = members_[latest_[which]];
    return member.kind == ValueKind::null && which != kData ? nullptr : &member;
  }

  std::optional<Refusal> sort_known() {
    if (const auto refusal = sort_type()) return refusal;
    if (const auto refusal = sort_text(kSource, Field::source, KnownField::source)) return refusal;
    if (const auto refusal = sort_text(kSessionId, Field::session_id, KnownField::session_id)) {
      return refusal;
    }
    if (const auto refusal = sort_parent_id()) return refusal;
    if (const auto refusal = sort_id()) return refusal;
    if (const auto refusal = sort_dedupe_key()) return refusal;
    if (const Member* data = given(kData)) add_field(Field::data, *data);
    if (const auto refusal = sort_time()) return refusal;
    return options_.routes.empty() ? std::nullopt : follow_route();
  }

  std::optional<Refusal> follow_route() {
    const auto route = routes_.find(type_text());
    if (!route) return Refusal::no_route;
    const RouteRule& rule = options_.routes[*route];
    const bool has_key = (header_.flags & RecordFlag::kHasDedupeKey) != 0;
    if (!rule.dedupe.empty() && !has_key) compute_key(rule, routes_.key(*route));
    for (const std::string& name : rule.required) {
      if (is_there(name)) continue;
      refused_field_ = name;
      return Refusal::schema;
    }
    return std::nullopt;
  }

  // A known field not as a misfit, and but for `data` not as null. Of others null is a value if
  // their column is of JSON, which only the sink knows.
  [[nodiscard]] bool is_there(std::string_view name) const {
    if (name == "dedupe_key") return (header_.flags & RecordFlag::kHasDedupeKey) != 0;
    const Member* member = last_member(name);
    if (member == nullptr) return false;
    if (member->known == kUnknown) return true;
    return !member->is_extra && (member->kind != ValueKind::null || member->known == kData);
  }

  void compute_key(const RouteRule& rule, const RouteRules::Key& key) {
    if (key.condition && !value_of(*key.condition)) return;
    computed_key_.clear();
    for (const RouteRules::Value& part : key.parts) {
      computed_key_.add(value_of(part), part.characters_max);
    }
    if (!computed_key_.has_values()) return;
    const std::string_view bytes = computed_key_.bytes();
    const XXH128_hash_t hash =
        XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed() ^ key.domain);
    take_dedupe_hash(hash);
    if (!rule.stores_key) return;
    const std::size_t begin = line_.size() + tail_.size();
    tail_text_ = tail_;
    tail_text_ += '"';
    tail_text_ += computed_key_.digits();
    tail_text_ += '"';
    tail_ = tail_text_;
    fields_.push_back(
        span(Field::dedupe_key, ValueKind::string, begin, line_.size() + tail_.size() - begin));
  }

  // As text; none: the event does not have it, or null. Lives until the next call.
  std::optional<std::string_view> value_of(const RouteRules::Value& value) {
    const Member* member = nullptr;
    for (const std::string& name : value.names) {
      if (name == "type" && value.tokens.empty()) return type_text();
      member = last_member(name);
      if (member != nullptr && member->kind != ValueKind::null) break;
    }
    if (member == nullptr || member->kind == ValueKind::null) return std::nullopt;
    if (value.tokens.empty()) return is_string(*member) ? member->string : raw(*member);
    const auto found = follow_pointer(raw(*member), value.tokens);
    if (!found || *found == "null") return std::nullopt;
    if (!found->starts_with('"')) return found;
    value_text_ = decoded_json(found->substr(1, found->size() - 2));
    return value_text_;
  }

  [[nodiscard]] const Member* last_member(std::string_view name) const {
    const auto found = std::find_if(members_.rbegin(), members_.rend(),
                                    [&](const Member& member) { return member.key == name; });
    return found == members_.rend() ? nullptr : &*found;
  }

  std::optional<Refusal> sort_type() {
    Member* type = given(kType);
    if (type != nullptr) {
      if (fits_type(*type)) {
        add_field(Field::type, *type);
        return std::nullopt;
      }
      if (const auto refusal = misfit(*type, KnownField::type)) return refusal;
    }
    if (default_type_.empty()) {
      refused_field_ = "type";
      return Refusal::schema;
    }
    tail_ = default_type_;
    fields_.push_back(span(Field::type,
                           default_type_.find('\\') == std::string::npos
                               ? ValueKind::string
                               : ValueKind::escaped_string,
                           line_.size(), default_type_.size()));
    return std::nullopt;
  }

  std::optional<Refusal> sort_text(std::size_t which, Field field, KnownField name) {
    Member* member = given(which);
    if (member == nullptr) return std::nullopt;
    if (!is_string(*member)) return misfit(*member, name);
    add_field(field, *member);
    return std::nullopt;
  }

  std::optional<Refusal> sort_parent_id() {
    Member* member = given(kParentId);
    if (member == nullptr) return std::nullopt;
    if (!is_string(*member) || !parse_id(member->string)) {
      return misfit(*member, KnownField::parent_id);
    }
    add_field(Field::parent_id, *member);
    return std::nullopt;
  }

  std::optional<Refusal> sort_id() {
    Member* member = given(kId);
    if (member == nullptr) return std::nullopt;
    const auto id = is_string(*member) ? parse_id(member->string) : std::nullopt;
    if (!id) {
      if (const auto refusal = misfit(*member, KnownField::id)) return refusal;
    } else {
      header_.id = *id;
      header_.flags |= RecordFlag::kHasId;
      fields_.push_back(member_span(Field::id_member, *member));
    }
    header_.flags |= RecordFlag::kHasIdKey;
    // The id by its value, so that another spelling of the same UUID is the same id.
    const std::string_view value =
        id ? std::string_view(reinterpret_cast<const char*>(id->bytes.data()), id->bytes.size())
           : raw(*member);
    constexpr std::uint64_t kIdDomain = 0x6964;
    header_.dedupe_hash[0] = XXH3_64bits_withSeed(value.data(), value.size(), seed() ^ kIdDomain);
    header_.dedupe_hash[1] = XXH3_64bits_withSeed(line_.data(), line_.size(), seed());
    return std::nullopt;
  }

  std::optional<Refusal> sort_dedupe_key() {
    Member* member = given(kDedupeKey);
    if (member == nullptr) return std::nullopt;
    const std::string_view key = member->string;
    const bool fits = is_string(*member) && !key.empty() && key.size() <= kDedupeKeyBytesMax &&
                      key.find('\0') == std::string_view::npos;
    if (!fits) return Refusal::dedupe_key;
    take_dedupe_hash(XXH3_128bits_withSeed(key.data(), key.size(), seed()));
    add_field(Field::dedupe_key, *member);
    return std::nullopt;
  }

  void take_dedupe_hash(const XXH128_hash_t& hash) {
    header_.dedupe_hash[0] = hash.low64;
    header_.dedupe_hash[1] = hash.high64;
    header_.flags = static_cast<std::uint8_t>((header_.flags & ~RecordFlag::kHasIdKey) |
                                              RecordFlag::kHasDedupeKey);
  }

  std::optional<Refusal> sort_time() {
    bool found = false;
    for (std::size_t i = kTime; i < latest_.size(); ++i) {
      Member* member = given(i);
      if (member == nullptr) continue;
      if (found) {
        member->is_extra = true;
        continue;
      }
      found = true;
      const auto us =
          is_string(*member)
              ? spool::parse_rfc3339_us(member->string, options_.limits.times, options_.limits.zone)
          : member->kind == ValueKind::number
              ? spool::parse_epoch_us(raw(*member), options_.limits.times)
              : std::nullopt;
      if (!us) {
        if (const auto refusal = misfit(*member, KnownField::time)) return refusal;
        continue;
      }
      header_.occurred_us = *us;
      if (std::abs(*us - receipt_.received_us) > kSkewUs) add(counters_.time_skew, 1);
    }
    return std::nullopt;
  }

  // The rest: runs of members for `extra`, neighbours as one.
  void gather_spans() {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (!members_[i].is_extra) continue;
      std::size_t last = i;
      while (last + 1 < members_.size() && members_[last + 1].is_extra) ++last;
      const std::uint32_t begin = members_[i].key_begin;
      fields_.push_back(
          span(Field::extra, ValueKind::members, begin, members_[last].value_end - begin));
      i = last;
    }
  }

  static bool is_string(const Member& member) {
    return member.kind == ValueKind::string || member.kind == ValueKind::escaped_string;
  }

  static bool fits_type(const Member& type) {
    return is_string(type) && !type.string.empty() && type.string.size() <= kTypeBytesMax &&
           !has_control_character(type.string);
  }

  static std::optional<Uuid> parse_id(std::string_view text) {
    if (const auto uuid = Uuid::parse(text)) return uuid;
    return Uuid::parse_ulid(text);
  }

  std::optional<Refusal> misfit(Member& member, KnownField name) {
    add(counters_.misfits[static_cast<std::size_t>(name)], 1);
    if (options_.misfit == MisfitPolicy::reject) {
      refused_field_ = field_name(member);
      return Refusal::misfit;
    }
    member.is_extra = true;
    return std::nullopt;
  }

  // Ours, not the producer's. REQUIRES: the member is a known one.
  [[nodiscard]] std::string_view field_name(const Member& member) const {
    constexpr std::array<std::string_view, kTime> kNames = {
        "type", "id", "source", "session_id", "parent_id", "dedupe_key", "data"};
    return member.known < kTime ? kNames[member.known]
                                : std::string_view(options_.time_fields[member.known - kTime]);
  }

  // Equal keys need equal lengths and first and last bytes: only if that bit is taken are keys
  // compared.
  [[nodiscard]] bool has_duplicate_keys() const {
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      const std::string_view key = members_[i].key;
      const std::size_t mark = key.empty()
                                   ? 0
                                   : key.size() * 31 + static_cast<unsigned char>(key.front()) * 7 +
                                         static_cast<unsigned char>(key.back());
      const std::uint64_t bit = std::uint64_t{1} << (mark & 63);
      if ((seen & bit) != 0 &&
          std::any_of(members_.begin(), members_.begin() + static_cast<std::ptrdiff_t>(i),
                      [&](const Member& earlier) { return earlier.key == key; })) {
        return true;
      }
      seen |= bit;
    }
    return false;
  }

  [[nodiscard]] std::uint64_t seed() const {
    return options_.dedupe_by_uid ? seed_of(options_.dedupe_seed, receipt_.uid)
                                  : options_.dedupe_seed;
  }

  static FieldSpan span(Field field, ValueKind kind, std::size_t begin, std::size_t length) {
    FieldSpan span{};
    span.begin = static_cast<std::uint32_t>(begin) & 0xffffff;
    span.field = static_cast<std::uint8_t>(field);
    span.length = static_cast<std::uint32_t>(length) & 0xffffff;
    span.kind = static_cast<std::uint8_t>(kind);
    return span;
  }
  static FieldSpan member_span(Field field, const Member& member) {
    return span(field, ValueKind::members, member.key_begin, member.value_end - member.key_begin);
  }
  void add_field(Field field, const Member& member) {
    fields_.push_back(
        span(field, member.kind, member.value_begin, member.value_end - member.value_begin));
  }

  const ParserOptions options_;
  const std::string default_type_;  // as a JSON string, or empty
  RouteRules routes_;
  IngestCounters& counters_;
  rapidjson::GenericReader<LineText, LineText> reader_;
  std::vector<char> scratch_;  // the line, decoded in place by the reader, then zeros

  // Of the line at hand.
  std::string_view line_;
  std::string_view kept_line_;
  std::string_view refused_field_;
  std::string_view tail_;
  std::string tail_text_;  // where tail_ is made of two
  Receipt receipt_;
  unsigned depth_ = 0;
  std::optional<Refusal> refusal_;
  std::vector<Member> members_;
  bool key_is_twice_ = false;
  std::vector<std::size_t> latest_;  // by Known: the last member with that key, or kNone
  spool::RecordHeader header_{};
  std::vector<FieldSpan> fields_;
  std::vector<TopMember> top_members_;
  ComputedKey computed_key_;
  std::string value_text_;
};

EventParser::EventParser(ParserOptions options, IngestCounters& counters)
    : document_(std::make_unique<Document>(std::move(options), counters)) {}
EventParser::~EventParser() = default;

std::optional<Refusal> EventParser::parse(std::string_view line, const Receipt& receipt,
                                          spool::Chunk& chunk) {
  return document_->parse(line, receipt, chunk);
}

std::optional<std::span<const TopMember>> EventParser::members(std::string_view line) {
  return document_->members(line);
}

std::string_view EventParser::refused_field() const {
  return document_->refused_field();
}

std::string_view EventParser::kept_line() const {
  return document_->kept_line();
}

bool EventParser::redacts() const {
  return document_->redacts();
}

spool::ProducerKey EventParser::producer_key(std::string_view name, std::uint32_t uid) const {
  return document_->producer_key(name, uid);
}

}  // namespace sluice::ingest
