// Second stage of the backward: what its blocks left in the workspace, added in a fixed order.
#pragma once
#include "scan.cuh"

namespace {

struct Projections {
    const float* parts;    // (parts, B, F, S, 2, N)
    int64_t size;          // of a part
    int64_t states;
    int64_t first[2], end[2]; // the parts that add to dB, dC
    void* out[2];             // NULL where the other direction has it
};

template <class T> __global__ void sum_projections(const __grid_constant__ Projections p) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= p.size) return;
    const int64_t pair = i / p.states;
    const int which = pair % 2;
    if (p.out[which] == nullptr) return;
    float sum = 0.0f;
    for (int64_t part = p.first[which]; part < p.end[which]; ++part) {
        sum += p.parts[part * p.size + i];
    }
    store(static_cast<T*>(p.out[which]) + pair / 2 * p.states + i % p.states, sum);
}

struct Parameters {
    const float* rates;    // (groups, directions, padded width, padded states)
    const float* channels; // (groups, directions, 2, padded width)
    int64_t groups, directions, width, padded_width, states, padded_states;
    int64_t geometric;
    int64_t first[3], end[3]; // the directions that add to dA, dD, ddt_bias
    float* out[3];            // NULL where there is none, or the other direction has it
};

// thread (c, n): dA, then dD, then ddt_bias of channel c
__global__ void sum_parameters(const __grid_constant__ Parameters p) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64_t columns = p.geometric ? 1 : p.states;
    const int64_t which = i < p.width * columns ? 0 : 1 + (i - p.width * columns) / p.width;
    if (which > 2 || p.out[which] == nullptr) return;
    const int64_t at = which == 0 ? i : (i - p.width * columns) % p.width;
    const int64_t c = which == 0 ? at / columns : at, n = at % columns;
    float sum = 0.0f;
    for (int64_t g = 0; g < p.groups; ++g) {
        for (int64_t d = p.first[which]; d < p.end[which]; ++d) {
            const int64_t row = g * p.directions + d;
            if (which > 0) {
                sum += p.channels[(row * 2 + which - 1) * p.padded_width + c];
                continue;
            }
            const float* rate = p.rates + (row * p.padded_width + c) * p.padded_states;
            if (!p.geometric) {
                sum += rate[n];
                continue;
            }
            for (int64_t m = 0; m < p.states; ++m) sum += rate[m] * static_cast<float>(m + 1);
        }
    }
    p.out[which][at] = sum;
}

} // namespace
