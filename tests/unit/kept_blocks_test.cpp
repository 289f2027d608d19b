// What a lane keeps of the spool's blocks to send rows again.
#include "sink/kept_blocks.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "tests/unit/event_fixture.hpp"

using namespace sluice;
using sluice::sink::KeptBlocks;
using sluice::tests::chunk_of;

namespace {

spool::BlockPtr block_of(spool::ByteBudget& budget, std::uint64_t first, std::uint64_t count,
                         std::size_t bytes = 64) {
  auto block = std::make_shared<spool::Block>();
  block->first_index = first;
  block->count = count;
  block->chunks.push_back(chunk_of(budget, first, count, bytes));
  return block;
}

}  // namespace

TEST_CASE("kept blocks: a block is found by each of its indexes until it is forgotten") {
  spool::ByteBudget budget{100'000'000};
  KeptBlocks kept;
  const auto first = block_of(budget, 10, 10);
  const auto second = block_of(budget, 20, 5);
  kept.keep(first);
  kept.keep(second);
  kept.keep(first);  // again: it is kept once
  CHECK(kept.find(9) == nullptr);
  CHECK(kept.find(10) == first);
  CHECK(kept.find(19) == first);
  CHECK(kept.find(20) == second);
  CHECK(kept.find(25) == nullptr);
  kept.forget_below(19);
  CHECK(kept.find(19) == first);
  kept.forget_below(20);
  CHECK(kept.find(19) == nullptr);
  CHECK(kept.find(24) == second);
  kept.clear();
  CHECK(kept.find(24) == nullptr);
}

TEST_CASE("kept blocks: of too many the first ones are kept, and one whatever its size") {
  spool::ByteBudget budget{100'000'000};
  KeptBlocks kept;
  const auto huge = block_of(budget, 0, 1, KeptBlocks::kBytesMax + 1);
  kept.keep(huge);
  kept.keep(block_of(budget, 1, 1));
  CHECK(kept.find(0) == huge);
  CHECK(kept.find(1) == nullptr);
  kept.forget_below(1);
  const auto small = block_of(budget, 1, 1);
  kept.keep(small);
  CHECK(kept.find(1) == small);
}
