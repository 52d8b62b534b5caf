// Forward of the Mamba-2 scan, and the sweep that finds the states between chunks for backward.
#pragma once
#include "chunk.cuh"

namespace {

// y = W x + from_start (C H), with H the state before the chunk; then skip, gate and out
template <class T> __device__ __forceinline__ void put_out(const Block<T>& k, int h) {
    const ua_ssd_scan& a = k.a;
    const Shared& s = k.s;
    const float skip = a.D ? static_cast<const float*>(a.D)[h] : 0.0f;
    const Frames<T> out = k.template frames_of<T>(a.out, h);
    const Frames<const T> z = k.template frames_of<const T>(a.z, h);
    each_tile(k.count, k.P, [&](Tile& tile) {
        if (k.entered()) {
            tile.add(Rows{s.C()}, Rows{s.state()}, 0, 4 * quads(k.N));
            tile.scale_rows(s.from_start());
        }
        tile.add(Rows{s.W()}, Columns{s.x()}, 0, tile.i + 4);
        tile.each([&](int i, int p, float y) {
            if (i >= k.count || p >= k.P) return;
            y += skip * s.x().at(i, p);
            if (a.z.data != nullptr) y *= silu(load(z[i] + p));
            store(out[i] + p, y);
        });
    });
}

// the state behind the chunk: sum of to_end[j] x[j] B[j]^T, and what is left of the one before
template <class T> __device__ __forceinline__ void leave_state(const Block<T>& k, int h) {
    const Shared& s = k.s;
    float* to = k.job.states + k.c * k.job.state_step + k.state_of(h);
    const float whole = s.from_start()[k.rows - 1];
    each_tile(k.P, k.N, [&](Tile& tile) {
        tile.add(Columns{s.x(), s.to_end()}, Columns{s.B()}, 0, k.rows);
        tile.each([&](int p, int n, float sum) {
            if (p >= k.P || n >= k.N) return;
            to[p * k.N + n] = k.entered() ? sum + whole * s.state().at(p, n) : sum;
        });
    });
}

// out is absent in the sweep for backward, which wants the states alone
template <class T>
__global__ void __launch_bounds__(kThreads, 2) ssd_forward(const __grid_constant__ Job job) {
    UA_DYNAMIC_SHARED(shared);
    Block<T> k(job, shared);
    const bool out = job.a.out.data != nullptr;
#pragma unroll 1
    for (int c = 0; c < job.chunks; ++c) {
        k.begin_chunk(c);
        const bool leaves = c + 1 < job.chunks || job.a.final_state != nullptr;
        __syncthreads();
        k.read_projections();
        __syncthreads();
        if (out) k.compare();
#pragma unroll 1
        for (int h = k.first_head; h < k.last_head; ++h) {
            __syncthreads();
            k.read_steps(h);
            k.read(k.s.x(), k.template frames_of<const T>(job.a.x, h), k.P);
            if (k.entered()) k.read_state(k.entry(h));
            __syncthreads();
            if (out) {
                k.weigh();
                __syncthreads();
                put_out(k, h);
            }
            if (leaves) leave_state(k, h);
        }
    }
}

} // namespace
