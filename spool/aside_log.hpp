// The files aside/dead-<n>.ndjson in the spool's directory (mode 0600, lines as aside_line.hpp has
// them): one at a time is written, by one run; those of earlier runs are only read, or written anew
// without what is done with.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spool/aside.hpp"
#include "spool/aside_index.hpp"
#include "spool/disk.hpp"

namespace sluice::spool {

struct AsideLogOptions {
  bool sync = true;  // durability = "power"
  // Of all the files; the segments wait when they have as much.
  std::uint64_t bytes_max = 256u << 20;
  // A file that has as much is followed by another: what is written anew at once stays small.
  std::uint64_t file_bytes = 4u << 20;
  // How long the record of a row that was delivered is kept, as the segments are.
  std::chrono::seconds retain_time{900};
  std::function<std::int64_t()> steady_now_s = [] { return std::int64_t{0}; };
};

// What metrics tell of the files. Publishes nothing but itself. Threads: any.
struct AsideGauges {
  std::array<std::atomic<std::uint64_t>, kAsideStateCount> records{};  // not delivered, by state
  std::atomic<std::uint64_t> delivered{0};  // still kept, as a failover may lose the row
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<bool> full{false};  // a record found no room, and none has since
};

// A failed sync poisons a file: it is left alone, and the record is written again to the next.
//
// What is done with (a later record counts, or the row was delivered retain_time ago, or somebody
// purged it) is taken out by writing its file anew under a temporary name and renaming it. The
// files are gone through from the oldest on, as an older record of an event must not outlive a
// newer one: it would count again.
//
// Thread: the sink's, but for gauges().
class AsideLog final : public AsideWriter, public AsideQueue {
 public:
  // Reads the files that are there. REQUIRES: the disk outlives it.
  AsideLog(AsideLogOptions options, Disk& disk);
  AsideLog(const AsideLog&) = delete;
  AsideLog& operator=(const AsideLog&) = delete;

  [[nodiscard]] bool append(const AsideRecord& record) override;
  [[nodiscard]] std::optional<std::vector<AsideEntry>> records_from(
      const Position& position) override;

  [[nodiscard]] std::vector<AsideTry> to_try(const AsidePlace& after, std::size_t count) override;
  [[nodiscard]] bool has_waiting() const override { return index_.has_waiting(); }
  [[nodiscard]] std::optional<AsideText> read(const Position& position) override;
  [[nodiscard]] bool change(const AsideRecord& record) override { return append(record); }
  void delivered(const Position& position) override;
  [[nodiscard]] std::vector<RedeliveredCount> redelivered() const override;
  std::uint64_t found_redelivered(const Uuid& segment,
                                  std::span<const std::uint64_t> indexes) override;

  // One bounded turn of housekeeping: takes requests to purge, and writes at most one file anew.
  // True: there is more to do at once.
  [[nodiscard]] bool tend();
  // Marks the records, so that tend() takes them out.
  void purge(std::span<const Position> records);

  [[nodiscard]] const AsideGauges& gauges() const { return gauges_; }

 private:
  enum class Written { yes, no, poisoned };
  struct File {
    std::uint64_t bytes = 0;
    std::uint64_t lines = 0;  // good ones
  };
  struct Moved {
    Position position;
    std::uint64_t offset = 0;
  };
  // A file as it is to be.
  struct Rewritten {
    File file;
    std::vector<Moved> moved;
  };

  [[nodiscard]] bool scan();
  void scan_file(std::uint32_t file, std::uint64_t bytes);
  [[nodiscard]] bool has_room(std::size_t bytes);
  [[nodiscard]] bool open_file();
  [[nodiscard]] Written write(const std::string& line);
  [[nodiscard]] AsideEntry entry_of(const AsideIndex::Record& record) const;
  [[nodiscard]] bool is_nearly_full() const { return bytes() > options_.bytes_max / 10 * 9; }
  [[nodiscard]] std::uint64_t bytes() const;

  void take_purge_requests();
  void finish_purge_requests();
  void let_go_of_delivered();
  [[nodiscard]] std::vector<std::uint32_t> files_to_renew() const;
  [[nodiscard]] bool renew(std::uint32_t file);
  [[nodiscard]] std::optional<Rewritten> copy_kept(std::uint32_t file, DiskFile& from,
                                                   DiskFile& to) const;
  void renewed(std::uint32_t file, const Rewritten& rewritten);
  void publish();

  const AsideLogOptions options_;
  Disk& disk_;
  bool scanned_ = false;
  bool directory_durable_ = false;
  std::uint32_t next_file_ = 1;
  std::uint32_t first_of_run_ = 1;       // files from here on are this run's own
  std::map<std::uint32_t, File> files_;  // by the n of their names
  std::unique_ptr<DiskFile> file_;       // the one that is written: next_file_ - 1
  std::uint64_t end_ = 0;                // of its last record
  AsideIndex index_;
  std::vector<std::uint32_t> renewing_;  // files still to be written anew, the oldest last
  std::vector<std::string> requests_;    // that were taken and are not done
  bool has_purged_ = false;              // since the last round
  std::int64_t renewed_s_ = 0;           // when the last round of renewing ended
  AsideGauges gauges_;
};

}  // namespace sluice::spool
