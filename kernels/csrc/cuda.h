// What the CUDA kernels share: loads and stores that widen, the functions the ops need, sums in a
// fixed order, launches and the dispatch on dtype. Everything is in an unnamed namespace.
//
// tests/support/cuda_emulation runs the same sources on a CPU. It gives its own cuda_runtime.h, so
// kernels are launched by launch() (no <<<>>>), dynamic shared memory is declared by
// UA_DYNAMIC_SHARED, and inline assembly stands behind __CUDA_ARCH__.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#include "api.h"

#ifndef UA_DYNAMIC_SHARED
#define UA_DYNAMIC_SHARED(name) extern __shared__ float4 name[]
#endif

namespace {

typedef __nv_bfloat16 bfloat16;
typedef __half float16;

// ---- loads and stores: float in registers, float, bfloat16 or float16 in memory

__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const bfloat16* p) { return __bfloat162float(*p); }
__device__ __forceinline__ float load(const float16* p) { return __half2float(*p); }

__device__ __forceinline__ void store(float* p, float v) { *p = v; }
__device__ __forceinline__ void store(bfloat16* p, float v) { *p = __float2bfloat16_rn(v); }
__device__ __forceinline__ void store(float16* p, float v) { *p = __float2half_rn(v); }

// two neighbours at once; p is aligned to both
__device__ __forceinline__ float2 load2(const float* p) {
    return *reinterpret_cast<const float2*>(p);
}
__device__ __forceinline__ float2 load2(const bfloat16* p) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(p));
}
__device__ __forceinline__ float2 load2(const float16* p) {
    return __half22float2(*reinterpret_cast<const __half2*>(p));
}
__device__ __forceinline__ void store2(float* p, float2 v) { *reinterpret_cast<float2*>(p) = v; }
__device__ __forceinline__ void store2(bfloat16* p, float2 v) {
    *reinterpret_cast<__nv_bfloat162*>(p) = __floats2bfloat162_rn(v.x, v.y);
}
__device__ __forceinline__ void store2(float16* p, float2 v) {
    *reinterpret_cast<__half2*>(p) = __floats2half2_rn(v.x, v.y);
}

// says whether load2 and store2 may be used at every even index of the last axis
template <class T> inline bool pairs_aligned(const ua_array& array) {
    int64_t odd = reinterpret_cast<uintptr_t>(array.data) % (2 * sizeof(T)) != 0;
    for (int64_t stride : array.stride) odd |= stride & 1;
    return odd == 0;
}

// `width` neighbours, a power of two: one access of at most 16 bytes, aligned to its size. Types of
// two bytes stay packed in registers until they are asked for.
template <class T, int width> struct Piece {
    static constexpr bool kPacked = sizeof(T) == 2 && width > 1;
    typedef std::conditional_t<kPacked, uint32_t, T> Word;
    struct alignas(width * sizeof(T)) Words {
        Word v[kPacked ? width / 2 : width];
    } words;

    __device__ __forceinline__ Piece() {}
    __device__ __forceinline__ explicit Piece(const T* p)
        : words(*reinterpret_cast<const Words*>(p)) {}
    __device__ __forceinline__ float operator[](int i) const {
        if constexpr (kPacked) {
            T pair[2];
            memcpy(pair, &words.v[i / 2], sizeof pair);
            return load(pair + i % 2);
        } else {
            return load(words.v + i);
        }
    }
    __device__ __forceinline__ static void store(T* p, const float (&value)[width]) {
        Words words;
        if constexpr (kPacked) {
#pragma unroll
            for (int i = 0; i < width; i += 2) {
                alignas(4) T pair[2];
                store2(pair, make_float2(value[i], value[i + 1]));
                memcpy(&words.v[i / 2], pair, sizeof pair);
            }
        } else {
#pragma unroll
            for (int i = 0; i < width; ++i) ::store(words.v + i, value[i]);
        }
        *reinterpret_cast<Words*>(p) = words;
    }
};

// says whether pieces may be used at every multiple of `width` of the last axis
template <class T> inline bool pieces_aligned(const ua_array& array, int width) {
    bool aligned = reinterpret_cast<uintptr_t>(array.data) % (width * sizeof(T)) == 0;
    for (int64_t stride : array.stride) aligned &= stride % width == 0;
    return aligned;
}

// ---- functions, on the special function unit where it is accurate enough for float32 results

constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;

// 2^x: one MUFU, 2 ulp; results below 2^-126 are 0
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

__device__ __forceinline__ float fast_exp(float x) { return fast_exp2(x * kLog2e); }

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + fast_exp(-x)); }

__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }

