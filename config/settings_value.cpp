// Checks a value against its setting's row of the table.
#include "config/settings_value.hpp"

#include <algorithm>
#include <optional>

#include "config/units.hpp"

namespace sluice::config {

namespace {

template <typename T>
T& place(const Setting& setting, Settings& settings) {
  return std::get<T& (*)(Settings&)>(setting.slot)(settings);
}

std::string joined(const std::vector<std::string_view>& choices) {
  std::string text;
  for (const std::string_view choice : choices) {
    if (!text.empty()) text += " or ";
    text += '"' + std::string(choice) + '"';
  }
  return text;
}

std::string wish(const Setting& setting) {
  switch (setting.kind) {
    case Kind::text:
      return "a string";
    case Kind::choice:
      return joined(setting.choices);
    case Kind::whole:
      return "a whole number";
    case Kind::size:
      return "a size such as \"64MiB\"";
    case Kind::duration:
      return "a duration such as \"20ms\" or \"10min\"";
    case Kind::mode:
      return "an octal file mode as a string, such as \"0660\"";
    case Kind::text_list:
      return "a list of strings";
    case Kind::whole_list:
      return "a list of whole numbers";
  }
  return {};
}

bool in_range(const Setting& setting, std::uint64_t number) {
  return number >= setting.min && number <= setting.max;
}

std::string out_of_range(const Setting& setting, const std::string& given) {
  return given + " is out of range: " + range_text(setting);
}

std::string assign_string(const Setting& setting, const std::string& text, Settings& settings) {
  // It would be cut short in paths and connection strings.
  if (text.find('\0') != std::string::npos) return "must not hold a NUL";
  place<std::string>(setting, settings) = text;
  return {};
}

std::string assign_choice(const Setting& setting, const std::string& text, Settings& settings) {
  const auto& choices = setting.choices;
  if (std::find(choices.begin(), choices.end(), text) == choices.end())
    return "\"" + text + "\" is not " + joined(choices);
  place<std::string>(setting, settings) = text;
  return {};
}

std::string assign_number(const Setting& setting, std::uint64_t number, Settings& settings) {
  if (!in_range(setting, number)) {
    const bool size = setting.kind == Kind::size;
    return out_of_range(setting, size ? size_text(number) : std::to_string(number));
  }
  place<std::uint64_t>(setting, settings) = number;
  return {};
}

std::string assign_duration(const Setting& setting, std::chrono::milliseconds duration,
                            Settings& settings) {
  if (!in_range(setting, static_cast<std::uint64_t>(duration.count())))
    return out_of_range(setting, duration_text(duration));
  place<std::chrono::milliseconds>(setting, settings) = duration;
  return {};
}

std::string assign_mode(const Setting& setting, std::uint32_t mode, Settings& settings) {
  if (!in_range(setting, mode)) return out_of_range(setting, mode_text(mode));
  place<std::uint32_t>(setting, settings) = mode;
  return {};
}

std::string assign_texts(const Setting& setting, const std::vector<std::string>& texts,
                         Settings& settings) {
  if (std::find(texts.begin(), texts.end(), "") != texts.end()) return "holds an empty string";
  place<std::vector<std::string>>(setting, settings) = texts;
  return {};
}

std::string assign_wholes(const Setting& setting, const std::vector<std::int64_t>& numbers,
                          Settings& settings) {
  std::vector<std::uint64_t> wholes;
  for (const std::int64_t number : numbers) {
    if (number < 0 || !in_range(setting, static_cast<std::uint64_t>(number)))
      return out_of_range(setting, std::to_string(number));
    wholes.push_back(static_cast<std::uint64_t>(number));
  }
  place<std::vector<std::uint64_t>>(setting, settings) = std::move(wholes);
  return {};
}

// A scalar with its unit, as a string.
std::string assign_scalar_text(const Setting& setting, const std::string& text,
                               Settings& settings) {
  switch (setting.kind) {
    case Kind::text:
      return assign_string(setting, text, settings);
    case Kind::choice:
      return assign_choice(setting, text, settings);
    case Kind::size:
      if (const auto bytes = parse_size(text)) return assign_number(setting, *bytes, settings);
      break;
    case Kind::duration:
      if (const auto duration = parse_duration(text))
        return assign_duration(setting, *duration, settings);
      break;
    case Kind::mode:
      if (const auto mode = parse_mode(text)) return assign_mode(setting, *mode, settings);
      break;
    case Kind::whole:
    case Kind::text_list:
    case Kind::whole_list:
      break;
  }
  return "\"" + text + "\" is not " + wish(setting);
}

std::string assign_integer(const Setting& setting, std::int64_t number, Settings& settings) {
  if (setting.kind != Kind::whole && setting.kind != Kind::size)
    return "is a number, and must be " + wish(setting);
  if (number < 0) return out_of_range(setting, std::to_string(number));
  return assign_number(setting, static_cast<std::uint64_t>(number), settings);
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return parts;
}

std::optional<std::int64_t> whole_from_text(std::string_view text) {
  const std::optional<std::uint64_t> number = parse_whole(text);
  if (!number || *number > std::numeric_limits<std::int64_t>::max()) return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

}  // namespace

std::string assign(const Setting& setting, const GivenValue& value, Settings& settings) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (setting.kind == Kind::whole || setting.kind == Kind::text_list ||
        setting.kind == Kind::whole_list)
      return "is a string, and must be " + wish(setting);
    return assign_scalar_text(setting, *text, settings);
  }
  if (const auto* number = std::get_if<std::int64_t>(&value))
    return assign_integer(setting, *number, settings);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    // An empty list has no type of its own.
    if (setting.kind == Kind::whole_list && texts->empty())
      return assign_wholes(setting, {}, settings);
    if (setting.kind != Kind::text_list)
      return "is a list of strings, and must be " + wish(setting);
    return assign_texts(setting, *texts, settings);
  }
  if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&value)) {
    if (setting.kind != Kind::whole_list)
      return "is a list of numbers, and must be " + wish(setting);
    return assign_wholes(setting, *numbers, settings);
  }
  return "is " + std::get<Misfit>(value).type + ", and must be " + wish(setting);
}

std::string assign_text(const Setting& setting, std::string_view text, Settings& settings) {
  if (setting.kind == Kind::text_list)
    return assign_texts(setting, split_at_commas(text), settings);
  if (setting.kind == Kind::whole_list) {
    std::vector<std::int64_t> numbers;
    for (const std::string& part : split_at_commas(text)) {
      const std::optional<std::int64_t> number = whole_from_text(part);
      if (!number) return "\"" + part + "\" is not a whole number";
      numbers.push_back(*number);
    }
    return assign_wholes(setting, numbers, settings);
  }
  if (setting.kind == Kind::whole) {
    const std::optional<std::int64_t> number = whole_from_text(text);
    if (!number) return "\"" + std::string(text) + "\" is not a whole number";
    return assign_integer(setting, *number, settings);
  }
  return assign_scalar_text(setting, std::string(text), settings);
}

}  // namespace sluice::config
