#include "spool/disk_spool.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <utility>

#include "spool/disk_lane.hpp"
#include "spool/keys_file.hpp"
#include "spool/recovery.hpp"
#include "spool/segment_copy.hpp"
#include "spool/segment_writer.hpp"

namespace sluice::spool {
namespace {

// After the disk took nothing it is asked again this long after.
constexpr std::int64_t kRetryMs = 1'000;
// A second without an event: the last block is told to be durable by an empty one.
constexpr std::int64_t kIdleMs = 1'000;
// tend() may be called after every block; it looks around no more often than this.
constexpr std::int64_t kTendMs = 200;
// What a group commit may come to; so much must be left below bytes_max to take one.
constexpr std::uint64_t kGroupBytes = 1u << 20;
constexpr std::uint64_t kReserveBytesMin = 64 * 1024;
constexpr std::int64_t kReserveRetryMs = 10'000;
constexpr std::int64_t kKeysRetryMs = 5'000;
// A lane that is behind the others by more events than this, and twice as far, gets no more.
constexpr std::uint64_t kLaneLeadMax = 20'000;

constexpr std::string_view kFullCap = "the spool has reached spool.bytes_max";
constexpr std::string_view kFullDisk = "the disk is full";
constexpr std::string_view kFullFails = "the disk fails";
constexpr std::string_view kFullUnread =
    "a segment of the last run cannot be read: mend the disk, or move the file away, and start "
    "again";
constexpr std::string_view kFullDoubt =
    "the end of a segment of the last run cannot be made durable: the disk fails, or is full";

std::uint64_t bytes_of_file(Disk& disk, const std::string& name) {
  auto opened = disk.open(name, OpenMode::read_only);
  std::uint64_t bytes = 0;
  if (const auto* file = std::get_if<std::unique_ptr<DiskFile>>(&opened)) {
    if ((*file)->size(bytes)) bytes = 0;
  }
  return bytes;
}

}  // namespace

// The writer's side. Thread: the journal's, but for the atomics and the reason.
struct DiskSpool::Parts {
  // Files in the order in which they were made. Two may have one ordinal: where a directory was put
  // together from two, or where a name that could not be synced came back.
  struct FileKey {
    std::uint64_t ordinal = 0;
    Uuid id;

    auto operator<=>(const FileKey&) const = default;
  };
  // A segment file in the directory.
  struct File {
    std::string name;
    LaneIndex lane = 0;
    std::uint64_t bytes = 0;
    std::uint64_t keys_bytes = 0;
    std::int64_t newest_key_us = 0;
    bool sealed = false;
    bool emptied = false;
    // Its side file lacks keys. No other file says where it ends, so that the next start reads it
    // whole; and it stays until the side file is written anew.
    bool keys_incomplete = false;
    KeyGroups unwritten_keys;  // of one of an earlier run: all of them
    std::int64_t keys_retry_ms = 0;
    std::optional<SegmentRef> told;   // of one that could not be read: where it ends
    std::uint64_t durable_bytes = 0;  // of a closed one: known to be on the medium
    // It may go when so many heads were written: the producers' numbers in it are then in a later
    // one.
    std::uint64_t heads_needed = 1;
    std::int64_t delivered_ms = -1;  // since when it is confirmed; -1: it is not
  };
  // The segment that a lane's blocks go to.
  struct Open {
    std::unique_ptr<SegmentWriter> writer;  // none: the next block opens one
    std::unique_ptr<KeysWriter> keys;
    FileKey file;
    std::int64_t last_append_ms = 0;
    bool end_told = true;  // no block lies beyond every synced_upto
    bool keys_failed = false;
    // A poisoned segment whose successor could not be made yet.
    std::optional<std::pair<Uuid, std::uint64_t>> supersedes;
  };
  // A side file whose segment has gone.
  struct OldKeys {
    std::string name;
    std::int64_t delete_after_us;
    std::uint64_t bytes;
  };

  static FileKey key_of(const SegmentHeader& header) { return {header.ordinal, header.id}; }

  Parts(DiskSpoolOptions o, Disk& d, ProducerTable& p, SpoolReporter& r, Callbacks c)
      : options(o),
        disk(d),
        producers(p),
        reporter(r),
        callbacks(std::move(c)),
        random(options.seed != 0
                   ? options.seed
                   : std::random_device()() * 0x100000001ull + std::random_device()()) {}

  // recovery
  void make_lanes();
  void take_over(Recovered recovered, const SpoolTime& now);
  void take_over_segment(RecoveredSegment& segment, LaneIndex lane);
  void keep_unread(const UnreadSegment& unread);
  [[nodiscard]] bool tail_is_on_the_medium(const RecoveredSegment& segment);
  void doubt_tail(RecoveredSegment& segment);
  [[nodiscard]] bool settle_doubts(const SpoolTime& now);
  [[nodiscard]] bool start_is_settled(const SpoolTime& now);
  void take_tail(const RecoveredSegment& segment);
  void find_old_keys(const SpoolTime& now);

  // segments
  [[nodiscard]] bool open_segment(LaneIndex lane, const SpoolTime& now);
  [[nodiscard]] bool names_are_durable();
  [[nodiscard]] SegmentHeader next_header(const SpoolTime& now);
  void add_file(const SegmentWriter& writer, const SegmentHeader& header, LaneIndex lane,
                std::uint64_t heads_needed);
  [[nodiscard]] std::vector<SegmentRef> refs_for(LaneIndex lane) const;
  [[nodiscard]] bool ready_to_append(LaneIndex lane, const SpoolTime& now);
  [[nodiscard]] bool settle_poisoned(const SpoolTime& now);
  void seal(LaneIndex lane, const SpoolTime& now);
  void secure_keys(LaneIndex lane);
  void close_open(LaneIndex lane, std::uint64_t heads_needed);
  void poison(LaneIndex lane);
  [[nodiscard]] SegmentWriter::Result write_group(LaneIndex lane, const std::vector<Chunk>& chunks,
                                                  std::span<const ProducerMark> marks,
                                                  const SpoolTime& now);
  void write_keys(LaneIndex lane, const SpoolTime& now);
  void complete_keys(const SpoolTime& now);
  [[nodiscard]] bool complete_keys_of(const FileKey& key, File& file, std::uint64_t end_bytes);
  void publish(LaneIndex lane, std::vector<Chunk>& chunks, const SpoolTime& now);
  bool append_idle(LaneIndex lane, const SpoolTime& now);

