// Connections whose producers ask for acks: what they are told, over real sockets, while the test
// plays the journal.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "tests/unit/listener_bench.hpp"

using namespace std::chrono_literals;
namespace ingest = sluice::ingest;
namespace spool = sluice::spool;
using ingest::AckLedger;
using ingest::OnFull;
using ingest::Refusal;
using sluice::tests::event;
using sluice::tests::Producer;
using Bench = sluice::tests::ListenerBench;
using Lines = std::vector<std::string>;
using Numbers = std::vector<std::uint64_t>;

namespace {

const std::string kHello = "{\"sluice\":1,\"ack\":\"durable\"}\n";
const std::string kCommittedHello = "{\"sluice\":1,\"ack\":\"committed\"}\n";

ingest::ListenerOptions durable_options() {
  ingest::ListenerOptions options;
  options.facts = {"power", std::chrono::seconds(600), "test"};
  return options;
}

ingest::ListenerOptions with_policy(OnFull on_full) {
  ingest::ListenerOptions options = durable_options();
  ingest::ListenerPolicy policy;
  policy.on_full = on_full;
  options.policies = {policy, policy};
  return options;
}

std::string hello_of(const std::string& name, std::uint64_t first) {
  return R"({"sluice":1,"ack":"durable","producer":")" + name + R"(","first":)" +
         std::to_string(first) + "}\n";
}

// The journal's part: the chunk's lines are durable.
void make_durable(const Bench::Taken& taken, std::uint64_t duplicates = 0) {
  taken.origin.ledger->durable(taken.origin.ticket, taken.lines.size() - duplicates, duplicates);
}

// A producer whose hello was answered.
Producer greeted(Bench& bench, const std::string& hello = kHello) {
  Producer producer = bench.connect();
  producer.write(hello);
  bench.settle();
  REQUIRE(producer.answers().size() == 1);
  return producer;
}

void reset(Producer& producer) {
  const linger at_once{1, 0};
  ::setsockopt(producer.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  producer.leave();
}

}  // namespace

TEST_CASE("acks: nothing is ever written to a producer that did not ask") {
  Bench bench(durable_options());
  Producer producer = bench.connect();
  producer.write("\n" + kHello + event(1) + "\n[1]\n");
  bench.settle();
  CHECK(producer.answers().empty());
  const Bench::Taken taken = bench.take_chunk();
  CHECK(taken.origin.ledger == nullptr);
  CHECK(taken.lines == Lines{kHello.substr(0, kHello.size() - 1), event(1)});
  CHECK(taken.numbers == Numbers{2, 3});
  producer.shut_writing();
  bench.settle();
  CHECK(producer.answers() == Lines{"closed"});
  CHECK(bench.counters.hellos == 0);
}

TEST_CASE("acks: the hello is answered with what is in force, and is no line") {
  Bench bench(durable_options());
  Producer producer = bench.connect();
  producer.write(kHello + event(1) + "\r\n");
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"sluice":1,"durability":"power","line_bytes_max":1048576,)"
                                    R"("dedupe_window_s":600,"instance":"test","ack":"durable"})"});
  const Bench::Taken taken = bench.take_chunk();
  CHECK(taken.numbers == Numbers{1});
  CHECK(taken.origin.ledger->stage() == ingest::AckStage::durable);
  CHECK(bench.counters.lines_received == 1);
  CHECK(bench.counters.lines_empty == 0);
  CHECK(bench.counters.hellos == 1);
}

TEST_CASE("acks: without a spool on disk the hello says committed, and acks wait for that") {
  Bench bench;
  Producer producer = bench.connect();
  producer.write(kHello + event(1) + "\n");
  bench.settle();
  const Lines answers = producer.answers();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].find(R"("durability":"memory")") != std::string::npos);
  CHECK(answers[0].find(R"("ack":"committed")") != std::string::npos);
  const Bench::Taken taken = bench.take_chunk();
  make_durable(taken);
  bench.settle();
  CHECK(producer.answers().empty());
  taken.origin.ledger->committed(taken.origin.ticket);
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"ack":1})"});
}

