// Backward of the Mamba-2 scan, from its inputs and the states between chunks.
//
// A block takes the chunks from the last to the first and in each the heads of its part of a group:
// dx = W^T dy, dz by recomputing y, then dW = dy x^T for the steps and decays. What the heads add
// to dG, the gradient of C B^T, stays in shared memory; dB and dC follow from it once a chunk.
// A state S enters by its gradient dS behind the chunk (left) and its value before it (entered).
#pragma once
#include "chunk.cuh"

namespace {

// rows of a column are summed in this many runs at once
constexpr int kRuns = 4;

template <class T> struct Backward : Block<T> {
    using Block<T>::a;
    using Block<T>::s;
    using Block<T>::c;
    using Block<T>::P;
    using Block<T>::N;
    using Block<T>::rows;
    using Block<T>::count;
    using Block<T>::job;

    __device__ Backward(const Job& job, float4* shared) : Block<T>(job, shared) {}

    __device__ __forceinline__ bool left() const {
        return c + 1 < job.chunks || a.grad_final_state != nullptr;
    }
    // dS of a head
    __device__ __forceinline__ const float* exit(int h) const {
        const float* last = static_cast<const float*>(a.grad_final_state);
        return (c + 1 < job.chunks ? job.grad_states : last) + this->state_of(h);
    }
    __device__ __forceinline__ float parameter(const void* p, int h) const {
        return p != nullptr ? static_cast<const float*>(p)[h] : 0.0f;
    }
    template <class U>
    __device__ __forceinline__ Frames<U> frames(const ua_array& of, int h) const {
        return this->template frames_of<U>(of, h);
    }

    __device__ __forceinline__ void begin_head(int h) const {
        this->read_steps(h);
        this->read(s.x(), frames<const T>(a.x, h), P);
        const Frames<const T> z = frames<const T>(a.z, h);
        const bool gated = a.z.data != nullptr;
        this->read(s.dy(), frames<const T>(a.grad_out, h), P, [&](float v, int f, int p) {
            return gated ? v * silu(load(z[f] + p)) : v;
        });
        if (left()) this->read_state(exit(h));
    }

    // dx = W^T dy + to_end (B dS) + D dy, and of every row its part of `put`
    __device__ __forceinline__ void input_gradient(int h) const {
        const float skip = parameter(a.D, h);
        const Frames<T> grad_x = frames<T>(a.grad_x, h);
        each_tile(rows, P, [&](Tile& tile) {
            if (left()) {
                tile.add(Rows{s.B()}, Rows{s.state()}, 0, 4 * quads(N));
                leave_partial(tile, s.x());
                tile.scale_rows(s.to_end());
            }
            tile.add(Columns{s.W()}, Columns{s.dy()}, tile.i, rows);
            tile.each([&](int f, int p, float dx) {
                if (f < count && p < P) store(grad_x[f] + p, dx + skip * s.dy().at(f, p));
            });
        });
    }
    // dz, and of every row its part of `got`
    __device__ __forceinline__ void gate_gradient(int h) const {
        const float skip = parameter(a.D, h);
        const Frames<const T> z = frames<const T>(a.z, h), grad = frames<const T>(a.grad_out, h);
        const Frames<T> grad_z = frames<T>(a.grad_z, h);
        each_tile(rows, P, [&](Tile& tile) {
            if (this->entered()) {
                tile.add(Rows{s.C()}, Rows{s.state()}, 0, 4 * quads(N));
                leave_partial(tile, s.dy());
                tile.scale_rows(s.from_start());
            }
            if (a.z.data == nullptr) return;
            tile.add(Rows{s.W()}, Columns{s.x()}, 0, tile.i + 4);
            tile.each([&](int f, int p, float y) {
                if (f >= count || p >= P) return;
                const float gate = load(z[f] + p);
                y += skip * s.x().at(f, p);
                store(grad_z[f] + p, load(grad[f] + p) * silu_slope(gate, sigmoid(gate)) * y);
            });
        });
    }
    // the sums over p of what is in the tile times m, tile by tile, then all of them
    __device__ __forceinline__ void leave_partial(const Tile& tile, const Matrix& m) const {
        for (int r = 0; r < 4; ++r) {
            float sum = 0.0f;
            for (int t = 0; t < 4; ++t) {
                sum += tile.sum[r][t] * m.at(tile.i + r, tile.j + t * tile.across);
            }
            s.partial()[(tile.i + r) * tile.across + tile.j] = sum;
        }
    }
    __device__ __forceinline__ float partial_sum(int f) const {
        float sum = 0.0f;
        for (int t = 0; t < quads(P); ++t) sum += s.partial()[f * quads(P) + t];
        return sum;
    }

    // to += scale (m state)
    __device__ __forceinline__ void add_projection(const Matrix& to, const Matrix& m,
                                                   const float* scale) const {
        each_tile(rows, N, [&](Tile& tile) {
            tile.add(Rows{m}, Columns{s.state()}, 0, 4 * quads(P));
            tile.scale_rows(scale);
            tile.each([&](int f, int n, float v) { to.at(f, n) += v; });
        });
    }
    // brings S in place of dS; returns the sum of their products
    __device__ __forceinline__ float enter(int h) const {
        const float* from = this->entry(h);
        float sum = 0.0f;
        this->each_element(P, N, [&](int p, int n) {
            const float v = p < P && n < N ? from[p * N + n] : 0.0f;
            if (left()) sum += v * s.state().at(p, n);
            s.state().at(p, n) = v;
        });
        return block_sum(sum, s.sums());
    }
    // dS of the chunk before: what this one's frames got, and what went through
    __device__ __forceinline__ void leave_gradient(int h) const {
        float* to = job.grad_states + this->state_of(h);
        const float* behind = left() ? exit(h) : nullptr;
        const float whole = s.from_start()[rows - 1];
        each_tile(P, N, [&](Tile& tile) {
            tile.add(Columns{s.dy(), s.from_start()}, Columns{s.C()}, 0, rows);
            tile.each([&](int p, int n, float sum) {
                if (p >= P || n >= N) return;
                to[p * N + n] = left() ? sum + whole * behind[p * N + n] : sum;
            });
        });
    }

    // dG += dW L delta with dW = dy x^T, and W[i, j] = dW L G: the gradient of delta[j]
    __device__ __forceinline__ void weight_gradient() const {
        each_tile(rows, rows, [&](Tile& tile) {
            if (tile.j < tile.i + 4) tile.add(Rows{s.dy()}, Rows{s.x()}, 0, 4 * quads(P));
            tile.each([&](int i, int j, float dW) {
                if (i == j) s.of_D()[i] = dW;
                dW = i < j ? 0.0f : dW * s.decay(i, j);
                s.dG().at(i, j) += dW * s.delta()[j];
                s.W().at(i, j) = dW * s.G().at(i, j);
            });
        });
    }
    // columns of W summed from each row to the end of its run
    __device__ __forceinline__ void sum_columns() const {
        const int run = rows / kRuns;
        for (int i = threadIdx.x; i < kRuns * rows; i += blockDim.x) {
            const int j = i % rows, begin = i / rows * run;
            float sum = 0.0f;
            for (int f = begin + run - 1; f >= begin; --f) s.W().at(f, j) = sum += s.W().at(f, j);
        }
    }
    // The decay of frame f is in the pairs i >= f > j, in what frames before f put in the state
    // behind the chunk, in what frames from f on got from the one before, and in what went through.
    __device__ __forceinline__ void step_gradient(int h, float through) const {
        const int lane = threadIdx.x % 32, run = rows / kRuns;
        const float rate = parameter(a.A, h);
        const Frames<T> grad_dt = this->template steps<T>(a.grad_dt, h);
        for (int f = threadIdx.x / 32; f < count; f += blockDim.x / 32) {
            float dlog = 0.0f, ddelta = s.put()[f];
            for (int j = lane; j < rows; j += 32) {
                float later = s.W().at(f, j); // all pairs (i, j) with i >= f
                for (int r = f / run + 1; r < kRuns; ++r) later += s.W().at(r * run, j);
                dlog += j < f ? s.delta()[j] * (later + s.put()[j]) : s.got()[j];
            }
            dlog = warp_sum(dlog) + through;
            for (int r = 0; r < kRuns; ++r) ddelta += s.W().at(r * run, f);
            if (lane != 0) continue;
            const float raw = (ddelta + rate * dlog) * s.slope()[f];
            store(grad_dt[f], raw);
            s.of_A()[f] = s.delta()[f] * dlog, s.of_bias()[f] = raw;
        }
    }
    // a parameter's gradient: the sum over the frames, by one warp
    __device__ __forceinline__ void add_parameter(int warp, const float* of_frames, void* all,
                                                  int h) const {
        if (static_cast<int>(threadIdx.x / 32) != warp || all == nullptr) return;
        float sum = 0.0f;
        for (int f = threadIdx.x % 32; f < count; f += 32) sum += of_frames[f];
        sum = warp_sum(sum);
        float* to = static_cast<float*>(all) + this->location * a.heads + h;
        if (threadIdx.x % 32 == 0) *to = c + 1 < job.chunks ? *to + sum : sum;
    }

    __device__ __forceinline__ void head(int h) const {
        const bool entered = this->entered();
        begin_head(h);
        __syncthreads();
        this->weigh();
        __syncthreads();
        input_gradient(h);
        if (left()) add_projection(s.dB(), s.x(), s.to_end());
        __syncthreads();
        for (int f = threadIdx.x; f < rows; f += blockDim.x) {
            s.put()[f] = left() ? s.decay(rows - 1, f) * partial_sum(f) : 0.0f;
            s.got()[f] = 0.0f;
        }
        const float through = entered ? s.from_start()[rows - 1] * enter(h) : 0.0f;
        if (entered || a.z.data != nullptr) gate_gradient(h);
        if (entered) {
            add_projection(s.dC(), s.dy(), s.from_start());
            leave_gradient(h);
        }
        __syncthreads();
        for (int f = threadIdx.x; entered && f < rows; f += blockDim.x) {
            s.got()[f] = s.from_start()[f] * partial_sum(f);
        }
        weight_gradient();
        __syncthreads();
        sum_columns();
        __syncthreads();
        step_gradient(h, through);
        __syncthreads();
        add_parameter(0, s.of_A(), a.grad_A, h);
        add_parameter(1, s.of_D(), a.grad_D, h);
        add_parameter(2, s.of_bias(), a.grad_dt_bias, h);
    }

    // dB = dG^T C and dC = dG B, and what the states added to them
    __device__ __forceinline__ void projection_gradients() const {
        write_projection(0, a.grad_B, [&](Tile& tile) {
            tile.add(Columns{s.dG()}, Columns{s.C()}, tile.i, rows);
        });
        write_projection(1, a.grad_C, [&](Tile& tile) {
            tile.add(Rows{s.dG()}, Columns{s.B()}, 0, tile.i + 4);
        });
    }
    template <class Fill>
    __device__ __forceinline__ void write_projection(int which, const ua_array& array,
                                                     const Fill& fill) const {
        const Frames<T> grad = frames<T>(array, this->group);
        const Matrix& states = which == 0 ? s.dB() : s.dC();
        each_tile(rows, N, [&](Tile& tile) {
            fill(tile);
            tile.each([&](int f, int n, float v) {
                if (f >= count || n >= N) return;
                if (job.carries) v += states.at(f, n);
                if (job.parts > 1) {
                    job.shares[this->share(which, f) + n] = v;
                } else {
                    store(grad[f] + n, v);
                }
            });
        });
    }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2) ssd_backward(const __grid_constant__ Job job) {
    UA_DYNAMIC_SHARED(shared);
    Backward<T> k(job, shared);
#pragma unroll 1
    for (int c = job.chunks - 1; c >= 0; --c) {
        k.begin_chunk(c);
        __syncthreads();
        k.read_projections();
        k.each_element(k.rows, k.rows, [&](int i, int j) { k.s.dG().at(i, j) = 0.0f; });
        if (job.carries) {
            k.each_element(k.rows, k.N, [&](int f, int n) {
                k.s.dB().at(f, n) = k.s.dC().at(f, n) = 0.0f;
            });
        }
        __syncthreads();
        k.compare();
#pragma unroll 1
        for (int h = k.first_head; h < k.last_head; ++h) {
            __syncthreads();
            k.head(h);
        }
        if (!job.carries) { // x and dy took their place
            __syncthreads();
            k.read_projections();
        }
        __syncthreads();
        k.projection_gradients();
    }
}

// dB or dC of a group: the sum of what the blocks that shared its heads left
template <class T>
__global__ void __launch_bounds__(kThreads)
    ssd_sum_shares(const float* shares, int64_t size, int parts, void* out) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += shares[part * size + i];
    store(static_cast<T*>(out) + i, sum);
}

} // namespace
