// A transformer over frames, at every location: y = x + proj_out(h), h = proj_in(GroupNorm(x)) after
// two self-attentions h += attention(LayerNorm(h)) and a feed-forward; axes (batch, frame, location,
// channel), the statistics of the group norm over the clip.
#pragma once
#include "../layers.h"

struct ua_temporal_transformer {
    ua_call call;
    int64_t batch, frames, locations, dim, groups, heads, head_dim, hidden;
    ua_array x, y;
    void* norm_weight;  // (dim)
    void* norm_bias;    // (dim)
    ua_linear proj_in;  // to inner = heads * head_dim
    ua_attention attentions[UA_ATTENTIONS];
    ua_feed_forward_weights feed_forward;
    ua_linear proj_out; // back
    ua_packed packed;
    void* workspace;    // statistics, then `thread_size` for every thread
    int64_t workspace_size, thread_size; // bytes; in float32
    int64_t block;                       // locations of an item
    double norm_eps, eps;                // of the group norm, and of the others
};
