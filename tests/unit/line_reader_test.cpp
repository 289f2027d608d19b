// Lines out of a pipe.
#include "daemon/line_reader.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

using namespace sluice::daemon;

namespace {

class Pipe final {
 public:
  Pipe() { REQUIRE(::pipe(ends_) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    ::close(ends_[0]);
    end();
  }

  [[nodiscard]] int reading() const { return ends_[0]; }
  void write(std::string_view bytes) {
    REQUIRE(::write(ends_[1], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  void end() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  int ends_[2];
};

std::string read_to_end(LineReader& reader) {
  std::string text;
  while (const auto bytes = reader.read()) text += *bytes;
  return text;
}

}  // namespace

TEST_CASE("line reader: only whole lines are given out, and the last one gets its newline") {
  Pipe pipe;
  LineReader reader(pipe.reading());
  pipe.write("one\ntw");
  CHECK(reader.read() == "one\n");
  pipe.write("o");
  CHECK(reader.read() == "");
  pipe.write("\nthree");
  CHECK(reader.read() == "two\n");
  pipe.end();
  CHECK_FALSE(reader.ended());
  CHECK(read_to_end(reader) == "three\n");
  CHECK(reader.ended());
  CHECK(reader.bytes() == 14);
}

TEST_CASE("line reader: of too long a line one byte too many is given out") {
  Pipe pipe;
  LineReader reader(pipe.reading());
  reader.set_line_bytes_max(4);
  pipe.write("1234\n12345\n12345678\nab");
  CHECK(reader.read() == "1234\n12345\n12345\n");
  pipe.write("cdefgh");
  CHECK(reader.read() == "");
  pipe.write("ijk\nx\n");
  CHECK(reader.read() == "abcde\nx\n");
}

TEST_CASE("line reader: lines that are skipped are not given out, and missing ones are known") {
  Pipe pipe;
  LineReader reader(pipe.reading());
  reader.skip_lines(3);
  pipe.write("1\n\n");
  CHECK(reader.read() == "");
  CHECK(reader.left_to_skip() == 1);
  pipe.write("3\n4\n5");
  CHECK(reader.read() == "4\n");
  pipe.end();
  CHECK(read_to_end(reader) == "5\n");
  CHECK(reader.left_to_skip() == 0);

  Pipe shorter;
  LineReader short_of_lines(shorter.reading());
  short_of_lines.skip_lines(3);
  shorter.write("1\n2");
  shorter.end();
  CHECK(read_to_end(short_of_lines).empty());
  CHECK(short_of_lines.left_to_skip() == 1);
}

TEST_CASE("line reader: blank lines are counted, with their spaces and in pieces") {
  Pipe pipe;
  LineReader reader(pipe.reading());
  pipe.write("\n \t\r\nx\n ");
  CHECK(reader.read() == "\n \t\r\nx\n");
  CHECK(reader.blank_lines() == 2);
  pipe.write(" \n ");
  CHECK(reader.read() == "  \n");
  pipe.write("y\n");
  CHECK(reader.read() == " y\n");
  CHECK(reader.blank_lines() == 3);
}
