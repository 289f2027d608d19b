// Numbered events for tests: chunks that hold them, and their numbers read back.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "spool/block.hpp"
#include "spool/chunk.hpp"
#include "spool/spool.hpp"

namespace sluice::tests {

// An id that sorts as its number does.
inline spool::Uuid numbered_id(std::uint64_t number) {
  spool::Uuid id;
  for (unsigned i = 0; i < 8; ++i) {
    id.bytes[8 + i] = static_cast<std::uint8_t>(number >> (56 - 8 * i));
  }
  return id;
}

inline std::uint64_t number_of(const spool::Uuid& id) {
  std::uint64_t number = 0;
  for (unsigned i = 8; i < 16; ++i) number = number << 8 | id.bytes[i];
  return number;
}

// Without a type the event has none.
inline void append_event(spool::Chunk& chunk, std::uint64_t number, const std::string& type = "") {
  spool::RecordHeader header{};
  header.id = numbered_id(number);
  header.received_us = static_cast<std::int64_t>(number);
  header.occurred_us = header.received_us;
  std::string line = "{\"n\":" + std::to_string(number);
  std::vector<spool::FieldSpan> fields;
  if (!type.empty()) {
    line += ",\"type\":";
    spool::FieldSpan span{};
    span.begin = static_cast<std::uint32_t>(line.size()) & 0xffffff;
    span.length = static_cast<std::uint32_t>(type.size() + 2) & 0xffffff;
    span.field = static_cast<std::uint8_t>(spool::Field::type);
    span.kind = static_cast<std::uint8_t>(spool::ValueKind::string);
    fields.push_back(span);
    line += '"' + type + '"';
  }
  chunk.append(header, fields, line + "}", {});
}

// A chunk of the events with the numbers [first, first + count).
inline spool::Chunk chunk_of(spool::ByteBudget& budget, std::uint64_t first, std::uint64_t count,
                             std::size_t capacity_bytes = 64,
                             const std::function<std::string(std::uint64_t)>& type_of = nullptr) {
  spool::Chunk chunk(budget, capacity_bytes);
  for (std::uint64_t number = first; number < first + count; ++number) {
    append_event(chunk, number, type_of ? type_of(number) : "");
  }
  return chunk;
}

// Appends the chunk as a block of its own, which must succeed; returns the block's end.
inline spool::Position append_block(spool::SpoolWriter& spool, spool::LaneIndex lane,
                                    spool::Chunk chunk, const spool::SpoolTime& now = {}) {
  std::vector<spool::Chunk> chunks;
  chunks.push_back(std::move(chunk));
  const auto end = spool.append(lane, chunks, {}, now);
  if (!end) throw std::runtime_error("the spool refused a block");
  return *end;
}

inline std::vector<std::uint64_t> numbers_in(const spool::Chunk& chunk) {
  std::vector<std::uint64_t> numbers;
  const auto bytes = chunk.bytes();
  for (std::size_t at = 0; at < bytes.size();) {
    const spool::EventView event(bytes.data() + at);
    numbers.push_back(number_of(event.header().id));
    at += event.header().record_bytes;
  }
  return numbers;
}

inline std::vector<std::uint64_t> numbers_from(const spool::BlockPtr& block, std::uint64_t index) {
  std::vector<std::uint64_t> numbers;
  for (spool::BlockCursor cursor(block, index); !cursor.at_end(); cursor.advance()) {
    numbers.push_back(number_of(cursor.event().header().id));
  }
  return numbers;
}

}  // namespace sluice::tests
