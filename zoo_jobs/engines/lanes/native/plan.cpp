#include "plan.h"

#include <cstring>
#include <stdexcept>

namespace lanes {

namespace {

long weight_size(const Op& op) {
  return op.kind == kConv ? long(op.out_c) * op.in_c * op.kernel * op.kernel : op.out_c * op.in_size();
}

}  // namespace

Plan make_plan(const int32_t* layers, int num_layers, int channels, int image_size, int optimizer, int batch_size,
               bool dropout, bool variational) {
  if (num_layers > kMaxOps) throw std::invalid_argument("more layers than the engine's tables hold");
  if (batch_size < 1 || batch_size > 65536) throw std::invalid_argument("batch size outside [1, 65536]");
  bool read[kMaxOps] = {};  // a residual sum reads the layer's output
  int op_of[kMaxOps];       // the operation whose output is the layer's; -1: the images
  for (int i = 0; i < num_layers; ++i) {
    const int32_t* layer = layers + kColumnsOfLayer * i;
    if (layer[0] != kLayerAdd) continue;
    if (layer[1] < 0 || layer[1] >= i) throw std::invalid_argument("add reads no earlier layer");
    read[layer[1]] = true;
  }
  Plan plan{};
  plan.optimizer = optimizer, plan.batch_size = batch_size, plan.variational = variational;
  int c = channels, h = image_size, w = image_size, parametric = 0, dropouts = 0;
  for (int i = 0; i < num_layers; ++i) {
    const int32_t* layer = layers + kColumnsOfLayer * i;
    Op op{};
    op.in_c = c, op.in_h = h, op.in_w = w, op.need_dx = parametric > 0;
    Op* last = plan.num_ops ? &plan.ops[plan.num_ops - 1] : nullptr;
    const bool fusible = last && !last->kept;
    bool fused = false;  // true: the layer needs no operation of its own
    switch (layer[0]) {
      case kLayerConv:
        op.kind = kConv, op.kernel = layer[3], op.stride = layer[4], op.padding = layer[5];
        if (layer[1] != c || op.kernel < 1 || op.stride < 1 || op.padding < 0 || op.padding >= op.kernel ||
            op.kernel > h + 2 * op.padding || op.kernel > w + 2 * op.padding)
          throw std::invalid_argument("convolution");
        c = layer[2], h = op.conv_h(), w = op.conv_w();
        break;
      case kLayerMaxPool:
      case kLayerAvgPool:
        op.kind = layer[0] == kLayerAvgPool ? kAvgPool : kMaxPool, op.kernel = layer[1], op.stride = layer[2];
        if (op.kernel < 1 || op.stride < 1 || op.kernel > h || op.kernel > w) throw std::invalid_argument("pool");
        h = op.conv_h(), w = op.conv_w();
        if (op.kind == kMaxPool && op.kernel == 2 && op.stride == 2) {
          op.kind = kPool;
          if (fusible && last->kind == kConv && last->plain() && !last->pooled)
            last->pooled = 1, last->out_h = h, last->out_w = w, fused = true;
        }
        break;
      case kLayerActivation:
        op.kind = kPoint, op.act = layer[1];
        std::memcpy(&op.omega, &layer[2], sizeof op.omega);
        break;
      case kLayerDropout:
        op.dropout_layer = dropouts++;
        if (!dropout)
          fused = true;
        else if (fusible && last->kind == kPoint && !last->dropout)
          last->dropout = 1, last->dropout_layer = op.dropout_layer, fused = true;
        else
          op.kind = kPoint, op.dropout = 1;
        break;
      case kLayerFlatten: fused = true; break;
      case kLayerLinear:
        op.kind = kLinear;
        if (layer[1] != long(c) * h * w) throw std::invalid_argument("linear layer");
        c = layer[2], h = w = 1;
        break;
      case kLayerAdd: {
        op.kind = kAdd, op.source = op_of[layer[1]];
        const long size = op.source < 0 ? plan.in_size() : plan.ops[op.source].out_size();
        if (plan.num_ops && size != op.in_size()) throw std::invalid_argument("add of different sizes");
        if (op.source >= 0) plan.ops[op.source].last_add = plan.num_ops;
        break;
      }
      case kLayerSquaredError:
        if (layer[1] < 1 || i + 1 < num_layers) throw std::invalid_argument("squared error");
        plan.steps = layer[1], fused = true;
        break;
      default: throw std::invalid_argument("unknown layer");
    }
    op.out_c = c, op.out_h = h, op.out_w = w;
    if (!fused && (op.kind == kConv || op.kind == kLinear)) {
      op.ordinal = parametric++;
      op.weight = plan.num_params, op.bias = op.weight + weight_size(op);
      plan.num_params = op.bias + op.out_c;
      op.weight_variance = plan.num_variances, op.bias_variance = -1;
      plan.num_variances += weight_size(op);
      if (op.kind == kConv) op.bias_variance = plan.num_variances, plan.num_variances += op.out_c;
    }
    if (!fused) plan.ops[plan.num_ops++] = op;
    op_of[i] = plan.num_ops - 1;
    if (read[i]) (plan.num_ops ? plan.ops[plan.num_ops - 1].kept : plan.input_kept) = 1;
  }
  if (!parametric) throw std::invalid_argument("no layer has parameters");
  plan.num_classes = int(long(c) * h * w);
  if (!variational) plan.num_variances = 0;
  for (int i = 0; plan.steps && i < plan.num_ops; ++i) {
    const Op& op = plan.ops[i];
    if ((op.kind != kLinear && op.kind != kPoint && op.kind != kAdd) || op.dropout || variational)
      throw std::invalid_argument("image regression takes linear layers, activations and sums");
  }
  return plan;
}

}  // namespace lanes
