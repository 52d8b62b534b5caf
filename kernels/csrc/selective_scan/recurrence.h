// The recurrence of the selective scan on the CPU: K states of one vector of channels through all
// frames of one direction, states in registers, and its reverse-mode derivative.
#pragma once
#include "../simd.h"

namespace {

constexpr int64_t kBlock = 128; // channels of a block; scratch rows are this long

inline Vector<float> exp2(Vector<float> x) {
    x = clamp(x, -125.0f, 127.0f);
    const float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    Vector<float> shifted = x + shift;
    Vector<float> r = x - (shifted - shift);
    // (2^r - 1) / r on [-1/2, 1/2], minimax: 2e-9 relative, so that only rounding is left
    Vector<float> p = broadcast(1.53533707e-4f);
    p = p * r + 1.33988773e-3f;
    p = p * r + 9.61843692e-3f;
    p = p * r + 5.55033237e-2f;
    p = p * r + 0.240226477f;
    p = p * r + 0.693147182f;
    p = p * r + 1.0f;
    // the integer, the low bits of shifted, joins the exponent of p
    return (Vector<float>)((Int32s)p + ((Int32s)shifted << 23));
}
#ifndef UA_NO_FLOAT64
__attribute__((noinline)) Vector<double> exp2(Vector<double> x) {
    for (int i = 0; i < kLanes<double>; ++i) x[i] = ::exp2(x[i]);
    return x;
}
#endif

enum Decay { kFree, kKeep, kReuse, kGeometric }; // free decays: computed; kept; taken from there

// one direction of a strip: pointers at its channels, B, C, rates and sums at its first state
template <class A> struct Strip {
    int64_t frames, d_state, stride, first; // stride: of the rows of B and C
    bool reverse;
    const A *x, *delta, *decay, *B, *C, *rates;
    A *y, *state, *decays, *states;
    const A* grad_y;
    A *grad_x, *grad_delta, *sums_B, *sums_C;
    A* grad_A;
};

// the decays of one frame, state after state
template <class A, int K, Decay kDecay> struct Decays {
    Vector<A> delta, power[4], step;
    const A* rates;
    A* kept;

    Decays(const Strip<A>& s, int64_t f, Vector<A> delta) : delta(delta), rates(s.rates) {
        if (kDecay == kKeep || kDecay == kReuse) kept = s.decays + f * K * kLanes<A>;
        if (kDecay != kGeometric) return;
        // four chains of products: in one chain the rounding of the first would grow 16 times
        Vector<A> one = load(s.decay + f * kBlock), exponent = delta * load(s.rates);
        power[0] = s.first == 0 ? one : one * exp2(exponent * A(s.first));
        if (K == 1) return;
        step = exp2(exponent * A(4));
        power[1] = power[0] * one;
        power[2] = power[1] * one;
        power[3] = s.first == 0 ? step : exp2(exponent * A(s.first + 4));
    }

    inline __attribute__((always_inline)) Vector<A> next(int n) {
        if (kDecay == kGeometric) {
            Vector<A> a = power[n & 3];
            power[n & 3] *= step;
            return a;
        }
        if (kDecay == kReuse) return load(kept + n * kLanes<A>);
        Vector<A> a = exp2(delta * load(rates + n * kLanes<A>));
        if (kDecay == kKeep) store(kept + n * kLanes<A>, a);
        return a;
    }
};

// adds C . h to y and advances the state; kReplay also stores the state before and after each step
template <class A, int K, Decay kDecay, bool kReplay> void sweep(const Strip<A>& s) {
    constexpr int V = kLanes<A>;
    Vector<A> h[K];
    for (int n = 0; n < K; ++n) {
        h[n] = load(s.state + n * V);
        if (kReplay) store(s.states + n * V, h[n]);
    }
    for (int64_t i = 0; i < s.frames; ++i) {
        int64_t f = s.reverse ? s.frames - 1 - i : i;
        Vector<A> delta = load(s.delta + f * kBlock);
        Vector<A> update = delta * load(s.x + f * kBlock);
        Vector<A> y[2] = {load(s.y + f * kBlock), Vector<A>{}};
        const A *B = s.B + f * s.stride, *C = s.C + f * s.stride;
        A* after = s.states + (i + 1) * K * V;
        Decays<A, K, kDecay> decays(s, f, delta);
#pragma GCC unroll 16
        for (int n = 0; n < K; ++n) {
            h[n] = decays.next(n) * h[n] + update * B[n];
            y[n & 1] += h[n] * C[n];
            if (kReplay) store(after + n * V, h[n]);
        }
        store(s.y + f * kBlock, y[0] + y[1]);
    }
    for (int n = 0; n < K; ++n) store(s.state + n * V, h[n]);
}

// after a replay: from the gradient of the last state to that of the first, against the scan
template <class A, int K, Decay kDecay> void unwind(const Strip<A>& s) {
    constexpr int V = kLanes<A>;
    Vector<A> grad_state[K], grad_rates[kDecay == kGeometric ? 1 : K] = {};
    for (int n = 0; n < K; ++n) grad_state[n] = load(s.state + n * V);
    for (int64_t i = s.frames - 1; i >= 0; --i) {
        int64_t f = s.reverse ? s.frames - 1 - i : i;
        Vector<A> delta = load(s.delta + f * kBlock), x = load(s.x + f * kBlock);
        Vector<A> grad_y = load(s.grad_y + f * kBlock), update = delta * x;
        const A *B = s.B + f * s.stride, *C = s.C + f * s.stride;
        A *sums_B = s.sums_B + f * s.d_state * V, *sums_C = s.sums_C + f * s.d_state * V;
        const A *before = s.states + i * K * V, *after = before + K * V;
        Vector<A> grad_update = {}, grad_exponent = {};
        Decays<A, K, kDecay> decays(s, f, delta);
#pragma GCC unroll 16
        for (int n = 0; n < K; ++n) {
            Vector<A> grad = grad_state[n] + grad_y * C[n];
            store(sums_C + n * V, load(sums_C + n * V) + grad_y * load(after + n * V));
            store(sums_B + n * V, load(sums_B + n * V) + update * grad);
            grad_update += grad * B[n];
            grad_state[n] = grad * decays.next(n);
            Vector<A> grad_log = grad_state[n] * load(before + n * V); // of delta * rate
            if (kDecay == kGeometric) {
                grad_exponent += grad_log * A(s.first + n + 1);
            } else {
                grad_rates[n] += grad_log * delta;
                grad_exponent += grad_log * load(s.rates + n * V);
            }
        }
        if (kDecay == kGeometric) {
            grad_rates[0] += grad_exponent * delta;
            grad_exponent *= load(s.rates);
        }
        Vector<A> grad_delta = grad_exponent * A(M_LN2) + grad_update * x;
        store(s.grad_x + f * kBlock, load(s.grad_x + f * kBlock) + grad_update * delta);
        store(s.grad_delta + f * kBlock, load(s.grad_delta + f * kBlock) + grad_delta);
    }
    for (int n = 0; n < K; ++n) store(s.state + n * V, grad_state[n]);
    for (int n = 0; n < (kDecay == kGeometric ? 1 : K); ++n) {
        store(s.grad_A + n * V, load(s.grad_A + n * V) + grad_rates[n]);
    }
}

} // namespace
