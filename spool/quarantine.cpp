#include "spool/quarantine.hpp"

#include <array>
#include <vector>

namespace sluice::spool {

void keep_damage(Disk& disk, DiskFile& file, const std::string& segment_name,
                 const Damage& damage) {
  const std::string name = "quarantine/" + segment_name + "-" + std::to_string(damage.offset);
  std::vector<std::byte> bytes(static_cast<std::size_t>(damage.end_offset - damage.offset));
  std::size_t got = 0;
  if (file.read(damage.offset, bytes, got) || got == 0) return;
  auto copy = disk.open(name, OpenMode::create);
  if (std::holds_alternative<std::error_code>(copy)) return;
  const auto& kept = std::get<0>(copy);
  const std::array<Bytes, 1> pieces{Bytes(bytes).first(got)};
  if (kept->write(0, pieces) || kept->sync()) (void)disk.remove(name);
}

}  // namespace sluice::spool
