// The selective scan on the CPU in one or two directions of time, forward and backward.
//
// A thread takes one location and a block of channels: it widens x, softplus(dt), B and C of all
// frames into scratch memory (L1 or L2), runs the recurrence with lanes over the channels and the
// states in registers, and writes the gated rows. Backward replays the states of a strip of
// kStates states into scratch memory and unwinds them; sums over channels stay vectors until the
// location is done, sums over locations are one partial for each of kPartials ranges of them.
#pragma once
#include "api.h"

#include "../parallel.h"
#include "../simd.h"
#include "recurrence.h"

namespace {

constexpr int64_t kStates = 16;   // states held in registers
constexpr int64_t kPartials = 64; // ranges of locations that sum parameter gradients on their own

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t tiles_of(int64_t width, int64_t lanes) { return (width + lanes - 1) / lanes; }

// ---- what is computed

struct Direction {
    bool reverse;
    ua_scan_inputs in;
    ua_scan_gradients grad;
    // false: what the first direction has too, so that it is read, computed and summed once
    bool own_x, own_dt, own_bias, own_A, own_B, own_C, own_D;
    bool own_delta() const { return own_dt || own_bias; }
    bool own_decay() const { return own_delta() || own_A; }
};

struct Scan {
    ua_call call;
    ua_scan_sizes sizes;
    int directions;
    Direction direction[2];
    ua_array z, grad_out;
    void *initial_state, *final_state, *grad_initial_state, *grad_final_state;
    void *out, *grad_z, *workspace;

    int64_t locations() const { return sizes.batch * sizes.space; }
    int64_t partials() const { return at_most(kPartials, locations()); }
    // decays are computed once and kept for the second direction
    bool keeps_decays() const {
        return directions == 2 && !sizes.geometric && !direction[1].own_decay();
    }
};

inline Direction only_direction(const ua_scan_inputs& in, const ua_scan_gradients& grad,
                                bool reverse) {
    return {reverse, in, grad, true, true, true, true, true, true, true};
}

// the second direction, in which NULL means the tensor of the first
inline Direction second_direction(const ua_scan_inputs& first, const ua_scan_inputs& own,
                                  const ua_scan_gradients& grad) {
    Direction d = {true, first, grad};
    d.own_x = own.x.data != nullptr;
    d.own_dt = own.dt.data != nullptr;
    d.own_B = own.B.data != nullptr;
    d.own_C = own.C.data != nullptr;
    d.own_A = own.A != nullptr;
    d.own_D = own.D != nullptr;
    d.own_bias = own.dt_bias != nullptr;
    if (d.own_x) d.in.x = own.x;
    if (d.own_dt) d.in.dt = own.dt;
    if (d.own_B) d.in.B = own.B;
    if (d.own_C) d.in.C = own.C;
    if (d.own_A) d.in.A = own.A;
    if (d.own_D) d.in.D = own.D;
    if (d.own_bias) d.in.dt_bias = own.dt_bias;
    return d;
}

// ---- scratch memory: the same code measures it (base NULL) and hands it out

template <class A> struct Arena {
    A* base;
    int64_t used;
    A* take(int64_t count) {
        A* taken = base == nullptr ? nullptr : base + used;
        used += tiles_of(count, kLanes<A>) * kLanes<A>;
        return taken;
    }
};

// of one direction, in one thread
template <class A> struct Track {
    A *x, *delta, *decay;       // (F, kBlock); decay = exp(delta A) where decays are geometric
    A *slope;                   // (F, kBlock) d delta / d dt
    A *B, *C;                   // (F, N)
    A *grad_x, *grad_delta;     // (F, kBlock)
    A *sums_B, *sums_C;         // (F, N, lanes) their gradients before the sum over the lanes
    const A* rates;             // (tiles, N, lanes) of A / ln 2, or (tiles, lanes); all threads
};

template <class A> struct Scratch {
    Track<A> track[2];
    A *y, *grad_y; // (F, kBlock)
    A *state;      // (N, lanes)
    A *decays;     // (F, kStates, lanes)
    A *states;     // (F + 1, kStates, lanes)
};

template <class A> Scratch<A> take_scratch(Arena<A>& arena, const Scan& s, bool backward) {
    Scratch<A> r = {};
    int64_t rows = s.sizes.frames * kBlock, projections = s.sizes.frames * s.sizes.d_state;
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        Track<A>&t = r.track[i], &first = r.track[0];
        t.x = d.own_x ? arena.take(rows) : first.x;
        t.delta = d.own_delta() ? arena.take(rows) : first.delta;
        t.decay = first.decay;
        if (s.sizes.geometric && d.own_decay()) t.decay = arena.take(rows);
        t.B = d.own_B ? arena.take(projections) : first.B;
        t.C = d.own_C ? arena.take(projections) : first.C;
        if (!backward) continue;
        t.slope = d.own_delta() ? arena.take(rows) : first.slope;
        t.grad_x = d.own_x ? arena.take(rows) : first.grad_x;
        t.grad_delta = d.own_delta() ? arena.take(rows) : first.grad_delta;
        t.sums_B = d.own_B ? arena.take(projections * kLanes<A>) : first.sums_B;
        t.sums_C = d.own_C ? arena.take(projections * kLanes<A>) : first.sums_C;
    }
    r.y = arena.take(rows);
    r.state = arena.take(s.sizes.d_state * kLanes<A>);
    if (backward || s.keeps_decays()) {
        r.decays = arena.take(s.sizes.frames * kStates * kLanes<A>);
    }
    if (backward) {
        r.grad_y = arena.take(rows);
        r.states = arena.take((s.sizes.frames + 1) * kStates * kLanes<A>);
    }
    return r;
}

