#include "spool/quarantine.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

namespace sluice::spool {

namespace {

// In pieces, so that one that cannot be read costs no other: zeros stand in its place. How many of
// the first bytes there are; 0 if none could be read.
std::size_t read_what_can_be(DiskFile& file, std::uint64_t offset, std::span<std::byte> into) {
  constexpr std::size_t kPieceBytes = 4096;
  std::size_t end = 0;
  for (std::size_t at = 0; at < into.size(); at += kPieceBytes) {
    const auto piece = into.subspan(at, std::min(kPieceBytes, into.size() - at));
    std::size_t got = 0;
    if (!file.read(offset + at, piece, got)) end = at + got;
  }
  return end;
}

}  // namespace

void keep_damage(Disk& disk, DiskFile& file, const std::string& segment_name,
                 const Damage& damage) {
  const std::string name = "quarantine/" + segment_name + "-" + std::to_string(damage.offset);
  std::vector<std::byte> bytes(static_cast<std::size_t>(damage.end_offset - damage.offset));
  const std::size_t got = read_what_can_be(file, damage.offset, bytes);
  if (got == 0) return;
  auto copy = disk.open(name, OpenMode::create);
  if (std::holds_alternative<std::error_code>(copy)) return;
  const auto& kept = std::get<0>(copy);
  const std::array<Bytes, 1> pieces{Bytes(bytes).first(got)};
  if (kept->write(0, pieces) || kept->sync()) (void)disk.remove(name);
}

}  // namespace sluice::spool
