// Backward of both selective scans, from their inputs alone.
//
// A block owns 64 channels and walks its share of the locations. Four lanes own a channel, four
// states each. For each direction of time (and tile of 16 states) it first sweeps all frames
// forwards, keeping the states on entry to every chunk of 8 frames, then replays the chunks from
// the last to the first: states and decays of a chunk live in registers while the adjoint state
// runs back through them. Softplus, gates and their slopes are evaluated once an element and
// handed over in shared memory.
//
// Sums have a fixed order and no atomics. Over the states of a channel: shuffles. Over the
// channels (dB, dC): shuffles and shared memory to one partial sum a block, then a second kernel.
// Over the locations (dA, dD, ddt_bias): one partial sum a block, then a third kernel.
#pragma once
#include "scan.cuh"
#include "sums.cuh"

namespace {

constexpr int kChunk = 8;
constexpr int kHalf = kChunk / 2; // chunks of few frames skip their second half
constexpr int kLanes = 4;         // of a channel
constexpr int kOwn = kStates / kLanes; // states of a lane
constexpr int kBackwardChannels = 64;
constexpr int kBackwardThreads = kBackwardChannels * kLanes;
constexpr int kWarps = kBackwardThreads / 32;
constexpr int kBlocksPerMultiprocessor = 2;

struct BackwardScan {
    Scan scan;
    ua_array grad_out;
    ua_array grad_x[2], grad_dt[2]; // of both directions the same where shared
    ua_array grad_z;
    const float* grad_final_state;
    float* grad_initial_state;
    bool shared_x, shared_dt;

    int tiles, chunks;  // of channels and of frames
    int groups;         // blocks that share the locations of one tile of channels
    // the workspace
    float* entries;     // (blocks, chunks, 4, threads): states on entry to the chunks
    float* sums;        // (blocks, 3, F, 64): y, dx and ddt, where several sweeps add to them
    float* projections; // (directions, tiles, B, F, S, 2, N): dB and dC
    float* rates;       // (groups, directions, tiles * 64, padded N): dA
    float* channels;    // (groups, directions, 2, tiles * 64): dD and ddt_bias
};

// Values of one chunk, an element a slot.
struct Elements {
    float2 at[kChunk][kBackwardChannels / 2];

    __device__ __forceinline__ float& of(int t, int channel) {
        return (&at[t][0].x)[channel];
    }
};

struct BackwardShared {
    Elements x, delta, slope, gate; // gate: the gradient of the ungated output
    Elements output;                // C . h in the sweep; the sum dh . B in the replay
    Elements rate;                  // the sum of dh . decay . h A
    float4 B[kChunk][kStates / 4];
    float4 C[kChunk][kStates / 4];
    float projections[kWarps][kChunk][2 * kStates];
    float2 channels[2][2][kBackwardThreads]; // direction; dD, ddt_bias; of each thread
};

// What a block, its location and its sweep are, and the two roles of a thread.
struct Work {
    const BackwardScan& f;
    BackwardShared& shared;
    int tile;
    // as one element of a chunk: frame t, channels element and element + 1
    int t, element;
    Pair pair;
    // as the lane of a channel
    int quad, local, channel;

    __device__ Work(const BackwardScan& f, BackwardShared& shared) : f(f), shared(shared) {
        tile = blockIdx.x % f.tiles;
        t = threadIdx.x / 32;
        element = tile * kBackwardChannels + 2 * (threadIdx.x % 32);
        pair = pair_at(element, f.scan);
        quad = threadIdx.x % kLanes;
        local = threadIdx.x / kLanes;
        channel = tile * kBackwardChannels + local;
    }

