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

// (a[0], b[0], a[1], b[1], ...) in two vectors
template <class V> inline void interleave(V& a, V& b) {
    constexpr int lanes = sizeof(V) / sizeof(a[0]);
    V low = a, high = b;
    for (int i = 0; i < lanes; ++i) {
        low[i] = i % 2 ? b[i / 2] : a[i / 2];
        high[i] = i % 2 ? b[(lanes + i) / 2] : a[(lanes + i) / 2];
    }
    a = low, b = high;
}
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
inline void interleave(Vector<float>& a, Vector<float>& b) {
#if UA_VECTOR_BYTES == 64
    Vector<float> low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6,
                                                22, 7, 23);
    b = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
    Vector<float> low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    b = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
    a = low;
}
#endif
#endif

// to (columns, to_row) = from (rows, columns) transposed; the padding of to's rows is zeroed
template <class A>
void transpose(A* to, int64_t to_row, const A* from, int64_t from_row, int64_t rows,
               int64_t columns) {
    constexpr int lanes = kLanes<A>;
    for (int64_t c = 0; c < columns; c += lanes) {
        const int width = smaller(columns - c, lanes);
        for (int64_t r = 0; r < to_row; r += lanes) {
            Vector<A> block[lanes], mixed[lanes];
            for (int i = 0; i < lanes; ++i) {
                block[i] = r + i < rows ? load(from + (r + i) * from_row + c, width) : Vector<A>{};
            }
            // log2(lanes) perfect shuffles of the rows transpose the block
            for (int pass = 1; pass < lanes; pass *= 2) {
                for (int i = 0; i < lanes / 2; ++i) {
                    mixed[2 * i] = block[i], mixed[2 * i + 1] = block[i + lanes / 2];
                    interleave(mixed[2 * i], mixed[2 * i + 1]);
                }
                for (int i = 0; i < lanes; ++i) block[i] = mixed[i];
            }
            for (int i = 0; i < width; ++i) {
                store(to + (c + i) * to_row + r, block[i], smaller(to_row - r, lanes));
            }
        }
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
