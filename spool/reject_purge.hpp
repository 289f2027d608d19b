// Takes refused lines out of their files for good (spool/reject_log.hpp), also beside a daemon that
// writes more of them.
//
// The daemon writes one of the files, the newest. Asked by a file aside/rejects.purge, it lets go
// of it, removes the request within a second or so, and goes on in a new file. From then on those
// that are there belong to nobody, and who asked writes them anew. That the daemon does it was
// rejected: the thread that waits for the disk with every block would copy some megabytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <system_error>

#include "spool/aside.hpp"
#include "spool/disk.hpp"

namespace sluice::spool {

// Locked by who purges: two who write the same file anew would bring back what the other took out.
inline const std::string kRejectPurgeLock = "aside/rejects.lock";
inline const std::string kRejectPurgeRequest = "aside/rejects.purge";

// No error if it is asked already.
[[nodiscard]] std::error_code ask_to_let_go_of_rejects(Disk& disk);
// True if it was asked; the request is gone then.
[[nodiscard]] bool take_request_to_let_go_of_rejects(Disk& disk);

// Writes the file anew without the lines, or removes it if none is left. `purged` rises by how many
// are gone. After a failure the file is as it was.
//
// REQUIRES: nobody writes the file.
[[nodiscard]] std::error_code purge_reject_file(Disk& disk, std::uint32_t file,
                                                const std::set<Position>& lines,
                                                std::size_t& purged);

}  // namespace sluice::spool