  // room
  void set_full(std::string_view reason, const SpoolTime& now);
  void set_room();
  [[nodiscard]] bool has_room() const;
  void make_room(const SpoolTime& now);
  void probe(const SpoolTime& now);
  bool delete_old(const SpoolTime& now, bool want_room);
  void stamp_delivered(const SpoolTime& now);
  bool remove_file(const FileKey& key, const SpoolTime& now);
  void empty_file(File& file);
  bool roll_delivered(const SpoolTime& now);
  [[nodiscard]] bool head_is_missing() const;
  void take_quarantined();
  void keep_reserve(const SpoolTime& now);
  void give_reserve();
  [[nodiscard]] Uuid new_id();

  const DiskSpoolOptions options;
  Disk& disk;
  ProducerTable& producers;
  SpoolReporter& reporter;
  const Callbacks callbacks;
  std::mt19937_64 random;
  std::uint64_t hash_seed = 0;
  std::uint64_t next_ordinal = 1;
  std::uint64_t heads = 0;  // written by this process
  std::atomic<std::uint64_t> events_recovered{0};
  // False: something could not be read that may tell what is durable. Nothing is taken in this run,
  // and of the segments that were open in the last one only what was known to be durable then is
  // delivered.
  bool knows_all = true;
  // Segments whose tails may not be on the medium. Until they are, nothing is taken: a line that is
  // in one of them must not be told to be durable.
  std::vector<RecoveredSegment> in_doubt;