// sums of the parameters' gradients over one range of locations, laid out like Track::rates
template <class A> struct Partial {
    A *A_[2], *D[2], *dt_bias[2];
};

template <class A> Partial<A> take_partial(Arena<A>& arena, const Scan& s) {
    Partial<A> r = {};
    int64_t width = tiles_of(s.sizes.width, kLanes<A>) * kLanes<A>;
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        int64_t rates = s.sizes.geometric ? width : width * s.sizes.d_state;
        r.A_[i] = d.own_A ? arena.take(rates) : r.A_[0];
        r.D[i] = d.own_D ? arena.take(width) : r.D[0];
        r.dt_bias[i] = d.own_bias ? arena.take(width) : r.dt_bias[0];
    }
    return r;
}

template <class A> struct Workspace {
    A *rates[2], *scratch, *partials;
    int64_t scratch_size, partial_size, size;
};

template <class A> Workspace<A> take_workspace(const Scan& s, bool backward) {
    Workspace<A> w = {};
    Arena<A> arena = {static_cast<A*>(s.workspace), 0}, one = {}, partial = {};
    take_scratch(one, s, backward);
    w.scratch_size = one.used;
    int64_t width = tiles_of(s.sizes.width, kLanes<A>) * kLanes<A>;
    for (int i = 0; i < s.directions; ++i) {
        int64_t rates = s.sizes.geometric ? width : width * s.sizes.d_state;
        w.rates[i] = s.direction[i].own_A ? arena.take(rates) : w.rates[0];
    }
    w.scratch = arena.take(s.call.threads * w.scratch_size);
    if (backward) {
        take_partial(partial, s);
        w.partial_size = partial.used;
        w.partials = arena.take(s.partials() * w.partial_size);
    }
    w.size = arena.used;
    return w;
}

template <class A> Scratch<A> scratch_of(const Workspace<A>& w, const Scan& s, bool backward,
                                         int64_t worker) {
    Arena<A> arena = {w.scratch + worker * w.scratch_size, 0};
    Scratch<A> r = take_scratch(arena, s, backward);
    for (int i = 0; i < s.directions; ++i) r.track[i].rates = w.rates[i];
    return r;
}

// ---- widening into scratch memory

// a location and its channels [c, c + width), width <= kBlock
struct Place {
    int64_t b, s, c, width;
};

template <class T> const T* row(const ua_array& a, const Place& p, int64_t f) {
    return static_cast<const T*>(a.data) + p.b * a.stride[0] + f * a.stride[1] + p.s * a.stride[2];
}

// row of a contiguous (B, F, S, width) tensor
template <class T> T* row(void* data, const Scan& s, const Place& p, int64_t f, int64_t width) {
    int64_t index = (p.b * s.sizes.frames + f) * s.sizes.space + p.s;
    return static_cast<T*>(data) + index * width;
}

// runs body(c, n) for the vectors of a row: n lanes from c
template <class A, class Body> void over_lanes(int64_t width, const Body& body) {
    for (int64_t c = 0; c < width; c += kLanes<A>) {
        body(c, static_cast<int>(at_most(width - c, kLanes<A>)));
    }
}

