#include "daemon/spool_log.hpp"

namespace sluice::daemon {

void SpoolLog::torn_tail(const spool::Uuid& segment, std::uint64_t bytes) {
  next_.torn_tail(segment, bytes);
  // A file that somebody cut short later on looks just like it.
  log_.info(
      "cut off the end of a segment, no whole block: a write that had not ended when the last "
      "run did, as far as the files tell; nothing that they know to be synced was in it",
      {{"segment", segment.text()}, {"bytes", bytes}});
}

void SpoolLog::quarantined(const spool::Uuid& segment, std::uint64_t first_index,
                           std::optional<std::uint64_t> events, std::uint64_t bytes) {
  next_.quarantined(segment, first_index, events, bytes);
  log_.error(
      events == 0
          ? "bytes of the spool that were durable are bad, and no event was in them; a copy is in "
            "quarantine/"
          : "the disk has lost events of the spool: bytes that were durable are bad; a copy is in "
            "quarantine/, the events behind them are delivered",
      {{"segment", segment.text()},
       {"first_index", first_index},
       {"events", events ? std::to_string(*events) : "unknown"},
       {"bytes", bytes}});
}

void SpoolLog::damaged_at_start(const spool::StartDamage& damage) {
  next_.damaged_at_start(damage);
  const std::string message =
      "bytes of the spool that were durable are bad: dedupe keys and producers' numbers of " +
      std::to_string(damage.events) +
      " events may be forgotten, and these events stored twice if they are sent again; a copy is "
      "in quarantine/; those that are not committed yet are reported once more as lost";
  log_.error(message, {{"segment", damage.segment.text()},
                       {"first_index", damage.first_index},
                       {"events", damage.events},
                       {"runs", damage.runs},
                       {"bytes", damage.bytes},
                       {"keys_kept", damage.keys_kept}});
}

void SpoolLog::read_failed(const spool::Uuid& segment, std::uint64_t offset,
                           std::error_code error) {
  next_.read_failed(segment, offset, error);
  log_.repeated("spool read", LogLevel::error,
                "the disk cannot read events of the spool; tried again each second for half a "
                "minute, and those behind them wait",
                {{"segment", segment.text()}, {"offset", offset}, {"error", error.message()}});
}

void SpoolLog::file_set_aside(const std::string& name, std::string_view reason) {
  next_.file_set_aside(name, reason);
  log_.repeated("spool file", LogLevel::warning, "a file in the spool's directory is not delivered",
                {{"file", name}, {"reason", reason}});
}

void SpoolLog::segments_missing(std::uint64_t count) {
  next_.segments_missing(count);
  log_.error("segments of the spool are not there: somebody took their files away",
             {{"segments", count}});
}

void SpoolLog::segment_poisoned(const spool::Uuid& segment, std::string_view step,
                                std::error_code error) {
  next_.segment_poisoned(segment, step, error);
  log_.repeated("poisoned", LogLevel::error,
                "the disk failed; what was not durable is written again to another file",
                {{"segment", segment.text()}, {"step", step}, {"error", error.message()}});
}

void SpoolLog::full(std::string_view reason) {
  next_.full(reason);
  log_.repeated("spool full", LogLevel::warning,
                "the spool takes no more events until there is room; producers wait",
                {{"reason", reason}});
}

void SpoolLog::room_again() {
  next_.room_again();
  log_.repeated("spool room", LogLevel::info, "the spool takes events again");
}

void SpoolLog::keys_unwritten(const std::string& name, std::string_view reason) {
  next_.keys_unwritten(name, reason);
  log_.repeated("keys unwritten", LogLevel::warning,
                "dedupe keys could not be written to their file: the segment that has them stays "
                "until they are, or the window has passed",
                {{"file", name}, {"reason", reason}});
}

void SpoolLog::keys_lost(const std::string& name, std::string_view reason) {
  next_.keys_lost(name, reason);
  log_.repeated("keys lost", LogLevel::warning,
                "dedupe keys could not be read: the window is shorter",
                {{"file", name}, {"reason", reason}});
}

}  // namespace sluice::daemon
