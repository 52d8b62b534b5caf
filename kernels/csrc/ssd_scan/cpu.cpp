// Mamba-2's scan on the CPU, in its matrix form (arXiv 2405.21060, section 6).
//
// Inside a chunk of frames y = W x with W[i, j] = (C[i] . B[j]) L[i, j] delta[j], where L[i, j] is
// the product of the decays of frames j+1 .. i. A clip of up to kLongestChunk frames is one chunk
// and needs no state at all; between chunks the state is carried as N rows of P lanes. One item of
// work is one group of heads at one location, all of whose numbers stay in the nearest caches.
#include "api.h"

#include "../parallel.h"
#include "products.h"

namespace {

// beyond it, at P = N = 64, carrying a state costs less than the longer product
constexpr int64_t kLongestChunk = 128;

// frames of one head or group at one location, in the order of the scan
template <class T> struct Frames {
    T* data;
    int64_t stride;
    T* operator[](int64_t f) const { return data + f * stride; }
    explicit operator bool() const { return data != nullptr; }
};

template <class T> class Scan {
    typedef Compute<T> A;
    const ua_ssd_scan* a;
    int64_t F, P, N, p, n, t; // frames, width, d_state; P, N and chunk padded to whole vectors
    int64_t chunk, chunks;    // frames a chunk, a multiple of kRows where there are several
    int64_t b, s, location;

    // scratch memory
    A *B, *C, *G;              // (F, n), (F, n), (F, t): G[i, j] = C[i] . B[j] inside a chunk
    A *x, *y, *W, *L;          // (F, p), (chunk, p), (chunk, t), one row (t)
    A *delta, *decay, *slope;  // (F): step, exp(A * step), d step / d dt
    A *from_start, *to_end;    // (chunk): product of the decays up to a frame, and after it
    A *state, *scaled;         // (N, p), (chunk, n)
    A* turned;                 // a transposed matrix
    A *dy, *dgate;             // (F, p): gradients of y + D x, and of z divided by y + D x
    A *dx, *M, *R;             // (chunk, p), (chunk, t), (chunk, n)
    A *dG, *dB, *dC;           // (F, t), (F, n), (F, n)
    A *entries, *dstate;       // (chunks, N, p): the state before each chunk, (N, p)
    A *dlog, *ddelta, *later;  // (chunk): of A * delta, of delta, sums over later frames

  public:
    int64_t size; // of the scratch memory, in values

    Scan(const ua_ssd_scan* a, A* scratch) : a(a), F(a->frames), P(a->width), N(a->d_state) {
        int64_t parts = (F + kLongestChunk - 1) / kLongestChunk;
        chunk = padded(a->chunk > 0 ? smaller(a->chunk, F) : (F + parts - 1) / parts, kRows);
        chunks = (F + chunk - 1) / chunk;
        p = padded(P, kLanes<A>), n = padded(N, kLanes<A>), t = padded(chunk, kLanes<A>);
        const int64_t rows = padded(F, kRows), steps = padded(F, kLanes<A>);
        size = 0;
        auto take = [&](A*& part, int64_t count) {
            part = scratch + size;
            size += padded(count, kLanes<A>);
        };
        take(B, rows * n), take(C, rows * n), take(G, rows * t);
        take(x, rows * p), take(y, chunk * p), take(W, chunk * t), take(L, t);
        take(delta, steps), take(decay, steps), take(slope, steps);
        take(from_start, t), take(to_end, t);
        take(state, n * p), take(scaled, chunk * n);
        take(turned, p * n > p * t ? (p * n > n * t ? p * n : n * t) : (p > n ? p : n) * t);
        if (!a->backward) return;
        take(dy, rows * p), take(dgate, rows * p), take(dx, chunk * p), take(M, chunk * t), take(R, chunk * n);
        take(dG, rows * t), take(dB, rows * n), take(dC, rows * n);
        take(entries, carries() ? chunks * n * p : 0), take(dstate, n * p);
        take(dlog, t), take(ddelta, t), take(later, t);
    }

    void forward(int64_t batch, int64_t space, int64_t group) {
        begin_group(batch, space, group);
        const int64_t shared = a->heads / a->groups;
        for (int64_t h = group * shared; h < (group + 1) * shared; ++h) forward_head(h);
    }

    void backward(int64_t batch, int64_t space, int64_t group) {
        begin_group(batch, space, group);
        clear(dG, F * t), clear(dB, F * n), clear(dC, F * n);
        const int64_t shared = a->heads / a->groups;
        for (int64_t h = group * shared; h < (group + 1) * shared; ++h) backward_head(h);
        for (int64_t first = 0; first < F; first += chunk) {
            const int64_t count = smaller(chunk, F - first);
            const A* slopes = dG + first * t;
            multiply(dC + first * n, n, count, N, slopes, t, 1, B + first * n, n, count, kLowerLeft,
                     true);
            multiply(dB + first * n, n, count, N, slopes, 1, t, C + first * n, n, count, kUpperLeft,
                     true);
        }
        unpack(frames_of<T>(a->grad_B, group), dB);
        unpack(frames_of<T>(a->grad_C, group), dC);
    }

  private:
    bool carries() const { return chunks > 1 || a->initial_state; }

    template <class U> Frames<U> frames_of(const ua_array& array, int64_t head) const {
        if (!array.data) return {nullptr, 0};
        const int64_t* step = array.stride;
        U* data = static_cast<U*>(array.data) + b * step[0] + s * step[2] + head * step[3];
        if (!a->reverse) return {data, step[1]};
        return {data + (F - 1) * step[1], -step[1]};
    }
    // of dt, whose dense axis is that of the heads
    template <class U> Frames<U> steps_of(ua_array array, int64_t head) const {
        array.stride[3] = 1;
        return frames_of<U>(array, head);
    }

    void pack(A* rows, int64_t row, Frames<const T> from, int64_t width) const {
        for (int64_t f = 0; f < F; ++f) {
            for (int64_t c = 0; c < width; c += kLanes<A>) {
                store(rows + f * row + c, load(from[f] + c, smaller(width - c, kLanes<A>)));
            }
        }
    }
    void unpack(Frames<T> to, const A* rows) const {
        for (int64_t f = 0; f < F; ++f) {
            for (int64_t c = 0; c < N; c += kLanes<A>) {
                store(to[f] + c, load(rows + f * n + c), smaller(N - c, kLanes<A>));
            }
        }
    }

    // states lie in memory as (P, N) and in scratch as (N, p)
    A* state_of(void* states, int64_t h) const {
        return static_cast<A*>(states) + (location * a->heads + h) * P * N;
    }
    void enter(A* rows, void* states, int64_t h) const {
        transpose(rows, p, state_of(states, h), N, P, N);
    }
    void leave(void* states, int64_t h, const A* rows) const {
        transpose(state_of(states, h), N, rows, p, N, P);
    }

    void begin_group(int64_t batch, int64_t space, int64_t group) {
        b = batch, s = space, location = batch * a->space + space;
        pack(B, n, frames_of<const T>(a->B, group), N);
        pack(C, n, frames_of<const T>(a->C, group), N);
        for (int64_t first = 0; first < F; first += chunk) {
            const int64_t count = smaller(chunk, F - first);
            transpose(turned, t, B + first * n, n, count, N);
            multiply(G + first * t, t, count, count, C + first * n, n, 1, turned, t, N,
                     kLowerResult, false);
        }
    }

    void begin_head(int64_t h) {
        pack(x, p, frames_of<const T>(a->x, h), P);
        const Frames<const T> dt = steps_of<const T>(a->dt, h);
        const A bias = a->dt_bias ? static_cast<const A*>(a->dt_bias)[h] : 0;
        const A rate = static_cast<const A*>(a->A)[h];
        for (int64_t f = 0; f < F; ++f) delta[f] = widen(*dt[f]) + bias;
        for (int64_t f = F; f < padded(F, kLanes<A>); ++f) delta[f] = 0;
        for (int64_t f = 0; f < F; f += kLanes<A>) {
            Vector<A> raw = load(delta + f), step = a->softplus ? softplus(raw) : raw;
            store(slope + f, a->softplus ? sigmoid(raw) : broadcast(A(1)));
            store(delta + f, step);
            store(decay + f, exp(step * rate));
        }
        if (a->initial_state) {
            enter(state, a->initial_state, h);
        } else if (carries()) {
            clear(state, n * p);
        }
    }

    void begin_chunk(int64_t first, int64_t count) {
        A product = 1;
        for (int64_t i = 0; i < count; ++i) from_start[i] = product *= decay[first + i];
        product = 1;
        for (int64_t i = count - 1; i >= 0; --i) {
            to_end[i] = product;
            product *= decay[first + i];
        }
    }

    // turns L[i - 1, :] into L[i, :]: the decay of frame i enters, and i itself begins at 1
    void next_row(int64_t i, A decay_i) {
        if (i == 0) clear(L, t);
        scale_row(L, decay_i, L, i);
        L[i] = 1;
    }

    // y = W x of a chunk, plus what the state before it adds
    void product(int64_t first, int64_t count, const A* entry) {
        for (int64_t i = 0; i < count; ++i) {
            next_row(i, decay[first + i]);
            for (int64_t j = 0; j <= i; j += kLanes<A>) {
                store(W + i * t + j, load(G + (first + i) * t + j) * load(L + j) *
                                         load_steps(first + j, count - j));
            }
        }
        multiply(y, p, count, P, W, t, 1, x + first * p, p, count, kLowerLeft, false);
        if (!entry) return;
        for (int64_t i = 0; i < count; ++i) {
            scale_row(scaled + i * n, from_start[i], C + (first + i) * n, n);
        }
        multiply(y, p, count, P, scaled, n, 1, entry, p, N, kFull, true);
    }
    Vector<A> load_steps(int64_t first, int64_t left) const {
        return load(delta + first, smaller(left, kLanes<A>));
    }

    // the state behind a chunk from the state before it
    void advance(int64_t first, int64_t count) {
        weigh_inputs(first, count);
        for (int64_t r = 0; carries() && r < N; ++r) {
            scale_row(state + r * p, from_start[count - 1], state + r * p, p);
        }
        multiply(state, p, N, P, scaled, 1, n, x + first * p, p, count, kFull, carries());
    }
    // scaled = what a frame's B weighs in the state behind the chunk
    void weigh_inputs(int64_t first, int64_t count) {
        for (int64_t j = 0; j < count; ++j) {
            scale_row(scaled + j * n, to_end[j] * delta[first + j], B + (first + j) * n, n);
        }
    }

    // y + D x of frame i of a chunk, at channel k
    Vector<A> ungated(int64_t first, int64_t i, int64_t k, A D) const {
        return load(y + i * p + k) + D * load(x + (first + i) * p + k);
    }

    void forward_head(int64_t h) {
        const A D = a->D ? static_cast<const A*>(a->D)[h] : 0;
        const Frames<const T> z = frames_of<const T>(a->z, h);
        const Frames<T> out = frames_of<T>(a->out, h);
        // needed last, and asked for first: the frames of a location lie far apart
        for (int64_t f = 0; f < F; ++f) {
            for (int64_t k = 0; k < P; k += kLanes<A>) {
                if (z) __builtin_prefetch(z[f] + k);
                __builtin_prefetch(out[f] + k, 1);
            }
        }
        begin_head(h);
        for (int64_t c = 0; c < chunks; ++c) {
            const int64_t first = c * chunk, count = smaller(chunk, F - first);
            begin_chunk(first, count);
            product(first, count, c > 0 || a->initial_state ? state : nullptr);
            for (int64_t i = 0; i < count; ++i) {
                for (int64_t k = 0; k < P; k += kLanes<A>) {
                    const int lanes = smaller(P - k, kLanes<A>);
                    Vector<A> v = ungated(first, i, k, D);
                    if (z) v *= silu(load(z[first + i] + k, lanes));
                    store(out[first + i] + k, v, lanes);
                }
            }
            if (c + 1 < chunks || a->final_state) advance(first, count);
        }
        if (a->final_state) leave(a->final_state, h, state);
    }

    void backward_head(int64_t h) {
        begin_head(h);
        const A D = a->D ? static_cast<const A*>(a->D)[h] : 0;
        const A rate = static_cast<const A*>(a->A)[h];
        const A dD = gate(h);
        for (int64_t c = 0; carries() && c < chunks; ++c) {
            memcpy(entries + c * n * p, state, n * p * sizeof(A));
            const int64_t first = c * chunk, count = smaller(chunk, F - first);
            begin_chunk(first, count);
            if (c + 1 < chunks) advance(first, count);
        }
        if (a->grad_final_state) enter(dstate, a->grad_final_state, h);

        A dA = 0, dbias = 0;
        const Frames<T> grad_x = frames_of<T>(a->grad_x, h), grad_z = frames_of<T>(a->grad_z, h);
        const Frames<T> grad_dt = steps_of<T>(a->grad_dt, h);
        for (int64_t c = chunks - 1; c >= 0; --c) {
            const int64_t first = c * chunk, count = smaller(chunk, F - first);
            const A* entry = c > 0 || a->initial_state ? entries + c * n * p : nullptr;
            begin_chunk(first, count);
            product(first, count, entry);
            product_backward(first, count);
            const bool left = c + 1 < chunks || a->grad_final_state;
            if (left) left_state_backward(first, count);
            if (entry) entry_backward(first, count, entry, left);
            for (int64_t i = 0; i < count; ++i) {
                for (int64_t k = 0; k < P; k += kLanes<A>) {
                    const int lanes = smaller(P - k, kLanes<A>);
                    const int64_t at = (first + i) * p + k;
                    store(grad_x[first + i] + k, load(dx + i * p + k) + D * load(dy + at), lanes);
                    if (!grad_z) continue;
                    store(grad_z[first + i] + k, load(dgate + at) * ungated(first, i, k, D), lanes);
                }
            }
            for (int64_t i = 0; i < count; ++i) {
                dA += delta[first + i] * dlog[i];
                const A raw = (ddelta[i] + rate * dlog[i]) * slope[first + i];
                dbias += raw;
                store(grad_dt[first + i], broadcast(raw), 1);
            }
        }
        const int64_t row = location * a->heads + h;
        static_cast<A*>(a->grad_A)[row] = dA;
        if (a->grad_D) static_cast<A*>(a->grad_D)[row] = dD;
        if (a->grad_dt_bias) static_cast<A*>(a->grad_dt_bias)[row] = dbias;
        if (a->grad_initial_state) leave(a->grad_initial_state, h, dstate);
    }

    // fills dy and dgate; returns the gradient of D
    A gate(int64_t h) {
        const Frames<const T> grad = frames_of<const T>(a->grad_out, h);
        const Frames<const T> z = frames_of<const T>(a->z, h);
        Vector<A> dD{};
        for (int64_t f = 0; f < F; ++f) {
            for (int64_t k = 0; k < P; k += kLanes<A>) {
                const int lanes = smaller(P - k, kLanes<A>);
                Vector<A> v = load(grad[f] + k, lanes);
                if (z) {
                    const Vector<A> raw = load(z[f] + k, lanes), open = sigmoid(raw);
                    store(dgate + f * p + k, v * silu_slope(raw, open));
                    v *= raw * open;
                }
                store(dy + f * p + k, v);
                dD += v * load(x + f * p + k);
            }
        }
        return sum<A>(dD);
    }

    // through y = W x: starts dx, ddelta and dlog, adds to dG
    void product_backward(int64_t first, int64_t count) {
        transpose(turned, t, x + first * p, p, count, P);
        multiply(M, t, count, count, dy + first * p, p, 1, turned, t, P, kLowerResult, false);
        clear(ddelta, t);
        for (int64_t i = 0; i < count; ++i) {
            next_row(i, decay[first + i]);
            for (int64_t j = 0; j <= i; j += kLanes<A>) {
                const Vector<A> dW = load(M + i * t + j) * load(L + j);
                const Vector<A> step = load_steps(first + j, count - j);
                const Vector<A> dstep = dW * load(G + (first + i) * t + j);
                A* slopes = dG + (first + i) * t + j;
                store(slopes, load(slopes) + dW * step);
                store(ddelta + j, load(ddelta + j) + dstep);
                store(M + i * t + j, dstep * step);
            }
        }
        // the decay of frame f is in the pairs i >= f > j; a difference of sums over i and over j
        // would cancel badly
        clear(later, t);
        for (int64_t f = count - 1; f >= 0; --f) {
            Vector<A> total{};
            for (int64_t j = 0; j < f; j += kLanes<A>) {
                store(later + j, load(later + j) + load(M + f * t + j));
                total += load(later + j, smaller(f - j, kLanes<A>));
            }
            dlog[f] = sum<A>(total);
        }
        multiply(dx, p, count, P, W, 1, t, dy + first * p, p, count, kUpperLeft, false);
    }

    // through the part of the state behind the chunk that the chunk's frames put in
    void left_state_backward(int64_t first, int64_t count) {
        weigh_inputs(first, count);
        multiply(dx, p, count, P, scaled, n, 1, dstate, p, N, kFull, true);
        transpose(turned, n, dstate, p, N, P);
        multiply(R, n, count, N, x + first * p, p, 1, turned, n, P, kFull, false);
        A before = 0;
        for (int64_t j = 0; j < count; ++j) {
            const A step = delta[first + j];
            const A dstep = to_end[j] * dot(B + (first + j) * n, R + j * n, n);
            ddelta[j] += dstep;
            dlog[j] += before;
            before += step * dstep;
            scale_row(dB + (first + j) * n, to_end[j] * step, R + j * n, n, true);
        }
    }

    // through what the state before the chunk adds to its outputs and to the state behind it;
    // dstate becomes the gradient of the state before
    void entry_backward(int64_t first, int64_t count, const A* entry, bool left) {
        transpose(turned, n, entry, p, N, P);
        multiply(R, n, count, N, dy + first * p, p, 1, turned, n, P, kFull, false);
        const A whole = from_start[count - 1];
        A after = 0;
        for (int64_t r = 0; left && r < N; ++r) {
            after += whole * dot(dstate + r * p, entry + r * p, p);
            scale_row(dstate + r * p, whole, dstate + r * p, p);
        }
        for (int64_t i = count - 1; i >= 0; --i) {
            after += from_start[i] * dot(C + (first + i) * n, R + i * n, n);
            dlog[i] += after;
            scale_row(dC + (first + i) * n, from_start[i], R + i * n, n, true);
            scale_row(scaled + i * n, from_start[i], C + (first + i) * n, n);
        }
        multiply(dstate, p, N, P, scaled, 1, n, dy + first * p, p, count, kFull, left);
    }
};

// slots of scratch memory: each serves a fixed run of locations, so that no thread needs a name
int64_t slots_of(const ua_ssd_scan* a) {
    return smaller(a->batch * a->space * a->groups, 4 * a->call.threads);
}

template <class T, class Run> const char* over_groups(const ua_ssd_scan* a, const Run& run) {
    const int64_t items = a->batch * a->space * a->groups, slots = slots_of(a);
    parallel_for(a->call.threads, slots, [&](int64_t slot) {
        const int64_t values = a->workspace_size / slots / sizeof(Compute<T>);
        Scan<T> scan(a, static_cast<Compute<T>*>(a->workspace) + slot * values);
        for (int64_t i = items * slot / slots; i < items * (slot + 1) / slots; ++i) {
            const int64_t location = i / a->groups;
            run(scan, location / a->space, location % a->space, i % a->groups);
        }
    });
    return nullptr;
}

} // namespace

UA_ENTRY(ssd_scan_plan)(ua_ssd_scan* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        a->workspace_size = slots_of(a) * Scan<T>(a, nullptr).size * sizeof(Compute<T>);
        return nullptr;
    });
}

UA_ENTRY(ssd_scan_forward)(const ua_ssd_scan* a) {
    return with_dtype(a, [&](auto tag) {
        return over_groups<decltype(tag)>(
            a, [](auto& scan, int64_t b, int64_t s, int64_t g) { scan.forward(b, s, g); });
    });
}

UA_ENTRY(ssd_scan_backward)(const ua_ssd_scan* a) {
    return with_dtype(a, [&](auto tag) {
        return over_groups<decltype(tag)>(
            a, [](auto& scan, int64_t b, int64_t s, int64_t g) { scan.backward(b, s, g); });
    });
}
