// Softmax attention over frames at every location; axes (batch, frame, location, head, dim).
#pragma once
#include "../api.h"

struct ua_temporal_attention {
    ua_call call;
    int64_t batch, frames, locations, heads, dim;
    ua_array q, k, v;
    ua_array out;  // forward
    ua_array grad; // of out; backward only, as the next three
    ua_array dq, dk, dv;
    void* workspace;    // slots of slot_size values each, of the arithmetic's type
    int64_t slots;      // work is cut into this many runs of locations
    int64_t slot_size;  // values
    int64_t slot_heads; // heads that are held in a slot at once
    double scale;
};
