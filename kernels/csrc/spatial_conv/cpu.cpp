// 3x3 convolution on the CPU by Winograd's F(2x2, 3x3) (Lavin & Gray, arXiv 1509.09308): tiles of
// 2x2 results are computed of 4x4 values by 16 products a channel where a plain convolution takes
// 36. At each of the 16 places of a tile, the transformed values of some tiles times the transformed
// weight are one matrix product.
#include "api.h"

#include "../parallel.h"
#include "../tiles.h"

namespace {

constexpr int kPlaces = 16;
typedef Vector<float> V;
constexpr int64_t kLane = kLanes<float>, kPanel = Single<float>::kPanel;

// rows of a block lie this much further apart than they need: at a power of two they would share
// few sets of the cache
constexpr int64_t kApart = 16;

// B^T d of a column: what the products of a tile are made of
inline void spread(V a, V b, V c, V d, V (&to)[4]) {
    to[0] = a - c;
    to[1] = b + c;
    to[2] = c - b;
    to[3] = b - d;
}

class Convolution {
public:
    explicit Convolution(const ua_spatial_conv* a) : a_(a) {
        tiles_wide_ = (a->width + 1) / 2;
        tiles_ = (a->height + 1) / 2 * tiles_wide_;
        panels_ = panels_of<Single<float>>(a->out);
        panel_ = kPanel * a->in;
        row_ = round_up(a->in, kLane) + kApart;
        packed_ = static_cast<float*>(a->workspace);
        threads_ = packed_ + panels_ * kPlaces * panel_;
        nothing_ = kPlaces * a->block * row_;
        sums_ = nothing_ + row_;
        thread_size_ = sums_ + kPlaces * a->block * kPanel;
        if (thread_size_ < 9 * panel_) thread_size_ = 9 * panel_;
    }

    const char* run() {
        const float* end = threads_ + a_->call.threads * thread_size_;
        if (end > static_cast<float*>(a_->workspace) + a_->workspace_size) {
            return "the workspace is too small: reinstall the package";
        }
        parallel_for_workers(a_->call.threads, panels_, [&](int64_t panel, int64_t worker) {
            pack(panel, threads_ + worker * thread_size_);
        });
        const int64_t all = a_->items * tiles_;
        parallel_for_workers(a_->call.threads, (all + a_->block - 1) / a_->block,
                             [&](int64_t item, int64_t worker) {
                                 const int64_t first = item * a_->block;
                                 convolve(first, smaller(a_->block, all - first),
                                          threads_ + worker * thread_size_);
                             });
        return nullptr;
    }

private:
    // G g G^T of the weights of a panel, at every place packed as a linear layer's
    void pack(int64_t panel, float* taps) {
        const int64_t in = a_->in;
        const int64_t tap = a_->channels_last ? in * kPanel : kPanel;
        const int64_t channel = a_->channels_last ? kPanel : 9 * kPanel;
        pack_weight<Single<float>>(a_->weight, a_->out, 9 * in, panel, taps);
        float* to = packed_ + panel * kPlaces * panel_;
        for (int64_t c = 0; c < in; ++c) {
            for (int64_t half = 0; half < kPanel; half += kLane) {
                const float* g = taps + c * channel + half;
                V columns[3][4], rows[4];
                for (int i = 0; i < 3; ++i) {
                    widen(load(g + i * tap), load(g + (3 + i) * tap), load(g + (6 + i) * tap),
                          columns[i]);
                }
                for (int i = 0; i < 4; ++i) {
                    widen(columns[0][i], columns[1][i], columns[2][i], rows);
                    for (int j = 0; j < 4; ++j) {
                        store(to + (4 * i + j) * panel_ + c * kPanel + half, rows[j]);
                    }
                }
            }
        }
    }

    // G g of a column of the weight
    static void widen(V a, V b, V c, V (&to)[4]) {
        const V even = (a + c) * 0.5f, odd = b * 0.5f;
        to[0] = a;
        to[1] = even + odd;
        to[2] = even - odd;
        to[3] = c;
    }

