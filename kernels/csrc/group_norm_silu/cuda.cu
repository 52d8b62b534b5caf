// Group normalisation + SiLU on a GPU, rows of channels (channels-last) only.
//
// Sums per channel, folded to groups, then the result: a block never belongs to a group, whose few
// channels would be a strided set of short pieces. A block of the large passes takes `block` rows
// of one item and a tile of neighbouring channels. Every thread keeps its channels, a piece of 16
// bytes where memory allows, and has several rows' pieces on their way at once. Partial sums have
// their own places: no atomics, the same bits every time.
#include "api.h"

#include "../cuda.h"

namespace {

typedef const ua_group_norm_silu& Call;

constexpr int kThreads = 256, kMostFoldThreads = 512;
constexpr int kBackwardWidth = 4; // it reads two arrays and keeps more for each channel

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

// how the threads of a block share its rows: `rows` at once, `lanes` threads a row of a tile
struct Tiling {
    int tiles, lanes, rows;
};

// which part of the data a block of the large passes takes, and which of it this thread
template <int width> struct Place {
    unsigned n, block;
    int c, lane;     // the thread's first channel, and which lane of the tile has it
    int64_t first;   // its first row
    int step, count; // the others lie `step` apart, `count` in all
    // blocks in `reverse`: what the pass before has read last is still in the cache
    __device__ __forceinline__ Place(Call a, Tiling tiling, bool reverse = false) {
        unsigned index = reverse ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
        unsigned tile = index % tiling.tiles, part = index / tiling.tiles;
        n = part / static_cast<unsigned>(a.blocks);
        block = part % static_cast<unsigned>(a.blocks);
        lane = threadIdx.x % static_cast<unsigned>(tiling.lanes);
        int row = threadIdx.x / static_cast<unsigned>(tiling.lanes);
        c = (tile * tiling.lanes + lane) * width;
        first = block * a.block + row;
        step = tiling.rows;
        int64_t left = a.rows - first < a.block - row ? a.rows - first : a.block - row;
        bool none = row >= tiling.rows || c >= a.channels || left <= 0;
        count = none ? 0 : (static_cast<unsigned>(left) + step - 1) / step;
    }
};

// Goes through the rows of a thread in an array. dense: they lie on one strided axis; otherwise on
// three, whose indices count like an odometer: a division takes as long as the rest of a row.
template <class T, int width, bool dense> struct Cursor {
    T* at;
    int64_t by;
    __device__ __forceinline__ Cursor(Call, const ua_array& of, const Place<width>& place)
        : at(static_cast<T*>(of.data) + place.n * of.stride[0] + place.first * of.stride[3] +
             place.c),
          by(place.step * of.stride[3]) {}
    // the row it is at; goes on to the next
    __device__ __forceinline__ T* next() {
        T* row = at;
        at += by;
        return row;
    }
};
template <class T, int width> struct Cursor<T, width, false> {
    T* base;
    const ua_array& of;
    Call a;
    int at[3], by[3];
    __device__ __forceinline__ Cursor(Call a, const ua_array& of, const Place<width>& place)
        : base(static_cast<T*>(of.data) + place.n * of.stride[0] + place.c), of(of), a(a) {
        split(place.first, at);
        split(place.step, by);
    }
    __device__ __forceinline__ T* next() {
        T* row = base + at[0] * of.stride[1] + at[1] * of.stride[2] + at[2] * of.stride[3];
#pragma unroll
        for (int i = 2; i > 0; --i) {
            at[i] += by[i];
            bool over = at[i] >= a.inner[i - 1];
            at[i] -= over ? static_cast<int>(a.inner[i - 1]) : 0;
            at[i - 1] += over;
        }
        at[0] += by[0];
        return row;
    }

  private:
    __device__ __forceinline__ void split(unsigned row, int (&index)[3]) const {
        unsigned last = a.inner[1], second = a.inner[0];
        index[2] = row % last;
        index[1] = row / last % second;
        index[0] = row / last / second;
    }
};

// Calls use(x, grad) for the rows of a thread in order, with pieces of x and of the gradient
// (forward: x again). A thread waits for several rows at once, of 64 bytes in all: half the threads
// that a multiprocessor holds then keep the memory busy.
template <class T, int width, bool dense, bool backward, class Use>
__device__ __forceinline__ void over_rows(Call a, const Place<width>& at, Use use) {
    constexpr int kTogether = dense ? 64 / (sizeof(T) * width * (backward ? 2 : 1)) : 2;
    Cursor<T, width, dense> x(a, a.x, at), grad(a, backward ? a.grad : a.x, at);
#pragma unroll 1
    for (int done = 0; done < at.count; done += kTogether) {
        Piece<T, width> from_x[kTogether], from_grad[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
            const T *next_x = x.next(), *next_grad = backward ? grad.next() : nullptr;
            if (done + i >= at.count) continue;
            from_x[i] = Piece<T, width>(next_x);
            if (backward) from_grad[i] = Piece<T, width>(next_grad);
        }
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
            if (done + i < at.count) use(from_x[i], (backward ? from_grad : from_x)[i]);
        }
    }
}