  std::vector<std::unique_ptr<DiskLane>> lanes;
  std::vector<Open> open;  // of each lane
  std::map<FileKey, File> files;
  std::vector<OldKeys> old_keys;
  LaneIndex next_lane = 0;
  std::int64_t retry_at_ms = 0;
  std::int64_t next_tend_ms = 0;
  // A power cut may take back a name or a removal of the run before, or this one's last removal.
  bool names_unsynced = true;
  // Names that failed, and whose files may still be there.
  std::vector<std::string> unnamed;
  std::uint64_t reserve_kept = 0;  // bytes of RESERVE
  std::int64_t reserve_retry_ms = 0;
  std::vector<StoredKey> keys_scratch;
  std::vector<Bytes> pieces_scratch;

  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> segments{0};
  std::atomic<bool> room_wanted{false};  // lane_with_room() said no
  std::atomic<bool> something_to_delete{false};
  mutable std::mutex full_mutex;
  std::string full_reason;        // guarded by full_mutex; empty: there is room
  std::atomic<bool> full{false};  // that it is not empty
};

Uuid DiskSpool::Parts::new_id() {
  if (options.seed == 0) return Uuid::random();
  Uuid id;
  for (auto& byte : id.bytes) byte = static_cast<std::uint8_t>(random());
  return id;
}

// Recovery.

void DiskSpool::Parts::make_lanes() {
  for (LaneIndex i = 0; i < options.lanes; ++i) {
    lanes.push_back(std::make_unique<DiskLane>(
        disk, reporter, options.cached_bytes_max,
        DiskLane::Callbacks{[this, i](const Position& upto) { callbacks.on_released(i, upto); },
                            [this] {
                              something_to_delete = true;
                              if (room_wanted) callbacks.on_room();
                            }}));
  }
  open.resize(options.lanes);
}

void DiskSpool::Parts::take_over(Recovered recovered, const SpoolTime& now) {
  next_ordinal = recovered.next_ordinal;
  hash_seed = recovered.hash_seed.value_or(random());
  producers.advance(recovered.marks);
  knows_all = recovered.knows_all;
  for (const UnreadSegment& unread : recovered.unread) keep_unread(unread);
  LaneIndex lane = 0;
  for (RecoveredSegment& segment : recovered.segments) {
    take_over_segment(segment, lane);
    lane = (lane + 1) % options.lanes;
  }
  segments = files.size();
  if (!knows_all) return set_full(kFullUnread, now);
  (void)settle_doubts(now);
}

// The file holds its place in the directory, so that it is there when a later start can read it.
void DiskSpool::Parts::keep_unread(const UnreadSegment& unread) {
  File file;
  file.name = unread.name;
  file.bytes = unread.file_bytes;
  file.keys_bytes = bytes_of_file(disk, segment_name(unread.ordinal, unread.id, ".keys"));
  file.told = unread.told;
  bytes += file.bytes + file.keys_bytes;
  files.emplace(FileKey{unread.ordinal, unread.id}, std::move(file));
}

void DiskSpool::Parts::take_over_segment(RecoveredSegment& segment, LaneIndex lane) {
  const FileKey key = key_of(segment.header);
  const std::string keys_name = segment_name(key.ordinal, key.id, ".keys");
  File file;
  file.name = segment.name;
  file.lane = lane;
  file.bytes = segment.file_bytes;
  file.keys_bytes = bytes_of_file(disk, keys_name);
  file.newest_key_us = INT64_MAX;  // as far as is known
  file.sealed = segment.end == RecoveredSegment::End::sealed;
  file.emptied = segment.emptied;
  file.keys_incomplete = !segment.unwritten_keys.empty();
  file.unwritten_keys = std::move(segment.unwritten_keys);
  // With durability "process" what the page cache has counts, and is not to be dropped to look
  // behind it.
  const bool has_tail = !segment.tail.empty();
  const bool must_be_on_the_medium = has_tail && options.durability == Durability::power;
  const bool may_end_before = !knows_all && segment.end == RecoveredSegment::End::read;
  const bool doubtful =
      may_end_before || (must_be_on_the_medium && !tail_is_on_the_medium(segment));
  file.durable_bytes =
      doubtful || (has_tail && !must_be_on_the_medium) ? segment.durable_bytes : segment.end_bytes;
  bytes += file.bytes + file.keys_bytes;
  files.emplace(key, std::move(file));
  if (segment.emptied) return;
  LaneSegment taken{key.id, key.ordinal, segment.name, segment.header.created_us};
  taken.end_bytes = doubtful ? segment.durable_bytes : segment.end_bytes;
  taken.end_index = doubtful ? segment.durable_index : segment.end_index;
  taken.closed = !doubtful;
  taken.confirmed = taken.closed && taken.end_index == 0;
  events_recovered += taken.end_index;
  lanes[lane]->add(std::move(taken));
  if (!doubtful) {
    producers.advance(segment.tail_marks);
  } else if (!may_end_before) {
    doubt_tail(segment);
  }
}

void DiskSpool::Parts::doubt_tail(RecoveredSegment& segment) {
  reporter.segment_poisoned(segment.header.id, "sync at start",
                            std::make_error_code(std::errc::io_error));
  in_doubt.push_back(std::move(segment));
}

// A copy of the segment under its own name, and not another segment for the tail: what of it was
// delivered already was so under this identity, and what was not goes on under it. So neither a
// delivery before nor a failover after this makes a difference.
bool DiskSpool::Parts::settle_doubts(const SpoolTime& now) {
  while (!in_doubt.empty()) {
    const RecoveredSegment& segment = in_doubt.front();
    give_reserve();
    const std::string temporary = segment_name(segment.header.ordinal, segment.header.id, ".tmp");
    const std::error_code error =
        replace_by_copy(disk, {segment.name, temporary, segment.durable_bytes, segment.tail});
    if (error && files.contains(key_of(segment.header))) {
      set_full(kFullDoubt, now);
      return false;
    }
    if (!error) take_tail(segment);
    in_doubt.erase(in_doubt.begin());
  }
  set_room();
  return true;
}

// Nothing is appended, and no duplicate acked, before the tails of the last run are durable.
bool DiskSpool::Parts::start_is_settled(const SpoolTime& now) {
  if (knows_all && in_doubt.empty()) return true;
  if (full && now.steady_ms < retry_at_ms) return false;
  if (!knows_all) {
    set_full(kFullUnread, now);
    return false;
  }
  const bool settled = settle_doubts(now);
  for (LaneIndex lane = 0; lane < lanes.size(); ++lane) callbacks.on_readable(lane);
  return settled;
}

void DiskSpool::Parts::take_tail(const RecoveredSegment& segment) {
  const auto found = files.find(key_of(segment.header));
  if (found == files.end()) return;
  File& file = found->second;
  bytes -= file.bytes - segment.end_bytes;
  file.bytes = file.durable_bytes = segment.end_bytes;
  events_recovered += segment.end_index - segment.durable_index;
  producers.advance(segment.tail_marks);
  lanes[file.lane]->take_tail(segment.header.id, segment.end_bytes, segment.end_index);
}

// Rule 4 of the format's page.
bool DiskSpool::Parts::tail_is_on_the_medium(const RecoveredSegment& segment) {
  // A removal that a power cut takes back might bring a file that tells another end.
  if (!names_are_durable()) return false;
  {
    auto opened = disk.open(segment.name, OpenMode::read_write);
    const auto* file = std::get_if<std::unique_ptr<DiskFile>>(&opened);
    if (file == nullptr || (*file)->sync()) return false;
    (*file)->drop_cache();
  }
  auto opened = disk.open(segment.name, OpenMode::read_only);
  const auto* file = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (file == nullptr) return false;
  std::vector<std::byte> found(segment.tail.size());
  std::size_t got = 0;
  return !(*file)->read(segment.durable_bytes, found, got) && got == found.size() &&
         found == segment.tail;
}

// Side files outlive their segments for the window.
void DiskSpool::Parts::find_old_keys(const SpoolTime& now) {
  std::vector<DirectoryEntry> entries;
  if (disk.list("", entries)) return;
  const std::int64_t window_us = std::chrono::microseconds(options.dedupe_window).count();
  for (const DirectoryEntry& entry : entries) {
    const auto named = parse_segment_name(entry.name, ".keys");
    if (!named || files.contains({named->ordinal, named->id})) continue;
    std::int64_t newest_us = now.unix_us - window_us;
    if (const auto reader = KeysReader::open(disk, entry.name)) {
      bool cut = false;
      for (const KeysGroup& group : reader->groups(cut)) {
        newest_us = std::max(newest_us, group.written_us);
      }
    }
    old_keys.push_back({entry.name, std::min(newest_us, now.unix_us) + window_us, entry.bytes});
    bytes += entry.bytes;
  }
}

// Segments.

std::vector<SegmentRef> DiskSpool::Parts::refs_for(LaneIndex lane) const {
  std::vector<SegmentRef> refs;
  std::map<Uuid, LaneSegment> known;
  for (const auto& each : lanes) {
    for (const LaneSegment& segment : each->segments()) known.emplace(segment.id, segment);
  }
  for (const auto& [key, file] : files) {
    if (file.told) refs.push_back(*file.told);
    if (file.sealed || file.emptied) continue;
    const auto found = known.find(key.id);
    if (found == known.end()) continue;
    const LaneSegment& segment = found->second;
    SegmentRef ref{segment.id, key.ordinal, segment.end_bytes, segment.end_index, segment.closed};
    const Open& writing = open[file.lane];
    if (writing.writer && writing.file == key) {
      // The lane's own predecessor takes nothing more: its seal is what follows this head.
      ref.closed = file.lane == lane;
      ref.synced_bytes = writing.writer->synced_bytes();
    }
    if (file.keys_incomplete) {
      // It is to be read whole for its keys, and yet no further than it counts: what follows there
      // may be in another segment, whose header says so and may be lost.
      if (segment.closed) refs.push_back({segment.id, key.ordinal, 0, segment.end_index, true});
      ref.closed = false;
      if (segment.closed) ref.synced_bytes = std::min(ref.synced_bytes, file.durable_bytes);
    }
    refs.push_back(ref);
  }
  return refs;
}

SegmentHeader DiskSpool::Parts::next_header(const SpoolTime& now) {
  SegmentHeader header;
  header.id = new_id();
  header.ordinal = next_ordinal;
  header.created_us = now.unix_us;
  header.hash_seed = hash_seed;
  return header;
}

bool DiskSpool::Parts::names_are_durable() {
  if (names_unsynced) names_unsynced = static_cast<bool>(disk.sync_directory(""));
  return !names_unsynced;
}

// Opens the lane's next segment and ends the one before it.
bool DiskSpool::Parts::open_segment(LaneIndex lane, const SpoolTime& now) {
  Open& open_here = open[lane];
  // No ordinal comes after one that a power cut might take away.
  if (!names_are_durable()) {
    set_full(kFullFails, now);
    return false;
  }
  // What the new head calls the end must be durable.
  if (open_here.writer && open_here.writer->synced_bytes() < open_here.writer->bytes() &&
      open_here.writer->sync() != SegmentWriter::Result::done) {
    poison(lane);
  }
  // Before the new head is written: where that tells a segment's end, nobody reads the segment's
  // keys out of it any more.
  secure_keys(lane);
  SegmentHeader header = next_header(now);
  if (open_here.supersedes) {
    header.supersedes = open_here.supersedes->first;
    header.supersedes_from = open_here.supersedes->second;
  }
  auto begun =
      SegmentWriter::begin(disk, header, refs_for(lane), producers.snapshot(), now.unix_us);
  if (const auto* error = std::get_if<std::error_code>(&begun)) {
    set_full(is_no_space(*error) ? kFullDisk : kFullFails, now);
    return false;
  }
  if (const auto error = std::get<0>(begun)->give_name()) {
    // A name that could not be synced may come back after a power cut, and then it says where the
    // segment before it ends. Its ordinal is given again: it holds no event, and a number that is
    // left out would look like a file that somebody took away.
    unnamed.push_back(std::get<0>(begun)->name());
    if (open_here.writer) close_open(lane, heads + 1);
    set_full(is_no_space(error) ? kFullDisk : kFullFails, now);
    return false;
  }
  ++next_ordinal;
  ++heads;
  if (open_here.writer) {
    seal(lane, now);
    close_open(lane, heads);
  }
  open_here = Open{};
  open_here.writer = std::move(std::get<0>(begun));
  open_here.file = key_of(header);
  open_here.last_append_ms = now.steady_ms;
  add_file(*open_here.writer, header, lane, UINT64_MAX);
  lanes[lane]->add({header.id, header.ordinal, open_here.writer->name(), now.unix_us,
                    open_here.writer->bytes(), 0, 0, false, false});
  return true;
}

// `heads_needed`: see File; UINT64_MAX until the segment is closed.
void DiskSpool::Parts::add_file(const SegmentWriter& writer, const SegmentHeader& header,
                                LaneIndex lane, std::uint64_t heads_needed) {
  File file;
  file.name = writer.name();
  file.lane = lane;
  file.bytes = writer.bytes();
  file.heads_needed = heads_needed;
  bytes += file.bytes;
  files.emplace(key_of(header), std::move(file));
  segments = files.size();
}

// REQUIRES: the successor's head, which says where this segment ends, is durable.
void DiskSpool::Parts::seal(LaneIndex lane, const SpoolTime& now) {
  Open& sealed = open[lane];
  File& file = files.at(sealed.file);
  if (file.keys_incomplete) return;
  const bool whole = sealed.writer->append(BlockKind::seal, 0, {}, {}, now.unix_us, true) ==
                     SegmentWriter::Result::done;
  if (whole) {
    file.sealed = true;
    file.bytes += kBlockHeaderBytes;
    bytes += kBlockHeaderBytes;
  }
}

// Makes the side file and its name durable.
void DiskSpool::Parts::secure_keys(LaneIndex lane) {
  const Open& open_here = open[lane];
  if (!open_here.keys) return;
  if (open_here.keys->sync() || disk.sync_directory("")) {
    File& file = files.at(open_here.file);
    if (!std::exchange(file.keys_incomplete, true)) {
      reporter.keys_unwritten(file.name, "its side file could not be synced");
    }
  }
}

void DiskSpool::Parts::close_open(LaneIndex lane, std::uint64_t heads_needed) {
  Open& closing = open[lane];
  File& file = files.at(closing.file);
  file.heads_needed = heads_needed;
  file.durable_bytes = closing.writer->synced_bytes();
  const std::uint64_t end =
      file.sealed ? closing.writer->bytes() - kBlockHeaderBytes : closing.writer->bytes();
  lanes[lane]->close_last(end);
  closing.writer.reset();
  closing.keys.reset();
  closing.supersedes.reset();
  closing.end_told = true;
  something_to_delete = true;
  callbacks.on_readable(lane);  // the lane has the end to find
}

void DiskSpool::Parts::poison(LaneIndex lane) {
  Open& poisoned = open[lane];
  const Uuid id = poisoned.file.id;
  reporter.segment_poisoned(id, poisoned.writer->failure().step, poisoned.writer->failure().error);
  const std::uint64_t from = poisoned.writer->end_index();
  secure_keys(lane);
  close_open(lane, heads + 1);
  open[lane].supersedes = {id, from};
}

// A group that failed in one segment may be there whole. Until a head says where that segment ends,
// the group must not be written anywhere else.
bool DiskSpool::Parts::settle_poisoned(const SpoolTime& now) {
  if (!start_is_settled(now)) return false;
  for (LaneIndex lane = 0; lane < open.size(); ++lane) {
    if (open[lane].supersedes && !open[lane].writer && !open_segment(lane, now)) return false;
  }
  return true;
}

bool DiskSpool::Parts::ready_to_append(LaneIndex lane, const SpoolTime& now) {
  if (!settle_poisoned(now)) return false;
  Open& open_here = open[lane];
  if (!open_here.writer) return open_segment(lane, now);
  return open_here.writer->bytes() < options.segment_bytes || open_segment(lane, now);
}

SegmentWriter::Result DiskSpool::Parts::write_group(LaneIndex lane,
                                                    const std::vector<Chunk>& chunks,
                                                    std::span<const ProducerMark> marks,
                                                    const SpoolTime& now) {
  pieces_scratch.clear();
  keys_scratch.clear();
  std::uint32_t count = 0;
  for (const Chunk& chunk : chunks) {
    pieces_scratch.push_back(chunk.bytes());
    // Written only when the group is, but collected now: after the write's and the sync's way
    // through the kernel each record would have to come from memory again.
    collect_keys(chunk.bytes(), keys_scratch);
    count += chunk.count();
  }
  const bool sync = options.durability == Durability::power;
  const auto began = std::chrono::steady_clock::now();
  const auto result =
      open[lane].writer->append(BlockKind::events, count, marks, pieces_scratch, now.unix_us, sync);
  if (sync && result == SegmentWriter::Result::done) {
    reporter.synced(std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - began));
  }
  return result;
}

