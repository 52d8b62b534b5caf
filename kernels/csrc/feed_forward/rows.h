// The feed-forward of a transformer on rows in a thread's cache, and as an op of its own.
#pragma once
#include "api.h"

#include "../geglu/gelu.h"
#include "../layer_norm.h"
#include "../linear.h"
#include "../parallel.h"

namespace {

// value * gelu(gate) of the rows of a tile, `columns` of a vector
template <class Format> struct Gated {
    typedef Value<Format> T;
    Vector<Compute<T>> bias_value, bias_gate;
    T* y;
    int64_t stride;
    int columns;

    typedef Vector<Compute<T>> V;
    static constexpr int kColumns = kLanes<Compute<T>>;

    void whole(int row, V value, V gate) const { put(row, value, gate, kColumns); }
    UA_KERNEL void part(int row, V value, V gate) const { put(row, value, gate, columns); }
    void put(int row, V value, V gate, int n) const {
        value += bias_value;
        gate += bias_gate;
        const bool short_result = sizeof(T) == sizeof(bfloat16);
        const V cdf = short_result ? normal_cdf_bfloat16(gate) : normal_cdf(gate);
        save<Format>(y + row * stride, value * gate * cdf, n);
    }
};

template <class Format> class FeedForward {
    typedef Value<Format> T;
    typedef Unit<Format> U;
    static constexpr int kLane = kLanes<U>; // hidden values of a panel of the first weight

public:
    FeedForward(const ua_feed_forward_weights& weights, int64_t dim, int64_t hidden, double eps,
                U* packed)
        : w_(weights), dim_(dim), hidden_(hidden), eps_(Compute<T>(eps)), in_(packed) {
        panels_in_ = (hidden + kLane - 1) / kLane;
        out_ = {weights.weight_out, dim, hidden, in_ + panels_in_ * panel_size<Format>(dim)};
    }

    int64_t panels() const { return panels_in_ + out_.panels(); }
    U* end() const { return out_.packed + out_.size(); }

    void pack(int64_t p) const {
        if (p >= panels_in_) return out_.pack(p - panels_in_);
        // a vector of values beside the vector of their gates
        auto row = [&](int i) -> const T* {
            const int64_t o = p * kLane + i % kLane;
            if (o >= hidden_) return nullptr;
            return static_cast<const T*>(w_.weight_in) + (i / kLane * hidden_ + o) * dim_;
        };
        pack_panel<Format>(row, dim_, in_ + p * panel_size<Format>(dim_));
    }

    // y = x + ...; `normed` and `wide` have room for the rows; y may be x
    void apply(const T* x, int64_t x_stride, int64_t rows, T* normed, T* wide, T* y,
               int64_t y_stride) const {
        layer_norm<Format>(x, x_stride, rows, dim_, static_cast<const T*>(w_.norm_weight),
                           static_cast<const T*>(w_.norm_bias), eps_, normed);
        const T* bias = static_cast<const T*>(w_.bias_in);
        for (int64_t p = 0; p < panels_in_; ++p) {
            const int64_t c = p * kLane;
            over_rows<Format>(normed, dim_, rows, in_ + p * panel_size<Format>(dim_), dim_,
                              [&](int64_t row) {
                                  const int n = int(smaller(kLane, hidden_ - c));
                                  return Gated<Format>{load(bias + c, n),
                                                       load(bias + hidden_ + c, n),
                                                       wide + row * hidden_ + c, hidden_, n};
                              });
        }
        out_.apply(wide, hidden_, rows, w_.bias_out, x, x_stride, y, y_stride);
    }

private:
    ua_feed_forward_weights w_;
    int64_t dim_, hidden_, panels_in_;
    Compute<T> eps_;
    U* in_;
    Linear<Format> out_;
};

// rows of an item: few enough that every thread gets several and their hidden values fit into its
// cache, many enough that reading the panels from the cache behind it does not matter
constexpr int64_t kMostRows = 8 * kTileRows;
constexpr int64_t kCacheBytes = 2 * 1024 * 1024;

inline int64_t rows_of_item(int64_t rows, int64_t threads, int64_t bytes_of_row) {
    int64_t n = smaller(smaller(kMostRows, rows / (4 * threads)), kCacheBytes / bytes_of_row);
    return n < kTileRows ? kTileRows : n / kTileRows * kTileRows;
}

// The weights are packed; then threads take blocks of rows.
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
