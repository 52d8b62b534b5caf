// Convolutions over frames with their normalisations, on the CPU. A convolution mixes the frames of
// one location, so an item, some locations with all their frames, goes through a stage on its own
// and in place: normalised into the thread's cache with a frame of zeros at either end, where three
// neighbouring frames are one row of a matrix product. Only the statistics join the items; they are
// taken of a stage's results while those are still in the cache.
#include "api.h"

#include "../moments.h"
#include "../parallel.h"
#include "../tiles.h"

namespace {

template <class Format> class Block {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;

public:
    explicit Block(const ua_temporal_conv_block* a) : a_(a) {
        width_ = round_up(a->channels, 16);
        chunks_ = (a->space + a->block - 1) / a->block;
        items_ = a->batch * chunks_;
        panels_ = panels_of<Format>(a->channels);
        panel_ = panel_size<Format>(3 * a->channels);
        lined_ = round_up((a->frames + 2) * a->channels * a->block, 64);
        turned_ = round_up(Format::kPanel * 3 * a->channels, 64);
        sums_ = static_cast<double*>(a->workspace);
        table_ = reinterpret_cast<A*>(sums_ + items_ * 2 * width_);
        packed_ = reinterpret_cast<U*>(table_ + a->batch * 3 * width_);
        threads_ = reinterpret_cast<T*>(packed_ + panels_ * panel_);
    }

    const char* run() {
        const T* end = threads_ + a_->call.threads * (lined_ + turned_);
        if (reinterpret_cast<const char*>(end) >
            static_cast<const char*>(a_->workspace) + a_->workspace_size) {
            return "the workspace is too small: reinstall the package";
        }
        over_items([&](int64_t item, int64_t) { measure(a_->x, item); });
        for (int i = 0; i < UA_STAGES; ++i) {
            const ua_stage& stage = a_->stages[i];
            const bool last = i == UA_STAGES - 1;
            for (int64_t b = 0; b < a_->batch; ++b) fold(stage, b);
            parallel_for_workers(a_->call.threads, panels_, [&](int64_t panel, int64_t worker) {
                pack(stage, panel, turned(worker));
            });
            over_items([&](int64_t item, int64_t worker) {
                convolve(stage, i == 0 ? a_->x : a_->y, last, item, lined(worker));
                if (!last) measure(a_->y, item);
            });
        }
        return nullptr;
    }

private:
    template <class Run> void over_items(const Run& run) {
        parallel_for_workers(a_->call.threads, items_, run);
    }
    T* lined(int64_t worker) { return threads_ + worker * (lined_ + turned_); }
    T* turned(int64_t worker) { return lined(worker) + lined_; }
    A* table(int64_t batch) { return table_ + batch * 3 * width_; }
    int64_t first(int64_t item) const { return item % chunks_ * a_->block; }
    int64_t count(int64_t item) const { return smaller(a_->block, a_->space - first(item)); }
    T* start(const ua_array& of, int64_t item) const {
        return static_cast<T*>(of.data) + item / chunks_ * of.stride[0] +
               first(item) * of.stride[2];
    }

    // sums and sums of squares of an item
    void measure(const ua_array& of, int64_t item) {
        const T* from = start(of, item);
        const int64_t n = count(item);
        auto row = [&](int64_t r) { return from + r / n * of.stride[1] + r % n * of.stride[2]; };
        moments<T>(row, a_->frames * n, a_->channels, sums_ + item * 2 * width_, width_);
    }

    // what is taken from a channel, what that is multiplied by, and what is added then
    void fold(const ua_stage& stage, int64_t batch) {
        const int64_t size = a_->channels / a_->groups;
        const double rows = double(a_->frames) * a_->space * size;
        const T* weight = static_cast<const T*>(stage.norm_weight);
        const T* bias = static_cast<const T*>(stage.norm_bias);
        for (int64_t g = 0; g < a_->groups; ++g) {
            double total = 0, squares = 0;
            for (int64_t item = batch * chunks_; item < (batch + 1) * chunks_; ++item) {
                const double* from = sums_ + item * 2 * width_ + g * size;
                for (int64_t c = 0; c < size; ++c) total += from[c];
                for (int64_t c = 0; c < size; ++c) squares += from[width_ + c];
            }
            const double mean = total / rows, variance = squares / rows - mean * mean;
            const double scale = 1 / sqrt((variance > 0 ? variance : 0) + a_->eps);
            for (int64_t c = g * size; c < (g + 1) * size; ++c) {
                table(batch)[c] = A(mean);
                table(batch)[width_ + c] = A(widen(weight[c]) * scale);
                table(batch)[2 * width_ + c] = widen(bias[c]);
            }
        }
    }

    // weight rows (input, frame) are turned to (frame, input), as the rows of the product lie
    void pack(const ua_stage& stage, int64_t panel, T* turned) {
        const int64_t channels = a_->channels, o = panel * Format::kPanel;
        const T* from = static_cast<const T*>(stage.weight) + o * 3 * channels;
        auto row = [&](int i) -> const T* {
            if (o + i >= channels) return nullptr;
            T* to = turned + i * 3 * channels;
            for (int64_t k = 0; k < 3 * channels; ++k) {
                to[k % 3 * channels + k / 3] = from[i * 3 * channels + k];
            }
            return to;
        };
        pack_panel<Format>(row, 3 * channels, packed_ + panel * panel_);
    }

    void convolve(const ua_stage& stage, const ua_array& in, bool last, int64_t item, T* lined) {
        const int64_t channels = a_->channels, frames = a_->frames, n = count(item);
        const int64_t line = (frames + 2) * channels;
        normalise(in, item, lined);
        const T* bias = static_cast<const T*>(stage.bias);
        const T* x = last ? start(a_->x, item) : nullptr;
        T* y = start(a_->y, item);
        const int64_t *xs = a_->x.stride, *ys = a_->y.stride;
        for (int64_t p = 0; p < panels_; ++p) {
            const int64_t c = p * Format::kPanel;
            const int columns = static_cast<int>(smaller(Format::kPanel, channels - c));
            for (int64_t s = 0; s < n; ++s) {
                const T* add = last ? x + s * xs[2] + c : nullptr;
                T* to = y + s * ys[2] + c;
                over_rows<Format>(lined + s * line, channels, frames, packed_ + p * panel_,
                                  3 * channels, [&](int64_t f) {
                                      return Store<T>{bias + c, last ? add + f * xs[1] : nullptr,
                                                      xs[1],    to + f * ys[1],
                                                      ys[1],    columns};
                                  });
            }
        }
    }

    // silu(normalised) of an item, location by location
    void normalise(const ua_array& in, int64_t item, T* lined) {
        constexpr int lanes = kLanes<A>;
        const int64_t channels = a_->channels, n = count(item);
        const int64_t line = (a_->frames + 2) * channels;
        const T* x = start(in, item);
        const A *mean = table(item / chunks_), *scale = mean + width_, *bias = scale + width_;
        for (int64_t s = 0; s < n; ++s) {
            memset(lined + s * line, 0, channels * sizeof(T));
            memset(lined + (s + 1) * line - channels, 0, channels * sizeof(T));
        }
        for (int64_t f = 0; f < a_->frames; ++f) {
            for (int64_t s = 0; s < n; ++s) {
                const T* from = x + f * in.stride[1] + s * in.stride[2];
                T* to = lined + s * line + (f + 1) * channels;
                for (int64_t c = 0; c < channels; c += lanes) {
                    const int count = static_cast<int>(smaller(lanes, channels - c));
                    Vector<A> v = (load(from + c, count) - load(mean + c)) * load(scale + c);
                    store(to + c, silu(v + load(bias + c)), count);
                }
            }
        }
    }

    const ua_temporal_conv_block* a_;
    int64_t width_, chunks_, items_, panels_, panel_, lined_, turned_;
    double* sums_;
    A* table_;
    U* packed_;
    T* threads_;
};

} // namespace

UA_ENTRY(temporal_conv_block_forward)(const ua_temporal_conv_block* a) {
    return with_format(a, a->channels % 2 == 0,
                       [&](auto format) { return Block<decltype(format)>(a).run(); });
}
