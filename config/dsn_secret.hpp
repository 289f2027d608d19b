// Finds a password in a libpq connection string, so that it can be refused in a file.
#pragma once

#include <string_view>

namespace sluice::config {

// True for password= or sslpassword= among keywords or a URI's parameters, and for a URI's
// user:password@.
[[nodiscard]] bool holds_password(std::string_view dsn);

}  // namespace sluice::config