TEST_CASE("acks: a wrong hello is answered with the reason, closed, and nothing of it is stored") {
  Bench bench(durable_options());
  for (const bool tcp : {false, true}) {
    Producer producer = tcp ? bench.connect_tcp() : bench.connect();
    // More than one read takes: closing with bytes unread would reset the connection.
    producer.write("{\"sluice\":2}\n" + event(1) + "\n" + std::string(100'000, '\n'));
    REQUIRE(bench.runs_until([&] { return bench.counters.hellos_refused != 0; }));
    bench.settle();
    producer.write(event(2) + "\n");
    bench.settle();
    const Lines answers = producer.answers();
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].starts_with(R"({"sluice":1,"error":"\"sluice\" must be 1)"));
    CHECK(answers[1] == "closed");
    producer.leave();
    REQUIRE(bench.runs_until([&] { return bench.listener().connections() == 0; }));
    CHECK(bench.lines().empty());
    CHECK(bench.counters.lines_received == 0);
    CHECK(bench.reporter.wrong_hellos.size() == 1);
    bench.reporter.wrong_hellos.clear();
    bench.counters.hellos_refused = 0;
  }
}

TEST_CASE("acks: an ack says how many first lines are durable, empty ones and refused ones too") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n\n[1]\n" + event(4) + "\n  \n");
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"nack":3,"code":"not_object","retry":false})"});
  const Bench::Taken first = bench.take_chunk();
  CHECK(first.numbers == Numbers{1, 4});
  producer.write(event(6) + "\n");
  bench.settle();
  const Bench::Taken second = bench.take_chunk();
  CHECK(second.numbers == Numbers{6});

  make_durable(second);
  bench.settle();
  CHECK(producer.answers().empty());  // the first is not durable
  make_durable(first);
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"ack":6})"});
  producer.write("\n");
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"ack":7})"});
  CHECK(bench.counters.acks_sent == 2);
  CHECK(bench.counters.nacks_sent == 1);
}

TEST_CASE("acks: each refused line is told with its number and code") {
  ingest::ListenerOptions options = durable_options();
  options.line_bytes_max = 100;
  Bench bench(options);
  Producer producer = greeted(bench);
  producer.write("{\"a\":\n{} {}\n" + std::string(101, 'x') + "\n\nx\n" + event(1) + "\n");
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"nack":1,"code":"syntax","retry":false})",
                                    R"({"nack":2,"code":"trailing","retry":false})",
                                    R"({"nack":3,"code":"too_long","retry":false})",
                                    R"({"nack":5,"code":"syntax","retry":false})"});
  CHECK(bench.take_chunk().numbers == Numbers{6});
  CHECK(bench.reporter.refused[2].line == 3);
}

TEST_CASE("acks: after half-close come the last ack and a summary, when all is done") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n[1]\n" + event(3) + "\n" + event(4) + "\n{\"cut off");
  producer.shut_writing();
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"nack":2,"code":"not_object","retry":false})"});
  CHECK(bench.listener().connections() == 1);
  CHECK(bench.listener().carry_bytes() == 0);
  make_durable(bench.take_chunk(), 1);
  REQUIRE(bench.runs_until([&] { return bench.listener().connections() == 0; }));
  CHECK(producer.answers() ==
        Lines{R"({"ack":4})", R"({"done":4,"stored":2,"duplicate":1,"rejected":1})", "closed"});
  CHECK(bench.counters.lines_partial == 1);
}

TEST_CASE("acks: a producer that sends nothing after its hello gets a summary of nothing") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.shut_writing();
  bench.settle();
  CHECK(producer.answers() ==
        Lines{R"({"done":0,"stored":0,"duplicate":0,"rejected":0})", "closed"});
}

