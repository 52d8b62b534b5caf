// Depthwise causal convolution on the CPU: lanes over channels, a strip of them frame by frame.
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

template <class A> A* state_of(void* states, const ua_causal_conv1d* a, int64_t location) {
    return states ? static_cast<A*>(states) + location * (a->taps - 1) * a->width : nullptr;
}

// channels of a location that go through the frames together: what the taps reach of them stays in
// the first cache, and a frame is read in runs long enough for the processor to fetch them ahead
template <int kTaps> constexpr int64_t kStrip = kTaps ? 256 : 64;

// kTaps is the number of taps, or 0 for one known at run time only
template <class T, int kTaps> class Convolution {
    typedef Compute<T> A;

public:
    static constexpr int kSize = kTaps ? kTaps : UA_CONV_MAX_TAPS;

    Convolution(const ua_causal_conv1d* a, int64_t location)
        : a_(a), x_(line<const T>(a->x, a, location / a->space, location % a->space)),
          state_(state_of<A>(a->state, a, location)) {}

    int taps() const { return kTaps ? kTaps : int(a_->taps); }
    // of n channels from c on
    template <class N> Vector<A> weight(int k, int64_t c, N n) const {
        return load(static_cast<const A*>(a_->weight) + k * a_->width + c, n);
    }
    template <class N> Vector<A> step(int64_t t, int64_t c, N n) const {
        if (t >= 0) return load(x_.data + t * x_.stride + c, n);
        return state_ ? load(state_ + state_row(a_, t + taps() - 1) * a_->width + c, n) : Vector<A>{};
    }
    // the convolution at `frames` steps from i on: a step that several of them reach is read once
    template <int frames, class N>
    void at(int64_t i, int64_t c, N n, Vector<A> (&sum)[frames]) const {
        const Vector<A> bias =
            a_->bias ? load(static_cast<const A*>(a_->bias) + c, n) : Vector<A>{};
#pragma GCC unroll 8
        for (int j = 0; j < frames; ++j) sum[j] = bias;
#pragma GCC unroll 8
        for (int r = 0; r < taps() - 1 + frames; ++r) {
            const Vector<A> x = step(i - (taps() - 1) + r, c, n);
#pragma GCC unroll 8
            for (int j = 0; j < frames; ++j) {
                const int k = r - j;
                if (k >= 0 && k < taps()) sum[j] += weight(k, c, n) * x;
            }
        }
    }
    // asks for step t ahead of its use
    void fetch(int64_t t, int64_t c) const { __builtin_prefetch(x_.data + t * x_.stride + c); }

private:
    const ua_causal_conv1d* a_;
    Line<const T> x_;
    const A* state_;
};

// a count that the compiler knows
template <class A> struct Full {
    constexpr operator int() const { return kLanes<A>; }
};

// calls run(first channel, count) for the vectors of a strip
template <class A, class Run> inline void over_strip(int64_t begin, int64_t end, const Run& run) {
    int64_t c = begin;
    for (; c + kLanes<A> <= end; c += kLanes<A>) run(c, Full<A>{});
    if (c < end) run(c, int(end - c));
}

// `frames` steps of a strip, from step i on
template <int frames, class T, int kTaps>
void forward_strip(const ua_causal_conv1d* a, const Convolution<T, kTaps>& convolution, Line<T> y,
                   int64_t c0, int64_t end, int64_t i) {
    over_strip<Compute<T>>(c0, end, [&](int64_t c, auto n) {
        Vector<Compute<T>> sum[frames];
        convolution.at(i, c, n, sum);
#pragma GCC unroll 8
        for (int j = 0; j < frames; ++j) {
            convolution.fetch(i + frames + j, c);
            T* to = y.data + (i + j) * y.stride + c;
            __builtin_prefetch(to + frames * y.stride, 1);
            store(to, a->silu ? silu(sum[j]) : sum[j], n);
        }
    });
}

