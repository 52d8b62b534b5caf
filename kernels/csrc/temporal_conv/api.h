// 3x1x1 convolution over frames as an implicit matrix product on channels-last rows.
#pragma once
#include "../api.h"

// output channels a panel of packed weights holds
#define UA_TEMPORAL_CONV_PANEL 32

struct ua_temporal_conv {
    ua_call call;
    int64_t batch, frames, space, in, out;
    ua_array x;    // (batch, frames, space, in), in the activations' dtype
    ua_array y;    // (batch, frames, space, out): written by forward, read by the weight gradient
    void* packed;  // forward: weights as (panels, 3, in, PANEL), zero padded, in the compute dtype
    void* bias;    // forward: (panels * PANEL) in the compute dtype
    void* grad;    // backward: (3, out, panels of in * PANEL) zeroed, in the compute dtype
};
