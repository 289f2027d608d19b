// A row of COPY's formats taken apart again, as Postgres would.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sink/copy_encoder.hpp"

namespace sluice::fuzz {

// The bytes of a value; none: NULL.
using CopyField = std::optional<std::string>;

// The event's row. REQUIRES: the encoder's format is binary, or text; it refuses no event.
[[nodiscard]] std::vector<CopyField> binary_row(const sink::CopyEncoder& encoder,
                                                const spool::EventView& event,
                                                const spool::Position& position);
[[nodiscard]] std::vector<CopyField> text_row(const sink::CopyEncoder& encoder,
                                              const spool::EventView& event,
                                              const spool::Position& position);

// A value of jsonb without its version.
[[nodiscard]] CopyField json_of(const CopyField& jsonb);
// Values in their binary form.
[[nodiscard]] std::string bytes_of(const spool::Uuid& uuid);
[[nodiscard]] std::string moment_bytes(std::int64_t unix_us);

[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace sluice::fuzz
