// The models of a chunk in memory, as lane groups, and the conversion from and to [models][values].
#pragma once
#include <string>
#include <vector>

#include "memory.h"
#include "plan.h"

namespace lanes {

// Hyperparameters, each [num_models].
struct Hyper {
  const uint32_t* seed;
  const double* learning_rate;
  const double* weight_decay;
  const double* momentum;
  const uint8_t* nesterov;
  const double* dropout_ratio;
};

// Models that share one vector register, and the memory that holds their state.
struct LaneGroup {
  const Kernels* kernels;
  int first, count;  // models [first, first + count)
  Memory memory;     // trained values [T][lanes] (weights, then log sigma^2), then each moment [T][lanes]
  Memory pruned;
  Group group;

  float* field(const Plan& plan, int field) const;
  int model(int lane) const { return first + (lane < count ? lane : count - 1); }  // spare lanes repeat the last model
};

// One chunk, used by one thread at a time; sessions share nothing.
class Session {
 public:
  Session(const Plan& plan, const std::string& isa, int num_models, const Hyper& hyper);
  Session(const Session&) = delete;

  // Values per model of a state field (Field): D weights, V log sigma^2, T of each moment.
  long field_size(int field) const;
  void put(int field, const float* values);      // values [num_models][field_size]
  void get(int field, float* values) const;      // the same
  void put_steps(const int64_t* steps);          // steps [num_models]
  void get_steps(int64_t* steps) const;          // the same
  void put_pruned(const uint8_t* pruned);        // pruned [num_models][D]: 1 where a weight stays zero
  void put_double(const double* values);         // values [num_models][T], for gradient checks
  // Image regression. rows [num_models]: the image that each model learns; coordinates [batch_size][in_size] of the
  // pixels.
  void put_images(const int64_t* rows, const float* coordinates);
  // Sets the training rows of each model, ascending. Without a call, every model trains on all rows of the data.
  // Throws std::invalid_argument if a model has no row.
  void put_rows(std::vector<std::vector<uint32_t>> rows);
  // Sets the labels of all rows with which each model trains. Without a call, models train with the data's labels.
  // Evaluations always use the data's labels.
  void put_labels(std::vector<std::vector<uint8_t>> labels) { labels_ = std::move(labels); }
  void spare_biases() { plan_.spares_biases = 1; }  // weight decay then leaves biases as they are

  // One epoch. active [num_models]; loss (sum over the samples) and correct [num_models] are written.
  void train_epoch(const Images& data, int epoch, double kl_weight, const uint8_t* active, double* loss,
                   int32_t* correct);
  // Sums over all rows of `data` in evaluation mode. Writes loss and correct [num_models], and class_correct and
  // class_predicted [num_models][num_classes]. With `own`, `data` is the training split, and each model is evaluated on
  // its own training rows.
  void evaluate(const Images& data, double* loss, int32_t* correct, int32_t* class_correct, int32_t* class_predicted,
                bool own = false);
  // Image regression. fit trains one epoch, errors computes the current errors. Both write loss [num_models]: the
  // squared error, averaged over the channels and summed over the pixels. fit also sums it over the steps.
  void fit(const Images& data, const uint8_t* active, double* loss);
  void errors(const Images& data, double* loss) const;
  // Writes loss [num_models] (sum over the batch) and gradient [num_models][T] (of the mean), without taking a step.
  void fit_gradient(const Images& data, double* loss, double* gradient) const;
  // Writes kl and pruned [num_models], and mask [num_models][V].
  void sparsity(double* kl, int32_t* pruned, uint8_t* mask);
  // Computes one batch with rows [num_models][num_rows]. Writes loss [num_models] and gradient [num_models][T].
  void gradient(const Images& data, const uint32_t* rows, int num_rows, int step, int epoch, double kl_weight,
                double* loss, double* gradient);

  // Bytes of state, and of the work space of training. Throws std::invalid_argument for an unavailable instruction set.
  static void memory(const Plan& plan, const std::string& isa, long num_models, long num_rows, size_t& state,
                     size_t& work);
  const Plan& plan() const { return plan_; }
  int num_models() const { return num_models_; }
  long num_images() const { return num_images_; }  // the number of images that put_images requires
  long num_labels() const { return labels_.empty() ? 0 : long(labels_[0].size()); }
  long largest_row() const;  // the largest row of put_rows; -1 without a call

 private:
  size_t scratch_bytes() const;  // the largest work space that a group needs
  LaneRows own_rows(const LaneGroup& group, const Images& data) const;
  Images with_coordinates(Images data) const;

  Plan plan_;
  int num_models_;
  long num_images_ = 0;
  std::vector<float> coordinates_;
  std::vector<LaneGroup> groups_;
  std::vector<std::vector<uint32_t>> rows_;   // empty: every model trains on all rows
  std::vector<std::vector<uint8_t>> labels_;  // empty: every model trains with the data's labels
};

}  // namespace lanes
