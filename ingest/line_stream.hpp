// The copy of a line that the JSON reader parses in place, as the stream that RapidJSON reads from.
#pragma once

#include <cstddef>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>

#include <bit>
#endif

namespace sluice::ingest {

// As rapidjson::InsituStringStream (whence the names of most members), which steps over strings
// byte by byte until they reach an address that is a multiple of 16: most keys and many values of
// events end before that. Here a run of plain characters is passed in steps of 16 from where it
// begins.
//
// Thread: one. Copied by the reader, so that it lives in registers.
class LineStream {
 public:
  using Ch = char;

  // What pass_run() may look at past the end of the text.
  static constexpr std::size_t kPaddingBytes = 16;

  // REQUIRES: `text` ends with a NUL and kPaddingBytes of any value behind it, and outlives the
  // stream.
  explicit LineStream(char* text) : text_(text), at_(text), out_(text) {}

  [[nodiscard]] char Peek() const { return *at_; }
  char Take() { return *at_++; }
  [[nodiscard]] std::size_t Tell() const { return static_cast<std::size_t>(at_ - text_); }

  // What is decoded is written over the text, from here on.
  char* PutBegin() { return out_ = at_; }
  void Put(char c) { *out_++ = c; }
  std::size_t PutEnd(char* begin) { return static_cast<std::size_t>(out_ - begin); }
  void Flush() {}
  char* Push(std::size_t bytes) {
    char* const begin = out_;
    out_ += bytes;
    return begin;
  }
  void Pop(std::size_t bytes) { out_ -= bytes; }

  // Takes and puts the characters up to the next quote, backslash or control character.
  void pass_run() {
#ifdef __SSE2__
    for (;;) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at_));
      const unsigned ends = run_ends(bytes);
      if (ends != 0) return put_and_take(static_cast<std::size_t>(std::countr_zero(ends)));
      // Writes at most up to what was just read, as the output never overtakes the input.
      if (out_ != at_) _mm_storeu_si128(reinterpret_cast<__m128i*>(out_), bytes);
      at_ += sizeof bytes;
      out_ += sizeof bytes;
    }
#else
    std::size_t length = 0;
    while (!ends_run(at_[length])) ++length;
    put_and_take(length);
#endif
  }

  void skip_space() {
    while (static_cast<unsigned char>(*at_) <= ' ' &&
           (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) {
      ++at_;
    }
  }

 private:
#ifdef __SSE2__
  // SSE2 belongs to every x86-64. One bit for each byte that ends a run.
  static unsigned run_ends(__m128i bytes) {
    const __m128i control = _mm_set1_epi8(0x1f);
    const __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    const __m128i backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    const __m128i controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes);
    return static_cast<unsigned>(
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, backslashes), controls)));
  }
#else
  static bool ends_run(char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
  }
#endif

  void put_and_take(std::size_t bytes) {
    if (out_ != at_) std::memmove(out_, at_, bytes);
    at_ += bytes;
    out_ += bytes;
  }

  char* text_;
  char* at_;   // the next character to read
  char* out_;  // where the next decoded one goes; out_ <= at_
};

}  // namespace sluice::ingest
