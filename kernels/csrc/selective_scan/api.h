// The selective scan over the frames of (B, F, S, D) activations.
//
// Activations are read with any strides but a dense last axis and written contiguous; parameters
// and states are contiguous, in float32 (float64 beside float64). Absent tensors are NULL.
// Forward saves nothing: backward is given the inputs and recomputes the states.
#pragma once
#include "../api.h"

struct ua_scan_sizes {
    int64_t batch, frames, space, width, d_state;
    int64_t geometric; // A is (D,): the rate of state n is A[d] * (n + 1)
    int64_t softplus;  // of dt + dt_bias
};

// what one direction of time reads
struct ua_scan_inputs {
    ua_array x, dt; // (B, F, S, D)
    ua_array B, C;  // (B, F, S, N)
    void* A;        // (D, N) or (D,)
    void* D;        // (D,) or NULL
    void* dt_bias;  // (D,) or NULL
};

// gradients of the same, contiguous; those of absent inputs are NULL
struct ua_scan_gradients {
    void *x, *dt, *B, *C; // dtype of the activations
    void *A, *D, *dt_bias;
};

// Entries: selective_scan_{forward,backward}, and selective_scan_{forward,backward}_workspace,
// which only read the sizes and set workspace_size. Of the scratch memory nothing is expected on
// entry and nothing kept; partial sums of dA, dD and ddt_bias live there and are reduced in a
// fixed order before the entry's work ends.
struct ua_selective_scan {
    ua_call call;
    ua_scan_sizes sizes;
    int64_t reverse;     // from the last frame to the first
    ua_scan_inputs in;
    ua_array z;          // (B, F, S, D) or NULL
    void* initial_state; // (B, S, D, N) or NULL

    // forward writes
    void* out;         // (B, F, S, D)
    void* final_state; // (B, S, D, N)

    // backward reads
    ua_array grad_out;      // (B, F, S, D)
    void* grad_final_state; // (B, S, D, N) or NULL

    // backward writes
    ua_scan_gradients grad;
    void* grad_z;             // (B, F, S, D); NULL without z
    void* grad_initial_state; // (B, S, D, N); NULL without initial_state

    void* workspace;
    int64_t workspace_size; // elements of float32 (float64 beside float64)
};
