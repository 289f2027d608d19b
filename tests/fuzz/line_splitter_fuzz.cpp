// However a connection's bytes are cut, the lines are those of a plain split at each LF.
//
// Input: the limit, the seed of the cuts, and the bytes.
#include <string>
#include <vector>

#include "ingest/line_splitter.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/support/seeded_random.hpp"

namespace sluice::fuzz {
namespace {

using ingest::Line;
using ingest::LineKind;
using ingest::LineSplitter;

struct PlainLine {
  LineKind kind;
  std::string text;

  bool operator==(const PlainLine&) const = default;
};

PlainLine plain_line(std::string_view text, bool is_first, std::size_t bytes_max) {
  if (text.size() > bytes_max) return {LineKind::too_long, ""};
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  if (is_first && text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  for (const char c : text) {
    if (c != ' ' && c != '\t') return {LineKind::whole, std::string(text)};
  }
  return {LineKind::empty, ""};
}

// `behind` becomes what stands behind the last LF.
std::vector<PlainLine> plain_split(std::string_view bytes, std::size_t bytes_max,
                                   std::string_view& behind) {
  std::vector<PlainLine> lines;
  for (std::size_t lf = bytes.find('\n'); lf != std::string_view::npos; lf = bytes.find('\n')) {
    lines.push_back(plain_line(bytes.substr(0, lf), lines.empty(), bytes_max));
    bytes.remove_prefix(lf + 1);
  }
  behind = bytes;
  return lines;
}

void check(std::string_view bytes, std::size_t bytes_max, std::uint64_t seed) {
  std::string_view behind;
  const std::vector<PlainLine> expected = plain_split(bytes, bytes_max, behind);

  tests::SeededRandom random(seed);
  LineSplitter splitter(bytes_max);
  std::vector<PlainLine> lines;
  while (!bytes.empty()) {
    const std::size_t most = random.once_in(2) ? 4 : 64;
    const ExactBytes piece(bytes.substr(0, random.between(1, most)));
    bytes.remove_prefix(piece.view().size());
    splitter.feed(piece.view(), [&](const Line& line) {
      lines.push_back({line.kind, std::string(line.text)});
      must(line.number == lines.size(), "lines are numbered from 1 without a gap");
    });
    must(splitter.carry_bytes() <= bytes_max, "no more is kept than a line may have");
  }
  must(lines == expected, "the lines are those of a plain split");
  must(splitter.lines() == expected.size(), "each LF counts");
  must(splitter.in_line() == !behind.empty(), "a line has begun where bytes stand behind an LF");
  must(splitter.finish() == !behind.empty(), "the end says whether it cut a line");
  must(splitter.carry_bytes() == 0 && !splitter.in_line(), "nothing is kept after the end");
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::fuzz::Input input(data, size);
  const std::size_t bytes_max = 1 + input.byte() % 100;
  const std::uint64_t seed = input.byte();
  sluice::fuzz::check(input.rest(), bytes_max, seed);
  return 0;
}
