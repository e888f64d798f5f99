// The pixel values of the images of a lane group, from their bytes.
#pragma once
#include "functions.h"

namespace {

using lanes::Images;
using lanes::Plan;

#if defined(LANES_AVX512) || defined(LANES_AVX2)

ALWAYS_INLINE F pixel_values(U bytes, const lanes::PixelRule& rule) {
  const F b = V::from_int(bytes), r = V::set(1.0f / 255.0f);
  const F near = b * r, unit = V::fma(V::fma(near, V::set(-255.0f), b), r, near);
  const F d = unit - V::set(rule.mean), reciprocal = V::set(rule.reciprocal), quotient = d * reciprocal;
  return V::fma(V::fma(quotient, V::set(-rule.deviation), d), reciprocal, quotient);
}

// Converts 16 pixels of every lane's image: perfect shuffles transpose the bytes, then the rule is applied.
ALWAYS_INLINE void pack_block(const uint8_t* const* image, long at, const lanes::PixelRule& rule, S* out) {
  __m128i rows[L], next[L];
  UNROLL for (int i = 0; i < L; ++i) rows[i] = _mm_loadu_si128((const __m128i*)(image[i] + at));
  UNROLL for (int half = L / 2; half >= 1; half /= 2) {
    UNROLL for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + L / 2]);
      next[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + L / 2]);
    }
    UNROLL for (int i = 0; i < L; ++i) rows[i] = next[i];
  }
  UNROLL for (int i = 0; i < 16; ++i) {
#if defined(LANES_AVX512)
    const U bytes = (U)_mm512_cvtepu8_epi32(rows[i]);
#else
    const U bytes = (U)_mm256_cvtepu8_epi32(i % 2 ? _mm_unpackhi_epi64(rows[i / 2], rows[i / 2]) : rows[i / 2]);
#endif
    V::store(out + i * L, pixel_values(bytes, rule));
  }
}

#endif

// Converts each lane's own image of `plane` pixels to [channel][pixel][lane].
KERNEL void pack_planes(int channels, long plane, const Images& data, const uint8_t* const* image, S* out) {
  for (int c = 0; c < channels; ++c) {
    const float* table = data.table + 256 * c;
    for (long p = 0; p < plane; p += 16) {
      const long at = c * plane + p;
      const int count = plane - p < 16 ? int(plane - p) : 16;
#if defined(LANES_AVX512) || defined(LANES_AVX2)
      if (data.rules && count == 16) {
        pack_block(image, at, data.rules[c], out + at * L);
        continue;
      }
#endif
      for (int lane = 0; lane < L; ++lane) {
        const uint8_t* bytes = image[lane] + at;
        S* to = out + at * L + lane;
        for (int i = 0; i < count; ++i) to[i * L] = S(table[bytes[i]]);
      }
    }
  }
}

void pack(const Plan& plan, const Images& data, const uint8_t* const* image, S* out) {
  const Op& first = plan.ops[0];
  pack_planes(first.in_c, long(first.in_h) * first.in_w, data, image, out);
}

KERNEL void pack_shared(const Plan& plan, const Images& data, const uint8_t* image, S* out) {
  const Op& first = plan.ops[0];
  const long plane = long(first.in_h) * first.in_w;
  for (int c = 0; c < first.in_c; ++c)
    for (long p = 0; p < plane; ++p, out += L, ++image) V::store(out, V::set(S(data.table[256 * c + *image])));
}

}  // namespace
