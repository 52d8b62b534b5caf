// A linear layer whose weight is packed for the register tiles, on rows in a thread's cache.
#pragma once
#include "tiles.h"

namespace {

template <class Format> struct Linear {
    typedef Value<Format> T;
    const void* weight; // (out, in)
    int64_t out, in;
    Unit<Format>* packed; // of size()

    int64_t panels() const { return panels_of<Format>(out); }
    int64_t size() const { return panels() * panel_size<Format>(in); }
    void pack(int64_t panel) const {
        pack_weight<Format>(weight, out, in, panel, packed + panel * panel_size<Format>(in));
    }

    // finish(first row of a tile, first output of a panel, how many) makes what takes the sums
    template <class Finish>
    void apply(const T* x, int64_t x_stride, int64_t rows, const Finish& finish) const {
        for (int64_t p = 0; p < panels(); ++p) {
            const int64_t c = p * Format::kPanel;
            const int columns = static_cast<int>(smaller(Format::kPanel, out - c));
            over_rows<Format>(x, x_stride, rows, packed + p * panel_size<Format>(in), in,
                              [&](int64_t row) { return finish(row, c, columns); });
        }
    }

    // y = x weight^T + bias + add; bias and add may be null
    void apply(const T* x, int64_t x_stride, int64_t rows, const void* bias, const T* add,
               int64_t add_stride, T* y, int64_t y_stride) const {
        const T* from = static_cast<const T*>(bias);
        apply(x, x_stride, rows, [&](int64_t row, int64_t c, int columns) {
            return Store<T, Format>{from != nullptr,
                                    from ? Bias<T>(from + c, columns) : Bias<T>(),
                                    add ? add + row * add_stride + c : nullptr,
                                    add_stride,
                                    y + row * y_stride + c,
                                    y_stride,
                                    columns};
        });
    }
};

// the panels of layers one after the other, and how one of them is packed
template <class... Layers> int64_t panels_in(const Layers&... layers) {
    return (layers.panels() + ...);
}
template <class... Layers> void pack_in(int64_t p, const Layers&... layers) {
    auto among = [&](const auto& layer) {
        if (p >= 0 && p < layer.panels()) layer.pack(p);
        p -= layer.panels();
    };
    (among(layers), ...);
}

} // namespace
