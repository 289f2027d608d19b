// The spool's directory in memory, with the two things a real one has and a test cannot wait for:
// what was not synced may be lost, and any call may fail or be the last that the process made.
//
// Each file is two images: what the page cache has, and what the medium has. A write goes to the
// first; sync() copies what is dirty to the second. A name that was made, moved or removed is on
// the medium when each directory that it concerns was synced. A power cut leaves the medium and,
// of what was not synced, anything: all, nothing, some sectors, zeros, garbage.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spool/disk.hpp"
#include "tests/support/seeded_random.hpp"

namespace sluice::tests {

// Bytes with an end; what was never written reads as zeros and takes no memory.
class FileImage {
 public:
  [[nodiscard]] std::uint64_t size() const { return size_; }
  void resize(std::uint64_t size) {
    size_ = size;
    if (bytes_.size() > size) bytes_.resize(size);
  }
  void put(std::uint64_t offset, spool::Bytes bytes) {
    if (bytes.empty()) return;
    const std::uint64_t end = offset + bytes.size();
    if (bytes_.size() < end) bytes_.resize(end);
    std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
    size_ = std::max(size_, end);
  }
  // What there is of [offset, offset + into.size()).
  std::size_t get(std::uint64_t offset, std::span<std::byte> into) const {
    if (offset >= size_) return 0;
    const std::size_t count = std::min<std::uint64_t>(into.size(), size_ - offset);
    const std::size_t stored =
        offset >= bytes_.size() ? 0 : std::min<std::uint64_t>(count, bytes_.size() - offset);
    if (stored > 0) std::memcpy(into.data(), bytes_.data() + offset, stored);
    std::fill_n(into.begin() + static_cast<std::ptrdiff_t>(stored), count - stored, std::byte{0});
    return count;
  }
  // Makes [begin, end) what it is in `other`; the size stays.
  void take(const FileImage& other, std::uint64_t begin, std::uint64_t end) {
    end = std::min(end, size_);
    if (begin >= end) return;
    if (bytes_.size() < end) bytes_.resize(end);
    const std::span<std::byte> into(bytes_.data() + begin, end - begin);
    const std::size_t got = other.get(begin, into);
    std::fill(into.begin() + static_cast<std::ptrdiff_t>(got), into.end(), std::byte{0});
  }

 private:
  std::vector<std::byte> bytes_;  // [0, bytes_.size()) of the file, at most size_
  std::uint64_t size_ = 0;
};

// Thread: one.
class FakeDisk final : public spool::Disk {
 public:
  enum class Call {
    open,
    write,
    read,
    sync,
    truncate,
    allocate,
    rename,
    remove,
    sync_directory,
    make_directory,
    list,
  };
  // Thrown out of the call that the process did not survive.
  struct ProcessKilled {};

  explicit FakeDisk(std::uint64_t seed = 0) : random_(seed) {}

  // Asked before each call; an error makes it fail. Of a write that fails any first part is there;
  // of a sync that fails any part of what was dirty is on the medium, and the rest is forgotten by
  // the next sync, as kernels do.
  std::function<std::error_code(Call, const std::string& name)> fault;
  // A read that touches one of these fails with EIO, whatever `fault` says.
  struct Unreadable {
    std::string name;
    std::uint64_t begin;
    std::uint64_t end;
  };
  std::vector<Unreadable> unreadable;
  // Of all files; what does not fit fails with ENOSPC.
  std::uint64_t capacity_bytes = std::numeric_limits<std::uint64_t>::max();
  // ProcessKilled is thrown in the call that makes calls() reach this. 0: never.
  std::uint64_t kill_at = 0;

  [[nodiscard]] std::uint64_t calls() const { return calls_; }
  [[nodiscard]] std::uint64_t used_bytes() const { return used_bytes_; }

  // The process is gone, and what it has written stays. Nothing works before restart().
  void crash() { alive_ = false; }
  // The machine is gone, and what was not synced is in doubt.
  void power_cut();
  void restart() {
    alive_ = true;
    kill_at = 0;
    ++epoch_;
  }

  // Puts a copy of the other's files here, all of it on the medium: a backup, or a clone.
  void copy_from(const FakeDisk& other);