TEST_CASE("acks: TCP producers get the same, to the summary") {
  Bench bench(durable_options());
  Producer producer = bench.connect_tcp();
  producer.write(kHello + event(1) + "\n");
  REQUIRE(bench.runs_until([&] { return bench.counters.events_accepted == 1; }));
  make_durable(bench.take_chunk());
  producer.shut_writing();
  Lines answers;
  REQUIRE(bench.runs_until([&] {
    for (std::string& line : producer.answers()) answers.push_back(std::move(line));
    return !answers.empty() && answers.back() == "closed";
  }));
  REQUIRE(answers.size() == 4);
  CHECK(answers[1] == R"({"ack":1})");
  CHECK(answers[2] == R"({"done":1,"stored":1,"duplicate":0,"rejected":0})");
}

TEST_CASE(
    "acks: a producer that never reads is read on, costs a bounded buffer and is not closed") {
  Bench bench(durable_options(), 64 << 20);
  Producer producer = bench.connect();
  producer.write(kHello);
  const std::string refused = "[]\n{x\n[]\n{x\n[]\n{x\n[]\n{x\n";
  std::uint64_t lines = 0;
  // As many nacks as would fill any socket, and then some.
  while (bench.counters.nacks_unsent < 20'000) {
    REQUIRE(producer.write(refused) == refused.size());
    lines += 8;
    bench.settle();
  }
  producer.write(event(1) + "\n");
  bench.settle();
  make_durable(bench.take_chunk());
  bench.settle();
  CHECK(bench.listener().connections() == 1);

  // Once it reads, it is told what it missed, and how far it is.
  Lines answers;
  REQUIRE(bench.runs_until([&] {
    for (std::string& line : producer.answers()) answers.push_back(std::move(line));
    return !answers.empty() && answers.back() == "{\"ack\":" + std::to_string(lines + 1) + "}";
  }));
  std::uint64_t told = 0;
  std::uint64_t unsent = 0;
  for (const std::string& line : answers) {
    if (line.starts_with("{\"nack\":")) ++told;
    if (line.starts_with("{\"nacks_unsent\":")) unsent += std::stoull(line.substr(16));
  }
  CHECK(told + unsent == lines);
  CHECK(unsent >= 20'000);
}

TEST_CASE("acks: who has half-closed and does not read its last answers is closed in time") {
  ingest::ListenerOptions options = durable_options();
  options.answer_timeout = 50ms;
  Bench bench(options);
  Producer producer = bench.connect();
  producer.write(kHello);
  while (bench.counters.nacks_unsent == 0) {
    producer.write("[]\n{x\n[]\n{x\n");
    bench.settle();
  }
  producer.shut_writing();
  bench.settle();
  CHECK(bench.listener().connections() == 1);
  REQUIRE(bench.runs_until([&] { return bench.listener().connections() == 0; }));
}

TEST_CASE("acks: who has closed its socket is not kept for its acks, and its lines are handled") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n");
  producer.leave();
  bench.settle();
  CHECK(bench.listener().connections() == 0);
  const Bench::Taken taken = bench.take_chunk();
  CHECK(taken.lines == Lines{event(1)});
  make_durable(taken);  // nobody is there any more
  bench.settle();
  CHECK(bench.counters.acks_sent == 0);
}

TEST_CASE("acks: who leaves after half-closing is found out while its acks are waited for") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n");
  producer.shut_writing();
  bench.settle();
  CHECK(bench.listener().connections() == 1);
  producer.leave();
  REQUIRE(bench.runs_until([&] { return bench.listener().connections() == 0; }));
  make_durable(bench.take_chunk());
}

TEST_CASE("acks: bytes before a reset are handled, and answering into it does no harm") {
  Bench bench(durable_options());
  Producer producer = bench.connect_tcp();
  producer.write(kHello + event(1) + "\n[1]\n");
  reset(producer);
  REQUIRE(bench.runs_until([&] { return bench.counters.connections_closed == 1; }));
  const Bench::Taken taken = bench.take_chunk();
  CHECK(taken.lines == Lines{event(1)});
  make_durable(taken);
  bench.settle();
}

