// Vectors for the CPU kernels: GCC/Clang vector types, loads that widen bfloat16, and the few
// functions the ops need. Everything is in an unnamed namespace, because this header is compiled
// once for each instruction set and the linker must not merge the copies.
//
// Accuracy, measured against double: exp 1.2e-7 relative; log1p, sigmoid and erf below 3e-7.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "api.h"

#ifndef UA_VECTOR_BYTES
#error "compile with -DUA_VECTOR_BYTES=32 or 64"
#endif

namespace {

struct bfloat16 {
    uint16_t bits;
};

// what a stored type is computed in
template <class T> struct ComputeType { typedef T type; };
template <> struct ComputeType<bfloat16> { typedef float type; };
template <class T> using Compute = typename ComputeType<T>::type;

template <class A> struct VectorOf {
    typedef A type __attribute__((vector_size(UA_VECTOR_BYTES)));
    static constexpr int lanes = UA_VECTOR_BYTES / sizeof(A);
};
template <class A> using Vector = typename VectorOf<A>::type;
template <class A> constexpr int kLanes = VectorOf<A>::lanes;

typedef int32_t Int32s __attribute__((vector_size(UA_VECTOR_BYTES)));
typedef uint32_t UInt32s __attribute__((vector_size(UA_VECTOR_BYTES)));
typedef uint16_t Halfwords __attribute__((vector_size(UA_VECTOR_BYTES / 2)));

template <class A> inline Vector<A> broadcast(A value) { return value - Vector<A>{}; }

// ---- single instructions that GCC does not find behind the generic form; the AVX-512 ones with a
// full mask, because GCC 12 warns of its own header's unmasked form

inline Vector<float> clamp(Vector<float> x, float low, float high) {
#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
    const __mmask16 all = 0xffff;
    return _mm512_maskz_max_ps(all, _mm512_set1_ps(low),
                               _mm512_maskz_min_ps(all, _mm512_set1_ps(high), x));
#elif UA_VECTOR_BYTES == 32 && defined(__AVX2__)
    return _mm256_max_ps(_mm256_set1_ps(low), _mm256_min_ps(_mm256_set1_ps(high), x));
#else
    x = x > high ? broadcast(high) : x;
    return x < low ? broadcast(low) : x;
#endif
}

// a / b to 1.2e-7. AVX-512 has an estimate of 1 / b of 14 bits, which one step of Newton's method
// corrects in half the time of a division.
inline Vector<float> divide(Vector<float> a, Vector<float> b) {
#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
    Vector<float> r = _mm512_maskz_rcp14_ps(0xffff, b), q = a * r;
    return q + r * (a - b * q);
#else
    return a / b;
#endif
}
inline Vector<double> divide(Vector<double> a, Vector<double> b) { return a / b; }

inline UInt32s zero_extend(Halfwords half) {
#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
    return (UInt32s)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)half);
#elif UA_VECTOR_BYTES == 32 && defined(__AVX2__)
    return (UInt32s)_mm256_cvtepu16_epi32((__m128i)half);
#else
    return __builtin_convertvector(half, UInt32s);
#endif
}

inline Halfwords low_halves(UInt32s v) {
#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
    return (Halfwords)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)v);
#else
    return __builtin_convertvector(v, Halfwords);
#endif
}

// ---- loads and stores of a full vector, and of its first n lanes (the others read as zero)

