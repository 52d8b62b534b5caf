// The seam between Python and the native library: a C ABI without torch.
//
// Every entry point takes one argument block that begins with ua_call, returns NULL or a static
// text that says what is wrong, allocates nothing and throws nothing. An entry NAME is exported as
// NAME_avx512, NAME_avx2 or NAME_generic by cpu.cpp, compiled once for each, and as NAME_cuda.
#pragma once
#include <stdint.h>

#define UA_ABI_VERSION 2

enum { UA_FLOAT32 = 0, UA_BFLOAT16 = 1, UA_FLOAT64 = 2, UA_FLOAT16 = 3 };

// a tensor: element strides of every axis but the last, which is dense; data is NULL where absent
struct ua_array {
    void* data;
    int64_t stride[4];
};

// where an op packs its weights as its products read them
struct ua_packed {
    void* data;
    int64_t size;   // bytes
    int64_t kept;   // whether it outlives the call
    int64_t filled; // whether an earlier call has packed them
};

// the head of every argument block
struct ua_call {
    int64_t size;    // of the whole block: guards against a Python side of another version
    int64_t dtype;   // of the activations
    int64_t threads; // CPU
    int64_t device;  // CUDA
    void* stream;    // CUDA
};

// exports NAME with the suffix this translation unit is compiled for
#define UA_PASTE(name, level) name##_##level
#define UA_EXPAND(name, level) UA_PASTE(name, level)
#define UA_ENTRY(name) \
    extern "C" __attribute__((visibility("default"))) const char* UA_EXPAND(name, UA_LEVEL)
