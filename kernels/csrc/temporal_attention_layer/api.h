// Self-attention over frames as a layer of a transformer: y = x + attention(q, k, v) to_out^T +
// bias, q, k and v the projections of LayerNorm(x); axes (batch, frame, location, channel).
#pragma once
#include "../api.h"

struct ua_temporal_attention_layer {
    ua_call call;
    int64_t batch, frames, locations, dim, heads, head_dim;
    ua_array x, y;
    void* norm_weight; // (dim)
    void* norm_bias;   // (dim)
    void* to_q;        // (heads * head_dim, dim), as the next two
    void* to_k;
    void* to_v;
    void* to_out;      // (dim, heads * head_dim)
    void* bias;        // (dim)
    void* workspace;   // the packed weights, then `thread_size` for every thread
    int64_t workspace_size, thread_size; // in float32, or float64
    int64_t block;                       // locations of an item
    double eps;
};
