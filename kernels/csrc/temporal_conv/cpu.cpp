// The 3x1x1 convolution on the CPU: an implicit matrix product over three frames, in place.
//
// Forward, the rows of a frame are the rows of a register tile and the terms are the channels of a
// neighbouring frame; the weight comes packed in panels. The gradient of x is the same with the
// weight turned. For the gradient of the weight the channels are the rows and the locations the
// terms; an item owns a block of the weight and goes over all locations, so that no two items add
// to the same place.
#include "api.h"

#include "../parallel.h"
#include "../products.h"

namespace {

constexpr int64_t kLocations = 96;           // an item of the forward pass
constexpr int64_t kBlockRows = 96;           // an item of the weight's gradient: channels of x,
constexpr int64_t kBlockColumns = 128;       // and of y
constexpr int64_t kRun = 128;                // locations that stay in cache meanwhile

template <class Run> const char* with_arithmetic(const ua_temporal_conv* a, const Run& run) {
    if (a->call.dtype == UA_BFLOAT16) return "the CPU code takes float32 and float64";
    return with_dtype(a, [&](auto tag) { return run(Compute<decltype(tag)>{}); });
}

template <class A> A* at(void* y, const ua_temporal_conv* a, int64_t b, int64_t f, int64_t s) {
    return static_cast<A*>(y) + ((b * a->frames + f) * a->locations + s) * a->width;
}
template <class A> const A* at(const ua_array& x, int64_t b, int64_t f, int64_t s) {
    return static_cast<const A*>(x.data) + b * x.stride[0] + f * x.stride[1] + s * x.stride[2];
}

template <class A>
void forward_rows(const ua_temporal_conv* a, int64_t b, int64_t f, int64_t s, int64_t rows) {
    for (int64_t first = 0; first < a->width; first += a->panel) {
        A* out = at<A>(a->y, a, b, f, s) + first;
        for (int64_t r = 0; r < rows; ++r) {
            for (int64_t c = 0; c < a->panel; c += kLanes<A>) {
                const A* bias = static_cast<const A*>(a->bias);
                store(out + r * a->width + c, bias ? load(bias + first + c) : Vector<A>{});
            }
        }
        for (int64_t tap = f > 0 ? 0 : 1; tap < 3 && f + tap - 1 < a->frames; ++tap) {
            const A* weight = static_cast<const A*>(a->weight) +
                              (first * 3 + tap * a->panel) * a->channels;
            Coefficients<A> x{at<A>(a->x, b, f + tap - 1, s), a->x.stride[2], 1};
            combine<true>(x, rows, weight, a->channels, a->panel, out, a->width, a->panel, [] {});
        }
    }
}

template <class A>
void weight_block(const ua_temporal_conv* a, int64_t tap, int64_t channel, int64_t column) {
    int64_t rows = smaller(kBlockRows, a->channels - channel);
    int64_t columns = smaller(kBlockColumns, a->width - column);
    A* out = static_cast<A*>(a->weight) + (tap * a->channels + channel) * a->width + column;
    for (int64_t b = 0; b < a->batch; ++b) {
        for (int64_t f = tap == 0 ? 1 : 0; f < a->frames && f + tap - 1 < a->frames; ++f) {
            for (int64_t s = 0; s < a->locations; s += kRun) {
                Coefficients<A> x{at<A>(a->x, b, f + tap - 1, s) + channel, 1, a->x.stride[2]};
                combine<true>(x, rows, at<A>(a->y, a, b, f, s) + column,
                              smaller(kRun, a->locations - s), a->width, out, a->width, columns,
                              [] {});
            }
        }
    }
}

} // namespace

UA_ENTRY(temporal_conv_forward)(const ua_temporal_conv* a) {
    return with_arithmetic(a, [&](auto tag) -> const char* {
        int64_t parts = (a->locations + kLocations - 1) / kLocations;
        parallel_for(a->call.threads, a->batch * a->frames * parts, [&](int64_t item) {
            int64_t s = item % parts * kLocations, frame = item / parts;
            forward_rows<decltype(tag)>(a, frame / a->frames, frame % a->frames, s,
                                        smaller(kLocations, a->locations - s));
        });
        return nullptr;
    });
}

UA_ENTRY(temporal_conv_weight_gradient)(const ua_temporal_conv* a) {
    return with_arithmetic(a, [&](auto tag) -> const char* {
        int64_t rows = (a->channels + kBlockRows - 1) / kBlockRows;
        int64_t columns = (a->width + kBlockColumns - 1) / kBlockColumns;
        parallel_for(a->call.threads, 3 * rows * columns, [&](int64_t item) {
            weight_block<decltype(tag)>(a, item / (rows * columns),
                                        item / columns % rows * kBlockRows,
                                        item % columns * kBlockColumns);
        });
        return nullptr;
    });
}
