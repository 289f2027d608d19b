// The one table that says what an error of the database asks a lane to do, by SQLSTATE.
#pragma once

#include <string_view>

#include "sink/database.hpp"

namespace sluice::sink {

// What a failure asks for, once its phase was judged: any failure in step W3 asks for step R first,
// whatever stands here.
enum class Action {
  reconnect,    // the connection is of no more use
  next_host,    // this server takes no writes: connect again at once, to another
  retry,        // the same again, with jitter
  back_off,     // the server lacks something: the same again, later
  halve_batch,  // it took too long: half of it
  hold,         // configuration: only a person can mend it, nothing is dropped
  row,          // blamed on a row's content
};

[[nodiscard]] Action action_for(const Failure& failure);

// Whether the server's primary message for this SQLSTATE never quotes a row's values, so that it
// may be logged. An empty SQLSTATE is libpq's own word about the connection.
[[nodiscard]] bool shows_no_row(std::string_view sqlstate);

}  // namespace sluice::sink
