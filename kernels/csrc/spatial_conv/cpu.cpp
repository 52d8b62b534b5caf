// 3x3 convolution on the CPU, as an op of its own.
#include "convolution.h"

UA_ENTRY(spatial_conv_forward)(const ua_spatial_conv* a) {
    return with_dtype(a, [&](auto tag) -> const char* {
        typedef decltype(tag) T;
        if constexpr (sizeof(T) == sizeof(float)) return Convolution<T, 2>(a).run();
        if constexpr (sizeof(T) < sizeof(float)) return Convolution<T, 4>(a).run();
        return "this code takes float32 and bfloat16";
    });
}
