// The files aside/dead-<n>.ndjson in the spool's directory (mode 0600, lines as aside_line.hpp has
// them): one at a time is written, by one run; those of earlier runs are only read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "spool/aside.hpp"
#include "spool/disk.hpp"

namespace sluice::spool {

struct AsideLogOptions {
  bool sync = true;  // durability = "power"
  // Of all the files; the segments wait when they have as much.
  std::uint64_t bytes_max = 256u << 20;
};

// A failed sync poisons a file: it is left alone, and the record is written again to the next.
// Memory: 24 bytes for each record in the files.
//
// Thread: the sink's.
class AsideLog final : public AsideWriter {
 public:
  // Reads the files that are there. REQUIRES: the disk outlives it.
  AsideLog(AsideLogOptions options, Disk& disk);
  AsideLog(const AsideLog&) = delete;
  AsideLog& operator=(const AsideLog&) = delete;

  [[nodiscard]] bool append(const AsideRecord& record) override;
  [[nodiscard]] std::optional<std::vector<AsideEntry>> records_from(
      const Position& position) override;

 private:
  struct Record {
    std::uint64_t index;
    std::uint64_t offset;  // of its line
    std::uint32_t file;    // the n of its name
    AsideState state;
  };
  enum class Written { yes, no, poisoned };
  class LineScan;

  [[nodiscard]] bool scan();
  void scan_file(std::uint32_t file);
  void note(const Uuid& segment, const Record& record);
  [[nodiscard]] bool has_room(std::size_t bytes);
  [[nodiscard]] bool open_file();
  [[nodiscard]] Written write(const std::string& line);
  [[nodiscard]] AsideEntry entry_of(const Record& record) const;

  const AsideLogOptions options_;
  Disk& disk_;
  bool scanned_ = false;
  bool directory_durable_ = false;
  std::uint32_t next_file_ = 1;
  std::uint32_t first_of_run_ = 1;               // files from here on are this run's own
  std::uint64_t bytes_ = 0;                      // of all files
  std::unique_ptr<DiskFile> file_;               // the one that is written: next_file_ - 1
  std::uint64_t end_ = 0;                        // of its last record
  std::map<Uuid, std::vector<Record>> records_;  // by rising index, the last of each
};

}  // namespace sluice::spool
