// Layer normalisation of one row.
#pragma once
#include "tiles.h"

namespace {

template <class Format, class T>
void layer_norm(const T* x, int64_t dim, const T* weight, const T* bias, Compute<T> eps, T* y) {
    typedef Compute<T> A;
    constexpr int lanes = kLanes<A>;
    Vector<A> total = {};
    for (int64_t d = 0; d < dim; d += lanes) total += load(x + d, int(smaller(lanes, dim - d)));
    const A mean = sum<A>(total) / A(dim);
    total = Vector<A>{};
    for (int64_t d = 0; d < dim; d += lanes) {
        int n = static_cast<int>(smaller(lanes, dim - d));
        Vector<A> away = load(x + d, n) - mean;
        for (int i = n; i < lanes; ++i) away[i] = 0;
        total += away * away;
    }
    const A scale = 1 / sqrt(sum<A>(total) / A(dim) + eps);
    for (int64_t d = 0; d < dim; d += lanes) {
        int n = static_cast<int>(smaller(lanes, dim - d));
        save<Format>(y + d,
                     (load(x + d, n) - mean) * scale * load(weight + d, n) + load(bias + d, n), n);
    }
}

} // namespace
