// Group normalisation + SiLU on a GPU, rows of channels (channels-last) only.
//
// Sums per channel, folded to groups, then the result: a block never belongs to a group, whose few
// channels would be a strided set of short pieces. A block of the two large passes takes `block`
// rows of one item and a tile of neighbouring channels; eight rows are read at once, every thread
// keeps its channels. Partial sums have their own places: no atomics, the same bits every time.
#include "api.h"

#include "../cuda.h"

namespace {

typedef const ua_group_norm_silu& Call;

constexpr int kLanes = 32, kRows = 8, kThreads = kLanes * kRows, kFoldThreads = 128;

// `width` neighbouring channels, one load if there are two
template <class T, int width> struct Channels;
template <class T> struct Channels<T, 1> {
    float v[1];
    __device__ Channels(const T* p) : v{load(p)} {}
    __device__ static void write(T* p, const float* v) { store(p, v[0]); }
};
template <class T> struct Channels<T, 2> {
    float v[2];
    __device__ Channels(const T* p) {
        float2 pair = load2(p);
        v[0] = pair.x;
        v[1] = pair.y;
    }
    __device__ static void write(T* p, const float* v) { store2(p, make_float2(v[0], v[1])); }
};

template <class T>
__device__ __forceinline__ T* row(Call a, const ua_array& of, int64_t n, int64_t r) {
    int64_t offset = n * of.stride[0];
    if (a.inner[1] == a.rows) {
        offset += r * of.stride[3];
    } else {
        int64_t outer = r / a.inner[1];
        offset += r % a.inner[1] * of.stride[3] + outer % a.inner[0] * of.stride[2] +
                  outer / a.inner[0] * of.stride[1];
    }
    return static_cast<T*>(of.data) + offset;
}

template <class T> __device__ __forceinline__ float value(const void* p, int64_t i) {
    return load(static_cast<const T*>(p) + i);
}
template <class T> __device__ __forceinline__ float shift(Call a, int64_t n, int64_t c) {
    return a.embedding ? value<T>(a.embedding, n * a.channels + c) : 0.0f;
}

// `count` arrays of `padded` floats each
__device__ __forceinline__ float* sums(Call a, int count, int64_t n, int64_t block) {
    return static_cast<float*>(a.sums) + (n * a.blocks + block) * count * a.padded;
}
__device__ __forceinline__ float* table(Call a, int count, int64_t n) {
    return static_cast<float*>(a.coefficients) + n * count * a.padded;
}

// which part of the data a block of the large passes takes, and which of it this thread
template <int width> struct Place {
    int64_t n, block, first, end, c;
    __device__ Place(Call a) {
        int64_t tiles = (a.channels + kLanes * width - 1) / (kLanes * width);
        int64_t tile = blockIdx.x % tiles, part = blockIdx.x / tiles;
        n = part / a.blocks;
        block = part % a.blocks;
        c = (tile * kLanes + threadIdx.x % kLanes) * width;
        first = block * a.block + threadIdx.x / kLanes;
        end = (block + 1) * a.block < a.rows ? (block + 1) * a.block : a.rows;
        if (c >= a.channels) end = first;
    }
};

// adds up the rows' sums of a block, in order, and leaves them in their place
template <int width, int count>
__device__ void leave(Call a, const Place<width>& at, const float (&sum)[count][width]) {
    __shared__ float scratch[kRows][count][kLanes * width];
    int lane = threadIdx.x % kLanes * width;
    for (int k = 0; k < count; ++k) {
        for (int i = 0; i < width; ++i) scratch[threadIdx.x / kLanes][k][lane + i] = sum[k][i];
    }
    __syncthreads();
    float* into = sums(a, count, at.n, at.block) + at.c - lane;
    for (int i = threadIdx.x; i < count * kLanes * width; i += kThreads) {
        int k = i / (kLanes * width), channel = i % (kLanes * width);
        if (at.c - lane + channel >= a.channels) continue;
        float total = 0;
        for (int r = 0; r < kRows; ++r) total += scratch[r][k][channel];
        into[k * a.padded + channel] = total;
    }
}

// ---- forward

// sums of x and x^2 about the item's first location: the variance keeps its digits
template <class T, int width>
__global__ void __launch_bounds__(kThreads) moments_kernel(const ua_group_norm_silu a) {
    Place<width> at(a);
    float sum[2][width] = {};
    if (at.first < at.end) {
        Channels<T, width> origin(row<T>(a, a.x, at.n, 0) + at.c);
#pragma unroll 4
        for (int64_t r = at.first; r < at.end; r += kRows) {
            Channels<T, width> x(row<T>(a, a.x, at.n, r) + at.c);
            for (int i = 0; i < width; ++i) {
                float d = x.v[i] - origin.v[i];
                sum[0][i] += d;
                sum[1][i] += d * d;
            }
        }
    }
    leave<width, 2>(a, at, sum);
}

// adds up a channel's partial sums over the blocks of an item; the result is in all lanes
template <int count>
__device__ void over_blocks(Call a, int64_t n, int64_t c, double (&total)[count]) {
    for (int k = 0; k < count; ++k) total[k] = 0;
    for (int64_t block = threadIdx.x % 32; block < a.blocks; block += 32) {
        const float* from = sums(a, count, n, block) + c;
        for (int k = 0; k < count; ++k) total[k] += from[k * a.padded];
    }
    for (int k = 0; k < count; ++k) {
        for (int distance = 16; distance > 0; distance /= 2) {
            total[k] += __shfl_xor_sync(kWholeWarp, total[k], distance);
        }
    }
}

// One block a group: its statistics, combined as by Chan et al. (1979), and what its channels need.
template <class T>
__global__ void __launch_bounds__(kFoldThreads) fold_kernel(const ua_group_norm_silu a) {
    UA_DYNAMIC_SHARED(raw);
    double* means = reinterpret_cast<double*>(raw);
    int64_t n = blockIdx.x / a.groups, group = blockIdx.x % a.groups;
    int64_t per_group = a.channels / a.groups, first = group * per_group;
    double *spreads = means + per_group, rows = static_cast<double>(a.rows);
    for (int64_t i = threadIdx.x / 32; i < per_group; i += kFoldThreads / 32) {
        double total[2];
        over_blocks<2>(a, n, first + i, total);
        if (threadIdx.x % 32 == 0) {
            double origin = load(row<T>(a, a.x, n, 0) + first + i);
            means[i] = origin + total[0] / rows + shift<T>(a, n, first + i);
            spreads[i] = total[1] - total[0] * (total[0] / rows);
        }
    }
    __syncthreads();
    // every thread for itself: a group has few channels
    double mean = 0, spread = 0;
    for (int64_t i = 0; i < per_group; ++i) mean += means[i] / static_cast<double>(per_group);
    for (int64_t i = 0; i < per_group; ++i) {
        spread += spreads[i] + rows * (means[i] - mean) * (means[i] - mean);
    }
    double rstd = 1.0 / sqrt(spread / (rows * static_cast<double>(per_group)) + a.eps);
    if (threadIdx.x == 0) {
        static_cast<float*>(a.mean)[blockIdx.x] = static_cast<float>(mean);
        static_cast<float*>(a.rstd)[blockIdx.x] = static_cast<float>(rstd);
    }
    float *centre = table(a, 3, n), *scale = centre + a.padded, *bias = scale + a.padded;
    for (int64_t c = first + threadIdx.x; c < first + per_group; c += kFoldThreads) {
        centre[c] = static_cast<float>(mean - shift<T>(a, n, c));
        scale[c] = static_cast<float>(rstd * value<T>(a.weight, c));
        bias[c] = value<T>(a.bias, c);
    }
}

template <class T, int width>
__global__ void __launch_bounds__(kThreads) apply_kernel(const ua_group_norm_silu a) {
    Place<width> at(a);
    if (at.first >= at.end) return;
    const float* from = table(a, 3, at.n) + at.c;
    float centre[width], scale[width], bias[width];
    for (int i = 0; i < width; ++i) {
        centre[i] = from[i];
        scale[i] = from[a.padded + i];
        bias[i] = from[2 * a.padded + i];
    }
#pragma unroll 4
    for (int64_t r = at.first; r < at.end; r += kRows) {
        Channels<T, width> x(row<T>(a, a.x, at.n, r) + at.c);
        for (int i = 0; i < width; ++i) {
            float z = (x.v[i] - centre[i]) * scale[i] + bias[i];
            x.v[i] = a.silu ? silu(z) : z;
        }
        x.write(row<T>(a, a.out, at.n, r) + at.c, x.v);
    }
}

// ---- backward; cpu.cpp has the formula

// gives u, the normalised value, and g = dL/dz of one channel
template <class T> struct Slope {
    float centre, rstd, weight, bias;
    bool silu;
    __device__ Slope(Call a, int64_t n, int64_t c) {
        int64_t group = n * a.groups + c / (a.channels / a.groups);
        centre = value<float>(a.mean, group) - shift<T>(a, n, c);
        rstd = value<float>(a.rstd, group);
        weight = value<T>(a.weight, c);
        bias = value<T>(a.bias, c);
        silu = a.silu;
    }
    __device__ float operator()(float x, float grad, float& u) const {
        u = (x - centre) * rstd;
        float z = u * weight + bias;
        return silu ? grad * silu_slope(z, sigmoid(z)) : grad;
    }
};

template <class T, int width>
__global__ void __launch_bounds__(kThreads) slopes_kernel(const ua_group_norm_silu a) {
    Place<width> at(a);
    float sum[3][width] = {};
    if (at.first < at.end) {
        Slope<T> first(a, at.n, at.c), last(a, at.n, at.c + width - 1);
#pragma unroll 2
        for (int64_t r = at.first; r < at.end; r += kRows) {
            Channels<T, width> x(row<T>(a, a.x, at.n, r) + at.c);
            Channels<T, width> grad(row<T>(a, a.grad, at.n, r) + at.c);
            for (int i = 0; i < width; ++i) {
                float u, g = (i ? last : first)(x.v[i], grad.v[i], u);
                sum[0][i] += g;
                sum[1][i] += g * u;
                sum[2][i] += u;
            }
        }
    }
    leave<width, 3>(a, at, sum);
}

// One block a group: the means over the group, the gradient of the embedding, totals of channels.
template <class T>
__global__ void __launch_bounds__(kFoldThreads) fold_slopes_kernel(const ua_group_norm_silu a) {
    UA_DYNAMIC_SHARED(raw);
    double* g = reinterpret_cast<double*>(raw);
    int64_t n = blockIdx.x / a.groups, group = blockIdx.x % a.groups;
    int64_t per_group = a.channels / a.groups, first = group * per_group;
    double *gu = g + per_group, *u = gu + per_group, rows = static_cast<double>(a.rows);
    for (int64_t i = threadIdx.x / 32; i < per_group; i += kFoldThreads / 32) {
        double total[3];
        over_blocks<3>(a, n, first + i, total);
        if (threadIdx.x % 32 == 0) {
            g[i] = total[0];
            gu[i] = total[1];
            u[i] = total[2];
        }
    }
    __syncthreads();
    double mean_g = 0, mean_gu = 0, count = rows * static_cast<double>(per_group);
    for (int64_t i = 0; i < per_group; ++i) {
        mean_g += value<T>(a.weight, first + i) * g[i] / count;
        mean_gu += value<T>(a.weight, first + i) * gu[i] / count;
    }
    double rstd = value<float>(a.rstd, blockIdx.x);
    float *level = table(a, 6, n), *slope = level + a.padded, *total = slope + a.padded;
    for (int64_t i = threadIdx.x; i < per_group; i += kFoldThreads) {
        int64_t c = first + i;
        level[c] = static_cast<float>(rstd * mean_g);
        slope[c] = static_cast<float>(rstd * mean_gu);
        total[c] = static_cast<float>(g[i]);
        total[a.padded + c] = static_cast<float>(gu[i]);
        if (a.grad_embedding == nullptr) continue;
        double sum = rstd * (value<T>(a.weight, c) * g[i] - rows * mean_g - u[i] * mean_gu);
        store(static_cast<T*>(a.grad_embedding) + n * a.channels + c, static_cast<float>(sum));
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) parameters_kernel(const ua_group_norm_silu a) {
    int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (c >= a.channels) return;
    double g = 0, gu = 0;
    for (int64_t n = 0; n < a.batch; ++n) {
        g += table(a, 6, n)[2 * a.padded + c];
        gu += table(a, 6, n)[3 * a.padded + c];
    }
    store(static_cast<T*>(a.grad_bias) + c, static_cast<float>(g));
    store(static_cast<T*>(a.grad_weight) + c, static_cast<float>(gu));
}

template <class T, int width>
__global__ void __launch_bounds__(kThreads) input_kernel(const ua_group_norm_silu a) {
    Place<width> at(a);
    if (at.first >= at.end) return;
    Slope<T> first(a, at.n, at.c), last(a, at.n, at.c + width - 1);
    float level[width], slope[width];
    for (int i = 0; i < width; ++i) {
        level[i] = table(a, 6, at.n)[at.c + i];
        slope[i] = table(a, 6, at.n)[a.padded + at.c + i];
    }
#pragma unroll 2
    for (int64_t r = at.first; r < at.end; r += kRows) {
        Channels<T, width> x(row<T>(a, a.x, at.n, r) + at.c);
        Channels<T, width> grad(row<T>(a, a.grad, at.n, r) + at.c);
        for (int i = 0; i < width; ++i) {
            const Slope<T>& of = i ? last : first;
            float u, g = of(x.v[i], grad.v[i], u);
            x.v[i] = of.rstd * of.weight * g - level[i] - slope[i] * u;
        }
        x.write(row<T>(a, a.out, at.n, r) + at.c, x.v);
    }
}

// ---- host side

template <class T> bool in_pairs(Call a) {
    bool grad = a.grad.data == nullptr || pairs_aligned<T>(a.grad);
    return a.channels % 2 == 0 && pairs_aligned<T>(a.x) && pairs_aligned<T>(a.out) && grad;
}

template <class T, int width> const char* forward(Call a) {
    int64_t tiles = (a.channels + kLanes * width - 1) / (kLanes * width);
    int64_t grid = a.batch * a.blocks * tiles, groups = a.batch * a.groups;
    size_t shared = 2 * sizeof(double) * (a.channels / a.groups);
    void* stream = a.call.stream;
    const char* error = launch(moments_kernel<T, width>, grid, kThreads, 0, stream, a);
    if (!error) error = launch(fold_kernel<T>, groups, kFoldThreads, shared, stream, a);
    return error ? error : launch(apply_kernel<T, width>, grid, kThreads, 0, stream, a);
}

template <class T, int width> const char* backward(Call a) {
    int64_t tiles = (a.channels + kLanes * width - 1) / (kLanes * width);
    int64_t grid = a.batch * a.blocks * tiles, groups = a.batch * a.groups;
    size_t shared = 3 * sizeof(double) * (a.channels / a.groups);
    void* stream = a.call.stream;
    const char* error = launch(slopes_kernel<T, width>, grid, kThreads, 0, stream, a);
    if (!error) error = launch(fold_slopes_kernel<T>, groups, kFoldThreads, shared, stream, a);
    int64_t tail = (a.channels + kThreads - 1) / kThreads;
    if (!error) error = launch(parameters_kernel<T>, tail, kThreads, 0, stream, a);
    return error ? error : launch(input_kernel<T, width>, grid, kThreads, 0, stream, a);
}

} // namespace

UA_ENTRY(group_norm_silu_forward)(const ua_group_norm_silu* a) {
    if (!a->channels_last) return "the CUDA code takes channels-last memory";
    return with_dtype(a, [=](auto tag) {
        typedef decltype(tag) T;
        return in_pairs<T>(*a) ? forward<T, 2>(*a) : forward<T, 1>(*a);
    });
}

UA_ENTRY(group_norm_silu_backward)(const ua_group_norm_silu* a) {
    if (!a->channels_last) return "the CUDA code takes channels-last memory";
    return with_dtype(a, [=](auto tag) {
        typedef decltype(tag) T;
        return in_pairs<T>(*a) ? backward<T, 2>(*a) : backward<T, 1>(*a);
    });
}
