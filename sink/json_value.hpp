// A borrowed JSON value as it stands in a line.
#pragma once

#include <string_view>

#include "spool/event_record.hpp"

namespace sluice::sink {

struct JsonValue {
  std::string_view text{};  // raw JSON; empty: there is none
  spool::ValueKind kind{};  // not members

  [[nodiscard]] bool is_there() const { return !text.empty(); }
  [[nodiscard]] bool is_null() const { return kind == spool::ValueKind::null; }
  [[nodiscard]] bool is_string() const {
    return kind == spool::ValueKind::string || kind == spool::ValueKind::escaped_string;
  }
  // What stands between the quotes. REQUIRES: is_string()
  [[nodiscard]] std::string_view literal() const { return text.substr(1, text.size() - 2); }
};

}  // namespace sluice::sink
