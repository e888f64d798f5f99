// Convolutions with any stride and padding, pools with any window, and residual sums. Convolutions add in the orders
// that convolution.h states. A tap outside the image is skipped; it is not multiplied with zero.
#pragma once
#include "convolution.h"

namespace {

struct Span {  // the half-open range [first, last)
  int first, last;
};

ALWAYS_INLINE int at_least(int x, int low) { return x < low ? low : x; }
ALWAYS_INLINE int at_most(int x, int high) { return x > high ? high : x; }

// The taps along one axis of the kernel that lie inside the image, for one place of the output.
ALWAYS_INLINE Span taps_inside(const Op& op, int place, int size) {
  const int start = place * op.stride - op.padding;
  return {at_least(-start, 0), at_most(size - start, op.kernel)};
}

// The places of the output, along one axis, where a tap lies inside the image.
ALWAYS_INLINE Span places_of_tap(const Op& op, int tap, int size, int places) {
  const int first = op.padding - tap, end = size + op.padding - tap;  // place * stride lies in [first, end)
  return {first > 0 ? (first + op.stride - 1) / op.stride : 0, end > 0 ? at_most((end - 1) / op.stride + 1, places) : 0};
}

// The places of the output, along one axis, where every tap lies inside the image.
ALWAYS_INLINE Span full_places(const Op& op, int size, int places) {
  return {places_of_tap(op, 0, size, places).first, places_of_tap(op, op.kernel - 1, size, places).last};
}

// Number of columns of a tile with four channels. The registers have no room for more accumulators.
constexpr int kColumns = L == 16 ? 4 : 3;

// Loads a factor of several products. AVX2 has no registers left for it, so there each product loads it again.
ALWAYS_INLINE F factor(const S* p) { return L == 16 ? loaded(p) : V::load(p); }

// ---------------------------------------------------------------------------------------------------------- forward

// Computes TX neighbouring outputs in TO channels. `at` is the place of the image under tap (0, 0) of the first
// output.
template <int TX, int TO>
ALWAYS_INLINE void any_tile(const Op& op, const S* x, long at, const S* w, const S* b, Span rows, Span columns, S* out) {
  const int k = op.kernel;
  const long row = op.in_w, plane = row * op.in_h, wo = long(op.in_c) * k * k;
  F acc[TO][TX];
  UNROLL for (int o = 0; o < TO; ++o) UNROLL for (int tx = 0; tx < TX; ++tx) acc[o][tx] = V::load(b + o * L);
  for (int c = 0; c < op.in_c; ++c)
    for (int ky = rows.first; ky < rows.last; ++ky) {
      const long from = at + c * plane + ky * row;
      const S* wr = w + (long(c) * k + ky) * k * L;
      for (int kx = columns.first; kx < columns.last; ++kx) {
        F wv[TO];
        UNROLL for (int o = 0; o < TO; ++o) wv[o] = factor(wr + (o * wo + kx) * L);
        UNROLL for (int tx = 0; tx < TX; ++tx) {
          const F xv = factor(x + (from + kx + tx * op.stride) * L);
          UNROLL for (int o = 0; o < TO; ++o) acc[o][tx] = V::fma(xv, wv[o], acc[o][tx]);
        }
      }
    }
  const long cells = long(op.out_h) * op.out_w;
  UNROLL for (int o = 0; o < TO; ++o) UNROLL for (int tx = 0; tx < TX; ++tx)
    V::store(out + (o * cells + tx) * L, acc[o][tx]);
}

KERNEL void any_forward(const Op& op, const S* x, const S* w, const S* b, S* out) {
  const long wo = long(op.in_c) * op.kernel * op.kernel;
  const Span full = full_places(op, op.in_w, op.out_w);
  for (int y = 0; y < op.out_h; ++y) {
    const Span rows = taps_inside(op, y, op.in_h);
    const auto channels = [&](int o, auto count) __attribute__((always_inline)) {
      constexpr int TO = decltype(count)::value;
      for (int xx = 0; xx < op.out_w;) {
        const long at = (long(y) * op.stride - op.padding) * op.in_w + xx * op.stride - op.padding;
        S* to = out + ((long(o) * op.out_h + y) * op.out_w + xx) * L;
        const Span columns = taps_inside(op, xx, op.in_w);
        const int left = xx < full.first ? 0 : full.last - xx;
        if (left >= kColumns) {
          any_tile<kColumns, TO>(op, x, at, w + o * wo * L, b + o * L, rows, columns, to);
          xx += kColumns;
        } else if (left >= 2) {
          any_tile<2, TO>(op, x, at, w + o * wo * L, b + o * L, rows, columns, to);
          xx += 2;
        } else {
          any_tile<1, TO>(op, x, at, w + o * wo * L, b + o * L, rows, columns, to);
          ++xx;
        }
      }
    };
    int o = 0;
    for (; o + 4 <= op.out_c; o += 4) channels(o, Count<4>());
    for (; o < op.out_c; ++o) channels(o, Count<1>());
  }
}

// Draws the noise of n outputs and adds it to them. On entry `ratio` holds the variances of the outputs. On return it
// holds noise / (2 standard deviations). `strip` is work space for kNoiseValues values.
constexpr long kNoiseValues = 256;

KERNEL void add_noise(long n, const Philox& draw, S* strip, S* out, S* ratio) {
  for (long start = 0; start < n; start += kNoiseValues) {
    const long count = n - start < kNoiseValues ? n - start : kNoiseValues;
    draw_gaussians(draw, start / 4, (start + count + 3) / 4, strip);
    for (long i = 0; i < count; ++i) {
      const long at = (start + i) * L;
      const F deviation = V::sqrt(V::load(ratio + at) + V::set(S(1e-15))), noise = V::load(strip + i * L);
      V::store(out + at, V::fma(deviation, noise, V::load(out + at)));
      V::store(ratio + at, V::set(S(0.5)) * noise / deviation);
    }
  }
}

// -------------------------------------------------------------------------------------------------- weight gradient

// Adds the share of rows `ys` and columns `xs` of the output to the gradients of tap (ky, kx), for TC input and TO
// output channels.
template <int TC, int TO>
ALWAYS_INLINE void any_gradient_tile(const Op& op, const S* x, const S* g, S* dw, int c, int o, int ky, int kx, Span ys,
                                     Span xs) {
  const long taps = long(op.kernel) * op.kernel, cells = long(op.out_h) * op.out_w, plane = long(op.in_h) * op.in_w;
  const long weight = (long(o) * op.in_c + c) * taps + long(ky) * op.kernel + kx, wo = op.in_c * taps;
  F acc[TO][TC];
  UNROLL for (int t = 0; t < TO; ++t) UNROLL for (int i = 0; i < TC; ++i)
    acc[t][i] = V::load(dw + (weight + t * wo + i * taps) * L);
  for (int y = ys.first; y < ys.last; ++y) {
    const S* gr = g + (o * cells + long(y) * op.out_w) * L;
    const S* xr = x + (c * plane + (long(y) * op.stride + ky - op.padding) * op.in_w) * L;
    for (int xx = xs.first; xx < xs.last; ++xx) {
      const long column = long(xx) * op.stride + kx - op.padding;
      F xv[TC];
      UNROLL for (int i = 0; i < TC; ++i) xv[i] = factor(xr + (i * plane + column) * L);
      UNROLL for (int t = 0; t < TO; ++t) {
        const F gv = factor(gr + (t * cells + xx) * L);
        UNROLL for (int i = 0; i < TC; ++i) acc[t][i] = V::fma(gv, xv[i], acc[t][i]);
      }
    }
  }
  UNROLL for (int t = 0; t < TO; ++t) UNROLL for (int i = 0; i < TC; ++i)
    V::store(dw + (weight + t * wo + i * taps) * L, acc[t][i]);
}

// Takes some rows at a time, so that the values that all taps of a tile read stay in the first cache.
KERNEL void any_weight_gradient(const Op& op, const S* x, const S* g, S* dw) {
  const int row_bytes = 8 * op.out_w * L * int(sizeof(S)), rows = at_least(16384 / row_bytes, 1);
  const auto tiles = [&](int c, int o, auto inputs, auto outputs) __attribute__((always_inline)) {
    for (int y = 0; y < op.out_h; y += rows)
      for (int ky = 0; ky < op.kernel; ++ky) {
        const Span inside = places_of_tap(op, ky, op.in_h, op.out_h);
        const Span ys = {at_least(inside.first, y), at_most(inside.last, y + rows)};
        if (ys.first >= ys.last) continue;
        for (int kx = 0; kx < op.kernel; ++kx) {
          const Span xs = places_of_tap(op, kx, op.in_w, op.out_w);
          any_gradient_tile<decltype(inputs)::value, decltype(outputs)::value>(op, x, g, dw, c, o, ky, kx, ys, xs);
        }
      }
  };
  const int fours = op.in_c / 4 * 4;
  int o = 0;
  for (; o + 4 <= op.out_c; o += 4)
    for (int c = 0; c < fours; c += 4) tiles(c, o, Count<4>(), Count<4>());
  for (; o < op.out_c; ++o)
    for (int c = 0; c < fours; c += 4) tiles(c, o, Count<4>(), Count<1>());
  for (int c = fours; c < op.in_c; ++c) {
    for (o = 0; o + 8 <= op.out_c; o += 8) tiles(c, o, Count<1>(), Count<8>());
    for (; o < op.out_c; ++o) tiles(c, o, Count<1>(), Count<1>());
  }
}

// ---------------------------------------------------------------------------------------------------- data gradient

// The taps along one axis that read one place of the input. They are phase + m * stride for m in [0, count). Tap number
// m multiplies the gradient at the place `place - m` of the output.
struct Reach {
  int place, phase, count;

