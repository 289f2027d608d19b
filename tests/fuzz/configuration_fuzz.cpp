// A configuration is either settings or a list of problems, each one line that says where it
// stands.
//
// Input: the file, up to the first NUL; then the environment, NAME=VALUE, with a NUL between.
#include <string>

#include "config/loader.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace sluice::fuzz {
namespace {

constexpr std::string_view kFile = "fuzz.toml";

config::Environment environment_in(std::string_view text) {
  config::Environment environment;
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find('\0'));
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos) {
      environment.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
    }
    text.remove_prefix(std::min(entry.size() + 1, text.size()));
  }
  return environment;
}

// "file:line: …", or "file: …" for what is wrong between settings, or the variable's name.
bool says_where(std::string_view problem) {
  if (problem.starts_with("SLUICE_")) return problem.find(": ") != std::string_view::npos;
  if (!problem.starts_with(kFile)) return false;
  problem.remove_prefix(kFile.size());
  if (problem.starts_with(": ")) return true;
  return problem.size() > 1 && problem[0] == ':' && problem[1] >= '1' && problem[1] <= '9';
}

void check_problem(std::string_view problem) {
  must(says_where(problem), "a problem says where it stands");
  for (const char c : problem) {
    const auto byte = static_cast<unsigned char>(c);
    must(byte >= 0x20 && byte != 0x7f, "a problem is one line without control characters");
  }
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  const fuzz::ExactBytes toml(input.substr(0, end));
  const auto environment = fuzz::environment_in(input.substr(std::min(end + 1, input.size())));
  try {
    (void)config::load_text(toml.view(), fuzz::kFile, environment);
  } catch (const config::LoadError& error) {
    fuzz::must(!error.problems().empty(), "a configuration is refused for something");
    for (const std::string& problem : error.problems()) fuzz::check_problem(problem);
  }
  return 0;
}
