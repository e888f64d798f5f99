// A chunk of models in memory: lane groups, threads over them, and the conversion from and to [models][values].
#pragma once
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "plan.h"

namespace lanes {

// Layers as Python lists them: one row of four numbers each.
enum Layer : int { kLayerConv = 0, kLayerPool, kLayerActivation, kLayerDropout, kLayerFlatten, kLayerLinear };

Plan make_plan(const int32_t* layers, int num_layers, int channels, int image_size, int optimizer, int batch_size,
               bool dropout, bool variational);

// Kernels of this name; "" if this processor or build cannot run them. "auto" is the widest.
const Kernels* find_kernels(const std::string& isa);
std::vector<std::string> available();

struct Hyper {  // one value per model
  const uint32_t* seed;
  const double* learning_rate;
  const double* weight_decay;
  const double* momentum;
  const uint8_t* nesterov;
  const double* dropout_ratio;
};

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Memory = std::unique_ptr<void, Free>;

struct Part {  // one lane group
  const Kernels* kernels;
  int first, count;  // models
  Memory memory;     // weights (and log sigma^2), then the moments: [values][lanes] each
  Memory pruned;
  Group group;

  float* field(const Plan& plan, int field) const;
};

class Session {
 public:
  Session(const Plan& plan, const std::string& isa, int num_models, const Hyper& hyper);
  Session(const Session&) = delete;

  // Fields of the state: 0 weights, 1 log sigma^2, 2 and 3 moments.
  long field_size(int field) const;
  void put(int field, const float* values);
  void get(int field, float* values) const;
  void put_steps(const int64_t* steps);
  void get_steps(int64_t* steps) const;

  void train_epoch(const Images& data, int epoch, double kl_weight, const uint8_t* active, int threads, double* loss,
                   int32_t* correct);
  void evaluate(const Images& data, int threads, double* loss, int32_t* correct);
  void sparsity(double* kl, int32_t* pruned, uint8_t* mask);  // mask [models][V]
  void gradient(const Images& data, const uint32_t* rows, int num_rows, int step, int epoch, double kl_weight,
                double* loss, double* gradient);
  void put_pruned(const uint8_t* pruned);  // [models][D]: weights that are zero for good
  void put_double(const double* values);  // all trained values, for gradient checks

  // Bytes of state and, per thread, of work space.
  static void memory(const Plan& plan, const std::string& isa, long num_models, long num_rows, size_t& state,
                     size_t& per_thread);
  const Plan& plan() const { return plan_; }
  int num_models() const { return num_models_; }

 private:
  Plan plan_;
  int num_models_;
  std::vector<Part> parts_;
};

// Rules that give every value of ``table`` [channels][256] bit for bit; empty if there are none.
std::vector<PixelRule> pixel_rules(const float* table, int channels);

// Permutation of the training rows in an epoch: argsort of 64-bit words of the counter-based generator.
void batch_order(uint32_t seed, int epoch, long num_rows, uint32_t* order, uint64_t* scratch);

}  // namespace lanes
