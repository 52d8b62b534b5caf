// CUDA on a CPU, for tests: as much of the runtime and of the device language as csrc/*.cu use.
//
// Every thread of a block is a fiber; the blocks of a launch run one after another. A fiber runs
// until it waits at a barrier or shuffle; who goes next is shuffled (by a fixed sequence), so that
// a missing barrier changes results. Shared memory is NaN when a block starts. A barrier that not
// all threads of the block reach, or a shuffle that not all lanes reach, fails the launch.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static __attribute__((section("ua_shared")))
#define UA_DYNAMIC_SHARED(name) \
    float4* name = reinterpret_cast<float4*>(emulation::dynamic_shared.data())

// the bounds of all __shared__ variables, made by the linker
extern "C" char __start_ua_shared[] __attribute__((weak));
extern "C" char __stop_ua_shared[] __attribute__((weak));

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
} __attribute__((aligned(16)));
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

namespace emulation {

constexpr size_t kStackBytes = 64 * 1024;
constexpr int kMultiprocessors = 2;
constexpr int kSharedBytes = 227 * 1024, kStaticBytes = 32 * 1024;
static std::map<void*, size_t> granted; // kernel -> dynamic shared memory

struct Fiber {
    ucontext_t start;
    jmp_buf resume;
    bool started = false, done = false;
    unsigned thread;
    std::unique_ptr<char[]> stack;
};

struct Barrier {
    int arrived = 0;
    unsigned generation = 0;
};

struct Warp {
    Barrier barrier;
    uint64_t slot[32];
};

static Fiber* current;
static ucontext_t scheduler_start;
static jmp_buf scheduler;
static const std::function<void()>* body;
static Barrier block_barrier;
static std::vector<Warp> warps;
static std::vector<float4> dynamic_shared;
static bool progress;
static uint32_t random_state = 1;
static const char* failure;

inline void yield() {
    if (_setjmp(current->resume) == 0) _longjmp(scheduler, 1);
}

inline void wait_at(Barrier& barrier, int expected) {
    unsigned generation = barrier.generation;
    progress = true;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        ++barrier.generation;
    }
    while (barrier.generation == generation) yield();
}

inline void fiber_main() {
    (*body)();
    current->done = true;
    progress = true;
    _longjmp(scheduler, 1);
}

inline void resume(Fiber& fiber) {
    current = &fiber;
    threadIdx = {fiber.thread, 0, 0};
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.resume, 1);
    fiber.started = true;
    setcontext(&fiber.start);
}

// runs the fibers of one block to their end; false if they wait for one another for ever
inline bool run_block(std::vector<Fiber>& fibers) {
    std::vector<Fiber*> order;
    for (Fiber& fiber : fibers) {
        fiber.started = fiber.done = false;
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.get();
        fiber.start.uc_stack.ss_size = kStackBytes;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, fiber_main, 0);
        order.push_back(&fiber);
    }
    while (!order.empty()) {
        for (size_t i = order.size() - 1; i > 0; --i) { // Fisher and Yates
            random_state = random_state * 1664525u + 1013904223u;
            std::swap(order[i], order[(random_state >> 8) % (i + 1)]);
        }
        progress = false;
        for (Fiber* fiber : order) resume(*fiber);
        if (!progress || failure != nullptr) return false;
        order.erase(std::remove_if(order.begin(), order.end(), [](Fiber* f) { return f->done; }),
                    order.end());
    }
    return true;
}

inline const char* run_grid(const std::function<void()>& kernel, size_t shared_bytes) {
    std::vector<Fiber> fibers(blockDim.x);
    for (unsigned i = 0; i < blockDim.x; ++i) {
        fibers[i].thread = i;
        fibers[i].stack.reset(new char[kStackBytes]);
    }
    body = &kernel;
    failure = nullptr;
    for (unsigned block = 0; block < gridDim.x; ++block) {
        blockIdx = {block, 0, 0};
        block_barrier = Barrier();
        warps.assign((blockDim.x + 31) / 32, Warp());
        dynamic_shared.assign((shared_bytes + 15) / 16, float4{NAN, NAN, NAN, NAN});
        memset(__start_ua_shared, 0xff, __stop_ua_shared - __start_ua_shared);
        if (!run_block(fibers)) {
            return failure != nullptr ? failure : "emulated CUDA: not all threads reach a barrier";
        }
    }
    return nullptr;
}