template <class T>
void widen_rows(const ua_array& a, const Scan& s, const Place& p, int64_t c, int64_t width,
                Compute<T>* to, int64_t stride) {
    typedef Compute<T> A;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        const T* from = row<T>(a, p, f) + c;
        over_lanes<A>(width, [&](int64_t i, int n) { store(to + f * stride + i, load(from + i, n), n); });
    }
}

template <class T>
void read_projections(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        int64_t N = s.sizes.d_state;
        if (d.own_B) widen_rows<T>(d.in.B, s, p, 0, N, r.track[i].B, N);
        if (d.own_C) widen_rows<T>(d.in.C, s, p, 0, N, r.track[i].C, N);
    }
}

// x, delta and what follows from it, of the block's channels; lanes beyond them read as zero
template <class T>
void read_channels(const Scan& s, const Scratch<Compute<T>>& r, const Place& p, bool backward) {
    typedef Compute<T> A;
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        const Track<A>& t = r.track[i];
        const A* bias = static_cast<const A*>(d.in.dt_bias);
        bool decay = s.sizes.geometric && d.own_decay();
        for (int64_t f = 0; f < s.sizes.frames; ++f) {
            const T *x = row<T>(d.in.x, p, f) + p.c, *dt = row<T>(d.in.dt, p, f) + p.c;
            over_lanes<A>(p.width, [&](int64_t c, int n) {
                int64_t at = f * kBlock + c;
                if (d.own_x) store(t.x + at, load(x + c, n));
                if (d.own_delta()) {
                    Vector<A> delta = load(dt + c, n);
                    if (bias != nullptr) delta += load(bias + p.c + c, n);
                    if (backward) {
                        store(t.slope + at, s.sizes.softplus ? sigmoid(delta) : broadcast(A(1)));
                    }
                    store(t.delta + at, s.sizes.softplus ? softplus(delta) : delta);
                }
                if (decay) store(t.decay + at, exp2(load(t.delta + at) * load(t.rates + p.c + c)));
            });
        }
    }
}

// y starts as the skip
template <class A> void start_output(const Scan& s, const Scratch<A>& r, const Place& p) {
    const A* skip = static_cast<const A*>(s.direction[0].in.D);
    const A* other = static_cast<const A*>(s.direction[s.directions - 1].in.D);
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            int64_t at = f * kBlock + c;
            Vector<A> y = {};
            if (skip != nullptr) y = load(skip + p.c + c, n) * load(r.track[0].x + at);
            if (skip != nullptr && s.directions == 2) {
                y += load(other + p.c + c, n) * load(r.track[1].x + at);
            }
            store(r.y + at, y);
        });
    }
}

// states [first, first + K) of n channels from c on, as (K, lanes); absent is zero
template <class A>
void read_state(const void* from, const Scan& s, const Place& p, int64_t c, int n, int64_t first,
                int K, A* state) {
    memset(state, 0, K * kLanes<A> * sizeof(A));
    if (from == nullptr) return;
    int64_t N = s.sizes.d_state, channel = (p.b * s.sizes.space + p.s) * s.sizes.width + p.c + c;
    const A* source = static_cast<const A*>(from) + channel * N + first;
    for (int k = 0; k < K; ++k) {
        for (int i = 0; i < n; ++i) state[k * kLanes<A> + i] = source[i * N + k];
    }
}
template <class A>
void write_state(void* to, const Scan& s, const Place& p, int64_t c, int n, int64_t first, int K,
                 const A* state) {
    if (to == nullptr) return;
    int64_t N = s.sizes.d_state, channel = (p.b * s.sizes.space + p.s) * s.sizes.width + p.c + c;
    A* target = static_cast<A*>(to) + channel * N + first;
    for (int i = 0; i < n; ++i) {
        for (int k = 0; k < K; ++k) target[i * N + k] = state[k * kLanes<A> + i];
    }
}

// ---- strips

template <class A>
Strip<A> strip_of(const Scan& s, const Scratch<A>& r, int i, const Place& p, int64_t c,
                  int64_t first) {
    constexpr int V = kLanes<A>;
    const Track<A>& t = r.track[i];
    int64_t N = s.sizes.d_state, tile = (p.c + c) / V;
    Strip<A> strip = {s.sizes.frames, N, first, s.direction[i].reverse};
    strip.x = t.x + c;
    strip.delta = t.delta + c;
    strip.decay = s.sizes.geometric ? t.decay + c : nullptr;
    strip.B = t.B + first;
    strip.C = t.C + first;
    strip.rates = t.rates + (s.sizes.geometric ? tile : tile * N + first) * V;
    strip.y = r.y + c;
    strip.state = r.state;
    strip.decays = r.decays;
    return strip;
}

