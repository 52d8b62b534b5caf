// 3x3 convolution on the CPU by Winograd's F(m x m, 3x3): at each of the (m + 2)^2 places of a tile
// of m x m results, the transformed values of some tiles times the transformed weight are one
// matrix product. All of it is computed in float32.
#pragma once
#include "api.h"

#include "../parallel.h"
#include "../tiles.h"
#include "winograd.h"

namespace {

constexpr int64_t kLane = kLanes<float>, kPanel = Single<float>::kPanel;

// rows of a block lie this much further apart than they need: at a power of two they would share
// few sets of the cache
constexpr int64_t kApart = 16;

template <class T, int m> class Convolution {
    typedef Winograd<m> F;
    static constexpr int kSide = m + 2, kPlaces = kSide * kSide;

public:
    explicit Convolution(const ua_spatial_conv* a) : a_(a) {
        tiles_wide_ = (a->width + m - 1) / m;
        tiles_ = (a->height + m - 1) / m * tiles_wide_;
        panels_ = panels_of<Single<T>>(a->out);
        panel_ = kPanel * (a->in + 1);
        row_ = round_up(a->in, kLane) + kApart;
        packed_ = static_cast<float*>(a->packed.data);
        threads_ = static_cast<float*>(a->workspace);
        nothing_ = kPlaces * a->block * row_;
        sums_ = nothing_ + row_;
        thread_size_ = sums_ + kPlaces * a->block * kPanel;
        if (thread_size_ < 9 * panel_) thread_size_ = 9 * panel_;
    }

    int64_t packed_size() const { return panels_ * kPlaces * panel_; }

    const char* run() {
        if (a_->places != kPlaces || a_->tiles != a_->items * tiles_) {
            return "the tiles have another size than the library's: reinstall the package";
        }
        const float* end = threads_ + a_->call.threads * thread_size_;
        if (end > static_cast<float*>(a_->workspace) + a_->workspace_size ||
            !fits(a_->packed, packed_ + packed_size())) {
            return "the workspace is too small: reinstall the package";
        }
        const int64_t panels = a_->packed.filled ? 0 : panels_;
        parallel_for_workers(a_->call.threads, panels, [&](int64_t panel, int64_t worker) {
            pack(panel, threads_ + worker * thread_size_);
        });
        parallel_for_workers(a_->call.threads, (a_->tiles + a_->block - 1) / a_->block,
                             [&](int64_t item, int64_t worker) {
                                 const int64_t first = item * a_->block;
                                 convolve(first, smaller(a_->block, a_->tiles - first),
                                          threads_ + worker * thread_size_);
                             });
        return nullptr;
    }

private:
    // the weights of a panel, transformed, at every place packed as a linear layer's
    void pack(int64_t panel, float* taps) {
        const int64_t in = a_->in;
        const int64_t tap = a_->channels_last ? in * kPanel : kPanel;
        const int64_t channel = a_->channels_last ? kPanel : 9 * kPanel;
        pack_weight<Single<T>>(a_->weight, a_->out, 9 * in, panel, taps);
        float* to = packed_ + panel * kPlaces * panel_;
        for (int64_t c = 0; c < in; ++c) {
            for (int64_t half = 0; half < kPanel; half += kLane) {
                const float* g = taps + c * channel + half;
                V columns[3][kSide];
                for (int j = 0; j < 3; ++j) {
                    const V column[3] = {load(g + j * tap), load(g + (3 + j) * tap),
                                         load(g + (6 + j) * tap)};
                    F::widen(column, columns[j]);
                }
                for (int i = 0; i < kSide; ++i) {
                    const V row[3] = {columns[0][i], columns[1][i], columns[2][i]};
                    V wide[kSide];
                    F::widen(row, wide);
                    for (int j = 0; j < kSide; ++j) {
                        store(to + (i * kSide + j) * panel_ + c * kPanel + half, wide[j]);
                    }
                }
            }
        }
    }

    void convolve(int64_t first, int64_t n, float* memory) {
        float *spread = memory, *sums = memory + sums_;
        const T* nothing = reinterpret_cast<const T*>(memory + nothing_);
        memset(memory + nothing_, 0, row_ * sizeof(float));
        for (int64_t i = 0; i < n; ++i) transform(first + i, nothing, spread + i * row_);
        for (int64_t p = 0; p < panels_; ++p) {
            const float* panel = packed_ + p * kPlaces * panel_;
            for (int place = 0; place < kPlaces; ++place) {
                float* to = sums + place * a_->block * kPanel;
                over_rows<Single<float>>(
                    spread + place * a_->block * row_, row_, n, panel + place * panel_, a_->in,
                    [&](int64_t row) {
                        return Store<float>{false, {}, nullptr, 0, to + row * kPanel, kPanel,
                                            int(kPanel)};
                    });
            }
            for (int64_t i = 0; i < n; ++i) finish(first + i, p, sums + i * kPanel);
        }
    }

    const T* pixel(int64_t item, int64_t y, int64_t x, const T* nothing) const {
        if (y < 0 || y >= a_->height || x < 0 || x >= a_->width) return nothing;
        const int64_t* stride = a_->x.stride;
        return static_cast<const T*>(a_->x.data) + item * stride[0] + y * stride[1] +
               x * stride[2];
    }

    // B^T d B of a tile, a place after the other
    void transform(int64_t tile, const T* nothing, float* to) const {
        const int64_t item = tile / tiles_, t = tile % tiles_, place = a_->block * row_;
        const int64_t y = t / tiles_wide_ * m - 1, x = t % tiles_wide_ * m - 1;
        const T* from[kSide][kSide];
        for (int i = 0; i < kSide; ++i)
            for (int j = 0; j < kSide; ++j) from[i][j] = pixel(item, y + i, x + j, nothing);
        for (int64_t c = 0; c < a_->in; c += kLane) {
            const int lanes = static_cast<int>(smaller(kLane, a_->in - c));
            V columns[kSide][kSide];
            for (int j = 0; j < kSide; ++j) {
                V column[kSide];
                for (int i = 0; i < kSide; ++i) column[i] = load(from[i][j] + c, lanes);
                F::spread(column, columns[j]);
            }
            for (int i = 0; i < kSide; ++i) {
                V row[kSide], spread[kSide];
                for (int j = 0; j < kSide; ++j) row[j] = columns[j][i];
                F::spread(row, spread);
                for (int j = 0; j < kSide; ++j) {
                    store(to + (i * kSide + j) * place + c, spread[j]);
                }
            }
        }
    }

    // A^T m A of a tile and a panel, the bias and what else is added
    void finish(int64_t tile, int64_t panel, const float* sums) const {
        const int64_t item = tile / tiles_, t = tile % tiles_, place = a_->block * kPanel;
        const int64_t y = t / tiles_wide_ * m, x = t % tiles_wide_ * m;
        const int64_t *stride = a_->y.stride, *add_stride = a_->add.stride;
        T* to = static_cast<T*>(a_->y.data) + item * stride[0] + y * stride[1] + x * stride[2];
        const T* add = static_cast<const T*>(a_->add.data);
        if (add) add += item * add_stride[0] + y * add_stride[1] + x * add_stride[2];
        const int64_t high = smaller(m, a_->height - y), wide = smaller(m, a_->width - x);
        for (int64_t half = 0; half < kPanel; half += kLane) {
            const int64_t c = panel * kPanel + half;
            if (c >= a_->out) return;
            const int lanes = static_cast<int>(smaller(kLane, a_->out - c));
            V columns[kSide][m];
            for (int j = 0; j < kSide; ++j) {
                V column[kSide];
                for (int i = 0; i < kSide; ++i) {
                    column[i] = load(sums + (i * kSide + j) * place + half);
                }
                F::gather(column, columns[j]);
            }
            const V bias = a_->bias ? load(static_cast<const T*>(a_->bias) + c, lanes) : V{};
            for (int64_t i = 0; i < high; ++i) {
                V row[kSide], results[m];
                for (int j = 0; j < kSide; ++j) row[j] = columns[j][i];
                F::gather(row, results);
                for (int64_t j = 0; j < wide; ++j) {
                    V result = results[j] + bias;
                    if (add) result += load(add + i * add_stride[1] + j * add_stride[2] + c, lanes);
                    store(to + i * stride[1] + j * stride[2] + c, result, lanes);
                }
            }
        }
    }

    const ua_spatial_conv* a_;
    int64_t tiles_wide_, tiles_, panels_, panel_, row_, nothing_, sums_, thread_size_;
    float *packed_, *threads_;
};

} // namespace
