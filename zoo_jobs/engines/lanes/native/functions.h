// exp, log, tanh, the normal distribution and Gaussians, from polynomials of our own: the same operations in the same
// order for every instruction set. docs/lanes.md has their measured errors. The double kernels, which only check
// gradients, use libm.
#pragma once
#include <cmath>

#include "plan.h"
#include "simd.h"

namespace {

#if defined(LANES_DOUBLE)

ALWAYS_INLINE F exp_(F x) { return std::exp(x); }
ALWAYS_INLINE F log_(F x) { return std::log(x); }
ALWAYS_INLINE F tanh_(F x) { return std::tanh(x); }
ALWAYS_INLINE void normal_cdf(F x, F& cdf, F& density) {
  cdf = 0.5 * std::erfc(-x * 0.70710678118654752440);
  density = std::exp(-0.5 * x * x) * 0.39894228040143267794;
}
ALWAYS_INLINE F log_inside(F x) { return std::log(x); }
ALWAYS_INLINE void sincos_(F x, F& sin, F& cos) { sin = std::sin(x), cos = std::cos(x); }
ALWAYS_INLINE void sincos_turn(U word, F& sin, F& cos) {
  const double angle = 6.283185307179586477 * (word >> 8) * 0x1p-24;
  sin = std::sin(angle), cos = std::cos(angle);
}

#else

// 2^n and e^r - 1 for x = n ln 2 + r. Only valid for x within +-88.8.
ALWAYS_INLINE void exp_parts(F x, U& n, F& q) {
  const F magic = V::set(12582912.0f);  // 1.5 * 2^23: the last bits of the sum are the rounded integer
  const F t = V::fma(x, V::set(1.44269504f), magic);
  const F whole = t - magic;
  F r = V::fma(whole, V::set(-0.693359375f), x);
  r = V::fma(whole, V::set(2.12194440e-4f), r);
  F p = V::set(0x1.6a2430p-10f);
  p = V::fma(p, r, V::set(0x1.1239e4p-7f));
  p = V::fma(p, r, V::set(0x1.5558f2p-5f));
  p = V::fma(p, r, V::set(0x1.555492p-3f));
  p = V::fma(p, r, V::set(0x1.fffffcp-2f));
  q = V::fma(p * r, r, r);
  n = V::bits(t) << 23;  // the shift drops the upper bits, which come from the magic number
}

// Only valid for x in [-87.3, 88.72].
ALWAYS_INLINE F exp_inside(F x) {
  U n;
  F q;
  exp_parts(x, n, q);
  return V::from_bits(V::bits(q + V::set(1.0f)) + n);
}

// Returns infinity above 88.72 and zero below -87.3; NaN stays NaN.
ALWAYS_INLINE F exp_(F x) {
  F y = exp_inside(x);
  y = V::select(V::gt(x, V::set(88.72f)), V::set(INFINITY), y);
  y = V::select(V::gt(V::set(-87.3f), x), V::set(0.0f), y);
  return V::select(V::unordered(x, x), x, y);
}

// Only valid for positive, normal, finite x.
ALWAYS_INLINE F log_inside(F x) {
  const U ix = V::bits(x) - V::setu(0x3f3504f3u);
  const F e = V::from_int((U)((V::I)ix >> 23));
  const F m = V::from_bits((ix & V::setu(0x007fffffu)) + V::setu(0x3f3504f3u));
  const F f = m - V::set(1.0f);
  const F s = f / (V::set(2.0f) + f);
  const F z = s * s;
  const F w = z * z;
  const F t1 = w * V::fma(w, V::set(0.24279078841f), V::set(0.40000972152f));
  const F t2 = z * V::fma(w, V::set(0.28498786688f), V::set(0.66666662693f));
  const F half = V::set(0.5f) * f * f;
  F y = V::fma(s, half + (t1 + t2), e * V::set(9.0580006145e-6f));
  y = (y - half) + f;
  return V::fma(e, V::set(6.9313812256e-1f), y);
}

// For positive normal x; infinity and NaN are returned as they are.
ALWAYS_INLINE F log_(F x) { return V::select(V::gt(V::set(INFINITY), x), log_inside(x), x); }

// Computed from e^(-2|x|) - 1, so that no digits cancel near 0.
ALWAYS_INLINE F tanh_(F x) {
  const F a = V::abs(x);
  U n;
  F q;
  exp_parts(V::select(V::gt(a, V::set(10.0f)), V::set(-20.0f), V::set(-2.0f) * a), n, q);
  const F power = V::from_bits(n + V::setu(0x3f800000u));
  const F e = V::fma(power, q, power - V::set(1.0f));
  const F y = V::abs(e / (e + V::set(2.0f)));
  return V::from_bits(V::bits(y) | (V::bits(x) & V::setu(0x80000000u)));
}

// Cumulative distribution and density of the standard normal. The lower tail comes from the scaled complementary
// error function (Mills ratio), so nothing cancels; exp(-x^2/2) is corrected for the rounding of x^2.
ALWAYS_INLINE void normal_cdf(F x, F& cdf, F& density) {
  const F square = x * x;
  const F lost = V::fma(x, x, V::set(0.0f) - square);
  F e = exp_inside(V::set(-0.5f) * square);
  e = V::fma(e * V::set(-0.5f), lost, e);
  const F far = V::select(V::unordered(x, x), x, V::set(0.0f));
  e = V::select(V::gt(V::set(174.0f), square), e, far);
  const F t = V::set(1.0f) / V::fma(V::abs(x), V::set(0.35f * 0.70710678118654752440f), V::set(1.0f));
  F p = V::set(0x1.44f5fep-5f);
  p = V::fma(p, t, V::set(-0x1.53f0eap-3f));
  p = V::fma(p, t, V::set(0x1.96964ep-3f));
  p = V::fma(p, t, V::set(-0x1.a33668p-5f));
  p = V::fma(p, t, V::set(0x1.b71990p-4f));
  p = V::fma(p, t, V::set(0x1.1413fcp-3f));
  p = V::fma(p, t, V::set(0x1.3de944p-3f));
  p = V::fma(p, t, V::set(0x1.7ef86ap-3f));
  p = V::fma(p, t, V::set(0x1.93f924p-3f));
  p = V::fma(p, t, V::set(0x1.946f22p-3f));
  const F tail = (V::set(0.5f) * e) * (p * t);
  cdf = V::select(V::gt(x, V::set(0.0f)), V::set(1.0f) - tail, tail);
  density = e * V::set(0.39894228040f);
}

// Sine and cosine. If |x| is above 2^20, x counts as 2^20 with its sign; infinity gives NaN. A multiple of pi / 2 is
// subtracted from x in three parts, which leaves at most pi / 4. The difference of the first product is exact.
ALWAYS_INLINE void sincos_(F x, F& sin, F& cos) {
  const F limit = V::set(1048576.0f), magic = V::set(12582912.0f), zero = V::set(0.0f);
  F a = V::select(V::gt(x, limit), limit, x);
  a = V::select(V::gt(zero - limit, x), zero - limit, a) + (x - x);
  const F t = V::fma(a, V::set(0x1.45f306p-1f), magic);
  const F turns = t - magic;
  F r = V::fma(turns, V::set(-0x1.921fb6p+0f), a);
  r = V::fma(turns, V::set(0x1.777a5cp-25f), r);
  r = V::fma(turns, V::set(0x1.ee59dap-50f), r);
  const U quadrant = V::bits(t);
  const F z = r * r;
  F p = V::set(-0x1.99421ep-13f);
  p = V::fma(p, z, V::set(0x1.110736p-7f));
  p = V::fma(p, z, V::set(-0x1.555546p-3f));
  const F s = V::fma(p, z * r, r);
  F q = V::set(0x1.99eap-16f);
  q = V::fma(q, z, V::set(-0x1.6c0c2ep-10f));
  q = V::fma(q, z, V::set(0x1.55554ap-5f));
  q = V::fma(q, z, V::set(-0.5f));
  const F c = V::fma(q, z, V::set(1.0f));
  const M swap = V::test(quadrant, V::setu(1));
  const F sin_abs = V::select(swap, c, s), cos_abs = V::select(swap, s, c);
  sin = V::from_bits(V::bits(sin_abs) ^ ((quadrant & V::setu(2)) << 30));
  cos = V::from_bits(V::bits(cos_abs) ^ (((quadrant + V::setu(1)) & V::setu(2)) << 30));
}

// Sine and cosine of 2 pi (word >> 8) / 2^24; the reduction to an eighth of a turn is exact.
ALWAYS_INLINE void sincos_turn(U word, F& sin, F& cos) {
  const U top = V::setu(0x80000000u);
  const U turned = word + V::setu(1u << 29);  // its two upper bits are the rounded quadrant
  const F r = V::from_int((U)((V::I)(word << 2) >> 10)) * V::set(0x1p-24f);
  const F z = r * r;
  F p = V::set(-0x1.2d9302p+6f);
  p = V::fma(p, z, V::set(0x1.465e92p+6f));
  p = V::fma(p, z, V::set(-0x1.4abbbap+5f));
  p = V::fma(p, z, V::set(0x1.921fb6p+2f));
  const F s = p * r;
  F q = V::set(0x1.d9f7bap+5f);
  q = V::fma(q, z, V::set(-0x1.55c664p+6f));
  q = V::fma(q, z, V::set(0x1.03c1dep+6f));
  q = V::fma(q, z, V::set(-0x1.3bd3ccp+4f));
  const F c = V::fma(q, z, V::set(1.0f));
  const M swap = V::test(turned, V::setu(1u << 30));
  const F sin_abs = V::select(swap, c, s), cos_abs = V::select(swap, s, c);
  sin = V::from_bits(V::bits(sin_abs) ^ (turned & top));
  cos = V::from_bits(V::bits(cos_abs) ^ ((turned + V::setu(1u << 30)) & top));
}

#endif

ALWAYS_INLINE F sigmoid_(F x) { return V::set(1) / (V::set(1) + exp_(V::set(0) - x)); }

// Philox4x32-10 (Salmon et al. 2011) of one purpose, step, epoch and stream; the key's first half is the lane's seed.
// The products of the first round are the same in every lane. Those of words 0 and 1 in the second round are the same
// for every block.
class Philox {
 public:
  ALWAYS_INLINE Philox(U seed, uint32_t purpose, uint32_t step, uint32_t epoch, uint32_t stream)
      : purpose_(purpose), stream_(stream) {
    const uint64_t second = uint64_t(m1) * epoch;
    low_ = uint32_t(second);
    V::mul_wide(V::split_even_odd(V::setu(uint32_t(second >> 32) ^ step) ^ seed), m0, product_high_, product_low_);
#pragma GCC unroll 9
    for (uint32_t round = 1; round < 10; ++round) {
      key_[round - 1] = V::split_even_odd(seed + V::setu(round * w0));
      purpose_key_[round - 1] = V::split_even_odd(V::setu(purpose + round * w1));
    }
  }

