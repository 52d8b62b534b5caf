// A transformer over the tokens of a frame: y = x + proj_out(h), h = proj_in(GroupNorm(x)) after
// h += attention(LayerNorm(h)), h += attention(LayerNorm(h), context) and a feed-forward; axes
// (batch, frame, token, channel), the statistics of the group norm of each frame.
#pragma once
#include "../layers.h"

struct ua_spatial_transformer {
    ua_call call;
    int64_t batch, frames, tokens, dim, groups, heads, head_dim, hidden;
    int64_t keys, context_dim;
    ua_array x, y;
    ua_array context;   // (batch, keys, context_dim)
    void* norm_weight;  // (dim)
    void* norm_bias;    // (dim)
    ua_linear proj_in;  // to inner = heads * head_dim
    ua_attention attentions[UA_ATTENTIONS];
    ua_feed_forward_weights feed_forward;
    ua_linear proj_out; // back
    ua_packed packed;
    void* workspace;    // statistics, contexts, frames, then `thread_size` a thread
    int64_t workspace_size, thread_size; // bytes; in float32
    int64_t together;                    // frames whose keys and values exist at once
    int64_t cut;                         // tokens whose statistics are taken at once
    int64_t run;                         // tokens that one thread takes at once
    int64_t block;                       // queries whose scores exist at once
    int64_t chunk;                       // keys they are the scores against, a multiple of 64
    double norm_eps, eps;                // of the group norm, and of the others
};
