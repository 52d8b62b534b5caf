// Where the rows of a product go that lie frame by frame.
#pragma once
#include "tiles.h"

namespace {

// Takes results of some locations of a video: row r is of location r % locations and of `together`
// frames, together * (r / locations) the first. Adds the bias, and other rows where there are any.
template <class Format> struct Frames {
    typedef Value<Format> T;
    Bias<T> bias;
    const T* x;
    T* y;
    const int64_t *x_stride, *y_stride; // of the batch, the frame and the location
    int64_t locations, frames, first_row;
    int together, frame; // frames of a row, and which of them
    int columns;

    typedef Vector<Compute<T>> V;
    static constexpr int kLane = kLanes<Compute<T>>, kColumns = 2 * kLane;

    void whole(int row, V one, V two) const { put(row, one, two, kLane, kLane); }
    UA_KERNEL void part(int row, V one, V two) const {
        put(row, one, two, columns < kLane ? columns : kLane, columns - kLane);
    }
    void put(int row, V one, V two, int n, int m) const {
        const uint32_t r = first_row + row, outer = r / uint32_t(locations);
        const int64_t location = r - outer * locations, f = outer * together + frame;
        if (f >= frames) return;
        const T* from = x ? x + f * x_stride[1] + location * x_stride[2] : nullptr;
        T* to = y + f * y_stride[1] + location * y_stride[2];
        one += bias.first;
        two += bias.second;
        if (from) one += load(from, n);
        if (from && m > 0) two += load(from + kLane, m);
        if (m == kLane) return Format::save(to, one, two);
        save<Format>(to, one, n);
        if (m > 0) save<Format>(to + kLane, two, m);
    }
};

} // namespace
