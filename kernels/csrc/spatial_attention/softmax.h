// The softmax of rows of scores, chunk by chunk (Milakov and Gimelshein, arXiv 1805.02867).
#pragma once
#include "../tiles.h"

namespace {

constexpr double kLog2E = 1.4426950408889634; // 1 / ln 2: probabilities are powers of two

inline Vector<float> at_least(Vector<float> x, float low) {
#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
    return _mm512_maskz_max_ps(0xffff, _mm512_set1_ps(low), x);
#elif UA_VECTOR_BYTES == 32 && defined(__AVX2__)
    return _mm256_max_ps(_mm256_set1_ps(low), x);
#else
    return x < low ? broadcast(low) : x;
#endif
}

// 2^r for r in [-1/2, 1/2] to 1e-7, and to 7.5e-5 for what is stored in bfloat16: minimax
inline Vector<float> power_of_fraction(Vector<float> r, float) {
    Vector<float> p = broadcast(1.3276472454890609e-3f);
    p = p * r + 9.675541892647743e-3f;
    p = p * r + 5.550713092088699e-2f;
    p = p * r + 0.24022120237350464f;
    p = p * r + 0.6931469440460205f;
    return p * r + 1.0000001192092896f;
}
inline Vector<float> power_of_fraction(Vector<float> r, bfloat16) {
    Vector<float> p = broadcast(0.055171266f);
    p = p * r + 0.24261129f;
    p = p * r + 0.6932611f;
    return p * r + 0.99992806f;
}

// 2^x for x <= 0; NaN stays, and what is below 2^-126 becomes that
template <class T> inline Vector<float> power_of_two(Vector<float> x, T) {
    const float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    x = at_least(x, -126.0f);
    const Vector<float> shifted = x + shift;
    const Vector<float> p = power_of_fraction(x - (shifted - shift), T{});
    // the integer, the low bits of shifted, joins the exponent of p
    return (Vector<float>)((Int32s)p + ((Int32s)shifted << 23));
}
inline Vector<double> power_of_two(Vector<double> x, double) {
    for (int i = 0; i < kLanes<double>; ++i) x[i] = ::exp2(x[i]);
    return x;
}

// probabilities over the scores in memory; those in bfloat16 fill half of it
template <class A> inline void store_probabilities(A* scores, int64_t key, Vector<A> p, A) {
    store(scores + key, p);
}
inline void store_probabilities(float* scores, int64_t key, Vector<float> p, bfloat16) {
    Pair::save(reinterpret_cast<bfloat16*>(scores) + key, p);
}

// what the rows of a block have seen so far, a row a lane; as many as fill whole vectors
template <class A> struct Seen {
    A* top;    // the largest score, as a power of two
    A* total;  // of 2^(score - top)
    A* factor; // that the last scores changed all sums before by
};

template <class A> inline void clear(const Seen<A>& seen, int64_t rows) {
    for (int64_t i = 0; i < rows; i += kLanes<A>) {
        store(seen.top + i, broadcast(A(-3e38)));
        store(seen.total + i, Vector<A>{});
    }
}

// adds `behind` to the last scores, from `last` on, then returns the largest of all, by lanes
template <class A> inline Vector<A> largest(A* scores, int64_t last, Vector<A> behind) {
    Vector<A> top = load(scores + last) + behind;
    store(scores + last, top);
    for (int64_t key = 0; key < last; key += kLanes<A>) top = larger(top, load(scores + key));
    return top;
}

// replaces scores by 2^(score * scale - top) and returns the sum, by lanes
template <class T, class A>
inline Vector<A> powers(A* scores, int64_t last, A scale, A top) {
    Vector<A> total = {};
    for (int64_t key = 0; key <= last; key += kLanes<A>) {
        Vector<A> p = power_of_two(load(scores + key) * scale - top, T{});
        total += p;
        store_probabilities(scores, key, p, T{});
    }
    return total;
}

// Turns the next `keys` scores of every row into probabilities, but for a factor that a row's have
// in common. Rows fill whole vectors: behind the last key, no probability is left.
template <class T, class A>
UA_KERNEL void softmax(A* scores, int64_t stride, int64_t rows, int64_t keys, A scale,
                       const Seen<A>& seen) {
    constexpr int lanes = kLanes<A>;
    const int64_t last = (keys - 1) / lanes * lanes;
    Vector<A> behind = {};
    for (int64_t i = keys - last; i < lanes; ++i) behind[i] = A(-3e38);
    for (int64_t first = 0; first < rows; first += lanes, scores += lanes * stride) {
        const int n = static_cast<int>(smaller(rows - first, lanes));
        Vector<A> of_row[lanes];
        for (int i = 0; i < lanes; ++i) {
            of_row[i] = i < n ? largest(scores + i * stride, last, behind) : Vector<A>{};
        }
        const Vector<A> before = load(seen.top + first);
        const Vector<A> top = larger(before, maxima<A>(of_row) * scale);
        store(seen.top + first, top);
        for (int i = 0; i < n; ++i) {
            of_row[i] = powers<T>(scores + i * stride, last, scale, seen.top[first + i]);
        }
        const Vector<A> factor = power_of_two(before - top, A{});
        store(seen.factor + first, factor);
        store(seen.total + first, load(seen.total + first) * factor + sums<A>(of_row));
    }
}

} // namespace
