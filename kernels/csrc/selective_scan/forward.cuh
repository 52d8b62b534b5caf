// Forward of both selective scans.
//
// A block is one location and 128 channels, a thread two adjacent channels with W states each in
// registers. A sweep walks all frames in one direction of time for W states; there are as many
// sweeps as directions and tiles of W states, and between them the output waits in shared memory
// (in the workspace beyond kSharedFrames). The loop over frames has no barrier and no shuffle: B
// and C are staged in shared memory for kStaged frames at a time and read as broadcasts.
#pragma once
#include "scan.cuh"

namespace {

constexpr int kForwardThreads = 64;
constexpr int kForwardChannels = 2 * kForwardThreads;
constexpr int kStaged = 40;         // frames: the usual 17 and 33 in one go
constexpr int64_t kSharedFrames = 96; // 48 KB

struct ForwardScan {
    Scan scan;
    ua_array out;       // (B, F, S, D)
    float* final_state; // (B, S, D, N) or NULL
    float* waiting;     // (blocks, F, 128): sums of sweeps, where shared memory is too small
};

// B and C of kStaged frames at one location, W states of each
template <int W> struct Staged {
    float4 B[kStaged][W / 4];
    float4 C[kStaged][W / 4];
};

template <class T, int W>
__device__ __forceinline__ void stage(float4 (&to)[kStaged][W / 4], const ua_array& from,
                                      const Location& at, const Scan& a, int reverse,
                                      int64_t start, int count, int64_t first_state) {
    float* flat = &to[0][0].x;
    for (int i = threadIdx.x; i < count * W; i += kForwardThreads) {
        int64_t n = first_state + i % W;
        const T* row = at.row<const T>(from, frame_at(start + i / W, a.sizes.frames, reverse));
        flat[i] = n < a.sizes.d_state ? load(row + n) : 0.0f;
    }
}

// One step of W states of one channel; returns C . h.
template <int W, bool kGeometric>
__device__ __forceinline__ float step(float (&h)[W], const Rates<W, kGeometric>& rates,
                                      float delta, float x, const float4 (&B)[W / 4],
                                      const float4 (&C)[W / 4]) {
    float decay[W];
    rates.decays(delta, decay);
    float input = delta * x, y = 0.0f;
#pragma unroll
    for (int k = 0; k < W / 4; ++k) {
        float4 b = B[k], c = C[k];
        h[4 * k + 0] = decay[4 * k + 0] * h[4 * k + 0] + input * b.x;
        h[4 * k + 1] = decay[4 * k + 1] * h[4 * k + 1] + input * b.y;
        h[4 * k + 2] = decay[4 * k + 2] * h[4 * k + 2] + input * b.z;
        h[4 * k + 3] = decay[4 * k + 3] * h[4 * k + 3] + input * b.w;
        y += h[4 * k + 0] * c.x;
        y += h[4 * k + 1] * c.y;
        y += h[4 * k + 2] * c.z;
        y += h[4 * k + 3] * c.w;
    }
    return y;
}

// Walks all frames in direction d with states [first_state, first_state + W).
template <class T, int W, bool kGeometric>
__device__ __forceinline__ void sweep(const ForwardScan& f, Staged<W>& staged, float* waiting,
                                      const Location& at, int64_t channel, int d,
                                      int64_t first_state, bool first, bool last) {
    const Scan& a = f.scan;
    const ua_scan_inputs& in = a.in[d];
    const int64_t frames = a.sizes.frames;
    const int reverse = a.reverse[d];
    const Pair pair = pair_at(channel, a);
    const float2 bias = pair.parameter(in.dt_bias, channel);
    const float2 skip = pair.parameter(first_state == 0 ? in.D : nullptr, channel);
    const int64_t state_row = (at.b * a.sizes.space + at.s) * a.sizes.width + channel;
    const int64_t states = a.sizes.d_state - first_state;

    Rates<W, kGeometric> rates[2];
    float h[2][W];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        rates[j].read(in.A, channel + j, first_state, a.sizes);
        int64_t exist = a.initial_state != nullptr && j < pair.count ? states : 0;
        load_states(a.initial_state + (state_row + j) * a.sizes.d_state + first_state, exist, h[j]);
    }

