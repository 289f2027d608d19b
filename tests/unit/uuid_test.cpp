// UUIDs: random ones are of version 4, text is read strictly and written in one form.
#include "spool/uuid.hpp"

#include <catch2/catch.hpp>
#include <string>

using sluice::spool::Uuid;

TEST_CASE("uuid: a random one has version 4 and the RFC's variant") {
  for (int i = 0; i < 100; ++i) {
    const Uuid uuid = Uuid::random();
    CHECK(uuid.bytes[6] >> 4 == 4);
    CHECK(uuid.bytes[8] >> 6 == 2);
    CHECK(uuid != Uuid::random());
  }
}

TEST_CASE("uuid: text comes back as it was, in lower case") {
  const std::string text = "0190a1b2-c3d4-7e5f-8a6b-0123456789ab";
  const auto uuid = Uuid::parse(text);
  REQUIRE(uuid);
  CHECK(uuid->text() == text);
  CHECK(uuid->bytes[0] == 0x01);
  CHECK(uuid->bytes[15] == 0xab);
  CHECK(Uuid::parse("0190A1B2-C3D4-7E5F-8A6B-0123456789AB") == uuid);
}

TEST_CASE("uuid: other forms are not read") {
  const char* const text =
      GENERATE("", "0190a1b2c3d47e5f8a6b0123456789ab", "{0190a1b2-c3d4-7e5f-8a6b-0123456789ab}",
               "0190a1b2-c3d4-7e5f-8a6b-0123456789a", "0190a1b2-c3d4-7e5f-8a6b-0123456789abc",
               "0190a1b2-c3d4-7e5f-8a6b-0123456789ag", "0190a1b2-c3d4-7e5f-8a6b00123456789ab",
               "0190a1b2_c3d4_7e5f_8a6b_0123456789ab", "-190a1b2-c3d4-7e5f-8a6b-0123456789ab");
  CAPTURE(text);
  CHECK_FALSE(Uuid::parse(text));
}

TEST_CASE("uuid: a ULID is the same 128 bits in base 32") {
  // The example of the ULID specification; its bytes are worked out by hand from the alphabet.
  const auto uuid = Uuid::parse_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV");
  REQUIRE(uuid);
  CHECK(uuid->text() == "01563e3a-b5d3-d676-4c61-efb99302bd5b");
  CHECK(Uuid::parse_ulid("01arz3ndektsv4rrffq69g5fav") == uuid);
  CHECK(Uuid::parse_ulid("00000000000000000000000000")->text() ==
        "00000000-0000-0000-0000-000000000000");
  CHECK(Uuid::parse_ulid("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")->text() ==
        "ffffffff-ffff-ffff-ffff-ffffffffffff");
}

TEST_CASE("uuid: a ULID above 128 bits, of another length or alphabet is not read") {
  const char* const text = GENERATE("80000000000000000000000000", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
                                    "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAVV",
                                    "01ARZ3NDEKTSV4RRFFQ69G5FAI", "01ARZ3NDEKTSV4RRFFQ69G5FAL",
                                    "01ARZ3NDEKTSV4RRFFQ69G5FAO", "01ARZ3NDEKTSV4RRFFQ69G5FAU",
                                    "I1ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FA-");
  CAPTURE(text);
  CHECK_FALSE(Uuid::parse_ulid(text));
}
