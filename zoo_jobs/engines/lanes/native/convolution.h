// Forward pass of convolutions without padding, with stride 1. The order of every sum is fixed, since it decides the
// bits:
//   forward          bias, then c, ky, kx
//   weight gradient  sample, then y, x of the output (of the pooled output where a pool follows)
//   data gradient    ky, then o, then kx; positions outside the output are not visited
// Tiles only decide which sums are computed at the same time, so they may differ by instruction set and layer.
#pragma once
#include "functions.h"
#include "plan.h"

namespace {

using lanes::Op;

template <int N>
struct Count {
  static constexpr int value = N;
};

// ---------------------------------------------------------------------------------------------------------- forward

// K = 0: the kernel size is known only at run time.
template <int K, int TY, int TX, int TO>
ALWAYS_INLINE void tile(const Op& op, const S* x, const S* w, const S* b, F (&acc)[TO][TY][TX]) {
  const int k = K ? K : op.kernel;
  const long row = long(op.in_w) * L, plane = row * op.in_h, wo = long(op.in_c) * k * k * L;
  UNROLL for (int o = 0; o < TO; ++o) {
    const F bias = V::load(b + o * L);
    UNROLL for (int ty = 0; ty < TY; ++ty) UNROLL for (int tx = 0; tx < TX; ++tx) acc[o][ty][tx] = bias;
  }
  for (int c = 0; c < op.in_c; ++c) {
    const S* xc = x + c * plane;
    for (int ky = 0; ky < k; ++ky, xc += row, w += k * L) {
      const auto column = [&](int kx) __attribute__((always_inline)) {
        F wv[TO];
        UNROLL for (int o = 0; o < TO; ++o) wv[o] = V::load(w + o * wo + kx * L);
        UNROLL for (int ty = 0; ty < TY; ++ty) UNROLL for (int tx = 0; tx < TX; ++tx) {
          const F xv = V::load(xc + ty * row + (tx + kx) * L);
          UNROLL for (int o = 0; o < TO; ++o) acc[o][ty][tx] = V::fma(xv, wv[o], acc[o][ty][tx]);
        }
      };
      if constexpr (K != 0 && L != 8) {
        UNROLL for (int kx = 0; kx < K; ++kx) column(kx);
      } else {
        for (int kx = 0; kx < k; ++kx) column(kx);
      }
    }
  }
}

// Additional data of a layer with a noise variance: squared inputs, variances of weights and biases, and a Gaussian for
// every output before the pool. The layer writes noise / (2 standard deviations) for every output after the pool.
struct Noise {
  const S* x2;
  const S* w;
  const S* b;
  const Philox* draw;
  S* strips;  // kMaxTile strips, with the Gaussians of the channels and rows that are being computed
  S* ratio;
};

constexpr int kMaxTile = 4;

// Number of values in a strip: some rows, and the rest of the blocks of words in which they begin and end.
inline long strip_size(const Op& op) { return 2L * op.conv_w() + 8; }

// Draws the rows [y, y + rows) of channel o. Returns a pointer to the first one.
KERNEL const S* draw_strip(const Op& op, const Philox& draw, int o, int y, int rows, S* strip) {
  const long start = (long(o) * op.conv_h() + y) * op.conv_w(), stop = start + long(rows) * op.conv_w();
  draw_gaussians(draw, start / 4, (stop + 3) / 4, strip);
  return strip + start % 4 * L;
}

// The first maximum in row-major order. As in torch, a NaN wins over every other value, and the last NaN over the
// others.
ALWAYS_INLINE F pool(const F (&v)[4], M& right, M& lower) {
  const M m1 = V::gt(v[1], v[0]);
  F best = V::select(m1, v[1], v[0]);
  const M m2 = V::gt(v[2], best);
  best = V::select(m2, v[2], best);
  const M m3 = V::gt(v[3], best);
  const M bad = V::either(V::unordered(v[1], v[2]), V::unordered(v[3], best));
  best = V::select(m3, v[3], best);
  right = V::either(m3, V::first_only(m1, m2));
  lower = V::either(m2, m3);
  if (__builtin_expect(V::any(bad), 0)) {
    const M none = V::gt(V::set(0), V::set(0));
    best = v[0], right = none, lower = none;
    for (int i = 1; i < 4; ++i) {
      const M m = V::either(V::gt(v[i], best), V::unordered(v[i], v[i]));
      best = V::select(m, v[i], best);
      right = i & 1 ? V::either(right, m) : V::first_only(right, m);
      lower = i & 2 ? V::either(lower, m) : V::first_only(lower, m);
    }
  }
  return best;
}

template <int K, int TX, int TO, bool POOLED, bool NOISY>
ALWAYS_INLINE void forward_tile(const Op& op, const S* x, const S* w, const S* b, S* out, Sel* sel, const Noise* noise,
                                const S* const* strips, int o, int y, int xx) {
  constexpr int TY = POOLED ? 2 : 1;
  const int k = K ? K : op.kernel;
  const long at = (long(y) * op.in_w + xx) * L, wo = long(op.in_c) * k * k * L;
  F acc[TO][TY][TX];
  S deviations[NOISY ? TO * TY * TX * L : 1] __attribute__((aligned(64)));
  if constexpr (NOISY) {  // comes first, so that the other convolution hides the latency of the square roots
    tile<K, TY, TX, TO>(op, noise->x2 + at, noise->w + o * wo, noise->b + o * L, acc);
    UNROLL for (int i = 0; i < TO * TY * TX; ++i)
      V::store(deviations + i * L, V::sqrt(acc[i / (TY * TX)][i / TX % TY][i % TX] + V::set(S(1e-15))));
  }
  tile<K, TY, TX, TO>(op, x + at, w + o * wo, b + o * L, acc);
  const auto gaussian = [&](int to, int ty, int tx) __attribute__((always_inline)) {
    return V::load(strips[to] + (long(ty) * op.conv_w() + xx + tx) * L);
  };
  if constexpr (NOISY) {
    UNROLL for (int i = 0; i < TO * TY * TX; ++i) {
      const int to = i / (TY * TX), ty = i / TX % TY, tx = i % TX;
      acc[to][ty][tx] = V::fma(V::load(deviations + i * L), gaussian(to, ty, tx), acc[to][ty][tx]);
    }
  }
  UNROLL for (int to = 0; to < TO; ++to) {
    if constexpr (POOLED) {
      const long cell = (long(o + to) * op.out_h + y / 2) * op.out_w + xx / 2;
      UNROLL for (int tx = 0; tx < TX; tx += 2) {
        const F values[4] = {acc[to][0][tx], acc[to][0][tx + 1], acc[to][1][tx], acc[to][1][tx + 1]};
        M right, lower;
        V::store(out + (cell + tx / 2) * L, pool(values, right, lower));
        if (sel) V::save(sel + (cell + tx / 2) * V::kSel, right, lower);
        if constexpr (NOISY) {
          const S* d = deviations + (to * TY * TX + tx) * L;
          const F d0 = V::select(right, V::load(d + L), V::load(d));
          const F d1 = V::select(right, V::load(d + (TX + 1) * L), V::load(d + TX * L));
          const F g0 = V::select(right, gaussian(to, 0, tx + 1), gaussian(to, 0, tx));
          const F g1 = V::select(right, gaussian(to, 1, tx + 1), gaussian(to, 1, tx));
          const F half = V::set(S(0.5)) * V::select(lower, g1, g0);
          V::store(noise->ratio + (cell + tx / 2) * L, half / V::select(lower, d1, d0));
        }
      }
    } else {
      const long cell = (long(o + to) * op.out_h + y) * op.out_w + xx;
      UNROLL for (int tx = 0; tx < TX; ++tx) {
        V::store(out + (cell + tx) * L, acc[to][0][tx]);
        if constexpr (NOISY) {
          const F half = V::set(S(0.5)) * gaussian(to, 0, tx);
          V::store(noise->ratio + (cell + tx) * L, half / V::load(deviations + (to * TX + tx) * L));
        }
      }
    }
  }
}

template <int K, int TX, int TO, bool POOLED, bool NOISY>
KERNEL void forward_rows(const Op& op, const S* x, const S* w, const S* b, S* out, Sel* sel, const Noise* noise) {
  constexpr int TY = POOLED ? 2 : 1, NARROW = POOLED ? 2 : 1;
  const int rows = op.out_h * TY, columns = op.out_w * TY;
  const S* strips[TO] = {};
  const auto draw = [&](int o, int y, int count) __attribute__((always_inline)) {
    if constexpr (NOISY)
      for (int i = 0; i < count; ++i)
        strips[i] = draw_strip(op, *noise->draw, o + i, y, TY, noise->strips + i * strip_size(op) * L);
  };
  for (int y = 0; y < rows; y += TY) {
    int o = 0;
    for (; o + TO <= op.out_c; o += TO) {
      draw(o, y, TO);
      int xx = 0;
      for (; xx + TX <= columns; xx += TX)
        forward_tile<K, TX, TO, POOLED, NOISY>(op, x, w, b, out, sel, noise, strips, o, y, xx);
      if constexpr (TX != NARROW)
        for (; xx < columns; xx += NARROW)
          forward_tile<K, NARROW, TO, POOLED, NOISY>(op, x, w, b, out, sel, noise, strips, o, y, xx);
    }
    if constexpr (TO != 1)
      for (; o < op.out_c; ++o) {
        draw(o, y, 1);
        int xx = 0;
        for (; xx + TX <= columns; xx += TX)
          forward_tile<K, TX, 1, POOLED, NOISY>(op, x, w, b, out, sel, noise, strips, o, y, xx);
        if constexpr (TX != NARROW)
          for (; xx < columns; xx += NARROW)
            forward_tile<K, NARROW, 1, POOLED, NOISY>(op, x, w, b, out, sel, noise, strips, o, y, xx);
      }
  }
}

template <int K, bool NOISY>
void forward_kernel(const Op& op, const S* x, const S* w, const S* b, S* out, Sel* sel, const Noise* noise) {
  if (!op.pooled) return forward_rows<K, 3, 4, false, NOISY>(op, x, w, b, out, sel, noise);
#if defined(LANES_AVX512)
  return forward_rows<K, 4, 2, true, NOISY>(op, x, w, b, out, sel, noise);
#else
  if (op.out_c % 3 == 0) return forward_rows<K, 2, 3, true, NOISY>(op, x, w, b, out, sel, noise);
  return forward_rows<K, 6, 1, true, NOISY>(op, x, w, b, out, sel, noise);
#endif
}

template <bool NOISY>
void conv_forward(const Op& op, const S* x, const S* w, const S* b, S* out, Sel* sel, const Noise* noise) {
  switch (op.kernel) {
    case 2: return forward_kernel<2, NOISY>(op, x, w, b, out, sel, noise);
    case 3: return forward_kernel<3, NOISY>(op, x, w, b, out, sel, noise);
    case 5: return forward_kernel<5, NOISY>(op, x, w, b, out, sel, noise);
    default: return forward_kernel<0, NOISY>(op, x, w, b, out, sel, noise);
  }
}

}  // namespace