// Of the group that was written last.
void DiskSpool::Parts::write_keys(LaneIndex lane, const SpoolTime& now) {
  Open& open_here = open[lane];
  if (open_here.keys_failed || keys_scratch.empty()) return;
  File& file = files.at(open_here.file);
  const Uuid& id = open_here.file.id;
  std::error_code error;
  const std::string name = segment_name(open_here.file.ordinal, id, ".keys");
  if (!open_here.keys) open_here.keys = KeysWriter::create(disk, name, id, error);
  const std::uint64_t before = file.keys_bytes;
  if (!error) error = open_here.keys->append(now.unix_us, keys_scratch);
  if (error) {
    open_here.keys_failed = true;
    file.keys_incomplete = true;
    reporter.keys_unwritten(name, error.message());
    return;
  }
  file.keys_bytes = open_here.keys->bytes();
  file.newest_key_us = now.unix_us;
  bytes += file.keys_bytes - before;
}

// Writes anew a side file that lacks keys: one at a time, as it may take a while.
void DiskSpool::Parts::complete_keys(const SpoolTime& now) {
  for (const auto& each : lanes) {
    for (const LaneSegment& segment : each->segments()) {
      const FileKey key{segment.ordinal, segment.id};
      const auto file = files.find(key);
      if (file == files.end() || !segment.closed || !file->second.keys_incomplete ||
          now.steady_ms < file->second.keys_retry_ms) {
        continue;
      }
      if (full_reason == kFullDisk) give_reserve();
      if (complete_keys_of(key, file->second, segment.end_bytes)) return;
      file->second.keys_retry_ms = now.steady_ms + kKeysRetryMs;
      return;
    }
  }
}

