// Products of rows with packed terms, for all dtypes alike.
//
// The contracted axis is counted in units: a value, or in bfloat16 a pair of neighbours, which has
// the 32 bits of a float and which one instruction multiplies and adds to one.
#pragma once
#include "../products.h"

namespace {

template <class T> constexpr int kPerUnit = sizeof(Compute<T>) / sizeof(T);

#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
constexpr bool kHasPairs = true;

// combine_tile of pairs; nothing else in this library needs this instruction set, nor may a
// lambda stand here, which would not inherit it
template <int n, int m, bool accumulate>
__attribute__((target("avx512bf16"))) UA_KERNEL void
pair_tile(Coefficients<float> c, const float* terms, int64_t count, int64_t term_stride, float* out,
          int64_t out_stride) {
    constexpr int lanes = kLanes<float>;
    Vector<float> sum[n][m];
    clear(sum);
    for (int64_t t = 0; t < count; ++t) {
        __m512bh term[m];
        for (int j = 0; j < m; ++j) term[j] = (__m512bh)load(terms + j * lanes);
        for (int i = 0; i < n; ++i) {
            __m512bh pair = (__m512bh)_mm512_set1_ps(c.data[i * c.row_stride]);
            for (int j = 0; j < m; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], pair, term[j]);
        }
        terms += term_stride;
        c.data += c.term_stride;
    }
    store_tile<accumulate>(sum, out, out_stride);
}
#else
constexpr bool kHasPairs = false;

template <int n, int m, bool accumulate> // never called
void pair_tile(Coefficients<float>, const float*, int64_t, int64_t, float*, int64_t);
#endif

// out[row] (+)= sum over `count` units of rows[row][unit] * terms[unit], in `width` columns, a
// multiple of the lanes
template <class T, bool accumulate, class A>
void multiply(const A* rows, int64_t row_stride, int64_t n, const A* terms, int64_t count,
              int64_t term_stride, A* out, int64_t out_stride, int64_t width) {
    in_parts<kColumns>(width / kLanes<A>, [&](int64_t column, auto columns) {
        int64_t offset = column * kLanes<A>;
        in_parts<kRows>(n, [&](int64_t row, auto part) {
            constexpr int r = decltype(part)::value, c = decltype(columns)::value;
            Coefficients<A> of_rows{rows + row * row_stride, row_stride, 1};
            A* to = out + row * out_stride + offset;
            if constexpr (kPerUnit<T> == 2) {
                pair_tile<r, c, accumulate>(of_rows, terms + offset, count, term_stride, to,
                                            out_stride);
            } else {
                combine_tile<A, r, c, accumulate>(of_rows, terms + offset, count, term_stride, to,
                                                  out_stride);
            }
        });
    });
}

} // namespace
