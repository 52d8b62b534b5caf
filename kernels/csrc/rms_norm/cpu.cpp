// The RMS norm of a sum on the CPU: a row is read twice, the second time from the first cache.
#include "api.h"

#include "../parallel.h"
#include "../simd.h"

namespace {

constexpr int64_t kRowsPerItem = 16;

template <class T> void norm_row(const ua_rms_norm* a, int64_t row) {
    typedef Compute<T> A;
    const int64_t width = a->width, start = row * width;
    const T* x = static_cast<const T*>(a->x) + start;
    const T* added = a->added ? static_cast<const T*>(a->added) + start : nullptr;
    const T* weight = static_cast<const T*>(a->weight);
    T* out = static_cast<T*>(a->out) + start;
    auto over_row = [&](auto take) {
        for (int64_t c = 0; c < width; c += kLanes<A>) {
            const int n = width - c < kLanes<A> ? int(width - c) : kLanes<A>;
            take(added ? load(x + c, n) + load(added + c, n) : load(x + c, n), c, n);
        }
    };
    Vector<A> squares{};
    over_row([&](Vector<A> h, int64_t, int) { squares += h * h; });
    const A scale = 1 / sqrt(sum<A>(squares) / A(width) + A(a->eps));
    over_row([&](Vector<A> h, int64_t c, int n) {
        store(out + c, h * scale * load(weight + c, n), n);
    });
}

} // namespace

UA_ENTRY(rms_norm_forward)(const ua_rms_norm* a) {
    return with_dtype(a, [&](auto tag) -> const char* {
        const int64_t items = (a->rows + kRowsPerItem - 1) / kRowsPerItem;
        parallel_for(a->call.threads, items, [&](int64_t item) {
            const int64_t first = item * kRowsPerItem, rest = a->rows - first;
            const int64_t end = first + (rest < kRowsPerItem ? rest : kRowsPerItem);
            for (int64_t row = first; row < end; ++row) norm_row<decltype(tag)>(a, row);
        });
        return nullptr;
    });
}
