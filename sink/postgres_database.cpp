#include "sink/postgres_database.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <variant>

#include "sink/catalog_query.hpp"
#include "sink/merge_plan.hpp"
#include "sink/redelivery_query.hpp"
#include "sink/sql_text.hpp"

namespace sluice::sink {
namespace {

constexpr std::string_view kSchemaHint = "; run: sluice schema apply";

// Settings for one transaction, as one statement: a server that others configured, and a pooler
// that others use, must not change what the protocol means.
//
// client_min_messages is `warning`, not `error`: that a commit is not on the standby it has to be
// on is told by a WARNING only. With synchronous_commit off a commit is answered before it is on
// disk, and a crash of the server takes it back.
constexpr std::string_view kSettings =
    "SELECT set_config('lock_timeout','5s',true),"
    "set_config('statement_timeout','0',true),"
    "set_config('client_min_messages','warning',true),"
    "set_config('synchronous_commit',"
    "replace(current_setting('synchronous_commit'),'off','on'),true)";
// For a connection that dies in mid-COPY: its transaction holds locks until the server notices.
// statement_timeout would end a COPY that waits for its data.
constexpr std::string_view kCopySettings =
    ",set_config('idle_in_transaction_session_timeout','30s',true),"
    "set_config('tcp_keepalives_idle','10',true),"
    "set_config('tcp_keepalives_interval','5',true),"
    "set_config('tcp_keepalives_count','3',true),"
    "set_config('tcp_user_timeout','15000',true),"
    // So that a merge sorts its batch in memory: with the server's 4 MB a full one goes by way of
    // files, at twice the price.
    "set_config('work_mem',greatest(pg_size_bytes(current_setting('work_mem')),16777216)/"
    "1024||'kB',"
    "true)";
constexpr std::string_view kBegin = "BEGIN ISOLATION LEVEL READ COMMITTED;";
constexpr std::string_view kSettle = "SET CONSTRAINTS ALL IMMEDIATE";

std::optional<std::uint64_t> parse_count(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stop != end || error != std::errc()) return std::nullopt;
  return value;
}

Failure unexpected(std::string_view step) {
  return {"", concat({"the server's answer to ", step, " is not what it has to be"}), ""};
}

}  // namespace

PostgresDatabase::PostgresDatabase(PostgresOptions options)
    : options_(std::move(options)),
      watermark_(quoted_identifier(options_.schema) + ".\"watermark\""),
      session_(options_.dsn) {}

void PostgresDatabase::start(Step step, const std::string& sql) {
  step_ = step;
  failure_ = {};
  session_.start_query(sql);
}

void PostgresDatabase::start_connect() {
  step_ = Step::connect;
  failure_ = {};
  commit_may_have_left_ = false;
  session_.start_connect();
}

void PostgresDatabase::start_describe(std::span<const std::string> tables) {
  tables_described_ = tables.size();
  start(Step::describe, catalog_query(tables, watermark_));
}

void PostgresDatabase::start_resolve(const spool::Uuid& segment, IfMissing if_missing) {
  const std::string id = quoted_literal(segment.text());
  std::string insert;
  if (if_missing == IfMissing::insert) {
    insert = concat({";INSERT INTO ", watermark_,
                     " (segment_id, upto, \"rows\", instance) VALUES (", id, ",0,0,",
                     quoted_literal(options_.instance), ") ON CONFLICT (segment_id) DO NOTHING"});
  }
  start(Step::resolve, concat({kBegin, kSettings, insert, ";SELECT upto FROM ", watermark_,
                               " WHERE segment_id = ", id, " FOR UPDATE;COMMIT"}));
}

namespace {

struct Prelude {
  std::string sql;
  std::size_t statements;
};

// What has to come before the first statement of a step.
Prelude prelude_of(const CopyPlace& place) {
  Prelude prelude{};
  if (place.opens) prelude = {concat({kBegin, kSettings, kCopySettings, ";"}), 2};
  switch (place.savepoint) {
    case Savepoint::none:
      break;
    case Savepoint::make:
      prelude.sql += "SAVEPOINT sluice;";
      prelude.statements += 1;
      break;
    case Savepoint::renew:
      prelude.sql += concat({kSettle, ";RELEASE SAVEPOINT sluice;SAVEPOINT sluice;",
                             "SET CONSTRAINTS ALL DEFERRED;"});
      prelude.statements += 4;
      break;
    case Savepoint::return_to:
      prelude.sql += "ROLLBACK TO SAVEPOINT sluice;";
      prelude.statements += 1;
      break;
  }
  return prelude;
}

}  // namespace

