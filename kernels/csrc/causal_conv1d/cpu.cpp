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

// channels that go through the frames together, of several locations where they have fewer: rows of
// a location lie a frame apart, and long ones are read faster; backward, whose sums are to stay in
// the first cache, takes fewer
constexpr int64_t kStrip = 1024;
template <int kTaps> constexpr int64_t kBackwardStrip = kTaps ? 256 : 64;

inline int64_t locations_together(const ua_causal_conv1d* a, int64_t strip) {
    return a->width < strip ? strip / a->width : 1;
}

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

// `frames` steps of channels [c0, end) of a location, from step i on
template <int frames, class T, int kTaps>
void forward_steps(const ua_causal_conv1d* a, int64_t location, int64_t c0, int64_t end,
                   int64_t i) {
    const Convolution<T, kTaps> convolution(a, location);
    const Line<T> y = line<T>(a->y, a, location / a->space, location % a->space);
    const bool more = i + 2 * frames <= a->frames;
    over_strip<Compute<T>>(c0, end, [&](int64_t c, auto n) {
        Vector<Compute<T>> sum[frames];
        convolution.at(i, c, n, sum);
#pragma GCC unroll 8
        for (int j = 0; j < frames; ++j) {
            T* to = y.data + (i + j) * y.stride + c;
            if (more) { // the next frames are asked for ahead of their use
                convolution.fetch(i + frames + j, c);
                __builtin_prefetch(to + frames * y.stride, 1);
            }
            store(to, a->silu ? silu(sum[j]) : sum[j], n);
        }
    });
}

template <class T, int kTaps> const char* forward(const ua_causal_conv1d* a) {
    constexpr int together = kTaps ? 4 : 1;
    const int64_t most = locations_together(a, kStrip), locations = a->batch * a->space;
    parallel_for(a->call.threads, (locations + most - 1) / most, [&](int64_t item) {
        const int64_t first = item * most, last = smaller(locations, first + most);
        for (int64_t c = 0; c < a->width; c += kStrip) {
            const int64_t end = smaller(a->width, c + kStrip);
            int64_t i = 0;
            for (; i + together <= a->frames; i += together) {
                for (int64_t l = first; l < last; ++l) {
                    forward_steps<together, T, kTaps>(a, l, c, end, i);
                }
            }
            for (; i < a->frames; ++i) {
                for (int64_t l = first; l < last; ++l) forward_steps<1, T, kTaps>(a, l, c, end, i);
            }
        }
    });
    return nullptr;
}

// the gradients of channels [c0, end) of some locations, whose parameters' sums are added to `sums`
template <class T, int kTaps> class Backward {
    typedef Compute<T> A;

public:
    Backward(const ua_causal_conv1d* a, int64_t first, int64_t last, int64_t c0, int64_t end)
        : a_(a), first_(first), last_(last), c0_(c0), end_(end), taps_(kTaps ? kTaps : a->taps) {}

    void run(A* sums) {
        for (int64_t i = 0; i < a_->frames + taps_ - 1; ++i) {
            for (int64_t l = first_; l < last_; ++l) step(l, i);
        }
        for (int k = 0; k <= taps_; ++k) {
            over_strip<A>(c0_, end_, [&](int64_t c, auto n) {
                A* to = sums + k * a_->width + c;
                store(to, load(to, n) + load(parts_[k] + c - c0_, n), n);
            });
        }
    }

private:
    // takes step i, behind which no later one reads step i - (taps - 1)
    void step(int64_t location, int64_t i) {
        const Convolution<T, kTaps> convolution(a_, location);
        const int64_t b = location / a_->space, s = location % a_->space;
        const Line<const T> y = line<const T>(a_->y, a_, b, s);
        const Line<T> grad_x = line<T>(a_->grad_x, a_, b, s);
        A* grad_state = state_of<A>(a_->grad_state, a_, location);
        const int64_t done = i - (taps_ - 1), place = (location - first_) * (end_ - c0_) - c0_;
        over_strip<A>(c0_, end_, [&](int64_t c, auto n) {
            if (i < a_->frames) {
                Vector<A> g = load(y.data + i * y.stride + c, n);
                if (a_->silu) {
                    Vector<A> sum[1];
                    convolution.at(i, c, n, sum);
                    g *= silu_slope(sum[0], sigmoid(sum[0]));
                }
                store(slope_[i % taps_] + place + c, g, n);
                for (int k = 0; k < taps_; ++k) {
                    add(parts_[k] + c - c0_, g * convolution.step(done + k, c, n), n);
                }
                add(parts_[taps_] + c - c0_, g, n);
            }
            Vector<A> grad{};
            for (int k = 0; k < taps_; ++k) {
                const int64_t t = i - k;
                if (t < 0 || t >= a_->frames) continue;
                grad += convolution.weight(k, c, n) * load(slope_[t % taps_] + place + c, n);
            }
            if (done >= 0) {
                store(grad_x.data + done * grad_x.stride + c, grad, n);
            } else if (grad_state) {
                store(grad_state + state_row(a_, i) * a_->width + c, grad, n);
            }
        });
    }
    template <class N> static void add(A* to, Vector<A> v, N n) { store(to, load(to, n) + v, n); }

    const ua_causal_conv1d* a_;
    int64_t first_, last_, c0_, end_;
    int taps_;
    // gradients of the convolution at the last steps, a step in row step % taps; parameters' sums
    A slope_[Convolution<T, kTaps>::kSize][kBackwardStrip<kTaps>];
    A parts_[Convolution<T, kTaps>::kSize + 1][kBackwardStrip<kTaps>] = {};
};

template <class T, int kTaps> const char* backward(const ua_causal_conv1d* a) {
    const int64_t most = locations_together(a, kBackwardStrip<kTaps>), locations = a->batch * a->space;
    parallel_for(a->call.threads, a->blocks, [&](int64_t block) {
        auto* sums = static_cast<Compute<T>*>(a->grad_parameters) + block * (a->taps + 1) * a->width;
        const int64_t end = (block + 1) * locations / a->blocks;
        for (int64_t l = block * locations / a->blocks; l < end; l += most) {
            for (int64_t c = 0; c < a->width; c += kBackwardStrip<kTaps>) {
                Backward<T, kTaps>(a, l, smaller(end, l + most), c,
                                   smaller(a->width, c + kBackwardStrip<kTaps>))
                    .run(sums);
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
