// The one table that names every setting. The loader's checks, the commented reference
// (config/sluice.toml) and docs/settings.md are all made from it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/settings.hpp"

namespace sluice::config {

// How a setting is written in the file.
enum class Kind {
  text,        // a string
  choice,      // a string out of Setting::choices
  whole,       // an integer
  size,        // "64MiB", or an integer: bytes
  duration,    // "20ms"
  mode,        // "0660"
  text_list,   // ["a", "b"]; in the environment: a,b
  whole_list,  // [1, 2]; in the environment: 1,2
};

// Where a setting's value lives in Settings.
using Slot = std::variant<std::string& (*)(Settings&), std::uint32_t& (*)(Settings&),
                          std::uint64_t& (*)(Settings&), std::chrono::milliseconds& (*)(Settings&),
                          std::vector<std::string>& (*)(Settings&),
                          std::vector<std::uint64_t>& (*)(Settings&)>;

struct Setting {
  std::string_view section;
  std::string_view key;
  Kind kind;
  std::string_view default_text;  // as the environment would have it
  Slot slot;
  std::string_view sentence;
  // Of Kind::whole in ones, size in bytes, duration in ms.
  std::uint64_t min = 0;
  std::uint64_t max = std::numeric_limits<std::uint64_t>::max();
  std::vector<std::string_view> choices = {};
  bool reloadable = false;  // takes effect without a restart

  // "ingest.socket"
  [[nodiscard]] std::string name() const;
  // "SLUICE_INGEST_SOCKET"
  [[nodiscard]] std::string environment_name() const;
};

[[nodiscard]] std::span<const Setting> settings_table();

[[nodiscard]] const Setting* find_setting(std::string_view section, std::string_view key);

// Keys of [ingest] that each [[listener]] may have of its own.
[[nodiscard]] std::span<const std::string_view> listener_keys();

// A key of [[route]], of one of its columns, of a part of its dedupe, or of [[redact]], for checks
// and the pages.
struct RouteSetting {
  std::string_view key;
  std::string_view kind;          // as the pages name it
  std::string_view default_text;  // as the file would have it; empty: there is none
  std::string_view sentence;
};
[[nodiscard]] std::span<const RouteSetting> route_settings();
[[nodiscard]] std::span<const RouteSetting> route_column_settings();
// The names that a column's `from` may have behind a `$`, with what they stand for.
[[nodiscard]] std::span<const RouteSetting> route_sources();

// The keys of [[redact]].
[[nodiscard]] std::span<const RouteSetting> redact_settings();

// What a section is about, for the reference. Empty if there is no such section.
[[nodiscard]] std::string_view section_sentence(std::string_view section);

// The range for people: "1KiB to 4MiB". Empty where there is none.
[[nodiscard]] std::string range_text(const Setting& setting);

}  // namespace sluice::config
