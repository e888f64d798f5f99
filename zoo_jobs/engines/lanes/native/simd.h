// Defines V, the vector type of a translation unit. V::F holds a floating-point value per lane, V::U an unsigned word
// per lane, and V::M a mask. Everything is in an unnamed namespace, because objects must not share the code of a wide
// instruction set.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(LANES_AVX512) || defined(LANES_AVX2)
#include <immintrin.h>
#elif defined(LANES_VEC4) && defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(LANES_VEC4) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ALWAYS_INLINE __attribute__((always_inline)) inline
#define KERNEL __attribute__((noinline))  // has a name in profiles
#define UNROLL _Pragma("GCC unroll 96")

namespace {

#if defined(LANES_AVX512)

struct V {
  static constexpr int L = 16;
  static constexpr const char* name = "avx512";
  using S = float;
  using F = __m512;
  typedef uint32_t U __attribute__((vector_size(64)));
  typedef int32_t I __attribute__((vector_size(64)));
  using M = __mmask16;
  using Sel = uint16_t;
  static constexpr int kSel = 2;  // number of Sel values per cell of a pool

  static ALWAYS_INLINE F load(const S* p) { return _mm512_load_ps(p); }
  static ALWAYS_INLINE void store(S* p, F x) { _mm512_store_ps(p, x); }
  static ALWAYS_INLINE U loadu(const uint32_t* p) { return (U)_mm512_loadu_si512(p); }
  static ALWAYS_INLINE F set(S x) { return _mm512_set1_ps(x); }
  static ALWAYS_INLINE U setu(uint32_t x) { return (U)_mm512_set1_epi32(int(x)); }
  static ALWAYS_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static ALWAYS_INLINE F sqrt(F x) { return _mm512_sqrt_ps(x); }
  static ALWAYS_INLINE F abs(F x) { return _mm512_abs_ps(x); }
  static ALWAYS_INLINE M gt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static ALWAYS_INLINE M ge(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static ALWAYS_INLINE M unordered(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
  static ALWAYS_INLINE M equal(U a, U b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
  static ALWAYS_INLINE M less(U a, U b) { return _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b); }
  static ALWAYS_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  static ALWAYS_INLINE U selectu(M m, U a, U b) { return (U)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a); }
  static ALWAYS_INLINE M both(M a, M b) { return M(a & b); }
  static ALWAYS_INLINE M either(M a, M b) { return M(a | b); }
  static ALWAYS_INLINE M first_only(M a, M b) { return M(a & ~b); }
  static ALWAYS_INLINE bool any(M m) { return m != 0; }
  static ALWAYS_INLINE void save(Sel* p, M x, M y) { p[0] = x, p[1] = y; }
  static ALWAYS_INLINE void restore(const Sel* p, M& x, M& y) { x = p[0], y = p[1]; }
  static ALWAYS_INLINE U bits(F x) { return (U)_mm512_castps_si512(x); }
  static ALWAYS_INLINE F from_bits(U x) { return _mm512_castsi512_ps((__m512i)x); }
  static ALWAYS_INLINE F from_int(U x) { return _mm512_cvtepi32_ps((__m512i)x); }  // reads x as a signed integer
  static ALWAYS_INLINE M test(U a, U b) { return _mm512_test_epi32_mask((__m512i)a, (__m512i)b); }
  // A word per lane. `even` holds the words of even lanes and `odd` those of odd lanes, each in the lower half of 64
  // bits. The upper halves hold arbitrary bits.
  struct P {
    __m512i even, odd;
  };
  static ALWAYS_INLINE P split_even_odd(U x) { return {(__m512i)x, _mm512_srli_epi64((__m512i)x, 32)}; }
  static ALWAYS_INLINE P split_even_odd(uint32_t x) { return {_mm512_set1_epi32(int(x)), _mm512_set1_epi32(int(x))}; }
  static ALWAYS_INLINE U merge(P x) { return (U)_mm512_mask_shuffle_epi32(x.even, 0xAAAA, x.odd, _MM_PERM_CCAA); }
  static ALWAYS_INLINE P xor3(P a, P b, P c) {
    return {_mm512_ternarylogic_epi32(a.even, b.even, c.even, 0x96), _mm512_ternarylogic_epi32(a.odd, b.odd, c.odd, 0x96)};
  }
  static ALWAYS_INLINE void mul_wide(P a, uint32_t b, P& high, P& low) {
    const __m512i m = _mm512_set1_epi32(int(b));
    low = {_mm512_mul_epu32(a.even, m), _mm512_mul_epu32(a.odd, m)};
    high = {_mm512_srli_epi64(low.even, 32), _mm512_srli_epi64(low.odd, 32)};
  }
};

#elif defined(LANES_AVX2)

struct V {
  static constexpr int L = 8;
  static constexpr const char* name = "avx2";
  using S = float;
  using F = __m256;
  typedef uint32_t U __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));
  using M = __m256;  // a lane is set if its sign bit is set
  using Sel = uint32_t;
  static constexpr int kSel = 8;

