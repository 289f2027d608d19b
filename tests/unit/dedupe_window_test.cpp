// The dedupe window: what it remembers, for how long, in how much memory.
#include "ingest/dedupe_window.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>
#include <random>
#include <unordered_map>

using sluice::ingest::DedupeHash;
using sluice::ingest::DedupeOptions;
using sluice::ingest::DedupeWindow;
using Outcome = sluice::ingest::DedupeWindow::Outcome;

namespace {

DedupeHash hash_of(std::uint64_t key) {
  return {key * 0x9e3779b97f4a7c15, ~key};
}

// What the window should do, written the plain way: an entry is looked up by its whole hash, and
// keys are let go from the oldest on.
class PlainWindow {
 public:
  explicit PlainWindow(DedupeOptions options) : options_(options) {}

  Outcome insert(const DedupeHash& hash, std::int64_t now_ms) {
    while (!entries_.empty() && now_ms - entries_.front().inserted_ms > options_.window_ms)
      forget();
    if (count(seconds_[hash.first], hash.second) > 0) return Outcome::duplicate;
    const bool conflict = !seconds_[hash.first].empty();
    if (entries_.size() == options_.keys_max) forget();
    entries_.push_back({hash, now_ms});
    ++inserted_;
    seconds_[hash.first].push_back(hash.second);
    return conflict ? Outcome::conflict : Outcome::fresh;
  }

