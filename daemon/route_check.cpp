#include "daemon/route_check.hpp"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <variant>

#include "sink/sql_text.hpp"

namespace sluice::daemon {

namespace {

using sink::CatalogColumn;
using sink::CatalogTable;
using sink::OnConflict;
using sink::Route;
using sink::RouteMode;
using sink::UniqueKey;

std::string in_place(const std::string& what, const std::string& place) {
  return place.empty() ? what : what + " (" + place + ")";
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

// One route and its table, one question after the other.
class RouteCheck final {
 public:
  RouteCheck(const Route& route, const CatalogTable& table, const sink::Catalog& catalog)
      : route_(route),
        table_(table),
        catalog_(catalog),
        name_(sink::TableName::parse(route.table).quoted()),
        role_(sink::quoted_identifier(catalog.role)) {}

  std::vector<RouteFinding> run() {
    if (!table_.exists) {
      wrong("table " + name_ +
                " does not exist, or its schema may not be used or is not on the "
                "search_path",
            "make it (sluice schema apply makes a model's), name its schema, or GRANT USAGE ON "
            "SCHEMA … TO " +
                role_);
      return std::move(findings_);
    }
    if (!table_.may_insert) {
      wrong(role_ + " may not INSERT into " + name_,
            "GRANT INSERT ON " + name_ + " TO " + role_ + ";");
    }
    check_columns();
    check_unfed_columns();
    check_row_security();
    check_key();
    check_triggers();
    return std::move(findings_);
  }

 private:
  void wrong(const std::string& what, const std::string& next_step) {
    findings_.push_back({RouteFinding::Kind::wrong, in_place(what, route_.place), next_step});
  }
  void note(const std::string& what, const std::string& next_step) {
    findings_.push_back({RouteFinding::Kind::note, in_place(what, route_.place), next_step});
  }

  [[nodiscard]] bool feeds(const std::string& column) const {
    return std::any_of(route_.columns.begin(), route_.columns.end(),
                       [&](const sink::Column& each) { return each.name == column; });
  }

  // The lane's own binding, a column at a time, so that all that is wrong is told at once.
  void check_columns() {
    for (const sink::Column& column : route_.columns) {
      Route one = route_;
      one.columns = {column};
      const auto bound = sink::bind_columns(one, table_.columns);
      if (const auto* failure = std::get_if<sink::Failure>(&bound)) {
        findings_.push_back(
            {RouteFinding::Kind::wrong, failure->message, step_for(failure->sqlstate)});
      }
    }
  }

  [[nodiscard]] std::string step_for(std::string_view sqlstate) const {
    if (sqlstate == "42703") return "add the column to the table, or mend its name in the route";
    if (sqlstate == "428C9") return "leave the column out of the route";
    if (sqlstate == "42501") return "GRANT INSERT ON " + name_ + " TO " + role_ + ";";
    return "change the column's type, or mend from, value or type in the route";
  }

  void check_unfed_columns() {
    std::vector<std::string> unfed;
    for (const CatalogColumn& column : table_.columns) {
      const bool needed = column.not_null && !column.has_default && !column.is_identity &&
                          !column.is_generated && !feeds(column.name);
      if (needed) unfed.push_back(column.name);
    }
    if (unfed.empty()) return;
    wrong(name_ + " wants a value that the route does not give: " + joined(unfed),
          "add it to the route's columns, give it a DEFAULT, or ALTER COLUMN … DROP NOT NULL");
  }

  void check_row_security() {
    if (!table_.has_row_security || route_.mode == RouteMode::merge) return;
    wrong("row-level security on " + name_ + " keeps COPY out",
          "mode = \"merge\" in the route, or a role with BYPASSRLS");
  }

  [[nodiscard]] const UniqueKey* usable_key() const {
    const auto found =
        std::find_if(table_.unique_keys.begin(), table_.unique_keys.end(), [&](const auto& key) {
          if (route_.key.empty()) return key.is_primary;
          return std::is_permutation(key.columns.begin(), key.columns.end(), route_.key.begin(),
                                     route_.key.end());
        });
    return found == table_.unique_keys.end() ? nullptr : &*found;
  }

  void check_key() {
    const bool merges = route_.mode == RouteMode::merge;
    const UniqueKey* const key = usable_key();
    if (key == nullptr && !route_.key.empty()) {
      return wrong(
          "no unique index of " + name_ + " is of the key's columns (" + joined(route_.key) +
              ") and no others",
          "CREATE UNIQUE INDEX ON " + name_ + " (" + sink::quoted_identifiers(route_.key) + ");");
    }
    if (key == nullptr && merges) {
      return wrong(name_ + " has no primary key to merge by",
                   "name the columns of a unique index in key, or add a primary key");
    }
    if (key == nullptr) {
      return note(name_ +
                      " has no primary key: an event that comes again after the dedupe window "
                      "is stored again",
                  "nothing, if that is as it should be");
    }
    check_key_is_fed(*key);
    check_merge_rights(merges);
  }

  void check_key_is_fed(const UniqueKey& key) {
    for (const std::string& column : key.columns) {
      if (feeds(column)) continue;
      note("the key's column " + column + " of " + name_ +
               " is none of the route's: no event is recognised as stored already",
           "nothing, if that is as it should be");
    }
  }

  // In mode "append" only what comes twice is merged; it is held without these.
  void check_merge_rights(bool merges) {
    const auto kind = merges ? RouteFinding::Kind::wrong : RouteFinding::Kind::note;
    const std::string why = merges ? "" : ", which it needs once an event comes a second time";
    if (!catalog_.may_make_temporary) {
      findings_.push_back({kind,
                           in_place(role_ + " may not make temporary tables" + why, route_.place),
                           "GRANT TEMP ON DATABASE … TO " + role_ + ";"});
    }
    const bool unreadable = std::any_of(
        table_.columns.begin(), table_.columns.end(),
        [&](const CatalogColumn& each) { return feeds(each.name) && !each.may_select; });
    const bool reads = route_.on_conflict == OnConflict::compare;
    if (!reads || (table_.may_select && !unreadable)) return;
    findings_.push_back(
        {kind, in_place(role_ + " may not SELECT from " + name_ + why, route_.place),
         "GRANT SELECT ON " + name_ + " TO " + role_ + "; or on_conflict = \"skip\""});
  }

  void check_triggers() {
    if (table_.skipping_triggers.empty() || route_.trigger_may_skip) return;
    note("BEFORE triggers of " + name_ + " could take rows away (" + table_.skipping_triggers +
             "): if one does, the route is held",
         "trigger_may_skip = true in the route, if they may");
  }

  const Route& route_;
  const CatalogTable& table_;
  const sink::Catalog& catalog_;
  const std::string name_;
  const std::string role_;
  std::vector<RouteFinding> findings_;
};

}  // namespace

std::vector<RouteFinding> check_route(const sink::Route& route, const sink::CatalogTable& table,
                                      const sink::Catalog& catalog) {
  return RouteCheck(route, table, catalog).run();
}

}  // namespace sluice::daemon
