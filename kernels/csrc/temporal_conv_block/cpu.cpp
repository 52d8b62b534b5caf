// Convolutions over frames with their normalisations, on the CPU. A convolution mixes the frames of
// one location, so an item, some locations with all their frames, goes through a stage on its own
// and in place: normalised into the thread's cache, from where the products take it. Only the
// statistics join the items; they are taken of a stage's results while those are still in the cache.
#include "api.h"

#include "../clip_norm.h"
#include "../frames.h"
#include "../parallel.h"
#include "direct.h"
#include "winograd.h"

namespace {

// how a convolution is made of products
template <class Format> struct Method : Winograd<Unit<Format>> {};
#ifdef UA_PAIRS
template <> struct Method<Pair> : Direct {};
#endif

template <class Format> class Block {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;
    typedef Method<Format> M;
    typedef typename M::Row Row;

public:
    explicit Block(const ua_temporal_conv_block* a)
        : a_(a), chunks_((a->space + a->block - 1) / a->block), items_(a->batch * chunks_),
          norm_(a->batch, chunks_, double(a->frames) * a->space, a->channels, a->groups,
                a->workspace) {
        panels_ = panels_of<Format>(a->channels);
        panel_ = panel_size<Format>(M::kProducts * a->channels);
        // a thread's rows, and before there are any a weight as it lies
        const int64_t rows = M::lines(a->frames) * a->channels * a->block;
        const int64_t weight = panel_size<Format>(3 * a->channels) * sizeof(U) / sizeof(Row);
        own_ = round_up(rows > weight ? rows : weight, 64);
        threads_ = static_cast<Row*>(norm_.end());
    }

    const char* run() {
        const Row* end = threads_ + a_->call.threads * own_;
        if (reinterpret_cast<const char*>(end) >
                static_cast<const char*>(a_->workspace) + a_->workspace_size ||
            !fits(a_->packed, packed(UA_STAGES - 1) + panels_ * panel_)) {
            return "the workspace is too small: reinstall the package";
        }
        over_items([&](int64_t item, int64_t) { measure(a_->x, item); });
        for (int i = 0; i < UA_STAGES; ++i) {
            const ua_stage& stage = a_->stages[i];
            const bool last = i == UA_STAGES - 1;
            for (int64_t b = 0; b < a_->batch; ++b) {
                norm_.fold(b, stage.norm_weight, stage.norm_bias, a_->eps);
            }
            U* weight = packed(i);
            const int64_t panels = a_->packed.filled ? 0 : panels_;
            parallel_for_workers(a_->call.threads, panels, [&](int64_t panel, int64_t worker) {
                pack(stage, panel, rows_of(worker), weight);
            });
            over_items([&](int64_t item, int64_t worker) {
                convolve(stage, weight, i == 0 ? a_->x : a_->y, last, item, rows_of(worker));
                if (!last) measure(a_->y, item);
            });
        }
        return nullptr;
    }

private:
    template <class Run> void over_items(const Run& run) {
        parallel_for_workers(a_->call.threads, items_, run);
    }
    Row* rows_of(int64_t worker) { return threads_ + worker * own_; }
    U* packed(int stage) const {
        return static_cast<U*>(a_->packed.data) + (a_->packed.kept ? stage : 0) * panels_ * panel_;
    }
    int64_t first(int64_t item) const { return item % chunks_ * a_->block; }
    int64_t count(int64_t item) const { return smaller(a_->block, a_->space - first(item)); }
    T* start(const ua_array& of, int64_t item) const {
        return static_cast<T*>(of.data) + item / chunks_ * of.stride[0] +
               first(item) * of.stride[2];
    }

    void measure(const ua_array& of, int64_t item) {
        const T* from = start(of, item);
        const int64_t n = count(item);
        auto row = [&](int64_t r) { return from + r / n * of.stride[1] + r % n * of.stride[2]; };
        norm_.measure(item, row, a_->frames * n);
    }

    void pack(const ua_stage& stage, int64_t panel, Row* rows, U* weight) {
        const int64_t channels = a_->channels;
        U* lying = reinterpret_cast<U*>(rows);
        pack_weight<Format>(stage.weight, channels, 3 * channels, panel, lying);
        M::order(lying, channels, weight + panel * panel_);
    }

    void convolve(const ua_stage& stage, const U* weight, const ua_array& in, bool last,
                  int64_t item, Row* rows) {
        const int64_t channels = a_->channels, n = count(item);
        M::prepare(activated(in, item), a_->frames, n * channels, rows);
        const T* bias = static_cast<const T*>(stage.bias);
        const T* x = last ? start(a_->x, item) : nullptr;
        T* y = start(a_->y, item);
        for (int64_t p = 0; p < panels_; ++p) {
            const int64_t c = p * Format::kPanel;
            const int columns = static_cast<int>(smaller(Format::kPanel, channels - c));
            const Bias<T> added(bias + c, columns);
            M::convolve(rows, a_->frames, n * channels, weight + p * panel_, channels,
                        [&](int64_t row, int frame) {
                            return Frames<Format>{added,        last ? x + c : nullptr,
                                                  y + c,        a_->x.stride,
                                                  a_->y.stride, n,
                                                  a_->frames,   row,
                                                  M::kFrames,   frame,
                                                  columns};
                        });
        }
    }

    // silu(normalised) of an item
    struct Activated {
        const T* x;
        int64_t frame, location; // strides
        typename ClipNorm<Format>::Folded normalised;
        int64_t locations, frames, channels;

        // Calls run(i, n, at) for every vector of a frame: n values from value i on. at(f) is that
        // vector of frame f, zero behind the last one.
        template <class Run> void each(const Run& run) const {
            const Activated my = *this; // in registers: the compiler takes stores for its changes
            for (int64_t s = 0; s < my.locations; ++s) {
                for (int64_t c = 0; c < my.channels; c += kLanes<A>) {
                    const int n = static_cast<int>(smaller(kLanes<A>, my.channels - c));
                    const T* from = my.x + s * my.location + c;
                    run(s * my.channels + c, n, [&](int64_t f) {
                        if (f >= my.frames) return Vector<A>{};
                        return silu(my.normalised(load(from + f * my.frame, n), c));
                    });
                }
            }
        }
    };
    Activated activated(const ua_array& in, int64_t item) const {
        return {start(in, item),           in.stride[1], in.stride[2],
                norm_.folded(item / chunks_), count(item),  a_->frames, a_->channels};
    }

    const ua_temporal_conv_block* a_;
    int64_t chunks_, items_;
    ClipNorm<Format> norm_;
    int64_t panels_, panel_, own_;
    Row* threads_;
};

} // namespace

UA_ENTRY(temporal_conv_block_forward)(const ua_temporal_conv_block* a) {
    return with_format(a, [&](auto format) { return Block<decltype(format)>(a).run(); });
}
