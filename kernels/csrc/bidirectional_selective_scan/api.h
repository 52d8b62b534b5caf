// The selective scan in both directions of time, summed and gated once.
#pragma once
#include "../selective_scan/api.h"

// Entries: bidirectional_selective_scan_{forward,backward} and their _workspace, as in
// selective_scan/api.h.
struct ua_bidirectional_selective_scan {
    ua_call call;
    ua_scan_sizes sizes;
    ua_scan_inputs onward;   // from the first frame to the last
    ua_scan_inputs backward; // from the last to the first; what is NULL here is onward's
    ua_array z;              // (B, F, S, D) or NULL

    void* out; // forward writes (B, F, S, D)

    ua_array grad_out; // backward reads (B, F, S, D)

    // backward writes; what both directions share gets the sum of both in grad_onward
    ua_scan_gradients grad_onward;
    ua_scan_gradients grad_backward; // NULL where shared
    void* grad_z;                    // NULL without z

    void* workspace;
    int64_t workspace_size; // elements of float32 (float64 beside float64)
};
