// Group normalisation + SiLU.
//
// Two forms of memory: channels-last, (batch, rows, channels) with dense channels, where a row is a
// location and the rows may lie on up to three strided axes; and planes, (batch, channels, rows)
// with dense rows, which is contiguous (N, C, *) memory.
#pragma once
#include "../api.h"

struct ua_group_norm_silu {
    ua_call call;
    int64_t batch, channels, groups, rows;
    int64_t channels_last;
    int64_t inner[2];      // sizes of the second and the last of the three row axes
    int64_t block, blocks; // rows that share one partial sum, and how many such blocks an item has
    int64_t padded;        // channels rounded up: the width of sums and coefficients
    int64_t silu;
    double eps;
    // strides: batch and the three row axes; of planes: batch, channel
    ua_array x;
    ua_array grad; // backward only: gradient of the result
    ua_array out;  // the result; backward: the gradient of x
    void *weight, *bias;  // (channels,)
    void* embedding;      // (batch, channels) or NULL
    void *mean, *rstd;    // (batch, groups), accumulator type: written forward, read backward
    void *grad_weight, *grad_bias;
    void* grad_embedding; // (batch, channels) or NULL
    void* sums;           // (batch, blocks, 2 or 3, padded) double, CUDA uses float: workspace
    void* coefficients;   // (batch, 3 or 6, padded) accumulator type: workspace
};
