// Mamba-2's scan on a GPU, in its matrix form (arXiv 2405.21060, section 6), like cpu.cpp.
//
// A block takes one location and some heads of a group, and walks the chunks of the clip: as many
// frames as shared memory holds, a whole clip of up to 68 at P = N = 64. Inside one y = W x with
// W[i, j] = (C[i] . B[j]) L[i, j] delta[j]; C B^T is computed once for all heads of the block. All
// products run in float32 from shared memory, a tile of 4 x 4 results a thread. States (P, N) are
// read and written only between chunks and where the caller has or wants one. Backward first sweeps
// forwards for the states between chunks, if there are several, then recomputes each chunk from the
// last to the first. dB and dC are summed over the heads of a block in shared memory; where several
// blocks share a location each leaves its sum, and a second kernel adds them: there are no atomics.
#include "api.h"

#include "backward.cuh"
#include "forward.cuh"

namespace {

constexpr int64_t kWidest = 128;       // channels of a head, and states
constexpr int64_t kLongestChunk = 112; // its products alone would fill
// what a block may have on every GPU from sm_80 on: it sets the length of the chunks
constexpr int64_t kSharedBytes = 99 * 1024;
constexpr int64_t kBlocksPerMultiprocessor = 4; // wanted at least, if the heads give as many
constexpr int64_t kShortChunk = 40;             // has work for half the threads

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Lays out shared memory for a chunk of the job.
Layout layout(const Job& job) {
    const int chunk = job.chunk, P = job.a.width, N = job.a.d_state;
    const bool backward = job.a.backward, carries = job.carries;
    Layout at = {row_of(P), row_of(N), row_of(chunk)};
    auto take = [&](int& part, int count) { part = at.size, at.size += 4 * quads(count); };
    take(at.B, chunk * at.row_N), take(at.C, chunk * at.row_N);
    const int projections = at.size;
    if (!carries) at.size = 0;
    take(at.x, chunk * at.row_P), take(at.dy, backward ? chunk * at.row_P : 0);
    if (at.size < projections) at.size = projections;
    take(at.state, carries ? 4 * quads(P) * at.row_N : 0);
    take(at.G, chunk * at.row_chunk), take(at.W, chunk * at.row_chunk);
    for (int* row : {&at.delta, &at.slope, &at.log_high, &at.log_low, &at.from_start, &at.to_end}) {
        take(*row, chunk);
    }
    if (!backward) return at;
    take(at.dG, chunk * at.row_chunk);
    take(at.dB, carries ? chunk * at.row_N : 0), take(at.dC, carries ? chunk * at.row_N : 0);
    take(at.partial, carries ? chunk * quads(P) : 0), take(at.sums, 32);
    for (int* row : {&at.put, &at.got, &at.of_D, &at.of_A, &at.of_bias}) take(*row, chunk);
    return at;
}

size_t shared_bytes(const Job& job) { return job.at.size * sizeof(float); }

// How a call is divided and where its parts lie in the workspace.
struct Plan {
    Job job;
    int64_t blocks, threads;
    int64_t entries, grad_states, shares; // floats in the workspace

    explicit Plan(const ua_ssd_scan& a) : job{a} {
        const bool has_states =
            a.initial_state || (a.backward ? a.grad_final_state : a.final_state);
        int64_t longest = a.chunk > 0 && a.chunk < kLongestChunk ? a.chunk : kLongestChunk;
        for (;; longest -= 4) {
            const int64_t chunk = ceil_div(a.frames, ceil_div(a.frames, longest));
            job.chunk = static_cast<int>(4 * ceil_div(chunk, 4));
            job.chunks = static_cast<int>(ceil_div(a.frames, job.chunk));
            job.carries = has_states || job.chunks > 1;
            job.at = layout(job);
            if (shared_bytes(job) <= kSharedBytes || longest <= 4) break;
        }
        threads = job.chunk <= kShortChunk ? kThreads / 2 : kThreads;
        const int64_t items = a.batch * a.space * a.groups, heads = a.heads / a.groups;
        const int64_t wanted = kBlocksPerMultiprocessor * multiprocessors(a.call.device);
        const int64_t parts = ceil_div(wanted, items);
        job.parts = static_cast<int>(parts < heads ? parts : heads);
        blocks = items * job.parts;
        const int64_t states = a.batch * a.space * a.heads * a.width * a.d_state;
        const int64_t between = a.backward ? job.chunks - 1 : job.chunks > 1 && !a.final_state;
        entries = between * states;
        grad_states = a.backward && job.chunks > 1 && !a.grad_initial_state ? states : 0;
        shares = a.backward && job.parts > 1 ? 2 * job.parts * share_size() : 0;
    }
    // of dB or dC
    int64_t share_size() const {
        const ua_ssd_scan& a = job.a;
        return a.batch * a.frames * a.space * a.groups * a.d_state;
    }
    int64_t bytes() const { return (entries + grad_states + shares) * sizeof(float); }

    Job placed() const {
        Job placed = job;
        float* workspace = static_cast<float*>(job.a.workspace);
        placed.states = workspace;
        placed.grad_states = workspace + entries;
        placed.shares = workspace + entries + grad_states;
        if (job.a.grad_initial_state) {
            placed.grad_states = static_cast<float*>(job.a.grad_initial_state);
        }
        return placed;
    }
};

const char* refusal(const ua_ssd_scan* a) {
    if (a->width <= kWidest && a->d_state <= kWidest) return nullptr;
    return "the CUDA code takes heads of up to 128 channels and up to 128 states";
}

template <class T> const char* forward(const ua_ssd_scan& a) {
    const Plan plan(a);
    Job job = plan.placed();
    if (a.final_state) job.states = static_cast<float*>(a.final_state);
    return launch(ssd_forward<T>, plan.blocks, plan.threads, shared_bytes(job), a.call.stream, job);
}

// the state behind every chunk but the last, in backward's chunks
template <class T> const char* sweep(const Plan& plan, Job job) {
    job.a.backward = 0;
    job.a.out.data = job.a.final_state = nullptr;
    job.at = layout(job);
    return launch(ssd_forward<T>, plan.blocks, plan.threads, shared_bytes(job), job.a.call.stream,
                  job);
}

template <class T> const char* backward(const ua_ssd_scan& a) {
    const Plan plan(a);
    Job job = plan.placed();
    job.state_step = a.batch * a.space * a.heads * a.width * a.d_state;
    void* stream = a.call.stream;
    const char* error = nullptr;
    if (job.chunks > 1) error = sweep<T>(plan, job);
    if (error) return error;
    error = launch(ssd_backward<T>, plan.blocks, plan.threads, shared_bytes(job), stream, job);
    void* const sums[2] = {a.grad_B.data, a.grad_C.data};
    for (int which = 0; which < 2 && job.parts > 1 && !error; ++which) {
        const int64_t size = plan.share_size();
        error = launch(ssd_sum_shares<T>, ceil_div(size, kThreads), kThreads, 0, stream,
                       job.shares + which * job.parts * size, size, job.parts, sums[which]);
    }
    return error;
}

} // namespace

UA_ENTRY(ssd_scan_plan)(ua_ssd_scan* a) {
    if (const char* reason = refusal(a)) return reason;
    a->workspace_size = Plan(*a).bytes();
    return nullptr;
}

UA_ENTRY(ssd_scan_forward)(const ua_ssd_scan* a) {
    return with_dtype(a, [=](auto tag) { return forward<decltype(tag)>(*a); });
}

UA_ENTRY(ssd_scan_backward)(const ua_ssd_scan* a) {
    return with_dtype(a, [=](auto tag) { return backward<decltype(tag)>(*a); });
}
