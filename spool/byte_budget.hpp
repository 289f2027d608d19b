// A bound in bytes on events that are in memory: taken when a chunk is made, given back when it is
// freed, wherever that happens.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

namespace sluice::spool {

// The bound is soft by one chunk: who takes asks has_room() first and then charges what the chunk
// turned out to need, so that a line of any allowed size gets through an empty budget.
//
// Threads: any; `on_room` is called on the thread that gave bytes back.
class ByteBudget final {
 public:
  explicit ByteBudget(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  // Called once after a want_room(), when there is room again. Set before the first take().
  void on_room(std::function<void()> callback) { on_room_ = std::move(callback); }

  [[nodiscard]] bool has_room() const { return used_.load(std::memory_order_acquire) < bytes_max_; }

  // Asks for one on_room() call. Returns false if there is room already: then none comes.
  [[nodiscard]] bool want_room();

  void take(std::size_t bytes) { used_.fetch_add(bytes, std::memory_order_acq_rel); }
  void give_back(std::size_t bytes);

  [[nodiscard]] std::size_t used_bytes() const { return used_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t bytes_max() const { return bytes_max_; }

 private:
  const std::size_t bytes_max_;
  std::atomic<std::size_t> used_{0};
  // Publishes that somebody waits for room; cleared by the one give_back() that calls on_room_.
  std::atomic<bool> wanted_{false};
  std::function<void()> on_room_;
};

}  // namespace sluice::spool