  // For tests that look at or damage files: empty if there is none with that name.
  [[nodiscard]] std::vector<std::byte> content(const std::string& name) const;
  void set_content(const std::string& name, spool::Bytes bytes);
  [[nodiscard]] std::vector<std::string> names() const;

  [[nodiscard]] std::variant<std::unique_ptr<spool::DiskFile>, std::error_code> open(
      const std::string& name, spool::OpenMode mode) override;
  [[nodiscard]] std::error_code rename(const std::string& from, const std::string& to) override;
  [[nodiscard]] std::error_code remove(const std::string& name) override;
  [[nodiscard]] std::error_code sync_directory(const std::string& name) override;
  [[nodiscard]] std::error_code make_directory(const std::string& name) override;
  [[nodiscard]] std::error_code list(const std::string& directory,
                                     std::vector<spool::DirectoryEntry>& entries) override;

 private:
  static constexpr std::uint64_t kSectorBytes = 512;

  struct Range {
    std::uint64_t begin;
    std::uint64_t end;
  };
  struct Inode {
    FileImage cache;
    FileImage medium;
    std::vector<Range> dirty;     // written since the last sync
    std::vector<Range> doubtful;  // dirty in a sync that failed: the kernel thinks them clean
    std::vector<Range> cut;       // by truncate since the last sync: as it was, or zeros

    void soil(std::uint64_t begin, std::uint64_t end) {
      if (!dirty.empty() && dirty.back().end == begin) {
        dirty.back().end = end;
      } else if (begin < end) {
        dirty.push_back({begin, end});
      }
    }
  };
  using InodePtr = std::shared_ptr<Inode>;

  // A change of names that is not on the medium: `inode` gets the name `to`, and `from` goes.
  struct NameChange {
    std::string from;  // empty: a new file
    std::string to;    // empty: a removal
    InodePtr inode;    // none: `to` is a directory
    bool from_synced;
    bool to_synced;
  };
  struct Names {
    std::map<std::string, InodePtr> files;
    std::set<std::string> directories{""};

    void apply(const NameChange& change);
  };

  class File;

  static std::error_code error(int number) { return {number, std::system_category()}; }
  static std::string directory_of(const std::string& name) {
    const std::size_t slash = name.find('/');
    return slash == std::string::npos ? std::string() : name.substr(0, slash);
  }

  [[nodiscard]] bool dies_now() { return ++calls_ == kill_at; }
  [[noreturn]] void die() {
    alive_ = false;
    throw ProcessKilled{};
  }
  // What every call but a write begins with.
  [[nodiscard]] std::error_code begin(Call call, const std::string& name) {
    if (!alive_) return error(EIO);
    if (dies_now()) die();
    return fault ? fault(call, name) : std::error_code{};
  }
  [[nodiscard]] bool grow(Inode& inode, std::uint64_t size);
  void change_names(NameChange change);
  void spill(Inode& inode, Range range, bool damaged);
  void lose_unsynced(Inode& inode);
  void fail_sync(Inode& inode);
  void lose_names();

  SeededRandom random_;
  bool alive_ = true;
  std::uint64_t epoch_ = 0;  // handles of an earlier one are dead
  std::uint64_t calls_ = 0;
  std::uint64_t used_bytes_ = 0;
  Names live_;
  Names durable_;
  std::vector<NameChange> unsynced_names_;  // in their order
};

class FakeDisk::File final : public spool::DiskFile {
 public:
  File(FakeDisk& disk, std::string name, InodePtr inode, bool writable)
      : disk_(disk),
        name_(std::move(name)),
        inode_(std::move(inode)),
        writable_(writable),
        epoch_(disk.epoch_) {}

  [[nodiscard]] std::error_code write(std::uint64_t offset,
                                      std::span<const spool::Bytes> pieces) override {
    if (!alive()) return error(EIO);
    if (!writable_) return error(EBADF);
    if (disk_.dies_now()) {
      (void)write_part(offset, pieces);
      disk_.die();
    }
    if (const std::error_code failed = ask(Call::write)) {
      (void)write_part(offset, pieces);
      return failed;
    }
    return write_bytes(offset, pieces, std::numeric_limits<std::uint64_t>::max());
  }

