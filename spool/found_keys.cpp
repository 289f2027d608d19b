#include "spool/found_keys.hpp"

#include <algorithm>
#include <cstring>

namespace sluice::spool {
namespace {

using KeyGroup = KeyGroups::value_type;

bool is_same(const KeyGroup& a, const KeyGroup& b) {
  return a.first == b.first &&
         std::equal(a.second.begin(), a.second.end(), b.second.begin(), b.second.end(),
                    [](const StoredKey& x, const StoredKey& y) {
                      return x.first == y.first && x.second == y.second;
                    });
}

KeyGroups::const_iterator find_group(KeyGroups::const_iterator from, KeyGroups::const_iterator to,
                                     const KeyGroup& group) {
  return std::find_if(from, to, [&](const KeyGroup& each) { return is_same(each, group); });
}

}  // namespace

KeyGroups read_key_groups(Disk& disk, const std::string& name, const Uuid& segment) {
  KeyGroups found;
  const auto reader = KeysReader::open(disk, name);
  if (!reader || reader->segment() != segment) return found;
  bool cut = false;
  for (const KeysGroup& group : reader->groups(cut)) {
    if (auto keys = reader->keys(group)) found.emplace_back(group.written_us, std::move(*keys));
  }
  return found;
}

std::error_code replace_keys_file(Disk& disk, std::uint64_t ordinal, const Uuid& segment,
                                  const KeyGroups& groups) {
  const std::string temporary = segment_name(ordinal, segment, ".tmp");
  (void)disk.remove(temporary);
  std::error_code error;
  const auto writer = KeysWriter::create(disk, temporary, segment, error);
  for (const auto& [written_us, keys] : groups) {
    if (!error) error = writer->append(written_us, keys);
  }
  if (!error) error = writer->sync();
  if (!error) error = disk.rename(temporary, segment_name(ordinal, segment, ".keys"));
  if (error) (void)disk.remove(temporary);
  return error;
}

bool cut_keys_file(Disk& disk, const std::string& name, const Uuid& segment,
                   const KeyGroups& groups) {
  const auto reader = KeysReader::open(disk, name);
  if (!reader || reader->segment() != segment) return false;
  std::uint64_t end = 0;
  bool cut = false;
  std::size_t at = 0;
  for (const KeysGroup& group : reader->groups(cut)) {
    const auto keys = reader->keys(group);
    if (!keys || at == groups.size() || !is_same({group.written_us, *keys}, groups[at++])) break;
    end = group.end_offset;
  }
  if (end == 0) return false;
  auto opened = disk.open(name, OpenMode::read_write);
  auto* const file = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  return file != nullptr && !(*file)->truncate(end) && !(*file)->sync();
}

void FoundKeys::add_block(const ScannedBlock& block) {
  std::vector<StoredKey> keys;
  collect_keys(block.records(), keys);
  if (!keys.empty()) groups_.emplace_back(block.header.written_us, std::move(keys));
}

void FoundKeys::add_gap(std::uint64_t events, std::int64_t before_us) {
  if (!gaps_.empty() && gaps_.back().at == groups_.size()) {
    events += gaps_.back().events;
    gaps_.pop_back();
  }
  gaps_.push_back({groups_.size(), events, before_us});
}

std::uint64_t FoundKeys::fill_gaps(const KeyGroups& side) {
  std::uint64_t keys = 0;
  // From the last one on, so that what is put in moves no gap before it.
  for (; !gaps_.empty(); gaps_.pop_back()) {
    KeyGroups found = groups_of(gaps_.back(), side);
    for (const KeyGroup& group : found) keys += group.second.size();
    groups_.insert(groups_.begin() + static_cast<std::ptrdiff_t>(gaps_.back().at),
                   std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
  }
  return keys;
}

// A side file may have groups of blocks that are in no segment any more: they stood at the
// segment's end, and an earlier start found them there. What stands in it between two good blocks
// is of the bad ones between them. Where no block with keys follows, the time tells: what was
// written before the good block behind the gap was not written after it. And there cannot be more
// keys than events. A doubt means that nothing is taken.
KeyGroups FoundKeys::groups_of(const Gap& gap, const KeyGroups& side) const {
  auto from = side.begin();
  if (gap.at != 0) {
    from = find_group(from, side.end(), groups_[gap.at - 1]);
    if (from == side.end()) return {};
    ++from;
  }
  auto to = side.end();
  if (gap.at != groups_.size()) to = find_group(from, side.end(), groups_[gap.at]);
  if (to == side.end()) {
    to = std::find_if(from, side.end(),
                      [&](const KeyGroup& group) { return group.first >= gap.before_us; });
  }
  std::uint64_t keys = 0;
  for (auto group = from; group != to; ++group) keys += group->second.size();
  if (keys > gap.events) return {};
  return {from, to};
}

std::variant<KeyGroups, std::error_code> read_segment_keys(Disk& disk, std::uint64_t ordinal,
                                                           const Uuid& segment,
                                                           std::uint64_t end_bytes) {
  auto opened = disk.open(segment_name(ordinal, segment, ".log"), OpenMode::read_only);
  if (const auto* error = std::get_if<std::error_code>(&opened)) return *error;
  SegmentScan scan(*std::get<0>(opened), segment);
  FoundKeys found;
  std::uint64_t index = 0;
  bool gap = false;
  for (;;) {
    const auto step = scan.next(end_bytes);
    if (std::holds_alternative<ScanEnd>(step)) break;
    if (scan.read_error()) return scan.read_error();
    const auto* block = std::get_if<ScannedBlock>(&step);
    if (block == nullptr) {
      gap = true;
      continue;
    }
    if (std::exchange(gap, false)) {
      found.add_gap(block->header.first_index - std::min(block->header.first_index, index),
                    block->header.written_us);
    }
    index = block->header.end_index();
    found.add_block(*block);
  }
  (void)found.fill_gaps(read_key_groups(disk, segment_name(ordinal, segment, ".keys"), segment));
  return found.groups();
}

}  // namespace sluice::spool
