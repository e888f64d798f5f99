#include "session.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "batch_order.h"
#include "instruction_sets.h"

namespace lanes {

float* LaneGroup::field(const Plan& plan, int field) const {
  float* base = static_cast<float*>(memory.get());
  const long trained = plan.num_trained() * kernels->lanes;
  switch (field) {
    case kWeights: return base;
    case kLogSigma2: return base + plan.num_params * kernels->lanes;
    default: return base + (1 + field - kMoment1) * trained;
  }
}

namespace {

int num_moments(const Plan& plan) { return plan.optimizer == kSgd ? 1 : 2; }

size_t group_bytes(const Plan& plan, const Kernels& kernels) {
  return size_t(plan.num_trained()) * size_t(1 + num_moments(plan)) * size_t(kernels.lanes) * kernels.value_bytes;
}

}  // namespace

Session::Session(const Plan& plan, const std::string& isa, int num_models, const Hyper& hyper)
    : plan_(plan), num_models_(num_models) {
  for (int first = 0; first < num_models;) {
    LaneGroup lane_group{};
    lane_group.kernels = &kernels_for(isa, num_models - first);
    lane_group.first = first, lane_group.count = std::min(lane_group.kernels->lanes, num_models - first);
    const size_t bytes = group_bytes(plan, *lane_group.kernels);
    lane_group.memory = allocate(bytes);
    std::memset(lane_group.memory.get(), 0, bytes);
    Group& group = lane_group.group;
    char* base = static_cast<char*>(lane_group.memory.get());
    const size_t stride = bytes / size_t(1 + num_moments(plan));
    group.params = base, group.moment1 = base + stride;
    group.moment2 = num_moments(plan) == 2 ? base + 2 * stride : nullptr;
    for (int lane = 0; lane < lane_group.kernels->lanes; ++lane) {
      const int model = lane_group.model(lane);
      group.seed[lane] = hyper.seed[model];
      group.learning_rate[lane] = hyper.learning_rate[model];
      group.weight_decay[lane] = hyper.weight_decay[model];
      group.momentum[lane] = hyper.momentum[model];
      group.nesterov[lane] = hyper.nesterov[model] != 0;
      const double ratio = hyper.dropout_ratio[model];
      if (!(ratio >= 0 && ratio < 1)) throw std::invalid_argument("a dropout ratio is outside [0, 1)");
      group.drop_threshold[lane] = uint32_t(std::floor(ratio * 4294967296.0));
      group.drop_scale[lane] = 1.0 / (1.0 - ratio);
    }
    first += lane_group.count;
    groups_.push_back(std::move(lane_group));
  }
}

long Session::field_size(int field) const {
  return field == kWeights ? plan_.num_params : field == kLogSigma2 ? plan_.num_variances : plan_.num_trained();
}

void Session::put(int field, const float* values) {
  const long size = field_size(field);
  for (const LaneGroup& lane_group : groups_) {
    float* to = lane_group.field(plan_, field);
    const int lanes = lane_group.kernels->lanes;
    for (int lane = 0; lane < lanes; ++lane) {
      const float* from = values + lane_group.model(lane) * size;
      for (long i = 0; i < size; ++i) to[i * lanes + lane] = from[i];
    }
  }
}

void Session::get(int field, float* values) const {
  const long size = field_size(field);
  for (const LaneGroup& lane_group : groups_) {
    const float* from = lane_group.field(plan_, field);
    const int lanes = lane_group.kernels->lanes;
    for (int lane = 0; lane < lane_group.count; ++lane) {
      float* to = values + (lane_group.first + lane) * size;
      for (long i = 0; i < size; ++i) {
        const float value = from[i * lanes + lane];
        // Every NaN becomes the same NaN, because it depends on the compiler which of two NaNs a sum keeps.
        to[i] = value == value ? value : std::nanf("");
      }
    }
  }
}

void Session::put_steps(const int64_t* steps) {
  for (LaneGroup& lane_group : groups_)
    for (int lane = 0; lane < lane_group.kernels->lanes; ++lane)
      lane_group.group.step[lane] = steps[lane_group.model(lane)];
}

void Session::get_steps(int64_t* steps) const {
  for (const LaneGroup& lane_group : groups_)
    for (int lane = 0; lane < lane_group.count; ++lane) steps[lane_group.first + lane] = lane_group.group.step[lane];
}

size_t Session::scratch_bytes() const {
  size_t bytes = 0;
  for (const LaneGroup& group : groups_) bytes = std::max(bytes, group.kernels->scratch_bytes(plan_));
  return bytes;
}

void Session::train_epoch(const Images& data, int epoch, double kl_weight, const uint8_t* active, double* loss,
                          int32_t* correct) {
  FlushDenormals flush;
  const Memory scratch = allocate(scratch_bytes());
  const Memory orders = allocate(size_t(data.num_rows) * kMaxLanes * sizeof(uint32_t));
  const Memory sorting = allocate(size_t(data.num_rows) * 2 * sizeof(uint64_t));
  uint32_t* order_of_lane = static_cast<uint32_t*>(orders.get());  // [lanes][num_rows]
  // The first group is the widest, so no other group needs more.
  const size_t aside_bytes = groups_.empty() ? 0 : groups_[0].kernels->aside_bytes(plan_);
  const Memory aside = rows_.empty() ? Memory() : allocate(aside_bytes);
  for (LaneGroup& group : groups_) {
    const int first = group.first, count = group.count;
    if (std::none_of(active + first, active + first + count, [](uint8_t a) { return a != 0; })) {
      std::fill_n(loss + first, count, 0), std::fill_n(correct + first, count, 0);
      continue;
    }
    LaneRows rows = own_rows(group, data);
    for (int lane = 0; lane < group.kernels->lanes; ++lane) {
      uint32_t* order = order_of_lane + std::min(lane, count - 1) * data.num_rows;
      if (!labels_.empty()) rows.labels[lane] = labels_[size_t(group.model(lane))].data();
      if (lane < count) {
        batch_order(group.group.seed[lane], epoch, rows.count[lane], order, static_cast<uint64_t*>(sorting.get()));
        for (long i = 0; i < rows.count[lane] && !rows_.empty(); ++i) order[i] = rows.rows[lane][order[i]];
      }
      rows.rows[lane] = order;
    }
    rows.aside = aside.get();
    double group_loss[kMaxLanes];
    int32_t group_correct[kMaxLanes];
    group.kernels->train(plan_, group.group, data, rows, epoch, kl_weight, scratch.get(), group_loss, group_correct);
    std::copy_n(group_loss, count, loss + first);
    std::copy_n(group_correct, count, correct + first);
  }
}

void Session::put_rows(std::vector<std::vector<uint32_t>> rows) {
  for (const std::vector<uint32_t>& of_model : rows)
    if (of_model.empty()) throw std::invalid_argument("a model has no training rows");
  rows_ = std::move(rows);
}

long Session::largest_row() const {
  long largest = -1;
  for (const std::vector<uint32_t>& own : rows_) largest = std::max(largest, long(own.back()));  // the rows ascend
  return largest;
}

// If models have no rows of their own, member `rows` of the result stays null.
LaneRows Session::own_rows(const LaneGroup& group, const Images& data) const {
  LaneRows rows{};
  rows.equal = true;
  for (int lane = 0; lane < group.kernels->lanes; ++lane) {
    rows.labels[lane] = data.labels, rows.count[lane] = data.num_rows;
    if (rows_.empty()) continue;
    const std::vector<uint32_t>& own = rows_[size_t(group.model(lane))];
    rows.rows[lane] = own.data(), rows.count[lane] = long(own.size());
    rows.equal = rows.equal && rows.count[lane] == rows.count[0];
  }
  return rows;
}

void Session::evaluate(const Images& data, double* loss, int32_t* correct, int32_t* class_correct,
                       int32_t* class_predicted, bool own) {
  // The losses of so many images are summed before the sum is added to the total. The number decides the rounding, so
  // it is fixed.
  constexpr long kBlock = 256;
  FlushDenormals flush;
  const Memory scratch = allocate(scratch_bytes());
  for (const LaneGroup& group : groups_) {
    const int lanes = group.kernels->lanes;
    const void* params = group.memory.get();
    Memory masked;
    if (plan_.variational) {
      masked = allocate(size_t(plan_.num_params) * size_t(lanes) * group.kernels->value_bytes);
      group.kernels->masked(plan_, params, masked.get());
      params = masked.get();
    }
    std::fill_n(loss + group.first, group.count, 0), std::fill_n(correct + group.first, group.count, 0);
    std::vector<int32_t> right(size_t(lanes) * size_t(plan_.num_classes)), predicted(right.size());
    const ClassCounts counts{right.data(), predicted.data()};
    const bool subsets = own && !rows_.empty();
    const LaneRows rows = own_rows(group, data);
    const long num_rows = subsets ? rows.most(lanes) : data.num_rows;
    for (long start = 0; start < num_rows; start += kBlock) {
      double block_loss[kMaxLanes];
      int32_t block_correct[kMaxLanes];
      group.kernels->evaluate(plan_, params, data, subsets ? &rows : nullptr, start, std::min(start + kBlock, num_rows),
                              scratch.get(), block_loss, block_correct, counts);
      for (int lane = 0; lane < group.count; ++lane)
        loss[group.first + lane] += block_loss[lane], correct[group.first + lane] += block_correct[lane];
    }
    const long first = long(group.first) * plan_.num_classes, size = long(group.count) * plan_.num_classes;
    std::copy_n(right.data(), size, class_correct + first);
    std::copy_n(predicted.data(), size, class_predicted + first);
  }
}

void Session::sparsity(double* kl, int32_t* pruned, uint8_t* mask) {
  FlushDenormals flush;
  for (const LaneGroup& lane_group : groups_) {
    double group_kl[kMaxLanes];
    int32_t group_pruned[kMaxLanes];
    std::vector<uint8_t> group_mask(size_t(plan_.num_variances) * size_t(lane_group.kernels->lanes));
    lane_group.kernels->sparsity(plan_, lane_group.memory.get(), group_kl, group_pruned, group_mask.data());
    for (int lane = 0; lane < lane_group.count; ++lane)
      for (long i = 0; i < plan_.num_variances; ++i)
        mask[(lane_group.first + lane) * plan_.num_variances + i] =
            group_mask[size_t(i * lane_group.kernels->lanes + lane)];
    std::copy_n(group_kl, lane_group.count, kl + lane_group.first);
    std::copy_n(group_pruned, lane_group.count, pruned + lane_group.first);
  }
}

void Session::put_pruned(const uint8_t* pruned) {
  for (LaneGroup& lane_group : groups_) {
    const int lanes = lane_group.kernels->lanes;
    lane_group.pruned = allocate(size_t(plan_.num_params) * size_t(lanes) * sizeof(uint32_t));
    uint32_t* to = static_cast<uint32_t*>(lane_group.pruned.get());
    for (int lane = 0; lane < lanes; ++lane) {
      const uint8_t* from = pruned + lane_group.model(lane) * plan_.num_params;
      for (long i = 0; i < plan_.num_params; ++i) to[i * lanes + lane] = from[i] != 0;
    }
    lane_group.group.pruned = to;
  }
}

void Session::put_images(const int64_t* rows, const float* coordinates) {
  if (!plan_.steps) throw std::invalid_argument("only image regression learns images");
  if (*std::min_element(rows, rows + num_models_) < 0) throw std::invalid_argument("the row of an image is negative");
  num_images_ = *std::max_element(rows, rows + num_models_) + 1;
  coordinates_.assign(coordinates, coordinates + plan_.batch_size * plan_.in_size());
  for (LaneGroup& lane_group : groups_)
    for (int lane = 0; lane < lane_group.kernels->lanes; ++lane)
      lane_group.group.image[lane] = uint32_t(rows[lane_group.model(lane)]);
}

Images Session::with_coordinates(Images data) const {
  if (coordinates_.empty()) throw std::invalid_argument("no images to learn");
  data.coordinates = coordinates_.data();
  return data;
}

void Session::fit(const Images& data, const uint8_t* active, double* loss) {
  const Images images = with_coordinates(data);
  FlushDenormals flush;
  const Memory scratch = allocate(scratch_bytes());
  for (LaneGroup& group : groups_) {
    double group_loss[kMaxLanes] = {};
    if (std::any_of(active + group.first, active + group.first + group.count, [](uint8_t a) { return a != 0; }))
      group.kernels->fit(plan_, group.group, images, scratch.get(), group_loss);
    std::copy_n(group_loss, group.count, loss + group.first);
  }
}

void Session::errors(const Images& data, double* loss) const {
  const Images images = with_coordinates(data);
  FlushDenormals flush;
  const Memory scratch = allocate(scratch_bytes());
  for (const LaneGroup& group : groups_) {
    double group_loss[kMaxLanes];
    group.kernels->errors(plan_, group.group, images, scratch.get(), group_loss);
    std::copy_n(group_loss, group.count, loss + group.first);
  }
}

void Session::put_double(const double* values) {
  const long size = plan_.num_trained();
  for (const LaneGroup& lane_group : groups_)
    std::copy_n(values + lane_group.first * size, size, static_cast<double*>(lane_group.memory.get()));
}

namespace {

// Copies the lanes of a gradient [T][lanes] to the rows of `to`, which is [num_models][T].
void unpack_gradient(const LaneGroup& group, long size, const void* from, double* to) {
  const int lanes = group.kernels->lanes;
  for (int lane = 0; lane < group.count; ++lane)
    for (long i = 0; i < size; ++i) {
      const long at = i * lanes + lane;
      to[(group.first + lane) * size + i] = group.kernels->value_bytes == 8 ? static_cast<const double*>(from)[at]
                                                                          : double(static_cast<const float*>(from)[at]);
    }
}

}  // namespace

void Session::fit_gradient(const Images& data, double* loss, double* gradient) const {
  const Images images = with_coordinates(data);
  FlushDenormals flush;
  const Memory scratch = allocate(scratch_bytes());
  for (const LaneGroup& group : groups_) {
    const Memory out = allocate(size_t(plan_.num_params) * size_t(group.kernels->lanes) * group.kernels->value_bytes);
    double group_loss[kMaxLanes];
    group.kernels->fit_gradient(plan_, group.group, images, scratch.get(), group_loss, out.get());
    std::copy_n(group_loss, group.count, loss + group.first);
    unpack_gradient(group, plan_.num_params, out.get(), gradient);
  }
}

void Session::gradient(const Images& data, const uint32_t* rows, int num_rows, int step, int epoch, double kl_weight,
                       double* loss, double* gradient) {
  const long size = plan_.num_trained();
  for (const LaneGroup& lane_group : groups_) {
    const Kernels& kernels = *lane_group.kernels;
    FlushDenormals flush;
    const Memory scratch = allocate(kernels.scratch_bytes(plan_));
    const Memory out = allocate(size_t(size) * size_t(kernels.lanes) * kernels.value_bytes);
    const uint32_t* row[kMaxLanes];
    for (int lane = 0; lane < kernels.lanes; ++lane)
      row[lane] = rows + long(lane_group.model(lane)) * num_rows;
    double group_loss[kMaxLanes];
    kernels.gradient(plan_, lane_group.group, data, row, num_rows, step, epoch, kl_weight, scratch.get(), group_loss,
                     out.get());
    std::copy_n(group_loss, lane_group.count, loss + lane_group.first);
    unpack_gradient(lane_group, size, out.get(), gradient);
  }
}

void Session::memory(const Plan& plan, const std::string& isa, long num_models, long num_rows, size_t& state,
                     size_t& work) {
  state = work = 0;
  for (long first = 0; first < num_models;) {
    const Kernels& kernels = kernels_for(isa, num_models - first);
    state += (group_bytes(plan, kernels) + 4095) / 4096 * 4096;
    work = std::max(work, kernels.scratch_bytes(plan) + size_t(num_rows) * (size_t(kernels.lanes) * 4 + 2 * 8 + 4));
    first += kernels.lanes;
  }
}

}  // namespace lanes
