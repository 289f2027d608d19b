// The SQL of RedeliveryDatabase's steps, and what the server answers.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sink/postgres_session.hpp"
#include "sink/redelivery_database.hpp"

namespace sluice::sink {

// `schema`: that of sluice's own tables, as it is. REQUIRES of the spans: they are not empty.

[[nodiscard]] std::string look_up_query(const std::string& schema,
                                        std::span<const AsideClaim> claims);
// None: it is not an answer to that.
[[nodiscard]] std::optional<std::vector<AsideStanding>> standings_of(const Statement& answer);

// Ends the transaction that it runs in; two statements.
[[nodiscard]] std::string redeliver_query(const std::string& schema,
                                          std::span<const AsideClaim> claims);

[[nodiscard]] std::string count_redelivered_query(const std::string& schema,
                                                  std::span<const spool::Uuid> segments);
[[nodiscard]] std::optional<std::vector<spool::RedeliveredCount>> redelivered_counts_of(
    const Statement& answer);

[[nodiscard]] std::string list_redelivered_query(const std::string& schema,
                                                 const spool::Uuid& segment);
[[nodiscard]] std::optional<std::vector<std::uint64_t>> redelivered_indexes_of(
    const Statement& answer);

}  // namespace sluice::sink