template <class A, int K> void forward_strip(Decay decay, const Strip<A>& strip) {
    switch (decay) {
        case kFree: return sweep<A, K, kFree, false>(strip);
        case kKeep: return sweep<A, K, kKeep, false>(strip);
        case kReuse: return sweep<A, K, kReuse, false>(strip);
        case kGeometric: return sweep<A, K, kGeometric, false>(strip);
    }
}

template <class A, int K>
void scan_states(const Scan& s, const Scratch<A>& r, const Place& p, int64_t c, int n,
                 int64_t first) {
    for (int i = 0; i < s.directions; ++i) {
        Decay decay = s.sizes.geometric ? kGeometric
                      : !s.keeps_decays() ? kFree
                      : i == 0            ? kKeep
                                          : kReuse;
        read_state(s.initial_state, s, p, c, n, first, K, r.state);
        forward_strip<A, K>(decay, strip_of(s, r, i, p, c, first));
        write_state(s.final_state, s, p, c, n, first, K, r.state);
    }
}

template <class A, int K>
void scan_states_backward(const Scan& s, const Scratch<A>& r, const Partial<A>& partial,
                          const Place& p, int64_t c, int n, int64_t first) {
    constexpr int V = kLanes<A>;
    for (int i = 0; i < s.directions; ++i) {
        const Track<A>& t = r.track[i];
        Strip<A> strip = strip_of(s, r, i, p, c, first);
        strip.states = r.states;
        strip.grad_y = r.grad_y + c;
        strip.grad_x = t.grad_x + c;
        strip.grad_delta = t.grad_delta + c;
        strip.sums_B = t.sums_B + first * V;
        strip.sums_C = t.sums_C + first * V;
        strip.grad_A = partial.A_[i] + (strip.rates - t.rates);
        read_state(s.initial_state, s, p, c, n, first, K, r.state);
        if (s.sizes.geometric) {
            sweep<A, K, kGeometric, true>(strip);
        } else if (i == 1 && s.keeps_decays()) {
            sweep<A, K, kReuse, true>(strip);
        } else {
            sweep<A, K, kKeep, true>(strip);
        }
        read_state(s.grad_final_state, s, p, c, n, first, K, r.state);
        if (s.sizes.geometric) {
            unwind<A, K, kGeometric>(strip);
        } else {
            unwind<A, K, kReuse>(strip);
        }
        write_state(s.grad_initial_state, s, p, c, n, first, K, r.state);
    }
}

template <int K> struct States {
    static constexpr int count = K;
};

// runs body(States<K>, first) over all states, kStates at a time and then fewer
template <class Body> void over_states(int64_t d_state, const Body& body) {
    int64_t first = 0;
    for (; d_state - first >= kStates; first += kStates) body(States<kStates>{}, first);
    for (; d_state - first >= 4; first += 4) body(States<4>{}, first);
    for (; first < d_state; ++first) body(States<1>{}, first);
}

// (tiles, N, lanes) of A / ln 2 for each direction that has its own
template <class A> void fill_rates(const Scan& s, const Workspace<A>& w) {
    constexpr int V = kLanes<A>;
    int64_t N = s.sizes.geometric ? 1 : s.sizes.d_state;
    for (int i = 0; i < s.directions; ++i) {
        if (!s.direction[i].own_A) continue;
        const A* rates = static_cast<const A*>(s.direction[i].in.A);
        parallel_for(s.call.threads, tiles_of(s.sizes.width, V), [&](int64_t tile) {
            A* to = w.rates[i] + tile * N * V;
            int64_t lanes = at_most(s.sizes.width - tile * V, V);
            memset(to, 0, N * V * sizeof(A));
            for (int64_t lane = 0; lane < lanes; ++lane) {
                for (int64_t n = 0; n < N; ++n) {
                    to[n * V + lane] = rates[(tile * V + lane) * N + n] * A(M_LOG2E);
                }
            }
        });
    }
}

// ---- forward

template <class T> void write_output(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    typedef Compute<T> A;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        T* out = row<T>(s.out, s, p, f, s.sizes.width) + p.c;
        const T* z = s.z.data == nullptr ? nullptr : row<T>(s.z, p, f) + p.c;
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            Vector<A> y = load(r.y + f * kBlock + c);
            store(out + c, z == nullptr ? y : y * silu(Vector<A>(load(z + c, n))), n);
        });
    }
}

