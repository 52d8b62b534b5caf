// Steps across the lanes of vectors: transposition, sums and maxima.
#pragma once
#include "simd.h"

namespace {

template <class V> using Indices = decltype(V{} < V{});

template <class V, class Pick> inline V shuffle(V a, V b, const Pick& pick) {
    constexpr int n = sizeof(V) / sizeof(a[0]);
#if defined(__clang__)
    V r;
    for (int i = 0; i < n; ++i) r[i] = pick(i) < n ? a[pick(i)] : b[pick(i) - n];
    return r;
#else
    Indices<V> indices;
    for (int i = 0; i < n; ++i) indices[i] = pick(i);
    return __builtin_shuffle(a, b, indices);
#endif
}

// the lanes of a and b in turn, from their low and from their high halves
template <class V> inline V interleave_low(V a, V b) {
    constexpr int n = sizeof(V) / sizeof(a[0]);
    return shuffle(a, b, [](int i) { return i / 2 + i % 2 * n; });
}
template <class V> inline V interleave_high(V a, V b) {
    constexpr int n = sizeof(V) / sizeof(a[0]);
    return shuffle(a, b, [](int i) { return n / 2 + i / 2 + i % 2 * n; });
}

template <class A> inline void transpose(Vector<A> (&m)[kLanes<A>]) {
    constexpr int n = kLanes<A>;
    for (int step = 1; step < n; step *= 2) {
        Vector<A> next[n];
        for (int i = 0; i < n / 2; ++i) {
            next[2 * i] = interleave_low(m[i], m[i + n / 2]);
            next[2 * i + 1] = interleave_high(m[i], m[i + n / 2]);
        }
        for (int i = 0; i < n; ++i) m[i] = next[i];
    }
}

template <class V> inline V add(V a, V b) { return a + b; }
template <class V> inline V larger(V a, V b) { return a > b ? a : b; }

// lane i: join over all lanes of m[i]
template <class A, class Join>
inline Vector<A> joined(Vector<A> (&m)[kLanes<A>], const Join& join) {
    for (int n = kLanes<A> / 2; n > 0; n /= 2) {
        for (int i = 0; i < n; ++i) {
            m[i] = join(interleave_low(m[i], m[i + n]), interleave_high(m[i], m[i + n]));
        }
    }
    return m[0];
}
template <class A> inline Vector<A> sums(Vector<A> (&m)[kLanes<A>]) {
    return joined<A>(m, add<Vector<A>>);
}
template <class A> inline Vector<A> maxima(Vector<A> (&m)[kLanes<A>]) {
    return joined<A>(m, larger<Vector<A>>);
}

// all lanes: join over all lanes of v
template <class A, class Join, int step = kLanes<A> / 2>
inline Vector<A> fold(Vector<A> v, const Join& join) {
    if constexpr (step > 0) {
        auto turned = shuffle(v, v, [](int i) { return (i + step) % kLanes<A>; });
        return fold<A, Join, step / 2>(join(v, turned), join);
    }
    return v;
}

} // namespace
