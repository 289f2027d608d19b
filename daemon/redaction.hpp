// The redactor that the settings ask for.
#pragma once

#include <memory>
#include <stdexcept>

#include "config/settings.hpp"
#include "ingest/redactor.hpp"

namespace sluice::daemon {

// A salt file is of no use: cannot be read, or is too short. Says which and why.
class SaltError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// None where there are no rules. Reads the salt files; throws SaltError.
[[nodiscard]] std::unique_ptr<ingest::Redactor> make_redactor(const config::Settings& settings);

}  // namespace sluice::daemon
