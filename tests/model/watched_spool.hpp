// The spool's two faces with an eye on them: the identity of every event that is written or read.
#pragma once

#include "spool/spool.hpp"
#include "tests/model/event_book.hpp"

namespace sluice::model {

class WatchedWriter final : public spool::SpoolWriter {
 public:
  WatchedWriter(spool::SpoolWriter& spool, EventBook& book) : spool_(spool), book_(book) {}

  [[nodiscard]] std::optional<spool::LaneIndex> lane_with_room(
      const spool::SpoolTime& now) override {
    return spool_.lane_with_room(now);
  }

  [[nodiscard]] std::optional<spool::Position> append(spool::LaneIndex lane,
                                                      std::vector<spool::Chunk>& chunks,
                                                      std::span<const spool::ProducerMark> marks,
                                                      const spool::SpoolTime& now) override {
    records_.clear();
    starts_.clear();
    for (const spool::Chunk& chunk : chunks) {
      const auto bytes = chunk.bytes();
      for (std::size_t at = 0; at < bytes.size();) {
        starts_.push_back(records_.size() + at);
        at += spool::EventView(bytes.data() + at).header().record_bytes;
      }
      records_.insert(records_.end(), bytes.begin(), bytes.end());
    }
    const auto end = spool_.append(lane, chunks, marks, now);
    if (!end) return end;
    for (std::size_t i = 0; i < starts_.size(); ++i) {
      book_.identify({end->segment, end->index - starts_.size() + i},
                     spool::EventView(records_.data() + starts_[i]));
    }
    return end;
  }

  void tend(const spool::SpoolTime& now) override { spool_.tend(now); }

 private:
  spool::SpoolWriter& spool_;
  EventBook& book_;
  std::vector<std::byte> records_;  // of the block under way: its chunks are taken
  std::vector<std::size_t> starts_;
};

class WatchedReader final : public spool::SpoolReader {
 public:
  WatchedReader(spool::SpoolReader& spool, EventBook& book) : spool_(spool), book_(book) {}

  [[nodiscard]] std::optional<spool::SegmentToDeliver> first_segment() override {
    return spool_.first_segment();
  }
  [[nodiscard]] spool::ReadResult read(const spool::Position& position) override {
    spool::ReadResult result = spool_.read(position);
    if (const auto* block = std::get_if<spool::BlockPtr>(&result)) {
      if (*block != last_) look_at(*block);
      last_ = *block;
    }
    return result;
  }
  std::uint64_t release(const spool::Position& upto) override { return spool_.release(upto); }
  [[nodiscard]] std::uint64_t events_held() const override { return spool_.events_held(); }
  void confirm(const spool::Uuid& segment) override { spool_.confirm(segment); }
  [[nodiscard]] std::vector<spool::Position> delivered() const override {
    return spool_.delivered();
  }
  std::uint64_t rewind(const spool::Position& position) override { return spool_.rewind(position); }
  std::uint64_t quarantine(const spool::Uuid& segment) override {
    return spool_.quarantine(segment);
  }

 private:
  void look_at(const spool::BlockPtr& block) {
    spool::BlockCursor cursor(block, block->first_index);
    for (; !cursor.at_end(); cursor.advance()) {
      book_.identify({block->segment, cursor.index()}, cursor.event());
    }
  }

  spool::SpoolReader& spool_;
  EventBook& book_;
  spool::BlockPtr last_;
};

}  // namespace sluice::model
