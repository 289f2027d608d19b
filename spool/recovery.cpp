#include "spool/recovery.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "spool/disk_spool.hpp"
#include "spool/found_keys.hpp"
#include "spool/quarantine.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kVersionText = "sluice-spool ";

void must(std::error_code error, const std::string& what) {
  if (error) throw SpoolUnusable("cannot " + what + ": " + error.message());
}

NewerFormat newer(const std::string& name, std::uint32_t version) {
  return NewerFormat("the spool's file " + name + " has format version " + std::to_string(version) +
                     ", and this sluice knows versions up to " + std::to_string(kFormatVersion) +
                     ": run the newer sluice that wrote it, or give this one another spool.dir");
}

// Writes VERSION in a new directory, and checks it in an old one.
void check_version(Disk& disk) {
  auto opened = disk.open("VERSION", OpenMode::read_only);
  if (const auto* file = std::get_if<std::unique_ptr<DiskFile>>(&opened)) {
    std::array<char, 32> text{};
    std::size_t got = 0;
    must((*file)->read(0, std::as_writable_bytes(std::span(text)), got), "read VERSION");
    const std::string_view said(text.data(), got);
    const unsigned long version = said.starts_with(kVersionText)
                                      ? std::strtoul(text.data() + kVersionText.size(), nullptr, 10)
                                      : 0;
    if (version > kFormatVersion) throw newer("VERSION", static_cast<std::uint32_t>(version));
    if (version == kFormatVersion) return;
    (void)disk.remove("VERSION");  // cut short, or bad: the segments say their version too
  }
  auto made = disk.open("VERSION", OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&made)) {
    // A full disk must not keep what is there from being delivered.
    if (*error == std::errc::no_space_on_device) return;
    must(*error, "write VERSION in the spool's directory");
  }
  const std::string text = std::string(kVersionText) + std::to_string(kFormatVersion) + "\n";
  const std::array<Bytes, 1> pieces{std::as_bytes(std::span(text))};
  if (std::get<0>(made)->write(0, pieces) || std::get<0>(made)->sync()) {
    (void)disk.remove("VERSION");
  }
}

// Remembers that a read failed: a scan takes it for damage. One that could not be opened fails in
// each read.
class WatchedFile final : public DiskFile {
 public:
  explicit WatchedFile(std::unique_ptr<DiskFile> file) : file_(std::move(file)) {}
  explicit WatchedFile(std::error_code error) : read_error_(error) {}

  [[nodiscard]] std::error_code read_error() const { return read_error_; }

  [[nodiscard]] std::error_code read(std::uint64_t offset, std::span<std::byte> into,
                                     std::size_t& got) override {
    got = 0;
    if (!file_) return read_error_;
    const std::error_code error = file_->read(offset, into, got);
    if (error) read_error_ = error;
    return error;
  }
  // Recovery changes no segment.
  [[nodiscard]] std::error_code write(std::uint64_t, std::span<const Bytes>) override {
    return refused();
  }
  [[nodiscard]] std::error_code sync() override { return refused(); }
  [[nodiscard]] std::error_code truncate(std::uint64_t) override { return refused(); }
  [[nodiscard]] std::error_code allocate(std::uint64_t) override { return refused(); }
  [[nodiscard]] std::error_code size(std::uint64_t& bytes) override {
    return file_ ? file_->size(bytes) : read_error_;
  }
  void drop_cache() override {}

 private:
  static std::error_code refused() {
    return std::make_error_code(std::errc::operation_not_permitted);
  }

  const std::unique_ptr<DiskFile> file_;
  std::error_code read_error_;
};

// Another start, a moment later, is likely to do better.
bool is_short_of_something(std::error_code error) {
  return error == std::errc::too_many_files_open || error == std::errc::not_enough_memory ||
         error == std::errc::too_many_files_open_in_system;
}

class Recovery {
 public:
  Recovery(Disk& disk, SpoolReporter& reporter) : disk_(disk), reporter_(reporter) {}

  Recovered run() {
    must(disk_.make_directory("quarantine"), "make a directory in the spool");
    check_version(disk_);
    find_segments();
    keep_readable([this](RecoveredSegment& segment) { return read_head(segment); });
    keep_readable([this](RecoveredSegment& segment) { return find_end(segment); });
    read_marks();
    judge_unread();
    if (result_.knows_all) write_found_keys();
    report_missing();
    if (!result_.hash_seed && !result_.segments.empty()) {
      reporter_.keys_lost(
          result_.segments.back().name,
          "its header is damaged, and no other has the seed of the hashes: neither keys nor "
          "named producers' numbers of earlier runs are known");
    }
    return std::move(result_);
  }