// adds up the rows' sums of a block, in order, and leaves them in their place
template <int width, int count>
__device__ void leave(Call a, const Place<width>& at, Tiling tiling,
                      const float (&sum)[count][width]) {
    constexpr int kPitch = kThreads + 32 / width; // neighbours in other banks, written and read
    __shared__ float scratch[count][width][kPitch];
#pragma unroll
    for (int k = 0; k < count; ++k) {
#pragma unroll
        for (int i = 0; i < width; ++i) scratch[k][i][threadIdx.x] = sum[k][i];
    }
    __syncthreads();
    int base = at.c - at.lane * width;
    float* into = sums(a, count, at.n, at.block) + base;
    for (int channel = threadIdx.x; channel < tiling.lanes * width; channel += kThreads) {
        if (base + channel >= a.channels) break;
#pragma unroll
        for (int k = 0; k < count; ++k) {
            const float* from = scratch[k][channel % width] + channel / width;
            double total = 0; // of few channels there are up to 256 rows
            for (int row = 0; row < tiling.rows; ++row) total += from[row * tiling.lanes];
            into[k * a.padded + channel] = static_cast<float>(total);
        }
    }
}

// Adds up the partial sums of a group over the blocks of its item and calls finish(i, total) for
// every channel of the group, in a thread each. Neighbouring threads read neighbouring channels,
// and as many blocks at once as there are threads for. `scratch` holds `count` values a thread.
template <int count, class Finish>
__device__ void over_blocks(Call a, int64_t n, int64_t first, int per_group, double* scratch,
                            Finish finish) {
    const int threads = blockDim.x, width = per_group < threads ? per_group : threads;
    const int lane = threadIdx.x % width, row = threadIdx.x / width;
    int together = 1;
    while (2 * together * width <= threads) together *= 2;
    double* own = scratch + threadIdx.x;
    for (int channel = lane; channel - lane < per_group; channel += width) {
        bool inside = row < together && channel < per_group;
        double total[count] = {};
        if (inside) {
#pragma unroll 8
            for (int64_t block = row; block < a.blocks; block += together) {
                const float* from = sums(a, count, n, block) + first + channel;
                for (int k = 0; k < count; ++k) total[k] += from[k * a.padded];
            }
        }
        for (int k = 0; k < count; ++k) own[k * threads] = total[k];
        for (int half = together / 2; half > 0; half /= 2) {
            __syncthreads();
            if (row >= half) continue;
            for (int k = 0; k < count; ++k) own[k * threads] += own[k * threads + half * width];
        }
        if (row == 0 && inside) {
            for (int k = 0; k < count; ++k) total[k] = own[k * threads];
            finish(channel, total);
        }
        __syncthreads();
    }
}

// the sum of term(i) over the channels of a group, in every thread
template <class Term> __device__ double over_group(int per_group, Term term) {
    double total = 0;
    for (int i = threadIdx.x % 32; i < per_group; i += 32) total += term(i);
    return warp_sum(total);
}

// ---- forward

// sums of x and x^2 about the item's first location: the variance keeps its digits
template <class T, int width, bool dense>
__global__ void __launch_bounds__(kThreads, 4)
    moments_kernel(const ua_group_norm_silu a, const Tiling tiling) {
    Place<width> at(a, tiling);
    float sum[2][width] = {};
    if (at.count > 0) {
        typedef const Piece<T, width>& Read;
        Piece<T, width> origin(static_cast<const T*>(a.x.data) + at.n * a.x.stride[0] + at.c);
        over_rows<T, width, dense, false>(a, at, [&](Read x, Read) {
#pragma unroll
            for (int i = 0; i < width; ++i) {
                float d = x[i] - origin[i];
                sum[0][i] += d;
                sum[1][i] += d * d;
            }
        });
    }
    leave<width, 2>(a, at, tiling, sum);
}

