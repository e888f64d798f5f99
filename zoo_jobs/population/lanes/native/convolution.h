// Convolutions without padding, stride 1. The order of every sum is part of the format of this engine's numbers:
//   forward          bias, then c, ky, kx
//   weight gradient  sample, then y, x of the output (of the pooled output where a pool follows)
//   data gradient    ky, then o, then kx; positions outside the output are not visited
// Tiles only decide which sums run side by side, so they may differ by instruction set and layer.
#pragma once
#include "functions.h"
#include "plan.h"

namespace {

using lanes::Op;

#define UNROLL _Pragma("GCC unroll 96")

// ---------------------------------------------------------------------------------------------------------- forward

// K = 0: kernel size known at run time only.
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

// What a layer with a noise variance needs besides: squared inputs, variances of weights and biases, a Gaussian at every
// output before the pool; it leaves noise / (2 standard deviations) at every output after the pool.
struct Noise {
  const S* x2;
  const S* w;
  const S* b;
  Draw draw;
  S* strips;  // Gaussians of the channels and rows at work, kMaxTile strips
  S* ratio;
};

constexpr int kMaxTile = 4;

// Values of a strip: some rows, and what is left over of the blocks that they begin and end in.
inline long strip_size(const Op& op) { return 2L * op.conv_w() + 8; }

// Draws channel o's rows y ... y + rows; returns where they begin.
KERNEL const S* draw_strip(const Op& op, const Draw& draw, int o, int y, int rows, S* strip) {
  const long start = (long(o) * op.conv_h() + y) * op.conv_w(), stop = start + long(rows) * op.conv_w();
  draw_gaussians(draw, start / 4, (stop + 3) / 4, strip);
  return strip + start % 4 * L;
}

// Row-major first maximum; a NaN wins over everything, the last one over the others, as in torch.
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
  tile<K, TY, TX, TO>(op, x + at, w + o * wo, b + o * L, acc);
  S deviations[NOISY ? TO * TY * TX * L : 1] __attribute__((aligned(64)));
  const auto gaussian = [&](int to, int ty, int tx) __attribute__((always_inline)) {
    return V::load(strips[to] + (long(ty) * op.conv_w() + xx + tx) * L);
  };
  if constexpr (NOISY) {
    S mean[TO * TY * TX * L] __attribute__((aligned(64)));
    UNROLL for (int i = 0; i < TO * TY * TX; ++i) V::store(mean + i * L, acc[i / (TY * TX)][i / TX % TY][i % TX]);
    tile<K, TY, TX, TO>(op, noise->x2 + at, noise->w + o * wo, noise->b + o * L, acc);
    UNROLL for (int i = 0; i < TO * TY * TX; ++i) {
      const int to = i / (TY * TX), ty = i / TX % TY, tx = i % TX;
      const F deviation = V::sqrt(acc[to][ty][tx] + V::set(S(1e-15)));
      V::store(deviations + i * L, deviation);
      acc[to][ty][tx] = V::fma(deviation, gaussian(to, ty, tx), V::load(mean + i * L));
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
        strips[i] = draw_strip(op, noise->draw, o + i, y, TY, noise->strips + i * strip_size(op) * L);
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

// -------------------------------------------------------------------------------------------------- weight gradient

// One kernel row ky of TO x KX weights; the pool's choice among four inputs is made by two blends per value.
template <int KX, int TO, bool POOLED, bool SQUARE>
ALWAYS_INLINE void gradient_row(const Op& op, const S* x, const S* g, const Sel* sel, S* dw, long wo) {
  const long row = long(op.in_w) * L, cells = long(op.out_h) * op.out_w;
  F acc[TO][KX];
  UNROLL for (int o = 0; o < TO; ++o) UNROLL for (int kx = 0; kx < KX; ++kx) acc[o][kx] = V::load(dw + o * wo + kx * L);
  for (int y = 0; y < op.out_h; ++y) {
    const S* upper = x + (POOLED ? 2 : 1) * y * row;
    const S* gy = g + long(y) * op.out_w * L;
    const Sel* sy = POOLED ? sel + long(y) * op.out_w * V::kSel : nullptr;
    for (int xx = 0; xx < op.out_w; ++xx, upper += (POOLED ? 2 : 1) * L, gy += L) {
      if constexpr (POOLED) {
        UNROLL for (int o = 0; o < TO; ++o) {
          M right, lower;
          V::restore(sy + (o * cells + xx) * V::kSel, right, lower);
          const F gv = V::load(gy + o * cells * L);
          F left = V::select(lower, V::load(upper + row), V::load(upper));
          UNROLL for (int kx = 0; kx < KX; ++kx) {
            const F next = V::select(lower, V::load(upper + row + (kx + 1) * L), V::load(upper + (kx + 1) * L));
            F xv = V::select(right, next, left);
            if constexpr (SQUARE) xv = xv * xv;
            acc[o][kx] = V::fma(gv, xv, acc[o][kx]);
            left = next;
          }
        }
      } else {
        F xv[KX];
        UNROLL for (int kx = 0; kx < KX; ++kx) {
          xv[kx] = V::load(upper + kx * L);
          if constexpr (SQUARE) xv[kx] = xv[kx] * xv[kx];
        }
        UNROLL for (int o = 0; o < TO; ++o) {
          const F gv = V::load(gy + o * cells * L);
          UNROLL for (int kx = 0; kx < KX; ++kx) acc[o][kx] = V::fma(gv, xv[kx], acc[o][kx]);
        }
      }
    }
  }
  UNROLL for (int o = 0; o < TO; ++o) UNROLL for (int kx = 0; kx < KX; ++kx) V::store(dw + o * wo + kx * L, acc[o][kx]);
}

template <int K, int TO, bool POOLED, bool SQUARE>
KERNEL void gradient_kernel(const Op& op, const S* x, const S* g, const Sel* sel, S* dw) {
  const int k = K ? K : op.kernel;
  const long row = long(op.in_w) * L, plane = row * op.in_h, wo = long(op.in_c) * k * k * L;
  const long cells = long(op.out_h) * op.out_w;
  for (int c = 0; c < op.in_c; ++c)
    for (int ky = 0; ky < k; ++ky) {
      const S* xc = x + c * plane + ky * row;
      S* dwc = dw + (long(c) * k + ky) * k * L;
      int o = 0;
      for (; o + TO <= op.out_c; o += TO) {
        const Sel* so = POOLED ? sel + o * cells * V::kSel : nullptr;
        if constexpr (K != 0)
          gradient_row<K, TO, POOLED, SQUARE>(op, xc, g + o * cells * L, so, dwc + o * wo, wo);
        else
          for (int kx = 0; kx < k; ++kx)
            gradient_row<1, TO, POOLED, SQUARE>(op, xc + kx * L, g + o * cells * L, so, dwc + o * wo + kx * L, wo);
      }
      for (; o < op.out_c; ++o) {
        const Sel* so = POOLED ? sel + o * cells * V::kSel : nullptr;
        if constexpr (K != 0)
          gradient_row<K, 1, POOLED, SQUARE>(op, xc, g + o * cells * L, so, dwc + o * wo, wo);
        else
          for (int kx = 0; kx < k; ++kx)
            gradient_row<1, 1, POOLED, SQUARE>(op, xc + kx * L, g + o * cells * L, so, dwc + o * wo + kx * L, wo);
      }
    }
}

// Adds to dw and db.
template <bool SQUARE>
void conv_weight_gradient(const Op& op, const S* x, const S* g, const Sel* sel, S* dw, S* db) {
  const long cells = long(op.out_h) * op.out_w;
  for (int o = 0; o < op.out_c; ++o) {
    F acc = V::load(db + o * L);
    for (long cell = 0; cell < cells; ++cell) acc = acc + V::load(g + (o * cells + cell) * L);
    V::store(db + o * L, acc);
  }
#if defined(LANES_AVX512)
  constexpr int T5 = 4, T3 = 4;
#else
  constexpr int T5 = 2, T3 = 3;
#endif
  if (op.pooled) {
    if (op.kernel == 5) return gradient_kernel<5, T5, true, SQUARE>(op, x, g, sel, dw);
    if (op.kernel == 3) return gradient_kernel<3, T3, true, SQUARE>(op, x, g, sel, dw);
    return gradient_kernel<0, 4, true, SQUARE>(op, x, g, sel, dw);
  }
  if (op.kernel == 2) return gradient_kernel<2, 4, false, SQUARE>(op, x, g, sel, dw);
  return gradient_kernel<0, 4, false, SQUARE>(op, x, g, sel, dw);
}

// ---------------------------------------------------------------------------------------------------- data gradient

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

template <int TC>
ALWAYS_INLINE void data_value(const Op& op, int gh, int gw, const S* g, const S* w, S* dx, int iy, int ix) {
  const int k = op.kernel;
  const long wc = long(k) * k * L, wo = op.in_c * wc, plane = long(op.in_h) * op.in_w * L;
  F acc[TC];
  UNROLL for (int c = 0; c < TC; ++c) acc[c] = V::set(0);
  const int y0 = iy - gh + 1 > 0 ? iy - gh + 1 : 0, y1 = iy < k - 1 ? iy : k - 1;
  const int x0 = ix - gw + 1 > 0 ? ix - gw + 1 : 0, x1 = ix < k - 1 ? ix : k - 1;
  for (int ky = y0; ky <= y1; ++ky)
    for (int o = 0; o < op.out_c; ++o)
      for (int kx = x0; kx <= x1; ++kx) {
        const F gv = V::load(g + ((long(o) * gh + iy - ky) * gw + ix - kx) * L);
        const S* wv = w + o * wo + (ky * k + kx) * L;
        UNROLL for (int c = 0; c < TC; ++c) acc[c] = V::fma(gv, V::load(wv + c * wc), acc[c]);
      }
  UNROLL for (int c = 0; c < TC; ++c) V::store(dx + c * plane, acc[c]);
}

// g: [out_c][gh][gw] before the pool, where gh and gw are what the pool used.
void conv_data_gradient(const Op& op, int gh, int gw, const S* g, const S* w, S* dx) {
#if defined(LANES_AVX512)
  constexpr int T3 = 2, T4 = 2;
#else
  constexpr int T3 = 1, T4 = 2;
#endif
  if (op.kernel == 5 && gw == 8) return data_gradient_kernel<8, 5, 1>(op, gh, g, w, dx);
  if (op.kernel == 3 && gw == 12) return data_gradient_kernel<12, 3, T3>(op, gh, g, w, dx);
  if (op.kernel == 3 && gw == 4) return data_gradient_kernel<4, 3, T4>(op, gh, g, w, dx);
  if (op.kernel == 2 && gw == 3) return data_gradient_kernel<3, 2, 2>(op, gh, g, w, dx);
  const long wc = long(op.kernel) * op.kernel * L;
  for (int iy = 0; iy < op.in_h; ++iy)
    for (int ix = 0; ix < op.in_w; ++ix) {
      int c = 0;
      for (; c + 4 <= op.in_c; c += 4)
        data_value<4>(op, gh, gw, g, w + c * wc, dx + ((long(c) * op.in_h + iy) * op.in_w + ix) * L, iy, ix);
      for (; c < op.in_c; ++c)
        data_value<1>(op, gh, gw, g, w + c * wc, dx + ((long(c) * op.in_h + iy) * op.in_w + ix) * L, iy, ix);
    }
}

}  // namespace
