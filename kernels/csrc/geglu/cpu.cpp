// Gated GELU on the CPU: one pass, lanes over the columns.
#include "api.h"

#include "../parallel.h"
#include "../simd.h"

namespace {

constexpr int64_t kRowsPerItem = 16;

// x P(x^2) / Q(x^2) on [-4, 4], beyond which erf is 1 in float; the minimax coefficients of Eigen
inline Vector<float> erf(Vector<float> x) {
    x = x > 4.0f ? broadcast(4.0f) : x;
    x = x < -4.0f ? broadcast(-4.0f) : x;
    Vector<float> q = x * x;
    Vector<float> top = broadcast(-2.72614225801306e-10f);
    top = top * q + 2.77068142495902e-08f;
    top = top * q + -2.10102402082508e-06f;
    top = top * q + -5.69250639462346e-05f;
    top = top * q + -7.34990630326855e-04f;
    top = top * q + -2.95459980854025e-03f;
    top = top * q + -1.60960333262415e-02f;
    Vector<float> bottom = broadcast(-1.45660718464996e-05f);
    bottom = bottom * q + -2.13374055278905e-04f;
    bottom = bottom * q + -1.68282697438203e-03f;
    bottom = bottom * q + -7.37332916720468e-03f;
    bottom = bottom * q + -1.42647390514189e-02f;
    return x * top / bottom;
}
inline Vector<double> erf(Vector<double> x) {
    for (int i = 0; i < kLanes<double>; ++i) x[i] = ::erf(x[i]);
    return x;
}

// standard normal distribution function
template <class V> inline V normal_cdf(V x) { return (1 + erf(x * 0.70710678f)) * 0.5f; }
inline Vector<double> normal_cdf(Vector<double> x) { return (1 + erf(x * M_SQRT1_2)) * 0.5; }

template <class T> void forward_row(const T* x, T* out, int64_t width) {
    typedef Compute<T> A;
    for (int64_t c = 0; c < width; c += kLanes<A>) {
        int n = width - c < kLanes<A> ? width - c : kLanes<A>;
        Vector<A> value = load(x + c, n), gate = load(x + width + c, n);
        store(out + c, value * gate * normal_cdf(gate), n);
    }
}

template <class T> void backward_row(const T* x, const T* grad, T* out, int64_t width) {
    typedef Compute<T> A;
    for (int64_t c = 0; c < width; c += kLanes<A>) {
        int n = width - c < kLanes<A> ? width - c : kLanes<A>;
        Vector<A> value = load(x + c, n), gate = load(x + width + c, n), g = load(grad + c, n);
        Vector<A> cdf = normal_cdf(gate);
        Vector<A> density = exp(gate * gate * A(-0.5)) * A(0.3989422804014327);
        store(out + c, g * gate * cdf, n);
        store(out + width + c, g * value * (cdf + gate * density), n);
    }
}

template <class Row> const char* over_rows(const ua_geglu* a, const Row& row) {
    int64_t items = (a->rows + kRowsPerItem - 1) / kRowsPerItem;
    parallel_for(a->call.threads, items, [&](int64_t item) {
        int64_t end = (item + 1) * kRowsPerItem < a->rows ? (item + 1) * kRowsPerItem : a->rows;
        for (int64_t r = item * kRowsPerItem; r < end; ++r) row(r);
    });
    return nullptr;
}

} // namespace

UA_ENTRY(geglu_forward)(const ua_geglu* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        return over_rows(a, [&](int64_t r) {
            forward_row(static_cast<const T*>(a->x) + r * a->x_stride,
                        static_cast<T*>(a->out) + r * a->width, a->width);
        });
    });
}

UA_ENTRY(geglu_backward)(const ua_geglu* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        return over_rows(a, [&](int64_t r) {
            backward_row(static_cast<const T*>(a->x) + r * a->x_stride,
                         static_cast<const T*>(a->grad) + r * a->width,
                         static_cast<T*>(a->out) + r * 2 * a->width, a->width);
        });
    });
}
