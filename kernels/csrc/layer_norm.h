// Layer normalisation of rows, as many at once as a vector has lanes: their sums cross the lanes
// together.
#pragma once
#include "tiles.h"

namespace {

// y: dense rows; x and y may be the same
template <class Format, class T>
UA_KERNEL void layer_norm(const T* x, int64_t stride, int64_t rows, int64_t dim, const T* weight,
                          const T* bias, Compute<T> eps, T* y) {
    typedef Compute<T> A;
    constexpr int lanes = kLanes<A>;
    const int64_t whole = dim / lanes * lanes;
    const int rest = static_cast<int>(dim - whole);
    for (int64_t first = 0; first < rows; first += lanes, x += lanes * stride, y += lanes * dim) {
        const int n = static_cast<int>(smaller(lanes, rows - first));
        Vector<A> of_row[lanes] = {};
        for (int i = 0; i < n; ++i) {
            const T* row = x + i * stride;
            for (int64_t d = 0; d < whole; d += lanes) of_row[i] += load(row + d);
            if (rest > 0) of_row[i] += load(row + whole, rest);
        }
        A mean[lanes], scale[lanes];
        store(mean, sums<A>(of_row) / A(dim));
        for (auto& squares : of_row) squares = Vector<A>{};
        for (int i = 0; i < n; ++i) {
            const T* row = x + i * stride;
            for (int64_t d = 0; d < whole; d += lanes) {
                const Vector<A> away = load(row + d) - mean[i];
                of_row[i] += away * away;
            }
            for (int64_t d = whole; d < dim; ++d) {
                const A away = widen(row[d]) - mean[i];
                of_row[i][0] += away * away;
            }
        }
        store(scale, sums<A>(of_row) / A(dim) + eps);
        for (A& s : scale) s = 1 / sqrt(s);
        for (int i = 0; i < n; ++i) {
            for (int64_t d = 0; d < dim; d += lanes) {
                const int m = static_cast<int>(smaller(lanes, dim - d));
                const Vector<A> away = load(x + i * stride + d, m) - mean[i];
                save<Format>(y + i * dim + d,
                             away * scale[i] * load(weight + d, m) + load(bias + d, m), m);
            }
        }
    }
}

} // namespace
