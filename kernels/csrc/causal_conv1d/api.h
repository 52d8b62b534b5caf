// Depthwise causal convolution over the frames.
//
// "Steps" are frames in scan order: step i is frame i, or frames - 1 - i when reversed. Row k of a
// state, which is oldest frame first, is step k - (taps - 1), or step -1 - k when reversed.
#pragma once
#include "../api.h"

// the kernels keep a window of this many steps at most
#define UA_CONV_MAX_TAPS 64

struct ua_causal_conv1d {
    ua_call call;
    int64_t batch, frames, space, width, taps;
    int64_t reverse, silu;
    int64_t blocks;       // backward: how many partial sums of grad_parameters there are
    ua_array x;           // (batch, frames, space, width)
    ua_array y;           // (batch, frames, space, width): output, or its gradient in backward
    ua_array grad_x;      // (batch, frames, space, width), backward
    void* weight;         // (taps, width) in the compute dtype (float32, or float64)
    void* bias;           // (width) in the compute dtype, or NULL
    void* state;          // (batch, space, taps - 1, width) in the compute dtype, or NULL
    void* grad_state;     // like state; NULL where state is
    void* grad_parameters; // (blocks, taps + 1, width) in the compute dtype: taps, then bias
};
