#include "daemon/host_name.hpp"

#include <unistd.h>

#include <climits>

namespace sluice::daemon {

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

}  // namespace sluice::daemon
