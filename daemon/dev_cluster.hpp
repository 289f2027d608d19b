// The private Postgres of `sluice dev`: made once, started, stopped.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "config/model.hpp"
#include "daemon/child_process.hpp"
#include "daemon/dev_place.hpp"

namespace sluice::daemon {

// Takes connections on a Unix socket in the place's directory only, from its owner and root. One
// database, `sluice`, and one user, `postgres`.
//
// REQUIRES: the caller holds the place's lock.
// Thread: one.
class DevCluster final {
 public:
  // Makes the cluster if there is none, ends a server that an earlier run left behind, and starts.
  // Throws DevError. `stop_asked` is looked at while it waits; a true one is a DevError too.
  DevCluster(const DevPlace& place, const config::ModelOptions& model, bool (*stop_asked)());
  DevCluster(const DevCluster&) = delete;
  DevCluster& operator=(const DevCluster&) = delete;
  // As stop().
  ~DevCluster();

  // With the tables of the model in it.
  [[nodiscard]] const std::string& dsn() const { return dsn_; }
  // None while it runs.
  [[nodiscard]] std::optional<int> exit_code() { return server_->exit_code(); }
  // Ends sessions and waits until all is on disk.
  void stop();

 private:
  void make_if_missing() const;
  void end_leftover() const;
  void start();
  void wait_until_it_answers(bool (*stop_asked)());
  void make_database() const;

  const DevPlace place_;
  std::string dsn_;
  std::unique_ptr<ChildProcess> server_;
};

}  // namespace sluice::daemon
