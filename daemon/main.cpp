// The command line: which command, with which settings. CLI11 has its one home here.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "config/loader.hpp"
#include "config/reference.hpp"
#include "config/units.hpp"
#include "daemon/command_check.hpp"
#include "daemon/command_dead.hpp"
#include "daemon/command_dev.hpp"
#include "daemon/command_maintain.hpp"
#include "daemon/command_schema.hpp"
#include "daemon/command_send.hpp"
#include "daemon/command_show.hpp"
#include "daemon/command_spool.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/file_lock.hpp"
#include "daemon/printable.hpp"
#include "daemon/serve.hpp"
#include "daemon/version.hpp"

namespace {

using namespace sluice;
using namespace sluice::daemon;

const std::string kVersionLine = std::string("sluice ") + kVersion;

// What the command line said, and what is to be run.
struct CommandLine {
  std::optional<std::string> config_file;
  DevOptions dev;
  SendOptions send;
  std::string retry_for = "30s";
  bool no_progress = false;
  bool no_acks = false;
  std::string spool_dir;  // empty: as the settings say
  std::vector<std::string> segments;
  bool json = false;
  DeadOptions dead;
  std::string since;
  std::string until;
  config::ModelOptions model;
  std::optional<std::string> model_name;
  std::string partition;
  std::string index = "basic";
  std::string detach_after;  // empty: as sluice.partitioned says
  ShowOptions show;
  bool markdown = false;
  std::function<int()> command;
};

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& about,
                      CommandLine& line, std::function<int()> run) {
  CLI::App* const command = parent.add_subcommand(name, about);
  command->set_version_flag("--version", kVersionLine);
  command->callback([&line, run = std::move(run)] { line.command = run; });
  return command;
}

void add_config_option(CLI::App* command, CommandLine& line) {
  command
      ->add_option("--config", line.config_file,
                   "configuration file; else SLUICE_CONFIG, else /etc/sluice/sluice.toml if it is "
                   "there, else the defaults; SLUICE_<SECTION>_<KEY> wins over all of them")
      ->type_name("FILE");
}

std::optional<std::string> chosen_file(const CommandLine& line) {
  return config::choose_file(line.config_file, config::process_environment());
}

config::Settings load_settings(const CommandLine& line) {
  return config::load(chosen_file(line), config::process_environment());
}

config::ModelOptions model_options(const CommandLine& line, const config::Settings& settings) {
  config::ModelOptions options = line.model;
  options.model = line.model_name.value_or(settings.postgres.model);
  options.own_schema = settings.postgres.schema;
  if (line.partition == "none") options.partition = config::Partition::none;
  if (line.partition == "day") options.partition = config::Partition::day;
  if (line.partition == "month") options.partition = config::Partition::month;
  if (line.index == "full") options.indexes = config::Indexes::full;
  return options;
}

void add_model_option(CLI::App* command, CommandLine& line) {
  command
      ->add_option("--model", line.model_name,
                   "the tables, and the routes that fill them; else postgres.model")
      ->type_name("MODEL")
      ->check(CLI::IsMember(config::model_names()));
}

void add_model_options(CLI::App* command, CommandLine& line) {
  add_config_option(command, line);
  add_model_option(command, line);
  command->add_option("--schema", line.model.schema, "schema of the model's tables")
      ->type_name("NAME")
      ->capture_default_str();
  command
      ->add_option("--partition", line.partition,
                   "partitions of events by their time; else as the model likes it best")
      ->type_name("PERIOD")
      ->check(CLI::IsMember({"none", "day", "month"}));
  command->add_option("--index", line.index, "full: slower to fill, quicker to ask")
      ->type_name("HOW")
      ->check(CLI::IsMember({"basic", "full"}))
      ->capture_default_str();
  command->add_option("--role", line.model.role, "role that is granted what the daemon needs")
      ->type_name("NAME");
}

std::chrono::milliseconds duration_of(const std::string& option, const std::string& text) {
  const auto duration = config::parse_duration(text);
  if (!duration) throw std::invalid_argument(option + ": " + text + " is no duration, as 30s is");
  return *duration;
}

std::optional<std::chrono::milliseconds> detach_after(const CommandLine& line) {
  if (line.detach_after.empty()) return std::nullopt;
  const auto age = duration_of("--detach-after", line.detach_after);
  if (age.count() <= 0) throw std::invalid_argument("--detach-after must be more than nothing");
  return age;
}

void add_maintain_command(CLI::App& schema, CommandLine& line) {
  CLI::App* const maintain = add_command(
      schema, "maintain",
      "make the next partitions, detach old ones, and forget what nobody needs: for a daily timer",
      line, [&line] { return maintain_schema(load_settings(line), detach_after(line)); });
  add_config_option(maintain, line);
  maintain
      ->add_option("--detach-after", line.detach_after,
                   "detach partitions whose last moment is longer ago; else as the table "
                   "partitioned in sluice's schema says. They stay as tables of their own")
      ->type_name("TIME");
}

