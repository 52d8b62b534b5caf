// Forward of both selective scans.
//
// A block is one location and 128 channels, a thread two adjacent channels with 16 states each in
// registers. A sweep walks all frames in one direction of time for 16 states; there are as many
// sweeps as directions and tiles of 16 states, and between them the output waits in shared memory
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

// B and C of kStaged frames at one location
struct Staged {
    float4 B[kStaged][kStates / 4];
    float4 C[kStaged][kStates / 4];
};

template <class T>
__device__ __forceinline__ void stage(float4 (&to)[kStaged][kStates / 4], const ua_array& from,
                                      const Location& at, const Scan& a, int reverse,
                                      int start, int count, int first_state) {
    float* flat = &to[0][0].x;
#pragma unroll 1
    for (int i = threadIdx.x; i < count * kStates; i += kForwardThreads) {
        const int n = first_state + i % kStates;
        const int frame = frame_at(start + i / kStates, a.sizes.frames, reverse);
        const T* row = at.row<const T>(from, frame);
        flat[i] = n < a.sizes.d_state ? load(row + n) : 0.0f;
    }
}

// The decays of the states of one channel, one exponential each.
template <bool kGeometric> struct Decays {
    float rate[kStates];

    __device__ __forceinline__ void read(const void* A, int channel, int first,
                                         const Sizes& sizes) {
        load_rates(A, channel, first, sizes, rate);
    }
    __device__ __forceinline__ void over(float delta, float (&decay)[kStates]) const {
#pragma unroll
        for (int n = 0; n < kStates; ++n) decay[n] = fast_exp2(delta * rate[n]);
    }
};

// Geometric decays: state n has p^(n + 1). Exponentials give p, p^2, p^4 and p^8, products the
// rest; p^16 by squaring alone would have 16 times the rounding error of p.
template <> struct Decays<true> {
    float slowest, first;

    __device__ __forceinline__ void read(const void* A, int channel, int first_state,
                                         const Sizes& sizes) {
        float rate[1];
        load_rates(A, channel, 0, sizes, rate);
        slowest = rate[0];
        first = static_cast<float>(first_state + 1);
    }
    __device__ __forceinline__ void over(float delta, float (&decay)[kStates]) const {
        const float exponent = delta * slowest;
        float power[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) power[k] = fast_exp2(exponent * static_cast<float>(1 << k));
        decay[0] = fast_exp2(exponent * first);
#pragma unroll
        for (int n = 1; n < kStates; ++n) { // n without its lowest bit, times that bit
            decay[n] = decay[n & (n - 1)] * power[n & 1 ? 0 : n & 2 ? 1 : n & 4 ? 2 : 3];
        }
    }
};

