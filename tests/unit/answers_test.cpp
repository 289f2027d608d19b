// What a producer is told: the lines, and how they stay within bounds.
#include "ingest/answers.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

namespace ingest = sluice::ingest;
using ingest::Answers;

namespace {

struct Bench {
  // All that is to be sent, as if the socket took it at once.
  std::string sent_all() {
    std::string all;
    for (;;) {
      const std::string bytes(answers.next());
      if (bytes.empty()) return all;
      all += bytes;
      answers.sent(bytes.size());
    }
  }

  ingest::IngestCounters counters;
  Answers answers{counters};
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("answers: there is nothing to say at first") {
  Bench b;
  CHECK(b.answers.empty());
  CHECK(b.answers.next().empty());
  b.answers.ack(0);
  CHECK(b.answers.next().empty());
}

TEST_CASE("answers: acks that were not sent merge into the newest, and none is said twice") {
  Bench b;
  b.answers.ack(3);
  b.answers.ack(7);
  CHECK_FALSE(b.answers.empty());
  CHECK(b.sent_all() == "{\"ack\":7}\n");
  CHECK(b.answers.empty());
  b.answers.ack(7);
  CHECK(b.answers.empty());
  b.answers.ack(8);
  CHECK(b.sent_all() == "{\"ack\":8}\n");
  CHECK(b.counters.acks_sent == 2);
}

TEST_CASE("answers: while an ack is half sent, later ones wait as one number") {
  Bench b;
  b.answers.ack(1);
  CHECK(b.answers.next() == "{\"ack\":1}\n");
  b.answers.sent(4);
  for (std::uint64_t n = 2; n <= 1000; ++n) {
    b.answers.ack(n);
    CHECK(b.answers.next() == "k\":1}\n");
  }
  b.answers.sent(6);
  CHECK(b.sent_all() == "{\"ack\":1000}\n");
}

TEST_CASE("answers: a nack comes before the ack that covers its line") {
  Bench b;
  b.answers.nack(2, "syntax", false);
  b.answers.nack(3, "full", true);
  b.answers.ack(3);
  CHECK(b.sent_all() ==
        "{\"nack\":2,\"code\":\"syntax\",\"retry\":false}\n"
        "{\"nack\":3,\"code\":\"full\",\"retry\":true}\n"
        "{\"ack\":3}\n");
  CHECK(b.counters.nacks_sent == 2);
}

TEST_CASE("answers: nacks beyond the bound are told as a number before the ack that covers them") {
  Bench b;
  for (std::uint64_t line = 1; line <= 100'000; ++line) {
    b.answers.nack(line, line % 2 == 0 ? "bad_byte" : "syntax", false);
    b.answers.ack(line);
    REQUIRE(b.answers.next().size() <= Answers::kBytesMax + 128);
  }
  const std::string sent = b.sent_all();
  const std::size_t told = count(sent, "{\"nack\":");
  CHECK(told > 1000);
  CHECK(sent.ends_with("{\"nacks_unsent\":" + std::to_string(100'000 - told) +
                       "}\n{\"ack\":100000}\n"));
  CHECK(count(sent, "{\"ack\":") == 2);
  CHECK(b.counters.nacks_sent == told);
  CHECK(b.counters.nacks_unsent == 100'000 - told);
  CHECK(b.answers.empty());
}

TEST_CASE("answers: of lines that are turned away at once each is told, in bounded memory") {
  Bench b;
  for (std::uint64_t line = 1; line <= 100'000; ++line) {
    b.answers.nack(line, "full", true);
    b.answers.ack(line);
    REQUIRE(b.answers.next().size() <= Answers::kBytesMax + 128);
  }
  const std::string sent = b.sent_all();
  CHECK(count(sent, "{\"nack\":") == 100'000);
  CHECK(sent.find("unsent") == std::string::npos);
  CHECK(sent.ends_with("{\"nack\":100000,\"code\":\"full\",\"retry\":true}\n{\"ack\":100000}\n"));
}

TEST_CASE("answers: a reader that takes little at a time keeps the buffer within its bound") {
  Bench b;
  std::string sent;
  for (std::uint64_t line = 1; line <= 20'000; ++line) {
    b.answers.nack(line, line % 2 == 0 ? "bad_byte" : "syntax", false);
    const std::string bytes(b.answers.next().substr(0, 7));
    sent += bytes;
    b.answers.sent(bytes.size());
    REQUIRE(b.answers.next().size() <= Answers::kBytesMax + 128);
  }
  sent += b.sent_all();
  // Every nack is there, one by one or in a number.
  std::size_t told = count(sent, "{\"nack\":");
  for (auto at = sent.find("unsent\":"); at != std::string::npos;
       at = sent.find("unsent\":", at + 1))
    told += std::stoul(sent.substr(at + 8));
  CHECK(told == 20'000);
  CHECK(count(sent, "\n") == count(sent, "{"));
}

TEST_CASE("answers: the closing line comes last, after an ack that was waiting") {
  Bench b;
  b.answers.ack(1);
  (void)b.answers.next();
  b.answers.ack(5);
  b.answers.say("{\"done\":5}\n");
  CHECK(b.sent_all() == "{\"ack\":1}\n{\"ack\":5}\n{\"done\":5}\n");
}
