#include "session.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <thread>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lanes {

namespace {

// Flush-to-zero and denormals-are-zero while kernels run on this thread.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t(1) << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

// On large pages where the system lends them: a group's working set has more small ones than the first level of address
// translation holds.
Memory allocate(size_t bytes) {
  constexpr size_t kLarge = size_t(1) << 21;
  const size_t alignment = bytes >= kLarge ? kLarge : 4096;
  void* p = nullptr;
  if (posix_memalign(&p, alignment, (bytes + 4095) / 4096 * 4096 + (bytes ? 0 : 4096))) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kLarge) madvise(p, bytes, MADV_HUGEPAGE);
#endif
  return Memory(p);
}

// Runs task(index, worker) for each index once, on at most `threads` threads.
template <class Task>
void run(long count, int threads, Task task) {
  const int workers = int(std::max(1L, std::min(long(threads), count)));
  std::atomic<long> next{0};
  const auto work = [&](int worker) {
    FlushDenormals flush;
    for (long i; (i = next.fetch_add(1)) < count;) task(i, worker);
  };
  std::vector<std::thread> others;
  for (int worker = 1; worker < workers; ++worker) others.emplace_back(work, worker);
  work(0);
  for (std::thread& t : others) t.join();
}

long tensor_size(const Op& op) {
  return op.kind == kConv ? long(op.out_c) * op.in_c * op.kernel * op.kernel : op.out_c * op.in_size();
}

}  // namespace

Plan make_plan(const int32_t* layers, int num_layers, int channels, int image_size, int optimizer, int batch_size,
               bool dropout, bool variational) {
  if (num_layers > kMaxOps) throw std::invalid_argument("more layers than the engine's tables hold");
  if (batch_size < 1 || batch_size > 65536) throw std::invalid_argument("batch size outside [1, 65536]");
  Plan plan{};
  plan.optimizer = optimizer, plan.batch_size = batch_size, plan.variational = variational;
  int c = channels, h = image_size, w = image_size, parametric = 0, dropouts = 0;
  for (int i = 0; i < num_layers; ++i) {
    const int32_t* layer = layers + 4 * i;
    Op op{};
    op.in_c = c, op.in_h = h, op.in_w = w, op.need_dx = parametric > 0;
    Op* last = plan.num_ops ? &plan.ops[plan.num_ops - 1] : nullptr;
    switch (layer[0]) {
      case kLayerConv:
        op.kind = kConv, op.kernel = layer[3];
        if (layer[1] != c || op.kernel < 1 || op.kernel > h || op.kernel > w) throw std::invalid_argument("convolution");
        c = layer[2], h = op.conv_h(), w = op.conv_w();
        break;
      case kLayerPool:
        if (h < 2 || w < 2) throw std::invalid_argument("pool");
        h /= 2, w /= 2;
        if (last && last->kind == kConv && !last->pooled) {
          last->pooled = 1, last->out_h = h, last->out_w = w;
          continue;
        }
        op.kind = kPool;
        break;
      case kLayerActivation: op.kind = kPoint, op.act = layer[1]; break;
      case kLayerDropout:
        op.dropout_layer = dropouts++;
        if (!dropout) continue;
        if (last && last->kind == kPoint && !last->dropout) {
          last->dropout = 1, last->dropout_layer = op.dropout_layer;
          continue;
        }
        op.kind = kPoint, op.dropout = 1;
        break;
      case kLayerFlatten: continue;
      case kLayerLinear:
        op.kind = kLinear;
        if (layer[1] != long(c) * h * w) throw std::invalid_argument("linear layer");
        c = layer[2], h = w = 1;
        break;
      default: throw std::invalid_argument("unknown layer");
    }
    op.out_c = c, op.out_h = h, op.out_w = w;
    if (op.kind == kConv || op.kind == kLinear) {
      op.ordinal = parametric++;
      op.weight = plan.num_params, op.bias = op.weight + tensor_size(op);
      plan.num_params = op.bias + op.out_c;
      op.weight_variance = plan.num_variances, op.bias_variance = -1;
      plan.num_variances += tensor_size(op);
      if (op.kind == kConv) op.bias_variance = plan.num_variances, plan.num_variances += op.out_c;
    }
    plan.ops[plan.num_ops++] = op;
  }
  if (!parametric || plan.ops[plan.num_ops - 1].kind != kLinear)
    throw std::invalid_argument("the last layer must be linear");
  plan.num_classes = c;
  if (!variational) plan.num_variances = 0;
  return plan;
}

