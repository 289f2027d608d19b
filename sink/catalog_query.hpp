// The look at the catalog as SQL, and what its answer means.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>

#include "sink/catalog.hpp"
#include "sink/database.hpp"
#include "sink/postgres_session.hpp"

namespace sluice::sink {

// One string of statements. The tables are named as in routes; `watermark` is quoted.
[[nodiscard]] std::string catalog_query(std::span<const std::string> tables,
                                        const std::string& watermark);

// What the statements of catalog_query() returned, or why the watermark table is of no use.
[[nodiscard]] std::variant<Catalog, Failure> read_catalog(std::span<const Statement> statements,
                                                          std::size_t tables,
                                                          const std::string& watermark);

}  // namespace sluice::sink
