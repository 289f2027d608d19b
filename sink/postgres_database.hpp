// The delivery protocol's steps as SQL, on one connection to Postgres.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sink/postgres_session.hpp"
#include "sink/redelivery_database.hpp"

namespace sluice::sink {

struct PostgresOptions {
  std::string dsn{};              // a connection string or URI as libpq has them
  std::string schema = "sluice";  // where the table `watermark` is
  std::string instance{};         // written into watermark rows, for people
};

// Beyond what Database promises: start_resolve() too is done only with the tag COMMIT and no
// warning. As it locks the watermark's row, and so writes, a standby that Postgres waits for then
// has all earlier commits as well.
//
// Thread: the sink's.
class PostgresDatabase final : public RedeliveryDatabase {
 public:
  explicit PostgresDatabase(PostgresOptions options);

  void start_connect() override;
  void start_describe(std::span<const std::string> tables) override;
  [[nodiscard]] const Catalog& catalog() const override { return catalog_; }
  void start_resolve(const spool::Uuid& segment, IfMissing if_missing) override;
  [[nodiscard]] std::optional<std::uint64_t> resolved_upto() const override {
    return resolved_upto_;
  }
  void start_copy(const CopyTarget& target, const CopyPlace& place) override;
  void send_rows(std::span<const std::byte> bytes) override;
  [[nodiscard]] bool ready_for_rows() override;
  [[nodiscard]] bool interrupted() const override;
  void start_finish_copy() override;
  [[nodiscard]] std::uint64_t rows_copied() const override { return rows_copied_; }
  [[nodiscard]] std::uint64_t rows_added() const override { return rows_added_; }
  void start_compare(const MergePlan& plan) override;
  [[nodiscard]] const std::vector<MergeConflict>& conflicts() const override { return conflicts_; }
  void start_settle(const CopyPlace& place) override;
  void start_rollback() override;
  void start_commit(const spool::Uuid& segment, std::uint64_t from, std::uint64_t upto,
                    std::uint64_t rows) override;
  void start_confirm(const spool::Position& upto) override;
  void start_check(std::span<const spool::Uuid> segments) override;
  [[nodiscard]] const std::vector<spool::Position>& watermarks() const override {
    return watermarks_;
  }
  void start_look_up(std::span<const AsideClaim> claims) override;
  [[nodiscard]] const std::vector<AsideStanding>& standings() const override { return standings_; }
  void start_redeliver(std::span<const AsideClaim> claims) override;
  void start_count_redelivered(std::span<const spool::Uuid> segments) override;
  [[nodiscard]] const std::vector<spool::RedeliveredCount>& redelivered_counts() const override {
    return redelivered_counts_;
  }
  void start_list_redelivered(const spool::Uuid& segment) override;
  [[nodiscard]] const std::vector<std::uint64_t>& redelivered_indexes() const override {
    return redelivered_indexes_;
  }
  [[nodiscard]] bool commit_may_have_left() const override { return commit_may_have_left_; }
  [[nodiscard]] bool still_open() override { return session_.still_open(); }
  [[nodiscard]] Progress advance() override;
  [[nodiscard]] const Failure& failure() const override { return failure_; }
  [[nodiscard]] bool connected() const override { return session_.connected(); }
  [[nodiscard]] IoWait wait() const override { return session_.wait(); }
  void disconnect() override;

 private:
  enum class Step {
    none,
    connect,
    describe,
    resolve,
    copy,         // W1
    finish_copy,  // W2
    compare,      // likewise
    settle,       // likewise
    rollback,
    commit,  // W3
    confirm,
    check,
    look_up,
    redeliver,  // W3 of set-aside events
    count_redelivered,
    list_redelivered,
  };

  void start(Step step, const std::string& sql);
  [[nodiscard]] Progress step_done();
  [[nodiscard]] Progress step_failed();
  [[nodiscard]] Progress refuse(Failure failure);
  [[nodiscard]] Progress described();
  [[nodiscard]] Progress resolved();
  [[nodiscard]] Progress opened();
  [[nodiscard]] Progress copied();
  [[nodiscard]] std::string make_temporary(const MergePlan& plan);
  [[nodiscard]] bool read_merged(const Statement& merged);
  [[nodiscard]] Progress compared();
  [[nodiscard]] Progress settled();
  [[nodiscard]] Progress committed();
  [[nodiscard]] Progress confirmed();
  [[nodiscard]] Progress checked();
  template <typename Found>
  [[nodiscard]] Progress read_answer(std::optional<Found> (*read)(const Statement&), Found& found);
  [[nodiscard]] Progress ended_by_commit(std::size_t statements);

  const PostgresOptions options_;
  const std::string watermark_;  // quoted
  PostgresSession session_;
  Step step_ = Step::none;
  std::size_t tables_described_ = 0;
  Catalog catalog_;
  std::size_t statements_before_ = 0;  // in the string of the step under way: the place's
  bool settles_ = false;               // the COPY under way
  bool merges_ = false;                // likewise
  std::optional<std::uint64_t> resolved_upto_;
  std::vector<spool::Position> watermarks_;
  std::uint64_t rows_copied_ = 0;
  std::vector<std::string> temporaries_;  // tables that the transaction made
  std::uint64_t rows_added_ = 0;
  std::vector<MergeConflict> conflicts_;
  std::vector<AsideStanding> standings_;
  std::vector<spool::RedeliveredCount> redelivered_counts_;
  std::vector<std::uint64_t> redelivered_indexes_;
  bool commit_may_have_left_ = false;
  Failure failure_;
};

}  // namespace sluice::sink