const Kernels* find_kernels(const std::string& isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  const bool vec4 = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx");
  if ((isa == "avx512" || isa == "auto") && avx512) return kernels_avx512();
  if ((isa == "avx2" || isa == "auto") && avx2) return kernels_avx2();
#else
  const bool vec4 = true;
#endif
  if ((isa == "vec4" || isa == "auto") && vec4) return kernels_vec4();
  if (isa == "scalar" || isa == "auto") return kernels_scalar();
  if (isa == "double") return kernels_double();
  return nullptr;
}

std::vector<std::string> available() {
  std::vector<std::string> names;
  for (const char* isa : {"avx512", "avx2", "vec4", "scalar"})
    if (find_kernels(isa)) names.push_back(isa);
  return names;
}

void batch_order(uint32_t seed, int epoch, long num_rows, uint32_t* order, uint64_t* scratch) {
  uint64_t *from = scratch, *to = scratch + num_rows;
  std::vector<uint32_t> low(size_t(num_rows) + 1);
  for (long block = 0; block < (num_rows + 1) / 2; ++block) {
    uint32_t x0 = uint32_t(block), x1 = 0, x2 = uint32_t(epoch), x3 = 0, key0 = seed, key1 = kOrder;
    for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
      const uint64_t a = uint64_t(0xD2511F53u) * x0, b = uint64_t(0xCD9E8D57u) * x2;
      x0 = uint32_t(b >> 32) ^ x1 ^ key0, x1 = uint32_t(b);
      x2 = uint32_t(a >> 32) ^ x3 ^ key1, x3 = uint32_t(a);
    }
    low[size_t(2 * block)] = x0, from[2 * block] = uint64_t(x1) << 32 | uint64_t(2 * block);
    if (2 * block + 1 < num_rows) {
      low[size_t(2 * block) + 1] = x2;
      from[2 * block + 1] = uint64_t(x3) << 32 | uint64_t(2 * block + 1);
    }
  }
  for (const int shift : {32, 43, 54}) {  // radix sort by the words' upper halves
    const uint64_t mask = shift == 54 ? 1023 : 2047;
    std::vector<long> at(2049, 0);
    for (long i = 0; i < num_rows; ++i) ++at[size_t(from[i] >> shift & mask) + 1];
    for (size_t i = 1; i < at.size(); ++i) at[i] += at[i - 1];
    for (long i = 0; i < num_rows; ++i) to[at[size_t(from[i] >> shift & mask)]++] = from[i];
    std::swap(from, to);
  }
  for (long i = 0; i < num_rows;) {  // equal upper halves: by the lower ones, then by row
    long stop = i + 1;
    while (stop < num_rows && from[stop] >> 32 == from[i] >> 32) ++stop;
    if (stop - i > 1)
      std::stable_sort(from + i, from + stop,
                       [&](uint64_t a, uint64_t b) { return low[uint32_t(a)] < low[uint32_t(b)]; });
    i = stop;
  }
  for (long i = 0; i < num_rows; ++i) order[i] = uint32_t(from[i]);
}

namespace {

bool gives(const PixelRule& rule, const float* table) {
  const float r = 1.0f / 255.0f;
  for (int b = 0; b < 256; ++b) {
    const float byte = float(b), near = byte * r;
    const float unit = std::fmaf(std::fmaf(near, -255.0f, byte), r, near);
    const float d = unit - rule.mean, quotient = d * rule.reciprocal;
    if (std::fmaf(std::fmaf(quotient, -rule.deviation, d), rule.reciprocal, quotient) != table[b]) return false;
  }
  return true;
}

// The neighbour of x, `steps` floats up or down.
float neighbour(float x, int steps) {
  for (; steps > 0; --steps) x = std::nextafterf(x, INFINITY);
  for (; steps < 0; ++steps) x = std::nextafterf(x, -INFINITY);
  return x;
}

}  // namespace

