// Sums over rows in double, as the statistics of a normalisation want them.
#pragma once
#include "products.h"

namespace {

constexpr int kTogether = 8; // vectors summed in their own type before they enter a double

inline void accumulate(double* sums, Vector<double> v) { store(sums, load(sums) + v); }
inline void accumulate(double* sums, Vector<float> v) {
    typedef float Half __attribute__((vector_size(UA_VECTOR_BYTES / 2)));
    Half half[2];
    memcpy(half, &v, sizeof v);
    accumulate(sums, __builtin_convertvector(half[0], Vector<double>));
    accumulate(sums + kLanes<double>, __builtin_convertvector(half[1], Vector<double>));
}

// Adds up the values of some rows and their squares: sums in `into`, sums of squares `width` doubles
// later. Values are taken as distances from the first row, because the squares of channels far from
// zero would lose the variance in their rounding.
template <class T, class Row>
void moments(const Row& row, int64_t rows, int64_t channels, double* into, int64_t width) {
    typedef Compute<T> A;
    memset(into, 0, 2 * width * sizeof(double));
    const T* origin = row(0);
    for (int64_t r = 0; r < rows; r += kTogether) {
        const T* x[kTogether];
        const int count = static_cast<int>(smaller(kTogether, rows - r));
        for (int i = 0; i < count; ++i) x[i] = row(r + i);
        for (int64_t c = 0; c < channels; c += kLanes<A>) {
            const int lanes = static_cast<int>(smaller(kLanes<A>, channels - c));
            Vector<A> total = {}, squares = {};
            for (int i = 0; i < count; ++i) {
                Vector<A> v = load(x[i] + c, lanes) - load(origin + c, lanes);
                total += v;
                squares += v * v;
            }
            accumulate(into + c, total);
            accumulate(into + width + c, squares);
        }
    }
    for (int64_t c = 0; c < channels; ++c) {
        const double at = widen(origin[c]);
        into[width + c] += at * (2 * into[c] + rows * at);
        into[c] += rows * at;
    }
}

} // namespace
