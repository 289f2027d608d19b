#include "sink/catalog_query.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "sink/sql_text.hpp"

namespace sluice::sink {
namespace {

using Row = std::vector<std::optional<std::string>>;

constexpr std::size_t kStatements = 5;

// The tables that were asked for, numbered, with their oids. By names and not by to_regclass(),
// which fails for the whole query where the role may not look into one of the schemas.
std::string wanted(std::span<const std::string> tables) {
  std::string values;
  for (const std::string& table : tables) {
    const TableName name = TableName::parse(table);
    values += concat({values.empty() ? "(" : ",(", std::to_string(&table - tables.data()), ",",
                      name.schema.empty() ? "NULL::name" : quoted_literal(name.schema) + "::name",
                      ",", quoted_literal(name.table), "::name)"});
  }
  return concat(
      {"WITH t AS (SELECT w.n, (SELECT c.oid FROM pg_catalog.pg_class c"
       " JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace"
       " WHERE c.relname = w.name AND c.relkind IN ('r','p','v','f')"
       " AND CASE WHEN w.schema IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)"
       " ELSE s.nspname = w.schema END) AS oid"
       " FROM (VALUES ",
       values, ") AS w (n, schema, name)) "});
}

constexpr std::string_view kTables =
    "SELECT t.n, t.oid,"
    " has_schema_privilege(c.relnamespace,'USAGE') AND has_any_column_privilege(t.oid,'INSERT'),"
    " has_schema_privilege(c.relnamespace,'USAGE') AND has_any_column_privilege(t.oid,'SELECT'),"
    " row_security_active(t.oid),"
    // ROW, BEFORE and INSERT.
    " (SELECT string_agg(DISTINCT quote_ident(tgname), ', ')"
    " FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7"
    " AND (tgrelid = t.oid OR tgrelid IN (SELECT relid FROM pg_partition_tree(t.oid))))"
    " FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid ORDER BY t.n;";

constexpr std::string_view kColumns =
    "SELECT t.n, a.attname, format_type(a.atttypid, a.atttypmod),"
    " CASE WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN b.typname END,"
    " b.typtype, b.typcategory = 'A' AND b.typelem <> 0,"
    " CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace THEN e.typname END,"
    " a.attnotnull, a.atthasdef, a.attgenerated <> '', a.attidentity,"
    " has_column_privilege(t.oid, a.attnum, 'INSERT'),"
    " has_column_privilege(t.oid, a.attnum, 'SELECT'),"
    " a.attidentity <> '' OR coalesce(pg_get_expr(f.adbin, f.adrelid) LIKE '%nextval(%', false)"
    " FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid"
    " JOIN pg_catalog.pg_type d ON d.oid = a.atttypid"
    // A domain is received as the type below it.
    " JOIN pg_catalog.pg_type b"
    " ON b.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END"
    " LEFT JOIN pg_catalog.pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'"
    " LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum"
    " WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY t.n, a.attnum;";

// ON CONFLICT takes no index of expressions and none that is checked later. PostgreSQL 14 does not
// have indnullsnotdistinct.
constexpr std::string_view kKeys =
    "SELECT t.n, i.indexrelid::regclass, i.indisprimary,"
    " pg_get_expr(i.indpred, i.indrelid),"
    " coalesce((to_jsonb(i)->>'indnullsnotdistinct')::boolean, false), a.attname"
    " FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid"
    " CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, nth)"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum"
    " WHERE i.indisunique AND i.indimmediate AND i.indisvalid AND i.indexprs IS NULL"
    " AND k.nth <= i.indnkeyatts"
    " ORDER BY t.n, i.indisprimary DESC, i.indexrelid, k.nth;";

constexpr std::string_view kReferences =
    "SELECT DISTINCT t.n, r.confrelid FROM t JOIN pg_catalog.pg_constraint r"
    " ON r.conrelid = t.oid AND r.contype = 'f' ORDER BY 1, 2";

// Names are those of pg_catalog.
std::optional<ColumnType> encoder_of(std::string_view type) {
  constexpr auto kTypes = std::to_array<std::pair<std::string_view, ColumnType>>({
      {"uuid", ColumnType::uuid},
      {"text", ColumnType::text},
      {"varchar", ColumnType::text},
      {"bpchar", ColumnType::text},
      {"timestamptz", ColumnType::timestamptz},
      {"jsonb", ColumnType::jsonb},
      {"int2", ColumnType::int2},
      {"int4", ColumnType::int4},
      {"int8", ColumnType::int8},
      {"float4", ColumnType::float4},
      {"float8", ColumnType::float8},
      {"numeric", ColumnType::numeric},
      {"bool", ColumnType::boolean},
  });
  const auto* found = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const auto& entry) { return entry.first == type; });
  return found == kTypes.end() ? std::nullopt : std::optional(found->second);
}