TEST_CASE("acks: a producer that has gone in the middle is read to its end") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n");
  bench.settle();
  producer.write(event(2) + "\n" + event(3) + "\n");
  producer.leave();
  make_durable(bench.take_chunk());  // the ack meets a closed socket
  bench.settle();
  CHECK(bench.take_chunk().lines == Lines{event(2), event(3)});
  CHECK(bench.listener().connections() == 0);
}

TEST_CASE("acks: half a line and then silence is nacked, and the lines before it are acked") {
  ingest::ListenerOptions options = durable_options();
  options.partial_line_timeout = 20ms;
  Bench bench(options);
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n{\"n\"");
  REQUIRE(bench.runs_until([&] { return bench.counters.lines_timed_out == 1; }));
  bench.settle();
  make_durable(bench.take_chunk());
  REQUIRE(bench.runs_until([&] { return bench.listener().connections() == 0; }));
  CHECK(producer.answers() == Lines{R"({"nack":2,"code":"timeout","retry":true})", R"({"ack":1})",
                                    R"({"done":1,"stored":1,"duplicate":0,"rejected":0})",
                                    "closed"});
}

TEST_CASE("acks: who waits for commits is read no further than so many chunks, and then read on") {
  Bench bench(durable_options(), 64 << 20);
  Producer producer = greeted(bench, kCommittedHello);
  std::vector<Bench::Taken> under_way;
  std::uint64_t written = 0;
  for (; written < 1000; ++written) {
    producer.write(event(1) + "\n");
    bench.settle();
    if (bench.counters.events_accepted == written) break;
    under_way.push_back(bench.take_chunk());
    make_durable(under_way.back());
  }
  CHECK(under_way.size() == ingest::AckSession::kChunksWaitingMax + 1);
  CHECK(producer.answers().empty());

  for (const Bench::Taken& taken : under_way) taken.origin.ledger->committed(taken.origin.ticket);
  bench.settle();
  CHECK(bench.counters.events_accepted == written + 1);
  CHECK(producer.answers() == Lines{"{\"ack\":" + std::to_string(written) + "}"});
}

TEST_CASE("acks: who waits for commits is told of rows that Postgres refused") {
  Bench bench(durable_options());
  Producer producer = greeted(bench, kCommittedHello);
  producer.write(event(1) + "\n" + event(2) + "\n");
  bench.settle();
  const Bench::Taken taken = bench.take_chunk();
  make_durable(taken);
  taken.origin.ledger->row_refused(2, "23514");
  taken.origin.ledger->committed(taken.origin.ticket);
  producer.shut_writing();
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"nack":2,"code":"23514","retry":false})", R"({"ack":2})",
                                    R"({"done":2,"stored":1,"duplicate":0,"rejected":1})",
                                    "closed"});
}

TEST_CASE("acks: a named producer hears how far it is, and its lines keep their own numbers") {
  Bench bench(durable_options());
  const auto key = bench.parser().producer_key("builder-7", ::getuid());
  const std::array<spool::ProducerMark, 1> mark{{{key, 41}}};
  bench.producers.advance(mark);

  Producer producer = bench.connect();
  producer.write(hello_of("builder-7", 40) + event(40) + "\n\n" + event(42) + "\n");
  bench.settle();
  const Lines answers = producer.answers();
  REQUIRE(answers.size() == 1);
  CHECK(answers[0].ends_with(R"("ack":"durable","have":41})"));
  const Bench::Taken taken = bench.take_chunk();
  CHECK(taken.origin.producer == key);
  CHECK(taken.numbers == Numbers{1, 3});
  CHECK(taken.origin.line_offset == 39);

  Producer other = bench.connect();
  other.write(hello_of("builder-8", 1) + event(1) + "\n");
  bench.settle();
  CHECK(other.answers().at(0).ends_with("\"have\":0}"));
  CHECK_FALSE(bench.take_chunk().origin.producer == key);
  CHECK_FALSE(greeted(bench).closed_by_peer());
}

