// A transformer over frames on the CPU. Only the statistics of its norm join the locations: with
// those at hand a thread takes some locations, all frames of them, through all layers, and what is
// between the layers never leaves its cache.
#pragma once
#include "attention.h"

#include "../clip_norm.h"
#include "../feed_forward/rows.h"
#include "../frames.h"
#include "../parallel.h"

namespace {

template <class Format> class Transformer {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;

public:
    explicit Transformer(const ua_temporal_transformer* a)
        : a_(a), inner_(a->heads * a->head_dim), items_((a->locations + a->block - 1) / a->block),
          norm_(a->batch, items_, double(a->frames) * a->locations, a->dim, a->groups,
                a->workspace),
          proj_in_{a->proj_in.weight, inner_, a->dim, static_cast<U*>(a->packed.data)},
          first_(a->attentions[0], a->frames, a->heads, a->head_dim, a->eps,
                 proj_in_.packed + proj_in_.size()),
          second_(a->attentions[1], a->frames, a->heads, a->head_dim, a->eps, first_.end()),
          feed_forward_(a->feed_forward, inner_, a->hidden, a->eps, second_.end()),
          proj_out_{a->proj_out.weight, a->dim, inner_, feed_forward_.end()},
          threads_(static_cast<U*>(norm_.end())) {}

    const char* run() {
        const int64_t threads = a_->call.threads;
        const U* end = threads_ + threads * a_->thread_size;
        if (reinterpret_cast<const char*>(end) >
                static_cast<const char*>(a_->workspace) + a_->workspace_size ||
            own() > a_->thread_size || !fits(a_->packed, proj_out_.packed + proj_out_.size())) {
            return "the workspace is too small: reinstall the package";
        }
        // both read only what came in
        const int64_t all = a_->batch * items_;
        parallel_for(threads, all + (a_->packed.filled ? 0 : panels()), [&](int64_t i) {
            i < all ? measure(i) : pack(i - all);
        });
        for (int64_t b = 0; b < a_->batch; ++b) {
            norm_.fold(b, a_->norm_weight, a_->norm_bias, a_->norm_eps);
        }
        parallel_for_workers(threads, all, [&](int64_t item, int64_t worker) {
            transform(item, threads_ + worker * a_->thread_size);
        });
        return nullptr;
    }

private:
    int64_t panels() const {
        return panels_in(proj_in_, first_, second_, feed_forward_, proj_out_);
    }
    void pack(int64_t p) const { pack_in(p, proj_in_, first_, second_, feed_forward_, proj_out_); }

    // of a thread: copies and scores; rows normalised, between the layers, and wide
    int64_t own() const {
        return first_.scratch() + a_->block * a_->frames * (normed() + inner_ + wide());
    }
    int64_t normed() const { return a_->dim > inner_ ? a_->dim : inner_; }
    int64_t wide() const { return a_->hidden > 3 * inner_ ? a_->hidden : 3 * inner_; }

    int64_t location(int64_t item) const { return item % items_ * a_->block; }
    int64_t count(int64_t item) const { return smaller(a_->block, a_->locations - location(item)); }
    T* start(const ua_array& of, int64_t item) const {
        return static_cast<T*>(of.data) + item / items_ * of.stride[0] +
               location(item) * of.stride[2];
    }

    void measure(int64_t item) const {
        const T* x = start(a_->x, item);
        const int64_t n = count(item), *stride = a_->x.stride;
        norm_.measure(
            item, [&](int64_t r) { return x + r / n * stride[1] + r % n * stride[2]; },
            a_->frames * n);
    }

    void transform(int64_t item, U* memory) const {
        const int64_t frames = a_->frames, n = count(item), rows = n * frames;
        const int64_t *xs = a_->x.stride, *ys = a_->y.stride;
        const T* x = start(a_->x, item);
        T* y = start(a_->y, item);
        T* normed = reinterpret_cast<T*>(memory + first_.scratch());
        T* h = normed + a_->block * frames * this->normed();
        T* wide = h + a_->block * frames * inner_;
        for (int64_t f = 0; f < frames; ++f) {
            for (int64_t s = 0; s < n; ++s) {
                norm_.apply(item / items_, x + f * xs[1] + s * xs[2],
                            normed + (f * n + s) * a_->dim);
            }
        }
        proj_in_.apply(normed, a_->dim, rows, a_->proj_in.bias, nullptr, 0, h, inner_);
        first_.apply(h, n, normed, wide, memory);
        second_.apply(h, n, normed, wide, memory);
        feed_forward_.apply(h, inner_, rows, normed, wide, h, inner_);
        const T* bias = static_cast<const T*>(a_->proj_out.bias);
        proj_out_.apply(h, inner_, rows, [&](int64_t row, int64_t c, int columns) {
            return Frames<Format>{{bias + c, columns}, x + c, y + c, xs, ys, n, frames, row, 1, 0,
                                  columns};
        });
    }

    const ua_temporal_transformer* a_;
    int64_t inner_, items_;
    ClipNorm<Format> norm_;
    Linear<Format> proj_in_;
    Attention<Format> first_, second_;
    FeedForward<Format> feed_forward_;
    Linear<Format> proj_out_;
    U* threads_;
};

} // namespace
