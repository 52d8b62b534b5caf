// The selective scan on the CPU in one or two directions of time, forward and backward.
//
// A thread takes one location and a block of channels: it widens x, softplus(dt), B and C of all
// frames into scratch memory (L1 or L2), runs the recurrence with lanes over the channels and the
// states in registers, and writes the gated rows. Backward replays the states of a strip of
// kStates states into scratch memory and unwinds them; sums over channels stay vectors until the
// location is done, sums over locations are one partial for each of kPartials ranges of them.
#pragma once
#include "../parallel.h"
#include "rows.h"

namespace {

constexpr int64_t kRun = 8; // neighbouring locations of one item of work: their rows adjoin

// ---- inputs

template <class T>
void read_projections(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    int64_t N = s.sizes.d_state, stride = padded<Compute<T>>(N);
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        if (d.own_B) widen_rows<T>(d.in.B, s, p, 0, N, r.track[i].B, stride);
        if (d.own_C) widen_rows<T>(d.in.C, s, p, 0, N, r.track[i].C, stride);
    }
}

// x, delta and what follows from it, of the block's channels
template <class T>
void read_channels(const Scan& s, const Scratch<Compute<T>>& r, const Place& p, bool backward) {
    typedef Compute<T> A;
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        const Track<A>& t = r.track[i];
        if (d.own_x) widen_rows<T>(d.in.x, s, p, p.c, p.width, t.x, kBlock);
        if (d.own_delta()) {
            widen_rows<T>(d.in.dt, s, p, p.c, p.width, t.delta, kBlock);
            if (d.in.dt_bias != nullptr) {
                const A* bias = static_cast<const A*>(d.in.dt_bias) + p.c;
                over_rows<A>(s, p, [&](int64_t at, int64_t c) {
                    int n = at_most(p.width - c, kLanes<A>);
                    store(t.delta + at, load(t.delta + at) + load(bias + c, n));
                });
            }
            if (backward) {
                over_rows<A>(s, p, [&](int64_t at, int64_t) {
                    Vector<A> slope = broadcast(A(1));
                    if (s.sizes.softplus) slope = sigmoid(load(t.delta + at));
                    store(t.slope + at, slope);
                });
            }
            if (s.sizes.softplus) {
                over_rows<A>(s, p, [&](int64_t at, int64_t) {
                    store(t.delta + at, softplus(load(t.delta + at)));
                });
            }
        }
        if (s.sizes.geometric && d.own_decay()) {
            const A* rates = t.rates + p.c;
            over_rows<A>(s, p, [&](int64_t at, int64_t c) {
                store(t.decay + at, exp2(load(t.delta + at) * load(rates + c)));
            });
        }
    }
}

template <class A> void start_output(const Scan& s, const Scratch<A>& r, const Place& p) {
    clear_rows(s, p, r.y);
    for (int i = 0; i < s.directions; ++i) add_skip(s, p, s.direction[i], r.track[i].x, r.y);
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
    Strip<A> strip = {s.sizes.frames, N, padded<A>(N), first, s.direction[i].reverse};
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
        const A* y = r.y + f * kBlock;
        T* out = row<T>(s.out, s, p, f, s.sizes.width) + p.c;
        if (s.z.data != nullptr) {
            gate_row(y, row<T>(s.z, p, f) + p.c, out, p.width);
        } else {
            over_lanes<A>(p.width, [&](int64_t c, int n) { store(out + c, load(y + c), n); });
        }
    }
}

template <class T>
void forward_location(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    typedef Compute<T> A;
    read_projections<T>(s, r, p);
    read_channels<T>(s, r, p, false);
    start_output(s, r, p);
    over_lanes<A>(p.width, [&](int64_t c, int n) {
        over_states(s.sizes.d_state, [&](auto states, int64_t first) {
            scan_states<A, decltype(states)::count>(s, r, p, c, n, first);
        });
    });
    write_output<T>(s, r, p);
}

