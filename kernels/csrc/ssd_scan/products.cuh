// Matrix products in the shared memory of a block, in tiles of 4 x 4 results a thread.
//
// A tile has four neighbouring rows and four columns that are `across` apart, so that the threads
// of a warp read neighbouring addresses. What is read in fours is padded: rows and columns beyond
// a matrix up to the next multiple of 4 exist and are zero where a sum runs over them.
#pragma once
#include "../cuda.h"

namespace {

inline __host__ __device__ int quads(int count) { return (count + 3) / 4; }

// floats of a row in shared memory: an odd number of float4, so that those of eight neighbouring
// rows at one depth lie in different banks
inline __host__ __device__ int row_of(int width) { return 4 * (quads(width) | 1); }

struct Matrix {
    float* data;
    int row;
    __device__ __forceinline__ float& at(int i, int j) const { return data[i * row + j]; }
};

__device__ __forceinline__ void read4(const float* p, float (&v)[4]) {
    const float4 all = *reinterpret_cast<const float4*>(p);
    v[0] = all.x, v[1] = all.y, v[2] = all.z, v[3] = all.w;
}

// A factor whose row i is vector i of the product.
struct Rows {
    Matrix m;
    // to[v][k] = vector (first + v * step) at depth + k
    __device__ __forceinline__ void read(float (&to)[4][4], int first, int step, int depth) const {
#pragma unroll
        for (int v = 0; v < 4; ++v) read4(&m.at(first + v * step, depth), to[v]);
    }
};

// A factor whose column i is vector i, times weight[k] at depth k if there are weights.
struct Columns {
    Matrix m;
    const float* weight = nullptr;
    __device__ __forceinline__ void read(float (&to)[4][4], int first, int step, int depth) const {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            float v[4];
            if (step == 1) {
                read4(&m.at(depth + k, first), v);
            } else {
#pragma unroll
                for (int i = 0; i < 4; ++i) v[i] = m.at(depth + k, first + i * step);
            }
            const float scale = weight != nullptr ? weight[depth + k] : 1.0f;
#pragma unroll
            for (int i = 0; i < 4; ++i) to[i][k] = v[i] * scale;
        }
    }
};

struct Tile {
    int i, j, across;
    float sum[4][4];

    // adds left right^T over depths [begin, end), multiples of 4
    template <class Left, class Right>
    __device__ __forceinline__ void add(const Left& left, const Right& right, int begin, int end) {
#pragma unroll 1
        for (int k = begin; k < end; k += 4) {
            float a[4][4], b[4][4];
            left.read(a, i, 1, k);
            right.read(b, j, across, k);
#pragma unroll
            for (int d = 0; d < 4; ++d) {
#pragma unroll
                for (int r = 0; r < 4; ++r) {
#pragma unroll
                    for (int c = 0; c < 4; ++c) sum[r][c] += a[r][d] * b[c][d];
                }
            }
        }
    }
    __device__ __forceinline__ void scale_rows(const float* by) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
#pragma unroll
            for (int c = 0; c < 4; ++c) sum[r][c] *= by[i + r];
        }
    }
    // calls use(row, column, sum) for every result
    template <class Use> __device__ __forceinline__ void each(const Use& use) const {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
#pragma unroll
            for (int c = 0; c < 4; ++c) use(i + r, j + c * across, sum[r][c]);
        }
    }
};

// calls use(tile) for the tiles of a rows x columns matrix that are this thread's
template <class Use>
__device__ __forceinline__ void each_tile(int rows, int columns, const Use& use) {
    const int across = quads(columns), tiles = quads(rows) * across;
#pragma unroll 1
    for (int t = threadIdx.x; t < tiles; t += blockDim.x) {
        Tile tile = {t / across * 4, t % across, across, {}};
        use(tile);
    }
}

} // namespace
