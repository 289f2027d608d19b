#include "sink/merge_plan.hpp"

#include <algorithm>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "sink/sql_text.hpp"

namespace sluice::sink {
namespace {

using Names = std::vector<std::string>;

// Names that no column has.
constexpr std::string_view kRow = "\"sluice row\"";
constexpr std::string_view kFound = "\"sluice found\"";

std::string joined(std::span<const std::string> names, std::string_view between,
                   const std::function<std::string(const std::string&)>& piece) {
  std::string text;
  for (const std::string& name : names) {
    if (!text.empty()) text += between;
    text += piece(quoted_identifier(name));
  }
  return text;
}

const CatalogColumn* find_column(const CatalogTable& table, const std::string& name) {
  const auto found = std::find_if(table.columns.begin(), table.columns.end(),
                                  [&](const CatalogColumn& each) { return each.name == name; });
  return found == table.columns.end() ? nullptr : &*found;
}

bool has_column(const Route& route, const std::string& name) {
  return std::any_of(route.columns.begin(), route.columns.end(),
                     [&](const Column& column) { return column.name == name; });
}

// The unique index that the route's key means: of just these columns, and of all rows if there is
// such a one.
const UniqueKey* find_key(const Route& route, const CatalogTable& table) {
  const UniqueKey* best = nullptr;
  for (const UniqueKey& key : table.unique_keys) {
    const bool is_meant = route.key.empty()
                              ? key.is_primary
                              : std::is_permutation(key.columns.begin(), key.columns.end(),
                                                    route.key.begin(), route.key.end());
    if (is_meant && (best == nullptr || (!best->predicate.empty() && key.predicate.empty()))) {
      best = &key;
    }
  }
  return best;
}

bool is_of_daemon(Source source) {
  switch (source) {
    case Source::received_at:
    case Source::uid:
    case Source::segment:
    case Source::index:
    case Source::constant:
      return true;
    case Source::id:
    case Source::occurred_at:
    case Source::line:
    case Source::extra:
    case Source::type:
    case Source::source:
    case Source::session_id:
    case Source::parent_id:
    case Source::dedupe_key:
    case Source::data:
    case Source::member:
    case Source::pointer:
      return false;
  }
  return false;
}

// The route's columns by what their values say about two rows of the same event.
struct Compared {
  Names firm;   // equal
  Names ids;    // equal if the producer gave the id
  Names times;  // equal if the producer gave the time