template <class T> T exchange(unsigned mask, T value, unsigned source) {
    Warp& warp = warps[threadIdx.x / 32];
    unsigned lane = threadIdx.x % 32;
    if (mask != 0xffffffffu || source > 31) {
        failure = "emulated CUDA: a shuffle must name all 32 lanes and read from one of them";
        yield();
    }
    memcpy(&warp.slot[lane], &value, sizeof value);
    wait_at(warp.barrier, 32);
    memcpy(&value, &warp.slot[source], sizeof value);
    wait_at(warp.barrier, 32);
    return value;
}

} // namespace emulation

// ---- device language

inline void __syncthreads() { emulation::wait_at(emulation::block_barrier, blockDim.x); }
inline void __syncwarp(unsigned = 0xffffffffu) {
    emulation::wait_at(emulation::warps[threadIdx.x / 32].barrier, 32);
}
template <class T> T __shfl_sync(unsigned mask, T v, int source) {
    return emulation::exchange(mask, v, source & 31);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits) {
    return emulation::exchange(mask, v, (threadIdx.x % 32) ^ bits);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, int distance) {
    unsigned lane = threadIdx.x % 32, source = lane + distance;
    return emulation::exchange(mask, v, source < 32 ? source : lane);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, int distance) {
    int lane = threadIdx.x % 32, source = lane - distance;
    return emulation::exchange(mask, v, source >= 0 ? source : lane);
}
template <class T> T __ldg(const T* p) { return *p; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __expf(float a) { return expf(a); }
inline float __logf(float a) { return logf(a); }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }

// ---- runtime

typedef const char* cudaError_t; // its text
typedef void* cudaStream_t;
constexpr cudaError_t cudaSuccess = nullptr;
enum {
    cudaFuncAttributeMaxDynamicSharedMemorySize,
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMaxSharedMemoryPerBlockOptin
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
};
inline const char* cudaGetErrorString(cudaError_t error) { return error; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int attribute, int) {
    bool shared = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin;
    return *value = shared ? emulation::kSharedBytes : emulation::kMultiprocessors, cudaSuccess;
}
struct cudaFuncAttributes {
    size_t sharedSizeBytes;
};
// all kernels count as having as much static shared memory as any may have
template <class Kernel> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, Kernel) {
    return found->sharedSizeBytes = emulation::kStaticBytes, cudaSuccess;
}
template <class Kernel> cudaError_t cudaFuncSetAttribute(Kernel kernel, int, int bytes) {
    if (bytes + emulation::kStaticBytes > emulation::kSharedBytes) {
        return "emulated CUDA: more than 227 KB shared memory";
    }
    emulation::granted[reinterpret_cast<void*>(kernel)] = bytes;
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
    return memset(p, value, bytes), cudaSuccess;
}
template <class... Parameters, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Given... arguments) {
    gridDim = config->gridDim;
    blockDim = config->blockDim;
    if (gridDim.x < 1 || blockDim.x < 1 || blockDim.x > 1024) {
        return "emulated CUDA: invalid configuration";
    }
    auto granted = emulation::granted.find(reinterpret_cast<void*>(kernel));
    size_t most = 48 * 1024 - emulation::kStaticBytes;
    if (granted != emulation::granted.end()) most = granted->second;
    if (config->dynamicSmemBytes > most) return "emulated CUDA: shared memory was not granted";
    return emulation::run_grid([=] { kernel(arguments...); }, config->dynamicSmemBytes);
}