    // of the blocks that share the tile's locations
    __device__ __forceinline__ int group() const { return blockIdx.x / f.tiles; }
    __device__ __forceinline__ float2& mine(Elements& elements) const {
        return elements.at[t][threadIdx.x % 32];
    }
    // where the entry state of a chunk waits; a thread's states are kBackwardThreads apart
    __device__ __forceinline__ float* entry(int chunk) const {
        const int64_t index = static_cast<int64_t>(blockIdx.x) * f.chunks + chunk;
        return f.entries + index * (kBackwardThreads * kOwn) + threadIdx.x;
    }
    // a sum over sweeps: 0 the output, 1 dx, 2 ddt
    __device__ __forceinline__ float* sum(int which, int frame) const {
        const int64_t row =
            static_cast<int64_t>(blockIdx.x * 3 + which) * f.scan.sizes.frames + frame;
        return f.sums + row * kBackwardChannels + 2 * (threadIdx.x % 32);
    }
    __device__ __forceinline__ float2 add_to_sum(int which, int frame, float2 v, bool first,
                                                 bool last) const {
        if (!first) {
            float2 before = load2(sum(which, frame));
            v.x += before.x;
            v.y += before.y;
        }
        if (!last) store2(sum(which, frame), v);
        return v;
    }
};

// One direction and tile of states at one location, and whether it is the first and the last to
// add to a result: of its direction, or of both where they share the result.
struct Sweep {
    const Scan& a;
    int d, first_state;

    __device__ bool first(bool shared) const { return first_state == 0 && !(shared && d > 0); }
    __device__ bool last(bool shared) const {
        return first_state + kStates >= a.sizes.d_state && !(shared && d + 1 < a.directions);
    }
};

// Stages B and C of a chunk: a warp is one frame, half of its lanes the states of B.
template <class T>
__device__ __forceinline__ void stage_chunk(const Work& w, const ua_scan_inputs& in,
                                            const Location& at, int first_state, int frame,
                                            bool exists) {
    const int lane = threadIdx.x % 32, n = lane % kStates;
    float v = 0.0f;
    if (exists && first_state + n < w.f.scan.sizes.d_state) {
        v = load(at.row<const T>(lane < kStates ? in.B : in.C, frame) + first_state + n);
    }
    float4* row = lane < kStates ? w.shared.B[w.t] : w.shared.C[w.t];
    (&row->x)[n] = v;
}

__device__ __forceinline__ void lane_states(const float4 (&from)[kStates / 4], int quad,
                                            float (&v)[kOwn]) {
    float4 own = from[quad];
    v[0] = own.x, v[1] = own.y, v[2] = own.z, v[3] = own.w;
}

// Keeps the entry states of all chunks; with a gate, also finishes dz in the last sweep.
template <class T>
__device__ __forceinline__ void sweep_forwards(const Work& w, const Location& at,
                                               const Sweep& s,
                                               const float (&rate)[kOwn], float (&h)[kOwn]) {
    const Scan& a = w.f.scan;
    const ua_scan_inputs& in = a.in[s.d];
    const int frames = a.sizes.frames;
    const bool gated = a.z.data != nullptr;
    const float2 bias = w.pair.parameter(in.dt_bias, w.element);
    const float2 skip = w.pair.parameter(s.first_state == 0 ? in.D : nullptr, w.element);
#pragma unroll 1
    for (int chunk = 0; chunk < w.f.chunks; ++chunk) {
#pragma unroll
        for (int n = 0; n < kOwn; ++n) w.entry(chunk)[n * kBackwardThreads] = h[n];
        if (!gated && chunk + 1 == w.f.chunks) break;
        const int step = chunk * kChunk + w.t;
        const int frame = frame_at(step, frames, a.reverse[s.d]);
        const bool exists = step < frames;
        float2 x = make_float2(0.0f, 0.0f), delta = x;
        if (exists) {
            x = w.pair.load(at.row<const T>(in.x, frame) + w.element);
            float2 dt = w.pair.load(at.row<const T>(in.dt, frame) + w.element);
            delta = step_size(dt, bias, a.sizes.softplus);
        }
        w.mine(w.shared.x) = x;
        w.mine(w.shared.delta) = delta;
        stage_chunk<T>(w, in, at, s.first_state, frame, exists);
        __syncthreads();
#pragma unroll
        for (int t = 0; t < kChunk; ++t) {
            if (t >= kHalf && chunk * kChunk + kHalf >= frames) continue;
            float B[kOwn], C[kOwn], delta_t = w.shared.delta.of(t, w.local);
            float input = delta_t * w.shared.x.of(t, w.local), y = 0.0f;
            lane_states(w.shared.B[t], w.quad, B);
            lane_states(w.shared.C[t], w.quad, C);
#pragma unroll
            for (int n = 0; n < kOwn; ++n) {
                h[n] = fast_exp2(delta_t * rate[n]) * h[n] + input * B[n];
                y += h[n] * C[n];
            }
            if (!gated) continue;
            y += __shfl_xor_sync(kWholeWarp, y, 1);
            y += __shfl_xor_sync(kWholeWarp, y, 2);
            if (w.quad == 0) w.shared.output.of(t, w.local) = y;
        }
        __syncthreads();
        if (!gated || !exists) continue;
        float2 y = w.mine(w.shared.output);
        y.x += skip.x * x.x;
        y.y += skip.y * x.y;
        y = w.add_to_sum(0, frame, y, s.first(true), s.last(true));
        if (!s.last(true)) continue;
        float2 z = w.pair.load(at.row<const T>(a.z, frame) + w.element);
        float2 g = w.pair.load(at.row<const T>(w.f.grad_out, frame) + w.element);
        float2 dz = make_float2(g.x * y.x * silu_slope(z.x, sigmoid(z.x)),
                                g.y * y.y * silu_slope(z.y, sigmoid(z.y)));
        w.pair.store(at.row<T>(w.f.grad_z, frame) + w.element, dz);
    }
}

// Adds 2 kOwn = 8 values of each lane over the 8 channels of the warp, halving what is left to add
// at every exchange: a lane returns with the sum of value 4 b2 + 2 b3 + b4, b its number's bits.
__device__ __forceinline__ float sum_over_channels(float (&v)[2 * kOwn]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int left = kOwn, bit = kLanes; left > 0; left /= 2, bit *= 2) {
        bool upper = (lane & bit) != 0;
#pragma unroll
        for (int n = 0; n < left; ++n) {
            float keep = upper ? v[n + left] : v[n], give = upper ? v[n] : v[n + left];
            v[n] = keep + __shfl_xor_sync(kWholeWarp, give, bit);
        }
    }
    return v[0];
}

