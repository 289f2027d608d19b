// Reads TOML (toml++ has its one home here) and the environment against the settings table.
#include "config/loader.hpp"

#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <tuple>

#include "config/dsn_secret.hpp"
#include "config/loader_redact.hpp"
#include "config/loader_route.hpp"
#include "config/model_text.hpp"
#include "config/nearest_name.hpp"
#include "config/settings_table.hpp"
#include "config/settings_value.hpp"
#include "config/units.hpp"

namespace sluice::config {

namespace {

using Problems = std::vector<std::string>;

constexpr std::string_view kPasswordAdvice =
    "holds a password; keep it out of the configuration: use passfile=FILE or service=NAME in the "
    "dsn, ~/.pgpass, or PGPASSFILE";

std::string joined_lines(const Problems& problems) {
  std::string text;
  for (const std::string& problem : problems) {
    if (!text.empty()) text += '\n';
    text += problem;
  }
  return text;
}

// Names and values are quoted as they stand in the file, where they may hold anything.
Problems in_one_line_each(Problems problems) {
  constexpr std::string_view kHex = "0123456789abcdef";
  for (std::string& problem : problems) {
    std::string line;
    for (const char c : problem) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte >= 0x20 && byte != 0x7f) {
        line += c;
      } else {
        line += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
    problem = std::move(line);
  }
  return problems;
}

std::string did_you_mean(std::string_view nearest) {
  return nearest.empty() ? std::string() : "; did you mean " + std::string(nearest) + "?";
}

std::vector<std::string_view> section_names() {
  std::vector<std::string_view> names;
  for (const Setting& setting : settings_table()) {
    if (names.empty() || names.back() != setting.section) names.push_back(setting.section);
  }
  return names;
}

std::vector<std::string_view> keys_of(std::string_view section) {
  std::vector<std::string_view> keys;
  for (const Setting& setting : settings_table()) {
    if (setting.section == section) keys.push_back(setting.key);
  }
  return keys;
}

constexpr std::string_view kListener = "listener";
constexpr std::string_view kRoute = "route";
constexpr std::string_view kRedact = "redact";

std::vector<std::string_view> listener_key_names() {
  return {listener_keys().begin(), listener_keys().end()};
}

// The row of [ingest] that says what this key of a [[listener]] may be. None: it has no such key.
const Setting* listener_setting(std::string_view key) {
  const auto keys = listener_keys();
  if (std::find(keys.begin(), keys.end(), key) == keys.end()) return nullptr;
  return find_setting("ingest", key);
}

std::string unknown_key(std::string_view section, std::string_view key) {
  const std::string name = std::string(section) + "." + std::string(key);
  for (const Setting& setting : settings_table()) {
    if (setting.key == key)
      return name + " is not a setting; " + std::string(key) + " belongs in [" +
             std::string(setting.section) + "]";
  }
  return name + " is not a setting" + did_you_mean(nearest_name(key, keys_of(section)));
}

std::string unknown_section(std::string_view section) {
  for (const Setting& setting : settings_table()) {
    if (setting.key == section)
      return std::string(section) + " is not a section; it is a key of [" +
             std::string(setting.section) + "]";
  }
  return std::string(section) + " is not a section" +
         did_you_mean(nearest_name(section, section_names()));
}

std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list of mixed values";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    case toml::node_type::none:
    case toml::node_type::string:
    case toml::node_type::integer:
      return "of another type";
  }
  return {};
}

template <typename T>
std::vector<T> elements(const toml::array& array) {
  std::vector<T> values;
  for (const toml::node& element : array) values.push_back(element.value_or(T{}));
  return values;
}

GivenValue given_value(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return number->get();
  const toml::array* array = node.as_array();
  if (array && (array->empty() || array->is_homogeneous(toml::node_type::string)))
    return elements<std::string>(*array);
  if (array && array->is_homogeneous(toml::node_type::integer))
    return elements<std::int64_t>(*array);
  return Misfit{type_name(node)};
}

// One [[listener]] as the file has it: rows of [ingest] with the values that this one has instead.
struct GivenListener {
  std::string place;  // file and line
  std::vector<std::pair<const Setting*, GivenValue>> values;
};

// Reads one file into the settings, noting everything that is wrong with it.
class FileReader final {
 public:
  FileReader(std::string_view file, Settings& settings, Problems& problems)
      : file_(file), settings_(settings), problems_(problems) {}

  // Each value in them was found good. What they do not say comes from [ingest], once the whole of
  // that is known.
  [[nodiscard]] std::vector<GivenListener> take_listeners() { return std::move(listeners_); }

  void read(std::string_view toml) {
    toml::table root;
    try {
      root = toml::parse(toml);
    } catch (const toml::parse_error& error) {
      note(error.source(), std::string(error.description()));
      return report_notes();
    }
    for (const auto& [name, node] : root) read_section(name.str(), name.source(), node);
    report_notes();
  }

 private:
  void note(const toml::source_region& where, const std::string& what) {
    notes_.emplace_back(where.begin.line, what);
  }

