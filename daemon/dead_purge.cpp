#include "daemon/dead_purge.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <thread>

#include "daemon/file_lock.hpp"
#include "daemon/spool_directory.hpp"
#include "spool/aside_log.hpp"
#include "spool/posix_disk.hpp"
#include "spool/purge_request.hpp"
#include "spool/reject_log.hpp"
#include "spool/reject_purge.hpp"

namespace sluice::daemon {
namespace {

constexpr std::chrono::seconds kPatience{30};
constexpr std::chrono::milliseconds kPoll{100};

enum class Answer {
  done,
  none,       // it does not do it
  no_daemon,  // it has ended meanwhile
};

// So that a daemon that runs as another user can read what root has written.
void give_to_owner_of(const std::string& directory, const std::string& file) {
  struct stat status {};
  if (::geteuid() != 0 || ::stat(directory.c_str(), &status) != 0) return;
  if (::chown(file.c_str(), status.st_uid, status.st_gid) != 0 && errno != ENOENT) {
    throw std::system_error(errno, std::generic_category(), "giving " + file + " to the daemon");
  }
}

bool has_daemon(const std::string& directory) {
  return is_locked(SpoolDirectory::lock_path(directory));
}

// Until the request, a file in the directory, is gone.
Answer wait_for_daemon(const std::string& directory, spool::Disk& disk, const std::string& name) {
  give_to_owner_of(directory, directory + "/" + name);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::filesystem::exists(directory + "/" + name)) {
    const bool is_there = has_daemon(directory);
    if (!is_there || std::chrono::steady_clock::now() > deadline) {
      (void)disk.remove(name);
      return is_there ? Answer::none : Answer::no_daemon;
    }
    std::this_thread::sleep_for(kPoll);
  }
  return Answer::done;
}

void check(const std::error_code& error, const std::string& what) {
  if (error) throw std::system_error(error, what);
}

// No daemon runs on the spool as long as this one holds the lock.
std::size_t purge_by_ourselves(const std::string& path, std::uint64_t bytes_max,
                               const std::vector<spool::Position>& chosen) {
  SpoolDirectory directory(path);
  spool::AsideLog log({.bytes_max = bytes_max}, directory.disk());
  log.purge(chosen);
  while (log.tend()) {
  }
  std::size_t left = 0;
  for (const spool::Position& each : chosen) left += log.read(each) ? 1 : 0;
  return left;
}

std::size_t purge_files(const std::string& directory, spool::Disk& disk,
                        const std::vector<DeadRecord>& records) {
  std::map<std::uint32_t, std::set<spool::Position>> files;
  for (const DeadRecord& record : records) {
    files[record.place.file].insert(record.text.position);
  }
  std::size_t purged = 0;
  for (const auto& [file, lines] : files) {
    const std::string name = spool::reject_file_name(file);
    // Somebody has taken the file away, and its lines with it.
    if (!std::filesystem::exists(directory + "/" + name)) {
      purged += lines.size();
      continue;
    }
    check(spool::purge_reject_file(disk, file, lines, purged), "writing " + name + " anew");
    give_to_owner_of(directory, directory + "/" + name);
  }
  return records.size() - purged;
}

}  // namespace

std::size_t purge_events(const std::string& directory, std::uint64_t bytes_max,
                         const std::vector<DeadRecord>& records) {
  if (records.empty()) return 0;
  std::vector<spool::Position> chosen;
  for (const DeadRecord& record : records) chosen.push_back(record.text.position);
  if (has_daemon(directory)) {
    spool::PosixDisk disk(directory);
    std::string name;
    check(spool::write_purge_request(disk, chosen, name), "asking the daemon to purge");
    const Answer answer = wait_for_daemon(directory, disk, name);
    if (answer != Answer::no_daemon) return answer == Answer::done ? 0 : chosen.size();
  }
  return purge_by_ourselves(directory, bytes_max, chosen);
}

std::size_t purge_refused_lines(const std::string& directory,
                                const std::vector<DeadRecord>& records) {
  if (records.empty()) return 0;
  const std::string lock = directory + "/" + spool::kRejectPurgeLock;
  const FileLock purging(lock, "the files of refused lines");
  give_to_owner_of(directory, lock);
  if (has_daemon(directory)) {
    spool::PosixDisk disk(directory);
    check(spool::ask_to_let_go_of_rejects(disk), "asking the daemon to let go of its file");
    const Answer answer = wait_for_daemon(directory, disk, spool::kRejectPurgeRequest);
    if (answer == Answer::done) return purge_files(directory, disk, records);
    if (answer == Answer::none) return records.size();
  }
  SpoolDirectory held(directory);
  return purge_files(directory, held.disk(), records);
}

}  // namespace sluice::daemon