// Replays the chunks from the last to the first; `dh` is the adjoint of the state after the last
// frame on entry and of the state before the first frame on return.
template <class T>
__device__ __forceinline__ void replay_backwards(const Work& w, const Location& at,
                                                 const Sweep& s,
                                                 const float (&rate)[kOwn], float (&dh)[kOwn],
                                                 float (&dA)[kOwn]) {
    const Scan& a = w.f.scan;
    const ua_scan_inputs& in = a.in[s.d];
    const int frames = a.sizes.frames, states = a.sizes.d_state;
    const int lane = threadIdx.x % 32;
    // where sum_over_channels leaves this lane's value: dB before dC, states in order
    const int value = (lane & 4) + ((lane >> 2) & 2) + ((lane >> 4) & 1);
    const int slot = (value / kOwn) * kStates + w.quad * kOwn + value % kOwn;
#pragma unroll 1
    for (int chunk = w.f.chunks - 1; chunk >= 0; --chunk) {
        const int step = chunk * kChunk + w.t;
        const int frame = frame_at(step, frames, a.reverse[s.d]);
        const bool exists = step < frames;
        {
            float2 x = make_float2(0.0f, 0.0f), delta = x, slope = x, g = x;
            if (exists) {
                x = w.pair.load(at.row<const T>(in.x, frame) + w.element);
                float2 dt = w.pair.load(at.row<const T>(in.dt, frame) + w.element);
                g = w.pair.load(at.row<const T>(w.f.grad_out, frame) + w.element);
                const float2 bias = w.pair.parameter(in.dt_bias, w.element);
                delta = step_size(dt, bias, a.sizes.softplus);
                slope = make_float2(1.0f, 1.0f);
                if (a.sizes.softplus) {
                    slope = make_float2(sigmoid(dt.x + bias.x), sigmoid(dt.y + bias.y));
                }
                if (a.z.data != nullptr) {
                    float2 z = w.pair.load(at.row<const T>(a.z, frame) + w.element);
                    g.x *= silu(z.x);
                    g.y *= silu(z.y);
                }
            }
            w.mine(w.shared.x) = x;
            w.mine(w.shared.delta) = delta;
            w.mine(w.shared.slope) = slope;
            w.mine(w.shared.gate) = g;
        }
        stage_chunk<T>(w, in, at, s.first_state, frame, exists);
        float h[kChunk + 1][kOwn], decay[kChunk][kOwn];
#pragma unroll
        for (int n = 0; n < kOwn; ++n) h[0][n] = w.entry(chunk)[n * kBackwardThreads];
        __syncthreads();

        const bool second_half = chunk * kChunk + kHalf < frames;
#pragma unroll
        for (int t = 0; t < kChunk; ++t) {
            if (t >= kHalf && !second_half) continue;
            float B[kOwn], delta = w.shared.delta.of(t, w.local);
            float input = delta * w.shared.x.of(t, w.local);
            lane_states(w.shared.B[t], w.quad, B);
#pragma unroll
            for (int n = 0; n < kOwn; ++n) {
                decay[t][n] = fast_exp2(delta * rate[n]);
                h[t + 1][n] = decay[t][n] * h[t][n] + input * B[n];
            }
        }
#pragma unroll
        for (int t = kChunk - 1; t >= 0; --t) {
            if (t >= kHalf && !second_half) continue;
            float B[kOwn], C[kOwn], products[2 * kOwn];
            float g = w.shared.gate.of(t, w.local), delta = w.shared.delta.of(t, w.local);
            float input = delta * w.shared.x.of(t, w.local), dinput = 0.0f, drate = 0.0f;
            lane_states(w.shared.B[t], w.quad, B);
            lane_states(w.shared.C[t], w.quad, C);
#pragma unroll
            for (int n = 0; n < kOwn; ++n) {
                dh[n] += g * C[n];
                products[n] = dh[n] * input;
                products[kOwn + n] = g * h[t + 1][n];
                dinput += dh[n] * B[n];
                dh[n] *= decay[t][n];
                // read again, rather than held in registers since the chunk's first step
                float before = t > 0 ? h[t][n] : w.entry(chunk)[n * kBackwardThreads];
                float carried = dh[n] * before;
                dA[n] += carried * delta;
                drate += carried * rate[n];
            }
            // even lanes of a channel add up dinput, odd ones drate
            bool odd = (lane & 1) != 0;
            float sum = odd ? drate : dinput;
            sum += __shfl_xor_sync(kWholeWarp, odd ? dinput : drate, 1);
            sum += __shfl_xor_sync(kWholeWarp, sum, 2);
            if (w.quad == 0) w.shared.output.of(t, w.local) = sum;
            if (w.quad == 1) w.shared.rate.of(t, w.local) = sum;
            w.shared.projections[threadIdx.x / 32][t][slot] = sum_over_channels(products);
        }
        __syncthreads();

        if (!exists) continue;
        float sum = 0.0f; // a warp is one frame, its lanes dB and dC of it
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) sum += w.shared.projections[warp][w.t][lane];
        if (s.first_state + lane % kStates < states) {
            const int64_t rows = static_cast<int64_t>(a.sizes.batch) * frames * a.sizes.space;
            const int64_t row = (s.d * w.f.tiles + w.tile) * rows + at.index(frame, a.sizes);
            w.f.projections[(row * 2 + lane / kStates) * states + s.first_state +
                            lane % kStates] = sum;
        }
        const float2 x = w.mine(w.shared.x), delta = w.mine(w.shared.delta);
        const float2 slope = w.mine(w.shared.slope), g = w.mine(w.shared.gate);
        const float2 dinput = w.mine(w.shared.output), drate = w.mine(w.shared.rate);
        const float2 skip = w.pair.parameter(s.first_state == 0 ? in.D : nullptr, w.element);
        float2 dx = make_float2(dinput.x * delta.x + skip.x * g.x,
                                dinput.y * delta.y + skip.y * g.y);
        float2 ddt = make_float2((dinput.x * x.x + drate.x * kLn2) * slope.x,
                                 (dinput.y * x.y + drate.y * kLn2) * slope.y);
        float2(&channels)[2][kBackwardThreads] = w.shared.channels[s.d];
        if (s.first_state == 0) {
            channels[0][threadIdx.x].x += g.x * x.x;
            channels[0][threadIdx.x].y += g.y * x.y;
        }
        channels[1][threadIdx.x].x += ddt.x;
        channels[1][threadIdx.x].y += ddt.y;
        const bool last_x = s.last(w.f.shared_x), last_dt = s.last(w.f.shared_dt);
        dx = w.add_to_sum(1, frame, dx, s.first(w.f.shared_x), last_x);
        ddt = w.add_to_sum(2, frame, ddt, s.first(w.f.shared_dt), last_dt);
        if (last_x) w.pair.store(at.row<T>(w.f.grad_x[s.d], frame) + w.element, dx);
        if (last_dt) w.pair.store(at.row<T>(w.f.grad_dt[s.d], frame) + w.element, ddt);
    }
}

