// The good lines of an aside file, found without holding the file, or a long line, in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "spool/aside.hpp"
#include "spool/crc32c.hpp"
#include "spool/disk.hpp"

namespace sluice::spool {

// Where a file's line stands, and what it is.
struct AsideFound {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // with the newline
  AsideText text;           // without the producer's line; as aside_head()
};

// Calls `found` for each line whose checksum is right, in the file's order. Lines that a crash has
// cut off or garbled are passed over.
[[nodiscard]] std::error_code scan_aside_file(DiskFile& file,
                                              const std::function<void(AsideFound)>& found);

// The whole line that begins there, with its newline. None: it cannot be read, or there is none.
[[nodiscard]] std::optional<std::string> read_aside_line(DiskFile& file, std::uint64_t offset);

// aside/dead-<n>.ndjson
[[nodiscard]] std::string aside_file_name(std::uint32_t file);
// The n of a name in the directory; none: it is no such file.
[[nodiscard]] std::optional<std::uint32_t> aside_file_number(std::string_view name);
inline const std::string kAsideDirectory = "aside";

}  // namespace sluice::spool