inline Vector<float> load(const float* p) {
    Vector<float> v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline Vector<double> load(const double* p) {
    Vector<double> v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline Vector<float> load(const bfloat16* p) {
    Halfwords half;
    memcpy(&half, p, sizeof half);
    return (Vector<float>)(zero_extend(half) << 16);
}
inline void store(float* p, Vector<float> v) { memcpy(p, &v, sizeof v); }
inline void store(double* p, Vector<double> v) { memcpy(p, &v, sizeof v); }
inline void store(bfloat16* p, Vector<float> v) {
    UInt32s bits = (UInt32s)v;
    UInt32s rounded = bits + 0x7fffu + ((bits >> 16) & 1u); // to nearest, ties to even
    UInt32s quiet = bits | 0x400000u;
    Halfwords half = low_halves((v == v ? rounded : quiet) >> 16);
    memcpy(p, &half, sizeof half);
}
template <class T> inline Vector<Compute<T>> load(const T* p, int n) {
    if (n >= kLanes<Compute<T>>) return load(p);
    T lanes[kLanes<Compute<T>>] = {};
    memcpy(lanes, p, n * sizeof(T));
    return load(lanes);
}
template <class T> inline void store(T* p, Vector<Compute<T>> v, int n) {
    if (n >= kLanes<Compute<T>>) return store(p, v);
    T lanes[kLanes<Compute<T>>];
    store(lanes, v);
    memcpy(p, lanes, n * sizeof(T));
}

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bfloat16 x) {
    uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// the lanes in pairs, then the pairs, ...: as many steps as the logarithm of the lanes
template <class A, int n> struct Sum {
    typedef A Half __attribute__((vector_size(n / 2 * sizeof(A))));
    template <class V> static A of(V v) {
        Half halves[2];
        memcpy(halves, &v, sizeof v);
        return Sum<A, n / 2>::of(halves[0] + halves[1]);
    }
};
template <class A> struct Sum<A, 2> {
    template <class V> static A of(V v) { return v[0] + v[1]; }
};
template <class A> inline A sum(Vector<A> v) { return Sum<A, kLanes<A>>::of(v); }

// ---- functions; the double forms go lane by lane through libm, they serve gradcheck

inline Vector<float> exp(Vector<float> x) {
    x = clamp(x, -87.3365447504019f, 88.3762626647949f);
    const float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    Vector<float> shifted = x * 1.44269504088896341f + shift, n = shifted - shift;
    Vector<float> r = x - n * 0.693359375f + n * 2.12194440e-4f; // ln 2 in two parts (Cephes)
    Vector<float> p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    // n, the low bits of shifted, joins the exponent of p
    return (Vector<float>)((Int32s)p + ((Int32s)shifted << 23));
}

// log(1 + e) for e in [0, 1]: e times the minimax polynomial of log(1 + e) / e
inline Vector<float> log1p_unit(Vector<float> e) {
    Vector<float> p = broadcast(5.22832107e-3f);
    p = p * e - 2.94866730e-2f;
    p = p * e + 7.81934857e-2f;
    p = p * e - 0.136602327f;
    p = p * e + 0.191044137f;
    p = p * e - 0.248425037f;
    p = p * e + 0.333190203f;
    p = p * e - 0.499994874f;
    p = p * e + 0.99999994f;
    return p * e;
}

inline Vector<double> exp(Vector<double> x) {
    for (int i = 0; i < kLanes<double>; ++i) x[i] = ::exp(x[i]);
    return x;
}
inline Vector<double> log1p_unit(Vector<double> e) {
    for (int i = 0; i < kLanes<double>; ++i) e[i] = ::log1p(e[i]);
    return e;
}

template <class V> inline V absolute(V x) { return x < 0 ? -x : x; }

template <class V> inline V sigmoid(V x) { return divide(V{} + 1, 1 + exp(-x)); }

template <class V> inline V silu(V x) { return divide(x, 1 + exp(-x)); }

// d silu(x) / dx, given s = sigmoid(x)
template <class V> inline V silu_slope(V x, V s) { return s * (1 + x * (1 - s)); }

template <class V> inline V softplus(V x) { return (x > 0 ? x : V{}) + log1p_unit(exp(-absolute(x))); }

// ---- dispatch on the dtype of a call

template <class Arguments, class Run> const char* with_dtype(const Arguments* a, const Run& run) {
    if (a->call.size != sizeof(Arguments)) {
        return "the argument block has another size than the library's: reinstall the package";
    }
    switch (a->call.dtype) {
        case UA_FLOAT32: return run(float{});
        case UA_BFLOAT16: return run(bfloat16{});
#ifndef UA_NO_FLOAT64
        case UA_FLOAT64: return run(double{});
#endif
        default: return "the CPU code takes float32, bfloat16 and float64";
    }
}

} // namespace