void PostgresDatabase::start_copy(const CopyTarget& target, const CopyPlace& place) {
  settles_ = place.settles;
  merges_ = target.merge != nullptr;
  if (place.opens) temporaries_.clear();
  const std::string table =
      merges_ ? target.merge->temporary : TableName::parse(target.table).quoted();
  // What stands behind the COPY is run by the server after the data: step W2.
  start(Step::copy,
        concat({prelude_of(place).sql, merges_ ? make_temporary(*target.merge) : std::string(),
                "COPY ", table, " (", quoted_identifiers(target.columns), ") FROM STDIN (FORMAT ",
                target.format == CopyFormat::binary ? "binary)" : "text)",
                merges_ ? ";" + target.merge->merge : std::string(),
                place.settles ? concat({";", kSettle}) : std::string()}));
}

void PostgresDatabase::send_rows(std::span<const std::byte> bytes) {
  session_.put_data(bytes);
}

bool PostgresDatabase::ready_for_rows() {
  return session_.ready_for_data();
}

bool PostgresDatabase::interrupted() const {
  return session_.interrupted();
}

void PostgresDatabase::start_finish_copy() {
  step_ = Step::finish_copy;
  failure_ = {};
  session_.start_end_copy();
}

// A table of another piece of the transaction is still there, unless a savepoint took it back.
std::string PostgresDatabase::make_temporary(const MergePlan& plan) {
  const auto made = std::find(temporaries_.begin(), temporaries_.end(), plan.temporary);
  if (made != temporaries_.end()) return plan.make_if_missing + ";TRUNCATE " + plan.temporary + ";";
  temporaries_.push_back(plan.temporary);
  return plan.make + ";";
}

void PostgresDatabase::start_compare(const MergePlan& plan) {
  std::string rows;
  for (const MergeConflict& conflict : conflicts_) {
    rows += (rows.empty() ? "" : ",") + std::to_string(conflict.row);
  }
  conflicts_.clear();
  if (!rows.empty()) rows = concat({" AND ", kMergedRow, " IN (", rows, ")"});
  start(Step::compare, concat({plan.compare, rows, " ORDER BY 1"}));
}

void PostgresDatabase::start_settle(const CopyPlace& place) {
  const Prelude prelude = prelude_of(place);
  statements_before_ = prelude.statements;
  start(Step::settle, concat({prelude.sql, kSettle}));
}

void PostgresDatabase::start_rollback() {
  start(Step::rollback, "ROLLBACK");
}

void PostgresDatabase::start_commit(const spool::Uuid& segment, std::uint64_t from,
                                    std::uint64_t upto, std::uint64_t rows) {
  commit_may_have_left_ = true;
  // The division by zero keeps the server from running the COMMIT behind it.
  start(Step::commit, concat({"WITH moved AS (UPDATE ", watermark_,
                              " SET upto = ", std::to_string(upto), ", \"rows\" = \"rows\" + ",
                              std::to_string(rows), ", updated_at = now() WHERE segment_id = ",
                              quoted_literal(segment.text()), " AND upto = ", std::to_string(from),
                              " RETURNING 1) SELECT 1 / count(*) FROM moved;COMMIT"}));
}

void PostgresDatabase::start_confirm(const spool::Position& upto) {
  // The division as in start_commit(): what the database has lost must not be confirmed.
  start(Step::confirm,
        concat({kBegin, kSettings, ";WITH confirmed AS (UPDATE ", watermark_,
                " SET updated_at = now() WHERE segment_id = ", quoted_literal(upto.segment.text()),
                " AND upto >= ", std::to_string(upto.index),
                " RETURNING 1) SELECT 1 / count(*) FROM confirmed;COMMIT"}));
}

void PostgresDatabase::start_check(std::span<const spool::Uuid> segments) {
  std::string ids;
  for (const spool::Uuid& segment : segments) {
    if (!ids.empty()) ids += ',';
    ids += quoted_literal(segment.text());
  }
  watermarks_.clear();
  start(Step::check,
        concat({"SELECT segment_id, upto FROM ", watermark_, " WHERE segment_id IN (", ids, ")"}));
}

