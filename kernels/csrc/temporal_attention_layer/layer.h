// Self-attention over frames with its projections, on the CPU. A thread takes some locations of an
// item through the whole layer, so that queries, keys and values never leave its cache.
#pragma once
#include "api.h"

#include "../layer_norm.h"
#include "../parallel.h"
#include "../temporal_attention/place.h"
#include "../tiles.h"

namespace {

// copies of the rows of a location that are attended to at once: half of a small L2 cache
constexpr int64_t kCopyBytes = 256 * 1024;

// adds the bias and the rows that came in; row r is frame r % frames of location r / frames
template <class T> struct Residual {
    const T *bias, *x;
    T* y;
    const int64_t *x_stride, *y_stride; // of the batch, the frame and the location
    int64_t frames, first;
    int columns;

    typedef Vector<Compute<T>> V;
    static constexpr int kLane = kLanes<Compute<T>>, kColumns = 2 * kLane;

    void whole(int row, V one, V two) const { put(row, one, two, kLane, kLane); }
    UA_KERNEL void part(int row, V one, V two) const {
        put(row, one, two, columns < kLane ? columns : kLane, columns - kLane);
    }
    void put(int row, V one, V two, int n, int m) const {
        const int64_t location = (first + row) / frames, frame = (first + row) % frames;
        const T* from = x + frame * x_stride[1] + location * x_stride[2];
        T* to = y + frame * y_stride[1] + location * y_stride[2];
        store(to, one + load(bias, n) + load(from, n), n);
        if (m > 0) store(to + kLane, two + load(bias + kLane, m) + load(from + kLane, m), m);
    }
};

template <class Format> class Layer {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;

public:
    explicit Layer(const ua_temporal_attention_layer* a) : a_(a) {
        inner_ = a->heads * a->head_dim;
        panels_in_ = panels_of<Format>(inner_);
        panels_out_ = panels_of<Format>(a->dim);
        size_in_ = panel_size<Format>(a->dim);
        size_out_ = panel_size<Format>(inner_);
        in_ = static_cast<U*>(a->workspace);
        out_ = in_ + 3 * panels_in_ * size_in_;
        threads_ = out_ + panels_out_ * size_out_;
        const int64_t width = round_up(a->head_dim, kLanes<A>);
        const int64_t head_size = 3 * a->frames * width;
        slot_heads_ = smaller(a->heads, kCopyBytes / int64_t(head_size * sizeof(A)));
        if (slot_heads_ < 1) slot_heads_ = 1;
        copy_size_ = slot_heads_ * a->frames * width;
        score_size_ = round_up(a->frames, kLanes<A>) * kVectors * kLanes<A>;
        turned_size_ = width * kVectors * kLanes<A>;
    }

    const char* run() {
        const int64_t rows = a_->block * a_->frames * (a_->dim + 3 * inner_);
        const U* end = threads_ + a_->call.threads * a_->thread_size;
        if (3 * copy_size_ + score_size_ + turned_size_ + rows > a_->thread_size ||
            end > static_cast<U*>(a_->workspace) + a_->workspace_size) {
            return "the workspace is too small: reinstall the package";
        }
        parallel_for(a_->call.threads, 3 * panels_in_ + panels_out_, [&](int64_t p) { pack(p); });
        const int64_t blocks = (a_->locations + a_->block - 1) / a_->block;
        parallel_for_workers(a_->call.threads, a_->batch * blocks,
                             [&](int64_t item, int64_t worker) {
                                 block_of(item / blocks, item % blocks * a_->block,
                                          threads_ + worker * a_->thread_size);
                             });
        return nullptr;
    }

private:
    void pack(int64_t p) {
        if (p < 3 * panels_in_) {
            const void* weights[] = {a_->to_q, a_->to_k, a_->to_v};
            pack_weight<Format>(weights[p / panels_in_], inner_, a_->dim, p % panels_in_,
                                in_ + p * size_in_);
        } else {
            p -= 3 * panels_in_;
            pack_weight<Format>(a_->to_out, a_->dim, inner_, p, out_ + p * size_out_);
        }
    }

    void block_of(int64_t batch, int64_t location, U* memory) {
        const int64_t dim = a_->dim, frames = a_->frames;
        const int64_t *xs = a_->x.stride, *ys = a_->y.stride;
        const int64_t n = smaller(a_->block, a_->locations - location), rows = n * frames;
        const T* x = static_cast<const T*>(a_->x.data) + batch * xs[0] + location * xs[2];
        T* y = static_cast<T*>(a_->y.data) + batch * ys[0] + location * ys[2];

        A* copies = memory;
        A* scores = copies + 3 * copy_size_;
        A* turned = scores + score_size_;
        T* normed = reinterpret_cast<T*>(turned + turned_size_);
        T* qkv = normed + a_->block * frames * dim;
        for (int64_t f = 0; f < frames; ++f) {
            for (int64_t s = 0; s < n; ++s) {
                layer_norm(x + f * xs[1] + s * xs[2], dim,
                           static_cast<const T*>(a_->norm_weight),
                           static_cast<const T*>(a_->norm_bias), A(a_->eps),
                           normed + (s * frames + f) * dim);
            }
        }
        for (int64_t p = 0; p < 3 * panels_in_; ++p) {
            const int64_t c = p % panels_in_ * Format::kPanel, column = p / panels_in_ * inner_ + c;
            over_rows<Format>(normed, dim, rows, in_ + p * size_in_, dim, [&](int64_t row) {
                return Store<T>{nullptr, nullptr, 0, qkv + row * 3 * inner_ + column, 3 * inner_,
                                int(smaller(Format::kPanel, inner_ - c))};
            });
        }
        const ua_temporal_attention attention = over(qkv, n);
        for (int64_t s = 0; s < n; ++s) {
            for (int64_t head = 0; head < a_->heads; head += slot_heads_) {
                Place at{0, s, head, smaller(slot_heads_, a_->heads - head)};
                attend<T>(&attention, at, Slot<A>{copies, scores, turned, copy_size_, score_size_});
            }
        }
        const T* bias = static_cast<const T*>(a_->bias);
        for (int64_t p = 0; p < panels_out_; ++p) {
            const int64_t c = p * Format::kPanel;
            over_rows<Format>(qkv, 3 * inner_, rows, out_ + p * size_out_, inner_, [&](int64_t row) {
                return Residual<T>{bias + c, x + c, y + c, xs, ys, frames, row,
                                   int(smaller(Format::kPanel, dim - c))};
            });
        }
    }

    // the attention of n locations; its result takes the place of the queries
    ua_temporal_attention over(T* qkv, int64_t n) const {
        ua_temporal_attention it = {};
        it.batch = 1;
        it.frames = a_->frames;
        it.locations = n;
        it.heads = a_->heads;
        it.dim = a_->head_dim;
        const int64_t row = 3 * inner_;
        it.q = {qkv, {0, row, row * a_->frames, a_->head_dim}};
        it.k = it.v = it.out = it.q;
        it.k.data = qkv + inner_;
        it.v.data = qkv + 2 * inner_;
        it.scale = 1 / sqrt(double(a_->head_dim));
        return it;
    }

    const ua_temporal_attention_layer* a_;
    int64_t inner_, panels_in_, panels_out_, size_in_, size_out_;
    int64_t slot_heads_, copy_size_, score_size_, turned_size_;
    U *in_, *out_, *threads_;
};

} // namespace