std::vector<PixelRule> pixel_rules(const float* table, int channels) {
  FlushDenormals flush;  // as the kernels will compute it
  std::vector<PixelRule> rules;
  for (int c = 0; c < channels; ++c, table += 256) {
    const float deviation = float(1.0 / (double(table[255]) - double(table[0])));
    const float mean = float(-double(table[0]) / (double(table[255]) - double(table[0])));
    bool found = false;
    for (int i = 0; i < 33 && !found; ++i)
      for (int j = 0; j < 33 && !found; ++j) {
        PixelRule rule{neighbour(mean, i % 2 ? -(i + 1) / 2 : i / 2), neighbour(deviation, j % 2 ? -(j + 1) / 2 : j / 2),
                       0};
        rule.reciprocal = 1.0f / rule.deviation;
        if ((found = gives(rule, table))) rules.push_back(rule);
      }
    if (!found) return {};
  }
  return rules;
}

float* Part::field(const Plan& plan, int field) const {
  float* base = static_cast<float*>(memory.get());
  const long trained = plan.num_trained() * kernels->lanes;
  return field == 0   ? base
         : field == 1 ? base + plan.num_params * kernels->lanes
                      : base + (field - 1) * trained;
}

namespace {

int num_moments(const Plan& plan) { return plan.optimizer == kSgd ? 1 : 2; }

size_t part_bytes(const Plan& plan, const Kernels& kernels) {
  return size_t(plan.num_trained()) * size_t(1 + num_moments(plan)) * size_t(kernels.lanes) * kernels.value_bytes;
}

// The widest kernels, or for a last group that they would leave half empty, narrower ones: the numbers are the same.
const Kernels* kernels_for(const std::string& isa, long left) {
  const Kernels* widest = find_kernels(isa);
  if (isa == "auto")
    for (const char* narrower : {"vec4", "avx2"}) {
      const Kernels* found = find_kernels(narrower);
      if (found && found->lanes < widest->lanes && left <= found->lanes) return found;
    }
  return widest;
}

}  // namespace

