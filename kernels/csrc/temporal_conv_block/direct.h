// Convolutions over three frames as they are, of pairs of bfloat16: three products, the first of
// the frames one earlier, the last of those one later, a frame of zeros at either end.
#pragma once
#include "../tiles.h"

#ifdef UA_PAIRS
namespace {

template <int n, class Finish>
UA_PAIRS UA_KERNEL void tile_of_frames(const bfloat16* x, int64_t stride, int64_t apart,
                                       const float* panel, int64_t in, const Finish& finish) {
    Vector<float> sum[n][2];
    clear(sum);
    for (int product = 0; product < 3; ++product) {
        add_pairs<n>(sum, x + product * apart, stride, panel, in);
        panel += panel_size<Pair>(in);
    }
    hand_over<n>(sum, finish);
}

struct Direct {
    typedef bfloat16 Row;
    static constexpr int kFrames = 1; // of a row's results
    static constexpr int kProducts = 3;

    static int64_t lines(int64_t frames) { return frames + 2; }

    // packed [in][product], two neighbours a unit, -> [product][in]
    static void order(const float* from, int64_t in, float* to) {
        constexpr int lanes = kLanes<float>, panel = 2 * lanes;
        const UInt32s low = UInt32s{} + 0xffffu;
        auto bits = [](const float* p) { return (UInt32s)load(p); };
        auto put = [](float* p, UInt32s v) { store(p, (Vector<float>)v); };
        const int64_t product = panel_size<Pair>(in);
        for (int64_t k = 0; k < product; k += lanes) {
            // the products 0 to 2 of the inputs a and b lie as a0 a1, a2 b0, b1 b2
            const float* units = from + k / panel * 3 * panel + k % panel;
            const UInt32s a01 = bits(units), a2b0 = bits(units + panel);
            const UInt32s b12 = bits(units + 2 * panel);
            put(to + k, (a01 & low) | (a2b0 & ~low));
            put(to + product + k, (a01 >> 16) | (b12 << 16));
            put(to + 2 * product + k, (a2b0 & low) | (b12 & ~low));
        }
    }

    // values of an item, `size` a frame
    template <class Values>
    static void prepare(const Values& values, int64_t frames, int64_t size, Row* rows) {
        memset(rows, 0, size * sizeof(Row));
        memset(rows + (frames + 1) * size, 0, size * sizeof(Row));
        for (int64_t f = 0; f < frames; ++f) {
            Row* to = rows + (f + 1) * size;
            values.each([&](int64_t i, int n, const auto& at) { save<Pair>(to + i, at(f), n); });
        }
    }

    // a panel of results; finish(first row of a tile, 0) takes them
    template <class Finish>
    static void convolve(const Row* rows, int64_t frames, int64_t size, const float* panel,
                         int64_t in, const Finish& finish) {
        in_tiles<kTileRows>(frames * size / in, [&](int64_t row, auto part) {
            tile_of_frames<decltype(part)::value>(rows + row * in, in, size, panel, in,
                                                  finish(row, 0));
        });
    }
};

} // namespace
#endif