  // toml++ walks a table by its keys; people go through a file by its lines.
  void report_notes() {
    std::stable_sort(notes_.begin(), notes_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [line, what] : notes_)
      problems_.push_back(file_ + ":" + std::to_string(line) + ": " + what);
  }

  void read_section(std::string_view section, const toml::source_region& where,
                    const toml::node& node) {
    if (section == kListener) return read_listeners(where, node);
    if (section == kRoute) return read_routes(where, node);
    if (section == kRedact) return read_redactions(where, node);
    if (section_sentence(section).empty()) return note(where, unknown_section(section));
    const toml::table* table = node.as_table();
    if (!table) return note(where, "[" + std::string(section) + "] must be a section");
    for (const auto& [key, value] : *table) read_key(section, key.str(), key.source(), value);
  }

  void read_key(std::string_view section, std::string_view key, const toml::source_region& where,
                const toml::node& value) {
    const Setting* setting = find_setting(section, key);
    if (!setting) return note(where, unknown_key(section, key));
    const std::string wrong = assign(*setting, given_value(value), settings_);
    if (!wrong.empty()) return note(where, setting->name() + " " + wrong);
    if (setting->name() == "postgres.dsn" && holds_password(settings_.postgres.dsn))
      note(where, "postgres.dsn " + std::string(kPasswordAdvice));
  }

  void read_listeners(const toml::source_region& where, const toml::node& node) {
    const toml::array* tables = node.as_array();
    if (!tables || !tables->is_homogeneous(toml::node_type::table))
      return note(where, "listeners are written as [[listener]]");
    for (const toml::node& table : *tables) read_listener(*table.as_table());
  }

  void read_listener(const toml::table& table) {
    const toml::source_region& where = table.source();
    GivenListener listener{file_ + ":" + std::to_string(where.begin.line), {}};
    for (const auto& [key, value] : table) {
      const Setting* setting = listener_setting(key.str());
      const std::string name = std::string(kListener) + "." + std::string(key.str());
      if (!setting) {
        note(key.source(), name + " is not a setting" +
                               did_you_mean(nearest_name(key.str(), listener_key_names())));
        continue;
      }
      Settings scratch;
      const std::string wrong = assign(*setting, given_value(value), scratch);
      if (!wrong.empty()) note(key.source(), name + " " + wrong);
      listener.values.emplace_back(setting, given_value(value));
    }
    if (table.contains("socket") == table.contains("tcp"))
      note(where, "a [[listener]] needs one of socket and tcp");
    listeners_.push_back(std::move(listener));
  }

  void read_routes(const toml::source_region& where, const toml::node& node) {
    const toml::array* tables = node.as_array();
    if (!tables || !tables->is_homogeneous(toml::node_type::table))
      return note(where, "routes are written as [[route]]");
    for (const toml::node& table : *tables) {
      settings_.routes.push_back(
          read_route(*table.as_table(), file_,
                     [this](const toml::source_region& place, const std::string& what) {
                       note(place, what);
                     }));
    }
  }

  void read_redactions(const toml::source_region& where, const toml::node& node) {
    const toml::array* tables = node.as_array();
    if (!tables || !tables->is_homogeneous(toml::node_type::table))
      return note(where, "what is redacted is written as [[redact]]");
    for (const toml::node& table : *tables) {
      settings_.redactions.push_back(
          read_redaction(*table.as_table(), file_,
                         [this](const toml::source_region& place, const std::string& what) {
                           note(place, what);
                         }));
    }
  }

  std::string file_;
  Settings& settings_;
  Problems& problems_;
  std::vector<GivenListener> listeners_;
  std::vector<std::pair<toml::source_index, std::string>> notes_;  // line, what is wrong
};

// "INGEST_SOCKETS" -> section "ingest", key "sockets". None if no section has that name.
std::optional<std::pair<std::string, std::string>> section_and_key(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string_view section : section_names()) {
    if (lower.starts_with(std::string(section) + "_"))
      return std::pair{std::string(section), lower.substr(section.size() + 1)};
  }
  return std::nullopt;
}

// Variables of other names that begin with SLUICE_ are none of ours to judge.
void read_variable(const std::string& name, const std::string& value, Settings& settings,
                   Problems& problems) {
  constexpr std::string_view kPrefix = "SLUICE_";
  if (!name.starts_with(kPrefix)) return;
  const auto place = section_and_key(std::string_view(name).substr(kPrefix.size()));
  if (!place) return;
  const Setting* setting = find_setting(place->first, place->second);
  if (!setting) return problems.push_back(name + ": " + unknown_key(place->first, place->second));
  const std::string wrong = assign_text(*setting, value, settings);
  if (!wrong.empty()) problems.push_back(name + ": " + setting->name() + " " + wrong);
}

