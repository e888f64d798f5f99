// Everything between convolutions: activation and dropout, linear layers, standalone pools, the loss.
#pragma once
#include "data_gradient.h"
#include "weight_gradient.h"

namespace {

struct Dropping {
  Philox draw;
  U threshold;
  F scale;
};

template <int ACT>
ALWAYS_INLINE void activate(F z, F omega, F& y, F& d) {
  const F zero = V::set(0), one = V::set(1);
  if constexpr (ACT == lanes::kIdentity) {
    y = z, d = one;
  } else if constexpr (ACT == lanes::kRelu) {
    y = V::select(V::gt(zero, z), zero, z);  // NaN stays NaN
    d = V::select(V::gt(z, zero), one, zero);
  } else if constexpr (ACT == lanes::kLeakyRelu) {
    const M positive = V::gt(z, zero);
    y = V::select(positive, z, z * V::set(S(0.01)));
    d = V::select(positive, one, V::set(S(0.01)));
  } else if constexpr (ACT == lanes::kTanh) {
    y = tanh_(z);
    d = V::fma(zero - y, y, one);
  } else if constexpr (ACT == lanes::kSigmoid) {
    y = sigmoid_(z);
    d = y * (one - y);
  } else if constexpr (ACT == lanes::kSilu) {
    const F s = sigmoid_(z);
    y = z * s;
    d = s * V::fma(z, one - s, one);
  } else if constexpr (ACT == lanes::kSine) {
    sincos_(z * omega, y, d);
    d = d * omega;
  } else {
    F cdf, density;
    normal_cdf(z, cdf, density);
    y = z * cdf;
    d = V::fma(z, density, cdf);
  }
}

// Buffers of an activation or a dropout. `out` takes the output and may be z. `deriv` takes the factors by which the
// backward pass multiplies gradients (null in evaluations). `square`, if not null, takes the squares of the output.
struct Point {
  const S* z;
  S* out;
  S* deriv;
  S* square;
  const Dropping* drop;
};

template <int ACT, bool TRAIN, bool DROP>
KERNEL void point_kernel(const Op& op, const Point& p) {
  const long n = op.out_size();
  const F omega = V::set(S(op.omega));
  U words[4];
  for (long i = 0; i < n; i += 4) {
    if constexpr (DROP) {
      p.drop->draw.block(uint32_t(i / 4), words);
    }
    const int count = n - i < 4 ? int(n - i) : 4;
    for (int j = 0; j < count; ++j) {
      F y, d;
      activate<ACT>(V::load(p.z + (i + j) * L), omega, y, d);
      if constexpr (DROP) {
        const M gone = V::less(words[j], p.drop->threshold);
        y = V::select(gone, V::set(0), y * p.drop->scale);
        d = V::select(gone, V::set(0), d * p.drop->scale);
      }
      V::store(p.out + (i + j) * L, y);
      if constexpr (TRAIN) {
        V::store(p.deriv + (i + j) * L, d);
        if (p.square) V::store(p.square + (i + j) * L, y * y);
      }
    }
  }
}

template <int ACT>
void point_act(const Op& op, const Point& p) {
  if (!p.deriv) return point_kernel<ACT, false, false>(op, p);
  if (p.drop) return point_kernel<ACT, true, true>(op, p);
  return point_kernel<ACT, true, false>(op, p);
}

void point_forward(const Op& op, const Point& p) {
  switch (op.act) {
    case lanes::kLeakyRelu: return point_act<lanes::kLeakyRelu>(op, p);
    case lanes::kRelu: return point_act<lanes::kRelu>(op, p);
    case lanes::kTanh: return point_act<lanes::kTanh>(op, p);
    case lanes::kSigmoid: return point_act<lanes::kSigmoid>(op, p);
    case lanes::kSilu: return point_act<lanes::kSilu>(op, p);
    case lanes::kGelu: return point_act<lanes::kGelu>(op, p);
    case lanes::kSine: return point_act<lanes::kSine>(op, p);
    default:
      // In an evaluation that works in place, there is nothing to do.
      if (p.deriv || p.out != p.z) point_act<lanes::kIdentity>(op, p);
  }
}

// The backward pass of an activation. If the layer before it has a noise ratio, the gradient of the variances of that
// layer's outputs is computed too.
KERNEL void point_backward(long n, const S* deriv, const S* ratio, S* g, S* g_variance) {
  for (long i = 0; i < n * L; i += L) {
    const F v = V::load(g + i) * V::load(deriv + i);
    V::store(g + i, v);
    if (ratio) V::store(g_variance + i, v * V::load(ratio + i));
  }
}

// A pool that does not follow a convolution.
void pool_forward(const Op& op, const S* x, S* out, Sel* sel) {
  const long row = long(op.in_w) * L;
  for (int c = 0; c < op.in_c; ++c)
    for (int y = 0; y < op.out_h; ++y)
      for (int xx = 0; xx < op.out_w; ++xx, out += L) {
        const S* p = x + (long(c) * op.in_h + 2 * y) * row + 2 * xx * L;
        const F values[4] = {V::load(p), V::load(p + L), V::load(p + row), V::load(p + row + L)};
        M right, lower;
        V::store(out, pool(values, right, lower));
        if (sel) V::save(sel, right, lower), sel += V::kSel;
      }
}

void pool_backward(const Op& op, const S* g, const Sel* sel, S* dx) {
  const F zero = V::set(0);
  const long row = long(op.in_w) * L;
  for (long i = 0; i < op.in_size(); ++i) V::store(dx + i * L, zero);
  for (int c = 0; c < op.in_c; ++c)
    for (int y = 0; y < op.out_h; ++y)
      for (int xx = 0; xx < op.out_w; ++xx, g += L, sel += V::kSel) {
        S* p = dx + (long(c) * op.in_h + 2 * y) * row + 2 * xx * L;
        M right, lower;
        V::restore(sel, right, lower);
        const F gv = V::load(g), upper = V::select(lower, zero, gv), below = V::select(lower, gv, zero);
        V::store(p, V::select(right, zero, upper)), V::store(p + L, V::select(right, upper, zero));
        V::store(p + row, V::select(right, zero, below)), V::store(p + row + L, V::select(right, below, zero));
      }
}

template <int N>
ALWAYS_INLINE void linear_rows(long in, const S* x, const S* w, const S* b, S* out) {
  F acc[N];
  UNROLL for (int o = 0; o < N; ++o) acc[o] = b ? V::load(b + o * L) : V::set(0);
  for (long i = 0; i < in; ++i) {
    const F xv = V::load(x + i * L);
    UNROLL for (int o = 0; o < N; ++o) acc[o] = V::fma(xv, V::load(w + (o * in + i) * L), acc[o]);
  }
  UNROLL for (int o = 0; o < N; ++o) V::store(out + o * L, acc[o]);
}

// A sum begins with the bias, then the inputs are added in order. b is null if there is no bias.
KERNEL void linear_forward(const Op& op, const S* x, const S* w, const S* b, S* out) {
  const long in = op.in_size();
  int o = 0;
  for (; o + 10 <= op.out_c; o += 10) linear_rows<10>(in, x, w + o * in * L, b ? b + o * L : b, out + o * L);
  for (; o + 4 <= op.out_c; o += 4) linear_rows<4>(in, x, w + o * in * L, b ? b + o * L : b, out + o * L);
  for (; o < op.out_c; ++o) linear_rows<1>(in, x, w + o * in * L, b ? b + o * L : b, out + o * L);
}

template <bool SQUARE>
KERNEL void linear_weight_gradient(const Op& op, const S* x, const S* g, S* dw, S* db) {
  const long in = op.in_size();
  for (int o = 0; o < op.out_c; ++o) {
    const F gv = V::load(g + o * L);
    if (db) V::store(db + o * L, V::load(db + o * L) + gv);
    S* row = dw + o * in * L;
    for (long i = 0; i < in; ++i) {
      F xv = V::load(x + i * L);
      if constexpr (SQUARE) xv = xv * xv;
      V::store(row + i * L, V::fma(gv, xv, V::load(row + i * L)));
    }
  }
}

template <int N>
ALWAYS_INLINE void linear_columns(const Op& op, const S* g, const S* w, S* dx) {
  const long in = op.in_size();
  F acc[N];
  UNROLL for (int i = 0; i < N; ++i) acc[i] = V::set(0);
  for (int o = 0; o < op.out_c; ++o) {
    const F gv = V::load(g + o * L);
    UNROLL for (int i = 0; i < N; ++i) acc[i] = V::fma(gv, V::load(w + (o * in + i) * L), acc[i]);
  }
  UNROLL for (int i = 0; i < N; ++i) V::store(dx + i * L, acc[i]);
}

KERNEL void linear_data_gradient(const Op& op, const S* g, const S* w, S* dx) {
  const long in = op.in_size();
  long i = 0;
  for (; i + 12 <= in; i += 12) linear_columns<12>(op, g, w + i * L, dx + i * L);
  for (; i + 4 <= in; i += 4) linear_columns<4>(op, g, w + i * L, dx + i * L);
  for (; i < in; ++i) linear_columns<1>(op, g, w + i * L, dx + i * L);
}

// Softmax cross-entropy of one sample. Adds the loss and the hit of every lane whose `counted` is not 0. Writes to g,
// unless null, the gradient of the mean over the lane's n samples. Adds the predictions by class to counts, unless
// null.
KERNEL void loss_step(int classes, const S* z, const uint32_t* labels, F n, const uint8_t* counted, S* g, double* loss,
                      int32_t* correct, const lanes::ClassCounts* counts) {
  const U label = V::loadu(labels);
  F top = V::load(z);
  U best = V::setu(0);
  for (int k = 1; k < classes; ++k) {
    const F zk = V::load(z + k * L);
    const M m = V::gt(zk, top);
    top = V::select(m, zk, top), best = V::selectu(m, V::setu(k), best);
  }
  F sum = V::set(0), own = V::set(0);
  for (int k = 0; k < classes; ++k) {
    const F shifted = V::load(z + k * L) - top;
    const F e = exp_(shifted);
    sum = k ? sum + e : e;
    own = V::select(V::equal(label, V::setu(k)), shifted, own);
    if (g) V::store(g + k * L, e);
  }
  if (g) {
    for (int k = 0; k < classes; ++k) {
      const F p = V::load(g + k * L) / sum;
      V::store(g + k * L, V::select(V::equal(label, V::setu(k)), p - V::set(1), p) / n);
    }
  }
  S value[L] __attribute__((aligned(64)));
  uint32_t hit[L] __attribute__((aligned(64)));
  V::store(value, log_(sum) - own);
  const U hits = V::selectu(V::equal(best, label), V::setu(1), V::setu(0));
  std::memcpy(hit, &hits, sizeof hit);
  for (int lane = 0; lane < L; ++lane)
    if (counted[lane]) loss[lane] += double(value[lane]), correct[lane] += int32_t(hit[lane]);
  if (!counts) return;
  uint32_t predicted[L] __attribute__((aligned(64)));
  std::memcpy(predicted, &best, sizeof predicted);
  for (int lane = 0; lane < L; ++lane) {
    if (!counted[lane]) continue;
    const long at = long(lane) * classes + predicted[lane];
    ++counts->predicted[at], counts->correct[at] += int32_t(hit[lane]);
  }
}

}  // namespace