  static ALWAYS_INLINE F load(const S* p) { return _mm256_load_ps(p); }
  static ALWAYS_INLINE void store(S* p, F x) { _mm256_store_ps(p, x); }
  static ALWAYS_INLINE U loadu(const uint32_t* p) { return (U)_mm256_loadu_si256((const __m256i*)p); }
  static ALWAYS_INLINE F set(S x) { return _mm256_set1_ps(x); }
  static ALWAYS_INLINE U setu(uint32_t x) { return (U)_mm256_set1_epi32(int(x)); }
  static ALWAYS_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static ALWAYS_INLINE F sqrt(F x) { return _mm256_sqrt_ps(x); }
  static ALWAYS_INLINE F abs(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
  static ALWAYS_INLINE M gt(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
  static ALWAYS_INLINE M ge(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static ALWAYS_INLINE M unordered(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
  static ALWAYS_INLINE M equal(U a, U b) { return (M)(a == b); }
  static ALWAYS_INLINE M less(U a, U b) { return (M)(a < b); }
  static ALWAYS_INLINE F select(M m, F a, F b) { return _mm256_blendv_ps(b, a, m); }
  static ALWAYS_INLINE U selectu(M m, U a, U b) { return (U)_mm256_blendv_ps((F)b, (F)a, m); }
  static ALWAYS_INLINE M both(M a, M b) { return _mm256_and_ps(a, b); }
  static ALWAYS_INLINE M either(M a, M b) { return _mm256_or_ps(a, b); }
  static ALWAYS_INLINE M first_only(M a, M b) { return _mm256_andnot_ps(b, a); }
  static ALWAYS_INLINE bool any(M m) { return _mm256_movemask_ps(m) != 0; }
  static ALWAYS_INLINE void save(Sel* p, M x, M y) {  // stores x in bit 31 and y in bit 30 of each word
    const U word = (((U)x >> 31) << 31) | (((U)y >> 31) << 30);
    _mm256_store_si256((__m256i*)p, (__m256i)word);
  }
  static ALWAYS_INLINE void restore(const Sel* p, M& x, M& y) {
    const U word = (U)_mm256_load_si256((const __m256i*)p);
    x = (M)word, y = (M)(word << 1);
  }
  static ALWAYS_INLINE U bits(F x) { return (U)x; }
  static ALWAYS_INLINE F from_bits(U x) { return (F)x; }
  static ALWAYS_INLINE F from_int(U x) { return _mm256_cvtepi32_ps((__m256i)x); }
  static ALWAYS_INLINE M test(U a, U b) { return (M)((a & b) != U{}); }
  struct P {  // the same as with AVX-512
    __m256i even, odd;
  };
  static ALWAYS_INLINE P split_even_odd(U x) { return {(__m256i)x, _mm256_srli_epi64((__m256i)x, 32)}; }
  static ALWAYS_INLINE P split_even_odd(uint32_t x) { return {_mm256_set1_epi32(int(x)), _mm256_set1_epi32(int(x))}; }
  static ALWAYS_INLINE U merge(P x) { return (U)_mm256_blend_epi32(x.even, _mm256_slli_epi64(x.odd, 32), 0xAA); }
  static ALWAYS_INLINE P xor3(P a, P b, P c) { return {a.even ^ b.even ^ c.even, a.odd ^ b.odd ^ c.odd}; }
  static ALWAYS_INLINE void mul_wide(P a, uint32_t b, P& high, P& low) {
    const __m256i m = _mm256_set1_epi32(int(b));
    low = {_mm256_mul_epu32(a.even, m), _mm256_mul_epu32(a.odd, m)};
    high = {_mm256_srli_epi64(low.even, 32), _mm256_srli_epi64(low.odd, 32)};
  }
};

#elif defined(LANES_VEC4)

struct V {
  static constexpr int L = 4;
  static constexpr const char* name = "vec4";
  using S = float;
  typedef float F __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef uint64_t W __attribute__((vector_size(32)));
  using M = I;  // the bits of a lane are all 1 or all 0
  using Sel = uint32_t;
  static constexpr int kSel = 4;

  static ALWAYS_INLINE F load(const S* p) { return *(const F*)p; }
  static ALWAYS_INLINE void store(S* p, F x) { *(F*)p = x; }
  static ALWAYS_INLINE U loadu(const uint32_t* p) {
    U x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static ALWAYS_INLINE F set(S x) { return F{x, x, x, x}; }
  static ALWAYS_INLINE U setu(uint32_t x) { return U{x, x, x, x}; }
#if defined(__FMA__)
  static ALWAYS_INLINE F fma(F a, F b, F c) { return _mm_fmadd_ps(a, b, c); }
  static ALWAYS_INLINE F sqrt(F x) { return _mm_sqrt_ps(x); }
#elif defined(__aarch64__)
  static ALWAYS_INLINE F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static ALWAYS_INLINE F sqrt(F x) { return vsqrtq_f32(x); }
#else
  static ALWAYS_INLINE F fma(F a, F b, F c) {
    for (int i = 0; i < L; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
  }
  static ALWAYS_INLINE F sqrt(F x) {
    for (int i = 0; i < L; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
  }
#endif
  static ALWAYS_INLINE F abs(F x) { return (F)((U)x & setu(0x7fffffffu)); }
  static ALWAYS_INLINE M gt(F a, F b) { return a > b; }
  static ALWAYS_INLINE M ge(F a, F b) { return a >= b; }
  static ALWAYS_INLINE M unordered(F a, F b) { return (a != a) | (b != b); }
  static ALWAYS_INLINE M equal(U a, U b) { return a == b; }
  static ALWAYS_INLINE M less(U a, U b) { return a < b; }
  static ALWAYS_INLINE F select(M m, F a, F b) { return (F)((m & (I)a) | (~m & (I)b)); }
  static ALWAYS_INLINE U selectu(M m, U a, U b) { return ((U)m & a) | (~(U)m & b); }
  static ALWAYS_INLINE M both(M a, M b) { return a & b; }
  static ALWAYS_INLINE M either(M a, M b) { return a | b; }
  static ALWAYS_INLINE M first_only(M a, M b) { return a & ~b; }
  static ALWAYS_INLINE bool any(M m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
  static ALWAYS_INLINE void save(Sel* p, M x, M y) { *(U*)p = ((U)x & 1u) | ((U)y & 2u); }
  static ALWAYS_INLINE void restore(const Sel* p, M& x, M& y) {
    const I word = (I) * (const U*)p;
    x = -(word & 1), y = -(word >> 1);
  }
  static ALWAYS_INLINE U bits(F x) { return (U)x; }
  static ALWAYS_INLINE F from_bits(U x) { return (F)x; }
  static ALWAYS_INLINE F from_int(U x) { return __builtin_convertvector((I)x, F); }
  static ALWAYS_INLINE M test(U a, U b) { return (M)((a & b) != U{}); }
  using P = U;
  static ALWAYS_INLINE P split_even_odd(U x) { return x; }
  static ALWAYS_INLINE P split_even_odd(uint32_t x) { return setu(x); }
  static ALWAYS_INLINE U merge(P x) { return x; }
  static ALWAYS_INLINE P xor3(P a, P b, P c) { return a ^ b ^ c; }
  static ALWAYS_INLINE void mul_wide(P a, uint32_t b, P& high, P& low) {
    const W product = __builtin_convertvector(a, W) * uint64_t(b);
    high = __builtin_convertvector(product >> 32, U), low = __builtin_convertvector(product, U);
  }
};

#else  // one lane in plain C++, with float, or with double to check gradients

struct V {
  static constexpr int L = 1;
#if defined(LANES_DOUBLE)
  static constexpr const char* name = "double";
  using S = double;
#else
  static constexpr const char* name = "scalar";
  using S = float;
#endif
  using F = S;
  using U = uint32_t;
  using I = int32_t;
  using M = bool;
  using Sel = uint32_t;
  static constexpr int kSel = 1;

  static ALWAYS_INLINE F load(const S* p) { return *p; }
  static ALWAYS_INLINE void store(S* p, F x) { *p = x; }
  static ALWAYS_INLINE U loadu(const uint32_t* p) { return *p; }
  static ALWAYS_INLINE F set(S x) { return x; }
  static ALWAYS_INLINE U setu(uint32_t x) { return x; }
  static ALWAYS_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
  static ALWAYS_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
  static ALWAYS_INLINE double abs(double x) { return __builtin_fabs(x); }
  static ALWAYS_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static ALWAYS_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
  static ALWAYS_INLINE float abs(float x) { return __builtin_fabsf(x); }
  static ALWAYS_INLINE M gt(F a, F b) { return a > b; }
  static ALWAYS_INLINE M ge(F a, F b) { return a >= b; }
  static ALWAYS_INLINE M unordered(F a, F b) { return a != a || b != b; }
  static ALWAYS_INLINE M equal(U a, U b) { return a == b; }
  static ALWAYS_INLINE M less(U a, U b) { return a < b; }
  static ALWAYS_INLINE F select(M m, F a, F b) { return m ? a : b; }
  static ALWAYS_INLINE U selectu(M m, U a, U b) { return m ? a : b; }
  static ALWAYS_INLINE M both(M a, M b) { return a && b; }
  static ALWAYS_INLINE M either(M a, M b) { return a || b; }
  static ALWAYS_INLINE M first_only(M a, M b) { return a && !b; }
  static ALWAYS_INLINE bool any(M m) { return m; }
  static ALWAYS_INLINE void save(Sel* p, M x, M y) { *p = uint32_t(x) | uint32_t(y) << 1; }
  static ALWAYS_INLINE void restore(const Sel* p, M& x, M& y) { x = *p & 1, y = *p >> 1; }
  static ALWAYS_INLINE U bits(float x) {
    U u;
    std::memcpy(&u, &x, 4);
    return u;
  }
  static ALWAYS_INLINE float from_bits(U u) {
    float x;
    std::memcpy(&x, &u, 4);
    return x;
  }
  static ALWAYS_INLINE F from_int(U x) { return F(int32_t(x)); }
  static ALWAYS_INLINE M test(U a, U b) { return (a & b) != 0; }
  using P = U;
  static ALWAYS_INLINE P split_even_odd(U x) { return x; }
  static ALWAYS_INLINE U merge(P x) { return x; }
  static ALWAYS_INLINE P xor3(P a, P b, P c) { return a ^ b ^ c; }
  static ALWAYS_INLINE void mul_wide(P a, uint32_t b, P& high, P& low) {
    const uint64_t product = uint64_t(a) * b;
    high = U(product >> 32), low = U(product);
  }
};

#endif

using S = V::S;
using F = V::F;
using U = V::U;
using M = V::M;
using Sel = V::Sel;
constexpr int L = V::L;

// V::load that happens once. For a factor of several products, g++ 12 would repeat the load for each product.
ALWAYS_INLINE F loaded(const S* p) {
  F value = V::load(p);
#if defined(LANES_AVX512) || defined(LANES_AVX2)
  asm("" : "+v"(value));
#endif
  return value;
}

}  // namespace