// One block a group: its statistics, combined as by Chan et al. (1979), and what its channels need.
template <class T>
__global__ void __launch_bounds__(kMostFoldThreads) fold_kernel(const ua_group_norm_silu a) {
    UA_DYNAMIC_SHARED(raw);
    int groups = a.groups, per_group = a.channels / a.groups;
    int64_t n = blockIdx.x / groups, first = int64_t(blockIdx.x % groups) * per_group;
    double *means = reinterpret_cast<double*>(raw), *spreads = means + per_group;
    const double rows = static_cast<double>(a.rows), count = rows * per_group;
    double* scratch = spreads + per_group;
    over_blocks<2>(a, n, first, per_group, scratch, [&](int i, const double (&total)[2]) {
        double drift = total[0] / rows;
        double origin = value<T>(a.x.data, n * a.x.stride[0] + first + i);
        means[i] = origin + drift + shift<T>(a, n, first + i);
        spreads[i] = total[1] - total[0] * drift;
    });
    double mean = over_group(per_group, [=](int i) { return means[i]; }) / per_group;
    double spread = over_group(per_group, [=](int i) {
        return spreads[i] + rows * (means[i] - mean) * (means[i] - mean);
    });
    double rstd = 1.0 / sqrt(spread / count + a.eps);
    if (threadIdx.x == 0) {
        static_cast<float*>(a.mean)[blockIdx.x] = static_cast<float>(mean);
        static_cast<float*>(a.rstd)[blockIdx.x] = static_cast<float>(rstd);
    }
    float *centre = table(a, 3, n), *scale = centre + a.padded, *bias = scale + a.padded;
    for (int64_t c = first + threadIdx.x; c < first + per_group; c += blockDim.x) {
        centre[c] = static_cast<float>(mean - shift<T>(a, n, c));
        scale[c] = static_cast<float>(rstd * value<T>(a.weight, c));
        bias[c] = value<T>(a.bias, c);
    }
}

template <class T, int width, bool dense, bool with_silu>
__device__ __forceinline__ void apply(Call a, const Place<width>& at) {
    typedef const Piece<T, width>& Read;
    const float* from = table(a, 3, at.n) + at.c;
    Piece<float, width> centre(from);
    Piece<float, width> scale(from + a.padded);
    Piece<float, width> bias(from + 2 * a.padded);
    Cursor<T, width, dense> out(a, a.out, at);
    over_rows<T, width, dense, false>(a, at, [&](Read x, Read) {
        float result[width];
#pragma unroll
        for (int i = 0; i < width; ++i) {
            float z = (x[i] - centre[i]) * scale[i] + bias[i];
            result[i] = with_silu ? silu(z) : z;
        }
        Piece<T, width>::store(out.next(), result);
    });
}

template <class T, int width, bool dense>
__global__ void __launch_bounds__(kThreads, 4)
    apply_kernel(const ua_group_norm_silu a, const Tiling tiling) {
    Place<width> at(a, tiling, true);
    if (at.count == 0) return;
    if (a.silu) {
        apply<T, width, dense, true>(a, at);
    } else {
        apply<T, width, dense, false>(a, at);
    }
}

// ---- backward. With d = x + embedding - mean, u = d rstd, z = u w + b and g = dL/dz:
//   dL/dx = rstd (w g - mean of w g - u * mean of w g u), the means over the group

// what a thread knows of its channels: x and the gradient of the result -> d and g
template <class T, int width> struct Slopes {
    float centre[width], scale[width], bias[width];
    bool silu;
    __device__ __forceinline__ Slopes(Call a, int64_t n, int64_t c) : silu(a.silu) {
        unsigned per_group = a.channels / a.groups;
#pragma unroll
        for (int i = 0; i < width; ++i) {
            int64_t group = n * a.groups + static_cast<unsigned>(c + i) / per_group;
            centre[i] = value<float>(a.mean, group) - shift<T>(a, n, c + i);
            scale[i] = value<float>(a.rstd, group) * value<T>(a.weight, c + i);
            bias[i] = value<T>(a.bias, c + i);
        }
    }
    __device__ __forceinline__ float operator()(int i, float x, float grad, float& d) const {
        d = x - centre[i];
        float z = d * scale[i] + bias[i];
        return silu ? grad * silu_slope(z, sigmoid(z)) : grad;
    }
};

