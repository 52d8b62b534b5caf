// What the forward and backward kernels of both selective scans share.
#pragma once
#include "../cuda.h"
#include "api.h"

namespace {

// A sweep over the frames takes this many states; fewer are padded, more take several sweeps.
constexpr int kStates = 16;

// ua_scan_sizes in 32 bits, which save registers; offsets are 64-bit
struct Sizes {
    int batch, frames, space, width, d_state, geometric, softplus;

    explicit Sizes(const ua_scan_sizes& s)
        : batch(s.batch), frames(s.frames), space(s.space), width(s.width), d_state(s.d_state),
          geometric(s.geometric), softplus(s.softplus) {}
};

// One or two directions of time over the same activations; a single direction is direction 0.
struct Scan {
    Sizes sizes;
    int directions;
    int reverse[2]; // direction d goes from the last frame to the first
    ua_scan_inputs in[2];
    ua_array z;
    const float* initial_state;
    bool paired; // every row can be read and written two channels at a time
};

inline int64_t tiles_of(int64_t count, int64_t tile) { return (count + tile - 1) / tile; }

// a contiguous (B, F, S, D)
inline ua_array contiguous(void* data, const ua_scan_sizes& sizes) {
    const int64_t row = sizes.width, frame = sizes.space * row;
    return {data, {sizes.frames * frame, frame, row, 0}};
}

// what is NULL in `own` is shared with `onward`
inline ua_scan_inputs shared_inputs(const ua_scan_inputs& onward, ua_scan_inputs own) {
    if (own.x.data == nullptr) own.x = onward.x;
    if (own.dt.data == nullptr) own.dt = onward.dt;
    if (own.B.data == nullptr) own.B = onward.B;
    if (own.C.data == nullptr) own.C = onward.C;
    if (own.A == nullptr) own.A = onward.A;
    if (own.D == nullptr) own.D = onward.D;
    if (own.dt_bias == nullptr) own.dt_bias = onward.dt_bias;
    return own;
}

// says whether all that a scan reads along D can be read in pairs
template <class T> bool pairs_fit(const Scan& a) {
    bool fit = a.sizes.width % 2 == 0 && pairs_aligned<T>(a.z);
    for (int d = 0; d < a.directions; ++d) {
        fit = fit && pairs_aligned<T>(a.in[d].x) && pairs_aligned<T>(a.in[d].dt);
    }
    return fit;
}

// A location (b, s) of the picture and the frames above it.
struct Location {
    int b, s;

    __device__ Location(int index, int space) : b(index / space), s(index % space) {}

    // index of row (b, frame, s) of a contiguous activation
    __device__ __forceinline__ int64_t index(int frame, const Sizes& sizes) const {
        return (static_cast<int64_t>(b) * sizes.frames + frame) * sizes.space + s;
    }
    // index of row (b, s, channel) of the states
    __device__ __forceinline__ int64_t state(int channel, const Sizes& sizes) const {
        return (static_cast<int64_t>(b) * sizes.space + s) * sizes.width + channel;
    }
    // row (b, frame, s) of an activation
    template <class T> __device__ __forceinline__ T* row(const ua_array& array, int frame) const {
        const int64_t offset = b * array.stride[0] + frame * array.stride[1] + s * array.stride[2];
        return static_cast<T*>(array.data) + offset;
    }
};

// The frame that direction `reverse` visits at `step`.
__device__ __forceinline__ int frame_at(int step, int frames, int reverse) {
    return reverse ? frames - 1 - step : step;
}

// The rows of one location in the order a direction visits them.
template <class T> struct Cursor {
    T* p;
    int64_t step;

    __device__ Cursor(const ua_array& array, const Location& at, int channel, int frames,
                      int reverse)
        : p(at.row<T>(array, frame_at(0, frames, reverse)) + channel),
          step(reverse ? -array.stride[1] : array.stride[1]) {}
    __device__ __forceinline__ void advance() { p += step; }
};

// Two adjacent channels, of which the first `count` (2, 1 or 0) exist.
struct Pair {
    int count;
    bool paired;

    template <class T> __device__ __forceinline__ float2 load(const T* p) const {
        if (paired) return count > 0 ? load2(p) : make_float2(0.0f, 0.0f);
        return make_float2(count > 0 ? ::load(p) : 0.0f, count > 1 ? ::load(p + 1) : 0.0f);
    }
    template <class T> __device__ __forceinline__ void store(T* p, float2 v) const {
        if (paired) {
            if (count > 0) store2(p, v);
            return;
        }
        if (count > 0) ::store(p, v.x);
        if (count > 1) ::store(p + 1, v.y);
    }
    // a parameter of each channel, 0 where it is absent
    __device__ __forceinline__ float2 parameter(const void* data, int channel) const {
        const float* p = static_cast<const float*>(data);
        if (p == nullptr) return make_float2(0.0f, 0.0f);
        return make_float2(count > 0 ? p[channel] : 0.0f, count > 1 ? p[channel + 1] : 0.0f);
    }
};

__device__ __forceinline__ Pair pair_at(int channel, const Scan& a) {
    const int left = a.sizes.width - channel;
    return Pair{left >= 2 ? 2 : left == 1 ? 1 : 0, a.paired};
}

// W consecutive states of one channel out of `count` that exist; the others read as 0
template <int W>
__device__ __forceinline__ void load_states(const float* p, int count, float (&v)[W]) {
#pragma unroll
    for (int n = 0; n < W; ++n) v[n] = n < count ? p[n] : 0.0f;
}
template <int W>
__device__ __forceinline__ void store_states(float* p, int count, const float (&v)[W]) {
#pragma unroll
    for (int n = 0; n < W; ++n) {
        if (n < count) p[n] = v[n];
    }
}

// The decay rates of states [first, first + W) of a channel, times log2(e), so that
// exp(delta * A) is 2^(delta * rate). Rates of states and channels that do not exist are 0.
template <int W>
__device__ __forceinline__ void load_rates(const void* A, int channel, int first,
                                           const Sizes& sizes, float (&rate)[W]) {
    const float* p = static_cast<const float*>(A);
    const bool exists = channel < sizes.width;
    if (sizes.geometric) {
        const float slowest = exists ? p[channel] * kLog2e : 0.0f;
#pragma unroll
        for (int n = 0; n < W; ++n) rate[n] = slowest * static_cast<float>(first + n + 1);
        return;
    }
    const float* row = p + static_cast<int64_t>(channel) * sizes.d_state + first;
    load_states(row, exists ? sizes.d_state - first : 0, rate);
#pragma unroll
    for (int n = 0; n < W; ++n) rate[n] *= kLog2e;
}

__device__ __forceinline__ float2 step_size(float2 dt, float2 bias, bool through_softplus) {
    float2 v = make_float2(dt.x + bias.x, dt.y + bias.y);
    return through_softplus ? make_float2(softplus(v.x), softplus(v.y)) : v;
}

} // namespace
