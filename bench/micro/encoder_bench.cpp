// How long the row encoder takes for one event of the agent log.
#include <benchmark/benchmark.h>

#include <string>

#include "sink/copy_encoder.hpp"
#include "spool/chunk.hpp"

namespace sluice::sink {
namespace {

using spool::Field;
using spool::FieldSpan;
using spool::ValueKind;

constexpr std::string_view kLine =
    R"({"type":"tool.call","source":"planner","session_id":"s-0123456789abcdef",)"
    R"("dedupe_key":"k-00000001","data":{"tool":"shell","args":["make","-j2"],"status":"success",)"
    R"("cost":0.01250,"output":"compiled 17 files \u00e4 \n done","tokens":{"in":1234,"out":567},)"
    R"("nested":{"a":[1,2,3,4,5,6,7,8],"b":null,"c":true}},"level":30,"host":"agent-7",)"
    R"("msg":"the tool has ended and all went well"})";

FieldSpan span_of(Field field, ValueKind kind, std::string_view raw) {
  FieldSpan span{};
  span.begin = static_cast<std::uint32_t>(kLine.find(raw)) & 0xffffff;
  span.length = static_cast<std::uint32_t>(raw.size()) & 0xffffff;
  span.field = static_cast<std::uint8_t>(field);
  span.kind = static_cast<std::uint8_t>(kind);
  return span;
}

spool::Chunk make_events(spool::ByteBudget& budget, int count) {
  const std::size_t data = kLine.find(R"({"tool")");
  const std::size_t extra = kLine.find(R"("level")");
  const FieldSpan fields[] = {
      span_of(Field::type, ValueKind::string, R"("tool.call")"),
      span_of(Field::source, ValueKind::string, R"("planner")"),
      span_of(Field::session_id, ValueKind::string, R"("s-0123456789abcdef")"),
      span_of(Field::dedupe_key, ValueKind::string, R"("k-00000001")"),
      span_of(Field::data, ValueKind::object, kLine.substr(data, extra - data - 1)),
      span_of(Field::extra, ValueKind::members, kLine.substr(extra, kLine.size() - extra - 1))};
  spool::RecordHeader header{};
  header.uid = 1000;
  header.flags = spool::kHasDedupeKey;
  spool::Chunk chunk(budget, 64 * 1024);
  for (int i = 0; i < count; ++i) chunk.append(header, fields, kLine, {});
  return chunk;
}

void encode(benchmark::State& state, const CopyEncoder& encoder) {
  spool::ByteBudget budget(std::size_t{64} << 20);
  constexpr int kEvents = 100;
  const spool::Chunk chunk = make_events(budget, kEvents);
  CopyBuffer buffer;
  for (auto _ : state) {
    buffer.clear();
    const std::byte* at = chunk.bytes().data();
    for (int i = 0; i < kEvents; ++i) {
      const spool::EventView event(at);
      benchmark::DoNotOptimize(encoder.append_row(event, {}, buffer));
      at += event.header().record_bytes;
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kEvents);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(buffer.size()));
}

void encode_agent_log(benchmark::State& state) {
  const Route route = agent_log_route();
  const BoundColumn types[] = {
      {ColumnType::uuid},  {ColumnType::timestamptz}, {ColumnType::text},
      {ColumnType::text},  {ColumnType::text},        {ColumnType::uuid},
      {ColumnType::jsonb}, {ColumnType::jsonb},       {ColumnType::timestamptz},
      {ColumnType::int8},  {ColumnType::text}};
  encode(state, CopyEncoder(route.columns, types));
}
BENCHMARK(encode_agent_log);

// Members, pointers into data and what is left for extra: the event's text has to be walked over.
void encode_members_and_pointers(benchmark::State& state) {
  const Column columns[] = {{"id", Source::id},
                            {"time", Source::occurred_at},
                            {"tool", Source::pointer, "/data/tool"},
                            {"cost", Source::pointer, "/data/cost"},
                            {"tokens", Source::pointer, "/data/tokens/in"},
                            {"host", Source::member, "host"},
                            {"region", Source::constant, "\"eu-1\""},
                            {"extra", Source::extra}};
  const BoundColumn types[] = {{ColumnType::uuid},    {ColumnType::timestamptz}, {ColumnType::text},
                               {ColumnType::numeric}, {ColumnType::int8},        {ColumnType::text},
                               {ColumnType::text},    {ColumnType::jsonb}};
  encode(state, CopyEncoder(columns, types));
}
BENCHMARK(encode_members_and_pointers);

}  // namespace
}  // namespace sluice::sink
