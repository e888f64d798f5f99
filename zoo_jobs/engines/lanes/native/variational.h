// Variational dropout: log alpha, its KL term and the gradients of both, for each weight. Source: Molchanov, Ashukha,
// Vetrov (2017), arXiv:1701.05369. The clamps are those of the published model zoos: 8 for convolutions, 10 for linear
// layers.
#pragma once
#include "layers.h"

namespace {

constexpr double k1 = 0.63576, k2 = 1.87320, k3 = 1.48695;

struct Alpha {
  F log_alpha;  // clamped
  M inside;     // log alpha was not clamped, so gradients pass
  F magnitude;  // |w| + 1e-15
};

ALWAYS_INLINE Alpha log_alpha(F w, F log_sigma2, S limit) {
  const F magnitude = V::abs(w) + V::set(S(1e-15));
  const F u = V::fma(V::set(-2), log_(magnitude), log_sigma2);
  const M low = V::gt(V::set(-limit), u), high = V::gt(u, V::set(limit));
  const M all = V::equal(V::setu(0), V::setu(0));
  return {V::select(low, V::set(-limit), V::select(high, V::set(limit), u)), V::first_only(all, V::either(low, high)),
          magnitude};
}

ALWAYS_INLINE F kl_term(F la) {
  const F one = V::set(1), t = exp_(V::set(0) - la), u = one + t;
  const F log1p = log_(u) + (t - (u - one)) / u;
  const F tail = one / (one + exp_(V::fma(V::set(S(k3)), la, V::set(S(k2)))));
  return V::fma(V::set(S(k1)), tail, V::set(S(0.5)) * log1p);
}

ALWAYS_INLINE F sign(F w) {
  const F zero = V::set(0), one = V::set(1);
  return V::select(V::gt(w, zero), one, V::select(V::gt(zero, w), V::set(-1), zero));
}

// Calls visit(weight offset, variance offset, count, limit, is weight) for every tensor that has a noise variance.
template <class Visit>
ALWAYS_INLINE void noisy_tensors(const lanes::Plan& plan, Visit visit) {
  for (int i = 0; i < plan.num_ops; ++i) {
    const Op& op = plan.ops[i];
    if (op.kind == lanes::kConv) {
      visit(op.weight, op.weight_variance, long(op.out_c) * op.in_c * op.kernel * op.kernel, S(8), true);
      visit(op.bias, op.bias_variance, long(op.out_c), S(8), false);
    } else if (op.kind == lanes::kLinear) {
      visit(op.weight, op.weight_variance, op.out_c * op.in_size(), S(10), true);
    }
  }
}

// Writes variance[V], the variance alpha * w^2 of each noisy weight.
KERNEL void weight_variances(const lanes::Plan& plan, const S* trained, S* variance) {
  const S* log_sigma2 = trained + plan.num_params * L;
  noisy_tensors(plan, [&](long weight, long at, long count, S limit, bool) {
    for (long i = 0; i < count; ++i) {
      const F w = V::load(trained + (weight + i) * L);
      const Alpha a = log_alpha(w, V::load(log_sigma2 + (at + i) * L), limit);
      V::store(variance + (at + i) * L, exp_(a.log_alpha) * w * w);
    }
  });
}

// On entry, the last V values of `gradient` are the derivatives with respect to the variances of the weights. On
// return, they are the derivatives with respect to log sigma^2, and the gradients of the weights include the shares of
// the variances and of the KL term.
KERNEL void chain_variances(const lanes::Plan& plan, const S* trained, double kl_weight, S* gradient) {
  const S* log_sigma2 = trained + plan.num_params * L;
  S* tail = gradient + plan.num_params * L;
  const F zero = V::set(0), one = V::set(1), lambda = V::set(S(kl_weight));
  noisy_tensors(plan, [&](long weight, long at, long count, S limit, bool) {
    for (long i = 0; i < count; ++i) {
      const F w = V::load(trained + (weight + i) * L), g = V::load(tail + (at + i) * L);
      const Alpha a = log_alpha(w, V::load(log_sigma2 + (at + i) * L), limit);
      const F alpha = exp_(a.log_alpha), variance = alpha * w * w;
      const F s = one / (one + exp_(V::fma(V::set(S(k3)), a.log_alpha, V::set(S(k2)))));
      const F kl = V::fma(V::set(S(-k1 * k3)) * s, one - s, V::set(S(-0.5)) / (one + alpha));
      // The derivative with respect to log alpha. It is zero where log alpha was clamped.
      const F chained = V::select(a.inside, V::fma(g, variance, lambda * kl), zero);
      const F through_w = V::set(-2) * sign(w) / a.magnitude;
      F gw = V::load(gradient + (weight + i) * L);
      gw = V::fma(V::set(2) * alpha * w, g, gw);
      V::store(gradient + (weight + i) * L, V::fma(chained, through_w, gw));
      V::store(tail + (at + i) * L, chained);
    }
  });
}

void kl_and_pruned(const lanes::Plan& plan, const S* trained, double* kl, int32_t* pruned, uint8_t* mask) {
  const S* log_sigma2 = trained + plan.num_params * L;
  for (int lane = 0; lane < L; ++lane) kl[lane] = 0, pruned[lane] = 0;
  noisy_tensors(plan, [&](long weight, long at, long count, S limit, bool is_weight) {
    for (long i = 0; i < count; ++i) {
      const Alpha a = log_alpha(V::load(trained + (weight + i) * L), V::load(log_sigma2 + (at + i) * L), limit);
      S value[L] __attribute__((aligned(64))), gone[L] __attribute__((aligned(64)));
      V::store(value, kl_term(a.log_alpha));
      V::store(gone, V::select(V::ge(a.log_alpha, V::set(3)), V::set(1), V::set(0)));
      for (int lane = 0; lane < L; ++lane) {
        kl[lane] += double(value[lane]);
        if (is_weight) pruned[lane] += int32_t(gone[lane]);
        if (mask) mask[(at + i) * L + lane] = uint8_t(gone[lane]);
      }
    }
  });
}

void masked_params(const lanes::Plan& plan, const void* state, void* out) {
  const S* trained = static_cast<const S*>(state);
  S* params = static_cast<S*>(out);
  std::memcpy(params, trained, size_t(plan.num_params) * L * sizeof(S));
  if (!plan.variational) return;
  const S* log_sigma2 = trained + plan.num_params * L;
  noisy_tensors(plan, [&](long weight, long at, long count, S limit, bool) {
    for (long i = 0; i < count; ++i) {
      const F w = V::load(trained + (weight + i) * L);
      const Alpha a = log_alpha(w, V::load(log_sigma2 + (at + i) * L), limit);
      V::store(params + (weight + i) * L, V::select(V::ge(a.log_alpha, V::set(3)), V::set(0), w));
    }
  });
}

}  // namespace
