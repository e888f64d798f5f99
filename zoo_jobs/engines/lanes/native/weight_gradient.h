// Weight gradients of convolutions. Every sum runs over the samples, then over row and column of the (pooled) output.
#pragma once
#include "general.h"

namespace {

// One pass computes dw and db from g. For noisy layers it also computes the gradients of the variances from
// g_variance and the squared inputs. The pool chooses the same inputs for both, so the choice is made once.
struct WeightGradient {
  const S* x;
  const S* square;  // noisy layers: x * x
  const S* g;
  const S* g_variance;
  const Sel* sel;
  S* dw;
  S* dw_variance;
};

// Computes KY kernel rows from ky on, with all KX columns, in TO channels. Two blends per value make the pool's choice.
// The loop goes column by column, so that few inputs are in registers at a time.
template <int KX, int KY, int TO, bool POOLED, bool NOISY>
ALWAYS_INLINE void gradient_tile(const Op& op, const WeightGradient& a, int c, int ky, int kx, int o) {
  const int k = op.kernel;
  const long row = long(op.in_w) * L, cells = long(op.out_h) * op.out_w, wo = long(op.in_c) * k * k * L;
  const S* x = a.x + (long(c) * op.in_h + ky) * row + kx * L;
  const S* g = a.g + o * cells * L;
  const S* gv = NOISY ? a.g_variance + o * cells * L : nullptr;
  const Sel* sel = POOLED ? a.sel + o * cells * V::kSel : nullptr;
  const long at = o * wo + ((long(c) * k + ky) * k + kx) * L;
  F acc[TO][KY][KX], squared[TO][KY][KX];
  UNROLL for (int t = 0; t < TO; ++t) UNROLL for (int r = 0; r < KY; ++r) UNROLL for (int i = 0; i < KX; ++i) {
    acc[t][r][i] = V::load(a.dw + at + t * wo + (r * k + i) * L);
    if constexpr (NOISY) squared[t][r][i] = V::load(a.dw_variance + at + t * wo + (r * k + i) * L);
  }
  for (int y = 0; y < op.out_h; ++y) {
    const S* xc = x + (POOLED ? 2 : 1) * y * row;
    for (int xx = 0; xx < op.out_w; ++xx, xc += (POOLED ? 2 : 1) * L) {
      const long cell = long(y) * op.out_w + xx;
      const auto channels = [&](int from, int to) __attribute__((always_inline)) {
        F gm[TO], gs[TO];
        UNROLL for (int t = from; t < to; ++t) {
          gm[t] = V::load(g + (t * cells + cell) * L);
          if constexpr (NOISY) gs[t] = V::load(gv + (t * cells + cell) * L);
        }
        const auto add = [&](int t, int r, int i, F xv) __attribute__((always_inline)) {
          acc[t][r][i] = V::fma(gm[t], xv, acc[t][r][i]);
          if constexpr (NOISY) squared[t][r][i] = V::fma(gs[t], xv * xv, squared[t][r][i]);
        };
        if constexpr (POOLED) {
          M right[TO], lower[TO];
          F left[TO][KY];
          UNROLL for (int t = from; t < to; ++t) V::restore(sel + (t * cells + cell) * V::kSel, right[t], lower[t]);
          UNROLL for (int i = 0; i <= KX; ++i) {
            F above = V::load(xc + i * L);
            UNROLL for (int r = 0; r < KY; ++r) {
              const F below = V::load(xc + (r + 1) * row + i * L);
              UNROLL for (int t = from; t < to; ++t) {
                const F next = V::select(lower[t], below, above);
                if (i) add(t, r, i - 1, V::select(right[t], next, left[t][r]));
                left[t][r] = next;
              }
              above = below;
            }
          }
        } else {
          UNROLL for (int r = 0; r < KY; ++r) UNROLL for (int i = 0; i < KX; ++i) {
            const F xv = V::load(xc + r * row + i * L);
            UNROLL for (int t = from; t < to; ++t) add(t, r, i, xv);
          }
        }
      };
      if constexpr (L == 16 || !POOLED) {
        channels(0, TO);
      } else {  // there are few registers, so an input is loaded once per channel
        UNROLL for (int t = 0; t < TO; ++t) channels(t, t + 1);
      }
    }
  }
  UNROLL for (int t = 0; t < TO; ++t) UNROLL for (int r = 0; r < KY; ++r) UNROLL for (int i = 0; i < KX; ++i) {
    V::store(a.dw + at + t * wo + (r * k + i) * L, acc[t][r][i]);
    if constexpr (NOISY) V::store(a.dw_variance + at + t * wo + (r * k + i) * L, squared[t][r][i]);
  }
}

template <int K, int KY, int TO, bool POOLED, bool NOISY>
ALWAYS_INLINE void gradient_channels(const Op& op, const WeightGradient& a, int o) {
  for (int c = 0; c < op.in_c; ++c) {
    if constexpr (K == 0) {
      for (int ky = 0; ky < op.kernel; ++ky)
        for (int kx = 0; kx < op.kernel; ++kx) gradient_tile<1, 1, TO, POOLED, NOISY>(op, a, c, ky, kx, o);
    } else {
      int ky = 0;
      for (; ky + KY <= K; ky += KY) gradient_tile<K, KY, TO, POOLED, NOISY>(op, a, c, ky, 0, o);
      if constexpr (K % KY != 0) gradient_tile<K, K % KY, TO, POOLED, NOISY>(op, a, c, ky, 0, o);
    }
  }
}

template <int K, int KY, int TO, bool POOLED, bool NOISY>
KERNEL void gradient_kernel(const Op& op, const WeightGradient& a) {
  int o = 0;
  for (; o + TO <= op.out_c; o += TO) gradient_channels<K, KY, TO, POOLED, NOISY>(op, a, o);
  if constexpr (TO != 1)
    for (; o < op.out_c; ++o) gradient_channels<K, KY, 1, POOLED, NOISY>(op, a, o);
}

// Adds the sum of each channel to b, in order. Several channels are summed at the same time.
KERNEL void bias_gradient(const Op& op, const S* g, S* b) {
  const long cells = long(op.out_h) * op.out_w;
  const auto channels = [&](int o, auto count) __attribute__((always_inline)) {
    constexpr int N = decltype(count)::value;
    F acc[N];
    UNROLL for (int i = 0; i < N; ++i) acc[i] = V::load(b + (o + i) * L);
    for (long cell = 0; cell < cells; ++cell)
      UNROLL for (int i = 0; i < N; ++i) acc[i] = acc[i] + V::load(g + ((o + i) * cells + cell) * L);
    UNROLL for (int i = 0; i < N; ++i) V::store(b + (o + i) * L, acc[i]);
  };
  int o = 0;
  for (; o + 4 <= op.out_c; o += 4) channels(o, Count<4>());
  for (; o < op.out_c; ++o) channels(o, Count<1>());
}

template <bool NOISY>
void conv_weight_gradient(const Op& op, const WeightGradient& a) {
#if defined(LANES_AVX512)
  constexpr int Y5 = 2, T5 = NOISY ? 1 : 2, Y3 = 3, T3 = NOISY ? 1 : 2, Y2 = 2, T2 = NOISY ? 2 : 4;
#else
  constexpr int Y5 = 1, T5 = 1, Y3 = 1, T3 = NOISY ? 1 : 3, Y2 = 1, T2 = NOISY ? 2 : 4;
#endif
  if (op.pooled) {
    if (op.kernel == 5) return gradient_kernel<5, Y5, T5, true, NOISY>(op, a);
    if (op.kernel == 3) return gradient_kernel<3, Y3, T3, true, NOISY>(op, a);
    return gradient_kernel<0, 1, 4, true, NOISY>(op, a);
  }
  if (op.kernel == 2 && op.plain()) return gradient_kernel<2, Y2, T2, false, NOISY>(op, a);
  any_weight_gradient(op, a.x, a.g, a.dw);
  if constexpr (NOISY) any_weight_gradient(op, a.square, a.g_variance, a.dw_variance);
}

}  // namespace