template <class T, int kTaps> const char* forward(const ua_causal_conv1d* a) {
    constexpr int together = kTaps ? 4 : 1;
    parallel_for(a->call.threads, a->batch * a->space, [&](int64_t location) {
        const Convolution<T, kTaps> convolution(a, location);
        const Line<T> y = line<T>(a->y, a, location / a->space, location % a->space);
        for (int64_t c = 0; c < a->width; c += kStrip<kTaps>) {
            const int64_t end = smaller(a->width, c + kStrip<kTaps>);
            int64_t i = 0;
            for (; i + together <= a->frames; i += together) {
                forward_strip<together>(a, convolution, y, c, end, i);
            }
            for (; i < a->frames; ++i) forward_strip<1>(a, convolution, y, c, end, i);
        }
    });
    return nullptr;
}

// the gradients of a strip of a location
template <class T, int kTaps>
void backward_strip(const ua_causal_conv1d* a, int64_t location, int64_t c0, int64_t end,
                    Compute<T>* sums) {
    typedef Compute<T> A;
    const Convolution<T, kTaps> convolution(a, location);
    const int64_t b = location / a->space, s = location % a->space;
    const Line<const T> y = line<const T>(a->y, a, b, s);
    const Line<T> grad_x = line<T>(a->grad_x, a, b, s);
    A* grad_state = state_of<A>(a->grad_state, a, location);
    const int taps = convolution.taps();
    // of the convolution at the last steps, a step in row step % taps; and the parameters' sums
    A slope[Convolution<T, kTaps>::kSize][kStrip<kTaps>];
    A parts[Convolution<T, kTaps>::kSize + 1][kStrip<kTaps>] = {};
    for (int64_t i = 0; i < a->frames + taps - 1; ++i) {
        const int64_t done = i - (taps - 1); // no later step reads this one
        over_strip<A>(c0, end, [&](int64_t c, auto n) {
            if (i < a->frames) {
                Vector<A> g = load(y.data + i * y.stride + c, n);
                if (a->silu) {
                    Vector<A> sum[1];
                    convolution.at(i, c, n, sum);
                    g *= silu_slope(sum[0], sigmoid(sum[0]));
                }
                store(slope[i % taps] + c - c0, g, n);
                for (int k = 0; k < taps; ++k) {
                    A* part = parts[k] + c - c0;
                    store(part, load(part, n) + g * convolution.step(done + k, c, n), n);
                }
                A* part = parts[taps] + c - c0;
                store(part, load(part, n) + g, n);
            }
            Vector<A> grad{};
            for (int k = 0; k < taps; ++k) {
                const int64_t t = i - k;
                if (t < 0 || t >= a->frames) continue;
                grad += convolution.weight(k, c, n) * load(slope[t % taps] + c - c0, n);
            }
            if (done >= 0) {
                store(grad_x.data + done * grad_x.stride + c, grad, n);
            } else if (grad_state) {
                store(grad_state + state_row(a, i) * a->width + c, grad, n);
            }
        });
    }
    for (int k = 0; k <= taps; ++k) {
        over_strip<A>(c0, end, [&](int64_t c, auto n) {
            A* to = sums + k * a->width + c;
            store(to, load(to, n) + load(parts[k] + c - c0, n), n);
        });
    }
}

template <class T, int kTaps> const char* backward(const ua_causal_conv1d* a) {
    const int64_t locations = a->batch * a->space;
    parallel_for(a->call.threads, a->blocks, [&](int64_t block) {
        auto* sums = static_cast<Compute<T>*>(a->grad_parameters) + block * (a->taps + 1) * a->width;
        const int64_t end = (block + 1) * locations / a->blocks;
        for (int64_t location = block * locations / a->blocks; location < end; ++location) {
            for (int64_t c = 0; c < a->width; c += kStrip<kTaps>) {
                backward_strip<T, kTaps>(a, location, c, smaller(a->width, c + kStrip<kTaps>), sums);
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