  [[nodiscard]] std::error_code read(std::uint64_t offset, std::span<std::byte> into,
                                     std::size_t& got) override {
    got = 0;
    if (const std::error_code failed = begin(Call::read)) return failed;
    for (const Unreadable& bad : disk_.unreadable) {
      if (bad.name == name_ && bad.begin < offset + into.size() && offset < bad.end) {
        return error(EIO);
      }
    }
    got = inode_->cache.get(offset, into);
    return {};
  }

  [[nodiscard]] std::error_code sync() override {
    if (const std::error_code failed = begin(Call::sync)) {
      if (alive()) disk_.fail_sync(*inode_);
      return failed;
    }
    Inode& inode = *inode_;
    inode.medium.resize(inode.cache.size());
    for (const Range& range : inode.cut) inode.medium.take(inode.cache, range.begin, range.end);
    for (const Range& range : inode.dirty) inode.medium.take(inode.cache, range.begin, range.end);
    inode.dirty.clear();
    inode.cut.clear();
    return {};
  }

  [[nodiscard]] std::error_code truncate(std::uint64_t bytes) override {
    if (const std::error_code failed = begin(Call::truncate)) return failed;
    if (!writable_) return error(EINVAL);
    const std::uint64_t before = inode_->cache.size();
    if (bytes >= before) return disk_.grow(*inode_, bytes) ? std::error_code{} : error(ENOSPC);
    inode_->cache.resize(bytes);
    inode_->cut.push_back({bytes, before});
    disk_.used_bytes_ -= before - bytes;
    return {};
  }

  [[nodiscard]] std::error_code allocate(std::uint64_t bytes) override {
    if (const std::error_code failed = begin(Call::allocate)) return failed;
    if (!writable_) return error(EBADF);
    return disk_.grow(*inode_, std::max(bytes, inode_->cache.size())) ? std::error_code{}
                                                                      : error(ENOSPC);
  }

  [[nodiscard]] std::error_code size(std::uint64_t& bytes) override {
    if (!alive()) return error(EIO);
    bytes = inode_->cache.size();
    return {};
  }

  // What a failed sync has left in doubt is read from the medium from now on.
  void drop_cache() override {
    Inode& inode = *inode_;
    if (inode.doubtful.empty()) return;
    const FileImage written = inode.cache;
    for (const Range& range : inode.doubtful) {
      inode.cache.take(inode.medium, range.begin, range.end);
    }
    for (const Range& range : inode.dirty) inode.cache.take(written, range.begin, range.end);
    inode.doubtful.clear();
  }

 private:
  [[nodiscard]] bool alive() const { return disk_.alive_ && epoch_ == disk_.epoch_; }
  [[nodiscard]] std::error_code ask(Call call) const {
    return disk_.fault ? disk_.fault(call, name_) : std::error_code{};
  }
  [[nodiscard]] std::error_code begin(Call call) {
    return alive() ? disk_.begin(call, name_) : error(EIO);
  }

  [[nodiscard]] std::error_code write_part(std::uint64_t offset,
                                           std::span<const spool::Bytes> pieces) {
    std::uint64_t bytes = 0;
    for (const spool::Bytes& piece : pieces) bytes += piece.size();
    return write_bytes(offset, pieces, disk_.random_.below(bytes + 1));
  }
  [[nodiscard]] std::error_code write_bytes(std::uint64_t offset,
                                            std::span<const spool::Bytes> pieces,
                                            std::uint64_t bytes_max) {
    for (spool::Bytes piece : pieces) {
      piece = piece.first(std::min<std::uint64_t>(piece.size(), bytes_max));
      bytes_max -= piece.size();
      const std::uint64_t end = offset + piece.size();
      if (!disk_.grow(*inode_, std::max(end, inode_->cache.size()))) return error(ENOSPC);
      inode_->cache.put(offset, piece);
      inode_->soil(offset, end);
      offset = end;
    }
    return {};
  }

