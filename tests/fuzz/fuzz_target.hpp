// What each fuzz target is: one function that takes any bytes and stops the process where something
// that must hold does not. libFuzzer calls it with bytes that it makes; replay_main.cpp with files.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace sluice::fuzz {

// An assertion that holds in each build; `what` is a sentence that was broken.
inline void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Bytes in memory of exactly their size, so that the address sanitizer sees a look past their end.
class ExactBytes final {
 public:
  explicit ExactBytes(std::string_view text) : bytes_(text.begin(), text.end()) {}
  [[nodiscard]] std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  const std::vector<char> bytes_;
};

// The input: some numbers from its front that choose what to do, and the text that it is done to.
//
// The text comes last so that the seeds can be read and written by hand.
class Input final {
 public:
  Input(const std::uint8_t* data, std::size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}

  // The next byte; 0 behind the end.
  [[nodiscard]] unsigned byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  // Up to the next LF, which is taken too; the rest if there is none.
  [[nodiscard]] std::string_view piece() {
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    const std::string_view piece = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return piece;
  }
  [[nodiscard]] std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

}  // namespace sluice::fuzz