Session::Session(const Plan& plan, const std::string& isa, int num_models, const Hyper& hyper)
    : plan_(plan), num_models_(num_models) {
  if (!find_kernels(isa)) throw std::invalid_argument("instruction set " + isa + " is not available here");
  for (int first = 0; first < num_models;) {
    Part part{};
    part.kernels = kernels_for(isa, num_models - first);
    part.first = first, part.count = std::min(part.kernels->lanes, num_models - first);
    const size_t bytes = part_bytes(plan, *part.kernels);
    part.memory = allocate(bytes);
    std::memset(part.memory.get(), 0, bytes);
    Group& group = part.group;
    char* base = static_cast<char*>(part.memory.get());
    const size_t stride = bytes / size_t(1 + num_moments(plan));
    group.params = base, group.moment1 = base + stride;
    group.moment2 = num_moments(plan) == 2 ? base + 2 * stride : nullptr;
    for (int lane = 0; lane < part.kernels->lanes; ++lane) {
      const int model = first + std::min(lane, part.count - 1);
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
    first += part.count;
    parts_.push_back(std::move(part));
  }
}

long Session::field_size(int field) const {
  return field == 0 ? plan_.num_params : field == 1 ? plan_.num_variances : plan_.num_trained();
}

void Session::put(int field, const float* values) {
  const long size = field_size(field);
  for (const Part& part : parts_) {
    float* to = part.field(plan_, field);
    const int lanes = part.kernels->lanes;
    for (int lane = 0; lane < lanes; ++lane) {  // spare lanes repeat the last model
      const float* from = values + (part.first + std::min(lane, part.count - 1)) * size;
      for (long i = 0; i < size; ++i) to[i * lanes + lane] = from[i];
    }
  }
}

void Session::get(int field, float* values) const {
  const long size = field_size(field);
  for (const Part& part : parts_) {
    const float* from = part.field(plan_, field);
    const int lanes = part.kernels->lanes;
    for (int lane = 0; lane < part.count; ++lane) {
      float* to = values + (part.first + lane) * size;
      for (long i = 0; i < size; ++i) {
        const float value = from[i * lanes + lane];
        to[i] = value == value ? value : std::nanf("");  // one NaN: which one a sum keeps depends on the compiler
      }
    }
  }
}

void Session::put_steps(const int64_t* steps) {
  for (Part& part : parts_)
    for (int lane = 0; lane < part.kernels->lanes; ++lane)
      part.group.step[lane] = steps[part.first + std::min(lane, part.count - 1)];
}

void Session::get_steps(int64_t* steps) const {
  for (const Part& part : parts_)
    for (int lane = 0; lane < part.count; ++lane) steps[part.first + lane] = part.group.step[lane];
}

void Session::train_epoch(const Images& data, int epoch, double kl_weight, const uint8_t* active, int threads,
                          double* loss, int32_t* correct) {
  struct Work {
    Memory scratch, order, sort;
  };
  std::vector<Work> work(size_t(std::max(1, std::min(threads, int(parts_.size())))));
  size_t scratch = 0;
  int lanes = 1;
  for (const Part& part : parts_) {
    scratch = std::max(scratch, part.kernels->scratch_bytes(plan_));
    lanes = std::max(lanes, part.kernels->lanes);
  }
  for (Work& w : work) {
    w.scratch = allocate(scratch);
    w.order = allocate(size_t(data.num_rows) * size_t(lanes) * sizeof(uint32_t));
    w.sort = allocate(size_t(data.num_rows) * 2 * sizeof(uint64_t));
  }
  run(long(parts_.size()), int(work.size()), [&](long index, int worker) {
    Part& part = parts_[size_t(index)];
    if (std::none_of(active + part.first, active + part.first + part.count, [](uint8_t a) { return a != 0; })) {
      for (int i = part.first; i < part.first + part.count; ++i) loss[i] = 0, correct[i] = 0;
      return;
    }
    Work& w = work[size_t(worker)];
    uint32_t* base = static_cast<uint32_t*>(w.order.get());
    const uint32_t* order[kMaxLanes];
    for (int lane = 0; lane < part.kernels->lanes; ++lane) {
      order[lane] = base + std::min(lane, part.count - 1) * data.num_rows;
      if (lane < part.count)
        batch_order(part.group.seed[lane], epoch, data.num_rows, base + lane * data.num_rows,
                    static_cast<uint64_t*>(w.sort.get()));
    }
    double group_loss[kMaxLanes];
    int32_t group_correct[kMaxLanes];
    part.kernels->train(plan_, part.group, data, order, epoch, kl_weight, w.scratch.get(), group_loss, group_correct);
    std::copy_n(group_loss, part.count, loss + part.first);
    std::copy_n(group_correct, part.count, correct + part.first);
  });
}

void Session::evaluate(const Images& data, int threads, double* loss, int32_t* correct) {
  constexpr long kBlock = 256;  // images of one task; partial sums are added in block order, whoever computed them
  const long blocks = (data.num_rows + kBlock - 1) / kBlock, tasks = blocks * long(parts_.size());
  const int workers = int(std::max(1L, std::min(long(threads), tasks)));
  size_t bytes = 0;
  for (const Part& part : parts_) bytes = std::max(bytes, part.kernels->scratch_bytes(plan_));
  std::vector<Memory> scratch, masked;
  for (int i = 0; i < workers; ++i) scratch.push_back(allocate(bytes));
  std::vector<const void*> params;
  for (const Part& part : parts_) {
    if (!plan_.variational) {
      params.push_back(part.memory.get());
      continue;
    }
    FlushDenormals flush;
    masked.push_back(allocate(size_t(plan_.num_params) * size_t(part.kernels->lanes) * part.kernels->value_bytes));
    part.kernels->masked(plan_, part.memory.get(), masked.back().get());
    params.push_back(masked.back().get());
  }
  std::vector<double> losses(size_t(tasks) * kMaxLanes);
  std::vector<int32_t> hits(size_t(tasks) * kMaxLanes);
  run(tasks, workers, [&](long task, int worker) {
    const size_t index = size_t(task / blocks);
    const long start = task % blocks * kBlock, stop = std::min(start + kBlock, data.num_rows);
    parts_[index].kernels->evaluate(plan_, params[index], data, start, stop, scratch[size_t(worker)].get(),
                                    &losses[size_t(task) * kMaxLanes], &hits[size_t(task) * kMaxLanes]);
  });
  for (size_t index = 0; index < parts_.size(); ++index)
    for (int lane = 0; lane < parts_[index].count; ++lane) {
      double sum = 0;
      int32_t count = 0;
      for (long block = 0; block < blocks; ++block) {
        const size_t at = (index * size_t(blocks) + size_t(block)) * kMaxLanes + size_t(lane);
        sum += losses[at], count += hits[at];
      }
      loss[parts_[index].first + lane] = sum, correct[parts_[index].first + lane] = count;
    }
}

void Session::sparsity(double* kl, int32_t* pruned, uint8_t* mask) {
  FlushDenormals flush;
  for (const Part& part : parts_) {
    double group_kl[kMaxLanes];
    int32_t group_pruned[kMaxLanes];
    std::vector<uint8_t> group_mask(size_t(plan_.num_variances) * size_t(part.kernels->lanes));
    part.kernels->sparsity(plan_, part.memory.get(), group_kl, group_pruned, group_mask.data());
    for (int lane = 0; lane < part.count; ++lane)
      for (long i = 0; i < plan_.num_variances; ++i)
        mask[(part.first + lane) * plan_.num_variances + i] = group_mask[size_t(i * part.kernels->lanes + lane)];
    std::copy_n(group_kl, part.count, kl + part.first);
    std::copy_n(group_pruned, part.count, pruned + part.first);
  }
}

void Session::put_pruned(const uint8_t* pruned) {
  for (Part& part : parts_) {
    const int lanes = part.kernels->lanes;
    part.pruned = allocate(size_t(plan_.num_params) * size_t(lanes) * sizeof(uint32_t));
    uint32_t* to = static_cast<uint32_t*>(part.pruned.get());
    for (int lane = 0; lane < lanes; ++lane) {
      const uint8_t* from = pruned + (part.first + std::min(lane, part.count - 1)) * plan_.num_params;
      for (long i = 0; i < plan_.num_params; ++i) to[i * lanes + lane] = from[i] != 0;
    }
    part.group.pruned = to;
  }
}

void Session::put_double(const double* values) {
  const long size = plan_.num_trained();
  for (const Part& part : parts_)
    std::copy_n(values + part.first * size, size, static_cast<double*>(part.memory.get()));
}

void Session::gradient(const Images& data, const uint32_t* rows, int num_rows, int step, int epoch, double kl_weight,
                       double* loss, double* gradient) {
  const long size = plan_.num_trained();
  for (const Part& part : parts_) {
    const Kernels& kernels = *part.kernels;
    FlushDenormals flush;
    const Memory scratch = allocate(kernels.scratch_bytes(plan_));
    const Memory out = allocate(size_t(size) * size_t(kernels.lanes) * kernels.value_bytes);
    const uint32_t* row[kMaxLanes];
    for (int lane = 0; lane < kernels.lanes; ++lane)
      row[lane] = rows + long(part.first + std::min(lane, part.count - 1)) * num_rows;
    double group_loss[kMaxLanes];
    kernels.gradient(plan_, part.group, data, row, num_rows, step, epoch, kl_weight, scratch.get(), group_loss,
                     out.get());
    for (int lane = 0; lane < part.count; ++lane) {
      loss[part.first + lane] = group_loss[lane];
      for (long i = 0; i < size; ++i) {
        const long at = i * kernels.lanes + lane;
        gradient[(part.first + lane) * size + i] = kernels.value_bytes == 8
                                                       ? static_cast<const double*>(out.get())[at]
                                                       : double(static_cast<const float*>(out.get())[at]);
      }
    }
  }
}

void Session::memory(const Plan& plan, const std::string& isa, long num_models, long num_rows, size_t& state,
                     size_t& per_thread) {
  state = per_thread = 0;
  for (long first = 0; first < num_models;) {
    const Kernels& kernels = *kernels_for(isa, num_models - first);
    state += (part_bytes(plan, kernels) + 4095) / 4096 * 4096;
    per_thread = std::max(per_thread, kernels.scratch_bytes(plan) +
                                          size_t(num_rows) * (size_t(kernels.lanes) * 4 + 2 * 8 + 4));
    first += kernels.lanes;
  }
}

}  // namespace lanes