void add_schema_commands(CLI::App& app, CommandLine& line) {
  CLI::App* const schema = app.add_subcommand("schema", "the tables: events and watermark");
  schema->set_version_flag("--version", kVersionLine);
  schema->require_subcommand(1);
  add_model_options(
      add_command(*schema, "print", "print the SQL that makes them", line,
                  [&line] { return print_schema(model_options(line, load_settings(line))); }),
      line);
  add_model_options(add_command(*schema, "apply", "make them where they are missing", line,
                                [&line] {
                                  const config::Settings settings = load_settings(line);
                                  return apply_schema(settings, model_options(line, settings));
                                }),
                    line);
  add_maintain_command(*schema, line);
}

void add_show_command(CLI::App& app, CommandLine& line) {
  CLI::App* const show = add_command(app, "show", "everything that is known about an id", line,
                                     [&line] { return run_show(load_settings(line), line.show); });
  add_config_option(show, line);
  show->add_option("ID", line.show.id,
                   "a UUID or ULID; of things in the model unified also ns/id or a URL")
      ->required();
  show->add_flag("--json", line.show.json,
                 "as one JSON object in one line, with all that is empty");
  show->add_option("--schema", line.show.schema,
                   "schema of the model's tables; else the search_path")
      ->type_name("NAME");
}

void add_send_command(CLI::App& app, CommandLine& line) {
  CLI::App* const send = add_command(
      app, "send", "put lines from stdin or a file on the daemon's socket, until each is stored",
      line, [&line] {
        if (line.send.socket.empty()) line.send.socket = load_settings(line).ingest.socket;
        line.send.retry_for = duration_of("--retry-for", line.retry_for);
        line.send.progress = !line.no_progress;
        line.send.acks = !line.no_acks;
        return run_send(line.send);
      });
  add_config_option(send, line);
  send->add_option("FILE", line.send.file, "file with one JSON object per line; else stdin");
  send->add_option("--socket", line.send.socket, "the daemon's socket; else ingest.socket")
      ->type_name("PATH");
  send->add_option(
          "--producer", line.send.producer,
          "name under which the lines are numbered: what was sent under it before is not "
          "sent again; else made of host, user, path, which file that is (inode) and its first "
          "line, or random for stdin. A file that was truncated and written anew in its "
          "place may pass for the old one: send it with --again or a name of its own")
      ->type_name("NAME");
  send->add_flag("--again", line.send.again, "send all of it, whatever was sent before");
  send->add_option(
          "--retry-for", line.retry_for,
          "how long to try while no daemon answers or has room, and to wait for the next ack")
      ->type_name("TIME")
      ->capture_default_str();
  send->add_flag("--no-progress", line.no_progress, "no progress line on a terminal");
  send->add_flag("--no-acks", line.no_acks, "write, and do not wait until it is stored");
}

std::string spool_directory(const CommandLine& line) {
  return line.spool_dir.empty() ? load_settings(line).spool.dir : line.spool_dir;
}

CLI::App* add_spool_command(CLI::App& spool, const std::string& name, const std::string& about,
                            CommandLine& line, std::function<int()> run) {
  CLI::App* const command = add_command(spool, name, about, line, std::move(run));
  add_config_option(command, line);
  command->add_option("--dir", line.spool_dir, "the spool's directory; else spool.dir")
      ->type_name("DIR");
  return command;
}

void add_spool_commands(CLI::App& app, CommandLine& line) {
  CLI::App* const spool =
      app.add_subcommand("spool", "look into the spool's files, also while the daemon writes them");
  spool->set_version_flag("--version", kVersionLine);
  spool->require_subcommand(1);
  add_spool_command(*spool, "ls", "a table of the segments", line,
                    [&line] { return list_spool(spool_directory(line)); });
  add_spool_command(*spool, "verify", "read every byte; exit code 65 if some are damaged", line,
                    [&line] { return verify_spool(spool_directory(line)); });
  CLI::App* const dump = add_spool_command(
      *spool, "dump", "what is known of each event of a segment", line,
      [&line] { return dump_segment(spool_directory(line), line.segments.front(), line.json); });
  dump->add_option("SEGMENT", line.segments, "its ordinal, uuid or file")->required()->expected(1);
  dump->add_flag("--json", line.json, "as JSON lines");
  add_spool_command(*spool, "export", "the lines as they came", line, [&line] {
    return export_spool(spool_directory(line), line.segments);
  })->add_option("SEGMENT", line.segments, "ordinals, uuids or files; else all");
}

DeadOptions dead_options(const CommandLine& line) {
  DeadOptions options = line.dead;
  options.directory = spool_directory(line);
  if (!line.since.empty()) options.filter.since_us = time_option_us("--since", line.since);
  if (!line.until.empty()) options.filter.until_us = time_option_us("--until", line.until);
  return options;
}

