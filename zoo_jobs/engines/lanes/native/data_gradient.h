// Data gradients of convolutions. Every sum runs over kernel row, output channel, kernel column. If a pool follows,
// each of its cells sends its gradient to one position of four; the terms of the other three positions are not added.
#pragma once
#include "general.h"

namespace {

struct DataGradient {
  const S* g;
  const S* w;
  const S* g_variance;  // only noisy layers have this, the variances of the weights and the layer's input
  const S* w_variance;
  const S* x;
  const Sel* sel;
  S* dx;
  S* spread;  // work space: gradients before the pool
  S* spread_variance;
  S* dx_variance;
};

// --------------------------------------------------------------------------------------- a pool follows, constant sizes

// Writes the gradients of a pooled output to the row that the pool chose, and zero to the other row.
KERNEL void spread_rows(const Op& op, const S* g, const Sel* sel, S* rows) {
  const F zero = V::set(0);
  const long width = op.out_w;
  for (long line = 0; line < long(op.out_c) * op.out_h; ++line, rows += 2 * width * L)
    for (long xx = 0; xx < width; ++xx, g += L, sel += V::kSel) {
      M right, lower;
      V::restore(sel, right, lower);
      const F gv = V::load(g);
      V::store(rows + xx * L, V::select(lower, zero, gv));
      V::store(rows + (width + xx) * L, V::select(lower, gv, zero));
    }
}

// Computes COLUMNS columns of an input row in TC channels, in registers; W: cells of a row. The pool took one of a
// cell's two columns, which meets K weights. So the cell reaches K + 1 columns with one product each, and for the
// columns in the middle the pool's choice selects the weight.
template <int W, int K, int TC, int FIRST, int COLUMNS>
ALWAYS_INLINE void pooled_sums(const Op& op, const S* rows, const Sel* sel, const S* w, int iy, F (&acc)[TC][COLUMNS]) {
  const long wo = long(op.in_c) * K * K * L;
  const int height = 2 * op.out_h;
  const F zero = V::set(0);
  UNROLL for (int c = 0; c < TC; ++c) UNROLL for (int i = 0; i < COLUMNS; ++i) acc[c][i] = zero;
  const int first = iy - height + 1 > 0 ? iy - height + 1 : 0, last = iy < K - 1 ? iy : K - 1;
  for (int ky = first; ky <= last; ++ky) {
    const S* gr = rows + long(iy - ky) * W * L;
    const Sel* sr = sel + long((iy - ky) / 2) * W * V::kSel;
    const S* wr = w + long(ky) * K * L;
    for (int o = 0; o < op.out_c; ++o, gr += long(height) * W * L, sr += long(op.out_h) * W * V::kSel, wr += wo) {
      F wv[TC][K];
      UNROLL for (int c = 0; c < TC; ++c) UNROLL for (int kx = 0; kx < K; ++kx) wv[c][kx] = V::load(wr + (c * K * K + kx) * L);
      UNROLL for (int cell = W - 1; cell >= 0; --cell) {
        if (2 * cell + K < FIRST || 2 * cell >= FIRST + COLUMNS) continue;
        M right, lower;
        V::restore(sr + cell * V::kSel, right, lower);
        const F g = V::load(gr + cell * L);
        UNROLL for (int i = 0; i <= K; ++i) {
          const int column = 2 * cell + i - FIRST;
          if (column < 0 || column >= COLUMNS) continue;
          const F gi = i == 0 ? V::select(right, zero, g) : i == K ? V::select(right, g, zero) : g;
          UNROLL for (int c = 0; c < TC; ++c) {
            const F wi = i == 0 ? wv[c][0] : i == K ? wv[c][K - 1] : V::select(right, wv[c][i - 1], wv[c][i]);
            acc[c][column] = V::fma(gi, wi, acc[c][column]);
          }
        }
      }
    }
  }
}

template <int W, int K, int TC, int FIRST, int COLUMNS, bool NOISY>
ALWAYS_INLINE void pooled_columns(const Op& op, const DataGradient& a, int c, int iy) {
  const long weights = long(c) * K * K * L, plane = long(op.in_h) * op.in_w * L;
  const long at = (long(c) * op.in_h + iy) * op.in_w * L + FIRST * L;
  F acc[TC][COLUMNS];
  S kept[NOISY ? TC * COLUMNS * L : 1] __attribute__((aligned(64)));
  if constexpr (NOISY) {
    pooled_sums<W, K, TC, FIRST, COLUMNS>(op, a.spread_variance, a.sel, a.w_variance + weights, iy, acc);
    UNROLL for (int i = 0; i < TC * COLUMNS; ++i) V::store(kept + i * L, acc[i / COLUMNS][i % COLUMNS]);
  }
  pooled_sums<W, K, TC, FIRST, COLUMNS>(op, a.spread, a.sel, a.w + weights, iy, acc);
  UNROLL for (int t = 0; t < TC; ++t) UNROLL for (int i = 0; i < COLUMNS; ++i) {
    F sum = acc[t][i];
    if constexpr (NOISY)
      sum = V::fma(V::set(2) * V::load(a.x + at + t * plane + i * L), V::load(kept + (t * COLUMNS + i) * L), sum);
    V::store(a.dx + at + t * plane + i * L, sum);
  }
}

// If SPLIT is not 0, an input row is computed in two pieces, and the second begins at column SPLIT.
template <int W, int K, int TC, int SPLIT, bool NOISY>
ALWAYS_INLINE void pooled_row(const Op& op, const DataGradient& a, int c, int iy) {
  constexpr int N = 2 * W + K - 1;
  pooled_columns<W, K, TC, 0, SPLIT ? SPLIT : N, NOISY>(op, a, c, iy);
  if constexpr (SPLIT != 0) pooled_columns<W, K, TC, SPLIT, N - SPLIT, NOISY>(op, a, c, iy);
  for (int t = 0; t < TC; ++t)  // columns that no window of the pool covers
    for (int i = N; i < op.in_w; ++i) {
      const long at = ((long(c + t) * op.in_h + iy) * op.in_w + i) * L;
      const F zero = V::set(0);
      V::store(a.dx + at, NOISY ? V::fma(V::set(2) * V::load(a.x + at), zero, zero) : zero);
    }
}

template <int W, int K, int TC, int SPLIT, bool NOISY>
KERNEL void pooled_data_gradient(const Op& op, const DataGradient& a) {
  int c = 0;
  for (; c + TC <= op.in_c; c += TC)
    for (int iy = 0; iy < op.in_h; ++iy) pooled_row<W, K, TC, SPLIT, NOISY>(op, a, c, iy);
  if constexpr (TC != 1)
    for (; c < op.in_c; ++c)
      for (int iy = 0; iy < op.in_h; ++iy) pooled_row<W, K, 1, SPLIT, NOISY>(op, a, c, iy);
}

// ------------------------------------------------------------------------------------------------------------ the rest

// Gradient of a pooled output spread over the positions before the pool: zero where another position was larger.
KERNEL void spread(int channels, int height, int width, const S* g, const Sel* sel, S* dense) {
  const F zero = V::set(0);
  for (long line = 0; line < long(channels) * height; ++line) {
    S* upper = dense + line * 4 * width * L;
    S* below = upper + 2 * width * L;
    for (int xx = 0; xx < width; ++xx, g += L, sel += V::kSel, upper += 2 * L, below += 2 * L) {
      M right, lower;
      V::restore(sel, right, lower);
      const F gv = V::load(g);
      const F on_upper = V::select(lower, zero, gv), on_lower = V::select(lower, gv, zero);
      V::store(upper, V::select(right, zero, on_upper)), V::store(upper + L, V::select(right, on_upper, zero));
      V::store(below, V::select(right, zero, on_lower)), V::store(below + L, V::select(right, on_lower, zero));
    }
  }
}

// A whole input row of TC channels in registers; GW: width of the gradient.
template <int GW, int K, int TC>
ALWAYS_INLINE void data_row(const Op& op, int gh, const S* g, const S* w, S* dx, int iy) {
  constexpr int N = GW + K - 1;
  const long wo = long(op.in_c) * K * K * L, plane = long(op.in_h) * op.in_w * L;
  F acc[TC][N];
  UNROLL for (int c = 0; c < TC; ++c) UNROLL for (int i = 0; i < N; ++i) acc[c][i] = V::set(0);
  const int first = iy - gh + 1 > 0 ? iy - gh + 1 : 0, last = iy < K - 1 ? iy : K - 1;
  for (int ky = first; ky <= last; ++ky) {
    const S* gr = g + long(iy - ky) * GW * L;
    const S* wr = w + long(ky) * K * L;
    for (int o = 0; o < op.out_c; ++o, gr += long(gh) * GW * L, wr += wo) {
      UNROLL for (int kx = 0; kx < K; ++kx) {
        F wv[TC];
        UNROLL for (int c = 0; c < TC; ++c) wv[c] = V::load(wr + (c * K * K + kx) * L);
        UNROLL for (int gx = 0; gx < GW; ++gx) {
          const F gv = V::load(gr + gx * L);
          UNROLL for (int c = 0; c < TC; ++c) acc[c][gx + kx] = V::fma(gv, wv[c], acc[c][gx + kx]);
        }
      }
    }
  }
  UNROLL for (int c = 0; c < TC; ++c) UNROLL for (int i = 0; i < N; ++i) V::store(dx + c * plane + i * L, acc[c][i]);
  for (int c = 0; c < TC; ++c)
    for (int i = N; i < op.in_w; ++i) V::store(dx + c * plane + i * L, V::set(0));
}

template <int GW, int K, int TC>
KERNEL void data_gradient_kernel(const Op& op, int gh, const S* g, const S* w, S* dx) {
  for (int iy = 0; iy < op.in_h; ++iy) {
    int c = 0;
    for (; c + TC <= op.in_c; c += TC)
      data_row<GW, K, TC>(op, gh, g, w + long(c) * K * K * L, dx + (long(c) * op.in_h + iy) * op.in_w * L, iy);
    if constexpr (TC != 1)
      for (; c < op.in_c; ++c)
        data_row<GW, K, 1>(op, gh, g, w + long(c) * K * K * L, dx + (long(c) * op.in_h + iy) * op.in_w * L, iy);
  }
}

// dx += 2 x dx_variance: the gradient of the variances with respect to the inputs, through the squared inputs.
KERNEL void add_through_squares(long n, const S* x, const S* dx_variance, S* dx) {
  for (long i = 0; i < n; ++i) {
    const F twice = V::set(2) * V::load(x + i * L);
    V::store(dx + i * L, V::fma(twice, V::load(dx_variance + i * L), V::load(dx + i * L)));
  }
}

// ----------------------------------------------------------------------------------------------------------------------

template <bool NOISY>
void conv_data_gradient(const Op& op, const DataGradient& a) {
#if defined(LANES_AVX512)
  constexpr int S3 = 8, T3 = 2;
#else
  constexpr int S3 = 0, T3 = 1;
#endif
  const bool k5 = op.kernel == 5 && op.out_w == 4, k3 = op.kernel == 3 && (op.out_w == 6 || op.out_w == 2);
  if (op.pooled && (k5 || k3)) {
    spread_rows(op, a.g, a.sel, a.spread);
    if (NOISY) spread_rows(op, a.g_variance, a.sel, a.spread_variance);
    if (k5) return pooled_data_gradient<4, 5, 1, 0, NOISY>(op, a);
    if (op.out_w == 6) return pooled_data_gradient<6, 3, T3, S3, NOISY>(op, a);
    return pooled_data_gradient<2, 3, 2, 0, NOISY>(op, a);
  }
  const auto once = [&](const S* g, const S* w, S* dense, S* dx) {
    if (op.pooled) {
      spread(op.out_c, op.out_h, op.out_w, g, a.sel, dense);
      return any_data_gradient(op, 2 * op.out_h, 2 * op.out_w, dense, w, dx);
    }
    if (op.kernel == 2 && op.out_w == 3 && op.plain()) return data_gradient_kernel<3, 2, 2>(op, op.out_h, g, w, dx);
    any_data_gradient(op, op.out_h, op.out_w, g, w, dx);
  };
  once(a.g, a.w, a.spread, a.dx);
  if constexpr (NOISY) {
    once(a.g_variance, a.w_variance, a.spread_variance, a.dx_variance);
    add_through_squares(op.in_size(), a.x, a.dx_variance, a.dx);
  }
}

}  // namespace
