// The arguments of the kernels of every instruction set. They are plain data without containers. So no code that was
// compiled for a wide instruction set is linked into code that runs on a narrow one.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lanes {

constexpr int kMaxOps = 64;
constexpr int kMaxLanes = 16;

// Tables that Python shares. The enumerators here and the names that binding.cpp exports come from one list.
#define LANES_LAYERS(X) \
  X(kLayerConv, "conv") X(kLayerMaxPool, "max_pool") X(kLayerAvgPool, "avg_pool") X(kLayerActivation, "activation") \
  X(kLayerDropout, "dropout") X(kLayerFlatten, "flatten") X(kLayerLinear, "linear") X(kLayerAdd, "add") \
  X(kLayerSquaredError, "squared_error")
#define LANES_ACTIVATIONS(X) \
  X(kIdentity, "identity") X(kLeakyRelu, "leaky_relu") X(kRelu, "relu") X(kTanh, "tanh") X(kSigmoid, "sigmoid") \
  X(kSilu, "silu") X(kGelu, "gelu") X(kSine, "sine")
#define LANES_OPTIMIZERS(X) X(kSgd, "sgd") X(kAdam, "adam") X(kRmsprop, "rmsprop") X(kAdamw, "adamw")
#define LANES_FIELDS(X) \
  X(kWeights, "weights") X(kLogSigma2, "log_sigma2") X(kMoment1, "moment1") X(kMoment2, "moment2")

#define LANES_ENUMERATOR(enumerator, name) enumerator,
enum Layer : int { LANES_LAYERS(LANES_ENUMERATOR) };          // rows of the layer list
enum Activation : int { LANES_ACTIVATIONS(LANES_ENUMERATOR) };
enum Optimizer : int { LANES_OPTIMIZERS(LANES_ENUMERATOR) };
enum Field : int { LANES_FIELDS(LANES_ENUMERATOR) };          // arrays of a model's state
#undef LANES_ENUMERATOR

// Operations to which the layers are translated. kPool is the maximum of 2 x 2 values.
enum Kind : int { kConv, kPool, kPoint, kLinear, kMaxPool, kAvgPool, kAdd };
enum Purpose : uint32_t { kOrder = 1, kDropout = 2, kNoise = 3 };  // key words of the counter-based generator

// One operation. A convolution includes a 2 x 2 pool that directly follows it, and an activation includes a dropout
// that directly follows it, unless a residual sum reads the values between the two. Offsets count values of one model
// in the published layout.
struct Op {
  int kind;
  int in_c, in_h, in_w;
  int out_c, out_h, out_w;  // after the pool
  int kernel;         // side of a convolution's kernel or a pool's window
  int stride, padding;
  int pooled;
  int act;
  float omega;        // factor of the argument of kSine
  int dropout;        // 1: drops values
  int dropout_layer;  // index among the dropout layers of the list
  int ordinal;        // index among the parametric layers
  int need_dx;        // a parametric layer lies before this one
  int source;         // of kAdd: the operation whose output is added; -1: the images
  int kept;           // a residual sum reads the output
  int last_add;       // the last operation that adds the output; 0: none
  long weight, bias;
  long weight_variance, bias_variance;  // in the log sigma^2 vector; bias_variance < 0: none

  bool plain() const { return stride == 1 && padding == 0; }
  int conv_h() const { return (in_h + 2 * padding - kernel) / stride + 1; }  // of a convolution, before the pool
  int conv_w() const { return (in_w + 2 * padding - kernel) / stride + 1; }
  long in_size() const { return long(in_c) * in_h * in_w; }
  long out_size() const { return long(out_c) * out_h * out_w; }
};

struct Plan {
  Op ops[kMaxOps];
  int num_ops;
  int num_classes;
  int optimizer;
  int batch_size;
  int variational;
  int steps;           // image regression: steps of an epoch (a batch is all pixels of an image); 0: classification
  int spares_biases;   // weight decay leaves biases as they are
  int input_kept;      // a residual sum reads the images
  long num_params;     // D
  long num_variances;  // V, 0 unless variational
  long num_trained() const { return num_params + num_variances; }
  long in_size() const { return ops[0].in_size(); }
};

constexpr int kColumnsOfLayer = 6;

// Makes the plan of a layer list. Each row of `layers` [num_layers][kColumnsOfLayer] is a Layer and its arguments: conv
// (in channels, out channels, kernel, stride, padding), pools (kernel, stride), activation (Activation, bits of float32
// omega), linear (in features, out features), add (index of the layer that is added). A list for image regression ends
// with squared_error (steps of an epoch); its other layers are linear, activations and sums.
// Throws std::invalid_argument if the layers do not fit each other, the images or the tables.
Plan make_plan(const int32_t* layers, int num_layers, int channels, int image_size, int optimizer, int batch_size,
               bool dropout, bool variational);