template <class T> void scan_forward(const Scan& s) {
    typedef Compute<T> A;
    Workspace<A> w = take_workspace<A>(s, false);
    fill_rates(s, w);
    int64_t blocks = tiles_of(s.sizes.width, kBlock);
    parallel_for_workers(s.call.threads, s.locations() * blocks, [&](int64_t item, int64_t worker) {
        Scratch<A> r = scratch_of(w, s, false, worker);
        int64_t location = item / blocks, c = item % blocks * kBlock;
        Place p = {location / s.sizes.space, location % s.sizes.space, c,
                   at_most(kBlock, s.sizes.width - c)};
        read_projections<T>(s, r, p);
        read_channels<T>(s, r, p, false);
        start_output(s, r, p);
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            over_states(s.sizes.d_state, [&](auto states, int64_t first) {
                scan_states<A, decltype(states)::count>(s, r, p, c, n, first);
            });
        });
        write_output<T>(s, r, p);
    });
}

// ---- backward

// the gradient before the gate, and where the gradients of x and delta start
template <class T> void start_gradients(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    typedef Compute<T> A;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        const T* grad = row<T>(s.grad_out, p, f) + p.c;
        const T* z = s.z.data == nullptr ? nullptr : row<T>(s.z, p, f) + p.c;
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            int64_t at = f * kBlock + c;
            Vector<A> g = load(grad + c, n);
            if (z != nullptr) g *= silu(Vector<A>(load(z + c, n)));
            store(r.grad_y + at, g);
            for (int i = 0; i < s.directions; ++i) {
                const Direction& d = s.direction[i];
                const A* skip = static_cast<const A*>(d.in.D);
                Vector<A> grad_x = {};
                if (!d.own_x) grad_x = load(r.track[i].grad_x + at);
                if (skip != nullptr) grad_x += g * load(skip + p.c + c, n);
                store(r.track[i].grad_x + at, grad_x);
                if (d.own_delta()) store(r.track[i].grad_delta + at, Vector<A>{});
            }
        });
    }
}

template <class T>
void write_channel_gradients(const Scan& s, const Scratch<Compute<T>>& r,
                             const Partial<Compute<T>>& partial, const Place& p) {
    typedef Compute<T> A;
    int64_t width = s.sizes.width;
    // delta is not shared and dt is: its gradient is a sum
    bool sum_dt = s.directions == 2 && s.direction[1].own_bias && !s.direction[1].own_dt;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        const T* z = s.z.data == nullptr ? nullptr : row<T>(s.z, p, f) + p.c;
        const T* grad = row<T>(s.grad_out, p, f) + p.c;
        T* grad_z = z == nullptr ? nullptr : row<T>(s.grad_z, s, p, f, width) + p.c;
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            int64_t at = f * kBlock + c;
            if (z != nullptr) {
                Vector<A> gate = load(z + c, n), g = load(grad + c, n);
                store(grad_z + c, g * load(r.y + at) * silu_slope(gate, sigmoid(gate)), n);
            }
            Vector<A> first_dt = {};
            for (int i = 0; i < s.directions; ++i) {
                const Direction& d = s.direction[i];
                const Track<A>& t = r.track[i];
                if (d.own_x) {
                    store(row<T>(d.grad.x, s, p, f, width) + p.c + c, load(t.grad_x + at), n);
                }
                if (d.in.D != nullptr) {
                    A* sums = partial.D[i] + p.c + c;
                    store(sums, load(sums) + load(r.grad_y + at) * load(t.x + at));
                }
                if (!d.own_delta()) continue;
                Vector<A> grad_dt = load(t.grad_delta + at) * load(t.slope + at);
                if (d.in.dt_bias != nullptr) {
                    A* sums = partial.dt_bias[i] + p.c + c;
                    store(sums, load(sums) + grad_dt);
                }
                if (i == 0 && sum_dt) {
                    first_dt = grad_dt;
                } else {
                    void* to = d.own_dt ? d.grad.dt : s.direction[0].grad.dt;
                    store(row<T>(to, s, p, f, width) + p.c + c, first_dt + grad_dt, n);
                }
            }
        });
    }
}

// (F, N) from sums that still have lanes
template <class T>
void write_projection_gradient(const Scan& s, const Place& p, const Compute<T>* sums, void* to) {
    typedef Compute<T> A;
    int64_t N = s.sizes.d_state;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        T* out = row<T>(to, s, p, f, N);
        over_lanes<A>(N, [&](int64_t c, int n) {
            Vector<A> totals = {};
            for (int i = 0; i < n; ++i) totals[i] = sum<A>(load(sums + (f * N + c + i) * kLanes<A>));
            store(out + c, totals, n);
        });
    }
}