template <class T> void scan_forward(const Scan& s) {
    typedef Compute<T> A;
    Workspace<A> w = take_workspace<A>(s, false);
    fill_rates(s, w);
    int64_t blocks = tiles_of(s.sizes.width, kBlock), runs = tiles_of(s.sizes.space, kRun);
    int64_t items = s.sizes.batch * blocks * runs;
    parallel_for_workers(s.call.threads, items, [&](int64_t item, int64_t worker) {
        Scratch<A> r = scratch_of(w, s, false, worker);
        int64_t run = item % runs, c = item / runs % blocks * kBlock;
        int64_t end = at_most((run + 1) * kRun, s.sizes.space);
        Place p = {item / runs / blocks, run * kRun, c, at_most(kBlock, s.sizes.width - c)};
        for (; p.s < end; ++p.s) forward_location<T>(s, r, p);
    });
}

// ---- backward

// the gradient before the gate, and where the gradients of x and delta start
template <class T>
void start_gradients(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    typedef Compute<T> A;
    widen_rows<T>(s.grad_out, s, p, p.c, p.width, r.grad_y, kBlock);
    if (s.z.data != nullptr) {
        for (int64_t f = 0; f < s.sizes.frames; ++f) {
            A* grad_y = r.grad_y + f * kBlock;
            gate_row(grad_y, row<T>(s.z, p, f) + p.c, grad_y, p.width);
        }
    }
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        const Track<A>& t = r.track[i];
        if (d.own_x) clear_rows(s, p, t.grad_x);
        if (d.own_delta()) clear_rows(s, p, t.grad_delta);
        add_skip(s, p, d, r.grad_y, t.grad_x);
    }
}

template <class T>
void write_gate_gradient(const Scan& s, const Scratch<Compute<T>>& r, const Place& p) {
    typedef Compute<T> A;
    for (int64_t f = 0; f < s.sizes.frames; ++f) {
        const A* y = r.y + f * kBlock;
        const T *z = row<T>(s.z, p, f) + p.c, *grad = row<T>(s.grad_out, p, f) + p.c;
        T* out = row<T>(s.grad_z, s, p, f, s.sizes.width) + p.c;
        over_lanes<A>(p.width, [&](int64_t c, int n) {
            Vector<A> gate = load(z + c, n), g = load(grad + c, n);
            store(out + c, g * load(y + c) * silu_slope(gate, sigmoid(gate)), n);
        });
    }
}

template <class T>
void write_channel_gradients(const Scan& s, const Scratch<Compute<T>>& r,
                             const Partial<Compute<T>>& partial, const Place& p) {
    typedef Compute<T> A;
    if (s.z.data != nullptr) write_gate_gradient<T>(s, r, p);
    for (int i = 0; i < s.directions; ++i) {
        const Direction& d = s.direction[i];
        const Track<A>& t = r.track[i];
        if (d.own_x) write_rows<T>(s, p, t.grad_x, nullptr, d.grad.x);
        if (d.in.D != nullptr) add_columns(s, p, r.grad_y, t.x, partial.D[i]);
        if (!d.own_delta()) continue;
        over_rows<A>(s, p, [&](int64_t at, int64_t) {
            store(t.grad_delta + at, load(t.grad_delta + at) * load(t.slope + at));
        });
        if (d.in.dt_bias != nullptr) {
            add_columns<A>(s, p, t.grad_delta, nullptr, partial.dt_bias[i]);
        }
    }
    // where dt is shared and its bias is not, its gradient is the sum over two deltas
    const Direction& last = s.direction[s.directions - 1];
    bool sum = !last.own_dt && last.own_bias;
    const A *first = r.track[0].grad_delta, *second = r.track[1].grad_delta;
    write_rows<T>(s, p, first, sum ? second : nullptr, s.direction[0].grad.dt);
    if (s.directions == 2 && last.own_dt) write_rows<T>(s, p, second, nullptr, last.grad.dt);
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
            const A* lanes = sums + (f * N + c) * kLanes<A>;
            for (int i = 0; i < n; ++i) totals[i] = sum<A>(load(lanes + i * kLanes<A>));
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
