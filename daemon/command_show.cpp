// Which models are there says the catalog: each has a function that tells what it knows, and tables
// of one's own may have one too. Only those on the search_path are called, or in the schema that
// was named: any role can make a function of that name in a schema of its own.
#include "daemon/command_show.hpp"

#include <fmt/core.h>

#include <cstdio>
#include <string_view>
#include <system_error>
#include <vector>

#include "config/model.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/dead_mentions.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/json_outline.hpp"
#include "daemon/printable.hpp"
#include "daemon/standard_output.hpp"
#include "spool/uuid.hpp"

namespace sluice::daemon {

namespace {

// A session's events may have to be looked for without an index.
constexpr std::chrono::minutes kAskTimeout{5};
constexpr std::size_t kLineShownMax = 512u << 20;

using config::quoted_literal;

struct Question {
  std::string function;  // quoted
  bool takes_uuid = false;
};

std::vector<Question> questions(BlockingPostgres& postgres,
                                const std::optional<std::string>& schema) {
  const std::string where = schema ? "n.nspname = " + quoted_literal(*schema)
                                   : "pg_catalog.pg_function_is_visible(p.oid)";
  const auto& answers = postgres.run(
      "SELECT pg_catalog.format('%I.%I', n.nspname, p.proname),"
      " p.proargtypes[0] = 'uuid'::pg_catalog.regtype"
      " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
      " WHERE p.proname ~ '^everything_about(_|$)' AND p.prokind = 'f' AND p.pronargs = 1"
      " AND NOT p.proretset AND p.prorettype = 'jsonb'::pg_catalog.regtype"
      " AND p.proargtypes[0] IN ('uuid'::pg_catalog.regtype, 'text'::pg_catalog.regtype)"
      " AND " +
          where + " ORDER BY 1",
      kAskTimeout);
  std::vector<Question> found;
  for (const auto& row : answers.back().rows) {
    found.push_back({row[0].value_or(""), row[1].value_or("") == "t"});
  }
  return found;
}

std::optional<spool::Uuid> uuid_of(const std::string& id) {
  const auto uuid = spool::Uuid::parse(id);
  return uuid ? uuid : spool::Uuid::parse_ulid(id);
}

// Empty: the id cannot be one that these functions know.
std::string expression(const std::vector<Question>& questions, const std::string& id) {
  const auto uuid = uuid_of(id);
  std::string sum;
  for (const Question& question : questions) {
    if (question.takes_uuid && !uuid) continue;
    if (!sum.empty()) sum += " || ";
    sum += fmt::format("coalesce({}({}::{}), '{{}}')", question.function,
                       quoted_literal(uuid ? uuid->text() : id),
                       question.takes_uuid ? "uuid" : "text");
  }
  return sum;
}

// One JSON object, empty if nothing is known.
std::string known(BlockingPostgres& postgres, const std::string& asked) {
  if (asked.empty()) return "{}";
  const auto& answers = postgres.run(
      "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
      "SET LOCAL timezone = 'UTC';"
      "SELECT (" +
          asked +
          ")::text;"
          "COMMIT",
      kAskTimeout);
  for (const sink::Statement& answer : answers) {
    if (!answer.rows.empty()) return answer.rows.front().front().value_or("{}");
  }
  return "{}";
}

int complain(const std::string& what, ExitCode code) {
  fmt::print(stderr, "sluice: {}\n", what);
  return code;
}

// The records that are told of beside the tables: not those whose row is in its table.
std::vector<DeadMention> set_aside(const config::Settings& settings, const std::string& id) {
  try {
    std::vector<DeadMention> mentions = find_mentions(settings.spool.dir, id, uuid_of(id));
    try {
      ask_standings(settings, mentions);
    } catch (const PostgresError&) {
      // Who may read the tables need not be allowed to read ours: then they stand as in the files.
    }
    std::erase_if(mentions, [](const DeadMention& mention) {
      return mention.record.standing == RecordStanding::delivered;
    });
    return mentions;
  } catch (const std::system_error& error) {
    fmt::print(stderr, "sluice: what was set aside is not shown: {}\n", error.what());
    return {};
  }
}

// A member of an object, its last one.
std::string set_aside_member(const std::vector<DeadMention>& mentions) {
  std::string list;
  for (const DeadMention& mention : mentions) {
    std::string object = mention.record.json();
    object.pop_back();
    list += fmt::format("{}{},\"line\":\"{}\"}}", list.empty() ? "" : ",", object,
                        json_inside(mention.line, kLineShownMax));
  }
  return "\"set_aside\":[" + list + "]}";
}

// What the tables know, if anything, and what was set aside.
std::string told(const std::string& about, const ShowOptions& options,
                 const std::vector<DeadMention>& mentions) {
  if (mentions.empty()) return about;
  const auto id = uuid_of(options.id);
  const std::string known = about == "{}"
                                ? "{\"id\":\"" + json_inside(id ? id->text() : options.id) + '"'
                                : about.substr(0, about.size() - 1);
  return known + ", " + set_aside_member(mentions);
}

int complain_of_nothing(const std::vector<Question>& asked, const std::string& id) {
  if (asked.empty()) {
    return complain(
        "no function everything_about is on the search_path: `sluice schema apply` makes it with "
        "the tables, and --schema says where else to look",
        kExitConfig);
  }
  const bool can_be_one = !expression(asked, id).empty();
  return complain(
      fmt::format("nothing is known about {}{}", printable(id),
                  can_be_one ? "" : ": it is no UUID or ULID, and these tables know no others"),
      kExitUnknown);
}

int show(const config::Settings& settings, const ShowOptions& options) {
  BlockingPostgres postgres(settings.postgres.dsn);
  const std::vector<Question> asked = questions(postgres, options.schema);
  const std::vector<DeadMention> mentions = set_aside(settings, options.id);
  const std::string known_about = known(postgres, expression(asked, options.id));
  if (known_about == "{}" && mentions.empty()) return complain_of_nothing(asked, options.id);
  const std::string about = told(known_about, options, mentions);
  print(options.json ? about + "\n" : json_outline(about));
  flush();
  return kExitOk;
}

}  // namespace

int run_show(const config::Settings& settings, const ShowOptions& options) {
  try {
    return show(settings, options);
  } catch (const PostgresError& error) {
    const std::string& state = error.sqlstate();
    if (state == "42501") {
      return complain(fmt::format("this role may not read all that there is to show: {}. Say "
                                  "another's connection with SLUICE_POSTGRES_DSN",
                                  error.what()),
                      kExitConfig);
    }
    return complain(fmt::format("Postgres could not be asked: {}", error.what()),
                    state.empty() || state.starts_with("57") ? kExitUnavailable : kExitConfig);
  }
}

}  // namespace sluice::daemon
