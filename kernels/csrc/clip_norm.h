// Group normalisation over clips of rows that are cut into items, the same cut for any threads.
#pragma once
#include "moments.h"
#include "tiles.h"

namespace {

template <class Format> class ClipNorm {
    typedef Value<Format> T;
    typedef Compute<T> A;

public:
    // rows: of a clip; items: of it
    ClipNorm(int64_t batch, int64_t items, double rows, int64_t channels, int64_t groups,
             void* memory)
        : items_(items), rows_(rows), channels_(channels), groups_(groups),
          width_(round_up(channels, kLanes<A>)), sums_(static_cast<double*>(memory)),
          table_(reinterpret_cast<A*>(sums_ + batch * items * 2 * width_)),
          end_(table_ + batch * 3 * width_) {}

    void* end() const { return end_; }

    // takes up the `rows` rows of an item, which row(i) finds
    template <class Row> void measure(int64_t item, const Row& row, int64_t rows) const {
        moments<T>(row, rows, channels_, sums_ + item * 2 * width_, width_);
    }

    // what becomes of a clip's values, after its items are measured, if `add` (or nothing) is added
    // to its channels before
    void fold(int64_t clip, const void* weight, const void* bias, double eps,
              const T* add = nullptr) const {
        auto added = [&](int64_t c) { return add ? double(widen(add[c])) : 0; };
        const int64_t size = channels_ / groups_;
        const double values = rows_ * size;
        A* table = table_ + clip * 3 * width_;
        for (int64_t g = 0; g < groups_; ++g) {
            double total = 0, squares = 0;
            for (int64_t item = clip * items_; item < (clip + 1) * items_; ++item) {
                const double* from = sums_ + item * 2 * width_ + g * size;
                for (int64_t c = 0; c < size; ++c) total += from[c];
                for (int64_t c = 0; c < size; ++c) squares += from[width_ + c];
                for (int64_t c = 0; add && c < size; ++c) {
                    squares += 2 * added(g * size + c) * from[c];
                }
            }
            for (int64_t c = g * size; add && c < (g + 1) * size; ++c) {
                total += rows_ * added(c);
                squares += rows_ * added(c) * added(c);
            }
            const double mean = total / values, variance = squares / values - mean * mean;
            const double scale = 1 / sqrt((variance > 0 ? variance : 0) + eps);
            for (int64_t c = g * size; c < (g + 1) * size; ++c) {
                table[c] = A(mean - added(c));
                table[width_ + c] = A(widen(static_cast<const T*>(weight)[c]) * scale);
                table[2 * width_ + c] = widen(static_cast<const T*>(bias)[c]);
            }
        }
    }

    // what a clip's values become
    struct Folded {
        const A *mean, *scale, *bias;

        Vector<A> operator()(Vector<A> v, int64_t channel) const {
            return (v - load(mean + channel)) * load(scale + channel) + load(bias + channel);
        }
    };
    Folded folded(int64_t clip) const {
        const A* table = table_ + clip * 3 * width_;
        return {table, table + width_, table + 2 * width_};
    }
    void apply(int64_t clip, const T* from, T* to) const {
        const Folded normalised = folded(clip);
        for (int64_t c = 0; c < channels_; c += kLanes<A>) {
            const int n = static_cast<int>(smaller(kLanes<A>, channels_ - c));
            save<Format>(to + c, normalised(load(from + c, n), c), n);
        }
    }

private:
    int64_t items_;
    double rows_;
    int64_t channels_, groups_, width_;
    double* sums_;
    A *table_, *end_;
};

} // namespace
