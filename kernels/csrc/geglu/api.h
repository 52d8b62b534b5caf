// Gated GELU over rows of 2 * width values.
#pragma once
#include "../api.h"

struct ua_geglu {
    ua_call call;
    int64_t rows, width;
    void* x;       // (rows, 2 * width)
    void* grad;    // (rows, width), backward only
    void* out;     // (rows, width) forward; (rows, 2 * width) backward: the gradient of x
    int64_t x_stride; // elements from row to row of x
};
