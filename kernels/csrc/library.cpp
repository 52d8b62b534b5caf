// What the library says of itself, and the thread pool of the CPU kernels.
#include <stdint.h>

#include <thread>
#include <vector>

#include "api.h"

namespace {

using Fork = void (*)(void (*)(void*), void*, unsigned, unsigned);
Fork openmp_fork = nullptr;

} // namespace

extern "C" {

__attribute__((visibility("default"))) int64_t ua_abi_version() { return UA_ABI_VERSION; }

// the best instruction set that both this CPU and this library have; NULL if there is none
__attribute__((visibility("default"))) const char* ua_cpu_level() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        return "avx512";
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
    return nullptr;
#else
    return "generic";
#endif
}

// whether this CPU multiplies pairs of bfloat16 (the avx512 code then does)
__attribute__((visibility("default"))) int64_t ua_cpu_bfloat16() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") ? 1 : 0;
#else
    return 0;
#endif
}

// GOMP_parallel of the OpenMP run time that torch uses: one pool of threads for the process
__attribute__((visibility("default"))) void ua_set_fork(void* fork) {
    openmp_fork = reinterpret_cast<Fork>(fork);
}

void ua_fork(void (*body)(void*), void* data, int64_t threads) {
    if (openmp_fork != nullptr) {
        openmp_fork(body, data, static_cast<unsigned>(threads), 0);
        return;
    }
    std::vector<std::thread> others;
    try {
        for (int64_t i = 1; i < threads; ++i) others.emplace_back(body, data);
    } catch (...) {
        // fewer threads claim the same items
    }
    body(data);
    for (auto& other : others) other.join();
}

} // extern "C"
