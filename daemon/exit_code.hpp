// The exit codes of every command, as in sysexits.h.
#pragma once

namespace sluice::daemon {

enum ExitCode : int {
  kExitOk = 0,
  kExitUnknown = 1,       // there is nothing of what was asked for
  kExitUsage = 64,        // the command line cannot be understood
  kExitRefused = 65,      // data that was refused or is damaged
  kExitUnavailable = 69,  // a service that is needed at once is not there
  kExitBug = 70,          // a fault of sluice itself
  kExitLocked = 75,       // another process has it
  kExitConfig = 78,       // a setting, the schema or the rights are wrong
};

}  // namespace sluice::daemon