CLI::App* add_dead_command(CLI::App& dead, const std::string& name, const std::string& about,
                           CommandLine& line,
                           int (*run)(const config::Settings&, const DeadOptions&)) {
  CLI::App* const command = add_spool_command(dead, name, about, line, [&line, run] {
    return run(load_settings(line), dead_options(line));
  });
  DeadFilter& filter = line.dead.filter;
  command->add_option("RECORD", filter.names,
                      "records as `list` names them, <segment>:<index>; else all that the options "
                      "below leave");
  command->add_option("--state", filter.state, "only those in this state")
      ->check(CLI::IsMember({"dead", "waiting", "held", "void", "delivered", "rejected"}));
  command->add_option("--table", filter.table, "only those for this table")->type_name("NAME");
  command->add_option("--type", filter.type, "only events of this type")->type_name("TYPE");
  command->add_option("--sqlstate", filter.sqlstate, "only those refused with this code or class")
      ->type_name("CODE")
      ->check([](const std::string& text) {
        const bool is_code = (text.size() == 5 || text.size() == 2) &&
                             std::all_of(text.begin(), text.end(), [](char c) {
                               return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
                             });
        return is_code ? std::string() : "such as 23514, or its class 23";
      });
  command->add_option("--code", filter.code, "only lines that were refused with this code")
      ->type_name("CODE");
  command->add_option("--since", line.since, "only those set aside since then")->type_name("TIME");
  command->add_option("--until", line.until, "only those set aside before then")->type_name("TIME");
  command->add_flag("--json", line.dead.json, "as JSON lines");
  return command;
}

void add_dead_commands(CLI::App& app, CommandLine& line) {
  CLI::App* const dead =
      app.add_subcommand("dead", "the events that were set aside, as Postgres refused their rows");
  dead->set_version_flag("--version", kVersionLine);
  dead->require_subcommand(1);
  for (CLI::App* const command :
       {add_dead_command(*dead, "list", "a table of them, without what is in the events", line,
                         list_dead),
        add_dead_command(*dead, "show", "all there is to know of them, the lines included", line,
                         show_dead)}) {
    command->add_flag("--offline", line.dead.offline,
                      "do not ask Postgres which are void or delivered");
  }
  add_dead_command(*dead, "retry", "try to deliver them, each once and for all", line, retry_dead)
      ->add_flag("--all", line.dead.all, "all of them");
  add_dead_command(*dead, "purge", "forget them: what is waiting or held only with --state", line,
                   purge_dead)
      ->add_flag("--all", line.dead.all, "all of them");
}

void add_dev_command(CLI::App& app, CommandLine& line) {
  CLI::App* const dev = add_command(
      app, "dev", "run a private Postgres and the daemon, with nothing to configure", line,
      [&line] {
        line.dev.config_file = line.config_file;
        config::Settings settings = config::load(line.config_file, config::process_environment());
        if (line.model_name) settings.postgres.model = *line.model_name;
        return run_dev(settings, line.dev);
      });
  add_model_option(dev, line);
  dev->add_option("--config", line.config_file, "settings other than the socket's and Postgres's")
      ->type_name("FILE");
  dev->add_option("--dir", line.dev.directory, "where the data lives")
      ->type_name("DIR")
      ->capture_default_str();
}

int print_reference(bool markdown) {
  std::cout << (markdown ? config::reference_markdown() : config::reference_toml());
  return kExitOk;
}

void add_commands(CLI::App& app, CommandLine& line) {
  app.set_version_flag("--version", kVersionLine);
  app.require_subcommand(1);
  add_config_option(add_command(app, "serve", "run the daemon", line,
                                [&line] { return run_serve(load_settings(line)); }),
                    line);
  add_dev_command(app, line);
  add_send_command(app, line);
  add_config_option(add_command(app, "check", "look at the configuration and at Postgres", line,
                                [&line] {
                                  const auto file = chosen_file(line);
                                  return run_check(load_settings(line),
                                                   file.value_or("defaults and environment"));
                                }),
                    line);
  add_schema_commands(app, line);
  add_show_command(app, line);
  add_spool_commands(app, line);
  add_dead_commands(app, line);
  add_command(app, "config", "print every setting with its default, as a file to start from", line,
              [&line] { return print_reference(line.markdown); })
      ->add_flag("--markdown", line.markdown, "as docs/settings.md");
}

int complain(const std::string& text, ExitCode code) {
  std::cerr << "sluice: " << text << "\n";
  return code;
}

int run(const CommandLine& line) {
  try {
    return line.command();
  } catch (const config::LoadError& error) {
    for (const std::string& problem : error.problems()) complain(problem, kExitConfig);
    return kExitConfig;
  } catch (const LockedError& error) {
    return complain(error.what(), kExitLocked);
  } catch (const std::invalid_argument& error) {
    return complain(error.what(), kExitUsage);
  } catch (const std::system_error& error) {
    return complain(error.what(), kExitUnavailable);
  } catch (const std::exception& error) {
    return complain(std::string("a fault of sluice itself: ") + error.what(), kExitBug);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  CLI::App app{"Newline-JSON events from a Unix socket into PostgreSQL by COPY.", "sluice"};
  add_commands(app, line);
  const std::string first = argc > 1 ? argv[1] : "";
  const auto is_it = [&first](const CLI::App* command) { return command->get_name() == first; };
  if (!first.empty() && first.front() != '-' && app.get_subcommands(is_it).empty()) {
    return complain(printable(first) + " is not a command; sluice --help lists them", kExitUsage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return run(line);
}