// sums of g, g d and d
template <class T, int width, bool dense>
__global__ void __launch_bounds__(kThreads, 3)
    slopes_kernel(const ua_group_norm_silu a, const Tiling tiling) {
    Place<width> at(a, tiling);
    float sum[3][width] = {};
    if (at.count > 0) {
        typedef const Piece<T, width>& Read;
        Slopes<T, width> slopes(a, at.n, at.c);
        over_rows<T, width, dense, true>(a, at, [&](Read x, Read grad) {
#pragma unroll
            for (int i = 0; i < width; ++i) {
                float d, g = slopes(i, x[i], grad[i], d);
                sum[0][i] += g;
                sum[1][i] += g * d;
                sum[2][i] += d;
            }
        });
    }
    leave<width, 3>(a, at, tiling, sum);
}

// One block a group: the means over the group, the gradient of the embedding, totals of channels.
template <class T>
__global__ void __launch_bounds__(kMostFoldThreads) fold_slopes_kernel(const ua_group_norm_silu a) {
    UA_DYNAMIC_SHARED(raw);
    int groups = a.groups, per_group = a.channels / a.groups;
    int64_t n = blockIdx.x / groups, first = int64_t(blockIdx.x % groups) * per_group;
    double *g = reinterpret_cast<double*>(raw), *gu = g + per_group, *u = gu + per_group;
    const double rows = static_cast<double>(a.rows), count = rows * per_group;
    const double rstd = value<float>(a.rstd, blockIdx.x);
    double* scratch = u + per_group;
    over_blocks<3>(a, n, first, per_group, scratch, [&](int i, const double (&total)[3]) {
        g[i] = total[0];
        gu[i] = rstd * total[1];
        u[i] = rstd * total[2];
    });
    auto weight = [&](int i) -> double { return value<T>(a.weight, first + i); };
    double mean_g = over_group(per_group, [&](int i) { return weight(i) * g[i]; }) / count;
    double mean_gu = over_group(per_group, [&](int i) { return weight(i) * gu[i]; }) / count;
    float *level = table(a, 6, n), *slope = level + a.padded, *total = slope + a.padded;
    for (int i = threadIdx.x; i < per_group; i += blockDim.x) {
        int64_t c = first + i;
        level[c] = static_cast<float>(rstd * mean_g);
        slope[c] = static_cast<float>(rstd * rstd * mean_gu); // by d, not by u
        total[c] = static_cast<float>(g[i]);
        total[a.padded + c] = static_cast<float>(gu[i]);
        if (a.grad_embedding == nullptr) continue;
        double sum = rstd * (weight(i) * g[i] - rows * mean_g - u[i] * mean_gu);
        store(static_cast<T*>(a.grad_embedding) + n * a.channels + c, static_cast<float>(sum));
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) parameters_kernel(const ua_group_norm_silu a) {
    int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (c >= a.channels) return;
    double g = 0, gu = 0;
#pragma unroll 8
    for (int64_t n = 0; n < a.batch; ++n) {
        g += table(a, 6, n)[2 * a.padded + c];
        gu += table(a, 6, n)[3 * a.padded + c];
    }
    store(static_cast<T*>(a.grad_bias) + c, static_cast<float>(g));
    store(static_cast<T*>(a.grad_weight) + c, static_cast<float>(gu));
}

template <class T, int width, bool dense>
__global__ void __launch_bounds__(kThreads, 3)
    input_kernel(const ua_group_norm_silu a, const Tiling tiling) {
    Place<width> at(a, tiling, true);
    if (at.count == 0) return;
    typedef const Piece<T, width>& Read;
    Slopes<T, width> slopes(a, at.n, at.c);
    const float* from = table(a, 6, at.n) + at.c;
    Piece<float, width> level(from);
    Piece<float, width> slope(from + a.padded);
    Cursor<T, width, dense> out(a, a.out, at);
    over_rows<T, width, dense, true>(
        a, at, [&](Read x, Read grad) {
            float result[width];
#pragma unroll
            for (int i = 0; i < width; ++i) {
                float d, g = slopes(i, x[i], grad[i], d);
                result[i] = slopes.scale[i] * g - level[i] - slope[i] * d;
            }
            Piece<T, width>::store(out.next(), result);
        });
}

// ---- host side

// The fewest tiles that leave (nearly) no thread idle; a row of a tile is a warp's or more.
Tiling tiling_of(int64_t channels, int width) {
    Tiling best = {};
    int64_t pieces = channels / width;
    double most = 0;
    for (int64_t tiles = (pieces + kThreads - 1) / kThreads;; ++tiles) {
        int64_t lanes = (pieces + tiles - 1) / tiles, rows = kThreads / lanes;
        double busy = static_cast<double>(pieces * rows) / (tiles * kThreads);
        if (busy > 1.07 * most) {
            best = {static_cast<int>(tiles), static_cast<int>(lanes), static_cast<int>(rows)};
            most = busy;
        }
        if (lanes <= 32) return best;
    }
}

// Launches a kernel that takes a block for each group: threads enough for it to read 8 partial sums
// in each, and shared memory for `count` values of every channel and of every thread.
const char* launch_fold(void (*kernel)(const ua_group_norm_silu), Call a, int count) {
    int64_t per_group = a.channels / a.groups;
    int threads = 64;
    while (threads < kMostFoldThreads && 8 * threads < per_group * a.blocks) threads *= 2;
    size_t shared = count * (per_group + threads) * sizeof(double);
    return launch(kernel, a.batch * a.groups, threads, shared, a.call.stream, a);
}

const char* refusal(Call a) {
    if (!a.channels_last) return "the CUDA code takes channels-last memory";
    return a.rows > 2147483647 ? "the CUDA code takes less than 2^31 locations an item" : nullptr;
}

// calls run(width, dense) with the widest pieces that all arrays allow, as types
template <class T, int widest, class Run> const char* with_width(Call a, const Run& run) {
    auto fits = [&](int width) {
        bool grad = a.grad.data == nullptr || pieces_aligned<T>(a.grad, width);
        return a.channels % width == 0 && pieces_aligned<T>(a.x, width) &&
               pieces_aligned<T>(a.out, width) && grad;
    };
    typedef std::integral_constant<int, widest> Widest;
    if (fits(widest)) {
        bool dense = a.inner[1] == a.rows;
        return dense ? run(Widest(), std::true_type()) : run(Widest(), std::false_type());
    }
    // rare: one form serves all rows
    if (fits(2)) return run(std::integral_constant<int, 2>(), std::false_type());
    return run(std::integral_constant<int, 1>(), std::false_type());
}

} // namespace