TEST_CASE("acks: without a spool on disk no line of a named producer is durable") {
  Bench bench;
  const auto key = bench.parser().producer_key("builder-7", ::getuid());
  const std::array<spool::ProducerMark, 1> mark{{{key, 41}}};
  bench.producers.advance(mark);
  Producer producer = bench.connect();
  producer.write(hello_of("builder-7", 40));
  bench.settle();
  CHECK(producer.answers().at(0).ends_with("\"have\":0}"));
}

TEST_CASE("acks: stopping finishes what was written, and tells the last ack and the summary") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n" + event(2) + "\n");
  bool told = false;
  bench.listener().stop([&] { told = true; });
  bench.settle();
  CHECK_FALSE(told);
  CHECK(producer.write(event(3) + "\n") == 0);
  CHECK(producer.error() == EPIPE);
  CHECK(producer.answers().empty());
  make_durable(bench.take_chunk());
  bench.settle();
  CHECK(told);
  CHECK(producer.answers() ==
        Lines{R"({"ack":2})", R"({"done":2,"stored":2,"duplicate":0,"rejected":0})", "closed"});
}

TEST_CASE("acks: a TCP producer that goes on writing while it is stopped loses no answer") {
  Bench bench(durable_options());
  Producer producer = bench.connect_tcp();
  producer.write(kHello + event(1) + "\n");
  REQUIRE(bench.runs_until([&] { return bench.counters.events_accepted == 1; }));
  bench.listener().stop({});
  bench.settle();
  producer.write(event(2) + "\n");
  make_durable(bench.take_chunk());
  Lines answers;
  REQUIRE(bench.runs_until([&] {
    for (std::string& line : producer.answers()) answers.push_back(std::move(line));
    return !answers.empty() && answers.back() == "closed";
  }));
  CHECK(answers.size() == 4);
  producer.leave();
  REQUIRE(bench.runs_until([&] { return bench.listener().stopped(); }));
}

TEST_CASE("acks: past the deadline of a stop, those whose acks did not come are closed") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n");
  bench.settle();
  producer.write(event(2) + "\n");
  bench.listener().stop({});
  bench.settle();
  make_durable(bench.take_chunk());
  bench.settle();
  CHECK_FALSE(bench.listener().stopped());
  bench.listener().close_all();
  bench.settle();
  CHECK(bench.listener().stopped());
  CHECK(producer.answers() == Lines{R"({"ack":1})", "closed"});
  make_durable(bench.take_chunk());  // the connection has gone
  bench.settle();
}

TEST_CASE("acks: a stop does not wait long for a producer that does not read") {
  ingest::ListenerOptions options = durable_options();
  options.answer_timeout = 1500ms;
  Bench bench(options);
  Producer producer = bench.connect();
  producer.write(kHello);
  while (bench.counters.nacks_unsent == 0) {
    producer.write("[]\n{x\n[]\n{x\n");
    bench.settle();
  }
  const auto begin = std::chrono::steady_clock::now();
  bench.listener().stop({});
  REQUIRE(bench.runs_until([&] { return bench.listener().stopped(); }));
  CHECK(std::chrono::steady_clock::now() - begin < 1400ms);
}