// One step of the states of one channel; returns C . h.
template <bool kGeometric>
__device__ __forceinline__ float step(float (&h)[kStates], const Decays<kGeometric>& decays,
                                      float delta, float x, const float4 (&B)[kStates / 4],
                                      const float4 (&C)[kStates / 4]) {
    float decay[kStates];
    decays.over(delta, decay);
    float input = delta * x, y = 0.0f;
#pragma unroll
    for (int k = 0; k < kStates / 4; ++k) {
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

// Walks all frames in direction d with states [first_state, first_state + kStates).
template <class T, bool kGeometric>
__device__ __forceinline__ void sweep(const ForwardScan& f, Staged& staged, float* waiting,
                                      const Location& at, int channel, int d,
                                      int first_state, bool first, bool last) {
    const Scan& a = f.scan;
    const ua_scan_inputs& in = a.in[d];
    const int frames = a.sizes.frames;
    const int reverse = a.reverse[d];
    const Pair pair = pair_at(channel, a);
    const float2 bias = pair.parameter(in.dt_bias, channel);
    const float2 skip = pair.parameter(first_state == 0 ? in.D : nullptr, channel);
    const int states = a.sizes.d_state - first_state;

    Decays<kGeometric> decays[2];
    float h[2][kStates];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        decays[j].read(in.A, channel + j, first_state, a.sizes);
        const int exist = a.initial_state != nullptr && j < pair.count ? states : 0;
        const int64_t state = at.state(channel + j, a.sizes) * a.sizes.d_state + first_state;
        load_states(a.initial_state + state, exist, h[j]);
    }

    Cursor<const T> xs(in.x, at, channel, frames, reverse);
    Cursor<const T> dts(in.dt, at, channel, frames, reverse);
    Cursor<const T> zs(a.z, at, channel, frames, reverse);
    Cursor<T> outs(f.out, at, channel, frames, reverse);
    float2 x = pair.load(xs.p), dt = pair.load(dts.p);
    float* wait = waiting + static_cast<int64_t>(frame_at(0, frames, reverse)) * kForwardChannels;
    const int wait_step = reverse ? -kForwardChannels : kForwardChannels;
    for (int start = 0; start < frames; start += kStaged) {
        const int count = frames - start < kStaged ? frames - start : kStaged;
        __syncthreads();
        stage<T>(staged.B, in.B, at, a, reverse, start, count, first_state);
        stage<T>(staged.C, in.C, at, a, reverse, start, count, first_state);
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
            y.x = step(h[0], decays[0], delta.x, x_now.x, staged.B[i], staged.C[i]);
            y.y = step(h[1], decays[1], delta.y, x_now.y, staged.B[i], staged.C[i]);
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
        store_states(f.final_state + at.state(channel + j, a.sizes) * a.sizes.d_state + first_state,
                     j < pair.count ? states : 0, h[j]);
    }
}

template <class T, bool kGeometric>
__global__ void __launch_bounds__(kForwardThreads, 8)
    scan_forward(const __grid_constant__ ForwardScan f) {
    __shared__ Staged staged;
    UA_DYNAMIC_SHARED(waiting_shared);
    const Scan& a = f.scan;
    const unsigned tiles = (a.sizes.width + kForwardChannels - 1) / kForwardChannels;
    const Location at(blockIdx.x / tiles, a.sizes.space);
    const int channel = (blockIdx.x % tiles) * kForwardChannels + 2 * threadIdx.x;
    float* waiting = f.waiting != nullptr
                         ? f.waiting + static_cast<int64_t>(blockIdx.x) * a.sizes.frames *
                                           kForwardChannels
                         : &waiting_shared[0].x;
    waiting += 2 * threadIdx.x;
#pragma unroll 1
    for (int d = 0; d < a.directions; ++d) {
#pragma unroll 1
        for (int n = 0; n < a.sizes.d_state; n += kStates) {
            bool last = d == a.directions - 1 && n + kStates >= a.sizes.d_state;
            sweep<T, kGeometric>(f, staged, waiting, at, channel, d, n, d == 0 && n == 0, last);
        }
    }
}

// ---- host side

inline int64_t forward_blocks(const ua_scan_sizes& sizes) {
    return sizes.batch * sizes.space * tiles_of(sizes.width, kForwardChannels);
}

inline bool waits(const ua_scan_sizes& sizes, int directions) {
    return directions > 1 || sizes.d_state > kStates;
}

// elements of float32
inline int64_t forward_workspace(const ua_scan_sizes& sizes, int directions) {
    if (!waits(sizes, directions) || sizes.frames <= kSharedFrames) return 0;
    return forward_blocks(sizes) * sizes.frames * kForwardChannels;
}

template <class T>
const char* run_forward(ForwardScan f, const ua_scan_sizes& sizes, void* workspace,
                        const ua_call& call) {
    f.scan.paired = pairs_fit<T>(f.scan) && pairs_aligned<T>(f.out);
    f.waiting = static_cast<float*>(workspace);
    size_t shared = 0;
    if (waits(sizes, f.scan.directions) && workspace == nullptr) {
        shared = sizes.frames * kForwardChannels * sizeof(float);
    }
    auto kernel = sizes.geometric ? scan_forward<T, true> : scan_forward<T, false>;
    return launch(kernel, forward_blocks(sizes), kForwardThreads, shared, call.stream, f);
}

} // namespace