  ALWAYS_INLINE void block(uint32_t index, U (&out)[4]) const {
    const uint64_t first = uint64_t(m0) * index;
    const uint64_t second = uint64_t(m1) * (uint32_t(first >> 32) ^ stream_ ^ purpose_);
    V::P x0 = V::xor3(V::split_even_odd(uint32_t(second >> 32)), V::split_even_odd(low_), key_[0]);
    V::P x2 = V::xor3(V::split_even_odd(uint32_t(first)), product_high_, purpose_key_[0]);
    V::P x1 = V::split_even_odd(uint32_t(second)), x3 = product_low_;
#pragma GCC unroll 8
    for (uint32_t round = 2; round < 10; ++round) {
      V::P high0, low0, high1, low1;
      V::mul_wide(x0, m0, high0, low0);
      V::mul_wide(x2, m1, high1, low1);
      x0 = V::xor3(high1, x1, key_[round - 1]);
      x2 = V::xor3(high0, x3, purpose_key_[round - 1]);
      x1 = low1, x3 = low0;
    }
    out[0] = V::merge(x0), out[1] = V::merge(x1), out[2] = V::merge(x2), out[3] = V::merge(x3);
  }

 private:
  static constexpr uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
  V::P key_[9], purpose_key_[9], product_high_, product_low_;
  uint32_t purpose_, stream_, low_;
};

// Box-Muller over two words: docs/determinism.md.
ALWAYS_INLINE void gaussians(U even, U odd, F& g0, F& g1) {
  const F u = (V::from_int(even >> 8) + V::set(S(0.5))) * V::set(S(0x1p-24));
  const F r = V::sqrt(V::set(-2) * log_inside(u));
  F sin, cos;
  sincos_turn(odd, sin, cos);
  g0 = r * cos, g1 = r * sin;
}

// Writes the Gaussians of blocks [first, stop), four per block. The words of several blocks are drawn before they are
// transformed: the processor overlaps the long chain of operations of one block only with those of the same loop.
ALWAYS_INLINE void draw_gaussians(const Philox& draw, long first, long stop, S* out) {
  constexpr int kBlocks = 8;
  U words[4 * kBlocks];
  for (; first < stop; first += kBlocks) {
    const int count = stop - first < kBlocks ? int(stop - first) : kBlocks;
    for (int i = 0; i < count; ++i) {
      U block[4];
      draw.block(uint32_t(first + i), block);
      for (int j = 0; j < 4; ++j) words[4 * i + j] = block[j];
    }
    for (int i = 0; i < 2 * count; ++i, out += 2 * L) {
      F g0, g1;
      gaussians(words[2 * i], words[2 * i + 1], g0, g1);
      V::store(out, g0), V::store(out + L, g1);
    }
  }
}

}  // namespace
