// One lane's connection to the database, seen as the steps of the delivery protocol. The one edge
// between a lane and the world: Postgres behind it in the daemon, a fake in tests.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sink/catalog.hpp"
#include "spool/block.hpp"

namespace sluice::sink {

// What went wrong, as the server or the connection says it. Never holds a payload: `message` is the
// server's primary message only where `shows_no_row` (sqlstate.hpp) allows it.
struct Failure {
  std::string sqlstate;  // empty: the connection itself failed, or the server never answered
  std::string message;   // one line
  std::string column;    // as the server names it, or empty
  // The number of the row in the COPY, from 1, that the server was at; 0: it does not say. That row
  // is the first to suspect.
  std::uint64_t row = 0;
  // It came up in a function of the database, such as a trigger's: its code may say anything.
  bool is_of_function = false;
};

enum class Progress {
  working,  // waits for I/O, see wait()
  done,     // the step is finished
  failed,   // see failure(); whether the connection is still of use, see connected()
};

// What step R does where a segment has no watermark yet.
enum class IfMissing {
  insert,  // makes it, with 0
  leave,
};

struct MergePlan;  // sink/merge_plan.hpp

enum class CopyFormat : std::uint8_t { binary, text };

// What a COPY writes to. Valid during the call that it is given to.
struct CopyTarget {
  std::string_view table;  // as a route names it
  std::span<const std::string> columns;
  CopyFormat format = CopyFormat::binary;
  // Into the plan's temporary table, which is made before, and from there into the table.
  const MergePlan* merge = nullptr;
};

// A row that was sent to be merged and is not in the table as it was sent.
struct MergeConflict {
  std::uint64_t row = 0;  // its number in the COPY, from 1
  bool is_found = true;   // a row with its key is in the table
  // Whether that row is the same in the columns that an event always has from its producer; in the
  // ids, which the daemon gives where the event has none; in its times, likewise.
  bool agrees = false;
  bool id_agrees = false;
  bool time_agrees = false;
};

// What is to be done about the transaction's savepoint, first of all.
enum class Savepoint : std::uint8_t {
  none,
  make,
  renew,      // where the transaction is now, if its deferred constraints hold: these are checked
              // first, and deferred again behind it
  return_to,  // what came behind it is taken back
};

// Where a COPY stands in its transaction.
struct CopyPlace {
  bool opens = true;    // the transaction
  bool settles = true;  // it is the last: deferred constraints are checked behind it
  Savepoint savepoint = Savepoint::none;
};

// What the lane's loop must wait for before it calls advance() again.
struct IoWait {
  int fd = -1;
  bool read = false;
  bool write = false;
};

// Not blocking: each step is started by one call and driven by advance() until it is done or
// failed. One step at a time; a step is started only when the one before is done.
//
// A lane puts its own deadline on each step and calls disconnect() when it passes.
//
// Thread: the sink's.
class Database {
 public:
  virtual ~Database() = default;

  // Step: a new connection to a server that takes writes.
  virtual void start_connect() = 0;
  // Step: reads what the catalog has of these tables, as routes name them. Fails with 42P01 if the
  // watermark table is missing, and with 42501 if the role may not do with it what it has to.
  virtual void start_describe(std::span<const std::string> tables) = 0;
  [[nodiscard]] virtual const Catalog& catalog() const = 0;

  // Step R: reads the segment's watermark under its row's lock.
  virtual void start_resolve(const spool::Uuid& segment, IfMissing if_missing) = 0;
  // None: there is no row, and none was to be made.
  [[nodiscard]] virtual std::optional<std::uint64_t> resolved_upto() const = 0;

  // Step W1: opens the transaction, if it is to be opened, and a COPY in it. Done when rows may be
  // sent.
  virtual void start_copy(const CopyTarget& target, const CopyPlace& place) = 0;
  // After W1, any number of times: hands over bytes of the COPY stream, with all that its format
  // wants around the rows.
  // What the server does not take yet is kept: call it only when ready_for_rows(), but for the last
  // piece before start_finish_copy().
  virtual void send_rows(std::span<const std::byte> bytes) = 0;
  // True when what was handed over has left for the server, so that more may come.
  [[nodiscard]] virtual bool ready_for_rows() = 0;
  // True when the server spoke in the middle of a COPY, which it does when it has refused a row:
  // the lane should end the COPY and hear why.
  [[nodiscard]] virtual bool interrupted() const = 0;

  // Step W2: ends the COPY, and checks deferred constraints if it was to settle.
  virtual void start_finish_copy() = 0;
  // The n of the tag `COPY n`.
  [[nodiscard]] virtual std::uint64_t rows_copied() const = 0;
  // How many of these are new in the table: where they were merged, perhaps not all.
  [[nodiscard]] virtual std::uint64_t rows_added() const = 0;
  // Step W2, after a COPY to be merged of which not all rows were added: looks for the others.
  virtual void start_compare(const MergePlan& plan) = 0;
  // By rising rows. Where the plan tells the conflicts at once, there are those of the COPY too.
  [[nodiscard]] virtual const std::vector<MergeConflict>& conflicts() const = 0;

  // Step W2, where none of the COPYs settled: checks deferred constraints. There may have been no
  // COPY at all.
  virtual void start_settle(const CopyPlace& place) = 0;

  // Step: takes back the transaction, in which a step may have failed.
  virtual void start_rollback() = 0;

  // Step W3: moves the watermark from `from` to `upto`, adding `rows`, and commits. Done only with
  // the tag COMMIT and no warning that it was committed locally.
  virtual void start_commit(const spool::Uuid& segment, std::uint64_t from, std::uint64_t upto,
                            std::uint64_t rows) = 0;
  // True once the first byte of COMMIT may have left, until the outcome is known: a failure then is
  // an unknown outcome unless the server answered with an error.
  [[nodiscard]] virtual bool commit_may_have_left() const = 0;

  // Step confirm: one more write to a segment's watermark row, which must be at the position or
  // above and stays where it is. Done as W3 is: only with the tag COMMIT and no warning. A server
  // that waits for a standby has all that was committed before on the standby then.
  virtual void start_confirm(const spool::Position& upto) = 0;

  // Step check: reads the watermarks of the segments as they are, without their locks.
  virtual void start_check(std::span<const spool::Uuid> segments) = 0;
  // Those that there are, in any order.
  [[nodiscard]] virtual const std::vector<spool::Position>& watermarks() const = 0;

  // Between steps: takes in what the server said meanwhile. False once it has closed the
  // connection; wait() tells when to look again.
  [[nodiscard]] virtual bool still_open() = 0;

  // Does what I/O is possible without blocking for the step under way.
  [[nodiscard]] virtual Progress advance() = 0;
  [[nodiscard]] virtual const Failure& failure() const = 0;
  [[nodiscard]] virtual bool connected() const = 0;
  // What advance() (or, in a COPY, ready_for_rows()) waits for.
  [[nodiscard]] virtual IoWait wait() const = 0;
  // Drops the connection at once, whatever is under way.
  virtual void disconnect() = 0;
};

}  // namespace sluice::sink
