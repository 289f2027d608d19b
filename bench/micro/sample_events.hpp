// A few hundred lines as agents write them, for the micro-benchmarks: about 390 bytes each, with
// escapes, several scripts, nested data, and now and then a field that sluice does not know.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::bench {

inline std::vector<std::string> sample_lines() {
  constexpr std::size_t kLines = 512;
  constexpr std::array<std::string_view, 4> kNotes = {
      "Größe geprüft, alles in Ordnung ✓", R"(line one\nline two\tindented)",
      "no changes needed here, going on with the next file",
      R"(answer: \u00e9t\u00e9 \ud83d\ude80)"};
  std::vector<std::string> lines;
  lines.reserve(kLines);
  for (std::size_t n = 0; n < kLines; ++n) {
    const std::string number = std::to_string(100'000 + n * 7919 % 900'000);
    std::string line = R"({"type":"tool.call","time":"2026-01-01T00:00:00.)" + number +
                       R"(Z","source":"builder-7","session_id":"s-00)" + number +
                       R"(","dedupe_key":"0123456789)" + number +
                       R"(","data":{"tool":"bash","arguments":{"command":"rg -n \"fn main\" src/ )"
                       R"(| head -20\n","cwd":"/srv/agents/)" +
                       number + R"(","timeout_s":60},"status":"success","duration_ms":)" + number +
                       R"(.520,"tokens":{"in":60533,"out":3045},"note":")";
    line += kNotes[n % kNotes.size()];
    line += "\"}";
    if (n % 5 == 0) line += R"(,"attempt":2,"host":"node-17.example")";
    line += '}';
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace sluice::bench