template <class T>
__device__ __forceinline__ void differentiate(const Work& w, const Location& at, const Sweep& s,
                                              bool first_location) {
    const Scan& a = w.f.scan;
    const int first = s.first_state + w.quad * kOwn;
    const int states = w.channel < a.sizes.width ? a.sizes.d_state - first : 0;
    const int64_t state = at.state(w.channel, a.sizes) * a.sizes.d_state + first;

    float rate[kOwn];
    load_rates(a.in[s.d].A, w.channel, first, a.sizes, rate);
    {
        float h[kOwn];
        load_states(a.initial_state + state, a.initial_state != nullptr ? states : 0, h);
        sweep_forwards<T>(w, at, s, rate, h);
    }
    float dh[kOwn], dA[kOwn] = {};
    load_states(w.f.grad_final_state + state, w.f.grad_final_state != nullptr ? states : 0, dh);
    replay_backwards<T>(w, at, s, rate, dh, dA);
    if (w.f.grad_initial_state != nullptr) store_states(w.f.grad_initial_state + state, states, dh);

    const int padded = (a.sizes.d_state + kStates - 1) / kStates * kStates;
    const int64_t row =
        (w.group() * a.directions + s.d) * w.f.tiles * kBackwardChannels + w.channel;
    float* total = w.f.rates + row * padded + first;
#pragma unroll
    for (int n = 0; n < kOwn; ++n) total[n] = first_location ? dA[n] : total[n] + dA[n];
}