// False: the disk does not take them, or the segment cannot be read.
bool DiskSpool::Parts::complete_keys_of(const FileKey& key, File& file, std::uint64_t end_bytes) {
  KeyGroups read;
  if (file.unwritten_keys.empty()) {
    auto found = read_segment_keys(disk, key.ordinal, key.id, end_bytes);
    if (std::holds_alternative<std::error_code>(found)) return false;
    read = std::move(std::get<0>(found));
  }
  const KeyGroups& groups = file.unwritten_keys.empty() ? read : file.unwritten_keys;
  if (replace_keys_file(disk, key.ordinal, key.id, groups)) return false;
  const std::uint64_t before = file.keys_bytes;
  file.keys_bytes = bytes_of_file(disk, segment_name(key.ordinal, key.id, ".keys"));
  bytes += file.keys_bytes - before;
  if (disk.sync_directory("")) return false;
  if (!groups.empty()) file.newest_key_us = groups.back().first;
  file.unwritten_keys.clear();
  file.keys_incomplete = false;
  return true;
}

void DiskSpool::Parts::publish(LaneIndex lane, std::vector<Chunk>& chunks, const SpoolTime& now) {
  Open& open_here = open[lane];
  File& file = files.at(open_here.file);
  bytes += open_here.writer->bytes() - file.bytes;
  file.bytes = open_here.writer->bytes();
  open_here.last_append_ms = now.steady_ms;
  open_here.end_told = false;

  auto block = std::make_shared<Block>();
  block->segment = open_here.file.id;
  block->chunks = std::exchange(chunks, {});
  for (const Chunk& chunk : block->chunks) block->count += chunk.count();
  block->first_index = open_here.writer->end_index() - block->count;
  lanes[lane]->publish(std::move(block), open_here.writer->bytes(), now.unix_us);
}

// True if the disk took it.
bool DiskSpool::Parts::append_idle(LaneIndex lane, const SpoolTime& now) {
  Open& open_here = open[lane];
  // Synced first, so that the empty block can tell of the one before it.
  auto result = SegmentWriter::Result::done;
  if (open_here.writer->synced_bytes() < open_here.writer->bytes()) {
    result = open_here.writer->sync();
  }
  if (result == SegmentWriter::Result::done) {
    result = open_here.writer->append(BlockKind::idle, 0, {}, {}, now.unix_us, true);
  }
  switch (result) {
    case SegmentWriter::Result::done: {
      File& file = files.at(open_here.file);
      bytes += open_here.writer->bytes() - file.bytes;
      file.bytes = open_here.writer->bytes();
      open_here.end_told = true;
      return true;
    }
    case SegmentWriter::Result::no_space:
      return false;
    case SegmentWriter::Result::failed:
      poison(lane);
      return false;
  }
  std::abort();
}

