// Writes the bench's events: as JSON lines for the socket, and as the rows they become, in COPY's
// text format and in its binary format in two halves. The same seed gives the same bytes.
//
// Usage: sluice_event_generator DIRECTORY EVENTS SEED
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace {

// xoshiro would do as well: what counts is that it is the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // SplitMix64.
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

  template <std::size_t N>
  std::string_view of(const std::array<std::string_view, N>& choices) {
    return choices[below(N)];
  }

 private:
  std::uint64_t state_;
};

// 2026-01-01T00:00:00Z in microseconds since the Unix epoch, and Postgres's epoch on the same
// scale.
constexpr std::int64_t kFirstUs = 1'767'225'600'000'000;
constexpr std::int64_t kPostgresEpochUs = 946'684'800'000'000;

struct Event {
  std::array<std::uint8_t, 16> id{};
  std::int64_t occurred_us = 0;
  std::int64_t received_us = 0;
  std::string type;
  std::string source;
  std::string session_id;
  std::string dedupe_key;
  std::string data;   // JSON
  std::string extra;  // the members of an object without its braces, or empty
};

std::string timestamp(std::int64_t us, char separator, std::string_view zone) {
  const std::int64_t in_month_us = us - kFirstUs;
  const std::int64_t seconds = in_month_us / 1'000'000;
  return fmt::format("2026-01-{:02}{}{:02}:{:02}:{:02}.{:06}{}", 1 + seconds / 86'400, separator,
                     seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, in_month_us % 1'000'000,
                     zone);
}

// Agents' payloads: shell commands with quotes and newlines, prose in several scripts, nested
// arguments, numbers of every look. About one event in five has a field that sluice does not know.
std::string make_data(Random& random) {
  static constexpr std::array<std::string_view, 6> kCommands = {
      R"(rg -n \"fn main\" src/ | head -20\n)",
      R"(git commit -m \"Handle the empty case\" && git push)",
      R"(python3 -c 'print(\"ok\")'\n)",
      R"(sed -i 's/\\t/    /g' lib/parser.c)",
      R"(cat <<EOF > notes.md\nFirst line\nsecond line\nEOF)",
      R"(find . -name '*.hpp' -newer build.ninja)"};
  static constexpr std::array<std::string_view, 6> kNotes = {
      "Größe geprüft, alles in Ordnung ✓",
      "テストが三つ失敗しました",
      R"(line one\nline two\tindented)",
      R"(the answer was \u00e9t\u00e9 and \ud83d\ude80)",
      "no changes needed here, going on with the next file",
      R"(path C:\\Users\\agent\\work is not there)"};
  static constexpr std::array<std::string_view, 4> kStatuses = {"success", "success", "failure",
                                                                "timeout"};
  return fmt::format(
      R"({{"tool":"bash","arguments":{{"command":"{}","cwd":"/srv/agents/{}","timeout_s":{}}},)"
      R"("status":"{}","duration_ms":{}.{:03},"tokens":{{"in":{},"out":{}}},"note":"{}"}})",
      random.of(kCommands), random.below(1000), 30 + random.below(90), random.of(kStatuses),
      random.below(20'000), random.below(1000), random.below(100'000), random.below(4'000),
      random.of(kNotes));
}

Event make_event(std::uint64_t number, Random& random) {
  static constexpr std::array<std::string_view, 5> kTypes = {"tool.call", "tool.result",
                                                             "llm.prompt", "llm.answer", "ci.run"};
  static constexpr std::array<std::string_view, 4> kSources = {"planner", "builder-7", "reviewer",
                                                               "runner"};
  Event event;
  event.occurred_us = kFirstUs + static_cast<std::int64_t>(number) * 100;
  event.received_us = event.occurred_us + 50 + static_cast<std::int64_t>(random.below(40));
  const auto ms = static_cast<std::uint64_t>(event.received_us / 1000);
  for (std::size_t i = 0; i < 6; ++i) {
    event.id[i] = static_cast<std::uint8_t>(ms >> (40 - 8 * i));
  }
  // A UUIDv7 in order: the rest counts up.
  event.id[6] = 0x70;
  event.id[8] = 0x80;
  for (std::size_t i = 0; i < 7; ++i) {
    event.id[9 + i] = static_cast<std::uint8_t>(number >> (48 - 8 * i));
  }
  event.type = random.of(kTypes);
  event.source = random.of(kSources);
  event.session_id = fmt::format("s-{:08x}", random.below(5000) * 0x9e3779b1u & 0xffffffffu);
  event.dedupe_key = fmt::format("{:016x}", random.next());
  event.data = make_data(random);
  if (random.below(5) == 0) {
    event.extra = fmt::format(R"("attempt":{},"host":"node-{}.example")", 1 + random.below(3),
                              random.below(64));
  }
  return event;
}

void append_line(const Event& event, std::string& out) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"type":"{}","time":"{}","source":"{}","session_id":"{}","dedupe_key":"{}",)"
                 R"("data":{}{}{}}})"
                 "\n",
                 event.type, timestamp(event.occurred_us, 'T', "Z"), event.source, event.session_id,
                 event.dedupe_key, event.data, event.extra.empty() ? "" : ",", event.extra);
}