  ALWAYS_INLINE Reach(const Op& op, int input)
      : place((input + op.padding) / op.stride),
        phase((input + op.padding) % op.stride),
        count(phase < op.kernel ? (op.kernel - phase + op.stride - 1) / op.stride : 0) {}
  ALWAYS_INLINE Span inside(int size) const { return {at_least(place - size + 1, 0), at_most(place + 1, count)}; }
};

// Computes the gradients of TX inputs in TC channels. The inputs have the same phase, so they lie op.stride apart.
// g: [out_c][gh][gw].
template <int TX, int TC>
ALWAYS_INLINE void any_data_tile(const Op& op, int gh, int gw, const S* g, const S* w, const Reach& y, const Reach& x,
                                 Span rows, Span columns, S* dx) {
  const int k = op.kernel;
  const long taps = long(k) * k, wo = op.in_c * taps, plane = long(op.in_h) * op.in_w;
  F acc[TC][TX];
  UNROLL for (int c = 0; c < TC; ++c) UNROLL for (int tx = 0; tx < TX; ++tx) acc[c][tx] = V::set(0);
  for (int my = rows.first; my < rows.last; ++my) {
    long from = long(y.place - my) * gw + x.place;
    const S* wr = w + (long(y.phase + my * op.stride) * k + x.phase) * L;
    for (int o = 0; o < op.out_c; ++o, from += long(gh) * gw, wr += wo * L)
      for (int mx = columns.first; mx < columns.last; ++mx) {
        F wv[TC];
        UNROLL for (int c = 0; c < TC; ++c) wv[c] = factor(wr + (c * taps + long(mx) * op.stride) * L);
        UNROLL for (int tx = 0; tx < TX; ++tx) {
          const F gv = factor(g + (from + tx - mx) * L);
          UNROLL for (int c = 0; c < TC; ++c) acc[c][tx] = V::fma(gv, wv[c], acc[c][tx]);
        }
      }
  }
  UNROLL for (int c = 0; c < TC; ++c) UNROLL for (int tx = 0; tx < TX; ++tx)
    V::store(dx + (c * plane + long(tx) * op.stride) * L, acc[c][tx]);
}

KERNEL void any_data_gradient(const Op& op, int gh, int gw, const S* g, const S* w, S* dx) {
  const long taps = long(op.kernel) * op.kernel;
  const auto channels = [&](int c, auto count) __attribute__((always_inline)) {
    constexpr int TC = decltype(count)::value;
    const S* wc = w + c * taps * L;
    for (int iy = 0; iy < op.in_h; ++iy) {
      const Reach y(op, iy);
      const Span rows = y.inside(gh);
      S* row = dx + (long(c) * op.in_h + iy) * op.in_w * L;
      for (int start = 0; start < at_most(op.stride, op.in_w); ++start)  // each phase has one start
        for (int ix = start; ix < op.in_w;) {
          const Reach x(op, ix);
          const Span columns = x.inside(gw);
          // Every tap is inside. This also holds for the next inputs of the phase while their places are below gw. The
          // place grows by 1 from one of these inputs to the next.
          const bool full = columns.first == 0 && columns.last == x.count;
          const int left = full ? at_most(gw - x.place, (op.in_w - 1 - ix) / op.stride + 1) : 0;
          if (left >= kColumns) {
            any_data_tile<kColumns, TC>(op, gh, gw, g, wc, y, x, rows, columns, row + ix * L);
            ix += kColumns * op.stride;
          } else if (left >= 2) {
            any_data_tile<2, TC>(op, gh, gw, g, wc, y, x, rows, columns, row + ix * L);
            ix += 2 * op.stride;
          } else {
            any_data_tile<1, TC>(op, gh, gw, g, wc, y, x, rows, columns, row + ix * L);
            ix += op.stride;
          }
        }
    }
  };
  int c = 0;
  for (; c + 4 <= op.in_c; c += 4) channels(c, Count<4>());
  for (; c < op.in_c; ++c) channels(c, Count<1>());
}

// ------------------------------------------------------------------------------------------------- pools, residual sums

// Calls visit(cell, at) for every cell of a pool's output, in row-major order. `at` is the place of the first input of
// the cell's window.
template <class Visit>
ALWAYS_INLINE void windows(const Op& op, Visit visit) {
  long cell = 0;
  for (int c = 0; c < op.in_c; ++c)
    for (int y = 0; y < op.out_h; ++y)
      for (int xx = 0; xx < op.out_w; ++xx, ++cell)
        visit(cell, (long(c) * op.in_h + long(y) * op.stride) * op.in_w + long(xx) * op.stride);
}

// Writes to `choice`, unless it is null, the number of the input that each cell of each lane took from its window. As
// in torch, a NaN wins over every other value, and the last NaN of a window wins over the others.
KERNEL void max_pool_forward(const Op& op, const S* x, S* out, uint32_t* choice) {
  windows(op, [&](long cell, long at) __attribute__((always_inline)) {
    F best = V::load(x + at * L);
    U chosen = V::setu(0);
    for (int i = 1; i < op.kernel * op.kernel; ++i) {
      const F v = V::load(x + (at + long(i / op.kernel) * op.in_w + i % op.kernel) * L);
      const M better = V::either(V::gt(v, best), V::unordered(v, v));
      best = V::select(better, v, best), chosen = V::selectu(better, V::setu(uint32_t(i)), chosen);
    }
    V::store(out + cell * L, best);
    if (choice) std::memcpy(choice + cell * L, &chosen, sizeof chosen);
  });
}

KERNEL void max_pool_backward(const Op& op, const S* g, const uint32_t* choice, S* dx) {
  std::memset(dx, 0, size_t(op.in_size()) * L * sizeof(S));
  windows(op, [&](long cell, long at) __attribute__((always_inline)) {
    const F gv = V::load(g + cell * L);
    const U chosen = V::loadu(choice + cell * L);
    for (int i = 0; i < op.kernel * op.kernel; ++i) {
      S* to = dx + (at + long(i / op.kernel) * op.in_w + i % op.kernel) * L;
      const F old = V::load(to);
      V::store(to, V::select(V::equal(chosen, V::setu(uint32_t(i))), old + gv, old));
    }
  });
}

KERNEL void average_forward(const Op& op, const S* x, S* out) {
  const F share = V::set(S(1.0 / (op.kernel * op.kernel)));
  windows(op, [&](long cell, long at) __attribute__((always_inline)) {
    F sum = V::load(x + at * L);
    for (int i = 1; i < op.kernel * op.kernel; ++i)
      sum = sum + V::load(x + (at + long(i / op.kernel) * op.in_w + i % op.kernel) * L);
    V::store(out + cell * L, sum * share);
  });
}

KERNEL void average_backward(const Op& op, const S* g, S* dx) {
  const F share = V::set(S(1.0 / (op.kernel * op.kernel)));
  std::memset(dx, 0, size_t(op.in_size()) * L * sizeof(S));
  windows(op, [&](long cell, long at) __attribute__((always_inline)) {
    const F gv = V::load(g + cell * L) * share;
    for (int i = 0; i < op.kernel * op.kernel; ++i) {
      S* to = dx + (at + long(i / op.kernel) * op.in_w + i % op.kernel) * L;
      V::store(to, V::load(to) + gv);
    }
  });
}

KERNEL void sum(long n, const S* a, const S* b, S* out) {
  for (long i = 0; i < n * L; i += L) V::store(out + i, V::load(a + i) + V::load(b + i));
}

}  // namespace
