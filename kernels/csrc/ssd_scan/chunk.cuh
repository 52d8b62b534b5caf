// What forward and backward do with one chunk of frames of one head: load it, and weigh its pairs.
#pragma once
#include "api.h"

#include "products.cuh"

namespace {

constexpr int kThreads = 256; // at most; short chunks take half

// Where the parts of a block's shared memory begin, in floats.
struct Layout {
    int row_P, row_N, row_chunk;
    int B, C, x, dy, G, W, dG, state, dB, dC;
    int delta, slope, log_high, log_low, from_start, to_end;
    int put, got, of_D, of_A, of_bias, partial, sums;
    int size;
};

// How the host divided the work; the same for every block.
struct Job {
    ua_ssd_scan a;
    int chunk, chunks; // frames of a chunk, a multiple of 4
    Layout at;
    int parts;         // blocks that share the heads of a group at one location
    int carries;       // some chunk has a state before it or behind it
    float* states;     // state behind chunk c: states + c * state_step, (B, S, H, P, N)
    int64_t state_step;
    float* grad_states; // gradient of the state before the chunk in hand, (B, S, H, P, N)
    float* shares;      // (2, parts, B, F, S, G, N): dB and dC where there are several parts
};

// The frames of one head or group at one location, in the order of the scan.
template <class T> struct Frames {
    T* data;
    int64_t step;
    __device__ __forceinline__ T* operator[](int f) const { return data + f * step; }
};

// The shared memory of a block. Without states B and C are not needed beside x and dy, which then
// take their place.
struct Shared {
    float* base;
    const Layout& at;

    __device__ Matrix B() const { return {base + at.B, at.row_N}; }         // (chunk, N)
    __device__ Matrix C() const { return {base + at.C, at.row_N}; }         // (chunk, N)
    __device__ Matrix x() const { return {base + at.x, at.row_P}; }         // (chunk, P)
    __device__ Matrix dy() const { return {base + at.dy, at.row_P}; }       // (chunk, P)
    __device__ Matrix G() const { return {base + at.G, at.row_chunk}; }     // (chunk, chunk)
    __device__ Matrix W() const { return {base + at.W, at.row_chunk}; }     // (chunk, chunk)
    __device__ Matrix dG() const { return {base + at.dG, at.row_chunk}; }   // (chunk, chunk)
    __device__ Matrix state() const { return {base + at.state, at.row_N}; } // (P, N)
    // what the states add to dB and dC
    __device__ Matrix dB() const { return {base + at.dB, at.row_N}; } // (chunk, N)
    __device__ Matrix dC() const { return {base + at.dC, at.row_N}; } // (chunk, N)
    // of a frame: step, d step / d dt; the sum of the log2 decays up to it, in two parts; the decay
    // from the chunk's start; the decay to its end, times delta
    __device__ float* delta() const { return base + at.delta; }
    __device__ float* slope() const { return base + at.slope; }
    __device__ float* log_high() const { return base + at.log_high; }
    __device__ float* log_low() const { return base + at.log_low; }
    __device__ float* from_start() const { return base + at.from_start; }
    __device__ float* to_end() const { return base + at.to_end; }
    // of a frame, in backward: what it put in the state behind the chunk and got from the one
    // before, and its parts of dD, dA and ddt_bias
    __device__ float* put() const { return base + at.put; }
    __device__ float* got() const { return base + at.got; }
    __device__ float* of_D() const { return base + at.of_D; }
    __device__ float* of_A() const { return base + at.of_A; }
    __device__ float* of_bias() const { return base + at.of_bias; }
    __device__ float* partial() const { return base + at.partial; } // (chunk, tiles of P)
    __device__ float* sums() const { return base + at.sums; }       // 32

