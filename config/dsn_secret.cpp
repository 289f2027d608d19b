// Reads a connection string only as far as it takes to see a password.
#include "config/dsn_secret.hpp"

#include <string>

namespace sluice::config {

namespace {

constexpr std::string_view kSpaces = " \t\n\r\f\v";

bool is_secret(std::string_view keyword) {
  return keyword == "password" || keyword == "sslpassword";
}

bool authority_holds_password(std::string_view authority) {
  const std::size_t at = authority.rfind('@');
  if (at == std::string_view::npos) return false;
  const std::size_t colon = authority.substr(0, at).find(':');
  return colon != std::string_view::npos && colon + 1 < at;
}

bool uri_holds_password(std::string_view rest) {
  const std::size_t authority_end = rest.find_first_of("/?");
  if (authority_holds_password(rest.substr(0, authority_end))) return true;
  const std::size_t question = rest.find('?');
  if (question == std::string_view::npos) return false;
  std::string_view parameters = rest.substr(question + 1);
  while (!parameters.empty()) {
    const std::size_t end = parameters.find('&');
    const std::string_view parameter = parameters.substr(0, end);
    if (is_secret(parameter.substr(0, parameter.find('=')))) return true;
    if (end == std::string_view::npos) break;
    parameters.remove_prefix(end + 1);
  }
  return false;
}

void skip_spaces(std::string_view& text) {
  const std::size_t begin = text.find_first_not_of(kSpaces);
  text.remove_prefix(begin == std::string_view::npos ? text.size() : begin);
}

// A value of the form 'quoted' or plain, with backslashes.
void skip_value(std::string_view& text) {
  const bool quoted = !text.empty() && text.front() == '\'';
  std::size_t at = quoted ? 1 : 0;
  while (at < text.size()) {
    const char c = text[at];
    if (quoted ? c == '\'' : kSpaces.find(c) != std::string_view::npos) break;
    at += c == '\\' ? 2 : 1;
  }
  if (quoted) ++at;
  text.remove_prefix(at < text.size() ? at : text.size());
}

bool keywords_hold_password(std::string_view text) {
  skip_spaces(text);
  while (!text.empty()) {
    const std::size_t keyword_end = text.find_first_of(" \t\n\r\f\v=");
    if (keyword_end == std::string_view::npos) return false;
    if (is_secret(text.substr(0, keyword_end))) return true;
    text.remove_prefix(keyword_end);
    skip_spaces(text);
    if (text.empty() || text.front() != '=') return false;
    text.remove_prefix(1);
    skip_spaces(text);
    skip_value(text);
    skip_spaces(text);
  }
  return false;
}

}  // namespace

bool holds_password(std::string_view dsn) {
  for (const std::string_view scheme : {"postgresql://", "postgres://"}) {
    if (dsn.starts_with(scheme)) return uri_holds_password(dsn.substr(scheme.size()));
  }
  return keywords_hold_password(dsn);
}

}  // namespace sluice::config