void PostgresDatabase::start_look_up(std::span<const AsideClaim> claims) {
  start(Step::look_up, look_up_query(options_.schema, claims));
}

void PostgresDatabase::start_redeliver(std::span<const AsideClaim> claims) {
  commit_may_have_left_ = true;
  start(Step::redeliver, redeliver_query(options_.schema, claims));
}

void PostgresDatabase::start_count_redelivered(std::span<const spool::Uuid> segments) {
  start(Step::count_redelivered, count_redelivered_query(options_.schema, segments));
}

void PostgresDatabase::start_list_redelivered(const spool::Uuid& segment) {
  start(Step::list_redelivered, list_redelivered_query(options_.schema, segment));
}

void PostgresDatabase::disconnect() {
  step_ = Step::none;
  session_.disconnect();
}

Progress PostgresDatabase::advance() {
  switch (session_.advance()) {
    case Progress::working:
      return Progress::working;
    case Progress::done:
      return step_done();
    case Progress::failed:
      return step_failed();
  }
  std::abort();
}

Progress PostgresDatabase::step_done() {
  switch (step_) {
    case Step::describe:
      return described();
    case Step::resolve:
      return resolved();
    case Step::copy:
      return opened();
    case Step::finish_copy:
      return copied();
    case Step::compare:
      return compared();
    case Step::settle:
      return settled();
    case Step::commit:
      return committed();
    case Step::confirm:
      return confirmed();
    case Step::check:
      return checked();
    case Step::look_up:
      return read_answer(standings_of, standings_);
    case Step::redeliver:
      return ended_by_commit(2);  // the insertion, COMMIT
    case Step::count_redelivered:
      return read_answer(redelivered_counts_of, redelivered_counts_);
    case Step::list_redelivered:
      return read_answer(redelivered_indexes_of, redelivered_indexes_);
    case Step::none:
    case Step::connect:
    case Step::rollback:
      return Progress::done;
  }
  std::abort();
}

Progress PostgresDatabase::step_failed() {
  Failure failure = session_.failure();
  const bool is_own = step_ == Step::resolve || step_ == Step::look_up ||
                      step_ == Step::redeliver || step_ == Step::count_redelivered;
  if (is_own && (failure.sqlstate == "42P01" || failure.sqlstate == "3F000")) {
    failure.message += kSchemaHint;
  }
  if (step_ == Step::commit || step_ == Step::redeliver) {
    // Class 08 is what a pooler says about a server that it lost.
    const bool refused = session_.failed_by_error() && !failure.sqlstate.starts_with("08");
    if (refused) commit_may_have_left_ = false;
    if (refused && step_ == Step::commit && failure.sqlstate == "22012") {
      failure.message = "the watermark is not where this batch begins: nothing was committed";
    }
  }
  if (step_ == Step::confirm && failure.sqlstate == "22012") {
    failure.message = "the watermark is not where the segment ends: it is not confirmed";
  }
  return refuse(std::move(failure));
}

Progress PostgresDatabase::refuse(Failure failure) {
  failure_ = std::move(failure);
  return Progress::failed;
}

Progress PostgresDatabase::described() {
  auto read = read_catalog(session_.statements(), tables_described_, watermark_);
  if (auto* failure = std::get_if<Failure>(&read)) return refuse(std::move(*failure));
  catalog_ = std::move(std::get<Catalog>(read));
  return Progress::done;
}

Progress PostgresDatabase::resolved() {
  // BEGIN, the settings, perhaps INSERT, SELECT, COMMIT.
  const auto& statements = session_.statements();
  const std::size_t count = statements.size();
  if (count < 4 || count > 5 || statements[count - 1].tag != "COMMIT") {
    return refuse(unexpected("reading the watermark"));
  }
  if (session_.warnings() != 0) {
    return refuse({"", "the watermark was read with a warning: it may not be replicated yet", ""});
  }
  const auto& rows = statements[count - 2].rows;
  resolved_upto_.reset();
  if (rows.empty() && count == 4) return Progress::done;
  if (rows.size() == 1) resolved_upto_ = parse_count(rows[0][0].value_or(""));
  return resolved_upto_ ? Progress::done : refuse(unexpected("reading the watermark"));
}

Progress PostgresDatabase::opened() {
  return session_.in_copy() ? Progress::done : refuse(unexpected("COPY"));
}

