// The version that the build gives this program.
#pragma once

namespace sluice::daemon {

inline constexpr const char* kVersion = SLUICE_VERSION;

}  // namespace sluice::daemon
