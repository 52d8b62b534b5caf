// Small matrix products in scratch memory for the CPU code: rows are padded to whole vectors and
// their number to kRows; what stands in padded rows is never used.
#pragma once
#include "../simd.h"

namespace {

constexpr int64_t kRows = 4; // rows and vectors of a register tile
constexpr int kColumns = UA_VECTOR_BYTES == 64 ? 4 : 2;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t padded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

enum Shape {
    kFull,
    kLowerLeft,  // left[i, k] is zero for k > i
    kUpperLeft,  // left[i, k] is zero for k < i
    kLowerResult // only out[i, j] with j <= i is wanted
};

template <class A, int V>
inline void tile(A* out, int64_t out_row, const A* left, int64_t left_row, int64_t left_step,
                 const A* right, int64_t right_row, int64_t begin, int64_t end, bool add) {
    Vector<A> total[kRows][V];
    for (int i = 0; i < kRows; ++i) {
        for (int v = 0; v < V; ++v) {
            total[i][v] = add ? load(out + i * out_row + v * kLanes<A>) : Vector<A>{};
        }
    }
    for (int64_t k = begin; k < end; ++k) {
        Vector<A> row[V];
        for (int v = 0; v < V; ++v) row[v] = load(right + k * right_row + v * kLanes<A>);
        for (int i = 0; i < kRows; ++i) {
            Vector<A> scale = broadcast(left[i * left_row + k * left_step]);
            for (int v = 0; v < V; ++v) total[i][v] += scale * row[v];
        }
    }
    for (int i = 0; i < kRows; ++i) {
        for (int v = 0; v < V; ++v) store(out + i * out_row + v * kLanes<A>, total[i][v]);
    }
}

// out (rows, columns) = left (rows, depth) right (depth, columns), or += where add; left is read at
// left[i * left_row + k * left_step], so that a transposed one costs nothing
template <class A>
void multiply(A* out, int64_t out_row, int64_t rows, int64_t columns, const A* left,
              int64_t left_row, int64_t left_step, const A* right, int64_t right_row, int64_t depth,
              Shape shape, bool add) {
    for (int64_t i = 0; i < rows; i += kRows) {
        int64_t begin = shape == kUpperLeft ? i : 0;
        int64_t end = shape == kLowerLeft ? smaller(i + kRows, depth) : depth;
        int64_t width = shape == kLowerResult ? smaller(i + kRows, columns) : columns;
        for (int64_t c = 0; c < width; c += kColumns * kLanes<A>) {
            auto run = [&](auto tile_of) {
                tile_of(out + i * out_row + c, out_row, left + i * left_row, left_row, left_step,
                        right + c, right_row, begin, end, add);
            };
            switch (smaller((width - c + kLanes<A> - 1) / kLanes<A>, kColumns)) {
                case 1: run(tile<A, 1>); break;
                case 2: run(tile<A, 2>); break;
                case 3: run(tile<A, 3>); break;
                default: run(tile<A, kColumns>);
            }
        }
    }
}

// to (columns, to_row) = from (rows, columns) transposed; the padding of to's rows is zeroed
template <class A>
void transpose(A* to, int64_t to_row, const A* from, int64_t from_row, int64_t rows,
               int64_t columns) {
    for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = 0; r < rows; ++r) to[c * to_row + r] = from[r * from_row + c];
        for (int64_t r = rows; r < to_row; ++r) to[c * to_row + r] = 0;
    }
}

// sum over a row times a row, whose padding is zero
template <class A> A dot(const A* a, const A* b, int64_t width) {
    Vector<A> total{};
    for (int64_t c = 0; c < width; c += kLanes<A>) total += load(a + c) * load(b + c);
    return sum<A>(total);
}

// to = scale * from, or += where add
template <class A>
void scale_row(A* to, A scale, const A* from, int64_t width, bool add = false) {
    for (int64_t c = 0; c < width; c += kLanes<A>) {
        Vector<A> v = scale * load(from + c);
        store(to + c, add ? load(to + c) + v : v);
    }
}

template <class A> void clear(A* data, int64_t count) { memset(data, 0, count * sizeof(A)); }

} // namespace