    // product of the decays of frames j+1 .. i of the chunk; the sums are differenced in two
    // parts, because their difference has fewer digits than they
    __device__ __forceinline__ float decay(int i, int j) const {
        return fast_exp2((log_high()[i] - log_high()[j]) + (log_low()[i] - log_low()[j]));
    }
};

// A block's location, group and heads, and the chunk in hand.
template <class T> struct Block {
    const Job& job;
    const ua_ssd_scan& a;
    Shared s;
    int P, N;
    int64_t b, location;
    int space, group, part, first_head, last_head;
    int c, first, count, rows; // chunk, its first frame and number of frames, these in fours

    __device__ Block(const Job& job, float4* shared)
        : job(job), a(job.a), s{&shared[0].x, job.at} {
        P = a.width, N = a.d_state;
        part = blockIdx.x % job.parts;
        const int64_t item = blockIdx.x / job.parts;
        group = item % a.groups;
        location = item / a.groups;
        b = location / a.space, space = location % a.space;
        const int heads = a.heads / a.groups;
        first_head = group * heads + heads * part / job.parts;
        last_head = group * heads + heads * (part + 1) / job.parts;
    }

    __device__ __forceinline__ void begin_chunk(int chunk) {
        c = chunk, first = chunk * job.chunk;
        const int left = static_cast<int>(a.frames) - first;
        count = left < job.chunk ? left : job.chunk;
        rows = 4 * quads(count);
    }
    // which row of P x N states is that of a head
    __device__ __forceinline__ int64_t state_of(int h) const {
        return (location * a.heads + h) * P * N;
    }
    __device__ __forceinline__ bool entered() const { return c > 0 || a.initial_state != nullptr; }
    __device__ __forceinline__ const float* entry(int h) const {
        const float* from = c > 0 ? job.states + (c - 1) * job.state_step
                                  : static_cast<const float*>(a.initial_state);
        return from + state_of(h);
    }

    template <class U>
    __device__ __forceinline__ Frames<U> frames_of(const ua_array& of, int h) const {
        const int64_t at = a.reverse ? a.frames - 1 - first : first;
        U* data = static_cast<U*>(of.data) + b * of.stride[0] + at * of.stride[1] +
                  space * of.stride[2] + h * of.stride[3];
        return {data, a.reverse ? -of.stride[1] : of.stride[1]};
    }
    // where this block's share of dB (which = 0) or dC of frame f of the chunk begins
    __device__ __forceinline__ int64_t share(int which, int f) const {
        const int64_t frame = a.reverse ? a.frames - 1 - first - f : first + f;
        const int64_t clip = (which * job.parts + part) * a.batch + b;
        return (((clip * a.frames + frame) * a.space + space) * a.groups + group) * N;
    }
    // of dt, whose dense axis is that of the heads
    template <class U> __device__ __forceinline__ Frames<U> steps(const ua_array& of, int h) const {
        const Frames<U> all = frames_of<U>(of, 0);
        return {all.data + h, all.step};
    }

    // calls use(i, k) for all i < rows and k < width, both padded to fours: a warp takes a row
    template <class Use>
    __device__ __forceinline__ void each_element(int height, int width, const Use& use) const {
        for (int i = threadIdx.x / 32; i < 4 * quads(height); i += blockDim.x / 32) {
            for (int k = threadIdx.x % 32; k < 4 * quads(width); k += 32) use(i, k);
        }
    }
    // rows of the chunk, zero where there are none; use(value, frame, k) has the last word
    template <class Use>
    __device__ __forceinline__ void read(const Matrix& to, const Frames<const T>& from, int width,
                                         const Use& use) const {
        const int warps = blockDim.x / 32;
        for (int k = threadIdx.x % 32; k < 4 * quads(width); k += 32) {
#pragma unroll 1
            for (int f = threadIdx.x / 32; f < rows; f += 4 * warps) {
                float v[4]; // on their way at once
#pragma unroll
                for (int u = 0; u < 4; ++u) {
                    const int i = f + u * warps;
                    v[u] = i < count && k < width ? use(load(from[i] + k), i, k) : 0.0f;
                }
#pragma unroll
                for (int u = 0; u < 4; ++u) {
                    if (f + u * warps < rows) to.at(f + u * warps, k) = v[u];
                }
            }
        }
    }
    __device__ __forceinline__ void read(const Matrix& to, const Frames<const T>& from,
                                         int width) const {
        read(to, from, width, [](float v, int, int) { return v; });
    }
    __device__ __forceinline__ void read_projections() const {
        read(s.B(), frames_of<const T>(a.B, group), N);
        read(s.C(), frames_of<const T>(a.C, group), N);
    }
    __device__ __forceinline__ void read_state(const float* from) const {
        each_element(P, N, [&](int p, int n) {
            s.state().at(p, n) = p < P && n < N ? from[p * N + n] : 0.0f;
        });
    }

    // G[i, j] = C[i] . B[j]
    __device__ __forceinline__ void compare() const {
        each_tile(rows, rows, [&](Tile& tile) {
            tile.add(Rows{s.C()}, Rows{s.B()}, 0, 4 * quads(N));
            tile.each([&](int i, int j, float sum) { s.G().at(i, j) = sum; });
        });
    }

    // delta and what follows from it, by the first warp
    __device__ __forceinline__ void read_steps(int h) const {
        if (threadIdx.x >= 32) return;
        const Frames<const T> dt = steps<const T>(a.dt, h);
        const float bias = a.dt_bias ? static_cast<const float*>(a.dt_bias)[h] : 0.0f;
        const float rate = static_cast<const float*>(a.A)[h] * kLog2e;
        double before = 0;
#pragma unroll 1
        for (int start = 0; start < rows; start += 32) {
            const int f = start + threadIdx.x;
            float delta = 0.0f, slope = 0.0f; // beyond the clip a frame changes nothing
            if (f < count) {
                const float raw = load(dt[f]) + bias;
                delta = a.softplus ? softplus(raw) : raw;
                slope = a.softplus ? sigmoid(raw) : 1.0f;
            }
            double sum = delta * rate;
#pragma unroll
            for (int distance = 1; distance < 32; distance *= 2) {
                const double other = __shfl_up_sync(kWholeWarp, sum, distance);
                if (static_cast<int>(threadIdx.x) >= distance) sum += other;
            }
            sum += before;
            before = __shfl_sync(kWholeWarp, sum, 31);
            if (f >= rows) continue;
            const float high = static_cast<float>(sum);
            s.delta()[f] = delta, s.slope()[f] = slope;
            s.log_high()[f] = high, s.log_low()[f] = static_cast<float>(sum - high);
            s.from_start()[f] = fast_exp2(high);
        }
        __syncwarp();
        for (int f = threadIdx.x; f < rows; f += 32) {
            s.to_end()[f] = s.delta()[f] * s.decay(rows - 1, f);
        }
    }

    // W[i, j] = G[i, j] L[i, j] delta[j], zero above the diagonal
    __device__ __forceinline__ void weigh() const {
        each_element(rows, rows, [&](int i, int j) {
            s.W().at(i, j) = i < j ? 0.0f : s.G().at(i, j) * s.decay(i, j) * s.delta()[j];
        });
    }
};

} // namespace
