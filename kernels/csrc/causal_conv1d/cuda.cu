// Depthwise causal convolution on a GPU: a thread owns two neighbouring channels of a location (or
// one, where pairs are not aligned) and walks the frames with its window in registers.
#include "../cuda.h"
#include "api.h"

namespace {

constexpr int kThreads = 128;
constexpr int kMaxTaps = 4; // of the kernels below: one a number of taps, all in registers
constexpr int kAhead = 8;   // frames whose loads are under way at once

struct Lines {
    ua_causal_conv1d a;

    // element offset of step i of a location in an array
    __device__ __forceinline__ int64_t offset(const ua_array& array, int64_t b, int64_t s,
                                              int64_t i) const {
        const int64_t frame = a.reverse ? a.frames - 1 - i : i;
        return b * array.stride[0] + frame * array.stride[1] + s * array.stride[2];
    }
    // element offset of step k - (taps - 1), before the clip, of a location in a state
    __device__ __forceinline__ int64_t state_offset(int64_t location, int k) const {
        const int64_t row = a.reverse ? a.taps - 2 - k : k;
        return (location * (a.taps - 1) + row) * a.width;
    }
};

template <int kChannels, class T>
__device__ __forceinline__ void load_channels(float* v, const T* p) {
    if constexpr (kChannels == 2) {
        const float2 both = load2(p);
        v[0] = both.x, v[1] = both.y;
    } else {
        v[0] = load(p);
    }
}

template <int kChannels, class T>
__device__ __forceinline__ void store_channels(T* p, const float* v) {
    if constexpr (kChannels == 2) {
        store2(p, make_float2(v[0], v[1]));
    } else {
        store(p, v[0]);
    }
}

// taps, bias and the window of steps of the channels from c on
template <int kTaps, int kChannels> struct Window {
    float weight[kTaps][kChannels], bias[kChannels], step[kTaps][kChannels];

    __device__ __forceinline__ void load_parameters(const ua_causal_conv1d& a, int64_t c) {
#pragma unroll
        for (int k = 0; k < kTaps; ++k) {
            load_channels<kChannels>(weight[k], static_cast<const float*>(a.weight) + k * a.width + c);
        }
#pragma unroll
        for (int j = 0; j < kChannels; ++j) {
            bias[j] = a.bias ? static_cast<const float*>(a.bias)[c + j] : 0.0f;
        }
    }
    __device__ __forceinline__ void begin(const Lines& lines, int64_t location, int64_t c) {
        const float* state = static_cast<const float*>(lines.a.state);
#pragma unroll
        for (int k = 0; k < kTaps - 1; ++k) {
#pragma unroll
            for (int j = 0; j < kChannels; ++j) {
                step[k][j] = state ? state[lines.state_offset(location, k) + c + j] : 0.0f;
            }
        }
    }
    __device__ __forceinline__ void convolve(float* sum) const {
#pragma unroll
        for (int j = 0; j < kChannels; ++j) {
            sum[j] = bias[j];
#pragma unroll
            for (int k = 0; k < kTaps; ++k) sum[j] += weight[k][j] * step[k][j];
        }
    }
    __device__ __forceinline__ void shift() {
#pragma unroll
        for (int k = 0; k < kTaps - 1; ++k) {
#pragma unroll
            for (int j = 0; j < kChannels; ++j) step[k][j] = step[k + 1][j];
        }
    }
};

// channels a block covers, and the first one of this thread; block = outer * tiles + tile
template <int kChannels> struct Tile {
    int64_t outer, channel;
    __device__ __forceinline__ explicit Tile(int64_t width) {
        const int64_t tiles = (width + kThreads * kChannels - 1) / (kThreads * kChannels);
        outer = blockIdx.x / tiles;
        channel = (blockIdx.x % tiles * kThreads + threadIdx.x) * kChannels;
    }
};

template <class T, int kTaps, int kChannels> __global__ void conv_forward(Lines lines) {
    const ua_causal_conv1d& a = lines.a;
    const Tile<kChannels> tile(a.width);
    const int64_t location = tile.outer, c = tile.channel;
    if (c >= a.width) return;
    const int64_t b = location / a.space, s = location % a.space;
    Window<kTaps, kChannels> window;
    window.load_parameters(a, c);
    window.begin(lines, location, c);
    const T* x = static_cast<const T*>(a.x.data) + c;
    T* y = static_cast<T*>(a.y.data) + c;
    const auto load_frame = [&](float* value, int64_t i) {
        load_channels<kChannels>(value, x + lines.offset(a.x, b, s, i));
    };
    const auto advance = [&](const float* value, int64_t i) {
        float sum[kChannels];
#pragma unroll
        for (int j = 0; j < kChannels; ++j) window.step[kTaps - 1][j] = value[j];
        window.convolve(sum);
        if (a.silu) {
#pragma unroll
            for (int j = 0; j < kChannels; ++j) sum[j] = silu(sum[j]);
        }
        store_channels<kChannels>(y + lines.offset(a.y, b, s, i), sum);
        window.shift();
    };
    int64_t i = 0;
    for (; i + kAhead <= a.frames; i += kAhead) {
        float next[kAhead][kChannels];
#pragma unroll
        for (int n = 0; n < kAhead; ++n) load_frame(next[n], i + n);
#pragma unroll
        for (int n = 0; n < kAhead; ++n) advance(next[n], i + n);
    }
    for (; i < a.frames; ++i) {
        float next[kChannels];
        load_frame(next, i);
        advance(next, i);
    }
}

// a block of threads owns a range of locations, so the parameters' gradients need no atomics
template <class T, int kTaps, int kChannels> __global__ void conv_backward(Lines lines) {
    const ua_causal_conv1d& a = lines.a;
    const Tile<kChannels> tile(a.width);
    const int64_t c = tile.channel;
    if (c >= a.width) return;
    const int64_t locations = a.batch * a.space;
    const int64_t end = (tile.outer + 1) * locations / a.blocks;
    Window<kTaps, kChannels> window;
    window.load_parameters(a, c);
    float grad_weight[kTaps + 1][kChannels] = {}; // the last one is the bias
    for (int64_t location = tile.outer * locations / a.blocks; location < end; ++location) {
        const int64_t b = location / a.space, s = location % a.space;
        window.begin(lines, location, c);
        float grad_step[kTaps][kChannels] = {};
        // kTaps - 1 more steps let the gradients of the last frames leave the window
        for (int64_t i = 0; i < a.frames + kTaps - 1; ++i) {
            if (i < a.frames) {
                load_channels<kChannels>(
                    window.step[kTaps - 1],
                    static_cast<const T*>(a.x.data) + lines.offset(a.x, b, s, i) + c);
                float sum[kChannels], g[kChannels];
                window.convolve(sum);
                load_channels<kChannels>(
                    g, static_cast<const T*>(a.y.data) + lines.offset(a.y, b, s, i) + c);
#pragma unroll
                for (int j = 0; j < kChannels; ++j) {
                    if (a.silu) g[j] *= silu_slope(sum[j], sigmoid(sum[j]));
                    grad_weight[kTaps][j] += g[j];
#pragma unroll
                    for (int k = 0; k < kTaps; ++k) {
                        grad_weight[k][j] += g[j] * window.step[k][j];
                        grad_step[k][j] += g[j] * window.weight[k][j];
                    }
                }
                window.shift();
            }
            const int64_t t = i - (kTaps - 1);
            if (t >= 0) {
                store_channels<kChannels>(
                    static_cast<T*>(a.grad_x.data) + lines.offset(a.grad_x, b, s, t) + c,
                    grad_step[0]);
            } else if (a.grad_state) {
                float* to = static_cast<float*>(a.grad_state) + c;
#pragma unroll
                for (int j = 0; j < kChannels; ++j) {
                    to[lines.state_offset(location, static_cast<int>(i)) + j] = grad_step[0][j];
                }
            }
#pragma unroll
            for (int k = 0; k < kTaps; ++k) {
#pragma unroll
                for (int j = 0; j < kChannels; ++j) {
                    grad_step[k][j] = k < kTaps - 1 ? grad_step[k + 1][j] : 0.0f;
                }
            }
        }
    }
    float* sums = static_cast<float*>(a.grad_parameters) + tile.outer * (kTaps + 1) * a.width + c;
#pragma unroll
    for (int k = 0; k < kTaps + 1; ++k) {
#pragma unroll
        for (int j = 0; j < kChannels; ++j) sums[k * a.width + j] = grad_weight[k][j];
    }
}

template <class T, int kTaps> const char* run(const ua_causal_conv1d* a, bool backward) {
    bool pairs = a->width % 2 == 0 && pairs_aligned<T>(a->x) && pairs_aligned<T>(a->y);
    if (backward) pairs = pairs && pairs_aligned<T>(a->grad_x);
    const int64_t covered = kThreads * (pairs ? 2 : 1);
    const int64_t tiles = (a->width + covered - 1) / covered;
    const int64_t outer = backward ? a->blocks : a->batch * a->space;
    void (*kernel)(Lines) = nullptr;
    if (backward) {
        kernel = pairs ? conv_backward<T, kTaps, 2> : conv_backward<T, kTaps, 1>;
    } else {
        kernel = pairs ? conv_forward<T, kTaps, 2> : conv_forward<T, kTaps, 1>;
    }
    return launch(kernel, outer * tiles, kThreads, 0, a->call.stream, Lines{*a});
}

const char* dispatch(const ua_causal_conv1d* a, bool backward) {
    return with_dtype(a, [&](auto tag) -> const char* {
        typedef decltype(tag) T;
        switch (a->taps) {
            case 1: return run<T, 1>(a, backward);
            case 2: return run<T, 2>(a, backward);
            case 3: return run<T, 3>(a, backward);
            case kMaxTaps: return run<T, kMaxTaps>(a, backward);
            default: return "the CUDA code takes up to 4 taps";
        }
    });
}

} // namespace

UA_ENTRY(causal_conv1d_forward)(const ua_causal_conv1d* a) { return dispatch(a, false); }

UA_ENTRY(causal_conv1d_backward)(const ua_causal_conv1d* a) { return dispatch(a, true); }