Settings::Listener listener_of(const GivenListener& given, const Settings& settings) {
  Settings own = settings;
  own.ingest.socket.clear();
  own.ingest.tcp.clear();
  for (const auto& [setting, value] : given.values)
    static_cast<void>(assign(*setting, value, own));  // found good when it was read
  return {.socket = own.ingest.socket,
          .tcp = own.ingest.tcp,
          .socket_mode = own.ingest.socket_mode,
          .socket_group = own.ingest.socket_group,
          .on_full = own.ingest.on_full,
          .default_type = own.ingest.default_type,
          .allow_uids = own.ingest.allow_uids};
}

void add_listeners(const std::vector<GivenListener>& given, Settings& settings,
                   Problems& problems) {
  for (const GivenListener& each : given) {
    const Settings::Listener listener = listener_of(each, settings);
    const std::string& place = listener.socket.empty() ? listener.tcp : listener.socket;
    const auto same = [&](const Settings::Listener& other) {
      return other.socket == listener.socket && other.tcp == listener.tcp;
    };
    if (place.empty()) {
      problems.push_back(each.place + ": a [[listener]] needs one of socket and tcp");
    } else if (place == settings.ingest.socket || place == settings.ingest.tcp ||
               std::any_of(settings.listeners.begin(), settings.listeners.end(), same)) {
      problems.push_back(each.place + ": there is another listener at " + place);
    }
    settings.listeners.push_back(listener);
  }
}

void check_together(const Settings& settings, std::string_view file, Problems& problems) {
  const auto note = [&](const std::string& what) {
    problems.push_back(std::string(file) + ": " + what);
  };
  const auto& [ingest, spool] = std::tie(settings.ingest, settings.spool);
  if (ingest.line_bytes_max > ingest.queue_bytes_max)
    note("ingest.line_bytes_max (" + size_text(ingest.line_bytes_max) +
         ") must not be more than ingest.queue_bytes_max (" + size_text(ingest.queue_bytes_max) +
         ")");
  if (ingest.first_year > ingest.last_year)
    note("ingest.first_year must not be after ingest.last_year");
  if (!spool.on_disk()) return;
  if (spool.dir.empty()) note("spool.dir must name a directory, or spool.durability be \"memory\"");
  // Each lane fills one segment while those that are full wait for their commit.
  const std::uint64_t segments = settings.postgres.lanes + 1;
  if (spool.segment_bytes > spool.bytes_max / segments)
    note("spool.segment_bytes (" + size_text(spool.segment_bytes) + ") must fit " +
         std::to_string(segments) + " times into spool.bytes_max (" + size_text(spool.bytes_max) +
         "): one for each of postgres.lanes, and one more");
}

Settings finish(Settings settings, std::vector<GivenListener> listeners, Problems problems,
                std::string_view file, const Environment& environment) {
  for (const auto& [name, value] : environment) read_variable(name, value, settings, problems);
  if (problems.empty()) add_listeners(listeners, settings, problems);
  if (problems.empty()) problems = problems_between(settings.routes);
  if (problems.empty()) problems = name_redactions(settings.redactions);
  if (problems.empty()) check_together(settings, file, problems);
  if (!problems.empty()) throw LoadError(std::move(problems));
  return settings;
}

std::string content_of(const std::string& file) {
  // A directory opens like a file, and fails only when it is read.
  std::error_code none;
  const bool directory = std::filesystem::is_directory(file, none);
  std::ifstream stream(file, std::ios::binary);
  const int error = directory ? EISDIR : errno;
  if (directory || !stream) throw LoadError({file + ": cannot be read: " + std::strerror(error)});
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

LoadError::LoadError(std::vector<std::string> problems)
    : std::runtime_error(joined_lines(in_one_line_each(problems))),
      problems_(in_one_line_each(std::move(problems))) {}

Environment process_environment() {
  Environment environment;
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

std::optional<std::string> choose_file(const std::optional<std::string>& asked,
                                       const Environment& environment) {
  if (asked) return asked;
  for (const auto& [name, value] : environment) {
    if (name == "SLUICE_CONFIG" && !value.empty()) return value;
  }
  const std::string file(kDefaultFile);
  if (::access(file.c_str(), F_OK) == 0) return file;
  return std::nullopt;
}

Settings default_settings() {
  Settings settings;
  for (const Setting& setting : settings_table()) {
    const std::string wrong = assign_text(setting, setting.default_text, settings);
    if (!wrong.empty()) throw std::logic_error(setting.name() + ": default " + wrong);
  }
  return settings;
}

Settings load(const std::optional<std::string>& file, const Environment& environment) {
  if (!file) return finish(default_settings(), {}, {}, "environment", environment);
  return load_text(content_of(*file), *file, environment);
}

Settings load_text(std::string_view toml, std::string_view file, const Environment& environment) {
  Settings settings = default_settings();
  Problems problems;
  FileReader reader(file, settings, problems);
  reader.read(toml);
  return finish(std::move(settings), reader.take_listeners(), std::move(problems), file,
                environment);
}

std::vector<Settings::Route> model_routes(std::string_view model) {
  const std::string file = std::string(model) + ".toml";
  return load_text(model_text(file), file, {}).routes;
}

}  // namespace sluice::config
