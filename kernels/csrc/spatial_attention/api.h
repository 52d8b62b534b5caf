// Softmax attention of queries (items, queries, heads, dim) to keys and values (items, keys, heads,
// dim).
#pragma once
#include "../api.h"

struct ua_spatial_attention {
    ua_call call;
    int64_t items, queries, keys, heads, dim;
    ua_array q, k, v, out;
    void* workspace;   // slot_size values of the arithmetic's type a thread
    int64_t slot_size; // values
    int64_t run;       // queries that one thread takes at once, a multiple of the block
    int64_t block;     // queries whose scores exist at once
    int64_t chunk;     // keys they are the scores against, a multiple of 64
    double scale;
};
