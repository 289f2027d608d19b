// Chunks of records and the cursor over a block of them.
#include "spool/chunk.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "spool/block.hpp"
#include "tests/unit/event_fixture.hpp"

using namespace sluice::spool;
using sluice::tests::chunk_of;
using sluice::tests::number_of;
using sluice::tests::numbers_from;
using sluice::tests::numbers_in;
using Numbers = std::vector<std::uint64_t>;

TEST_CASE("chunk: a record comes back as its parts") {
  ByteBudget budget(1'000'000);
  Chunk chunk(budget, 16);
  RecordHeader header{};
  header.uid = 7;
  header.received_us = 123;
  std::vector<FieldSpan> fields(3);
  fields[0].begin = 1;
  fields[0].length = 2;
  fields[2].begin = 8;  // in the tail: behind the line's 8 bytes
  fields[2].length = 5;
  chunk.append(header, fields, "{\"a\":12}", "\"log\"");

  REQUIRE(chunk.count() == 1);
  const EventView event(chunk.bytes().data());
  CHECK(event.header().uid == 7);
  CHECK(event.header().received_us == 123);
  CHECK(event.header().record_bytes == chunk.bytes().size());
  CHECK(event.header().record_bytes % 8 == 0);
  CHECK(event.line() == "{\"a\":12}");
  REQUIRE(event.fields().size() == 3);
  CHECK(event.text(event.fields()[0]) == "\"a");
  CHECK(event.text(event.fields()[2]) == "\"log\"");
}

TEST_CASE("chunk: the budget is charged with its capacity until it is freed") {
  ByteBudget budget(1'000'000);
  {
    Chunk chunk(budget, 256);
    CHECK(budget.used_bytes() == 256);
    for (std::uint64_t i = 0; i < 100; ++i) sluice::tests::append_event(chunk, i);
    CHECK(chunk.capacity_bytes() >= chunk.bytes().size());
    CHECK(budget.used_bytes() == chunk.capacity_bytes());
  }
  CHECK(budget.used_bytes() == 0);
}

TEST_CASE("chunk: moving it hands over the charge") {
  ByteBudget budget(1'000'000);
  ByteBudget other_budget(1'000'000);
  Chunk first = chunk_of(budget, 0, 3);
  Chunk second = chunk_of(other_budget, 10, 4);
  const std::size_t charged = budget.used_bytes();
  second = std::move(first);
  CHECK(other_budget.used_bytes() == 0);
  CHECK(budget.used_bytes() == charged);
  CHECK(numbers_in(second) == Numbers{0, 1, 2});
  const Chunk third(std::move(second));
  CHECK(numbers_in(third) == Numbers{0, 1, 2});
  CHECK(budget.used_bytes() == charged);
}

TEST_CASE("chunk: records taken out leave the others whole and in order") {
  ByteBudget budget(1'000'000);
  Chunk chunk = chunk_of(budget, 1, 9);
  chunk.retain([](RecordHeader& header, std::span<FieldSpan>) {
    header.uid = 42;
    return number_of(header.id) % 3 != 0;
  });
  CHECK(numbers_in(chunk) == Numbers{1, 2, 4, 5, 7, 8});
  CHECK(chunk.count() == 6);
  const EventView event(chunk.bytes().data());
  CHECK(event.header().uid == 42);

  chunk.retain([](RecordHeader&, std::span<FieldSpan>) { return false; });
  CHECK(chunk.empty());
  CHECK(chunk.bytes().empty());
}

TEST_CASE("block cursor: starts at any index and skips empty chunks") {
  ByteBudget budget(1'000'000);
  auto block = std::make_shared<Block>();
  block->first_index = 100;
  block->count = 7;
  block->chunks.emplace_back(budget, 64);
  block->chunks.push_back(chunk_of(budget, 0, 3));
  block->chunks.emplace_back(budget, 64);
  block->chunks.push_back(chunk_of(budget, 3, 4));
  block->chunks.emplace_back(budget, 64);

  for (std::uint64_t skipped = 0; skipped <= 7; ++skipped) {
    Numbers expected;
    for (std::uint64_t number = skipped; number < 7; ++number) expected.push_back(number);
    CAPTURE(skipped);
    CHECK(numbers_from(block, 100 + skipped) == expected);
  }
  BlockCursor cursor(block, 102);
  cursor.advance();
  CHECK(cursor.index() == 103);
  CHECK(BlockCursor().at_end());
}