// Room.

void DiskSpool::Parts::set_full(std::string_view reason, const SpoolTime& now) {
  retry_at_ms = now.steady_ms + kRetryMs;
  {
    const std::lock_guard lock(full_mutex);
    if (full_reason == reason) return;
    full_reason = reason;
    full = true;
  }
  reporter.full(reason);
}

void DiskSpool::Parts::set_room() {
  if (!full) return;
  {
    const std::lock_guard lock(full_mutex);
    full_reason.clear();
    full = false;
  }
  reporter.room_again();
}

bool DiskSpool::Parts::has_room() const {
  return bytes + std::min(kGroupBytes, options.bytes_max / 8) <= options.bytes_max;
}

// Segments that are only kept for a failover give way first. If there are none, a segment that
// still takes blocks but has nothing undelivered is ended, so that it can go; and one is begun
// where only a new head is missing, so that the segments of an earlier run can go.
void DiskSpool::Parts::make_room(const SpoolTime& now) {
  stamp_delivered(now);
  if (delete_old(now, true)) return;
  if (roll_delivered(now)) (void)delete_old(now, true);
}

bool DiskSpool::Parts::roll_delivered(const SpoolTime& now) {
  for (LaneIndex lane = 0; lane < open.size(); ++lane) {
    const bool due = open[lane].writer ? lanes[lane]->last_is_released() : head_is_missing();
    if (!due) continue;
    give_reserve();
    if (!settle_poisoned(now) || !open_segment(lane, now)) return false;
  }
  return true;
}

bool DiskSpool::Parts::head_is_missing() const {
  return std::any_of(files.begin(), files.end(), [this](const auto& each) {
    const File& file = each.second;
    return file.delivered_ms >= 0 && !file.emptied && file.heads_needed != UINT64_MAX &&
           file.heads_needed > heads;
  });
}

// Full, and nobody may come to append: sees for itself whether the disk takes something.
void DiskSpool::Parts::probe(const SpoolTime& now) {
  if (!full || now.steady_ms < retry_at_ms || !start_is_settled(now)) return;
  const std::string reason = full_reason;  // only this thread writes it
  if (!has_room()) make_room(now);
  if (!has_room()) return set_full(kFullCap, now);
  if (reason == kFullCap) return set_room();
  make_room(now);
  if (!settle_poisoned(now)) return;
  const auto writing = std::find_if(open.begin(), open.end(),
                                    [](const Open& each) { return each.writer != nullptr; });
  if (writing == open.end()) {
    if (open_segment(0, now)) set_room();
    return;
  }
  if (append_idle(static_cast<LaneIndex>(writing - open.begin()), now)) {
    set_room();
  } else {
    set_full(reason, now);
  }
}

void DiskSpool::Parts::stamp_delivered(const SpoolTime& now) {
  std::map<FileKey, bool> confirmed;
  for (const auto& lane : lanes) {
    for (const LaneSegment& segment : lane->segments()) {
      confirmed[{segment.ordinal, segment.id}] = segment.confirmed;
    }
  }
  for (auto& [key, file] : files) {
    const auto found = confirmed.find(key);
    if (found == confirmed.end()) continue;
    if (!found->second) {
      file.delivered_ms = -1;
    } else if (file.delivered_ms < 0) {
      file.delivered_ms = now.steady_ms;
    }
  }
}

// Deletes what need not be kept any longer; with `want_room`, as much as makes room, or one segment
// where the cap is not what is missing. True if anything was freed.
bool DiskSpool::Parts::delete_old(const SpoolTime& now, bool want_room) {
  std::uint64_t kept = 0;
  for (const auto& [key, file] : files) {
    if (file.delivered_ms >= 0 && !file.emptied) kept += file.bytes;
  }
  const bool cap_reached = !has_room();
  bool freed = false;
  std::vector<FileKey> done;
  for (auto& [key, file] : files) {
    if (file.emptied || file.delivered_ms < 0 || file.heads_needed > heads) continue;
    // Nothing else remembers its keys.
    const bool keys_needed = now.steady_ms - file.delivered_ms < options.dedupe_window.count();
    if (file.keys_incomplete && keys_needed) continue;
    const bool expired = now.steady_ms - file.delivered_ms >= options.retain_time.count();
    const bool too_much = kept > options.retain_bytes;
    const bool in_the_way = want_room && (cap_reached ? !has_room() : !freed);
    if (!expired && !too_much && !in_the_way) continue;
    kept -= file.bytes;
    freed = true;
    lanes[file.lane]->forget(key.id);
    if (key == files.begin()->first) {
      done.push_back(key);
    } else {
      empty_file(file);
    }
  }
  for (const FileKey& key : done) {
    if (!remove_file(key, now)) empty_file(files.at(key));
  }
  // Those that waited for an older one.
  while (!files.empty() && files.begin()->second.emptied &&
         files.begin()->second.heads_needed <= heads &&
         remove_file(FileKey(files.begin()->first), now)) {
  }
  return freed;
}

void DiskSpool::Parts::empty_file(File& file) {
  auto opened = disk.open(file.name, OpenMode::read_write);
  if (const auto* handle = std::get_if<std::unique_ptr<DiskFile>>(&opened)) {
    if (!(*handle)->truncate(kSegmentHeaderBytes)) {
      bytes -= file.bytes - kSegmentHeaderBytes;
      file.bytes = kSegmentHeaderBytes;
    }
  }
  file.emptied = true;
}

