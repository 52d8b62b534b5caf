// Rows over their root mean square, what is added to them first in the same pass.
#pragma once
#include "../api.h"

struct ua_rms_norm {
    ua_call call;
    int64_t rows, width;
    void* x;      // (rows, width)
    void* added;  // (rows, width), or NULL
    void* weight; // (width)
    void* out;    // (rows, width)
    double eps;
};
