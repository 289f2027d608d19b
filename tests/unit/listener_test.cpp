// The listener: who gets in, who is read, and what becomes of the lines.
#include "ingest/listener.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/unit/listener_bench.hpp"

using namespace std::chrono_literals;
namespace ingest = sluice::ingest;
namespace spool = sluice::spool;
using ingest::Refusal;
using sluice::tests::event;
using sluice::tests::Producer;
using sluice::tests::sum;
using Bench = sluice::tests::ListenerBench;

namespace {

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0;
  std::size_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::size_t>(::getpagesize());
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

void send_with_descriptor(int fd, std::string bytes) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  REQUIRE(::sendmsg(fd, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("listener: what two producers write arrives, each in its order") {
  Bench bench;
  Producer a = bench.connect();
  Producer b = bench.connect();
  a.write(event(1) + "\n" + event(2) + "\n{\"n\"");
  b.write(event(10) + "\r\n\n");
  bench.settle();
  a.write(":3}\n");
  b.write(event(11) + "\n");
  bench.settle();

  Lines of_a;
  Lines of_b;
  for (const std::string& line : bench.lines()) (line.size() == 7 ? of_a : of_b).push_back(line);
  CHECK(of_a == Lines{event(1), event(2), event(3)});
  CHECK(of_b == Lines{event(10), event(11)});
  CHECK(bench.last_header.received_us == bench.now_us);
  CHECK(bench.last_header.uid == ::getuid());
  CHECK(bench.counters.connections_opened == 2);
  CHECK(bench.counters.lines_received == 5);
  CHECK(bench.counters.lines_empty == 1);
  CHECK(bench.counters.events_accepted == 5);
  CHECK(bench.counters.bytes_received == 3 * 8 + 2 * 9 + 2);
}

TEST_CASE("listener: TCP producers have no uid") {
  Bench bench;
  Producer producer = bench.connect_tcp();
  producer.write(event(1) + "\n");
  REQUIRE(bench.runs_until([&] { return bench.counters.events_accepted == 1; }));
  CHECK(bench.lines() == Lines{event(1)});
  CHECK(bench.last_header.uid == spool::kNoUid);
}

TEST_CASE("listener: with the budget used up nothing is read, and all arrives when there is room") {
  Bench bench({}, 100'000);
  Producer producer = bench.connect();
  const std::string line = "{\"text\":\"" + std::string(400, 'x') + "\"}\n";
  std::size_t written = 0;
  const auto write_all = [&] {
    for (;;) {
      const std::size_t sent = producer.write(std::string_view(line).substr(written % line.size()));
      if (sent == 0) return;
      written += sent;
    }
  };
  // The last look finds the socket full and nobody reading.
  for (std::size_t before = 1; before != written;) {
    before = written;
    write_all();
    bench.settle();
  }
  CHECK(producer.error() == EAGAIN);
  CHECK_FALSE(bench.budget().has_room());
  CHECK(bench.budget().used_bytes() < 100'000 + 200'000);
  CHECK(bench.counters.budget_waits > 0);
  const std::size_t received_when_full = bench.counters.bytes_received;
  CHECK(received_when_full < written);

  Lines lines;
  const std::size_t written_when_full = written;
  for (int i = 0; i < 100; ++i) {
    bench.take(lines);
    bench.settle();
    write_all();
  }
  CHECK(written > 2 * written_when_full);
  producer.leave();
  for (int i = 0; i < 100; ++i) {
    bench.take(lines);
    bench.settle();
  }
  CHECK(bench.counters.bytes_received == written);
  CHECK(lines.size() == written / line.size());
  CHECK(std::all_of(lines.begin(), lines.end(),
                    [&](const std::string& got) { return got + "\n" == line; }));
  CHECK(bench.budget().used_bytes() == 0);
}

TEST_CASE("listener: who becomes readable is read before ten that flood have each had a turn") {
  Bench bench({}, 16 << 20);
  std::vector<Producer> flood;
  std::string bytes;
  while (bytes.size() < 150'000) bytes += event(1234567) + "\n";
  for (int i = 0; i < 10; ++i) flood.push_back(bench.connect());
  Producer quiet = bench.connect();
  bench.settle();
  for (Producer& producer : flood) REQUIRE(producer.write(bytes) == bytes.size());
  REQUIRE(bench.step_until([&] { return bench.counters.bytes_received > 660'000; }));
  const std::uint64_t before = bench.counters.bytes_received;
  quiet.write(event(5) + "\n");
  bool found = false;
  REQUIRE(bench.step_until([&] {
    for (const std::string& line : bench.lines()) found = found || line == event(5);
    return found;
  }));
  CHECK(bench.counters.bytes_received - before < 4 * ingest::ReadGate::kReadBytesMax);
}

TEST_CASE("listener: a line of 100 MB takes no memory and the next line is stored") {
  Bench bench;
  Producer producer = bench.connect();
  bench.settle();
  const std::size_t resident_before = resident_bytes();
  const std::string piece(1 << 20, 'x');
  for (std::size_t left = 100'000'000; left > 0;) {
    left -= producer.write(std::string_view(piece).substr(0, std::min(left, piece.size())));
    bench.settle();
    REQUIRE(bench.listener().carry_bytes() <= 1 << 20);
  }
  producer.write("\n" + event(1) + "\n");
  bench.settle();
  CHECK(bench.lines() == Lines{event(1)});
  CHECK(bench.counters.refused[static_cast<std::size_t>(Refusal::too_long)] == 1);
  CHECK(bench.listener().carry_bytes() == 0);
  CHECK(resident_bytes() < resident_before + (32 << 20));
}

TEST_CASE("listener: a line of a megabyte is stored whole") {
  Bench bench;
  Producer producer = bench.connect();
  const std::string line = "{\"text\":\"" + std::string((1 << 20) - 11, 'x') + "\"}";
  REQUIRE(line.size() == 1 << 20);
  const std::string bytes = line + "\n";
  for (std::size_t at = 0; at < bytes.size();) {
    at += producer.write(std::string_view(bytes).substr(at));
    bench.settle();
  }
  CHECK(bench.lines() == Lines{line});
}

TEST_CASE("listener: many half lines do not lock each other out, and short lines pass by") {
  ingest::ListenerOptions options;
  options.line_bytes_max = 100'000;
  options.carry_bytes_max = 150'000;
  Bench bench(options, 10 << 20);
  const std::string half = "{\"text\":\"" + std::string(60'000, 'x');
  std::vector<Producer> producers;
  for (int i = 0; i < 10; ++i) {
    producers.push_back(bench.connect());
    REQUIRE(producers.back().write(half) == half.size());
    bench.settle();
  }
  CHECK(bench.listener().carry_bytes() <= 150'000 + 100'000 + 10 * 4096);

  Producer quiet = bench.connect();
  quiet.write(event(7) + "\n");
  bench.settle();
  CHECK(bench.lines() == Lines{event(7)});

  for (Producer& producer : producers) {
    REQUIRE(producer.write(half.substr(0, 30'000) + "\"}\n") != 0);
    bench.settle();
  }
  CHECK(bench.counters.lines_received == 11);
  CHECK(bench.listener().carry_bytes() == 0);
}

TEST_CASE("listener: refused lines are counted and told by number, never with their text") {
  Bench bench;
  Producer first = bench.connect();
  first.write(event(1) + "\n");
  bench.settle();
  Lines lines = bench.lines();
  Producer second = bench.connect();
  second.write("\n[1]\n" + event(2) + "\nGET / HTTP/1.1\r\n");
  bench.settle();
  REQUIRE(bench.reporter.refused.size() == 2);
  const ingest::RefusedLine& refused = bench.reporter.refused[0];
  CHECK(refused.reason == Refusal::not_object);
  CHECK(refused.uid == ::getuid());
  CHECK(refused.connection == 2);
  CHECK(refused.line == 2);
  CHECK(bench.reporter.refused[1].line == 4);
  CHECK(bench.counters.refused[static_cast<std::size_t>(Refusal::not_object)] >= 1);
  CHECK(bench.counters.lines_received == 4);
  bench.take(lines);
  CHECK(lines == Lines{event(1), event(2)});
  CHECK_FALSE(second.closed_by_peer());
}

TEST_CASE("listener: a line cut off by the producer's end is counted and no event") {
  Bench bench;
  Producer producer = bench.connect();
  producer.write(event(1) + "\n" + event(2));
  producer.leave();
  bench.settle();
  CHECK(bench.lines() == Lines{event(1)});
  CHECK(bench.counters.lines_partial == 1);
  CHECK(bench.counters.connections_closed == 1);
  CHECK(bench.listener().connections() == 0);
  CHECK(bench.listener().carry_bytes() == 0);
}

TEST_CASE("listener: what came before a reset is stored") {
  Bench bench;
  Producer producer = bench.connect_tcp();
  producer.write(event(1) + "\n");
  const linger at_once{1, 0};
  ::setsockopt(producer.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  REQUIRE(bench.runs_until([&] { return bench.counters.connections_opened == 1; }));
  producer.leave();
  REQUIRE(bench.runs_until([&] { return bench.counters.connections_closed == 1; }));
  CHECK(bench.lines() == Lines{event(1)});
}

TEST_CASE("listener: half a line and then silence is closed, a quiet connection is not") {
  ingest::ListenerOptions options;
  options.partial_line_timeout = 20ms;
  Bench bench(options);
  Producer quiet = bench.connect();
  quiet.write(event(1) + "\n");
  Producer half = bench.connect();
  half.write(event(2) + "\n{\"n\"");
  REQUIRE(bench.runs_until([&] { return bench.counters.connections_closed == 1; }));
  bench.settle();
  CHECK(half.closed_by_peer());
  CHECK_FALSE(quiet.closed_by_peer());
  CHECK(bench.counters.lines_timed_out == 1);
  CHECK(bench.counters.lines_partial == 0);
  CHECK(bench.lines().size() == 2);
}

TEST_CASE("listener: a producer that is quiet after a line in two halves is not closed") {
  ingest::ListenerOptions options;
  options.partial_line_timeout = 200ms;  // longer than a busy machine stalls
  Bench bench(options);
  Producer quiet = bench.connect();
  quiet.write("{\"n\"");
  bench.settle();
  quiet.write(":1}\n");
  bench.settle();
  Producer half = bench.connect();
  half.write("{");
  REQUIRE(bench.runs_until([&] { return bench.counters.connections_closed == 1; }));
  bench.settle();
  CHECK(half.closed_by_peer());
  CHECK_FALSE(quiet.closed_by_peer());
}

TEST_CASE("listener: half a line does not time out while its sender is kept waiting") {
  ingest::ListenerOptions options;
  options.partial_line_timeout = 200ms;  // longer than a busy machine stalls
  Bench bench(options);
  Producer waiting = bench.connect();
  waiting.write("{\"n\"");
  Producer silent = bench.connect();
  silent.write("{");
  bench.settle();
  bench.budget().take(2 << 20);  // more than quiet readers may go beyond
  waiting.write(":1}");
  REQUIRE(bench.runs_until([&] { return bench.counters.lines_timed_out == 1; }));
  CHECK(silent.closed_by_peer());
  CHECK_FALSE(waiting.closed_by_peer());

  bench.budget().give_back(2 << 20);
  waiting.write("\n");
  bench.settle();
  CHECK(bench.counters.lines_timed_out == 1);
  CHECK(bench.lines() == Lines{event(1)});
}

TEST_CASE("listener: at connections_max the next waits until one has gone") {
  ingest::ListenerOptions options;
  options.connections_max = 2;
  Bench bench(options);
  Producer first = bench.connect();
  Producer second = bench.connect();
  Producer third = bench.connect();
  third.write(event(3) + "\n");
  bench.settle();
  CHECK(bench.listener().connections() == 2);
  CHECK(bench.lines().empty());
  CHECK(bench.reporter.full == 1);
  first.leave();
  bench.settle();
  CHECK(bench.listener().connections() == 2);
  CHECK(bench.lines() == Lines{event(3)});
  CHECK(bench.reporter.full == 1);
}

TEST_CASE("listener: descriptors that are kept for others are not given to connections") {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  ingest::ListenerOptions options;
  options.descriptors_kept = limit.rlim_cur - 2;
  Bench bench(options);
  Producer first = bench.connect();
  Producer second = bench.connect();
  Producer third = bench.connect();
  third.write(event(3) + "\n");
  bench.settle();
  CHECK(bench.listener().connections() == 2);
  CHECK(bench.reporter.full == 1);
  first.leave();
  bench.settle();
  CHECK(bench.lines() == Lines{event(3)});
}

TEST_CASE(
    "listener: a uid that has as many connections as it may gets no more until one has gone") {
  ingest::ListenerOptions options;
  options.connections_per_uid_max = 2;
  Bench bench(options);
  Producer first = bench.connect();
  Producer second = bench.connect();
  Producer third = bench.connect();
  bench.settle();
  CHECK(third.closed_by_peer());
  CHECK_FALSE(first.closed_by_peer());
  CHECK(bench.listener().connections() == 2);
  CHECK(sum(bench.counters.connections_refused_cap) == 1);
  CHECK(bench.reporter.too_many == 1);
  first.leave();
  bench.settle();
  Producer fourth = bench.connect();
  fourth.write(event(4) + "\n");
  bench.settle();
  CHECK(bench.lines() == Lines{event(4)});
  CHECK(sum(bench.counters.connections_refused_cap) == 1);
}

TEST_CASE("listener: a uid that is not allowed is closed at accept") {
  ingest::ListenerOptions options;
  ingest::ListenerPolicy policy;
  policy.allow_uids = {::getuid() + 1};
  options.policies = {policy, policy};
  Bench bench(options);
  Producer producer = bench.connect();
  producer.write(event(1) + "\n");
  bench.settle();
  CHECK(producer.closed_by_peer());
  CHECK(sum(bench.counters.connections_refused_uid) == 1);
  CHECK(bench.reporter.uids == std::vector<std::uint32_t>{::getuid()});
  CHECK(bench.counters.bytes_received == 0);
}

TEST_CASE(
    "listener: out of descriptors, those who are connected are served and accepting goes on") {
  Bench bench;
  Producer first = bench.connect();
  bench.settle();
  Producer second = bench.connect();
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  bench.settle();
  first.write(event(1) + "\n");
  bench.settle();
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(bench.reporter.accept_errors == std::vector<int>{EMFILE});
  CHECK(bench.lines() == Lines{event(1)});

  second.write(event(2) + "\n");
  REQUIRE(bench.runs_until([&] { return bench.counters.events_accepted == 2; }));
  CHECK(bench.reporter.accept_errors.size() == 1);
}

TEST_CASE("listener: descriptors sent along are dropped, also when stopping") {
  Bench bench;
  Producer producer = bench.connect();
  bench.settle();
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 10; ++i) send_with_descriptor(producer.fd(), event(i) + "\n");
  bench.settle();
  CHECK(bench.lines().size() == 10);
  CHECK(open_descriptors() == before);

  // The kernel ends a read at each descriptor.
  for (int i = 0; i < 10; ++i) send_with_descriptor(producer.fd(), event(i) + "\n");
  bench.listener().stop({});
  bench.settle();
  CHECK(bench.listener().stopped());
  CHECK(bench.lines().size() == 10);
}

TEST_CASE("listener: stopping takes what was written before, and nothing after") {
  Bench bench({}, 16 << 20);
  Producer writing = bench.connect();
  bench.settle();
  std::string bytes;
  while (bytes.size() < 150'000) bytes += event(1234567) + "\n";
  const std::size_t lines_written = bytes.size() / 14;
  REQUIRE(writing.write(bytes) == bytes.size());
  Producer gone = bench.connect();
  gone.write(event(9999999) + "\n");
  gone.leave();
  Producer in_backlog = bench.connect();
  in_backlog.write(event(8888888) + "\n");

  bool told = false;
  bench.listener().stop([&] { told = true; });
  CHECK_FALSE(told);
  CHECK(writing.write(event(1) + "\n") == 0);
  CHECK(writing.error() == EPIPE);
  CHECK_FALSE(std::filesystem::exists(bench.path()));
  bench.settle();
  CHECK(told);
  CHECK(bench.listener().stopped());
  CHECK(in_backlog.closed_by_peer());
  CHECK(bench.lines().size() == lines_written + 2);
  CHECK(bench.counters.connections_opened == 3);
  CHECK(bench.counters.connections_closed == 3);
}

TEST_CASE("listener: stopping ends even beside a TCP producer that goes on writing") {
  Bench bench({}, 16 << 20);
  Producer producer = bench.connect_tcp();
  bench.settle();
  REQUIRE(bench.runs_until([&] { return bench.listener().connections() == 1; }));
  const std::string bytes(50'000, '\n');
  bench.listener().stop({});
  REQUIRE(bench.runs_until([&] {
    producer.write(bytes);
    return bench.listener().stopped();
  }));
  CHECK(bench.counters.bytes_received <= (256 + 64) * 1024);
}

TEST_CASE("listener: past the deadline, connections that wait for room are ended") {
  Bench bench({}, 1000);
  Producer producer = bench.connect();
  bench.settle();
  bench.budget().take(1000);
  producer.write(event(1) + "\n");
  bench.settle();
  bench.listener().stop({});
  bench.settle();
  CHECK_FALSE(bench.listener().stopped());
  bench.listener().close_all();
  bench.settle();
  CHECK(bench.listener().stopped());
  CHECK(producer.closed_by_peer());
  bench.budget().give_back(1000);
}

TEST_CASE("listener: stopped connections read on when there is room") {
  Bench bench({}, 1000);
  Producer producer = bench.connect();
  bench.settle();
  bench.budget().take(1000);
  producer.write(event(1) + "\n");
  bench.settle();
  bench.listener().stop({});
  bench.settle();
  bench.budget().give_back(1000);
  bench.settle();
  CHECK(bench.listener().stopped());
  CHECK(bench.lines() == Lines{event(1)});
}
