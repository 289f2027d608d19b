// The commands `spool ls|verify|dump|export`: what is in the spool's files. They only read, and
// work beside the daemon that writes them.
#pragma once

#include <string>
#include <vector>

namespace sluice::daemon {

// Each prints to stdout, problems to stderr, and returns the exit code: kExitRefused if there are
// damaged bytes or files, kExitConfig if a file is of a newer format, kExitUsage if a segment that
// was named is not there. They throw std::system_error if the directory cannot be read or the
// output not written.
//
// A segment is named by its ordinal, its uuid, or its file.

// A table of the segments.
[[nodiscard]] int list_spool(const std::string& directory);
// Reads every byte, and tells which are bad.
[[nodiscard]] int verify_spool(const std::string& directory);
// What is known of each event of a segment beside its line; as JSON lines if `json`.
[[nodiscard]] int dump_segment(const std::string& directory, const std::string& segment, bool json);
// The lines as they came, of the segments or of all; each event once.
[[nodiscard]] int export_spool(const std::string& directory,
                               const std::vector<std::string>& segments);

}  // namespace sluice::daemon