template <class T>
void backward_location(const Scan& s, const Scratch<Compute<T>>& r,
                       const Partial<Compute<T>>& partial, Place p) {
    typedef Compute<T> A;
    int64_t sums = s.sizes.frames * s.sizes.d_state * kLanes<A>;
    read_projections<T>(s, r, p);
    for (int i = 0; i < s.directions; ++i) {
        memset(r.track[i].sums_B, 0, sums * sizeof(A));
        memset(r.track[i].sums_C, 0, sums * sizeof(A));
    }
    for (p.c = 0; p.c < s.sizes.width; p.c += kBlock) {
        p.width = at_most(kBlock, s.sizes.width - p.c);
        read_channels<T>(s, r, p, true);
        start_output(s, r, p);
        start_gradients<T>(s, r, p);
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            over_states(s.sizes.d_state, [&](auto states, int64_t first) {
                scan_states_backward<A, decltype(states)::count>(s, r, partial, p, c, n, first);
            });
        });
        write_channel_gradients<T>(s, r, partial, p);
    }
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        if (d.own_B) write_projection_gradient<T>(s, p, r.track[i].sums_B, d.grad.B);
        if (d.own_C) write_projection_gradient<T>(s, p, r.track[i].sums_C, d.grad.C);
    }
}

// adds the partials in order; `from` is the first one's (tiles, N, lanes), `to` (D, N)
template <class A>
void reduce(const Scan& s, const Workspace<A>& w, const A* from, void* to, int64_t N,
            int64_t tile) {
    constexpr int V = kLanes<A>;
    if (to == nullptr) return;
    int64_t lanes = at_most(s.sizes.width - tile * V, V);
    for (int64_t n = 0; n < N; ++n) {
        Vector<A> total = {};
        for (int64_t i = 0; i < s.partials(); ++i) {
            total += load(from + i * w.partial_size + (tile * N + n) * V);
        }
        A* out = static_cast<A*>(to) + tile * V * N + n;
        for (int64_t lane = 0; lane < lanes; ++lane) out[lane * N] = total[lane];
    }
}

template <class T> void scan_backward(const Scan& s) {
    typedef Compute<T> A;
    Workspace<A> w = take_workspace<A>(s, true);
    fill_rates(s, w);
    int64_t partials = s.partials(), locations = s.locations();
    parallel_for_workers(s.call.threads, partials, [&](int64_t item, int64_t worker) {
        Scratch<A> r = scratch_of(w, s, true, worker);
        Arena<A> arena = {w.partials + item * w.partial_size, 0};
        Partial<A> partial = take_partial(arena, s);
        memset(w.partials + item * w.partial_size, 0, w.partial_size * sizeof(A));
        int64_t end = (item + 1) * locations / partials;
        for (int64_t l = item * locations / partials; l < end; ++l) {
            backward_location<T>(s, r, partial, {l / s.sizes.space, l % s.sizes.space, 0, 0});
        }
    });
    Arena<A> arena = {w.partials, 0};
    Partial<A> first = take_partial(arena, s);
    parallel_for(s.call.threads, tiles_of(s.sizes.width, kLanes<A>), [&](int64_t tile) {
        for (int i = 0; i < s.directions; ++i) {
            const ua_scan_gradients& grad = s.direction[i].grad;
            reduce(s, w, first.A_[i], grad.A, s.sizes.geometric ? 1 : s.sizes.d_state, tile);
            reduce(s, w, first.D[i], grad.D, 1, tile);
            reduce(s, w, first.dt_bias[i], grad.dt_bias, 1, tile);
        }
    });
}

// ---- entries

template <class Arguments>
const char* measure_workspace(Arguments* a, const Scan& s, bool backward) {
    return with_dtype(a, [&](auto tag) -> const char* {
        a->workspace_size = take_workspace<Compute<decltype(tag)>>(s, backward).size;
        return nullptr;
    });
}

template <class Arguments> const char* run_forward(const Arguments* a, const Scan& s) {
    return with_dtype(a, [&](auto tag) -> const char* {
        scan_forward<decltype(tag)>(s);
        return nullptr;
    });
}

template <class Arguments> const char* run_backward(const Arguments* a, const Scan& s) {
    return with_dtype(a, [&](auto tag) -> const char* {
        scan_backward<decltype(tag)>(s);
        return nullptr;
    });
}

} // namespace
