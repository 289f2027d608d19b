// The settings as the event parser takes them.
#pragma once

#include <cstdint>

#include "config/settings.hpp"
#include "ingest/event_parser.hpp"

namespace sluice::daemon {

// `redactor`: as in the options.
[[nodiscard]] ingest::ParserOptions parser_options(const config::Settings& settings,
                                                   std::uint64_t dedupe_seed,
                                                   ingest::Redactor* redactor);

}  // namespace sluice::daemon
