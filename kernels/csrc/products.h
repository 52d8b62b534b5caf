// Sums of products in register tiles: the inner loops of attention and of convolutions over frames.
#pragma once
#include "simd.h"

// kernels of register tiles stay functions of their own: inlined, their pointers would spill
#define UA_KERNEL __attribute__((noinline))

namespace {

constexpr int kRows = 6;                                // of a register tile
constexpr int kColumns = UA_VECTOR_BYTES == 64 ? 4 : 2; // vectors

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <int n> struct Constant { static constexpr int value = n; };

// calls run(Constant<n>{}) for n in [1, most]
template <int most, class Run> inline void with_constant(int n, const Run& run) {
    if constexpr (most > 1) {
        if (n < most) return with_constant<most - 1>(n, run);
    }
    run(Constant<most>{});
}

// cuts count into the fewest nearly equal parts of at most `most`: run(first, Constant<part>{})
template <int most, class Run> inline void in_parts(int64_t count, const Run& run) {
    int64_t first = 0;
    for (int64_t parts = (count + most - 1) / most; parts > 0; --parts) {
        int64_t n = (count - first + parts - 1) / parts;
        with_constant<most>(static_cast<int>(n), [&](auto part) { run(first, part); });
        first += n;
    }
}

// how coefficients lie: value(row, term) = data[row * row_stride + term * term_stride]
template <class A> struct Coefficients {
    const A* data;
    int64_t row_stride, term_stride;
};

// ---- a register tile; GCC keeps it in memory if it is cleared by `= {}`, or if a loop over it is
// not unrolled early, which the pragma does

template <class V, int n, int m> inline void clear(V (&tile)[n][m]) {
#pragma GCC unroll 24
    for (auto& row : tile)
#pragma GCC unroll 24
        for (V& sum : row) sum = V{};
}

template <bool accumulate, class V, class A, int n, int m>
inline void store_tile(const V (&tile)[n][m], A* out, int64_t out_stride) {
#pragma GCC unroll 24
    for (int i = 0; i < n; ++i) {
#pragma GCC unroll 24
        for (int j = 0; j < m; ++j) {
            A* to = out + i * out_stride + j * kLanes<A>;
            // added last: a sum of sums loses less than one long chain
            store(to, accumulate ? load(to) + tile[i][j] : tile[i][j]);
        }
    }
}

// out[row] (+)= sum over `count` terms of value(row, term) * terms[term], in n rows of m vectors
template <class A, int n, int m, bool accumulate>
UA_KERNEL void combine_tile(Coefficients<A> c, const A* terms, int64_t count, int64_t term_stride,
                            A* out, int64_t out_stride) {
    constexpr int lanes = kLanes<A>;
    Vector<A> sum[n][m];
    clear(sum);
    for (int64_t t = 0; t < count; ++t) {
        Vector<A> term[m];
        for (int j = 0; j < m; ++j) term[j] = load(terms + j * lanes);
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < m; ++j) sum[i][j] += term[j] * c.data[i * c.row_stride];
        terms += term_stride;
        c.data += c.term_stride;
    }
    store_tile<accumulate>(sum, out, out_stride);
}

// the same for any number of rows and `width` columns, a multiple of the lanes; calls between()
// before each tile
template <bool accumulate, class A, class Between>
void combine(const Coefficients<A>& c, int64_t rows, const A* terms, int64_t count,
             int64_t term_stride, A* out, int64_t out_stride, int64_t width,
             const Between& between) {
    in_parts<kColumns>(width / kLanes<A>, [&](int64_t column, auto columns) {
        int64_t offset = column * kLanes<A>;
        in_parts<kRows>(rows, [&](int64_t row, auto part) {
            between();
            Coefficients<A> of_rows{c.data + row * c.row_stride, c.row_stride, c.term_stride};
            combine_tile<A, decltype(part)::value, decltype(columns)::value, accumulate>(
                of_rows, terms + offset, count, term_stride, out + row * out_stride + offset,
                out_stride);
        });
    });
}

} // namespace