// One lane group: state [T][lanes], hyperparameters per lane.
struct Group {
  void* params;
  void* moment1;
  void* moment2;
  const uint32_t* pruned;  // [D][lanes], 1 where a weight stays zero; null if no weight is pruned
  uint32_t seed[kMaxLanes];
  double learning_rate[kMaxLanes];
  double weight_decay[kMaxLanes];
  double momentum[kMaxLanes];
  uint32_t nesterov[kMaxLanes];
  uint32_t drop_threshold[kMaxLanes];
  double drop_scale[kMaxLanes];
  int64_t step[kMaxLanes];
  uint32_t image[kMaxLanes];  // image regression: the row of the image that a lane learns
};

// Computes a channel's pixel values with the same bits as the table: ((byte / 255) - mean) / deviation. Each division
// is a multiplication by the rounded reciprocal and one correction.
struct PixelRule {
  float mean, deviation, reciprocal;
};

struct Images {
  const uint8_t* images;  // [num_rows][in_size]; image regression: [num_rows][num_classes][batch_size]
  const uint8_t* labels;
  const float* table;      // [channels][256]
  const PixelRule* rules;  // [channels]; null if no rule gives the bits of the table
  long num_rows;
  const float* coordinates = nullptr;  // image regression: [batch_size][in_size]
};

// The rows of the data that each lane trains on or is evaluated on.
struct LaneRows {
  const uint32_t* rows[kMaxLanes];  // [count], in the order of the epoch or ascending
  const uint8_t* labels[kMaxLanes];  // of all rows of the data
  long count[kMaxLanes];
  bool equal;   // all counts are the same
  void* aside;  // aside_bytes() of memory for lanes that finish before others; null if all counts are the same

  long most(int lanes) const {
    long most = 0;
    for (int i = 0; i < lanes; ++i)
      if (count[i] > most) most = count[i];
    return most;
  }
};

// Counts of the predictions of an evaluation, each [lanes][num_classes]: the correct ones by class, and all by
// predicted class.
struct ClassCounts {
  int32_t* correct;
  int32_t* predicted;
};

struct Kernels {
  const char* name;
  int lanes;
  size_t value_bytes;
  size_t (*scratch_bytes)(const Plan&);
  size_t (*aside_bytes)(const Plan&);
  // Trains every lane once on each of its rows. A lane that has fewer rows than others does not change after its last.
  void (*train)(const Plan&, Group&, const Images&, const LaneRows&, int epoch, double kl_weight, void* scratch,
                double* loss, int32_t* correct);
  // Computes loss (with the KL term) and gradient [T][lanes] of one batch, without taking a step.
  void (*gradient)(const Plan&, const Group&, const Images&, const uint32_t* const* rows, int num_rows, int step,
                   int epoch, double kl_weight, void* scratch, double* loss, void* gradient);
  // Computes the parameters for an evaluation. Those of twins are masked.
  void (*masked)(const Plan&, const void* trained, void* params);
  // Evaluates rows [start, stop) of the data, or of each lane's own rows if `own` is not null. Writes loss and correct
  // [lanes], and adds to the counts by class.
  void (*evaluate)(const Plan&, const void* params, const Images&, const LaneRows* own, long start, long stop,
                   void* scratch, double* loss, int32_t* correct, const ClassCounts&);
  // Computes the KL term, the number of pruned weights (without biases) and the mask of pruned values, [V][lanes].
  void (*sparsity)(const Plan&, const void* trained, double* kl, int32_t* pruned, uint8_t* mask);
  // For tests. noise writes n Gaussians of one layer and sample. function applies one of functions.h to n values.
  void (*noise)(uint32_t seed, uint32_t step, uint32_t epoch, int layer, uint32_t sample, long n, float* out);
  void (*function)(const char* name, const float* x, float* y, long n);
  double (*peak)(double seconds);  // multiply-adds per second of one thread, in independent chains
  // Image regression. fit trains one epoch, errors computes the current errors, fit_gradient computes loss and
  // gradient of one batch without taking a step. loss [lanes]: the squared error, averaged over channels, summed over
  // pixels and steps.
  void (*fit)(const Plan&, Group&, const Images&, void* scratch, double* loss);
  void (*errors)(const Plan&, const Group&, const Images&, void* scratch, double* loss);
  void (*fit_gradient)(const Plan&, const Group&, const Images&, void* scratch, double* loss, void* gradient);
};

const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_vec4();
const Kernels* kernels_scalar();
const Kernels* kernels_double();

}  // namespace lanes
