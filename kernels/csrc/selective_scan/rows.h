// Rows of activations to and from scratch memory, where a block's frames lie kBlock apart in the
// type of the arithmetic.
#pragma once
#include "workspace.h"

namespace {

// a location and its channels [c, c + width), width <= kBlock
struct Place {
    int64_t b, s, c, width;
};

template <class T> const T* row(const ua_array& a, const Place& p, int64_t f) {
    return static_cast<const T*>(a.data) + p.b * a.stride[0] + f * a.stride[1] + p.s * a.stride[2];
}

// row of a contiguous (B, F, S, width) tensor
template <class T> T* row(void* data, const Scan& s, const Place& p, int64_t f, int64_t width) {
    int64_t index = (p.b * s.sizes.frames + f) * s.sizes.space + p.s;
    return static_cast<T*>(data) + index * width;
}

// runs body(c, n) for the vectors of a row: n lanes from c
template <class A, class Body> void over_lanes(int64_t width, const Body& body) {
    for (int64_t c = 0; c < width; c += kLanes<A>) {
        body(c, static_cast<int>(at_most(width - c, kLanes<A>)));
    }
}

// rows of all frames from channel c on, padded with zeros to full vectors
template <class T>
void widen_rows(const ua_array& a, const Scan& s, const Place& p, int64_t c, int64_t width,
                Compute<T>* to, int64_t stride) {
    typedef Compute<T> A;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        const T* from = row<T>(a, p, f) + c;
        A* row = to + f * stride;
        over_lanes<A>(width, [&](int64_t i, int n) { store(row + i, load(from + i, n)); });
    }
}

// runs body(at, c) for the vectors of scratch rows; the channel of the vector `at` is p.c + c. Each
// pass does one thing: what the passes compute are long chains, of which a core overlaps more the
// shorter the loop.
template <class A, class Body> void over_rows(const Scan& s, const Place& p, const Body& body) {
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        for (int64_t c = 0; c < p.width; c += kLanes<A>) body(f * kBlock + c, c);
    }
}

// a scratch row, gated
template <class T, class Out>
void gate_row(const Compute<T>* y, const T* z, Out* out, int64_t width) {
    typedef Compute<T> A;
    over_lanes<A>(width, [&](int64_t c, int n) {
        store(out + c, load(y + c) * silu(Vector<A>(load(z + c, n))), n);
    });
}

// adds the sum over the frames of rows, times `by` if there is one, to the range's sums
template <class A>
void add_columns(const Scan& s, const Place& p, const A* rows, const A* by, A* sums) {
    for (int64_t c = 0; c < p.width; c += kLanes<A>) {
        Vector<A> total = load(sums + p.c + c), error = {};
        for (int64_t f = 0; f < s.sizes.frames; ++f) {
            Vector<A> v = load(rows + f * kBlock + c);
            if (by != nullptr) v *= load(by + f * kBlock + c);
            v -= error; // Kahan: the terms are large beside their sum
            Vector<A> next = total + v;
            error = (next - total) - v;
            total = next;
        }
        store(sums + p.c + c, total);
    }
}

// scratch rows, the second (if there is one) added, as rows of the contiguous (B, F, S, D)
template <class T>
void write_rows(const Scan& s, const Place& p, const Compute<T>* rows, const Compute<T>* other,
                void* to) {
    typedef Compute<T> A;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        T* out = row<T>(to, s, p, f, s.sizes.width) + p.c;
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            Vector<A> v = load(rows + f * kBlock + c);
            if (other != nullptr) v += load(other + f * kBlock + c);
            store(out + c, v, n);
        });
    }
}

template <class A> void clear_rows(const Scan& s, const Place& p, A* rows) {
    over_rows<A>(s, p, [&](int64_t at, int64_t) { store(rows + at, Vector<A>{}); });
}

// to += D * from, in scratch rows
template <class A>
void add_skip(const Scan& s, const Place& p, const Direction& d, const A* from, A* to) {
    if (d.in.D == nullptr) return;
    const A* skip = static_cast<const A*>(d.in.D) + p.c;
    over_rows<A>(s, p, [&](int64_t at, int64_t c) {
        int n = at_most(p.width - c, kLanes<A>);
        store(to + at, load(to + at) + load(skip + c, n) * load(from + at));
    });
}

} // namespace