  FakeDisk& disk_;
  const std::string name_;
  const InodePtr inode_;
  const bool writable_;
  const std::uint64_t epoch_;
};

inline void FakeDisk::Names::apply(const NameChange& change) {
  if (!change.inode && !change.to.empty()) {
    directories.insert(change.to);
    return;
  }
  if (!change.from.empty()) {
    const auto found = files.find(change.from);
    // The change before it, which made the name, did not survive.
    if (found == files.end() || found->second != change.inode) return;
    if (!change.to.empty() && !directories.contains(directory_of(change.to))) return;
    files.erase(found);
  }
  if (!change.to.empty() && directories.contains(directory_of(change.to))) {
    files[change.to] = change.inode;
  }
}

inline bool FakeDisk::grow(Inode& inode, std::uint64_t size) {
  const std::uint64_t growth = size - inode.cache.size();
  if (growth > capacity_bytes - std::min(capacity_bytes, used_bytes_)) return false;
  used_bytes_ += growth;
  inode.cache.resize(size);
  return true;
}

inline void FakeDisk::change_names(NameChange change) {
  live_.apply(change);
  unsynced_names_.push_back(std::move(change));
}

inline std::variant<std::unique_ptr<spool::DiskFile>, std::error_code> FakeDisk::open(
    const std::string& name, spool::OpenMode mode) {
  if (const std::error_code failed = begin(Call::open, name)) return failed;
  const auto found = live_.files.find(name);
  if (mode != spool::OpenMode::create) {
    if (found == live_.files.end()) return error(ENOENT);
    return std::make_unique<File>(*this, name, found->second, mode == spool::OpenMode::read_write);
  }
  if (found != live_.files.end()) return error(EEXIST);
  if (!live_.directories.contains(directory_of(name))) return error(ENOENT);
  auto inode = std::make_shared<Inode>();
  change_names({"", name, inode, true, false});
  return std::make_unique<File>(*this, name, std::move(inode), true);
}

inline std::error_code FakeDisk::rename(const std::string& from, const std::string& to) {
  if (const std::error_code failed = begin(Call::rename, from)) return failed;
  const auto found = live_.files.find(from);
  if (found == live_.files.end()) return error(ENOENT);
  if (!live_.directories.contains(directory_of(to))) return error(ENOENT);
  if (const auto old = live_.files.find(to); old != live_.files.end()) {
    used_bytes_ -= old->second->cache.size();
  }
  change_names({from, to, found->second, false, false});
  return {};
}

inline std::error_code FakeDisk::remove(const std::string& name) {
  if (const std::error_code failed = begin(Call::remove, name)) return failed;
  const auto found = live_.files.find(name);
  if (found == live_.files.end()) return error(ENOENT);
  used_bytes_ -= found->second->cache.size();
  change_names({name, "", found->second, false, true});
  return {};
}

inline std::error_code FakeDisk::sync_directory(const std::string& name) {
  if (const std::error_code failed = begin(Call::sync_directory, name)) return failed;
  if (!live_.directories.contains(name)) return error(ENOENT);
  std::vector<NameChange> left;
  for (NameChange& change : unsynced_names_) {
    if (directory_of(change.from) == name) change.from_synced = true;
    if (directory_of(change.to) == name) change.to_synced = true;
    if (change.from_synced && change.to_synced) {
      durable_.apply(change);
    } else {
      left.push_back(std::move(change));
    }
  }
  unsynced_names_ = std::move(left);
  return {};
}

inline std::error_code FakeDisk::make_directory(const std::string& name) {
  if (const std::error_code failed = begin(Call::make_directory, name)) return failed;
  if (live_.directories.contains(name)) return {};
  if (live_.files.contains(name)) return error(ENOTDIR);
  change_names({"", name, nullptr, true, false});
  return {};
}

inline std::error_code FakeDisk::list(const std::string& directory,
                                      std::vector<spool::DirectoryEntry>& entries) {
  entries.clear();
  if (const std::error_code failed = begin(Call::list, directory)) return failed;
  if (!live_.directories.contains(directory)) return error(ENOENT);
  for (const auto& [name, inode] : live_.files) {
    if (directory_of(name) != directory) continue;
    const std::size_t cut = directory.empty() ? 0 : directory.size() + 1;
    entries.push_back({name.substr(cut), inode->cache.size(), true});
  }
  if (directory.empty()) {
    for (const std::string& name : live_.directories) {
      if (!name.empty()) entries.push_back({name, 4096, false});
    }
  }
  return {};
}

// Brings each sector of a dirty range to the medium, or not; `damaged`: or something else instead.
inline void FakeDisk::spill(Inode& inode, Range range, bool damaged) {
  for (std::uint64_t at = range.begin; at < range.end;) {
    const std::uint64_t end = std::min(range.end, (at / kSectorBytes + 1) * kSectorBytes);
    const std::uint64_t fate = random_.below(damaged ? 4 : 2);
    if (fate == 0) {
      inode.medium.take(inode.cache, at, end);
    } else if (fate > 1 && at < inode.medium.size()) {
      std::vector<std::byte> junk(std::min(end, inode.medium.size()) - at);
      if (fate == 3) {
        for (std::byte& byte : junk) byte = static_cast<std::byte>(random_.next());
      }
      inode.medium.put(at, junk);
    }
    at = end;
  }
}

inline void FakeDisk::lose_unsynced(Inode& inode) {
  const std::uint64_t size = inode.cache.size();
  if (!inode.cut.empty() && random_.once_in(2)) {
    for (const Range& range : inode.cut) {
      inode.medium.resize(std::min(inode.medium.size(), range.begin));
    }
  }
  const bool is_dirty = !inode.dirty.empty() || inode.medium.size() != size;
  switch (is_dirty ? random_.below(4) : 0) {
    case 0:  // nothing survives
      break;
    case 1: {  // all of it, or a first part
      const std::uint64_t keep = random_.once_in(2) ? size : random_.below(size + 1);
      const std::uint64_t cut = std::max(keep, std::min(inode.medium.size(), size));
      inode.medium.resize(cut);
      for (const Range& range : inode.dirty) {
        if (range.begin < keep) {
          inode.medium.take(inode.cache, range.begin, std::min(range.end, keep));
        }
      }
      break;
    }
    default: {  // some sectors, zeros, garbage
      const bool damaged = random_.once_in(2);
      if (random_.once_in(2)) inode.medium.resize(size);
      for (const Range& range : inode.dirty) spill(inode, range, damaged);
    }
  }
  inode.cache = inode.medium;
  inode.dirty.clear();
  inode.doubtful.clear();
  inode.cut.clear();
}

inline void FakeDisk::fail_sync(Inode& inode) {
  if (random_.once_in(2)) inode.medium.resize(inode.cache.size());
  for (const Range& range : inode.dirty) {
    spill(inode, range, false);
    inode.doubtful.push_back(range);
  }
  inode.dirty.clear();
}

// A journaling file system keeps the changes' order; POSIX does not promise it.
inline void FakeDisk::lose_names() {
  const bool in_order = random_.once_in(2);
  const std::uint64_t kept_first = random_.below(unsynced_names_.size() + 1);
  for (std::size_t i = 0; i < unsynced_names_.size(); ++i) {
    const bool kept = in_order ? i < kept_first : random_.once_in(2);
    if (kept) durable_.apply(unsynced_names_[i]);
  }
  unsynced_names_.clear();
  live_ = durable_;
}

inline void FakeDisk::power_cut() {
  alive_ = false;
  lose_names();
  used_bytes_ = 0;
  for (const auto& [name, inode] : live_.files) {
    lose_unsynced(*inode);
    used_bytes_ += inode->cache.size();
  }
}

inline void FakeDisk::copy_from(const FakeDisk& other) {
  live_ = {};
  live_.directories = other.live_.directories;
  used_bytes_ = 0;
  for (const auto& [name, inode] : other.live_.files) {
    auto copy = std::make_shared<Inode>();
    copy->cache = copy->medium = inode->cache;
    used_bytes_ += copy->cache.size();
    live_.files[name] = std::move(copy);
  }
  durable_ = live_;
  unsynced_names_.clear();
}

inline std::vector<std::byte> FakeDisk::content(const std::string& name) const {
  const auto found = live_.files.find(name);
  if (found == live_.files.end()) return {};
  std::vector<std::byte> bytes(found->second->cache.size());
  (void)found->second->cache.get(0, bytes);
  return bytes;
}

inline void FakeDisk::set_content(const std::string& name, spool::Bytes bytes) {
  auto inode = std::make_shared<Inode>();
  inode->cache.put(0, bytes);
  inode->medium = inode->cache;
  if (const auto old = live_.files.find(name); old != live_.files.end()) {
    used_bytes_ -= old->second->cache.size();
  }
  used_bytes_ += bytes.size();
  live_.files[name] = inode;
  durable_.files[name] = std::move(inode);
}

inline std::vector<std::string> FakeDisk::names() const {
  std::vector<std::string> names;
  for (const auto& [name, inode] : live_.files) names.push_back(name);
  return names;
}

}  // namespace sluice::tests