TEST_CASE("acks: chunks that the journal turned away are nacked line by line, to be sent again") {
  Bench bench(with_policy(OnFull::reject));
  Producer producer = greeted(bench);
  producer.write(event(1) + "\n" + event(2) + "\n\n[1]\n" + event(5) + "\n");
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"nack":4,"code":"not_object","retry":false})"});
  const Bench::Taken taken = bench.take_chunk();
  CHECK(taken.origin.on_full == OnFull::reject);
  const std::array<AckLedger::Lines, 2> lines{{{1, 2}, {5, 5}}};
  taken.origin.ledger->turned_away(taken.origin.ticket, lines, Refusal::full);
  producer.shut_writing();
  bench.settle();
  CHECK(producer.answers() == Lines{R"({"nack":1,"code":"full","retry":true})",
                                    R"({"nack":2,"code":"full","retry":true})",
                                    R"({"nack":5,"code":"full","retry":true})", R"({"ack":5})",
                                    R"({"done":5,"stored":0,"duplicate":0,"rejected":4})",
                                    "closed"});
}

TEST_CASE(
    "on_full: with reject a full spool refuses lines, and takes them again when it has room") {
  Bench bench(with_policy(OnFull::reject));
  Producer asking = greeted(bench);
  Producer silent = bench.connect();
  bench.settle();
  bench.spool_full = true;
  asking.write(event(1) + "\n\nno JSON\n");
  silent.write(event(1) + "\n");
  bench.settle();
  CHECK(asking.answers() == Lines{R"({"nack":1,"code":"full","retry":true})",
                                  R"({"nack":3,"code":"full","retry":true})", R"({"ack":3})"});
  CHECK(silent.answers().empty());
  CHECK(bench.lines().empty());
  CHECK(bench.counters.refused[static_cast<std::size_t>(Refusal::full)] == 3);
  CHECK(bench.counters.lines_received == 3);
  CHECK(bench.counters.lines_dropped == 0);
  CHECK(bench.reporter.refused.size() == 2);  // once for each read

  bench.spool_full = false;
  asking.write(event(4) + "\n");
  bench.settle();
  CHECK(bench.take_chunk().numbers == Numbers{4});
}

TEST_CASE("on_full: after a line without room a named producer's connection takes no more") {
  for (const OnFull on_full : {OnFull::reject, OnFull::drop}) {
    Bench bench(with_policy(on_full));
    Producer producer = greeted(bench, hello_of("builder-7", 1));
    producer.write(event(1) + "\n");
    bench.settle();
    bench.spool_full = true;
    producer.write(event(2) + "\n");
    bench.settle();
    bench.spool_full = false;
    CHECK(producer.answers() == Lines{R"({"nack":2,"code":"full","retry":true})"});
    producer.write(event(3) + "\n\n" + event(5) + "\n");
    bench.settle();
    CHECK(producer.answers() == Lines{R"({"nack":3,"code":"full","retry":true})",
                                      R"({"nack":5,"code":"full","retry":true})"});
    CHECK(bench.lines() == Lines{event(1)});
    CHECK(bench.counters.lines_received == 4);

    Producer again = greeted(bench, hello_of("builder-7", 2));
    again.write(event(2) + "\n");
    bench.settle();
    CHECK(bench.take_chunk().lines == Lines{event(2)});
  }
}

TEST_CASE("on_full: what the journal turned away stops a named producer's connection too") {
  Bench bench(with_policy(OnFull::reject));
  Producer named = greeted(bench, hello_of("builder-7", 1));
  named.write(event(1) + "\n");
  bench.settle();
  const Bench::Taken taken = bench.take_chunk();
  const std::array<AckLedger::Lines, 1> lines{{{1, 1}}};
  taken.origin.ledger->turned_away(taken.origin.ticket, lines, Refusal::full);
  named.write(event(2) + "\n");
  bench.settle();
  CHECK(bench.lines().empty());
  const Lines answers = named.answers();
  CHECK(std::count(answers.begin(), answers.end(), R"({"nack":2,"code":"full","retry":true})") ==
        1);
}