    void convolve(int64_t first, int64_t n, float* memory) {
        float *spread = memory, *sums = memory + sums_;
        memset(memory + nothing_, 0, row_ * sizeof(float));
        for (int64_t i = 0; i < n; ++i) transform(first + i, memory + nothing_, spread + i * row_);
        for (int64_t p = 0; p < panels_; ++p) {
            const float* panel = packed_ + p * kPlaces * panel_;
            for (int place = 0; place < kPlaces; ++place) {
                float* to = sums + place * a_->block * kPanel;
                over_rows<Single<float>>(
                    spread + place * a_->block * row_, row_, n, panel + place * panel_, a_->in,
                    [&](int64_t row) {
                        return Store<float>{nullptr, nullptr,         0,
                                            to + row * kPanel, kPanel, int(kPanel)};
                    });
            }
            for (int64_t i = 0; i < n; ++i) finish(first + i, p, sums + i * kPanel);
        }
    }

    const float* pixel(int64_t item, int64_t y, int64_t x, const float* nothing) const {
        if (y < 0 || y >= a_->height || x < 0 || x >= a_->width) return nothing;
        const int64_t* stride = a_->x.stride;
        return static_cast<const float*>(a_->x.data) + item * stride[0] + y * stride[1] +
               x * stride[2];
    }

    // B^T d B of a tile, a place after the other
    void transform(int64_t tile, const float* nothing, float* to) const {
        const int64_t item = tile / tiles_, t = tile % tiles_;
        const int64_t y = t / tiles_wide_ * 2 - 1, x = t % tiles_wide_ * 2 - 1;
        const float* from[kPlaces];
        for (int i = 0; i < kPlaces; ++i) from[i] = pixel(item, y + i / 4, x + i % 4, nothing);
        for (int64_t c = 0; c < a_->in; c += kLane) {
            const int lanes = static_cast<int>(smaller(kLane, a_->in - c));
            V columns[4][4], row[4];
            for (int i = 0; i < 4; ++i) {
                ::spread(load(from[i] + c, lanes), load(from[4 + i] + c, lanes),
                       load(from[8 + i] + c, lanes), load(from[12 + i] + c, lanes), columns[i]);
            }
            for (int i = 0; i < 4; ++i) {
                ::spread(columns[0][i], columns[1][i], columns[2][i], columns[3][i], row);
                for (int j = 0; j < 4; ++j) store(to + (4 * i + j) * a_->block * row_ + c, row[j]);
            }
        }
    }

    // A^T m A of a tile and a panel, and the bias
    void finish(int64_t tile, int64_t panel, const float* sums) const {
        const int64_t item = tile / tiles_, t = tile % tiles_;
        const int64_t y = t / tiles_wide_ * 2, x = t % tiles_wide_ * 2, place = a_->block * kPanel;
        const int64_t* stride = a_->y.stride;
        float* to = static_cast<float*>(a_->y.data) + item * stride[0] + y * stride[1] +
                    x * stride[2];
        for (int64_t half = 0; half < kPanel; half += kLane) {
            const int64_t c = panel * kPanel + half;
            if (c >= a_->out) return;
            const int lanes = static_cast<int>(smaller(kLane, a_->out - c));
            V columns[4][2];
            for (int i = 0; i < 4; ++i) {
                const float* m = sums + i * place + half;
                V first = load(m), second = load(m + 4 * place), third = load(m + 8 * place);
                columns[i][0] = first + second + third;
                columns[i][1] = second - third - load(m + 12 * place);
            }
            const V bias = a_->bias ? load(static_cast<const float*>(a_->bias) + c, lanes) : V{};
            for (int i = 0; i < 2 && y + i < a_->height; ++i) {
                float* row = to + i * stride[1] + c;
                const V inner = columns[1][i] + bias, both = columns[2][i];
                store(row, columns[0][i] + inner + both, lanes);
                if (x + 1 < a_->width) {
                    store(row + stride[2], inner - both - columns[3][i], lanes);
                }
            }
        }
    }

    const ua_spatial_conv* a_;
    int64_t tiles_wide_, tiles_, panels_, panel_, row_, nothing_, sums_, thread_size_;
    float *packed_, *threads_;
};

} // namespace

UA_ENTRY(spatial_conv_forward)(const ua_spatial_conv* a) {
    if (a->call.size != sizeof(*a)) {
        return "the argument block has another size than the library's: reinstall the package";
    }
    return Convolution(a).run();
}
