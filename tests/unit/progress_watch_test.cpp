// When the daemon counts as stuck.
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/sd_notify.hpp"

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;
using Names = std::vector<std::string>;

struct Stage {
  std::uint64_t progress = 0;
  bool has_work = false;
};

WatchedStage watched(const std::string& name, const Stage& stage) {
  return {name, [&stage] { return stage.progress; }, [&stage] { return stage.has_work; }};
}

TEST_CASE("progress watch: a stage with nothing to do is never stuck") {
  Stage journal;
  ProgressWatch watch({watched("journal", journal)}, 10s);
  const ProgressWatch::Clock::time_point start{};
  watch.look(start);
  watch.look(start + 1h);
  CHECK(watch.stuck().empty());
}

TEST_CASE("progress watch: a stage that has work and does not move is stuck after its patience") {
  Stage journal{.progress = 7, .has_work = true};
  ProgressWatch watch({watched("journal", journal)}, 10s);
  const ProgressWatch::Clock::time_point start{};
  watch.look(start);
  watch.look(start + 9s);
  CHECK(watch.stuck().empty());
  watch.look(start + 10s);
  CHECK(watch.stuck() == Names{"journal"});
}

TEST_CASE("progress watch: work that came a moment ago gives a stage its whole patience") {
  Stage journal;
  ProgressWatch watch({watched("journal", journal)}, 10s);
  const ProgressWatch::Clock::time_point start{};
  watch.look(start);
  journal.has_work = true;
  watch.look(start + 1h);
  CHECK(watch.stuck().empty());
  watch.look(start + 1h + 10s);
  CHECK(watch.stuck() == Names{"journal"});
}

TEST_CASE("progress watch: a stage that moves again is not stuck, and only the others are named") {
  Stage journal{.progress = 0, .has_work = true};
  Stage sink{.progress = 0, .has_work = true};
  ProgressWatch watch({watched("journal", journal), watched("sink", sink)}, 10s);
  const ProgressWatch::Clock::time_point start{};
  watch.look(start);
  watch.look(start + 10s);
  CHECK(watch.stuck() == Names{"journal", "sink"});
  ++sink.progress;
  watch.look(start + 15s);
  CHECK(watch.stuck() == Names{"journal"});
}

}  // namespace
}  // namespace sluice::daemon
