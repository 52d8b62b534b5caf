// Two convolutions of pictures with their norms and the shortcut, on the CPU. What a convolution
// takes is made first, because the statistics are of whole pictures. The result of the first one,
// and then the shortcut, lie where the block's result will.
#include "api.h"

#include "../clip_norm.h"
#include "../linear.h"
#include "../spatial_conv/convolution.h"

namespace {

template <class Format> class Block {
    typedef Value<Format> T;
    typedef Convolution<T, sizeof(T) == sizeof(float) ? 2 : 4> Conv;

public:
    explicit Block(const ua_resnet_block* a)
        : a_(a), pixels_(a->height * a->width), cuts_((pixels_ + a->cut - 1) / a->cut),
          norms_{norm_of(a->in), norm_of(a->out)} {
        const bool wider = a->out > a->in;
        normed_ = static_cast<T*>(norms_[wider].end());
        embedding_ = normed_ + a->items * pixels_ * (wider ? a->out : a->in);
        added_ = embedding_ + a->embeddings * a->emb_dim;
        // at the start of a line of the cache
        const int64_t before = bytes_to(added_ + a->embeddings * a->out, a->workspace);
        threads_ = static_cast<char*>(a->workspace) + round_up(before, 64);
        float* packed = static_cast<float*>(a->packed.data);
        emb_proj_ = linear_of(a->emb_proj, a->emb_dim, packed);
        skip_ = linear_of(a->skip, a->in, packed);
        packed_ = packed;
        for (int i = 0; i < UA_CONVOLUTIONS; ++i) {
            convs_[i] = conv_of(i, packed);
            packed += Conv(&convs_[i]).packed_size();
        }
        convs_[1].add = pictures(skip_.weight ? a->y : a->x);
    }

    const char* run() const {
        if (bytes_to(threads_, a_->workspace) > a_->workspace_size || !fits(a_->packed, packed_)) {
            return "the workspace is too small: reinstall the package";
        }
        const int64_t panels = a_->packed.filled ? 0 : panels_in(emb_proj_, skip_);
        parallel_for(a_->call.threads, panels, [&](int64_t p) { pack_in(p, emb_proj_, skip_); });
        project();
        normalise(0, a_->x, nullptr);
        if (const char* error = Conv(&convs_[0]).run()) return error;
        normalise(1, a_->y, emb_proj_.weight ? added_ : nullptr);
        if (skip_.weight) {
            over_pixels([&](int64_t item, int64_t first, int64_t n) {
                skip_.apply(row(a_->x, item, first), a_->x.stride[1], n, a_->skip.bias, nullptr, 0,
                            row(a_->y, item, first), a_->y.stride[1]);
            });
        }
        return Conv(&convs_[1]).run();
    }

private:
    static int64_t bytes_to(const void* end, const void* start) {
        return static_cast<const char*>(end) - static_cast<const char*>(start);
    }
    int64_t channels_into(int conv) const { return conv ? a_->out : a_->in; }

    ClipNorm<Format> norm_of(int64_t channels) const {
        return {a_->items, cuts_, double(pixels_), channels, a_->groups, a_->workspace};
    }
    ua_array pictures(const ua_array& rows) const {
        return {rows.data, {rows.stride[0], a_->width * rows.stride[1], rows.stride[1]}};
    }
    // without outputs where there is no weight
    Linear<Format> linear_of(const ua_linear& layer, int64_t in, float*& packed) const {
        const Linear<Format> it{layer.weight, layer.weight ? a_->out : 0, in, packed};
        packed += it.size();
        return it;
    }
    // from the pictures that are normalised for it to where the result of the block will be
    ua_spatial_conv conv_of(int i, float* packed) const {
        const ua_normed_conv& layer = a_->convs[i];
        const int64_t in = channels_into(i), packed_before = bytes_to(packed, a_->packed.data);
        ua_spatial_conv it = {};
        it.call = a_->call;
        it.items = a_->items;
        it.height = a_->height;
        it.width = a_->width;
        it.in = in;
        it.out = a_->out;
        it.x = pictures({normed_, {pixels_ * in, in}});
        it.y = pictures(a_->y);
        it.weight = layer.weight;
        it.bias = layer.bias;
        it.packed = {packed, a_->packed.size - packed_before, a_->packed.kept, a_->packed.filled};
        it.workspace = threads_;
        it.workspace_size =
            (a_->workspace_size - bytes_to(threads_, a_->workspace)) / int64_t(sizeof(float));
        it.channels_last = layer.channels_last;
        it.places = a_->places;
        it.tiles = a_->tiles;
        it.block = layer.block;
        return it;
    }

    static T* row(const ua_array& of, int64_t item, int64_t pixel) {
        return static_cast<T*>(of.data) + item * of.stride[0] + pixel * of.stride[1];
    }

    // shares out the pixels of the pictures: run(item, first pixel, how many)
    template <class Run> void over_pixels(const Run& run) const {
        parallel_for(a_->call.threads, a_->items * cuts_, [&](int64_t i) {
            const int64_t first = i % cuts_ * a_->cut;
            run(i / cuts_, first, smaller(a_->cut, pixels_ - first));
        });
    }

    // what is added behind the first convolution: little work
    void project() const {
        for (int64_t i = 0; i < a_->embeddings; ++i) {
            T* to = embedding_ + i * a_->emb_dim;
            constexpr int64_t lanes = kLanes<Compute<T>>;
            for (int64_t c = 0; c < a_->emb_dim; c += lanes) {
                const int n = static_cast<int>(smaller(lanes, a_->emb_dim - c));
                save<Format>(to + c, silu(load(row(a_->embedding, i, 0) + c, n)), n);
            }
        }
        emb_proj_.apply(embedding_, a_->emb_dim, a_->embeddings, a_->emb_proj.bias, nullptr, 0,
                        added_, a_->out);
    }

    // makes what a convolution takes from pictures, to which `added` is added if there is any
    void normalise(int conv, const ua_array& from, const T* added) const {
        const ua_normed_conv& layer = a_->convs[conv];
        const ClipNorm<Format>& norm = norms_[conv];
        const int64_t channels = channels_into(conv);
        over_pixels([&](int64_t item, int64_t first, int64_t n) {
            auto of = [&](int64_t r) { return row(from, item, first + r); };
            norm.measure(item * cuts_ + first / a_->cut, of, n);
        });
        parallel_for(a_->call.threads, a_->items, [&](int64_t item) {
            norm.fold(item, layer.norm_weight, layer.norm_bias, a_->eps,
                      added ? added + item / (a_->items / a_->embeddings) * channels : nullptr);
        });
        over_pixels([&](int64_t item, int64_t first, int64_t n) {
            activate(norm.folded(item), row(from, item, first), from.stride[1], n, channels,
                     normed_ + (item * pixels_ + first) * channels);
        });
    }

    UA_KERNEL static void activate(const typename ClipNorm<Format>::Folded normalised,
                                   const T* from, int64_t stride, int64_t rows, int64_t channels,
                                   T* to) {
        constexpr int64_t lanes = kLanes<Compute<T>>;
        for (int64_t r = 0; r < rows; ++r, from += stride, to += channels) {
            for (int64_t c = 0; c < channels; c += lanes) {
                const int n = static_cast<int>(smaller(lanes, channels - c));
                save<Format>(to + c, silu(normalised(load(from + c, n), c)), n);
            }
        }
    }

    const ua_resnet_block* a_;
    int64_t pixels_, cuts_;
    ClipNorm<Format> norms_[UA_CONVOLUTIONS];
    Linear<Format> emb_proj_, skip_;
    ua_spatial_conv convs_[UA_CONVOLUTIONS];
    T *normed_, *embedding_, *added_;
    void* threads_;
    float* packed_; // of the convolutions
};

} // namespace

UA_ENTRY(resnet_block_forward)(const ua_resnet_block* a) {
    return with_format(a, [&](auto format) { return Block<decltype(format)>(a).run(); });
}
