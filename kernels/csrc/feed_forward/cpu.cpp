// The feed-forward of a transformer on the CPU. The weights are packed; then threads take blocks of
// rows, whose normalised and hidden values stay in the thread's cache.
#include "api.h"

#include "../geglu/gelu.h"
#include "../layer_norm.h"
#include "../parallel.h"
#include "../tiles.h"

namespace {

// rows of an item: few enough that every thread gets several and their hidden values fit into its
// cache, many enough that reading the panels from the cache behind it does not matter
constexpr int64_t kMostRows = 8 * kTileRows;
constexpr int64_t kCacheBytes = 2 * 1024 * 1024;

inline int64_t rows_of_item(int64_t rows, int64_t threads, int64_t bytes_of_row) {
    int64_t n = smaller(smaller(kMostRows, rows / (4 * threads)), kCacheBytes / bytes_of_row);
    return n < kTileRows ? kTileRows : n / kTileRows * kTileRows;
}

// value * gelu(gate) of the rows of a tile, `columns` of a vector
template <class T> struct Gated {
    const T *bias_value, *bias_gate;
    T* y;
    int64_t stride;
    int columns;

    typedef Vector<Compute<T>> V;
    static constexpr int kColumns = kLanes<Compute<T>>;

    void whole(int row, V value, V gate) const { put(row, value, gate, kColumns); }
    UA_KERNEL void part(int row, V value, V gate) const { put(row, value, gate, columns); }
    void put(int row, V value, V gate, int n) const {
        value += load(bias_value, n);
        gate += load(bias_gate, n);
        store(y + row * stride, value * gate * normal_cdf(gate), n);
    }
};

template <class Format> class FeedForward {
    typedef Value<Format> T;
    typedef Unit<Format> U;
    static constexpr int kLane = kLanes<U>; // hidden values of a panel of the first weight

public:
    explicit FeedForward(const ua_feed_forward* a)
        : a_(a), block_(rows_of_item(a->rows, a->call.threads, a->hidden * sizeof(T))) {
        panels_in_ = (a->hidden + kLane - 1) / kLane;
        panels_out_ = panels_of<Format>(a->dim);
        size_in_ = panel_size<Format>(a->dim);
        size_out_ = panel_size<Format>(a->hidden);
        in_ = static_cast<U*>(a->workspace);
        out_ = in_ + panels_in_ * size_in_;
        rows_ = out_ + panels_out_ * size_out_;
    }

    const char* run() {
        const U* end = rows_ + a_->call.threads * block_ * (a_->dim + a_->hidden);
        if (end > static_cast<U*>(a_->workspace) + a_->workspace_size) {
            return "the workspace is too small: reinstall the package";
        }
        parallel_for(a_->call.threads, panels_in_ + panels_out_, [&](int64_t p) {
            if (p < panels_in_) return pack_in(p);
            p -= panels_in_;
            pack_weight<Format>(a_->weight_out, a_->dim, a_->hidden, p, out_ + p * size_out_);
        });
        parallel_for_workers(a_->call.threads, (a_->rows + block_ - 1) / block_,
                             [&](int64_t item, int64_t worker) { item_of(item, worker); });
        return nullptr;
    }

private:
    // a vector of values beside the vector of their gates
    void pack_in(int64_t p) {
        auto row = [&](int i) -> const T* {
            const int64_t o = p * kLane + i % kLane;
            if (o >= a_->hidden) return nullptr;
            return static_cast<const T*>(a_->weight_in) + (i / kLane * a_->hidden + o) * a_->dim;
        };
        pack_panel<Format>(row, a_->dim, in_ + p * size_in_);
    }

    void item_of(int64_t item, int64_t worker) {
        const int64_t first = item * block_, n = smaller(block_, a_->rows - first);
        const int64_t dim = a_->dim, hidden = a_->hidden;
        const T* x = static_cast<const T*>(a_->x) + first * a_->x_stride;
        T* normed = reinterpret_cast<T*>(rows_ + worker * block_ * (dim + hidden));
        T* wide = normed + block_ * dim;
        for (int64_t i = 0; i < n; ++i) {
            layer_norm(x + i * a_->x_stride, dim, static_cast<const T*>(a_->norm_weight),
                       static_cast<const T*>(a_->norm_bias), Compute<T>(a_->eps),
                       normed + i * dim);
        }
        const T* bias = static_cast<const T*>(a_->bias_in);
        for (int64_t p = 0; p < panels_in_; ++p) {
            const int64_t c = p * kLane;
            over_rows<Format>(normed, dim, n, in_ + p * size_in_, dim, [&](int64_t row) {
                return Gated<T>{bias + c, bias + hidden + c, wide + row * hidden + c, hidden,
                                int(smaller(kLane, hidden - c))};
            });
        }
        bias = static_cast<const T*>(a_->bias_out);
        T* y = static_cast<T*>(a_->y) + first * dim;
        for (int64_t p = 0; p < panels_out_; ++p) {
            const int64_t c = p * Format::kPanel;
            over_rows<Format>(wide, hidden, n, out_ + p * size_out_, hidden, [&](int64_t row) {
                return Store<T>{bias + c,
                                x + row * a_->x_stride + c,
                                a_->x_stride,
                                y + row * dim + c,
                                dim,
                                int(smaller(Format::kPanel, dim - c))};
            });
        }
    }

    const ua_feed_forward* a_;
    int64_t block_, panels_in_, panels_out_, size_in_, size_out_;
    U *in_, *out_, *rows_;
};

} // namespace

UA_ENTRY(feed_forward_forward)(const ua_feed_forward* a) {
    return with_format(a, a->dim % 2 == 0 && a->hidden % 2 == 0, [&](auto format) {
        return FeedForward<decltype(format)>(a).run();
    });
}