std::string uuid_text(const std::array<std::uint8_t, 16>& id) {
  std::string text;
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    fmt::format_to(std::back_inserter(text), "{:02x}", id[i]);
  }
  return text;
}

// JSON text holds no raw tab or newline, so the backslash is all that COPY's text format must
// escape.
void append_copy_text(std::string_view json, std::string& out) {
  for (const char c : json) {
    if (c == '\\') out += '\\';
    out += c;
  }
}

void append_text_row(const Event& event, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}\t{}\t{}\t{}\t{}\t\\N\t", uuid_text(event.id),
                 timestamp(event.occurred_us, ' ', "+00"), event.type, event.source,
                 event.session_id);
  append_copy_text(event.data, out);
  if (event.extra.empty()) {
    out += "\t\\N";
  } else {
    out += "\t{";
    append_copy_text(event.extra, out);
    out += '}';
  }
  fmt::format_to(std::back_inserter(out), "\t{}\t0\t{}\n", timestamp(event.received_us, ' ', "+00"),
                 event.dedupe_key);
}

template <typename Integer>
void append_integer(Integer value, std::string& out) {
  for (std::size_t i = sizeof(Integer); i-- > 0;) {
    out += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}

void append_field(std::string_view bytes, std::string& out) {
  append_integer(static_cast<std::int32_t>(bytes.size()), out);
  out += bytes;
}

void append_null(std::string& out) {
  append_integer(std::int32_t{-1}, out);
}

void append_timestamp(std::int64_t us, std::string& out) {
  append_integer(std::int32_t{8}, out);
  append_integer(us - kPostgresEpochUs, out);
}

void append_jsonb(std::string_view before, std::string_view json, std::string_view after,
                  std::string& out) {
  append_integer(static_cast<std::int32_t>(1 + before.size() + json.size() + after.size()), out);
  out += '\x01';
  out.append(before).append(json).append(after);
}

void append_binary_row(const Event& event, std::string& out) {
  append_integer(std::int16_t{11}, out);
  append_integer(std::int32_t{16}, out);
  for (const std::uint8_t byte : event.id) out += static_cast<char>(byte);
  append_timestamp(event.occurred_us, out);
  append_field(event.type, out);
  append_field(event.source, out);
  append_field(event.session_id, out);
  append_null(out);  // parent_id
  append_jsonb("", event.data, "", out);
  if (event.extra.empty()) {
    append_null(out);
  } else {
    append_jsonb("{", event.extra, "}", out);
  }
  append_timestamp(event.received_us, out);
  append_integer(std::int32_t{8}, out);  // producer_uid
  append_integer(std::int64_t{0}, out);
  append_field(event.dedupe_key, out);
}

class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "wb"), &std::fclose) {
    if (!file_) throw std::runtime_error("cannot write " + path.string());
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  std::string& buffer() { return buffer_; }
  void flush_if_large() {
    if (buffer_.size() >= kBufferBytes) flush();
  }
  void flush() {
    if (std::fwrite(buffer_.data(), 1, buffer_.size(), file_.get()) != buffer_.size() ||
        std::fflush(file_.get()) != 0) {
      throw std::runtime_error("cannot write " + path_.string());
    }
    buffer_.clear();
  }

 private:
  static constexpr std::size_t kBufferBytes = 1 << 20;
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::string buffer_;
};

void generate(const std::filesystem::path& directory, std::uint64_t events, std::uint64_t seed) {
  using namespace std::string_view_literals;
  Random random(seed);
  OutputFile lines(directory / "events.ndjson");
  OutputFile text(directory / "events.copy");
  std::array<OutputFile, 2> binary = {OutputFile(directory / "events-1.bin"),
                                      OutputFile(directory / "events-2.bin")};
  for (OutputFile& half : binary) half.buffer() += "PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"sv;

  for (std::uint64_t number = 0; number < events; ++number) {
    const Event event = make_event(number, random);
    append_line(event, lines.buffer());
    append_text_row(event, text.buffer());
    // In turn, so that both connections see the key grow as sluice's lanes do.
    append_binary_row(event, binary[number % 2].buffer());
    lines.flush_if_large();
    text.flush_if_large();
    for (OutputFile& half : binary) half.flush_if_large();
  }
  for (OutputFile& half : binary) {
    append_integer(std::int16_t{-1}, half.buffer());
    half.flush();
  }
  lines.flush();
  text.flush();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: sluice_event_generator DIRECTORY EVENTS SEED\n", stderr);
    return 64;
  }
  try {
    generate(argv[1], std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "sluice_event_generator: {}\n", error.what());
    return 74;
  }
}