bool is_true(const std::optional<std::string>& value) {
  return value == "t";
}

std::uint32_t number(const std::optional<std::string>& value) {
  std::uint32_t read = 0;
  const std::string_view text = value ? std::string_view(*value) : std::string_view();
  (void)std::from_chars(text.data(), text.data() + text.size(), read);
  return read;
}

CatalogColumn column_of(const Row& row) {
  CatalogColumn column{row[1].value_or(""), row[2].value_or(""),
                       row[3] ? encoder_of(*row[3]) : std::nullopt};
  column.base_type = row[3].value_or("");
  column.base_kind = row[4] && !row[4]->empty() ? row[4]->front() : 'b';
  column.is_array = is_true(row[5]);
  column.element_type = row[6].value_or("");
  column.not_null = is_true(row[7]);
  column.is_generated = is_true(row[9]);
  column.has_default = is_true(row[8]) && !column.is_generated;
  column.is_identity = !row[10].value_or("").empty();
  column.is_always_identity = row[10] == "a";
  column.may_insert = is_true(row[11]);
  column.may_select = is_true(row[12]);
  column.is_counter = is_true(row[13]);
  return column;
}

void add_key_column(std::vector<UniqueKey>& keys, const Row& row) {
  const std::string index = row[1].value_or("");
  if (keys.empty() || keys.back().index != index) {
    keys.push_back({index, {}, row[3].value_or(""), is_true(row[2]), is_true(row[4])});
  }
  keys.back().columns.push_back(row[5].value_or(""));
}

void read_tables(std::span<const Statement> statements, std::vector<CatalogTable>& tables) {
  const auto table_of = [&](const Row& row) -> CatalogTable& { return tables.at(number(row[0])); };
  for (const Row& row : statements[1].rows) {
    CatalogTable& table = table_of(row);
    table.exists = true;
    table.oid = number(row[1]);
    table.may_insert = is_true(row[2]);
    table.may_select = is_true(row[3]);
    table.has_row_security = is_true(row[4]);
    table.skipping_triggers = row[5].value_or("");
  }
  for (const Row& row : statements[2].rows) table_of(row).columns.push_back(column_of(row));
  for (const Row& row : statements[3].rows) add_key_column(table_of(row).unique_keys, row);
  for (const Row& row : statements[4].rows) table_of(row).refers_to.push_back(number(row[1]));
}

}  // namespace

std::string catalog_query(std::span<const std::string> tables, const std::string& watermark) {
  const std::string with = wanted(tables);
  const std::string regclass = concat({"to_regclass(", quoted_literal(watermark), ")"});
  return concat(
      {"SELECT current_user, has_database_privilege(current_database(),'TEMP'),"
       " has_table_privilege(",
       regclass, ",'SELECT') AND has_table_privilege(", regclass,
       ",'INSERT') AND has_table_privilege(", regclass, ",'UPDATE');", with, kTables, with,
       kColumns, with, kKeys, with, kReferences});
}

std::variant<Catalog, Failure> read_catalog(std::span<const Statement> statements,
                                            std::size_t tables, const std::string& watermark) {
  if (statements.size() != kStatements || statements[0].rows.size() != 1) {
    return Failure{"", "the server's answer to the look at the catalog is not what it has to be",
                   ""};
  }
  const Row& rights = statements[0].rows[0];
  Catalog catalog{rights[0].value_or(""), is_true(rights[1]), {}};
  if (!rights[2]) {
    return Failure{"42P01",
                   concat({"table ", watermark, " does not exist; run: sluice schema apply"}), ""};
  }
  if (!is_true(rights[2])) {
    return Failure{
        "42501",
        concat({"role \"", catalog.role, "\" may not SELECT, INSERT and UPDATE ", watermark}), ""};
  }
  catalog.tables.resize(tables);
  for (CatalogTable& table : catalog.tables) table.exists = false;
  read_tables(statements, catalog.tables);
  return catalog;
}

}  // namespace sluice::sink