 private:
  // The head of a segment.
  struct Head {
    std::vector<ProducerMark> marks;
    std::vector<SegmentRef> refs;
    bool was_read = false;
    std::uint64_t end_offset = kSegmentHeaderBytes;
  };

  void find_segments() {
    std::vector<DirectoryEntry> entries;
    must(disk_.list("", entries), "list the spool's directory");
    for (const DirectoryEntry& entry : entries) {
      const auto named = parse_segment_name(entry.name, ".log");
      if (named) {
        take(entry, *named);
      } else if (parse_segment_name(entry.name, ".tmp")) {
        (void)disk_.remove(entry.name);
      } else if (!is_ours(entry)) {
        reporter_.file_set_aside(entry.name, "not a file of the spool: left alone");
      }
    }
    std::sort(result_.segments.begin(), result_.segments.end(),
              [](const auto& a, const auto& b) { return a.header.ordinal < b.header.ordinal; });
    quarantine_twins();
  }

  static bool is_ours(const DirectoryEntry& entry) {
    if (!entry.is_file) return true;
    return entry.name == "LOCK" || entry.name == "VERSION" || entry.name == "RESERVE" ||
           parse_segment_name(entry.name, ".keys").has_value();
  }

  void take(const DirectoryEntry& entry, const SegmentName& named) {
    result_.next_ordinal = std::max(result_.next_ordinal, named.ordinal + 1);
    const auto file = open(entry.name);
    const auto header = read_segment_header(*file);
    const auto* good = std::get_if<SegmentHeader>(&header);
    const auto rebuilt = std::holds_alternative<NotASegment>(header)
                             ? rebuild_segment_header(*file, named, entry.bytes)
                             : std::nullopt;
    if (file->read_error()) {
      return leave_unread({entry.name, named.ordinal, named.id, entry.bytes, {}},
                          file->read_error());
    }
    if (const auto* other = std::get_if<OtherVersion>(&header)) {
      throw newer(entry.name, other->version);
    }
    if (good == nullptr && !rebuilt) {
      return quarantine(entry.name, "it has no valid segment header");
    }
    if (good != nullptr && (good->id != named.id || good->ordinal != named.ordinal)) {
      return quarantine(entry.name, "its header has another name");
    }
    if (rebuilt) {
      keep_damage(disk_, *file, entry.name, {0, kSegmentHeaderBytes});
      reporter_.quarantined(named.id, 0, 0, kSegmentHeaderBytes);
    }
    RecoveredSegment segment;
    segment.header = rebuilt ? *rebuilt : *good;
    segment.is_rebuilt = rebuilt.has_value();
    segment.name = entry.name;
    segment.file_bytes = entry.bytes;
    segment.emptied = entry.bytes == kSegmentHeaderBytes;
    result_.segments.push_back(std::move(segment));
  }

  // One at a time: there may be more segments than descriptors.
  std::unique_ptr<WatchedFile> open(const std::string& name) {
    auto opened = disk_.open(name, OpenMode::read_only);
    if (const auto* error = std::get_if<std::error_code>(&opened)) {
      if (is_short_of_something(*error)) must(*error, "open " + name);
      return std::make_unique<WatchedFile>(*error);
    }
    return std::make_unique<WatchedFile>(std::move(std::get<0>(opened)));
  }

  void leave_unread(UnreadSegment unread, std::error_code error) {
    reporter_.file_set_aside(unread.name, "it cannot be read (" + error.message() +
                                              "): left where it is, for another start");
    result_.unread.push_back(std::move(unread));
  }

  // Leaves out the segments at which a look failed.
  template <typename Look>
  void keep_readable(Look look) {
    std::vector<RecoveredSegment> readable;
    for (RecoveredSegment& segment : result_.segments) {
      if (const std::error_code error = look(segment)) {
        leave_unread(
            {segment.name, segment.header.ordinal, segment.header.id, segment.file_bytes, {}},
            error);
      } else {
        readable.push_back(std::move(segment));
      }
    }
    result_.segments = std::move(readable);
  }

  // The same uuid twice: the older ordinal is the one that others know.
  void quarantine_twins() {
    std::map<Uuid, bool> seen;
    std::erase_if(result_.segments, [&](const RecoveredSegment& segment) {
      if (seen.emplace(segment.header.id, true).second) return false;
      quarantine(segment.name, "another file has its uuid");
      return true;
    });
  }

  void quarantine(const std::string& name, const std::string& reason) {
    (void)disk_.rename(name, "quarantine/" + name);
    reporter_.file_set_aside(name, reason);
  }

