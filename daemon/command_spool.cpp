// Bytes that were never known to be durable are a write under way or one that a crash cut short: no
// damage. What a superseding segment holds again is exported from there.
#include "daemon/command_spool.hpp"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <string_view>

#include "daemon/exit_code.hpp"
#include "daemon/printable.hpp"
#include "daemon/spool_survey.hpp"
#include "daemon/standard_output.hpp"
#include "spool/event_record.hpp"
#include "spool/posix_disk.hpp"

namespace sluice::daemon {

namespace {

using spool::EventView;

const std::function<void(const spool::ScannedBlock&)> kNothing = [](const auto&) {};

void complain(std::string_view text) {
  fmt::print(stderr, "sluice: {}\n", text);
}

std::string time_text(std::int64_t us) {
  const auto seconds = static_cast<std::time_t>(us / 1'000'000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", fmt::gmtime(seconds), us % 1'000'000);
}

// How far each segment is known to be durable, by its own blocks and by the heads of others.
using SyncedBytes = std::map<spool::Uuid, std::uint64_t>;

void learn(SyncedBytes& synced, const SegmentFile& segment, const SegmentSurvey& survey) {
  std::uint64_t& own = synced[segment.header.id];
  // A seal is only written behind what is durable, and is synced itself.
  own = std::max({own, survey.synced_bytes, survey.sealed ? segment.bytes : 0});
  for (const spool::SegmentRef& ref : survey.refs) {
    std::uint64_t& other = synced[ref.id];
    other = std::max(other, ref.synced_bytes);
  }
}

// Complains about the files as such. Returns the exit code so far.
int judge_files(const SpoolFiles& files) {
  for (const UnreadableFile& file : files.unreadable) {
    complain(fmt::format("{}: {}", file.name, file.reason));
  }
  if (files.missing > 0) {
    complain(fmt::format("{} segments are missing between the first and the last", files.missing));
  }
  if (files.newer_format) return kExitConfig;
  return files.unreadable.empty() && files.missing == 0 ? kExitOk : kExitRefused;
}

// Complains about the bytes of one segment that are bad and were durable; false if there are any.
bool is_whole(const SegmentFile& segment, const SegmentSurvey& survey, std::uint64_t synced) {
  bool whole = true;
  for (const BadBytes& bad : survey.bad) {
    if (bad.offset >= synced) continue;
    whole = false;
    const std::string lost =
        bad.events == 0 ? "no event is lost with them"
        : bad.events
            ? fmt::format("{} events are lost, from index {}", *bad.events, bad.first_index)
            : fmt::format("all events from index {} are lost", bad.first_index);
    const std::string what = bad.read_error
                                 ? fmt::format("cannot be read ({})", bad.read_error.message())
                                 : "are damaged";
    complain(fmt::format("{}: bytes {} to {} {}: {}", segment.name, bad.offset, bad.end_offset,
                         what, lost));
  }
  if (segment.bytes < synced && !segment.is_released()) {
    whole = false;
    complain(fmt::format("{}: it has {} bytes, and {} were durable: the rest is missing",
                         segment.name, segment.bytes, synced));
  }
  return whole;
}

std::uint64_t tail_bytes(const SegmentFile& segment, const SegmentSurvey& survey,
                         std::uint64_t synced) {
  const bool ends_badly = !survey.bad.empty() && survey.bad.back().end_offset == segment.bytes &&
                          survey.bad.back().offset >= synced;
  return ends_badly ? segment.bytes - survey.bad.back().offset : 0;
}

const SegmentFile* find_segment(const SpoolFiles& files, const std::string& wanted) {
  for (const SegmentFile& segment : files.segments) {
    const bool is_it = segment.name == wanted || segment.header.id.text() == wanted ||
                       std::to_string(segment.header.ordinal) == wanted;
    if (is_it) return &segment;
  }
  complain(fmt::format("there is no segment {}: `sluice spool ls` lists them", printable(wanted)));
  return nullptr;
}

void for_each_event(const spool::ScannedBlock& block,
                    const std::function<void(std::uint64_t, const EventView&)>& visit) {
  const std::byte* record = block.records().data();
  for (std::uint32_t i = 0; i < block.header.count; ++i) {
    const EventView event(record);
    visit(block.header.first_index + i, event);
    record += event.header().record_bytes;
  }
}

// The inside of the event's type as it stands in the line; empty if it has none.
std::string_view type_of(const EventView& event) {
  for (const spool::FieldSpan& span : event.fields()) {
    if (span.field != static_cast<std::uint8_t>(spool::Field::type)) continue;
    const std::string_view quoted = event.text(span);
    return quoted.size() < 2 ? quoted : quoted.substr(1, quoted.size() - 2);
  }
  return {};
}

std::string uid_text(std::uint32_t uid) {
  return uid == spool::kNoUid ? "null" : std::to_string(uid);
}

std::string dedupe_text(const spool::RecordHeader& header) {
  const bool keyed = header.flags & (spool::kHasDedupeKey | spool::kHasIdKey);
  if (!keyed) return "";
  return fmt::format("{:016x}{:016x}", header.dedupe_hash[0], header.dedupe_hash[1]);
}

void dump_json(std::uint64_t index, const EventView& event) {
  const spool::RecordHeader& header = event.header();
  print(fmt::format(
      "{{\"index\":{},\"received_at\":\"{}\",\"occurred_at\":\"{}\",\"id\":\"{}\",\"uid\":{},"
      "\"route\":{},\"type\":\"{}\",\"line_bytes\":{},\"dedupe_hash\":\"{}\"}}\n",
      index, time_text(header.received_us), time_text(header.occurred_us), header.id.text(),
      uid_text(header.uid), header.route, json_inside(type_of(event)), header.line_bytes,
      dedupe_text(header)));
}

void dump_text(std::uint64_t index, const EventView& event) {
  const spool::RecordHeader& header = event.header();
  print(fmt::format("{:>10}  {}  {}  {:>10}  {:>5}  {:>10}  {}\n", index,
                    time_text(header.received_us), header.id.text(), uid_text(header.uid),
                    header.route, header.line_bytes, printable(type_of(event))));
}

// Below which index a segment's events count: from there on another segment has them again.
using SupersededFrom = std::map<spool::Uuid, std::uint64_t>;

SupersededFrom superseded(const SpoolFiles& files) {
  SupersededFrom from;
  for (const SegmentFile& segment : files.segments) {
    if (!segment.header.does_supersede()) continue;
    const auto [entry, is_new] =
        from.emplace(segment.header.supersedes, segment.header.supersedes_from);
    if (!is_new) entry->second = std::min(entry->second, segment.header.supersedes_from);
  }
  return from;
}

void export_segment(const SegmentFile& segment, std::uint64_t end_index, SyncedBytes& synced,
                    SegmentSurvey& survey) {
  survey = survey_segment(segment, [end_index](const spool::ScannedBlock& block) {
    for_each_event(block, [end_index](std::uint64_t index, const EventView& event) {
      if (index >= end_index) return;
      print(event.line());
      print("\n");
    });
  });
  learn(synced, segment, survey);
}

std::string state_text(const SegmentFile& segment, const SegmentSurvey& survey) {
  if (segment.is_released()) return "released";
  return survey.sealed ? "sealed" : "open";
}

}  // namespace

int list_spool(const std::string& directory) {
  const SpoolFiles files = open_spool_files(directory);
  print(fmt::format("{:>8}  {:36}  {:27}  {:>12}  {:>12}  {:8}  {}\n", "ordinal", "uuid", "created",
                    "bytes", "events", "state", "supersedes"));
  std::uint64_t bytes = 0;
  std::uint64_t events = 0;
  for (const SegmentFile& segment : files.segments) {
    SegmentSurvey survey;
    // A seal says what the segment holds; without one it has to be read.
    if (const auto seal = spool::read_seal(*segment.file, segment.header.id, segment.bytes)) {
      survey.sealed = true;
      survey.end_index = seal->first_index;
    } else {
      survey = survey_segment(segment, kNothing);
    }
    bytes += segment.bytes;
    events += survey.end_index;
    print(fmt::format("{:>8}  {:36}  {:27}  {:>12}  {:>12}  {:8}  {}\n", segment.header.ordinal,
                      segment.header.id.text(), time_text(segment.header.created_us), segment.bytes,
                      survey.end_index, state_text(segment, survey),
                      segment.header.does_supersede()
                          ? fmt::format("{} from {}", segment.header.supersedes.text(),
                                        segment.header.supersedes_from)
                          : "-"));
  }
  print(fmt::format("{} segments, {} bytes, {} events, {} files in quarantine\n",
                    files.segments.size(), bytes, events, files.quarantined));
  flush();
  return judge_files(files);
}

int verify_spool(const std::string& directory) {
  const SpoolFiles files = open_spool_files(directory);
  std::vector<SegmentSurvey> surveys;
  SyncedBytes synced;
  for (const SegmentFile& segment : files.segments) {
    surveys.push_back(survey_segment(segment, kNothing));
    learn(synced, segment, surveys.back());
  }
  int code = judge_files(files);
  std::uint64_t blocks = 0;
  std::uint64_t events = 0;
  for (std::size_t i = 0; i < surveys.size(); ++i) {
    const SegmentFile& segment = files.segments[i];
    const std::uint64_t durable = synced[segment.header.id];
    if (!is_whole(segment, surveys[i], durable) && code == kExitOk) code = kExitRefused;
    if (const std::uint64_t tail = tail_bytes(segment, surveys[i], durable); tail > 0) {
      print(
          fmt::format("{}: {} bytes at the end are no whole block, a write that was cut short: "
                      "nothing that is known to be synced is in them\n",
                      segment.name, tail));
    }
    blocks += surveys[i].blocks;
    events += surveys[i].end_index;
  }
  spool::PosixDisk disk(directory);
  for (const BadKeysFile& bad : survey_keys(disk)) {
    complain(fmt::format("{}: {}: the dedupe keys in it are forgotten by the next start", bad.name,
                         bad.reason));
    if (code == kExitOk) code = kExitRefused;
  }
  print(fmt::format("{} segments, {} good blocks, {} events: {}\n", surveys.size(), blocks, events,
                    code == kExitOk ? "no damage" : "see the messages"));
  flush();
  return code;
}

int dump_segment(const std::string& directory, const std::string& segment, bool json) {
  const SpoolFiles files = open_spool_files(directory);
  const SegmentFile* const chosen = find_segment(files, segment);
  if (chosen == nullptr) return kExitUsage;
  if (!json) {
    print(fmt::format("{:>10}  {:27}  {:36}  {:>10}  {:>5}  {:>10}  {}\n", "index", "received",
                      "id", "uid", "route", "line_bytes", "type"));
  }
  const SegmentSurvey survey = survey_segment(*chosen, [json](const spool::ScannedBlock& block) {
    for_each_event(block, json ? dump_json : dump_text);
  });
  flush();
  SyncedBytes synced;
  learn(synced, *chosen, survey);
  return is_whole(*chosen, survey, synced[chosen->header.id]) ? kExitOk : kExitRefused;
}

int export_spool(const std::string& directory, const std::vector<std::string>& segments) {
  const SpoolFiles files = open_spool_files(directory);
  std::vector<const SegmentFile*> chosen;
  for (const std::string& name : segments) {
    chosen.push_back(find_segment(files, name));
    if (chosen.back() == nullptr) return kExitUsage;
  }
  if (segments.empty()) {
    for (const SegmentFile& segment : files.segments) chosen.push_back(&segment);
  }
  const SupersededFrom ends = superseded(files);
  SyncedBytes synced;
  std::vector<SegmentSurvey> surveys(chosen.size());
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const auto end = ends.find(chosen[i]->header.id);
    export_segment(*chosen[i],
                   end == ends.end() ? std::numeric_limits<std::uint64_t>::max() : end->second,
                   synced, surveys[i]);
  }
  flush();
  int code = segments.empty() ? judge_files(files) : kExitOk;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (!is_whole(*chosen[i], surveys[i], synced[chosen[i]->header.id])) {
      code = std::max<int>(code, kExitRefused);
    }
  }
  return code;
}

}  // namespace sluice::daemon
