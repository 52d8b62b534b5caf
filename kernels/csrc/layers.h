// Layers of transformers as the library is given them.
#pragma once
#include "feed_forward/api.h"

struct ua_linear {
    void* weight; // (out, in)
    void* bias;   // (out)
};

struct ua_attention {
    void* norm_weight; // (inner), as the next
    void* norm_bias;
    void* to_q;        // (inner, inner)
    void* to_k;        // (inner, source), as the next
    void* to_v;
    void* to_out;      // (inner, inner)
    void* bias;        // (inner)
};

#define UA_ATTENTIONS 2
