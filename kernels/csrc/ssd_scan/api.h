// Mamba-2's scan over the frames.
#pragma once
#include "../api.h"

struct ua_ssd_scan {
    ua_call call;
    int64_t batch, frames, space, heads, width, groups, d_state;
    int64_t chunk;             // frames computed by one matrix product; 0 lets the code choose
    int64_t softplus, reverse; // flags
    ua_array x, z;             // (batch, frames, space, heads, width)
    ua_array dt;               // (batch, frames, space, heads)
    ua_array B, C;             // (batch, frames, space, groups, d_state)
    // contiguous, in the type of the arithmetic, NULL where absent
    void *A, *D, *dt_bias;     // (heads)
    void* initial_state;       // (batch, space, heads, width, d_state)
    void* final_state;         // like initial_state: written by forward
    ua_array out;              // like x: written by forward

    // backward: gradients that come in, like out and final_state
    ua_array grad_out;
    void* grad_final_state;
    // backward: gradients that are written, contiguous; of A, D and dt_bias one row a location
    ua_array grad_x, grad_z, grad_dt, grad_B, grad_C;
    void *grad_A, *grad_D, *grad_dt_bias; // (batch * space, heads)
    void* grad_initial_state;

    // ssd_scan_plan sets the size in bytes of what forward or backward needs as workspace
    void* workspace;
    int64_t workspace_size;
    int64_t backward; // flag for ssd_scan_plan
};
