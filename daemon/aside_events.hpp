// Makes a set-aside record an event again, by the parser that the daemon reads lines with.
#pragma once

#include <memory>
#include <string>

#include "ingest/event_parser.hpp"
#include "ingest/ingest_counters.hpp"
#include "spool/aside.hpp"
#include "spool/chunk.hpp"

namespace sluice::daemon {

// Thread: one.
class AsideEvents final {
 public:
  // As settings have them for lines that come in. A line that was taken once is not refused for a
  // policy that has become stricter since.
  explicit AsideEvents(ingest::ParserOptions options);
  AsideEvents(const AsideEvents&) = delete;
  AsideEvents& operator=(const AsideEvents&) = delete;

  // Appends the event to the chunk, with the id, the times and the producer that the record says.
  // False: the line makes no event.
  [[nodiscard]] bool make(const spool::AsideText& record, spool::Chunk& chunk);

 private:
  [[nodiscard]] ingest::EventParser& parser_for(const std::string& default_type);

  ingest::ParserOptions options_;
  ingest::IngestCounters counters_;  // nobody looks at them
  std::unique_ptr<ingest::EventParser> parser_;
};

}  // namespace sluice::daemon
