// Two 3x3 convolutions of pictures, each behind a group normalisation and SiLU, added to what came
// in; axes (item, pixel, channel).
#pragma once
#include "../layers.h"

#define UA_CONVOLUTIONS 2

struct ua_normed_conv {
    void* norm_weight;     // (in)
    void* norm_bias;       // (in)
    void* weight;          // (out, in, 3, 3) or (out, 3, 3, in), dense
    void* bias;            // (out)
    int64_t channels_last; // whether the weight is
    int64_t block;         // tiles of an item of work
};

struct ua_resnet_block {
    ua_call call;
    int64_t items, height, width, in, out, groups, embeddings, emb_dim;
    ua_array x;         // (items, pixels, in)
    ua_array y;         // (items, pixels, out)
    ua_array embedding; // (embeddings, emb_dim), of items / embeddings items each; or NULL
    ua_normed_conv convs[UA_CONVOLUTIONS]; // in to out, out to out
    ua_linear emb_proj; // emb_dim to out, of silu(embedding); added behind the first convolution
    ua_linear skip;     // in to out; or NULL where in is out
    ua_packed packed;
    void* workspace; // statistics, a convolution's input, what is added, what its threads work with
    int64_t workspace_size; // bytes
    int64_t places, tiles;  // as of a spatial_conv
    int64_t cut;            // pixels of an item of all other work
    double eps;
};
