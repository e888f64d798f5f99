#include "plan.h"

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
      op.weight = plan.num_params, op.bias = op.weight + weight_size(op);
      plan.num_params = op.bias + op.out_c;
      op.weight_variance = plan.num_variances, op.bias_variance = -1;
      plan.num_variances += weight_size(op);
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

}  // namespace lanes