// In order, and one only when the one before it is gone for good: so neither a removal that fails
// nor a power cut leaves a hole in the ordinals. False: it has to wait.
bool DiskSpool::Parts::remove_file(const FileKey& key, const SpoolTime& now) {
  for (; !unnamed.empty(); unnamed.pop_back()) {
    const std::error_code error = disk.remove(unnamed.back());
    if (error && error != std::errc::no_such_file_or_directory) return false;
    names_unsynced = true;
  }
  if (!names_are_durable()) return false;
  const File& file = files.at(key);
  const std::error_code error = disk.remove(file.name);
  if (error && error != std::errc::no_such_file_or_directory) return false;
  names_unsynced = true;
  (void)names_are_durable();
  bytes -= file.bytes;
  if (file.keys_bytes != 0) {
    const std::int64_t window_us = std::chrono::microseconds(options.dedupe_window).count();
    old_keys.push_back({segment_name(key.ordinal, key.id, ".keys"),
                        std::min(file.newest_key_us, now.unix_us) + window_us, file.keys_bytes});
  }
  files.erase(files.find(key));
  segments = files.size();
  return true;
}

void DiskSpool::Parts::take_quarantined() {
  for (const auto& lane : lanes) {
    for (const LaneSegment& segment : lane->take_quarantined()) {
      (void)disk.rename(segment.name, "quarantine/" + segment.name);
      reporter.file_set_aside(segment.name, "the database has forgotten it");
      const auto file = files.find({segment.ordinal, segment.id});
      bytes -= file->second.bytes;
      files.erase(file);
      segments = files.size();
    }
  }
}

// Where there is no room for all of it, a half, or a half of that. It grows again by doubling: a
// disk that is nearly full is not asked for all that it has each time.
void DiskSpool::Parts::keep_reserve(const SpoolTime& now) {
  if (reserve_kept >= options.reserve_bytes || now.steady_ms < reserve_retry_ms) return;
  reserve_retry_ms = now.steady_ms + kReserveRetryMs;
  auto opened = disk.open("RESERVE", OpenMode::read_write);
  if (std::holds_alternative<std::error_code>(opened))
    opened = disk.open("RESERVE", OpenMode::create);
  const auto* file = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (file == nullptr) return;
  const std::uint64_t bytes_min = std::max(kReserveBytesMin, reserve_kept + 1);
  const std::uint64_t bytes_max = reserve_kept == 0 ? UINT64_MAX : 2 * reserve_kept;
  for (std::uint64_t wanted = std::min(options.reserve_bytes, bytes_max); wanted >= bytes_min;
       wanted /= 2) {
    if (!(*file)->allocate(wanted)) {
      reserve_kept = wanted;
      return;
    }
    // What an allocation that failed left behind goes, what there was before stays.
    (void)(*file)->truncate(reserve_kept);
  }
}

void DiskSpool::Parts::give_reserve() {
  if (std::exchange(reserve_kept, 0) == 0) return;
  auto opened = disk.open("RESERVE", OpenMode::read_write);
  if (const auto* file = std::get_if<std::unique_ptr<DiskFile>>(&opened)) {
    (void)(*file)->truncate(0);
  }
}

// The faces.

DiskSpool::DiskSpool(DiskSpoolOptions options, Disk& disk, ProducerTable& producers,
                     SpoolReporter& reporter, Callbacks callbacks, const SpoolTime& now)
    : parts_(std::make_unique<Parts>(options, disk, producers, reporter, std::move(callbacks))) {
  parts_->make_lanes();
  parts_->take_over(recover(disk, reporter), now);
  parts_->find_old_keys(now);
  parts_->keep_reserve(now);
}

DiskSpool::~DiskSpool() = default;

std::uint64_t DiskSpool::hash_seed() const {
  return parts_->hash_seed;
}

// File by file, so that few are open at a time; those of lanes that were written side by side
// overlap by a segment's time.
void DiskSpool::recovered_keys(std::int64_t since_us, std::uint64_t keys_max,
                               const std::function<void(const RememberedKey&)>& visit) {
  struct Side {
    std::string name;
    std::vector<KeysGroup> groups;
    const KeyGroups* unwritten = nullptr;  // that of each group is at `offset` in it
  };
  std::vector<Side> sides;
  const auto add = [&](Side side) {
    std::erase_if(side.groups, [&](const KeysGroup& group) { return group.written_us < since_us; });
    if (!side.groups.empty()) sides.push_back(std::move(side));
  };
  for (const auto& [key, file] : parts_->files) {
    if (file.unwritten_keys.empty()) continue;
    Side side{file.name, {}, &file.unwritten_keys};
    for (const auto& [written_us, keys] : file.unwritten_keys) {
      side.groups.push_back(
          {written_us, side.groups.size(), static_cast<std::uint32_t>(keys.size()), 0});
    }
    add(std::move(side));
  }
  std::vector<DirectoryEntry> entries;
  if (parts_->disk.list("", entries)) return;
  for (const DirectoryEntry& entry : entries) {
    const auto named = parse_segment_name(entry.name, ".keys");
    if (!named) continue;
    const auto file = parts_->files.find({named->ordinal, named->id});
    if (file != parts_->files.end() && !file->second.unwritten_keys.empty()) continue;
    const auto reader = KeysReader::open(parts_->disk, entry.name);
    bool cut = !reader;
    Side side{entry.name, reader ? reader->groups(cut) : std::vector<KeysGroup>()};
    if (cut) parts_->reporter.keys_lost(entry.name, "the end of the file is damaged");
    add(std::move(side));
  }
  std::sort(sides.begin(), sides.end(), [](const Side& a, const Side& b) {
    return a.groups.back().written_us > b.groups.back().written_us;
  });
  // From the newest on, as many as may be remembered; then the oldest of these first.
  std::uint64_t keys = 0;
  std::size_t count = 0;
  for (; count < sides.size() && keys < keys_max; ++count) {
    auto& groups = sides[count].groups;
    auto first = groups.end();
    while (first != groups.begin() && keys < keys_max) keys += (--first)->count;
    groups.erase(groups.begin(), first);
  }
  for (; count != 0; --count) {
    const Side& side = sides[count - 1];
    const auto reader = side.unwritten ? nullptr : KeysReader::open(parts_->disk, side.name);
    for (const KeysGroup& group : side.groups) {
      const auto stored = side.unwritten ? (*side.unwritten)[group.offset].second
                          : reader       ? reader->keys(group)
                                         : std::nullopt;
      if (!stored) continue;
      for (const StoredKey& key : *stored) visit({{key.first, key.second}, group.written_us});
    }
  }
}