  // Seeds, refs and producers' numbers stand at the beginning of each file.
  [[nodiscard]] std::error_code read_head(const RecoveredSegment& segment) {
    if (!segment.is_rebuilt) result_.hash_seed = segment.header.hash_seed;  // of the newest
    if (segment.header.does_supersede()) {
      ends_.push_back({segment.header.supersedes, 0, 0, segment.header.supersedes_from, true});
    }
    if (segment.emptied) return {};
    const auto file = open(segment.name);
    SegmentScan scan(*file, segment.header.id, 16 * 1024);
    const auto step = scan.next(segment.file_bytes);
    if (file->read_error()) return file->read_error();
    Head& head = heads_[segment.header.id];
    const auto* block = std::get_if<ScannedBlock>(&step);
    if (block == nullptr || block->header.kind != BlockKind::head) return {};
    head.was_read = true;
    head.end_offset = block->end_offset();
    head.marks = marks_in(block->header, block->payload);
    head.refs = refs_in(block->header, block->payload);
    ends_.insert(ends_.end(), head.refs.begin(), head.refs.end());
    return {};
  }

  [[nodiscard]] std::error_code find_end(RecoveredSegment& segment) {
    if (segment.emptied) {
      segment.end = RecoveredSegment::End::told;
      segment.end_bytes = segment.file_bytes;
      return {};
    }
    const auto file = open(segment.name);
    if (const auto seal = read_seal(*file, segment.header.id, segment.file_bytes)) {
      segment.end = RecoveredSegment::End::sealed;
      segment.end_bytes = segment.file_bytes - kBlockHeaderBytes;
      segment.end_index = seal->first_index;
      return {};
    }
    if (const auto ref = told_end(segment.header.id)) {
      segment.end = RecoveredSegment::End::told;
      segment.end_bytes = std::min(ref->synced_bytes, segment.file_bytes);
      segment.end_index = ref->end_index;
      return {};
    }
    return file->read_error() ? file->read_error() : read_whole(segment, *file);
  }

  [[nodiscard]] std::optional<SegmentRef> told_end(const Uuid& id) const {
    for (const SegmentRef& ref : ends_) {
      if (ref.id == id && ref.closed && ref.synced_bytes != 0) return ref;
    }
    return std::nullopt;
  }

  [[nodiscard]] std::uint64_t told_durable(const Uuid& id) const {
    std::uint64_t bytes = 0;
    for (const SegmentRef& ref : ends_) {
      if (ref.id == id) bytes = std::max(bytes, ref.synced_bytes);
    }
    return bytes;
  }
  // Events of the segment from this index on are in another one.
  [[nodiscard]] std::uint64_t superseded_from(const Uuid& id) const {
    std::uint64_t from = UINT64_MAX;
    for (const SegmentRef& ref : ends_) {
      if (ref.id == id && ref.closed) from = std::min(from, ref.end_index);
    }
    return from;
  }

  // What a segment that is read whole tells beside its end.
  struct Findings {
    FoundKeys keys;
    StartDamage bad;
    std::vector<Damage> gaps;  // durable bytes that are bad, with a good block behind them
  };

  [[nodiscard]] std::uint64_t find_durable(const RecoveredSegment& segment, SegmentScan& scan) {
    const Uuid& id = segment.header.id;
    std::uint64_t durable = std::max(told_durable(id), heads_[id].end_offset);
    for (;;) {
      const auto step = scan.next(segment.file_bytes);
      if (std::holds_alternative<ScanEnd>(step)) break;
      if (const auto* block = std::get_if<ScannedBlock>(&step)) {
        durable = std::max(durable, block->header.synced_upto);
      }
    }
    scan.seek(kSegmentHeaderBytes);
    return std::min(durable, segment.file_bytes);
  }