Progress PostgresDatabase::copied() {
  constexpr std::string_view kTag = "COPY ";
  // COPY, perhaps the merge, perhaps SET CONSTRAINTS.
  const auto& statements = session_.statements();
  const std::size_t expected = 1u + (merges_ ? 1 : 0) + (settles_ ? 1 : 0);
  if (statements.size() != expected || !statements[0].tag.starts_with(kTag)) {
    return refuse(unexpected("COPY"));
  }
  const auto rows = parse_count(std::string_view(statements[0].tag).substr(kTag.size()));
  if (!rows) return refuse(unexpected("COPY"));
  rows_copied_ = rows_added_ = *rows;
  if (merges_ && !read_merged(statements[1])) return refuse(unexpected("the merge"));
  return Progress::done;
}

// How many rows were added, and perhaps an array of those that were not, as `{3,5}`.
bool PostgresDatabase::read_merged(const Statement& merged) {
  conflicts_.clear();
  if (merged.rows.size() != 1 || merged.rows[0].empty()) return false;
  const auto added = parse_count(merged.rows[0][0].value_or(""));
  if (!added) return false;
  rows_added_ = *added;
  if (merged.rows[0].size() < 2 || !merged.rows[0][1]) return true;
  std::string_view array = *merged.rows[0][1];
  while (array.size() > 1) {
    array.remove_prefix(1);  // the brace or the comma
    const std::string_view number = array.substr(0, array.find_first_of(",}"));
    const auto row = parse_count(number);
    if (!row) return false;
    conflicts_.push_back({.row = *row});
    array.remove_prefix(number.size());
  }
  return true;
}

Progress PostgresDatabase::compared() {
  const auto& statements = session_.statements();
  if (statements.size() != 1) return refuse(unexpected("the comparison"));
  const auto is_true = [](const std::optional<std::string>& value) { return value == "t"; };
  for (const auto& row : statements[0].rows) {
    const auto number = parse_count(row[0].value_or(""));
    if (!number) return refuse(unexpected("the comparison"));
    conflicts_.push_back(
        {*number, is_true(row[1]), is_true(row[2]), is_true(row[3]), is_true(row[4])});
  }
  return Progress::done;
}

Progress PostgresDatabase::settled() {
  return session_.statements().size() == statements_before_ + 1
             ? Progress::done
             : refuse(unexpected("SET CONSTRAINTS"));
}

template <typename Found>
Progress PostgresDatabase::read_answer(std::optional<Found> (*read)(const Statement&),
                                       Found& found) {
  const auto& statements = session_.statements();
  auto answer = statements.size() == 1 ? read(statements[0]) : std::nullopt;
  if (!answer) return refuse(unexpected("a look at sluice.redelivered"));
  found = std::move(*answer);
  return Progress::done;
}

// Whether the string of statements ended with a COMMIT that counts.
Progress PostgresDatabase::ended_by_commit(std::size_t count) {
  const auto& statements = session_.statements();
  if (statements.size() != count) return refuse(unexpected("COMMIT"));
  if (statements.back().tag == "ROLLBACK") {
    commit_may_have_left_ = false;
    return refuse({"", "the server answered COMMIT with ROLLBACK", ""});
  }
  if (statements.back().tag != "COMMIT") return refuse(unexpected("COMMIT"));
  if (session_.warnings() != 0) {
    return refuse({"", "the commit came with a warning: it may not be replicated yet", ""});
  }
  commit_may_have_left_ = false;
  return Progress::done;
}

Progress PostgresDatabase::committed() {
  return ended_by_commit(2);  // the move, COMMIT
}

Progress PostgresDatabase::confirmed() {
  return ended_by_commit(4);  // BEGIN, the settings, the write, COMMIT
}

Progress PostgresDatabase::checked() {
  const auto& statements = session_.statements();
  if (statements.size() != 1) return refuse(unexpected("reading the watermarks"));
  for (const auto& row : statements[0].rows) {
    const auto segment = spool::Uuid::parse(row[0].value_or(""));
    const auto upto = parse_count(row[1].value_or(""));
    if (!segment || !upto) return refuse(unexpected("reading the watermarks"));
    watermarks_.push_back({*segment, *upto});
  }
  return Progress::done;
}

}  // namespace sluice::sink
