// The feed-forward of a transformer on the CPU. The weights are packed; then threads take blocks of
// rows, whose normalised and hidden values stay in the thread's cache.
#include "../parallel.h"
#include "rows.h"

namespace {

// rows of an item: few enough that every thread gets several and their hidden values fit into its
// cache, many enough that reading the panels from the cache behind it does not matter
constexpr int64_t kMostRows = 8 * kTileRows;
constexpr int64_t kCacheBytes = 2 * 1024 * 1024;

inline int64_t rows_of_item(int64_t rows, int64_t threads, int64_t bytes_of_row) {
    int64_t n = smaller(smaller(kMostRows, rows / (4 * threads)), kCacheBytes / bytes_of_row);
    return n < kTileRows ? kTileRows : n / kTileRows * kTileRows;
}

template <class Format> const char* feed_forward(const ua_feed_forward* a) {
    typedef Value<Format> T;
    typedef Unit<Format> U;
    const int64_t dim = a->dim, threads = a->call.threads;
    const int64_t block = rows_of_item(a->rows, threads, a->hidden * sizeof(T));
    const FeedForward<Format> layer(a->weights, dim, a->hidden, a->eps,
                                    static_cast<U*>(a->workspace));
    const int64_t size = block * (dim + a->hidden);
    if (layer.end() + threads * size > static_cast<U*>(a->workspace) + a->workspace_size) {
        return "the workspace is too small: reinstall the package";
    }
    parallel_for(threads, layer.panels(), [&](int64_t p) { layer.pack(p); });
    parallel_for_workers(threads, (a->rows + block - 1) / block, [&](int64_t item, int64_t worker) {
        const int64_t first = item * block, n = smaller(block, a->rows - first);
        T* normed = reinterpret_cast<T*>(layer.end() + worker * size);
        layer.apply(static_cast<const T*>(a->x) + first * a->x_stride, a->x_stride, n, normed,
                    normed + block * dim, static_cast<T*>(a->y) + first * dim, dim);
    });
    return nullptr;
}

} // namespace

UA_ENTRY(feed_forward_forward)(const ua_feed_forward* a) {
    return with_format(a, a->dim % 2 == 0 && a->hidden % 2 == 0,
                       [&](auto format) { return feed_forward<decltype(format)>(a); });
}