  // Rule 3 of the format's page.
  [[nodiscard]] std::error_code read_whole(RecoveredSegment& segment, WatchedFile& file) {
    const Uuid& id = segment.header.id;
    const std::uint64_t cut = superseded_from(id);
    SegmentScan scan(file, id);
    const std::uint64_t durable = find_durable(segment, scan);

    Findings found;
    std::uint64_t index = 0;
    std::uint64_t end = kSegmentHeaderBytes;
    std::uint64_t whole_end = end;
    std::optional<Damage> last_damage;  // with no good block behind it
    for (;;) {
      const auto step = scan.next(segment.file_bytes);
      if (std::holds_alternative<ScanEnd>(step)) break;
      if (const auto* damage = std::get_if<Damage>(&step)) {
        // Below the line the events behind it count. A lane that still has to deliver what was
        // there meets the damage as well, and counts the gap.
        if (damage->offset >= durable) break;
        end = std::min(damage->end_offset, durable);
        last_damage = Damage{damage->offset, end};
        if (damage->end_offset > durable) break;
        continue;
      }
      const auto& block = std::get<ScannedBlock>(step);
      if (block.header.end_index() > cut) break;
      if (last_damage) note_gap(found, *last_damage, index, block);
      last_damage.reset();
      whole_end = block.end_offset();
      index = block.header.end_index();
      if (block.offset >= durable) save_tail(segment, block);
      // An empty block at the end tells what came before it, and is not itself known to be durable:
      // nothing is lost without it.
      if (block.header.kind != BlockKind::events && block.offset >= durable) continue;
      end = whole_end;
      found.keys.add_block(block);
      if (block.offset < durable) note_marks(block);
      if (end <= durable) segment.durable_index = index;
    }
    if (file.read_error()) return file.read_error();
    segment.end = RecoveredSegment::End::read;
    segment.end_bytes = end;
    segment.end_index = index;
    segment.durable_bytes = std::min(durable, end);
    segment.tail.resize(end - segment.durable_bytes);
    if (last_damage) {
      keep_damage(disk_, file, segment.name, *last_damage);
      reporter_.quarantined(id, index, std::nullopt, end - last_damage->offset);
    }
    mend_gaps(segment, file, found);
    whole_end = std::max(whole_end, end);
    if (segment.file_bytes > whole_end && cut == UINT64_MAX) {
      reporter_.torn_tail(id, segment.file_bytes - whole_end);
    }
    found_keys_.emplace(id, found.keys.groups());
    return {};
  }

  // The good block behind the bad bytes says how many events were in them.
  static void note_gap(Findings& found, const Damage& damage, std::uint64_t index,
                       const ScannedBlock& behind) {
    const std::uint64_t events =
        behind.header.first_index - std::min(behind.header.first_index, index);
    if (found.gaps.empty()) found.bad.first_index = index;
    found.bad.events += events;
    found.bad.bytes += damage.end_offset - damage.offset;
    found.gaps.push_back(damage);
    found.keys.add_gap(events, behind.header.written_us);
  }

  // The bad blocks' keys stay known where the side file has them: their events were acked, and
  // nearly always committed, and nobody may be told about them by a lane any more. One that was not
  // committed is reported as lost, and its key turns away the same line for the window all the
  // same, as that of a damaged event in a finished segment does; what is committed only the
  // database knows.
  void mend_gaps(const RecoveredSegment& segment, WatchedFile& file, Findings& found) {
    if (found.gaps.empty()) return;
    for (const Damage& damage : found.gaps) keep_damage(disk_, file, segment.name, damage);
    const SegmentHeader& header = segment.header;
    const std::string name = segment_name(header.ordinal, header.id, ".keys");
    found.bad.segment = header.id;
    found.bad.runs = found.gaps.size();
    found.bad.keys_kept = found.keys.fill_gaps(read_key_groups(disk_, name, header.id));
    reporter_.damaged_at_start(found.bad);
  }

  void note_marks(const ScannedBlock& block) {
    if (block.header.kind != BlockKind::head) {
      const auto marks = marks_in(block.header, block.payload);
      read_marks_.insert(read_marks_.end(), marks.begin(), marks.end());
    }
  }

  static void save_tail(RecoveredSegment& segment, const ScannedBlock& block) {
    const BlockHeaderBytes header = encode(block.header, segment.header.id);
    segment.tail.insert(segment.tail.end(), header.begin(), header.end());
    segment.tail.insert(segment.tail.end(), block.payload.begin(), block.payload.end());
    const auto marks = marks_in(block.header, block.payload);
    segment.tail_marks.insert(segment.tail_marks.end(), marks.begin(), marks.end());
  }

  // A key of an event that the segment does not have would make a duplicate of what is nowhere. So
  // what is taken away must stay away, also after a power cut.
  void take_away(const std::string& name) {
    const std::error_code removed = disk_.remove(name);
    if (!removed || removed == std::errc::no_such_file_or_directory) return;
    auto opened = disk_.open(name, OpenMode::read_write);
    if (auto* const file = std::get_if<std::unique_ptr<DiskFile>>(&opened)) {
      (void)(*file)->truncate(0);
      (void)(*file)->sync();
    }
  }

  // Not where something could not be read that may tell of a nearer end: the keys behind it would
  // turn away events that are in no segment.
  void write_found_keys() {
    for (RecoveredSegment& segment : result_.segments) {
      const auto found = found_keys_.find(segment.header.id);
      if (found != found_keys_.end()) write_keys(segment, std::move(found->second));
    }
  }

