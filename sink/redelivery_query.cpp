#include "sink/redelivery_query.hpp"

#include <charconv>

#include "sink/sql_text.hpp"

namespace sluice::sink {
namespace {

std::string table(const std::string& schema, std::string_view name) {
  return concat({quoted_identifier(schema), ".\"", name, "\""});
}

// WITH e (segment_id, index, outlived) AS (VALUES …)
std::string claims_as_e(std::span<const AsideClaim> claims) {
  std::string values;
  for (const AsideClaim& claim : claims) {
    values += concat({values.empty() ? "('" : ",('", claim.event.segment.text(), "'::uuid,",
                      std::to_string(claim.event.index), "::bigint,",
                      claim.outlived_watermark ? "true" : "false", ")"});
  }
  return concat({"WITH e (segment_id, index, outlived) AS (VALUES ", values, ")"});
}

// Of e joined with the watermark table as w: whether the record counts.
constexpr std::string_view kCounts = "coalesce(w.upto > e.index, e.outlived)";

std::optional<std::uint64_t> number(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  std::uint64_t value = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

}  // namespace

std::string look_up_query(const std::string& schema, std::span<const AsideClaim> claims) {
  return concat({claims_as_e(claims), " SELECT e.segment_id, e.index, ", kCounts,
                 ", r.index IS NOT NULL FROM e LEFT JOIN ", table(schema, "watermark"),
                 " w ON w.segment_id = e.segment_id LEFT JOIN ", table(schema, "redelivered"),
                 " r ON r.segment_id = e.segment_id AND r.index = e.index"});
}

std::optional<std::vector<AsideStanding>> standings_of(const Statement& answer) {
  std::vector<AsideStanding> standings;
  for (const auto& row : answer.rows) {
    const auto segment = spool::Uuid::parse(row.at(0).value_or(""));
    const auto index = number(row.at(1));
    if (!segment || !index) return std::nullopt;
    standings.push_back({{*segment, *index}, row.at(2) == "t", row.at(3) == "t"});
  }
  return standings;
}

std::string redeliver_query(const std::string& schema, std::span<const AsideClaim> claims) {
  // The division by zero keeps the server from running the COMMIT behind it.
  return concat({claims_as_e(claims), ", added AS (INSERT INTO ", table(schema, "redelivered"),
                 " (segment_id, index) SELECT e.segment_id, e.index FROM e LEFT JOIN ",
                 table(schema, "watermark"), " w ON w.segment_id = e.segment_id WHERE ", kCounts,
                 " RETURNING 1) SELECT 1 / (count(*) = ", std::to_string(claims.size()),
                 ")::int FROM added;COMMIT"});
}

std::string count_redelivered_query(const std::string& schema,
                                    std::span<const spool::Uuid> segments) {
  std::string ids;
  for (const spool::Uuid& segment : segments) {
    ids += concat({ids.empty() ? "'" : ",'", segment.text(), "'"});
  }
  return concat({"SELECT segment_id, count(*) FROM ", table(schema, "redelivered"),
                 " WHERE segment_id IN (", ids, ") GROUP BY segment_id"});
}

std::optional<std::vector<spool::RedeliveredCount>> redelivered_counts_of(const Statement& answer) {
  std::vector<spool::RedeliveredCount> counts;
  for (const auto& row : answer.rows) {
    const auto segment = spool::Uuid::parse(row.at(0).value_or(""));
    const auto rows = number(row.at(1));
    if (!segment || !rows) return std::nullopt;
    counts.push_back({*segment, *rows});
  }
  return counts;
}

std::string list_redelivered_query(const std::string& schema, const spool::Uuid& segment) {
  return concat({"SELECT index FROM ", table(schema, "redelivered"), " WHERE segment_id = '",
                 segment.text(), "' ORDER BY index"});
}

std::optional<std::vector<std::uint64_t>> redelivered_indexes_of(const Statement& answer) {
  std::vector<std::uint64_t> indexes;
  for (const auto& row : answer.rows) {
    const auto index = number(row.at(0));
    if (!index) return std::nullopt;
    indexes.push_back(*index);
  }
  return indexes;
}

}  // namespace sluice::sink
