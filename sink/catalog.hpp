// What the database's catalog says about the tables that routes lead to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice::sink {

// How a column takes its values. All but the last two have a binary encoder.
enum class ColumnType : std::uint8_t {
  uuid,
  text,  // text, varchar, bpchar, enums
  timestamptz,
  jsonb,
  int2,
  int4,
  int8,
  float4,
  float8,
  numeric,
  boolean,
  timestamp,
  date,
  json,
  other,       // any type that Postgres reads from text
  other_time,  // the same, where some words would mean a time: time, interval, ranges, composites
};

struct CatalogColumn {
  std::string name;
  std::string type;                   // as format_type() writes it
  std::optional<ColumnType> encoder;  // none: no binary encoder for this type
  // The type that the value is received as: below a domain the one that it is made of. Its name in
  // pg_catalog, or empty for a type that somebody made.
  std::string base_type{};
  char base_kind = 'b';   // pg_type.typtype: b base, c composite, e enum, r range, m multirange
  bool is_array = false;  // then element_type is as base_type, of the elements
  std::string element_type{};
  bool not_null = false;
  bool has_default = false;
  bool is_generated = false;  // GENERATED ALWAYS AS (…): no value may be given
  bool is_identity = false;   // GENERATED … AS IDENTITY: it has a value if none is given
  bool is_always_identity =
      false;                // GENERATED ALWAYS AS IDENTITY; COPY may give a value, INSERT not
  bool is_counter = false;  // what it has if no value is given counts rows: identity, serial
  bool may_insert = true;
  bool may_select = true;
};

// A unique index that can be the target of ON CONFLICT: of columns, and checked at once.
struct UniqueKey {
  std::string index;
  std::vector<std::string> columns{};
  std::string predicate{};  // SQL; of a partial index
  bool is_primary = false;
  bool nulls_are_equal = false;  // NULLS NOT DISTINCT
};

struct CatalogTable {
  bool exists = true;
  bool may_insert = true;         // the table or a column of it, and the schema may be used
  bool may_select = true;         // likewise
  bool has_row_security = false;  // and it counts for this role
  std::uint32_t oid = 0;
  std::string skipping_triggers{};  // names of BEFORE INSERT row triggers, of partitions too
  std::vector<CatalogColumn> columns{};
  std::vector<UniqueKey> unique_keys{};    // the primary key first
  std::vector<std::uint32_t> refers_to{};  // the oids of tables that its foreign keys refer to
};

struct Catalog {
  std::string role;
  bool may_make_temporary = true;      // tables, in this database
  std::vector<CatalogTable> tables{};  // in the order in which they were asked for
};

}  // namespace sluice::sink