  explicit Compared(const Route& route) {
    if (route.on_conflict != OnConflict::compare) return;
    for (const Column& column : route.columns) {
      if (is_of_daemon(column.source)) continue;
      (column.source == Source::id            ? ids
       : column.source == Source::occurred_at ? times
                                              : firm)
          .push_back(column.name);
    }
  }
};

// SQL that is true where the two rows have the same bytes in these columns. Without the casts SQL
// would compare them column by column.
std::string agree(const Names& names) {
  if (names.empty()) return "true";
  const auto row = [&](std::string_view of) {
    return "ROW(" +
           joined(names, ",",
                  [&](const std::string& name) {
                    return concat({of, ".", name});
                  }) +
           ")::record";
  };
  return concat({row("t"), " OPERATOR(pg_catalog.*=) ", row("s")});
}

std::string temporary_columns(const Route& route, const CatalogTable& table) {
  std::string list;
  for (const Column& column : route.columns) {
    const CatalogColumn* const found = find_column(table, column.name);
    if (!list.empty()) list += ',';
    list += concat({quoted_identifier(column.name), " ", found->type});
  }
  return list;
}

Names column_names(const Route& route) {
  Names names;
  for (const Column& column : route.columns) names.push_back(column.name);
  return names;
}

// The pieces that the statements are made of.
struct Pieces {
  std::string temporary;
  std::string table;
  std::string columns;
  const UniqueKey& key;
};

// By the key: transactions that add the same keys in different orders would wait for each other in
// a circle (40P01). Not where the database counts the rows as they are added. There they stay in
// the order in which the events came, and a deadlock is tried again like any other trouble.
std::string in_order(const Route& route, const CatalogTable& table, const Pieces& with,
                     std::string_view row) {
  const bool counts = std::any_of(
      table.columns.begin(), table.columns.end(),
      [&](const auto& each) { return each.is_counter && !has_column(route, each.name); });
  if (counts) return {};
  // Of several rows with the same key the first is added.
  return concat({" ORDER BY ", quoted_identifiers(with.key.columns), ",", row});
}

std::string insert(const Route& route, const CatalogTable& table, const Pieces& with,
                   std::string_view from, std::string_view row, std::string_view returning) {
  const bool gives_identity =
      std::any_of(route.columns.begin(), route.columns.end(), [&](const Column& column) {
        const CatalogColumn* const found = find_column(table, column.name);
        return found->is_always_identity;
      });
  return concat({"INSERT INTO ", with.table, " (", with.columns, ")",
                 gives_identity ? " OVERRIDING SYSTEM VALUE" : "", " SELECT ", with.columns,
                 " FROM ", from, in_order(route, table, with, row), " ON CONFLICT (",
                 quoted_identifiers(with.key.columns), ")",
                 with.key.predicate.empty() ? "" : " WHERE " + with.key.predicate,
                 " DO NOTHING RETURNING ", returning});
}

std::string numbered_rows(const Pieces& with) {
  return concat({"SELECT row_number() OVER (ORDER BY x.ctid) AS ", kRow, ", x.* FROM ",
                 with.temporary, " AS x"});
}

std::string same_key(const UniqueKey& key, std::string_view one, std::string_view other) {
  return joined(key.columns, " AND ", [&](const std::string& name) {
    const std::string equal = concat({one, ".", name, " = ", other, ".", name});
    if (!key.nulls_are_equal) return equal;
    // IS NOT DISTINCT FROM uses no index.
    return concat(
        {"(", equal, " OR (", one, ".", name, " IS NULL AND ", other, ".", name, " IS NULL))"});
  });
}

// Rows that the index looks at, among those that are named `of`. Its predicate names columns alone.
std::string has_key(const UniqueKey& key, std::string_view of) {
  if (key.nulls_are_equal) return "true";
  return joined(key.columns, " AND ", [&](const std::string& name) {
    return concat({of, ".", name, " IS NOT NULL"});
  });
}

bool tells_conflicts(const Route& route, const CatalogTable& table) {
  return route.on_conflict == OnConflict::dead || !table.skipping_triggers.empty();
}

std::string merge_statement(const Route& route, const CatalogTable& table, const Pieces& with) {
  if (!tells_conflicts(route, table)) {
    return concat({"WITH added AS (", insert(route, table, with, with.temporary, "ctid", "1"),
                   ") SELECT count(*) FROM added"});
  }
  const std::string keys = quoted_identifiers(with.key.columns);
  const std::string where =
      with.key.predicate.empty() ? std::string() : " AND (" + with.key.predicate + ")";
  // Of several rows with the same key the first was added, if any.
  return concat({"WITH s AS MATERIALIZED (",
                 numbered_rows(with),
                 "), added AS (",
                 insert(route, table, with, "s", kRow, keys),
                 "), keyed AS (SELECT ",
                 kRow,
                 ",",
                 keys,
                 ", row_number() OVER (PARTITION BY ",
                 keys,
                 " ORDER BY ",
                 kRow,
                 ") AS ",
                 kFound,
                 " FROM s WHERE ",
                 has_key(with.key, "s"),
                 where,
                 ") SELECT (SELECT count(*) FROM added), (SELECT array_agg(k.",
                 kRow,
                 ") FROM keyed AS k WHERE k.",
                 kFound,
                 " > 1 OR NOT EXISTS (SELECT FROM added AS a WHERE ",
                 same_key(with.key, "a", "k"),
                 "))"});
}

std::string compare_statement(const Route& route, const CatalogTable& table, const Pieces& with) {
  const bool skips = route.on_conflict == OnConflict::skip;
  if (route.on_conflict == OnConflict::dead) return {};
  if (skips && (table.skipping_triggers.empty() || route.trigger_may_skip)) return {};
  const Compared columns(route);
  Names all = with.key.columns;
  for (const Names* names : {&columns.firm, &columns.ids, &columns.times}) {
    for (const std::string& name : *names) {
      if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
    }
  }
  const std::string& predicate = with.key.predicate;
  // Each row is looked for by the index: LIMIT keeps the server from a join that reads the whole
  // table, which it takes to be small beside a temporary one that it has no statistics of.
  // A row that is not there is told only where each row must be: rows that a partial index passes
  // over are not looked for.
  const std::string found = concat({"t.", kFound, " IS NOT NULL"});
  return concat({"SELECT s.",
                 kRow,
                 ",",
                 found,
                 ",",
                 agree(columns.firm),
                 ",",
                 agree(columns.ids),
                 ",",
                 agree(columns.times),
                 " FROM (",
                 numbered_rows(with),
                 ") AS s LEFT JOIN LATERAL (SELECT true AS ",
                 kFound,
                 ",",
                 quoted_identifiers(all),
                 " FROM ",
                 with.table,
                 " AS f WHERE ",
                 same_key(with.key, "f", "s"),
                 predicate.empty() ? "" : " AND (" + predicate + ")",
                 " LIMIT 1) AS t ON true WHERE ",
                 has_key(with.key, "s"),
                 predicate.empty() ? "" : " AND " + found,
                 " AND (",
                 skips ? "false"
                       : "(" + agree(columns.firm) + " AND " + agree(columns.ids) + " AND " +
                             agree(columns.times) + ") IS FALSE",
                 " OR t.",
                 kFound,
                 " IS NULL)"});
}

std::optional<Failure> why_no_rights(const Route& route, const CatalogTable& table,
                                     const Catalog& catalog, const UniqueKey& key) {
  const std::string name = TableName::parse(route.table).quoted();
  if (!catalog.may_make_temporary) {
    return Failure{"42501",
                   concat({"role \"", catalog.role, "\" may not make temporary tables in this ",
                           "database, which merging into ", name, " needs: GRANT TEMPORARY"}),
                   ""};
  }
  const Compared compared(route);
  for (const Names* names : {&key.columns, &compared.firm, &compared.ids, &compared.times}) {
    for (const std::string& column : *names) {
      const CatalogColumn* const found = find_column(table, column);
      if (found == nullptr || found->may_select) continue;
      return Failure{"42501",
                     concat({"role \"", catalog.role, "\" may not SELECT ",
                             quoted_identifier(column), " of ", name, ", which merging compares"}),
                     column};
    }
  }
  return std::nullopt;
}

}  // namespace

std::variant<MergePlan, Failure> plan_merge(const Route& route, const CatalogTable& table,
                                            const Catalog& catalog, std::size_t number) {
  const std::string name = TableName::parse(route.table).quoted();
  const UniqueKey* const key = find_key(route, table);
  if (key == nullptr) {
    return Failure{
        "42P10",
        route.key.empty()
            ? concat({"table ", name, " has no primary key, and the route no key to merge on"})
            : concat({"table ", name, " has no unique index on just the columns ",
                      quoted_identifiers(route.key), ", which merging needs"}),
        ""};
  }
  for (const std::string& column : key->columns) {
    if (has_column(route, column)) continue;
    return Failure{"42P10",
                   concat({"the key of table ", name, " has the column ", quoted_identifier(column),
                           ", which the route does not feed"}),
                   column};
  }
  if (auto failure = why_no_rights(route, table, catalog, *key)) return *failure;
  const Pieces pieces{"pg_temp.\"sluice_merge_" + std::to_string(number) + '"', name,
                      quoted_identifiers(column_names(route)), *key};
  const auto make = [&](std::string_view words) {
    return concat({"CREATE TEMPORARY TABLE ", words, pieces.temporary, " (",
                   temporary_columns(route, table), ") ON COMMIT DROP"});
  };
  return MergePlan{pieces.temporary,
                   make(""),
                   make("IF NOT EXISTS "),
                   merge_statement(route, table, pieces),
                   compare_statement(route, table, pieces),
                   tells_conflicts(route, table),
                   key->index};
}

}  // namespace sluice::sink