std::optional<Position> DiskSpool::recovered_end(LaneIndex lane) const {
  std::optional<Position> end;
  for (const LaneSegment& segment : parts_->lanes.at(lane)->segments()) {
    if (segment.end_index != 0) end = {segment.id, segment.end_index};
  }
  return end;
}

SpoolReader& DiskSpool::reader(LaneIndex lane) {
  return *parts_->lanes.at(lane);
}

std::optional<LaneIndex> DiskSpool::lane_with_room(const SpoolTime& now) {
  Parts& parts = *parts_;
  parts.room_wanted = true;
  if (parts.full && now.steady_ms < parts.retry_at_ms &&
      !parts.something_to_delete.exchange(false)) {
    return std::nullopt;
  }
  if (!parts.start_is_settled(now)) return std::nullopt;
  if (!parts.has_room()) parts.make_room(now);
  if (!parts.has_room()) {
    parts.set_full(kFullCap, now);
    return std::nullopt;
  }
  parts.room_wanted = false;
  std::uint64_t least = UINT64_MAX;
  for (const auto& lane : parts.lanes) least = std::min(least, lane->events_held());
  for (LaneIndex i = 0; i < parts.lanes.size(); ++i) {
    const LaneIndex lane = (parts.next_lane + i) % parts.lanes.size();
    const std::uint64_t held = parts.lanes[lane]->events_held();
    if (held <= least * 2 || held - least <= kLaneLeadMax) return lane;
  }
  return parts.next_lane;
}

std::optional<Position> DiskSpool::append(LaneIndex lane, std::vector<Chunk>& chunks,
                                          std::span<const ProducerMark> marks,
                                          const SpoolTime& now) {
  Parts& parts = *parts_;
  constexpr int kTries = 2;  // a segment that fails, and the one that supersedes it
  for (int i = 0; i < kTries; ++i) {
    if (!parts.ready_to_append(lane, now)) return std::nullopt;
    switch (parts.write_group(lane, chunks, marks, now)) {
      case SegmentWriter::Result::done: {
        parts.write_keys(lane, now);
        parts.publish(lane, chunks, now);
        parts.next_lane = (lane + 1) % parts.lanes.size();
        parts.set_room();
        const Parts::Open& open = parts.open[lane];
        const Position end{open.file.id, open.writer->end_index()};
        parts.callbacks.on_readable(lane);
        return end;
      }
      case SegmentWriter::Result::no_space:
        parts.set_full(kFullDisk, now);
        return std::nullopt;
      case SegmentWriter::Result::failed:
        parts.poison(lane);
        break;
    }
  }
  parts.set_full(kFullFails, now);
  return std::nullopt;
}

void DiskSpool::tend(const SpoolTime& now) {
  Parts& parts = *parts_;
  if (now.steady_ms < parts.next_tend_ms && !(parts.full && parts.something_to_delete)) return;
  parts.next_tend_ms = now.steady_ms + kTendMs;
  for (LaneIndex lane = 0; lane < parts.open.size(); ++lane) {
    const Parts::Open& open = parts.open[lane];
    if (open.writer && !open.end_told && now.steady_ms - open.last_append_ms >= kIdleMs) {
      (void)parts.append_idle(lane, now);
    }
  }
  parts.take_quarantined();
  parts.stamp_delivered(now);
  parts.complete_keys(now);
  (void)parts.delete_old(now, false);
  std::erase_if(parts.old_keys, [&](const Parts::OldKeys& keys) {
    if (now.unix_us < keys.delete_after_us) return false;
    (void)parts.disk.remove(keys.name);
    parts.bytes -= keys.bytes;
    return true;
  });
  parts.probe(now);
  if (!parts.full) parts.keep_reserve(now);
}

void DiskSpool::close(const SpoolTime& now) {
  for (LaneIndex lane = 0; lane < parts_->open.size(); ++lane) {
    Parts::Open& open = parts_->open[lane];
    if (open.writer && !open.end_told) (void)parts_->append_idle(lane, now);
    if (open.keys) (void)open.keys->sync();
  }
}

std::uint64_t DiskSpool::events_held() const {
  std::uint64_t events = 0;
  for (const auto& lane : parts_->lanes) events += lane->events_held();
  return events;
}

std::uint64_t DiskSpool::events_recovered() const {
  return parts_->events_recovered;
}

std::uint64_t DiskSpool::bytes() const {
  return parts_->bytes;
}

std::uint64_t DiskSpool::segments() const {
  return parts_->segments;
}

std::optional<std::int64_t> DiskSpool::oldest_received_us() const {
  std::optional<std::int64_t> oldest;
  for (const auto& lane : parts_->lanes) {
    const auto received_us = lane->oldest_received_us();
    if (received_us && (!oldest || *received_us < *oldest)) oldest = received_us;
  }
  return oldest;
}

std::string DiskSpool::why_full() const {
  const std::lock_guard lock(parts_->full_mutex);
  return parts_->full_reason;
}

}  // namespace sluice::spool