    Cursor<const T> xs(in.x, at, channel, frames, reverse);
    Cursor<const T> dts(in.dt, at, channel, frames, reverse);
    Cursor<const T> zs(a.z, at, channel, frames, reverse);
    Cursor<T> outs(f.out, at, channel, frames, reverse);
    float2 x = pair.load(xs.p), dt = pair.load(dts.p);
    float* wait = waiting + frame_at(0, frames, reverse) * kForwardChannels;
    const int wait_step = reverse ? -kForwardChannels : kForwardChannels;
    for (int64_t start = 0; start < frames; start += kStaged) {
        int count = frames - start < kStaged ? static_cast<int>(frames - start) : kStaged;
        __syncthreads();
        stage<T, W>(staged.B, in.B, at, a, reverse, start, count, first_state);
        stage<T, W>(staged.C, in.C, at, a, reverse, start, count, first_state);
        __syncthreads();
        const bool more = start + count < frames;
#pragma unroll 1
        for (int i = 0; i < count; ++i) {
            const float2 x_now = x, delta = step_size(dt, bias, a.sizes.softplus);
            if (i + 1 < count || more) { // the next frame's inputs travel during this step
                xs.advance();
                dts.advance();
                x = pair.load(xs.p);
                dt = pair.load(dts.p);
            }
            float2 y;
            y.x = step<W, kGeometric>(h[0], rates[0], delta.x, x_now.x, staged.B[i], staged.C[i]);
            y.y = step<W, kGeometric>(h[1], rates[1], delta.y, x_now.y, staged.B[i], staged.C[i]);
            y.x += skip.x * x_now.x;
            y.y += skip.y * x_now.y;
            if (!first) {
                float2 before = load2(wait);
                y.x += before.x;
                y.y += before.y;
            }
            if (!last) {
                store2(wait, y);
            } else {
                if (a.z.data != nullptr) {
                    float2 z = pair.load(zs.p);
                    y.x *= silu(z.x);
                    y.y *= silu(z.y);
                }
                pair.store(outs.p, y);
                zs.advance();
                outs.advance();
            }
            wait += wait_step;
        }
    }
    if (f.final_state == nullptr) return;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        store_states(f.final_state + (state_row + j) * a.sizes.d_state + first_state,
                     j < pair.count ? states : 0, h[j]);
    }
}

template <class T, int W, bool kGeometric>
__global__ void __launch_bounds__(kForwardThreads, 8)
    scan_forward(const __grid_constant__ ForwardScan f) {
    __shared__ Staged<W> staged;
    UA_DYNAMIC_SHARED(waiting_shared);
    const Scan& a = f.scan;
    const unsigned tiles = (a.sizes.width + kForwardChannels - 1) / kForwardChannels;
    const Location at(blockIdx.x / tiles, a.sizes.space);
    const int64_t channel = (blockIdx.x % tiles) * kForwardChannels + 2 * threadIdx.x;
    float* waiting = f.waiting != nullptr
                         ? f.waiting + blockIdx.x * a.sizes.frames * kForwardChannels
                         : &waiting_shared[0].x;
    waiting += 2 * threadIdx.x;
#pragma unroll 1
    for (int d = 0; d < a.directions; ++d) {
#pragma unroll 1
        for (int64_t n = 0; n < a.sizes.d_state; n += W) {
            bool last = d == a.directions - 1 && n + W >= a.sizes.d_state;
            sweep<T, W, kGeometric>(f, staged, waiting, at, channel, d, n, d == 0 && n == 0, last);
        }
    }
}

// ---- host side

inline int64_t forward_blocks(const ua_scan_sizes& sizes) {
    return sizes.batch * sizes.space * tiles_of(sizes.width, kForwardChannels);
}

inline bool waits(const ua_scan_sizes& sizes, int directions, int states) {
    return directions > 1 || sizes.d_state > states;
}

constexpr int kStates = 16; // a thread holds for each channel

// elements of float32
inline int64_t forward_workspace(const ua_scan_sizes& sizes, int directions) {
    if (!waits(sizes, directions, kStates) || sizes.frames <= kSharedFrames) return 0;
    return forward_blocks(sizes) * sizes.frames * kForwardChannels;
}

template <class T> const char* run_forward(ForwardScan f, void* workspace, const ua_call& call) {
    const ua_scan_sizes& sizes = f.scan.sizes;
    f.scan.paired = pairs_fit<T>(f.scan) && pairs_aligned<T>(f.out);
    f.waiting = static_cast<float*>(workspace);
    size_t shared = 0;
    if (waits(sizes, f.scan.directions, kStates) && workspace == nullptr) {
        shared = sizes.frames * kForwardChannels * sizeof(float);
    }
    auto kernel = sizes.geometric ? scan_forward<T, kStates, true> : scan_forward<T, kStates, false>;
    return launch(kernel, forward_blocks(sizes), kForwardThreads, shared, call.stream, f);
}

} // namespace
