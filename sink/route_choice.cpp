#include "sink/route_choice.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "sink/json_text.hpp"

namespace sluice::sink {
namespace {

using spool::FieldSpan;
using spool::ValueKind;

std::vector<std::string> patterns_of(std::span<const Route> routes) {
  std::vector<std::string> patterns;
  for (const Route& route : routes) patterns.push_back(route.match);
  return patterns;
}

}  // namespace

RouteChoice::RouteChoice(std::span<const Route> routes) : match_(patterns_of(routes)) {
  if (!routes.empty() && routes.front().match == "*") always_ = 0;
}

std::optional<std::size_t> RouteChoice::of(const spool::EventView& event) {
  if (always_) return always_;
  const auto fields = event.fields();
  const auto span = std::find_if(fields.begin(), fields.end(), [](const FieldSpan& each) {
    return each.field == static_cast<std::uint8_t>(spool::Field::type);
  });
  if (span == fields.end()) return match_.find("");
  const std::string_view literal = event.text(*span).substr(1, span->length - 2u);
  const unsigned flags = event.header().flags & kMendings;
  if (span->kind == static_cast<std::uint8_t>(ValueKind::string) && flags == 0) {
    return match_.find(literal);
  }
  decoded_.resize(mended_bytes_max(literal.size(), flags));
  const char* const end = write_decoded(decoded_.data(), literal, flags);
  return match_.find({decoded_.data(), end});
}

}  // namespace sluice::sink
