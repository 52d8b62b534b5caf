// Convolutions over three frames by Winograd's F(2,3) (Lavin and Gray, arXiv 1509.09308): two
// neighbouring results from four products instead of six. With d0 to d3 the frames from one before
// the two to one after them, and g the weights,
//   m = (d0 - d2) g0,  (d1 + d2) (g0 + g1 + g2) / 2,  (d2 - d1) (g0 - g1 + g2) / 2,  (d1 - d3) g2
// give m0 + m1 + m2 and m1 - m2 - m3.
//
// m1 and m2 are summed first; in the registers of a tile their sum and difference then take their
// places, and m0 and -m3 are added to those. So the products lie in this order, the sign of m3 is
// in its weight, and a tile has half as many rows as others.
#pragma once
#include "../tiles.h"

namespace {

// Adds the terms [k, end) of two products of n rows; those of the second lie `apart` values later.
template <int n, class A, class V>
__attribute__((always_inline)) inline void add_two(V (&sum)[2][n][2], const A* x, int64_t stride,
                                                   int64_t apart, const A* panel, int64_t k,
                                                   int64_t end) {
    constexpr int lanes = kLanes<A>;
    const A* rows[] = {x + k, x + k + apart};
    panel += k * 4 * lanes;
    for (; k < end; ++k) {
#pragma GCC unroll 2
        for (int m = 0; m < 2; ++m, panel += 2 * lanes) {
            V first = load(panel), second = load(panel + lanes);
#pragma GCC unroll 12
            for (int i = 0; i < n; ++i) {
                A value = rows[m][i * stride];
                sum[m][i][0] += first * value;
                sum[m][i][1] += second * value;
            }
            ++rows[m];
        }
    }
}

// The terms [k, end) of both results of n rows.
template <int n, class A, class V>
__attribute__((always_inline)) inline void sum_pairs(V (&sum)[2][n][2], const A* x, int64_t stride,
                                                     int64_t apart, const A* panel, int64_t in,
                                                     int64_t k, int64_t end) {
    clear(sum[0]);
    clear(sum[1]);
    add_two<n>(sum, x, stride, apart, panel, k, end);
#pragma GCC unroll 12
    for (int i = 0; i < n; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
            const V m1 = sum[0][i][j], m2 = sum[1][i][j];
            sum[0][i][j] = m1 + m2;
            sum[1][i][j] = m1 - m2;
        }
    }
    add_two<n>(sum, x + 2 * apart, stride, apart, panel + in * 4 * kLanes<A>, k, end);
}

template <int n, class A, class Finish>
UA_KERNEL void tile_of_pairs(const A* x, int64_t stride, int64_t apart, const A* panel, int64_t in,
                             const Finish& first, const Finish& second) {
    constexpr int64_t most = 128; // as in sum_in_runs
    Vector<A> sum[2][n][2];
    sum_pairs<n>(sum, x, stride, apart, panel, in, 0, smaller(in, most));
    for (int64_t k = most; k < in; k += most) {
        Vector<A> part[2][n][2];
        sum_pairs<n>(part, x, stride, apart, panel, in, k, smaller(in, k + most));
        add_tile(sum[0], part[0]);
        add_tile(sum[1], part[1]);
    }
    hand_over<n>(sum[0], first);
    hand_over<n>(sum[1], second);
}

template <class A> struct Winograd {
    typedef A Row;
    static constexpr int kFrames = 2; // of a row's results
    static constexpr int kProducts = 4;

    // those of the products, and the last two frames of the pair before
    static int64_t lines(int64_t frames) { return kProducts * pairs(frames) + 2; }

    // packed [in][frame] -> [m1 and m2, m0 and -m3][in][product]
    static void order(const A* from, int64_t in, A* to) {
        constexpr int lanes = kLanes<A>, panel = 2 * lanes;
        A* later = to + in * 2 * panel;
        for (int64_t k = 0; k < in * panel; k += lanes) {
            const A* g = from + k / panel * 3 * panel + k % panel;
            const int64_t at = k / panel * 2 * panel + k % panel;
            Vector<A> g0 = load(g), g1 = load(g + panel), g2 = load(g + 2 * panel);
            store(to + at, (g0 + g1 + g2) * A(0.5));
            store(to + at + panel, (g0 - g1 + g2) * A(0.5));
            store(later + at, g0);
            store(later + at + panel, -g2);
        }
    }

    // values of an item, `size` a frame
    template <class Values>
    static void prepare(const Values& values, int64_t frames, int64_t size, Row* rows) {
        const int64_t apart = pairs(frames) * size;
        Row *before = rows + kProducts * apart, *first = before + size;
        memset(before, 0, size * sizeof(Row));
        values.each([&](int64_t i, int n, const auto& at) { store(first + i, at(0), n); });
        for (int64_t f = 0; f < frames; f += 2, rows += size) {
            values.each([&](int64_t i, int n, const auto& at) {
                Vector<A> d0 = load(before + i, n), d1 = load(first + i, n);
                Vector<A> d2 = at(f + 1), d3 = at(f + 2);
                store(rows + i, d1 + d2, n);
                store(rows + apart + i, d2 - d1, n);
                store(rows + 2 * apart + i, d0 - d2, n);
                store(rows + 3 * apart + i, d1 - d3, n);
                store(before + i, d2, n);
                store(first + i, d3, n);
            });
        }
    }

    // a panel of results; finish(first row of a tile, frame of the two) takes them
    template <class Finish>
    static void convolve(const Row* rows, int64_t frames, int64_t size, const A* panel, int64_t in,
                         const Finish& finish) {
        const int64_t apart = pairs(frames) * size;
        in_tiles<kTileRows / 2>(apart / in, [&](int64_t row, auto part) {
            tile_of_pairs<decltype(part)::value>(rows + row * in, in, apart, panel, in,
                                                 finish(row, 0), finish(row, 1));
        });
    }

private:
    static int64_t pairs(int64_t frames) { return (frames + 1) / 2; }
};

} // namespace
