// Writes the settings table out.
#include "config/reference.hpp"

#include <array>
#include <string_view>

#include "config/settings_table.hpp"

namespace sluice::config {

namespace {

constexpr std::size_t kLineWidth = 98;

std::string quoted(std::string_view text) {
  return '"' + std::string(text) + '"';
}

std::string list_of_defaults(std::string_view text, bool strings) {
  std::string list = "[";
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    if (list.size() > 1) list += ", ";
    list += strings ? quoted(item) : std::string(item);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return list + "]";
}

// The default as the file would have it.
std::string toml_default(const Setting& setting) {
  switch (setting.kind) {
    case Kind::whole:
      return std::string(setting.default_text);
    case Kind::text_list:
      return list_of_defaults(setting.default_text, true);
    case Kind::whole_list:
      return list_of_defaults(setting.default_text, false);
    case Kind::text:
    case Kind::choice:
    case Kind::size:
    case Kind::duration:
    case Kind::mode:
      return quoted(setting.default_text);
  }
  return {};
}

std::string values_text(const Setting& setting) {
  if (setting.choices.empty()) return range_text(setting);
  std::string text;
  for (const std::string_view choice : setting.choices) {
    if (!text.empty()) text += ", ";
    text += quoted(choice);
  }
  return text;
}

std::string_view kind_text(Kind kind) {
  switch (kind) {
    case Kind::text:
      return "text";
    case Kind::choice:
      return "choice";
    case Kind::whole:
      return "number";
    case Kind::size:
      return "size";
    case Kind::duration:
      return "duration";
    case Kind::mode:
      return "file mode";
    case Kind::text_list:
      return "list of texts";
    case Kind::whole_list:
      return "list of numbers";
  }
  return {};
}

// `text` in lines of at most kLineWidth, each behind "# ".
std::string comment(std::string_view text) {
  std::string lines;
  std::string line = "#";
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (line.size() + 1 + word.size() > kLineWidth) {
      lines += line + "\n";
      line = "#";
    }
    line += ' ' + std::string(word);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  }
  return lines + line + "\n";
}

std::string toml_entry(const Setting& setting) {
  std::string about(setting.sentence);
  const std::string values = values_text(setting);
  if (!values.empty()) about += " [" + values + "]";
  return comment(about) + "#" + std::string(setting.key) + " = " + toml_default(setting) + "\n";
}

// A table cell: `|` would end it.
std::string cell(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string markdown_row(const Setting& setting) {
  std::string row = "| `" + std::string(setting.key) + "`";
  row += " | " + std::string(kind_text(setting.kind));
  row += " | `" + cell(toml_default(setting)) + "`";
  row += " | " + cell(values_text(setting));
  row += " | " + cell(setting.sentence);
  row += setting.reloadable ? " Read again on SIGHUP." : "";
  return row + " |\n";
}

}  // namespace

namespace {

constexpr std::string_view kListenersSentence =
    "More listeners, each with socket or tcp, and what it has of its own of socket_mode, "
    "socket_group, on_full, default_type and allow_uids; the rest is as [ingest] has it. Such as, "
    "for producers that would rather lose a line than wait:";
constexpr std::array<std::string_view, 3> kListenerExample = {
    "[[listener]]", "socket = \"/run/sluice/telemetry.sock\"", "on_full = \"drop\""};

std::string listeners_toml() {
  std::string text = "\n" + comment(kListenersSentence);
  for (const std::string_view line : kListenerExample) text += "# " + std::string(line) + "\n";
  return text;
}

std::string listeners_markdown() {
  std::string text = "\n## [[listener]]\n\n" + std::string(kListenersSentence) + "\n\n```toml\n";
  for (const std::string_view line : kListenerExample) text += std::string(line) + "\n";
  return text + "```\n";
}

}  // namespace

namespace {

constexpr std::string_view kRoutesSentence =
    "Which events go into which table. The first route that an event's type matches counts; the "
    "last one should match \"*\", as events that none matches are refused. Without any [[route]] "
    "those of postgres.model are used. docs/routes.md tells more.";
constexpr std::array<std::string_view, 8> kRouteExample = {
    "[[route]]",
    "match = \"audit.*\"",
    "table = \"ops.audit_log\"",
    "columns = [ { name = \"id\",         from = \"$id\" },",
    "            { name = \"created_at\", from = \"time\" },",
    "            { name = \"action\",     from = \"/data/action\", required = true },",
    "            { name = \"rest\",       from = \"$extra\" },",
    "            { name = \"region\",     value = \"eu-1\" } ]"};

std::string route_entry(const RouteSetting& setting) {
  std::string about = std::string(setting.key) + ": " + std::string(setting.sentence);
  if (!setting.default_text.empty()) about += " [" + std::string(setting.default_text) + "]";
  return comment(about);
}

std::string routes_toml() {
  std::string text = "\n" + comment(kRoutesSentence) + "#\n";
  for (const RouteSetting& setting : route_settings()) text += route_entry(setting);
  text += "# Of each column:\n";
  for (const RouteSetting& setting : route_column_settings()) text += route_entry(setting);
  for (const RouteSetting& source : route_sources()) text += route_entry(source);
  text += "# Such as:\n";
  for (const std::string_view line : kRouteExample) text += "# " + std::string(line) + "\n";
  return text;
}

std::string route_rows(std::string_view title, std::span<const RouteSetting> settings) {
  std::string rows =
      "\n| " + std::string(title) + " | kind | default | meaning |\n|---|---|---|---|\n";
  for (const RouteSetting& setting : settings) {
    const std::string given =
        setting.default_text.empty() ? "" : "`" + cell(setting.default_text) + "`";
    rows += "| `" + std::string(setting.key) + "` | " + std::string(setting.kind) + " | " + given +
            " | " + cell(setting.sentence) + " |\n";
  }
  return rows;
}

std::string routes_markdown() {
  std::string text = "\n## [[route]]\n\n" + std::string(kRoutesSentence) + "\n";
  text += route_rows("key", route_settings());
  text += route_rows("key of a column", route_column_settings());
  text += "\n| `from` | the value |\n|---|---|\n";
  for (const RouteSetting& source : route_sources())
    text += "| `" + std::string(source.key) + "` | " + cell(source.sentence) + " |\n";
  text += "\n```toml\n";
  for (const std::string_view line : kRouteExample) text += std::string(line) + "\n";
  return text + "```\n";
}

constexpr std::string_view kRedactSentence =
    "Values that are replaced before an event is written anywhere: spool, log and database only "
    "see "
    "the line without them. Of several rules for a value the first counts.";
constexpr std::array<std::string_view, 7> kRedactExample = {
    "[[redact]]",
    "fields = [\"password\", \"/data/headers/authorization\", \"/data/*/token\"]",
    "",
    "[[redact]]",
    "fields = [\"email\"]",
    "action = \"hash\"",
    "salt_file = \"/etc/sluice/salt\""};

std::string redact_toml() {
  std::string text = "\n" + comment(kRedactSentence) + "#\n";
  for (const RouteSetting& setting : redact_settings()) text += route_entry(setting);
  text += "# Such as:\n";
  for (const std::string_view line : kRedactExample)
    text += line.empty() ? "#\n" : "# " + std::string(line) + "\n";
  return text;
}

std::string redact_markdown() {
  std::string text = "\n## [[redact]]\n\n" + std::string(kRedactSentence) + "\n";
  text += route_rows("key", redact_settings()) + "\n```toml\n";
  for (const std::string_view line : kRedactExample) text += std::string(line) + "\n";
  return text + "```\n";
}

}  // namespace

std::string reference_toml() {
  std::string page =
      "# The settings of sluice, each with its default. Printed by `sluice config`.\n"
      "#\n"
      "# Sizes: \"64KiB\", \"16MiB\", \"1GB\". Durations: \"20ms\", \"10s\", \"10min\", \"1h\", "
      "\"7d\".\n"
      "# Each key can also be set in the environment, which wins over this file:\n"
      "# SLUICE_<SECTION>_<KEY>, such as SLUICE_INGEST_SOCKET; lists there are separated by "
      "commas.\n"
      "# `sluice check` says what is wrong with a configuration.\n";
  std::string_view section;
  for (const Setting& setting : settings_table()) {
    if (setting.section != section) {
      if (section == "ingest") page += listeners_toml();
      section = setting.section;
      page += "\n" + comment(section_sentence(section)) + "[" + std::string(section) + "]\n";
    }
    page += "\n" + toml_entry(setting);
  }
  return page + routes_toml() + redact_toml();
}

std::string reference_markdown() {
  std::string page =
      "# Settings\n\n"
      "Made from the table in `config/settings_table.cpp` by `sluice config --markdown`.\n\n"
      "`sluice` reads the file given by `--config`, else `SLUICE_CONFIG`, else "
      "`/etc/sluice/sluice.toml` if it is there. Each key can also be set in the environment, "
      "which "
      "wins over the file: `SLUICE_<SECTION>_<KEY>`, such as `SLUICE_INGEST_SOCKET`; lists there "
      "are "
      "separated by commas. `config/sluice.toml` is the same page as a file to start from.\n\n"
      "Sizes are written `\"64KiB\"`, `\"16MiB\"`, `\"1GB\"`, durations `\"20ms\"`, `\"10s\"`, "
      "`\"10min\"`, `\"1h\"`, `\"7d\"`. A key that is not known, or a value that does not fit, "
      "stops "
      "the start with a message that names file, line and key.\n";
  std::string_view section;
  for (const Setting& setting : settings_table()) {
    if (setting.section != section) {
      if (section == "ingest") page += listeners_markdown();
      section = setting.section;
      page += "\n## [" + std::string(section) + "]\n\n" + std::string(section_sentence(section)) +
              "\n\n| key | kind | default | values | meaning |\n|---|---|---|---|---|\n";
    }
    page += markdown_row(setting);
  }
  return page + routes_markdown() + redact_markdown();
}

}  // namespace sluice::config