TEST_CASE("on_full: a named producer that does not read is told of the first line without room") {
  Bench bench(with_policy(OnFull::reject), 64 << 20);
  Producer producer = bench.connect();
  producer.write(hello_of("builder-7", 1));
  std::uint64_t lines = 0;
  while (bench.counters.nacks_unsent == 0) {
    producer.write("[]\n{x\n[]\n{x\n");
    lines += 4;
    bench.settle();
  }
  bench.spool_full = true;
  producer.write(event(1) + "\n" + event(2) + "\n");
  bench.settle();
  const std::string first =
      "{\"nack\":" + std::to_string(lines + 1) + R"(,"code":"full","retry":true})";
  const std::string ack = "{\"ack\":" + std::to_string(lines + 2) + "}";
  Lines answers;
  REQUIRE(bench.runs_until([&] {
    for (std::string& line : producer.answers()) answers.push_back(std::move(line));
    return !answers.empty() && answers.back() == ack;
  }));
  CHECK(std::count(answers.begin(), answers.end(), first) == 1);
}

TEST_CASE("on_full: with drop lines are counted and forgotten, and nacked to those who ask") {
  Bench bench(with_policy(OnFull::drop));
  Producer asking = greeted(bench);
  Producer silent = bench.connect();
  bench.settle();
  bench.spool_full = true;
  asking.write(event(1) + "\n");
  silent.write(event(2) + "\n" + event(3) + "\n");
  bench.settle();
  CHECK(asking.answers() == Lines{R"({"nack":1,"code":"full","retry":true})", R"({"ack":1})"});
  CHECK(silent.answers().empty());
  CHECK(bench.lines().empty());
  CHECK(bench.counters.lines_dropped == 3);
  CHECK(bench.counters.refused[static_cast<std::size_t>(Refusal::full)] == 0);
  CHECK(bench.reporter.refused.empty());
}

TEST_CASE("on_full: without room in the budget only producers that wait are kept waiting") {
  ingest::ListenerOptions options = durable_options();
  options.policies.resize(2);
  options.policies[1].on_full = OnFull::reject;  // TCP
  Bench bench(options, 1000);
  Producer waiting = greeted(bench);
  Producer refused = bench.connect_tcp();
  refused.write(kHello);
  REQUIRE(bench.runs_until([&] { return bench.counters.hellos == 2; }));
  bench.budget().take(2000);
  waiting.write(event(1) + "\n");
  refused.write(event(1) + "\n");
  REQUIRE(bench.runs_until([&] { return bench.counters.lines_received == 1; }));
  bench.settle();
  CHECK(bench.counters.refused[static_cast<std::size_t>(Refusal::full)] == 1);
  CHECK(bench.counters.budget_waits == 1);
  CHECK(bench.lines().empty());

  bench.budget().give_back(2000);
  bench.settle();
  CHECK(bench.take_chunk().origin.on_full == OnFull::wait);
}

TEST_CASE("on_full: a spool that is full does not concern producers that wait") {
  Bench bench(durable_options());
  Producer producer = greeted(bench);
  bench.spool_full = true;
  producer.write(event(1) + "\n");
  bench.settle();
  CHECK(bench.lines() == Lines{event(1)});
}

TEST_CASE("listener policy: a socket may have a default type and a list of users of its own") {
  ingest::IngestCounters counters;
  ingest::ParserOptions parser_options;
  parser_options.default_type = "audit";
  ingest::EventParser parser(parser_options, counters);
  ingest::ListenerOptions options = durable_options();
  options.policies.resize(2);
  options.policies[0].parser = &parser;
  options.policies[1].allow_uids = {::getuid()};
  Bench bench(options);

  Producer producer = bench.connect();
  producer.write(event(1) + "\n");
  Producer tcp = bench.connect_tcp();
  REQUIRE(bench.runs_until(
      [&] { return sluice::tests::sum(bench.counters.connections_refused_uid) == 1; }));
  bench.settle();
  CHECK(bench.take_chunk().types == Lines{"audit"});
  REQUIRE(bench.runs_until([&] { return tcp.closed_by_peer(); }));
}