UA_ENTRY(group_norm_silu_forward)(const ua_group_norm_silu* call) {
    Call a = *call;
    if (const char* refused = refusal(a)) return refused;
    return with_dtype(call, [&](auto tag) {
        typedef decltype(tag) T;
        return with_width<T, 16 / sizeof(T)>(a, [&](auto of_width, auto of_dense) {
            constexpr int width = decltype(of_width)::value;
            constexpr bool dense = decltype(of_dense)::value;
            Tiling tiling = tiling_of(a.channels, width);
            int64_t grid = a.batch * a.blocks * tiling.tiles;
            void* stream = a.call.stream;
            const char* error =
                launch(moments_kernel<T, width, dense>, grid, kThreads, 0, stream, a, tiling);
            if (!error) error = launch_fold(fold_kernel<T>, a, 2);
            if (error) return error;
            return launch(apply_kernel<T, width, dense>, grid, kThreads, 0, stream, a, tiling);
        });
    });
}

UA_ENTRY(group_norm_silu_backward)(const ua_group_norm_silu* call) {
    Call a = *call;
    if (const char* refused = refusal(a)) return refused;
    return with_dtype(call, [&](auto tag) {
        typedef decltype(tag) T;
        return with_width<T, kBackwardWidth>(a, [&](auto of_width, auto of_dense) {
            constexpr int width = decltype(of_width)::value;
            constexpr bool dense = decltype(of_dense)::value;
            Tiling tiling = tiling_of(a.channels, width);
            int64_t grid = a.batch * a.blocks * tiling.tiles;
            int64_t tail = (a.channels + kThreads - 1) / kThreads;
            void* stream = a.call.stream;
            const char* error =
                launch(slopes_kernel<T, width, dense>, grid, kThreads, 0, stream, a, tiling);
            if (!error) error = launch_fold(fold_slopes_kernel<T>, a, 3);
            if (!error) error = launch(parameters_kernel<T>, tail, kThreads, 0, stream, a);
            if (error) return error;
            return launch(input_kernel<T, width, dense>, grid, kThreads, 0, stream, a, tiling);
        });
    });
}
