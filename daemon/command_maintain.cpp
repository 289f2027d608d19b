// A watermark says what of a segment is committed, and which of its set-aside records count: its
// row is needed as long as anything of the segment is in a spool. Only the machine of that spool
// knows, so a row younger than a year is removed there and nowhere else.
#include "daemon/command_maintain.hpp"

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <vector>

#include "config/model.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/host_name.hpp"
#include "daemon/kept_segments.hpp"
#include "daemon/printable.hpp"

namespace sluice::daemon {

namespace {

using config::quoted_identifier;
using config::quoted_literal;

// Rows that lie in the DEFAULT partition may have to be moved, and mutations to be kept.
constexpr std::chrono::minutes kMaintainTimeout{60};
// Each waits five seconds for a lock; in between, those go on that waited behind it.
constexpr int kTries = 12;

struct Work {
  std::size_t changes = 0;
  std::size_t warnings = 0;
};

bool is_there(BlockingPostgres& postgres, std::string_view function, const std::string& name) {
  return !postgres.value(fmt::format("SELECT pg_catalog.{}({})", function, quoted_literal(name)))
              .empty();
}

std::size_t changed_rows(const sink::Statement& statement) {
  const std::size_t space = statement.tag.rfind(' ');
  return space == std::string::npos ? 0 : std::stoull(statement.tag.substr(space + 1));
}

std::string interval(std::chrono::milliseconds time) {
  return fmt::format("'{} milliseconds'::interval", time.count());
}

void tell_partition(const std::vector<std::optional<std::string>>& row) {
  const std::string table = printable(row[0].value_or(""));
  const std::string part = printable(row[2].value_or(""));
  const std::string action = row[1].value_or("");
  if (action == "made" && row[3].value_or("0") != "0") {
    fmt::print("{}: made {}; rows moved there from the DEFAULT partition: {}\n", table, part,
               row[3].value_or(""));
  } else {
    fmt::print("{}: {} {}\n", table, printable(action), part);
  }
}

void maintain_partitions(BlockingPostgres& postgres, const std::string& own_schema,
                         std::optional<std::chrono::milliseconds> detach_after, Work& work) {
  const std::string name = quoted_identifier(own_schema) + ".maintain_partitions";
  if (!is_there(postgres, "to_regprocedure", name + "(interval)")) return;
  const auto& answers =
      postgres.run(fmt::format("BEGIN; SET LOCAL lock_timeout = '5s';"
                               "SELECT parent, action, part, moved FROM {}({}); COMMIT",
                               name, detach_after ? interval(*detach_after) : "NULL"),
                   kMaintainTimeout);
  for (const sink::Statement& answer : answers) {
    for (const auto& row : answer.rows) {
      tell_partition(row);
      ++work.changes;
    }
  }
  work.warnings += postgres.warnings();
}

// Which rows of the table watermark may go.
std::string condition(const config::Settings& settings) {
  const auto kept = kept_segments(settings.spool.dir);
  std::string segments;
  for (const spool::Uuid& segment : kept.value_or(std::vector<spool::Uuid>{})) {
    segments += (segments.empty() ? "'" : ",'") + segment.text() + "'";
  }
  const std::string age = fmt::format(
      "updated_at < now() - CASE WHEN instance = {} AND {} THEN interval '30 days' "
      "ELSE interval '1 year' END",
      quoted_literal(host_name()), kept ? "true" : "false");
  return fmt::format("{} AND segment_id <> ALL (ARRAY[{}]::uuid[])", age, segments);
}

// A row of redelivered keeps a set-aside event from being stored twice. Without its segment's
// watermark no record of the segment counts.
void forget_segments(BlockingPostgres& postgres, const config::Settings& settings, Work& work) {
  const std::string schema = quoted_identifier(settings.postgres.schema);
  std::string sql =
      fmt::format("BEGIN; SET LOCAL lock_timeout = '5s'; DELETE FROM {}.watermark WHERE {};",
                  schema, condition(settings));
  if (is_there(postgres, "to_regclass", schema + ".redelivered")) {
    sql += fmt::format(
        "DELETE FROM {0}.redelivered r WHERE delivered_at < now() - interval '30 days'"
        " AND NOT EXISTS (SELECT FROM {0}.watermark w WHERE w.segment_id = r.segment_id);",
        schema);
  }
  const auto& answers = postgres.run(sql + "COMMIT", kMaintainTimeout);
  std::size_t rows = 0;
  for (const sink::Statement& answer : answers) {
    if (answer.tag.starts_with("DELETE")) rows += changed_rows(answer);
  }
  if (rows > 0)
    fmt::print("{}: rows removed of segments that are done with: {}\n",
               printable(settings.postgres.schema), rows);
  work.changes += rows;
}

// Again where somebody holds a lock: a timer that gave up would come back only tomorrow.
template <typename Step>
void with_patience(BlockingPostgres& postgres, Step step) {
  for (int tries = 1;; ++tries) {
    try {
      return step();
    } catch (const PostgresError& error) {
      const bool is_passing = error.sqlstate() == "55P03" || error.sqlstate() == "40P01";
      if (!is_passing || tries == kTries) throw;
      postgres.run("ROLLBACK", kMaintainTimeout);
    }
  }
}

Work maintain(const config::Settings& settings,
              std::optional<std::chrono::milliseconds> detach_after) {
  BlockingPostgres postgres(settings.postgres.dsn);
  Work work;
  with_patience(postgres, [&] {
    maintain_partitions(postgres, settings.postgres.schema, detach_after, work);
  });
  with_patience(postgres, [&] { forget_segments(postgres, settings, work); });
  return work;
}

}  // namespace

int maintain_schema(const config::Settings& settings,
                    std::optional<std::chrono::milliseconds> detach_after) {
  try {
    const Work work = maintain(settings, detach_after);
    if (work.warnings > 0) {
      fmt::print(
          stderr,
          "sluice: warnings, which the server's log has: {}. A partition was not made, or a table "
          "of {}.partitioned is gone\n",
          work.warnings, printable(settings.postgres.schema));
      return kExitConfig;
    }
    if (work.changes == 0) fmt::print("There was nothing to do.\n");
    return kExitOk;
  } catch (const PostgresError& error) {
    fmt::print(stderr, "sluice: the schema was not maintained: {}{}\n", error.what(),
               error.sqlstate() == "42501" ? "; the owner of the tables may" : "");
    const bool is_passing = error.sqlstate() == "55P03" || error.sqlstate() == "40P01" ||
                            error.sqlstate().starts_with("57");
    return error.sqlstate().empty() || is_passing ? kExitUnavailable : kExitConfig;
  }
}

}  // namespace sluice::daemon
