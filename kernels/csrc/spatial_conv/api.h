// 3x3 convolution of pictures with channels last, padded by zeros.
#pragma once
#include "../api.h"

struct ua_spatial_conv {
    ua_call call;
    int64_t items, height, width, in, out;
    ua_array x;      // (items, height, width, in)
    ua_array y;      // (items, height, width, out)
    ua_array add;    // the same, added to the result; it may be y; or NULL
    void* weight;    // (out, in, 3, 3) or (out, 3, 3, in), dense
    void* bias;      // (out), or NULL
    ua_packed packed;
    void* workspace; // for every thread what it works with
    int64_t workspace_size;  // in float32
    int64_t channels_last;   // whether the weight is
    int64_t places, tiles;   // of a tile, as the dtype's has; of all pictures
    int64_t block;           // tiles of an item of work
};
