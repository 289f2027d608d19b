// Keeps what cannot be delivered: copies of damaged bytes, and whole files, in quarantine/.
#pragma once

#include <string>

#include "spool/disk.hpp"
#include "spool/segment_scan.hpp"

namespace sluice::spool {

// Copies the damaged bytes to quarantine/<segment's name>-<offset>, unless that is there: zeros
// where they cannot be read. A copy that cannot be made is left out: the bytes stay in the segment
// as long as it is kept.
void keep_damage(Disk& disk, DiskFile& file, const std::string& segment_name, const Damage& damage);

}  // namespace sluice::spool
