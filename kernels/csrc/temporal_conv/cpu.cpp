// 3x1x1 convolution on the CPU. A block of rows x one panel of output channels is accumulated in
// registers over the three frames and all input channels; frames outside the clip are skipped.
// The input gradient is the same convolution with other weights; the weight gradient is a product
// over the rows, each item owning its part of the result.
#include "api.h"

#include "../parallel.h"
#include "../simd.h"

namespace {

constexpr int kPanel = UA_TEMPORAL_CONV_PANEL;
template <class A> constexpr int kVectors = kPanel / kLanes<A>;
// as many rows as the accumulators leave registers for: 32 with AVX-512, 16 otherwise
template <class A> constexpr int kRows = (UA_VECTOR_BYTES == 64 ? 24 : 8) / kVectors<A>;
// rows a work item takes: their input stays in L2 while the panels of weights pass
constexpr int64_t kRowsPerItem = 96;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <int Rows, class T>
inline void forward_block(const ua_temporal_conv* a, const T* const* taps, int64_t row_stride,
                          const Compute<T>* panel, const Compute<T>* bias, T* y, int64_t y_stride,
                          int64_t columns) {
    typedef Compute<T> A;
    constexpr int V = kVectors<A>;
    Vector<A> sum[Rows][V];
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < V; ++v) sum[r][v] = load(bias + v * kLanes<A>);
    }
    for (int w = 0; w < 3; ++w) {
        const T* x = taps[w];
        const A* weights = panel + w * a->in * kPanel;
        if (x == nullptr) continue;
        for (int64_t c = 0; c < a->in; ++c, weights += kPanel) {
            Vector<A> b[V];
            for (int v = 0; v < V; ++v) b[v] = load(weights + v * kLanes<A>);
            for (int r = 0; r < Rows; ++r) {
                Vector<A> value = broadcast(widen(x[r * row_stride + c]));
                for (int v = 0; v < V; ++v) sum[r][v] += value * b[v];
            }
        }
    }
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < V; ++v) {
            int64_t left = columns - v * kLanes<A>;
            if (left > 0) store(y + r * y_stride + v * kLanes<A>, sum[r][v], int(smaller(left, kLanes<A>)));
        }
    }
}

template <class T> const char* forward(const ua_temporal_conv* a) {
    typedef Compute<T> A;
    const int64_t chunks = (a->space + kRowsPerItem - 1) / kRowsPerItem;
    const int64_t panels = (a->out + kPanel - 1) / kPanel;
    const int64_t* xs = a->x.stride;
    const int64_t* ys = a->y.stride;
    parallel_for(a->call.threads, a->batch * a->frames * chunks, [&](int64_t item) {
        const int64_t chunk = item % chunks, frame = item / chunks % a->frames;
        const int64_t batch = item / chunks / a->frames;
        const int64_t end = smaller((chunk + 1) * kRowsPerItem, a->space);
        const T* x = static_cast<const T*>(a->x.data) + batch * xs[0];
        T* y = static_cast<T*>(a->y.data) + batch * ys[0] + frame * ys[1];
        for (int64_t p = 0; p < panels; ++p) {
            const A* panel = static_cast<const A*>(a->packed) + p * 3 * a->in * kPanel;
            const A* bias = static_cast<const A*>(a->bias) + p * kPanel;
            const int64_t columns = smaller(a->out - p * kPanel, kPanel);
            for (int64_t s = chunk * kRowsPerItem; s < end;) {
                const T* taps[3];
                for (int w = 0; w < 3; ++w) {
                    const int64_t f = frame + w - 1;
                    taps[w] = f < 0 || f >= a->frames ? nullptr : x + f * xs[1] + s * xs[2];
                }
                T* to = y + s * ys[2] + p * kPanel;
                if (end - s >= kRows<A>) {
                    forward_block<kRows<A>>(a, taps, xs[2], panel, bias, to, ys[2], columns);
                    s += kRows<A>;
                } else {
                    forward_block<1>(a, taps, xs[2], panel, bias, to, ys[2], columns);
                    s += 1;
                }
            }
        }
    });
    return nullptr;
}

// grad[o .. o+Rows, panel] += sum over the rows of y[row, o] * x[row, panel]
template <int Rows, class T>
inline void weight_block(const T* y, int64_t y_stride, const T* x, int64_t x_stride, int64_t rows,
                         int64_t columns, Compute<T>* grad, int64_t grad_stride) {
    typedef Compute<T> A;
    constexpr int V = kVectors<A>;
    // a run of rows is summed on its own and then added: one long chain would lose digits
    Vector<A> sum[Rows][V] = {};
    for (int64_t s = 0; s < rows; ++s) {
        Vector<A> b[V];
        for (int v = 0; v < V; ++v) {
            int64_t left = columns - v * kLanes<A>;
            b[v] = left > 0 ? load(x + s * x_stride + v * kLanes<A>, int(smaller(left, kLanes<A>)))
                            : Vector<A>{};
        }
        for (int r = 0; r < Rows; ++r) {
            Vector<A> value = broadcast(widen(y[s * y_stride + r]));
            for (int v = 0; v < V; ++v) sum[r][v] += value * b[v];
        }
    }
    for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < V; ++v) {
            A* to = grad + r * grad_stride + v * kLanes<A>;
            store(to, load(to) + sum[r][v]);
        }
    }
}

template <class T> const char* backward(const ua_temporal_conv* a) {
    typedef Compute<T> A;
    const int64_t blocks = (a->out + kRows<A> - 1) / kRows<A>;
    const int64_t panels = (a->in + kPanel - 1) / kPanel;
    const int64_t* xs = a->x.stride;
    const int64_t* ys = a->y.stride;
    parallel_for(a->call.threads, 3 * blocks, [&](int64_t item) {
        const int64_t w = item / blocks, o = item % blocks * kRows<A>;
        A* grad = static_cast<A*>(a->grad) + (w * a->out + o) * panels * kPanel;
        for (int64_t b = 0; b < a->batch; ++b) {
            for (int64_t f = 0; f < a->frames; ++f) {
                if (f + w - 1 < 0 || f + w - 1 >= a->frames) continue;
                const T* x = static_cast<const T*>(a->x.data) + b * xs[0] + (f + w - 1) * xs[1];
                const T* y = static_cast<const T*>(a->y.data) + b * ys[0] + f * ys[1] + o;
                for (int64_t s = 0; s < a->space; s += kRowsPerItem) {
                    const int64_t rows = smaller(kRowsPerItem, a->space - s);
                    for (int64_t p = 0; p < panels; ++p) {
                        const int64_t columns = smaller(a->in - p * kPanel, kPanel);
                        const T* xp = x + s * xs[2] + p * kPanel;
                        const T* yp = y + s * ys[2];
                        if (a->out - o >= kRows<A>) {
                            weight_block<kRows<A>>(yp, ys[2], xp, xs[2], rows, columns,
                                                   grad + p * kPanel, panels * kPanel);
                        } else {
                            for (int64_t r = 0; r < a->out - o; ++r) {
                                weight_block<1>(yp + r, ys[2], xp, xs[2], rows, columns,
                                                grad + (r * panels + p) * kPanel, panels * kPanel);
                            }
                        }
                    }
                }
            }
        }
    });
    return nullptr;
}

} // namespace

UA_ENTRY(temporal_conv_forward)(const ua_temporal_conv* a) {
    return with_dtype(a, [&](auto tag) { return forward<decltype(tag)>(a); });
}

UA_ENTRY(temporal_conv_backward)(const ua_temporal_conv* a) {
    return with_dtype(a, [&](auto tag) { return backward<decltype(tag)>(a); });
}
