// JSON values as values of COPY's text format.
#pragma once

#include <string_view>

#include "sink/column_value.hpp"
#include "sink/copy_buffer.hpp"
#include "sink/json_value.hpp"

namespace sluice::sink {

// Appends text as it has to stand between two separators: backslashes and control characters that
// COPY gives a meaning are escaped, so that whatever is in it comes out as it went in.
void append_escaped(CopyBuffer& out, std::string_view text);

// Appends a value, or `\N` for NULL: what is NULL, and what is refused, is as in the binary format.
// A type without a binary encoder gets the text of a string or else raw JSON, for Postgres to read;
// but no word that would mean a time to it. A JSON array becomes an array literal.
//
// `scratch` is for the caller to keep; its content is of no meaning. False: refused, and `misfit`
// says why; then nothing was appended.
[[nodiscard]] bool append_text_value(CopyBuffer& out, CopyBuffer& scratch,
                                     const BoundColumn& column, const JsonValue& value,
                                     unsigned flags, Misfit& misfit);

}  // namespace sluice::sink
