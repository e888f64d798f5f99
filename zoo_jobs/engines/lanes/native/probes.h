// Kernels for tests and benchmarks: random numbers and functions by themselves, and the peak of the core.
#pragma once
#include <ctime>

#include "variational.h"

namespace {

void noise(uint32_t seed, uint32_t step, uint32_t epoch, int layer, uint32_t sample, long n, float* out) {
  const Philox draw(V::setu(seed), lanes::kNoise, step, epoch, uint32_t(layer) << 16 | sample);
  for (long i = 0; i < n; i += 4) {
    S values[4 * L] __attribute__((aligned(64)));
    draw_gaussians(draw, i / 4, i / 4 + 1, values);
    for (int j = 0; j < 4 && i + j < n; ++j) out[i + j] = float(values[j * L]);
  }
}

void function(const char* name, const float* x, float* y, long n) {
  S in[L] __attribute__((aligned(64))), out[L] __attribute__((aligned(64)));
  const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
  for (long i = 0; i < n; i += L) {
    for (int j = 0; j < L; ++j) in[j] = i + j < n ? S(x[i + j]) : S(1);
    const F v = V::load(in);
    F r = v, second;
    if (is("exp")) r = exp_(v);
    if (is("log")) r = log_(v);
    if (is("tanh")) r = tanh_(v);
    if (is("sigmoid")) r = sigmoid_(v);
    if (is("normal_cdf")) normal_cdf(v, r, second);
    if (is("normal_density")) normal_cdf(v, second, r);
    if (is("gelu")) activate<lanes::kGelu>(v, v, r, second);
    if (is("gelu_derivative")) activate<lanes::kGelu>(v, v, second, r);
    if (is("silu")) activate<lanes::kSilu>(v, v, r, second);
    if (is("silu_derivative")) activate<lanes::kSilu>(v, v, second, r);
    if (is("sine")) sincos_(v, r, second);
    if (is("cosine")) sincos_(v, second, r);
    if (is("kl")) r = kl_term(v);
    V::store(out, r);
    for (int j = 0; j < L && i + j < n; ++j) y[i + j] = float(out[j]);
  }
}

double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Measures the peak of the core with independent chains of multiply-adds in registers.
double peak(double seconds) {
  constexpr int N = 12;
  F acc[N], factor = V::set(S(0.999)), addend = V::set(S(0.001));
  UNROLL for (int i = 0; i < N; ++i) acc[i] = V::set(S(i));
  const double start = now();
  double stop = start;
  long count = 0;
  while (stop - start < seconds) {
    for (int repeat = 0; repeat < 500; ++repeat) {
      UNROLL for (int i = 0; i < 8 * N; ++i) acc[i % N] = V::fma(acc[i % N], factor, addend);
      asm volatile("");
    }
    count += 4000L * N * L;
    stop = now();
  }
  S sink[L] __attribute__((aligned(64)));
  UNROLL for (int i = 1; i < N; ++i) acc[0] = acc[0] + acc[i];
  V::store(sink, acc[0]);
  return sink[0] == S(-1) ? 0 : double(count) / (stop - start);
}

}  // namespace
