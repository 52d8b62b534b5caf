// What a selective scan on the CPU computes, and the scratch memory it takes from the workspace.
#pragma once
#include "api.h"

#include "../simd.h"
#include "recurrence.h"

namespace {

constexpr int64_t kStates = 16;   // states held in registers
constexpr int64_t kPartials = 64; // ranges of locations that sum parameter gradients on their own

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t tiles_of(int64_t width, int64_t lanes) { return (width + lanes - 1) / lanes; }
template <class A> int64_t padded(int64_t n) { return tiles_of(n, kLanes<A>) * kLanes<A>; }

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
        used += padded<A>(count);
        return taken;
    }
};

// of one direction, in one thread
template <class A> struct Track {
    A *x, *delta, *decay;       // (F, kBlock); decay = exp(delta A) where decays are geometric
    A *slope;                   // (F, kBlock) d delta / d dt
    A *B, *C;                   // (F, N), rows padded to full vectors
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
    int64_t rows = s.sizes.frames * kBlock;
    int64_t projections = s.sizes.frames * padded<A>(s.sizes.d_state);
    int64_t sums = s.sizes.frames * s.sizes.d_state * kLanes<A>;
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
        t.sums_B = d.own_B ? arena.take(sums) : first.sums_B;
        t.sums_C = d.own_C ? arena.take(sums) : first.sums_C;
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
    int64_t width = padded<A>(s.sizes.width);
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
    int64_t width = padded<A>(s.sizes.width);
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

} // namespace