  // In place of the one that is there at once: another start, which knows where the segment ends,
  // may not read it again.
  void write_keys(RecoveredSegment& segment, KeyGroups groups) {
    const SegmentHeader& header = segment.header;
    const std::string name = segment_name(header.ordinal, header.id, ".keys");
    const std::error_code error = groups.empty()
                                      ? std::error_code()
                                      : replace_keys_file(disk_, header.ordinal, header.id, groups);
    if (groups.empty() || (error && !cut_keys_file(disk_, name, header.id, groups)))
      take_away(name);
    // Before a head says where the segment ends: from then on it is not read for its keys.
    const std::error_code unsynced = disk_.sync_directory("");
    if (groups.empty() || (!error && !unsynced)) return;
    segment.unwritten_keys = std::move(groups);
    reporter_.keys_unwritten(name, (error ? error : unsynced).message());
  }

  // The newest head has the numbers of every segment that was closed before; if it cannot be read,
  // what stands in the others and in their blocks is put together.
  void read_marks() {
    bool complete = false;
    for (auto segment = result_.segments.rbegin(); segment != result_.segments.rend(); ++segment) {
      if (segment->emptied) continue;
      complete = heads_[segment->header.id].was_read;
      break;
    }
    for (const RecoveredSegment& segment : result_.segments) {
      const std::vector<ProducerMark>& marks = heads_[segment.header.id].marks;
      result_.marks.insert(result_.marks.end(), marks.begin(), marks.end());
      if (!complete && !segment.emptied && segment.end != RecoveredSegment::End::read) {
        read_marks_of(segment);
      }
    }
    result_.marks.insert(result_.marks.end(), read_marks_.begin(), read_marks_.end());
  }

  void read_marks_of(const RecoveredSegment& segment) {
    const auto file = open(segment.name);
    SegmentScan scan(*file, segment.header.id);
    for (;;) {
      const auto step = scan.next(segment.end_bytes);
      if (std::holds_alternative<ScanEnd>(step)) break;
      if (const auto* block = std::get_if<ScannedBlock>(&step)) {
        const auto marks = marks_in(block->header, block->payload);
        result_.marks.insert(result_.marks.end(), marks.begin(), marks.end());
      }
    }
    if (file->read_error()) result_.knows_all = false;
  }

  void judge_unread() {
    for (UnreadSegment& unread : result_.unread) {
      unread.told = told_end(unread.id);
      if (!was_closed(unread)) result_.knows_all = false;
    }
  }

  // A newer head has the producers' numbers of all that was closed before it, and tells of each
  // segment that was not.
  [[nodiscard]] bool was_closed(const UnreadSegment& unread) const {
    return std::any_of(result_.segments.begin(), result_.segments.end(), [&](const auto& segment) {
      const auto found = heads_.find(segment.header.id);
      if (segment.header.ordinal <= unread.ordinal || found == heads_.end()) return false;
      const Head& head = found->second;
      return head.was_read &&
             std::none_of(head.refs.begin(), head.refs.end(), [&](const SegmentRef& ref) {
               return ref.id == unread.id && !ref.closed;
             });
    });
  }

  // Holes in the ordinals, but for the files that were moved to quarantine/.
  void report_missing() {
    std::vector<DirectoryEntry> entries;
    (void)disk_.list("quarantine", entries);
    std::set<std::uint64_t> known;
    for (const DirectoryEntry& entry : entries) {
      if (const auto named = parse_segment_name(entry.name, ".log")) known.insert(named->ordinal);
    }
    std::set<std::uint64_t> here;
    for (const RecoveredSegment& segment : result_.segments) here.insert(segment.header.ordinal);
    for (const UnreadSegment& unread : result_.unread) here.insert(unread.ordinal);
    if (here.empty()) return;
    known.insert(here.begin(), here.end());
    const std::uint64_t first = *here.begin();
    const std::uint64_t last = *here.rbegin();
    const auto there = static_cast<std::uint64_t>(
        std::distance(known.lower_bound(first), known.upper_bound(last)));
    if (there != last - first + 1) reporter_.segments_missing(last - first + 1 - there);
  }

  Disk& disk_;
  SpoolReporter& reporter_;
  Recovered result_;
  std::map<Uuid, Head> heads_;
  std::vector<SegmentRef> ends_;          // of all heads, and of superseding headers
  std::vector<ProducerMark> read_marks_;  // of blocks that were read
  std::map<Uuid, KeyGroups> found_keys_;  // of segments whose end had to be found
};

}  // namespace

Recovered recover(Disk& disk, SpoolReporter& reporter) {
  return Recovery(disk, reporter).run();
}

}  // namespace sluice::spool
