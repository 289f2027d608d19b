#include "daemon/dead_mentions.hpp"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "spool/posix_disk.hpp"

namespace sluice::daemon {
namespace {

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return text;
}

// The strings, quotes included, that name the id in a line. An id with a quote or a backslash in it
// has many forms in JSON, and is not looked for.
std::vector<std::string> forms_of(const std::string& id, const std::optional<spool::Uuid>& uuid) {
  std::vector<std::string> forms;
  const auto add = [&](const std::string& text) { forms.push_back('"' + text + '"'); };
  if (!id.empty() && id.find_first_of("\"\\") == std::string::npos) add(id);
  if (uuid) {
    add(uuid->text());
    add(upper(uuid->text()));
  }
  return forms;
}

}  // namespace

std::vector<DeadMention> find_mentions(const std::string& directory, const std::string& id,
                                       const std::optional<spool::Uuid>& uuid) {
  std::error_code ignored;
  if (directory.empty() || !std::filesystem::exists(directory, ignored)) return {};
  spool::PosixDisk disk(directory);
  const std::vector<std::string> forms = forms_of(id, uuid);
  std::vector<DeadMention> mentions;
  for (DeadRecord& record : read_dead_records(disk)) {
    auto whole = read_whole(disk, record);
    if (!whole) continue;
    const bool is_about_it = (uuid && record.text.id == uuid) ||
                             std::any_of(forms.begin(), forms.end(), [&](const std::string& form) {
                               return whole->line.find(form) != std::string::npos;
                             });
    if (is_about_it) mentions.push_back({std::move(record), std::move(whole->line)});
  }
  return mentions;
}

void ask_standings(const config::Settings& settings, std::vector<DeadMention>& mentions) {
  std::vector<DeadRecord> records;
  for (const DeadMention& mention : mentions) records.push_back(mention.record);
  ask_standings(settings, records);
  for (std::size_t i = 0; i < mentions.size(); ++i) {
    mentions[i].record.standing = records[i].standing;
  }
}

}  // namespace sluice::daemon
