// Event records made by hand, for tests of what reads them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "spool/chunk.hpp"

namespace sluice::test {

// Lays the fields' raw JSON one after the other; there is no whole line around them.
class RecordBuilder {
 public:
  RecordBuilder() {
    header_.uid = 1000;
    for (std::size_t i = 0; i < header_.id.bytes.size(); ++i) {
      header_.id.bytes[i] = static_cast<std::uint8_t>(i + 1);
    }
  }

  RecordBuilder& field(spool::Field field, spool::ValueKind kind, std::string_view raw) {
    spool::FieldSpan span{};
    span.begin = static_cast<std::uint32_t>(text_.size()) & 0xffffff;
    span.length = static_cast<std::uint32_t>(raw.size()) & 0xffffff;
    span.field = static_cast<std::uint8_t>(field);
    span.kind = static_cast<std::uint8_t>(kind);
    fields_.push_back(span);
    text_ += raw;
    return *this;
  }
  RecordBuilder& string(spool::Field field, std::string_view literal) {
    const bool escaped = literal.find('\\') != std::string_view::npos;
    return this->field(field, escaped ? spool::ValueKind::escaped_string : spool::ValueKind::string,
                       literal);
  }
  RecordBuilder& flags(unsigned flags) {
    header_.flags = static_cast<std::uint8_t>(flags);
    return *this;
  }
  RecordBuilder& times(std::int64_t occurred_us, std::int64_t received_us) {
    header_.occurred_us = occurred_us;
    header_.received_us = received_us;
    return *this;
  }
  RecordBuilder& id(const spool::Uuid& id) {
    header_.id = id;
    return *this;
  }
  RecordBuilder& uid(std::uint32_t uid) {
    header_.uid = uid;
    return *this;
  }

  void append_to(spool::Chunk& chunk) const { chunk.append(header_, fields_, text_, {}); }

 private:
  spool::RecordHeader header_{};
  std::vector<spool::FieldSpan> fields_;
  std::string text_;
};

// One record with a chunk of its own.
class SingleRecord {
 public:
  explicit SingleRecord(const RecordBuilder& builder) { builder.append_to(chunk_); }
  [[nodiscard]] spool::EventView view() const { return spool::EventView(chunk_.bytes().data()); }

 private:
  spool::ByteBudget budget_{std::size_t{64} << 20};
  spool::Chunk chunk_{budget_, 512};
};

}  // namespace sluice::test
