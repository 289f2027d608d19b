// Set-aside records that become events again: with the keys that their routes compute, and refused
// for nothing that was let through once.
#include "daemon/aside_events.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "spool/byte_budget.hpp"
#include "spool/event_record.hpp"
#include "spool/sha256.hpp"

using namespace sluice;
using daemon::AsideEvents;

namespace {

constexpr std::int64_t kReceivedUs = 1'767'225'600'123'456;

ingest::ParserOptions options() {
  ingest::ParserOptions options;
  ingest::RouteRule note;
  note.match = "note";
  note.required = {"owner"};
  note.dedupe = {{"type", 0}, {"time", 0}, {"source_uri", 0}};
  note.dedupe_if = "source_uri";
  note.stores_key = true;
  options.routes = {note};
  return options;
}

spool::AsideText record(std::string line) {
  spool::AsideText text;
  text.received_us = text.time_us = kReceivedUs;
  text.id = spool::Uuid::random();
  text.line = std::move(line);
  return text;
}

struct Made {
  bool is_event = false;
  std::string dedupe_key;
  spool::Uuid id;
};

Made made(const spool::AsideText& text, ingest::ParserOptions with = options()) {
  AsideEvents events(std::move(with));
  spool::ByteBudget budget(1 << 20);
  spool::Chunk chunk(budget, 4096);
  Made result;
  result.is_event = events.make(text, chunk);
  if (!result.is_event) return result;
  REQUIRE(chunk.count() == 1);
  const spool::EventView view(chunk.bytes().data());
  result.id = view.header().id;
  for (const spool::FieldSpan& field : view.fields()) {
    if (field.field == static_cast<unsigned>(spool::Field::dedupe_key)) {
      result.dedupe_key = std::string(view.text(field));
    }
  }
  return result;
}

}  // namespace

TEST_CASE("aside events: the key of the route is computed again, of a missing time nothing") {
  const auto digits = [](std::string_view joined) {
    return '"' + spool::hex_text(spool::sha256(joined), 32) + '"';
  };
  CHECK(made(record(R"({"type":"note","source_uri":"x://1"})")).dedupe_key ==
        digits("note||x://1"));
  CHECK(made(record(R"({"type":"note","time":"2026-01-05T09:00:00.50Z","source_uri":"x://1"})"))
            .dedupe_key == digits("note|2026-01-05T09:00:00.50Z|x://1"));
  CHECK(made(record(R"({"type":"note"})")).dedupe_key.empty());
  CHECK(made(record(R"({"type":"note","source_uri":"x://1","dedupe_key":"k"})")).dedupe_key ==
        "\"k\"");
}

TEST_CASE("aside events: what routes require now is the row's matter, not the line's") {
  CHECK(made(record(R"({"type":"note"})")).is_event);
  CHECK(made(record(R"({"type":"of no route any more"})")).is_event);
  CHECK_FALSE(made(record(R"(["no event"])")).is_event);
}

TEST_CASE("aside events: policies that have become stricter refuse nothing") {
  ingest::ParserOptions strict = options();
  strict.nul = ingest::NulPolicy::reject;
  strict.text = ingest::TextPolicy::reject;
  strict.misfit = ingest::MisfitPolicy::reject;
  strict.duplicate_keys = ingest::DuplicateKeyPolicy::reject;
  for (const char* line : {R"({"type":"note","a":"\u0000"})", "{\"type\":\"note\",\"a\":\"\xff\"}",
                           R"({"type":"note","time":"soon"})", R"({"type":"note","a":1,"a":2})"}) {
    INFO(line);
    CHECK(made(record(line), strict).is_event);
  }
}

TEST_CASE("aside events: the id is the record's, also where the producer's was another's") {
  const std::string own = "01890000-0000-7000-8000-000000000001";
  spool::AsideText text = record(R"({"type":"note","id":")" + own + R"("})");
  CHECK(made(text).id == text.id);
  text.id = std::nullopt;  // as in files of the first version
  CHECK(made(text).id.text() == own);
}
