// The 3x1x1 convolution over frames, channels last; float32 and float64.
#pragma once
#include "../api.h"

struct ua_temporal_conv {
    ua_call call;
    int64_t batch, frames, locations, channels;
    int64_t width;   // channels of y, padded to a multiple of `panel`
    int64_t panel;   // columns of y that are made at once, a multiple of 16
    ua_array x;      // (batch, frame, location, channels)
    void* y;         // (batch, frame, location, width): output; of the weight's gradient: input
    void* weight;    // forward: (width / panel, 3, channels, panel);
                     // gradient: (3, channels, width), zeroed by the caller
    void* bias;      // (width) or NULL; forward only
};
