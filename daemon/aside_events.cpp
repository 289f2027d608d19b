#include "daemon/aside_events.hpp"

#include <span>
#include <utility>

namespace sluice::daemon {
namespace {

// An event whose id was that of another one got an id of the daemon's own, and what its producer
// gave stands in `extra`: as Admission does it.
void give_identity(const spool::AsideText& record, spool::RecordHeader& header,
                   std::span<spool::FieldSpan> fields) {
  const bool has_own = (header.flags & spool::kHasId) != 0;
  if (!record.id && has_own) return;
  const spool::Uuid id = record.id ? *record.id : spool::Uuid::random();
  if (has_own && header.id != id) {
    header.flags = static_cast<std::uint8_t>(header.flags & ~spool::kHasId);
    for (spool::FieldSpan& field : fields) {
      if (field.field == static_cast<std::uint32_t>(spool::Field::id_member)) {
        field.field = static_cast<std::uint32_t>(spool::Field::extra) & 0xff;
      }
    }
  }
  header.id = id;
}

}  // namespace

AsideEvents::AsideEvents(ingest::ParserOptions options) : options_(std::move(options)) {
  if (options_.nul == ingest::NulPolicy::reject) options_.nul = ingest::NulPolicy::replace;
  options_.text = ingest::TextPolicy::replace;
  options_.misfit = ingest::MisfitPolicy::keep;
  options_.duplicate_keys = ingest::DuplicateKeyPolicy::last;
  // The routes' keys go into the record, but whether the row is good is the table's to say now.
  for (ingest::RouteRule& rule : options_.routes) rule.required.clear();
  if (!options_.routes.empty()) options_.routes.emplace_back().match.assign(1, '*');
}

// Types of listeners are few, and records of one follow each other.
ingest::EventParser& AsideEvents::parser_for(const std::string& default_type) {
  if (!parser_ || options_.default_type != default_type) {
    options_.default_type = default_type;
    parser_ = std::make_unique<ingest::EventParser>(options_, counters_);
  }
  return *parser_;
}

bool AsideEvents::make(const spool::AsideText& record, spool::Chunk& chunk) {
  const std::string type = record.type.empty() ? options_.default_type : record.type;
  const std::int64_t received_us = record.received_us != 0 ? record.received_us : record.time_us;
  const ingest::Receipt receipt{received_us, record.uid, 0};
  if (parser_for(type).parse(record.line, receipt, chunk)) return false;
  chunk.retain([&](spool::RecordHeader& header, std::span<spool::FieldSpan> fields) {
    give_identity(record, header, fields);
    return true;
  });
  return true;
}

}  // namespace sluice::daemon
