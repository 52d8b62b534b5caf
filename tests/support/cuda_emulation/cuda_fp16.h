// __half on a CPU, for tests.
#pragma once
#include "cuda_runtime.h"

struct __half {
    _Float16 value;
};
struct __half2 {
    __half x, y;
} __attribute__((aligned(4)));

inline float __half2float(__half v) { return static_cast<float>(v.value); }
inline __half __float2half_rn(float f) { return {static_cast<_Float16>(f)}; }
inline __half __float2half(float f) { return __float2half_rn(f); }
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
inline __half2 __floats2half2_rn(float x, float y) {
    return {__float2half_rn(x), __float2half_rn(y)};
}
