// What one core of this machine can do: the ceilings that bench_kernels.py holds the kernels against. Built by the benchmark, not shipped.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {

// Reads every line once, eight independent sums, fetching ahead: the fastest plain read that was found.
float read_all(const float* p, size_t count) {
    __m512 s[8];
    for (auto& x : s) x = _mm512_setzero_ps();
    for (size_t i = 0; i + 128 <= count; i += 128) {
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 64, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 128, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 192, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 256, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 320, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 384, _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(p + i) + 4096 + 448, _MM_HINT_T0);
        for (int j = 0; j < 8; ++j) s[j] = _mm512_add_ps(s[j], _mm512_loadu_ps(p + i + 16 * j));
    }
    for (int j = 1; j < 8; ++j) s[0] = _mm512_add_ps(s[0], s[j]);
    return _mm512_cvtss_f32(s[0]);
}

// The same without fetching ahead: some prefetchers do better alone.
float read_all_plain(const float* p, size_t count) {
    __m512 s[8];
    for (auto& x : s) x = _mm512_setzero_ps();
    for (size_t i = 0; i + 128 <= count; i += 128) {
        for (int j = 0; j < 8; ++j) s[j] = _mm512_add_ps(s[j], _mm512_loadu_ps(p + i + 16 * j));
    }
    for (int j = 1; j < 8; ++j) s[0] = _mm512_add_ps(s[0], s[j]);
    return _mm512_cvtss_f32(s[0]);
}

// rounds * 16 chains * 16 lanes of multiply-add out of registers.
float fma_only(size_t rounds) {
    __m512 s[16];
    for (int j = 0; j < 16; ++j) s[j] = _mm512_set1_ps(static_cast<float>(j));
    __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (size_t i = 0; i < rounds; ++i) {
        for (int j = 0; j < 16; ++j) s[j] = _mm512_fmadd_ps(s[j], a, b);
        asm volatile("" : "+v"(a), "+v"(b));
    }
    for (int j = 1; j < 16; ++j) s[0] = _mm512_add_ps(s[0], s[j]);
    return _mm512_cvtss_f32(s[0]);
}

// rounds * 16 chains * 64 int8 multiply-adds out of registers.
int32_t vpdpbusd_only(size_t rounds) {
    __m512i s[16];
    for (int j = 0; j < 16; ++j) s[j] = _mm512_set1_epi32(j);
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    for (size_t i = 0; i < rounds; ++i) {
        for (int j = 0; j < 16; ++j) s[j] = _mm512_dpbusd_epi32(s[j], a, b);
        asm volatile("" : "+v"(a), "+v"(b));
    }
    for (int j = 1; j < 16; ++j) s[0] = _mm512_add_epi32(s[0], s[j]);
    return _mm_cvtsi128_si32(_mm512_castsi512_si128(s[0]));
}
}
