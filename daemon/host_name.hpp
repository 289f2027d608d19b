// This machine's name: what watermark rows and numbered producers are told apart by.
#pragma once

#include <string>

namespace sluice::daemon {

// Empty if there is none.
[[nodiscard]] std::string host_name();

}  // namespace sluice::daemon
