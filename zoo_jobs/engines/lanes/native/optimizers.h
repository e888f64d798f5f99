// The step of every optimizer, for all lanes of a group.
#pragma once
#include "functions.h"

namespace {

using lanes::Group;
using lanes::Op;
using lanes::Plan;

struct Lanes {  // a group's hyperparameters as vectors
  U seed, threshold;
  F drop_scale, learning_rate, weight_decay, momentum;
  M nesterov;

  explicit Lanes(const Group& group) {
    S values[4][L] __attribute__((aligned(64)));
    for (int i = 0; i < L; ++i) {
      values[0][i] = S(group.drop_scale[i]), values[1][i] = S(group.learning_rate[i]);
      values[2][i] = S(group.weight_decay[i]), values[3][i] = S(group.momentum[i]);
    }
    seed = V::loadu(group.seed), threshold = V::loadu(group.drop_threshold);
    drop_scale = V::load(values[0]), learning_rate = V::load(values[1]);
    weight_decay = V::load(values[2]), momentum = V::load(values[3]);
    nesterov = V::equal(V::loadu(group.nesterov), V::setu(1));
  }
};

// A value of zero without a gradient stays zero under every optimizer here, weight decay included.
void clear_pruned(const Plan& plan, const Group& group, S* gradient) {
  if (!group.pruned) return;
  for (long i = 0; i < plan.num_params * L; i += L) {
    const M gone = V::equal(V::loadu(group.pruned + i), V::setu(1));
    V::store(gradient + i, V::select(gone, V::set(0), V::load(gradient + i)));
  }
}

double power(double base, int64_t exponent) {  // by squaring: the same bits with every C library
  double result = 1;
  for (; exponent; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

struct Part {  // a range of the trained values
  long first, stop;
  bool decays;
};

// DECOUPLED: decay shrinks the weights before the step (AdamW) instead of joining the gradient (Adam).
template <bool DECOUPLED>
KERNEL void adam(const Group& group, const Lanes& lane, const S* gradient, Part part) {
  S size[L] __attribute__((aligned(64))), root[L] __attribute__((aligned(64))), kept[L] __attribute__((aligned(64)));
  for (int i = 0; i < L; ++i) {
    kept[i] = part.decays ? S(1.0 - group.learning_rate[i] * group.weight_decay[i]) : S(1);
    size[i] = S(group.learning_rate[i] / (1.0 - power(0.9, group.step[i])));
    root[i] = S(__builtin_sqrt(1.0 - power(0.999, group.step[i])));
  }
  const F step_size = V::load(size), correction = V::load(root), keep = V::load(kept);
  const F b1 = V::set(S(1.0 - 0.9)), b2 = V::set(S(0.999)), c2 = V::set(S(1.0 - 0.999)), eps = V::set(S(1e-8));
  const F decay = part.decays ? lane.weight_decay : V::set(0);
  S *params = static_cast<S*>(group.params), *m1 = static_cast<S*>(group.moment1), *m2 = static_cast<S*>(group.moment2);
  for (long i = part.first * L; i < part.stop * L; i += L) {
    F w = V::load(params + i), g = V::load(gradient + i);
    if constexpr (DECOUPLED)
      w = w * keep;
    else
      g = V::fma(w, decay, g);
    const F old = V::load(m1 + i), first = V::fma(g - old, b1, old);
    const F second = V::fma(g * g, c2, V::load(m2 + i) * b2);
    V::store(m1 + i, first), V::store(m2 + i, second);
    V::store(params + i, w - step_size * (first / (V::sqrt(second) / correction + eps)));
  }
}

KERNEL void sgd(const Group& group, const Lanes& lane, const S* gradient, Part part) {
  S *params = static_cast<S*>(group.params), *buffer = static_cast<S*>(group.moment1);
  const F rate = lane.learning_rate, decay = part.decays ? lane.weight_decay : V::set(0);
  for (long i = part.first * L; i < part.stop * L; i += L) {
    const F w = V::load(params + i), g = V::fma(w, decay, V::load(gradient + i));
    const F b = V::fma(V::load(buffer + i), lane.momentum, g);
    V::store(buffer + i, b);
    const F direction = V::select(lane.nesterov, V::fma(b, lane.momentum, g), b);
    V::store(params + i, w - rate * direction);
  }
}

KERNEL void rmsprop(const Group& group, const Lanes& lane, const S* gradient, Part part) {
  S *params = static_cast<S*>(group.params), *square = static_cast<S*>(group.moment1);
  S* buffer = static_cast<S*>(group.moment2);
  const F keep = V::set(S(0.99)), share = V::set(S(1.0 - 0.99)), eps = V::set(S(1e-8));
  const F decay = part.decays ? lane.weight_decay : V::set(0);
  for (long i = part.first * L; i < part.stop * L; i += L) {
    const F w = V::load(params + i), g = V::fma(w, decay, V::load(gradient + i));
    const F s = V::fma(g * g, share, V::load(square + i) * keep);
    const F b = V::fma(V::load(buffer + i), lane.momentum, g / (V::sqrt(s) + eps));
    V::store(square + i, s), V::store(buffer + i, b);
    V::store(params + i, w - lane.learning_rate * b);
  }
}

void update_part(const Plan& plan, const Group& group, const Lanes& lane, const S* gradient, Part part) {
  switch (plan.optimizer) {
    case lanes::kAdam: adam<false>(group, lane, gradient, part); break;
    case lanes::kAdamw: adam<true>(group, lane, gradient, part); break;
    case lanes::kSgd: sgd(group, lane, gradient, part); break;
    default: rmsprop(group, lane, gradient, part);
  }
}

void update(const Plan& plan, const Group& group, const Lanes& lane, const S* gradient) {
  long done = 0;  // the parameters before this one are updated; the bias of a layer follows its weight
  for (int i = 0; i < plan.num_ops && plan.spares_biases; ++i) {
    const Op& op = plan.ops[i];
    if (op.kind != lanes::kConv && op.kind != lanes::kLinear) continue;
    update_part(plan, group, lane, gradient, {done, op.bias, true});
    update_part(plan, group, lane, gradient, {op.bias, op.bias + op.out_c, false});
    done = op.bias + op.out_c;
  }
  if (done < plan.num_trained()) update_part(plan, group, lane, gradient, {done, plan.num_trained(), true});
}

}  // namespace
