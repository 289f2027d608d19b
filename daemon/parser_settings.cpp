#include "daemon/parser_settings.hpp"

#include <chrono>

#include "daemon/route_rules.hpp"

namespace sluice::daemon {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;

// A year's first microsecond.
std::int64_t year_us(std::uint64_t year) {
  using namespace std::chrono;
  const sys_days day{std::chrono::year(static_cast<int>(year)) / January / 1};
  return duration_cast<microseconds>(day.time_since_epoch()).count();
}

ingest::ParserLimits parser_limits(const config::Settings& settings) {
  const auto& ingest = settings.ingest;
  ingest::ParserLimits limits;
  limits.depth_max = static_cast<unsigned>(ingest.depth_max);
  limits.keys_max = ingest.keys_max;
  limits.key_bytes_max = ingest.key_bytes_max;
  limits.exponent_max = static_cast<int>(ingest.exponent_max);
  limits.times = {year_us(ingest.first_year), year_us(ingest.last_year + 1) - 1};
  limits.zone = ingest.default_zone == "UTC" ? spool::Zone::optional : spool::Zone::required;
  return limits;
}

}  // namespace

ingest::ParserOptions parser_options(const config::Settings& settings, std::uint64_t dedupe_seed,
                                     ingest::Redactor* redactor) {
  const auto& ingest = settings.ingest;
  ingest::ParserOptions options;
  options.nul = ingest.nul == "strip"    ? ingest::NulPolicy::strip
                : ingest.nul == "reject" ? ingest::NulPolicy::reject
                                         : ingest::NulPolicy::replace;
  options.text = ingest.text == "reject" ? ingest::TextPolicy::reject : ingest::TextPolicy::replace;
  options.misfit =
      ingest.misfit == "reject" ? ingest::MisfitPolicy::reject : ingest::MisfitPolicy::keep;
  options.duplicate_keys = ingest.dup_key == "reject" ? ingest::DuplicateKeyPolicy::reject
                                                      : ingest::DuplicateKeyPolicy::last;
  options.default_type = ingest.default_type;
  options.time_fields = ingest.time_fields;
  options.dedupe_by_uid = settings.dedupe.scope != "global";
  options.dedupe_seed = dedupe_seed;
  options.redactor = redactor;
  options.limits = parser_limits(settings);
  options.routes = route_rules(settings);
  return options;
}

}  // namespace sluice::daemon
