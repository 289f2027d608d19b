#include "daemon/redaction.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace sluice::daemon {
namespace {

constexpr std::size_t kSaltBytesMin = 16;
constexpr std::size_t kSaltBytesMax = 4096;

// Without the newline that editors put at the end.
std::string read_salt(const config::Settings::Redaction& rule) {
  const std::string what = rule.place + ": redact.salt_file " + rule.salt_file;
  // A directory opens like a file, and fails only when it is read.
  std::error_code none;
  const bool directory = std::filesystem::is_directory(rule.salt_file, none);
  std::ifstream file(rule.salt_file, std::ios::binary);
  const int error = directory ? EISDIR : errno;
  if (directory || !file) throw SaltError(what + " cannot be read: " + std::strerror(error));
  std::string salt(kSaltBytesMax, '\0');
  file.read(salt.data(), static_cast<std::streamsize>(salt.size()));
  salt.resize(static_cast<std::size_t>(file.gcount()));
  while (salt.ends_with('\n') || salt.ends_with('\r')) salt.pop_back();
  if (salt.size() < kSaltBytesMin) {
    throw SaltError(what + " has less than 16 bytes; make one: head -c 32 /dev/urandom | base64");
  }
  return salt;
}

}  // namespace

std::unique_ptr<ingest::Redactor> make_redactor(const config::Settings& settings) {
  if (settings.redactions.empty()) return nullptr;
  std::vector<ingest::RedactRule> rules;
  for (const config::Settings::Redaction& given : settings.redactions) {
    ingest::RedactRule& rule = rules.emplace_back();
    rule.name = given.name;
    rule.fields = given.fields;
    rule.match = given.match;
    rule.with = given.with;
    if (given.action == "hash") {
      rule.action = ingest::RedactRule::Action::hash;
      rule.salt = read_salt(given);
    }
  }
  return std::make_unique<ingest::Redactor>(std::move(rules));
}

}  // namespace sluice::daemon
