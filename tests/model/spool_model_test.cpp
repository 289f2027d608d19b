// Random histories by seed until the time or the number is up, on every processor; prints how often
// each letter happened, and fails where a promise was broken or a letter never happened.
//
//   sluice_spool_model [--seed S] [--histories N] [--seconds T] [--trace]
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/model/history.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using sluice::model::kLetterNames;
using sluice::model::Tally;

struct Options {
  std::uint64_t seed = std::random_device()();
  std::uint64_t histories = UINT64_MAX;
  double seconds = 10;
  bool trace = false;
};

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--trace") {
      options.trace = true;
      continue;
    }
    const char* value = i + 1 < argc ? argv[++i] : "";
    if (name == "--seed") {
      options.seed = std::strtoull(value, nullptr, 10);
    } else if (name == "--histories") {
      options.histories = std::strtoull(value, nullptr, 10);
      options.seconds = 1e9;
    } else if (name == "--seconds") {
      options.seconds = std::strtod(value, nullptr);
    } else {
      std::fprintf(stderr, "usage: %s [--seed S] [--histories N] [--seconds T] [--trace]\n",
                   argv[0]);
      std::exit(64);
    }
  }
  return options;
}

// What all threads share.
struct Run {
  Options options;
  Clock::time_point end;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> is_broken{false};
  std::mutex mutex;
  Tally tally;
  std::uint64_t done = 0;
};

void run_one(Run& run, std::uint64_t number, Tally& tally) {
  // Neighbouring seeds have nothing in common but this one number.
  const std::uint64_t seed = run.options.seed + number;
  try {
    sluice::model::History history(sluice::tests::SeededRandom(seed).next(), run.options.trace);
    history.run();
    tally.add(history.tally());
  } catch (const std::exception& broken) {
    run.is_broken = true;
    const std::lock_guard lock(run.mutex);
    std::printf("BROKEN: %s\n  again: --histories 1 --trace --seed %llu\n", broken.what(),
                static_cast<unsigned long long>(seed));
  }
}

void work(Run& run) {
  Tally tally;
  std::uint64_t done = 0;
  while (!run.is_broken && Clock::now() < run.end) {
    const std::uint64_t number = run.next++;
    if (number >= run.options.histories) break;
    run_one(run, number, tally);
    ++done;
  }
  const std::lock_guard lock(run.mutex);
  run.tally.add(tally);
  run.done += done;
}

// False if a letter never happened.
bool print(const Run& run, double seconds) {
  std::printf("seed %llu: %llu histories in %.1f s, %.0f a minute\n",
              static_cast<unsigned long long>(run.options.seed),
              static_cast<unsigned long long>(run.done), seconds,
              static_cast<double>(run.done) / seconds * 60);
  bool all = true;
  for (std::size_t i = 0; i < kLetterNames.size(); ++i) {
    const std::uint64_t times = run.tally.of(i);
    all = all && times > 0;
    std::printf("  %-28s %12llu%s\n", kLetterNames[i].data(),
                static_cast<unsigned long long>(times), times == 0 ? "  NEVER" : "");
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  Run run;
  run.options = read_options(argc, argv);
  const Clock::time_point begin = Clock::now();
  run.end = begin + std::chrono::duration_cast<Clock::duration>(
                        std::chrono::duration<double>(run.options.seconds));
  std::vector<std::thread> threads;
  const unsigned count = run.options.trace ? 1 : std::max(1u, std::thread::hardware_concurrency());
  for (unsigned i = 0; i < count; ++i) threads.emplace_back([&run] { work(run); });
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> took = Clock::now() - begin;
  const bool all = print(run, took.count());
  if (run.is_broken) return 1;
  // A few histories cannot have everything.
  return all || run.done < 1'000 ? 0 : 1;
}
