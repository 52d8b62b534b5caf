// Four stages of group normalisation over the clip, SiLU and a 3x1x1 convolution, added to what
// came in; axes (batch, frame, location, channel).
#pragma once
#include "../api.h"

#define UA_STAGES 4

struct ua_stage {
    void* norm_weight; // (channels)
    void* norm_bias;   // (channels)
    void* weight;      // (channels, channels, 3): output, input, frame
    void* bias;        // (channels)
};

struct ua_temporal_conv_block {
    ua_call call;
    int64_t batch, frames, space, channels, groups;
    int64_t block; // locations of an item
    ua_array x, y;
    ua_stage stages[UA_STAGES];
    ua_packed packed; // of one stage, or of all where it is kept
    void* workspace;
    int64_t workspace_size; // bytes
    double eps;
};