template <class T>
__global__ void __launch_bounds__(kBackwardThreads, kBlocksPerMultiprocessor)
    scan_backward(const __grid_constant__ BackwardScan f) {
    __shared__ BackwardShared shared;
    const Scan& a = f.scan;
    const Work w(f, shared);
    for (int i = 0; i < 4; ++i) {
        shared.channels[i / 2][i % 2][threadIdx.x] = make_float2(0.0f, 0.0f);
    }
    const int locations = a.sizes.batch * a.sizes.space;
#pragma unroll 1
    for (int location = w.group(); location < locations; location += f.groups) {
        const Location at(location, a.sizes.space);
#pragma unroll 1
        for (int d = 0; d < a.directions; ++d) {
#pragma unroll 1
            for (int n = 0; n < a.sizes.d_state; n += kStates) {
                const Sweep s = {a, d, n};
                differentiate<T>(w, at, s, location < f.groups);
            }
        }
    }
    __syncthreads();
    // dD and ddt_bias: over the frames of a chunk, which the warps hold
    for (int i = threadIdx.x; i < a.directions * 2 * kBackwardChannels; i += kBackwardThreads) {
        int channel = i % kBackwardChannels, which = i / kBackwardChannels;
        const float* of_threads = &shared.channels[which / 2][which % 2][0].x;
        float sum = 0.0f;
        for (int t = 0; t < kChunk; ++t) sum += of_threads[t * kBackwardChannels + channel];
        int64_t row = static_cast<int64_t>(w.group()) * a.directions * 2 + which;
        f.channels[(row * w.f.tiles + w.tile) * kBackwardChannels + channel] = sum;
    }
}

// ---- host side

// How the work is divided and where its parts lie in the workspace; sizes in float32.
struct BackwardPlan {
    int64_t tiles, groups, blocks, chunks, padded_width, padded_states;
    int64_t entries, sums, projections, rates, channels;

