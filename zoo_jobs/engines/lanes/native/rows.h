// Linear layers for several rows at a time, so that each loaded weight is used for several rows. Sums are added in the
// orders that layers.h states. Tiles only decide which sums are computed at the same time.
#pragma once
#include "layers.h"

namespace {

constexpr int kRows = 8;                     // rows at a time; they and the weights of a tile fit into the first cache
constexpr int kRowTile = 4;
constexpr int kSumTile = L == 16 ? 4 : 3;    // as many accumulators as registers allow

// Number of values from one row to the next. An odd number of vectors spreads a column over the sets of the first-level
// cache.
constexpr long row_stride(long n) { return (n | 1) * L; }

// Weights in the order in which sums_of_rows reads them: value k of sum a is w[a * next + k * step].
KERNEL void order_of_use(const S* w, long next, long step, long terms, long values, S* out) {
  for (long a = 0; a < values;) {
    const int tile = a + kSumTile <= values ? kSumTile : 1;
    for (long k = 0; k < terms; ++k)
      for (int i = 0; i < tile; ++i, out += L) V::store(out, V::load(w + ((a + i) * next + k * step) * L));
    a += tile;
  }
}

// out[row][a] = start[a] + the sum over k, in order, of x[row][k] * w[a][k], times factor[row][a].
struct Sums {
  const S* x;
  long terms, x_stride;
  const S* w;       // in the order of use
  const S* start;   // null: zero
  const S* factor;  // null: one
  S* out;
  long out_stride;
};

template <int TR, int TA>
ALWAYS_INLINE void sum_tile(const Sums& s, int row, long a) {
  F acc[TR][TA];
  UNROLL for (int i = 0; i < TA; ++i) {
    const F start = s.start ? V::load(s.start + (a + i) * L) : V::set(0);
    UNROLL for (int r = 0; r < TR; ++r) acc[r][i] = start;
  }
  const S *x = s.x + row * s.x_stride, *w = s.w + a * s.terms * L;
  for (long k = 0; k < s.terms; ++k, x += L, w += TA * L) {
    F wv[TA];
    UNROLL for (int i = 0; i < TA; ++i) wv[i] = loaded(w + i * L);
    UNROLL for (int r = 0; r < TR; ++r) {
      const F xv = loaded(x + r * s.x_stride);
      UNROLL for (int i = 0; i < TA; ++i) acc[r][i] = V::fma(xv, wv[i], acc[r][i]);
    }
  }
  UNROLL for (int r = 0; r < TR; ++r) UNROLL for (int i = 0; i < TA; ++i) {
    const long at = (row + r) * s.out_stride + (a + i) * L;
    V::store(s.out + at, s.factor ? acc[r][i] * V::load(s.factor + at) : acc[r][i]);
  }
}

template <int TA>
ALWAYS_INLINE void sum_column(const Sums& s, int rows, long a) {
  int row = 0;
  for (; row + kRowTile <= rows; row += kRowTile) sum_tile<kRowTile, TA>(s, row, a);
  for (; row < rows; ++row) sum_tile<1, TA>(s, row, a);
}

KERNEL void sums_of_rows(const Sums& sums, int rows, long values) {
  const Sums s = sums;  // a copy that can stay in registers
  long a = 0;
  for (; a + kSumTile <= values; a += kSumTile) sum_column<kSumTile>(s, rows, a);
  for (; a < values; ++a) sum_column<1>(s, rows, a);
}

void linear_forward_rows(const Op& op, int rows, const S* x, const S* w, const S* b, S* out) {
  const long in = op.in_size();
  sums_of_rows({x, in, row_stride(in), w, b, nullptr, out, row_stride(op.out_c)}, rows, op.out_c);
}

// factor [rows][in], or null: the gradient of every input is multiplied by it.
void linear_data_gradient_rows(const Op& op, int rows, const S* g, const S* w, const S* factor, S* dx) {
  const long in = op.in_size();
  sums_of_rows({g, op.out_c, row_stride(op.out_c), w, nullptr, factor, dx, row_stride(in)}, rows, in);
}

template <int TO, int TI>
ALWAYS_INLINE void gradient_tile(const Op& op, int rows, const S* x, const S* g, S* dw, long o, long i) {
  const long in = op.in_size(), x_stride = row_stride(in), g_stride = row_stride(op.out_c);
  x += i * L, g += o * L, dw += (o * in + i) * L;
  F acc[TO][TI];
  UNROLL for (int t = 0; t < TO; ++t) UNROLL for (int j = 0; j < TI; ++j) acc[t][j] = V::load(dw + (t * in + j) * L);
  for (int r = 0; r < rows; ++r, x += x_stride, g += g_stride) {
    F xv[TI];
    UNROLL for (int j = 0; j < TI; ++j) xv[j] = loaded(x + j * L);
    UNROLL for (int t = 0; t < TO; ++t) {
      const F gv = loaded(g + t * L);
      UNROLL for (int j = 0; j < TI; ++j) acc[t][j] = V::fma(gv, xv[j], acc[t][j]);
    }
  }
  UNROLL for (int t = 0; t < TO; ++t) UNROLL for (int j = 0; j < TI; ++j) V::store(dw + (t * in + j) * L, acc[t][j]);
}

// Adds the rows' gradients, row by row, to dw and db.
KERNEL void linear_weight_gradient_rows(const Op& op, int rows, const S* x, const S* g, S* dw, S* db) {
  const long in = op.in_size(), out = op.out_c;
  const auto outputs = [&](long o, auto count) __attribute__((always_inline)) {
    constexpr int TO = decltype(count)::value;
    long i = 0;
    for (; i + kSumTile <= in; i += kSumTile) gradient_tile<TO, kSumTile>(op, rows, x, g, dw, o, i);
    for (; i < in; ++i) gradient_tile<TO, 1>(op, rows, x, g, dw, o, i);
  };
  long o = 0;
  for (; o + 4 <= out; o += 4) outputs(o, Count<4>());
  for (; o < out; ++o) outputs(o, Count<1>());
  for (o = 0; o < out; ++o) {
    F sum = V::load(db + o * L);
    for (int r = 0; r < rows; ++r) sum = sum + V::load(g + r * row_stride(out) + o * L);
    V::store(db + o * L, sum);
  }
}

}  // namespace