  [[nodiscard]] std::uint64_t mark() const { return inserted_; }
  void rewind(std::uint64_t mark) {
    for (; inserted_ > mark; --inserted_) {
      if (entries_.empty()) continue;
      seconds_[entries_.back().hash.first].pop_back();
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    DedupeHash hash;
    std::int64_t inserted_ms;
  };

  static std::ptrdiff_t count(const std::deque<std::uint64_t>& values, std::uint64_t value) {
    return std::count(values.begin(), values.end(), value);
  }
  void forget() {
    seconds_[entries_.front().hash.first].pop_front();
    entries_.pop_front();
  }

  DedupeOptions options_;
  std::deque<Entry> entries_;
  std::uint64_t inserted_ = 0;
  std::unordered_map<std::uint64_t, std::deque<std::uint64_t>> seconds_;  // in order of insertion
};

}  // namespace

TEST_CASE("dedupe window: the same hash is a duplicate until the window has passed") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 100});
  CHECK(window.insert(hash_of(1), 5'000) == Outcome::fresh);
  CHECK(window.insert(hash_of(2), 5'001) == Outcome::fresh);
  CHECK(window.insert(hash_of(1), 5'001) == Outcome::duplicate);
  CHECK(window.insert(hash_of(1), 6'000) == Outcome::duplicate);
  CHECK(window.keys() == 2);
  CHECK(window.insert(hash_of(1), 6'001) == Outcome::fresh);
  CHECK(window.insert(hash_of(2), 6'001) == Outcome::duplicate);
}

TEST_CASE("dedupe window: a duplicate does not lengthen the window of its original") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 100});
  CHECK(window.insert(hash_of(1), 0) == Outcome::fresh);
  CHECK(window.insert(hash_of(1), 900) == Outcome::duplicate);
  CHECK(window.insert(hash_of(1), 1'001) == Outcome::fresh);
}

TEST_CASE("dedupe window: the first half alone is a conflict, and is remembered as well") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 100});
  CHECK(window.insert({5, 1}, 0) == Outcome::fresh);
  CHECK(window.insert({5, 2}, 0) == Outcome::conflict);
  CHECK(window.insert({5, 2}, 0) == Outcome::duplicate);
  CHECK(window.insert({5, 1}, 0) == Outcome::duplicate);
  CHECK(window.insert({6, 1}, 0) == Outcome::fresh);
}

TEST_CASE("dedupe window: newer keys push out the oldest when keys_max is reached") {
  DedupeWindow window({.window_ms = 1'000'000, .keys_max = 3});
  for (std::uint64_t key = 1; key <= 4; ++key) {
    CHECK(window.insert(hash_of(key), static_cast<std::int64_t>(key)) == Outcome::fresh);
  }
  CHECK(window.keys() == 3);
  CHECK(window.insert(hash_of(2), 5) == Outcome::duplicate);
  CHECK(window.insert(hash_of(4), 5) == Outcome::duplicate);
  CHECK(window.insert(hash_of(1), 5) == Outcome::fresh);
}

TEST_CASE("dedupe window: tells how far back it remembers") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 2});
  CHECK(window.effective_window_ms(0) == 1000);
  (void)window.insert(hash_of(1), 0);
  (void)window.insert(hash_of(2), 100);
  CHECK(window.effective_window_ms(200) == 1000);
  (void)window.insert(hash_of(3), 200);  // key 1 had to go
  CHECK(window.effective_window_ms(200) == 100);
  CHECK(window.effective_window_ms(500) == 400);
  window.expire(1'150);  // key 2 went by its age
  CHECK(window.effective_window_ms(1'150) == 1000);
}

TEST_CASE("dedupe window: with room for no key nothing is a duplicate") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 0});
  CHECK(window.insert(hash_of(1), 0) == Outcome::fresh);
  CHECK(window.insert(hash_of(1), 0) == Outcome::fresh);
  window.prefetch_bucket(hash_of(1));
  window.prefetch_entry(hash_of(1));
  window.expire(10);
  CHECK(window.keys() == 0);
  CHECK(window.memory_bytes() == 0);
}

TEST_CASE("dedupe window: memory comes and goes by slabs and stays within its bound") {
  constexpr std::uint64_t kKeys = 100'000;
  DedupeWindow window({.window_ms = 1000, .keys_max = kKeys});
  const std::size_t empty_bytes = window.memory_bytes();
  CHECK(empty_bytes == 131'072 * 4);
  std::size_t most_bytes = 0;
  for (std::uint64_t key = 0; key < 3 * kKeys; ++key) {
    (void)window.insert(hash_of(key), 0);
    most_bytes = std::max(most_bytes, window.memory_bytes());
  }
  CHECK(window.keys() == kKeys);
  CHECK(most_bytes <= empty_bytes + (kKeys + 2 * 16 * 1024) * 24);
  for (std::uint64_t i = 0; i <= kKeys / 64; ++i) window.expire(2'000);
  CHECK(window.keys() == 0);
  CHECK(window.memory_bytes() <= empty_bytes + 16 * 1024 * 24);
  CHECK(window.insert(hash_of(3 * kKeys - 1), 2'000) == Outcome::fresh);
}

TEST_CASE("dedupe window: one call lets go a bounded number of keys") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 10'000});
  for (std::uint64_t key = 0; key < 10'000; ++key) (void)window.insert(hash_of(key), 0);
  (void)window.insert(hash_of(10'001), 1'000);
  window.expire(1'001);
  CHECK(window.keys() > 9'000);
  CHECK(window.insert(hash_of(9'999), 1'001) == Outcome::fresh);  // stale all the same
}

TEST_CASE("dedupe window: the clock's 32 bits may wrap while keys are in the window") {
  constexpr std::int64_t kWrapMs = std::int64_t{1} << 32;
  DedupeWindow window({.window_ms = 1000, .keys_max = 100});
  CHECK(window.insert(hash_of(1), kWrapMs - 500) == Outcome::fresh);
  CHECK(window.insert(hash_of(1), kWrapMs + 499) == Outcome::duplicate);
  CHECK(window.insert(hash_of(1), kWrapMs + 501) == Outcome::fresh);
}

TEST_CASE("dedupe window: a key is not remembered again when the 32 bits come round") {
  constexpr std::int64_t kWrapMs = std::int64_t{1} << 32;
  DedupeWindow window({.window_ms = 1000, .keys_max = 100'000});
  for (std::uint64_t key = 0; key < 1'000; ++key) (void)window.insert(hash_of(key), 0);
  CHECK(window.insert(hash_of(999), kWrapMs + 500) == Outcome::fresh);
  CHECK(window.keys() == 1);
}

TEST_CASE("dedupe window: a rewind forgets what was inserted since the mark, and nothing else") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 100});
  CHECK(window.insert({1, 1}, 0) == Outcome::fresh);
  const DedupeWindow::Mark mark = window.mark();
  CHECK(window.insert({1, 2}, 5) == Outcome::conflict);
  CHECK(window.insert({1, 1}, 5) == Outcome::duplicate);
  CHECK(window.insert({2, 1}, 5) == Outcome::fresh);
  window.rewind(mark);
  CHECK(window.keys() == 1);
  CHECK(window.insert({1, 1}, 6) == Outcome::duplicate);
  CHECK(window.insert({2, 1}, 6) == Outcome::fresh);
  CHECK(window.insert({1, 2}, 6) == Outcome::conflict);
}

TEST_CASE("dedupe window: a rewind over slabs gives their memory back") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 100'000});
  for (std::uint64_t key = 0; key < 20'000; ++key) (void)window.insert(hash_of(key), 0);
  const std::size_t bytes = window.memory_bytes();
  const DedupeWindow::Mark mark = window.mark();
  for (std::uint64_t key = 20'000; key < 80'000; ++key) (void)window.insert(hash_of(key), 0);
  CHECK(window.memory_bytes() > bytes);
  window.rewind(mark);
  CHECK(window.memory_bytes() == bytes);
  CHECK(window.insert(hash_of(19'999), 0) == Outcome::duplicate);
  CHECK(window.insert(hash_of(79'999), 0) == Outcome::fresh);
}

TEST_CASE("dedupe window: restored keys have the rest of their window") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 100});
  window.restore(hash_of(1), 1'001, 300);  // too old; and the clock was young
  window.restore(hash_of(2), 900, 300);
  window.restore(hash_of(3), 100, 300);
  window.restore(hash_of(4), 200, 300);  // the wall clock went back: as young as the one before
  window.restore(hash_of(5), -50, 300);
  CHECK(window.keys() == 4);
  CHECK(window.insert(hash_of(1), 300) == Outcome::fresh);
  CHECK(window.insert(hash_of(2), 400) == Outcome::duplicate);
  CHECK(window.insert(hash_of(2), 401) == Outcome::fresh);
  CHECK(window.insert(hash_of(3), 1'200) == Outcome::duplicate);
  CHECK(window.insert(hash_of(4), 1'200) == Outcome::duplicate);
  CHECK(window.insert(hash_of(4), 1'201) == Outcome::fresh);
  CHECK(window.insert(hash_of(5), 1'300) == Outcome::duplicate);
  CHECK(window.insert(hash_of(5), 1'301) == Outcome::fresh);
}

TEST_CASE("dedupe window: more restored keys than fit leave the newest") {
  DedupeWindow window({.window_ms = 1000, .keys_max = 3});
  for (std::uint64_t key = 1; key <= 5; ++key) window.restore(hash_of(key), 100, 1'000);
  CHECK(window.keys() == 3);
  CHECK(window.insert(hash_of(3), 1'000) == Outcome::duplicate);
  CHECK(window.insert(hash_of(2), 1'000) == Outcome::fresh);
}

TEST_CASE("dedupe window: agrees with a plain one over random histories") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int history = 0; history < 60; ++history) {
    const DedupeOptions options{.window_ms = static_cast<std::int64_t>(random() % 200),
                                .keys_max = 1 + random() % (history % 2 == 0 ? 20 : 2'000)};
    DedupeWindow window(options);
    PlainWindow plain(options);
    std::int64_t now_ms = static_cast<std::int64_t>(random() % (std::uint64_t{1} << 33));
    DedupeWindow::Mark mark = window.mark();
    std::uint64_t plain_mark = plain.mark();
    for (int i = 0; i < 1'000; ++i) {
      now_ms += static_cast<std::int64_t>(random() % 3);
      if (random() % 200 == 0) now_ms += 150;
      if (random() % 20 == 0) {
        window.rewind(mark);
        plain.rewind(plain_mark);
      }
      if (random() % 10 == 0) {
        mark = window.mark();
        plain_mark = plain.mark();
      }
      const DedupeHash hash{random() % 300, random() % 3};
      if (window.insert(hash, now_ms) != plain.insert(hash, now_ms)) {
        FAIL("history " << history << ", insert " << i);
      }
    }
  }
}
