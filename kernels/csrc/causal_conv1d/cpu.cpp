// Depthwise causal convolution on the CPU: lanes over channels, a window of steps in registers.
#include "api.h"

#include "../parallel.h"
#include "../simd.h"

namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// one location: pointers to its first channel in frame 0 and the steps between frames
template <class T> struct Line {
    T* data;
    int64_t stride;
};

template <class T> Line<T> line(const ua_array& array, const ua_causal_conv1d* a, int64_t b, int64_t s) {
    T* first = static_cast<T*>(array.data) + b * array.stride[0] + s * array.stride[2];
    const int64_t stride = array.stride[1];
    return a->reverse ? Line<T>{first + (a->frames - 1) * stride, -stride} : Line<T>{first, stride};
}

inline int64_t state_row(const ua_causal_conv1d* a, int64_t k) {
    return a->reverse ? a->taps - 2 - k : k;
}

// what both directions need of n channels of a location: taps, bias and the steps before the clip;
// kTaps is the number of taps, or 0 for one known at run time only
template <class A, int kTaps> struct Window {
    static constexpr int kSize = kTaps ? kTaps : UA_CONV_MAX_TAPS;
    int taps;
    Vector<A> weight[kSize], step[kSize], bias;

    Window(const ua_causal_conv1d* a, const A* state, int64_t c, int n) : taps(kTaps ? kTaps : int(a->taps)) {
        const A* w = static_cast<const A*>(a->weight) + c;
        for (int k = 0; k < taps; ++k) weight[k] = load(w + k * a->width, n);
        bias = a->bias ? load(static_cast<const A*>(a->bias) + c, n) : Vector<A>{};
        for (int k = 0; k < taps - 1; ++k) {
            step[k] = state ? load(state + state_row(a, k) * a->width + c, n) : Vector<A>{};
        }
    }
    // takes the next step and returns the convolution there
    Vector<A> push(Vector<A> x) {
        step[taps - 1] = x;
        Vector<A> sum = bias;
        for (int k = 0; k < taps; ++k) sum += weight[k] * step[k];
        return sum;
    }
    void shift() {
        for (int k = 0; k < taps - 1; ++k) step[k] = step[k + 1];
    }
};

template <class A> A* state_of(void* states, const ua_causal_conv1d* a, int64_t location) {
    return states ? static_cast<A*>(states) + location * (a->taps - 1) * a->width : nullptr;
}

template <class T, int kTaps> const char* forward(const ua_causal_conv1d* a) {
    typedef Compute<T> A;
    parallel_for(a->call.threads, a->batch * a->space, [&](int64_t location) {
        const int64_t b = location / a->space, s = location % a->space;
        const Line<const T> x = line<const T>(a->x, a, b, s);
        const Line<T> y = line<T>(a->y, a, b, s);
        const A* state = state_of<A>(a->state, a, location);
        for (int64_t c = 0; c < a->width; c += kLanes<A>) {
            const int n = int(smaller(a->width - c, kLanes<A>));
            Window<A, kTaps> window(a, state, c, n);
            for (int64_t i = 0; i < a->frames; ++i) {
                Vector<A> sum = window.push(load(x.data + i * x.stride + c, n));
                store(y.data + i * y.stride + c, a->silu ? silu(sum) : sum, n);
                window.shift();
            }
        }
    });
    return nullptr;
}

template <class T, int kTaps> const char* backward(const ua_causal_conv1d* a) {
    typedef Compute<T> A;
    const int64_t locations = a->batch * a->space;
    parallel_for(a->call.threads, a->blocks, [&](int64_t block) {
        A* sums = static_cast<A*>(a->grad_parameters) + block * (a->taps + 1) * a->width;
        const int64_t begin = block * locations / a->blocks;
        const int64_t end = (block + 1) * locations / a->blocks;
        for (int64_t location = begin; location < end; ++location) {
            const int64_t b = location / a->space, s = location % a->space;
            const Line<const T> x = line<const T>(a->x, a, b, s), y = line<const T>(a->y, a, b, s);
            const Line<T> grad_x = line<T>(a->grad_x, a, b, s);
            const A* state = state_of<A>(a->state, a, location);
            A* grad_state = state_of<A>(a->grad_state, a, location);
            for (int64_t c = 0; c < a->width; c += kLanes<A>) {
                const int n = int(smaller(a->width - c, kLanes<A>));
                Window<A, kTaps> window(a, state, c, n);
                const int taps = window.taps;
                // gradients of the window's steps, complete when they leave it, and of the taps
                Vector<A> grad_step[Window<A, kTaps>::kSize] = {};
                Vector<A> grad_weight[Window<A, kTaps>::kSize] = {}, grad_bias{};
                // step i - (taps - 1) is complete once step i has been taken
                const auto leave = [&](int64_t i) {
                    const int64_t t = i - (taps - 1);
                    if (t >= 0) {
                        store(grad_x.data + t * grad_x.stride + c, grad_step[0], n);
                    } else if (grad_state) {
                        store(grad_state + state_row(a, t + taps - 1) * a->width + c, grad_step[0], n);
                    }
                    for (int k = 0; k < taps - 1; ++k) grad_step[k] = grad_step[k + 1];
                    grad_step[taps - 1] = Vector<A>{};
                };
                for (int64_t i = 0; i < a->frames; ++i) {
                    Vector<A> sum = window.push(load(x.data + i * x.stride + c, n));
                    Vector<A> g = load(y.data + i * y.stride + c, n);
                    if (a->silu) g *= silu_slope(sum, sigmoid(sum));
                    grad_bias += g;
                    for (int k = 0; k < taps; ++k) {
                        grad_weight[k] += g * window.step[k];
                        grad_step[k] += g * window.weight[k];
                    }
                    leave(i);
                    window.shift();
                }
                for (int64_t i = a->frames; i < a->frames + taps - 1; ++i) leave(i);
                for (int k = 0; k < taps; ++k) {
                    A* to = sums + k * a->width + c;
                    store(to, load(to, n) + grad_weight[k], n);
                }
                A* to = sums + taps * a->width + c;
                store(to, load(to, n) + grad_bias, n);
            }
        }
    });
    return nullptr;
}

} // namespace

UA_ENTRY(causal_conv1d_forward)(const ua_causal_conv1d* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        return a->taps == 4 ? forward<T, 4>(a) : forward<T, 0>(a);
    });
}

UA_ENTRY(causal_conv1d_backward)(const ua_causal_conv1d* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        return a->taps == 4 ? backward<T, 4>(a) : backward<T, 0>(a);
    });
}
