// The feed-forward of a transformer: y = x + (value * gelu(gate)) weight_out^T + bias_out,
// (value, gate) = LayerNorm(x) weight_in^T + bias_in.
#pragma once
#include "../api.h"

struct ua_feed_forward_weights {
    void* norm_weight; // (dim)
    void* norm_bias;   // (dim)
    void* weight_in;   // (2 * hidden, dim)
    void* bias_in;     // (2 * hidden)
    void* weight_out;  // (dim, hidden)
    void* bias_out;    // (dim)
};

struct ua_feed_forward {
    ua_call call;
    int64_t rows, dim, hidden;
    void* x;         // (rows, dim)
    ua_feed_forward_weights weights;
    void* y;         // (rows, dim)
    void* workspace; // both weights packed, and for every thread the rows of an item
    int64_t workspace_size; // in float32, or float64
    int64_t x_stride;       // elements from row to row; all else is dense
    double eps;
};