    BackwardPlan(const ua_scan_sizes& s, int directions, int64_t device) {
        const int64_t locations = s.batch * s.space;
        tiles = tiles_of(s.width, kBackwardChannels);
        groups = kBlocksPerMultiprocessor * multiprocessors(device) / tiles;
        groups = groups < 1 ? 1 : groups > locations ? locations : groups;
        blocks = tiles * groups;
        chunks = tiles_of(s.frames, kChunk);
        padded_width = tiles * kBackwardChannels;
        padded_states = tiles_of(s.d_state, kStates) * kStates;
        entries = blocks * chunks * kBackwardThreads * kOwn;
        const bool several = directions > 1 || s.d_state > kStates;
        sums = several ? blocks * 3 * s.frames * kBackwardChannels : 0;
        projections = directions * tiles * locations * s.frames * 2 * s.d_state;
        rates = groups * directions * padded_width * padded_states;
        channels = groups * directions * 2 * padded_width;
    }
    int64_t size() const { return entries + sums + projections + rates + channels; }
};

constexpr int kSumThreads = 256;

// `grad` holds NULL in direction 1 for what both directions share
template <class T>
const char* run_backward(BackwardScan f, const ua_scan_sizes& s,
                         const ua_scan_gradients (&grad)[2], float* workspace,
                         const ua_call& call) {
    const int directions = f.scan.directions;
    const BackwardPlan plan(s, directions, call.device);
    f.tiles = static_cast<int>(plan.tiles);
    f.chunks = static_cast<int>(plan.chunks);
    f.groups = static_cast<int>(plan.groups);
    f.sums = workspace; // pairs of floats: first, because its size is even and the start aligned
    f.entries = f.sums + plan.sums;
    f.rates = f.entries + plan.entries;
    f.channels = f.rates + plan.rates;
    f.projections = f.channels + plan.channels;
    f.shared_x = directions > 1 && grad[1].x == nullptr;
    f.shared_dt = directions > 1 && grad[1].dt == nullptr;
    f.scan.paired = pairs_fit<T>(f.scan) && pairs_aligned<T>(f.grad_out) &&
                    pairs_aligned<T>(f.grad_z);
    for (int d = 0; d < directions; ++d) {
        f.grad_x[d] = contiguous(grad[f.shared_x ? 0 : d].x, s);
        f.grad_dt[d] = contiguous(grad[f.shared_dt ? 0 : d].dt, s);
        f.scan.paired = f.scan.paired && pairs_aligned<T>(f.grad_x[d]) &&
                        pairs_aligned<T>(f.grad_dt[d]);
    }
    const char* error = launch(scan_backward<T>, plan.blocks, kBackwardThreads, 0, call.stream, f);

    for (int d = 0; d < directions && error == nullptr; ++d) {
        // direction d adds alone, or direction 0 for both
        auto both = [&](const void* second) { return directions > 1 && second == nullptr; };
        auto first = [&](const void* second) { return both(second) ? 0 : d; };
        auto end = [&](const void* second) { return both(second) ? directions : d + 1; };
        const ua_scan_gradients& second = grad[1];
        const int64_t size = s.batch * s.frames * s.space * 2 * s.d_state;
        Projections p = {f.projections,
                         size,
                         s.d_state,
                         {first(second.B) * plan.tiles, first(second.C) * plan.tiles},
                         {end(second.B) * plan.tiles, end(second.C) * plan.tiles},
                         {grad[d].B, grad[d].C}};
        error = launch(sum_projections<T>, tiles_of(size, kSumThreads), kSumThreads, 0,
                       call.stream, p);
        if (error != nullptr) break;
        Parameters q = {f.rates,
                        f.channels,
                        plan.groups,
                        directions,
                        s.width,
                        plan.padded_width,
                        s.d_state,
                        plan.padded_states,
                        s.geometric,
                        {first(second.A), first(second.D), first(second.dt_bias)},
                        {end(second.A), end(second.D), end(second.dt_bias)},
                        {static_cast<float*>(grad[d].A), static_cast<float*>(grad[d].D),
                         static_cast<float*>(grad[d].dt_bias)}};
        const int64_t outputs = s.width * ((s.geometric ? 1 : s.d_state) + 2);
        error = launch(sum_parameters, tiles_of(outputs, kSumThreads), kSumThreads, 0,
                       call.stream, q);
    }
    return error;
}

} // namespace
