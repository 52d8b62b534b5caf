// Self-attention over frames with its projections, on rows in a thread's cache: those of some
// locations, frame by frame.
#pragma once
#include "api.h"

#include "../layer_norm.h"
#include "../linear.h"
#include "../temporal_attention/place.h"

namespace {

// copies of the rows of a location that are attended to at once: half of a small L2 cache
constexpr int64_t kCopyBytes = 256 * 1024;

template <class Format> class Attention {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;

public:
    Attention(const ua_attention& weights, int64_t frames, int64_t heads, int64_t head_dim,
              double eps, U* packed)
        : w_(weights), frames_(frames), heads_(heads), head_dim_(head_dim),
          inner_(heads * head_dim), eps_(A(eps)) {
        const void* of_layers[] = {weights.to_q, weights.to_k, weights.to_v, weights.to_out};
        for (int i = 0; i < kLayers; ++i) {
            layers_[i] = {of_layers[i], inner_, inner_, packed};
            packed += layers_[i].size();
        }
        const int64_t width = round_up(head_dim, kLanes<A>), head_size = 3 * frames * width;
        at_once_ = smaller(heads, kCopyBytes / int64_t(head_size * sizeof(A)));
        if (at_once_ < 1) at_once_ = 1;
        copy_size_ = at_once_ * frames * width;
        score_size_ = round_up(frames, kLanes<A>) * kVectors * kLanes<A>;
        scratch_ = 3 * copy_size_ + score_size_ + width * kVectors * kLanes<A>;
    }

    int64_t panels() const { return kLayers * layers_[0].panels(); }
    U* end() const { return layers_[0].packed + kLayers * layers_[0].size(); }
    int64_t scratch() const { return scratch_; }
    void pack(int64_t p) const { layers_[p / layers_[0].panels()].pack(p % layers_[0].panels()); }

    // h += ... in place; `normed` has room for the rows, `qkv` for three times as many
    void apply(T* h, int64_t locations, T* normed, T* qkv, A* scratch) const {
        const int64_t rows = locations * frames_, row = 3 * inner_;
        layer_norm<Format>(h, inner_, rows, inner_, static_cast<const T*>(w_.norm_weight),
                           static_cast<const T*>(w_.norm_bias), eps_, normed);
        for (int i = 0; i < 3; ++i) {
            layers_[i].apply(normed, inner_, rows, nullptr, nullptr, 0, qkv + i * inner_, row);
        }
        // the result takes the place of the queries
        const ua_temporal_attention core = over(qkv, locations);
        const Slot<A> slot{scratch, scratch + 3 * copy_size_,
                           scratch + 3 * copy_size_ + score_size_, copy_size_, score_size_};
        for (int64_t s = 0; s < locations; ++s) {
            for (int64_t head = 0; head < heads_; head += at_once_) {
                attend<T>(&core, Place{0, s, head, smaller(at_once_, heads_ - head)}, slot);
            }
        }
        layers_[3].apply(qkv, row, rows, w_.bias, h, inner_, h, inner_);
    }

private:
    static constexpr int kLayers = 4;

    ua_temporal_attention over(T* qkv, int64_t locations) const {
        ua_temporal_attention it = {};
        it.batch = 1;
        it.frames = frames_;
        it.locations = locations;
        it.heads = heads_;
        it.dim = head_dim_;
        const int64_t row = 3 * inner_;
        it.q = {qkv, {0, row * locations, row, head_dim_}};
        it.k = it.v = it.out = it.q;
        it.k.data = qkv + inner_;
        it.v.data = qkv + 2 * inner_;
        it.scale = 1 / sqrt(double(head_dim_));
        return it;
    }

    ua_attention w_;
    int64_t frames_, heads_, head_dim_, inner_;
    A eps_;
    int64_t at_once_, copy_size_, score_size_, scratch_;
    Linear<Format> layers_[kLayers];
};

} // namespace
