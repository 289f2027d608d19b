// Makes families of the table's rows.
#include "daemon/metric_family.hpp"

#include <utility>

namespace sluice::daemon {
namespace {

prometheus::MetricType type_of(MetricKind kind) {
  switch (kind) {
    case MetricKind::counter:
      return prometheus::MetricType::Counter;
    case MetricKind::gauge:
      return prometheus::MetricType::Gauge;
    case MetricKind::histogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

}  // namespace

prometheus::MetricFamily make_family(Metric metric) {
  const MetricInfo& info = metric_info(metric);
  prometheus::MetricFamily family;
  family.name = info.name;
  family.help = info.help;
  family.type = type_of(info.kind);
  return family;
}

void add_value(prometheus::MetricFamily& family, double value,
               std::initializer_list<MetricLabel> labels) {
  prometheus::ClientMetric metric;
  for (const MetricLabel& label : labels) {
    metric.label.push_back({std::string(label.name), std::string(label.value)});
  }
  if (family.type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(std::move(metric));
}

void add_value(prometheus::MetricFamily& family, std::uint64_t value,
               std::initializer_list<MetricLabel> labels) {
  add_value(family, static_cast<double>(value), labels);
}

void add_counter(std::vector<prometheus::MetricFamily>& families, Metric metric,
                 const std::atomic<std::uint64_t>& counter) {
  families.push_back(make_family(metric));
  add_value(families.back(), counter.load(std::memory_order_relaxed));
}

void add_histogram(std::vector<prometheus::MetricFamily>& families, Metric metric,
                   const prometheus::Histogram& histogram) {
  families.push_back(make_family(metric));
  families.back().metric.push_back(histogram.Collect());
}

}  // namespace sluice::daemon
