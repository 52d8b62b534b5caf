// Gated GELU on the CPU: one pass, lanes over the columns.
#include "api.h"

#include "../parallel.h"
#include "gelu.h"

namespace {

constexpr int64_t kRowsPerItem = 16;

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
