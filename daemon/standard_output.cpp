#include "daemon/standard_output.hpp"

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace sluice::daemon {
namespace {

[[noreturn]] void fail() {
  throw std::system_error(errno, std::generic_category(), "writing the output");
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail();
}

void flush() {
  if (std::fflush(stdout) != 0) fail();
}

}  // namespace sluice::daemon
