// One series of the table with its values, as prometheus-cpp's serialiser takes it.
#pragma once

#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "daemon/metrics_table.hpp"

namespace sluice::daemon {

struct MetricLabel {
  std::string_view name;
  std::string_view value;
};

// Name, type and help from the table, no values yet.
[[nodiscard]] prometheus::MetricFamily make_family(Metric metric);

// REQUIRES: the family is a counter or a gauge.
void add_value(prometheus::MetricFamily& family, double value,
               std::initializer_list<MetricLabel> labels = {});
void add_value(prometheus::MetricFamily& family, std::uint64_t value,
               std::initializer_list<MetricLabel> labels = {});

// A family of one value.
void add_counter(std::vector<prometheus::MetricFamily>& families, Metric metric,
                 const std::atomic<std::uint64_t>& counter);
void add_histogram(std::vector<prometheus::MetricFamily>& families, Metric metric,
                   const prometheus::Histogram& histogram);

}  // namespace sluice::daemon