// d silu(x) / dx, given s = sigmoid(x)
__device__ __forceinline__ float silu_slope(float x, float s) {
    return s * (1.0f + x * (1.0f - s));
}

// log(1 + e) for e in [0, 1], relative error 3e-7
__device__ __forceinline__ float log1p_unit(float e) {
    // 2 atanh(s) with s = e / (2 + e) in [0, 1/3], eight terms of the series
    float s = __fdividef(e, e + 2.0f), q = s * s;
    float p = 1.0f / 15;
    p = p * q + 1.0f / 13;
    p = p * q + 1.0f / 11;
    p = p * q + 1.0f / 9;
    p = p * q + 1.0f / 7;
    p = p * q + 1.0f / 5;
    p = p * q + 1.0f / 3;
    return 2.0f * (s + s * q * p);
}

__device__ __forceinline__ float softplus(float x) {
    return fmaxf(x, 0.0f) + log1p_unit(fast_exp(-fabsf(x)));
}

// ---- sums in a fixed order

constexpr unsigned kWholeWarp = 0xffffffffu;

// the sum over the lanes of a warp, in all of them
__device__ __forceinline__ float warp_sum(float v) {
    for (int distance = 16; distance > 0; distance /= 2) {
        v += __shfl_xor_sync(kWholeWarp, v, distance);
    }
    return v;
}

__device__ __forceinline__ double warp_sum(double v) {
    for (int distance = 16; distance > 0; distance /= 2) {
        v += __shfl_xor_sync(kWholeWarp, v, distance);
    }
    return v;
}

// The sum over a block of whole warps, in all of its threads. `scratch` holds 32 floats of shared
// memory; it may be used again at once.
__device__ __forceinline__ float block_sum(float v, float* scratch) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    v = warp_sum(v);
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    v = warp_sum(lane < warps ? scratch[lane] : 0.0f);
    __syncthreads();
    return v;
}

// ---- host side

// makes `device` current and restores the caller's
class DeviceGuard {
  public:
    explicit DeviceGuard(int64_t device) {
        error = cudaGetDevice(&before_);
        if (error == cudaSuccess && before_ != device) {
            error = cudaSetDevice(static_cast<int>(device));
            moved_ = error == cudaSuccess;
        }
    }
    ~DeviceGuard() {
        if (moved_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

    cudaError_t error;

  private:
    int before_ = 0;
    bool moved_ = false;
};

// A block has 48 KiB of shared memory unasked, static and dynamic together; no kernel has more than
// 32 of them static.
constexpr size_t kUnaskedShared = 16 * 1024;

// Grants `kernel` all the dynamic shared memory that the device has beside its static. It is the
// same for every call, so no thread takes it from another.
template <class Kernel> cudaError_t grant_shared(Kernel kernel) {
    int device = 0, most = 0;
    cudaFuncAttributes attributes = {};
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    }
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kernel);
    if (error != cudaSuccess) return error;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                most - static_cast<int>(attributes.sharedSizeBytes));
}

// Launches `kernel` with `shared` bytes of dynamic shared memory; returns NULL or the error's text.
template <class... Parameters, class... Given>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared,
                   void* stream, Given... arguments) {
    if (blocks > 2147483647) return "the tensor needs more than 2^31 - 1 blocks: split the batch";
    cudaError_t error = cudaSuccess;
    if (shared > kUnaskedShared) error = grant_shared(kernel);
    if (error == cudaSuccess) {
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3(static_cast<unsigned>(blocks));
        config.blockDim = dim3(static_cast<unsigned>(threads));
        config.dynamicSmemBytes = shared;
        config.stream = static_cast<cudaStream_t>(stream);
        error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    }
    if (error == cudaSuccess) return nullptr;
    cudaGetLastError(); // cleared, or torch would report it again
    return cudaGetErrorString(error);
}

// the number of streaming multiprocessors
inline int64_t multiprocessors(int64_t device) {
    int count = 0;
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, static_cast<int>(device));
    return count > 0 ? count : 1;
}

// calls run(T{}) for the dtype of a call, with the call's device current
template <class Arguments, class Run> const char* with_dtype(const Arguments* a, const Run& run) {
    if (a->call.size != sizeof(Arguments)) {
        return "the argument block has another size than the library's: reinstall the package";
    }
    DeviceGuard guard(a->call.device);
    if (guard.error != cudaSuccess) return cudaGetErrorString(guard.error);
    switch (a->call.dtype) {
        case UA_FLOAT32: return run(float{});
        case UA_BFLOAT16: return run(bfloat16{});
        case UA_FLOAT16: return run(float16{});
        default: return "the CUDA code takes float32, bfloat16 and float16";
    }
}

} // namespace
