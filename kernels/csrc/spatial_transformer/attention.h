// Attention of tokens with its projections, on rows in a thread's cache. Keys and values are made
// first, packed as the attention reads them.
#pragma once
#include "api.h"

#include "../layer_norm.h"
#include "../linear.h"
#include "../spatial_attention/attend.h"

namespace {

constexpr int64_t kGroup = 64; // tokens whose keys and values are made at once

// Stores rows by twos, the pairs of every column in units.
struct PairRows {
    float* to;
    int64_t stride;
    int64_t first; // row
    int columns;

    typedef Vector<float> V;
    static constexpr int kLane = kLanes<float>, kColumns = 2 * kLane;

    void whole(int row, V one, V two) const {
        put(first + row, 0, one);
        put(first + row, kLane, two);
    }
    void part(int, V, V) const {} // the columns of a panel are always whole
    void put(int64_t row, int c, V v) const {
        float* at = to + row / 2 * stride + c;
        bfloat16 rounded[kLane];
        Pair::save(rounded, v);
        const V other = row % 2 ? load(at) : V{};
        v = load(rounded);
        store(at, row % 2 ? (V)((UInt32s)other | (UInt32s)v) : join_rows(v, V{}, bfloat16{}));
    }
};

template <class Format> class TokenAttention {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;
    static constexpr int64_t kWidth = Format::kPanel;

public:
    // `slots` sources of `keys` tokens, `source` values wide, are packed into `memory`
    TokenAttention(const ua_attention& weights, int64_t heads, int64_t head_dim, int64_t source,
                   int64_t keys, int64_t slots, double eps, U* packed, A* memory)
        : w_(weights), heads_(heads), head_dim_(head_dim), inner_(heads * head_dim),
          source_(source), keys_(keys), eps_(A(eps)), units_(Format::units(head_dim)),
          width_(round_up(head_dim, kWidth)), panels_(panels_of<Format>(head_dim)),
          size_keys_(round_up(keys, kPanel<A>) * units_),
          size_values_(round_up(keys, kPerUnit<T>) / kPerUnit<T> * width_) {
        q_ = packed;
        v_ = q_ + heads * panels_ * panel_size<Format>(inner_);
        out_ = {weights.to_out, inner_, inner_, v_ + heads * panels_ * panel_size<Format>(source)};
        packed_keys_ = memory;
        packed_values_ = packed_keys_ + slots * heads * size_keys_;
        end_ = packed_values_ + slots * heads * size_values_;
    }

    U* packed_end() const { return out_.packed + out_.size(); }
    A* end() const { return end_; }
    int64_t panels() const { return 2 * heads_ * panels_ + out_.panels(); }
    void pack(int64_t p) const {
        const int64_t of_heads = heads_ * panels_;
        if (p >= 2 * of_heads) return out_.pack(p - 2 * of_heads);
        if (p >= of_heads) return values_of(p % of_heads / panels_).pack(p % panels_);
        queries_of(p / panels_).pack(p % panels_);
    }

    // what a thread needs to make keys, and the rows of a query beside the run
    int64_t for_keys() const { return panel_size<Format>(source_); }
    int64_t of_query() const { return head_dim_ + inner_; }
    Run<T> run_of(int64_t run, int64_t block, int64_t chunk, A* memory) const {
        return {head_dim_, units_, width_, run, block, chunk, memory};
    }

    void norm(const T* h, int64_t rows, T* normed) const {
        layer_norm<Format>(h, inner_, rows, inner_, static_cast<const T*>(w_.norm_weight),
                           static_cast<const T*>(w_.norm_bias), eps_, normed);
    }

    // Keys and values of n <= kGroup tokens, the source's from `first` on. Keys are made turned:
    // their weight is what is read row by row, the tokens are what is packed.
    void make_keys(int64_t slot, int64_t first, const T* rows, int64_t stride, int64_t n,
                   U* panel) const {
        for (int64_t i = 0; i < n; i += kWidth) {
            auto row = [&](int at) { return i + at < n ? rows + (i + at) * stride : nullptr; };
            pack_panel<Format>(row, source_, panel);
            const int64_t key = first + i;
            const int64_t offset = key / kPanel<A> * kPanel<A> * units_ + key % kPanel<A>;
            for (int64_t head = 0; head < heads_; ++head) {
                A* to = packed_keys_ + (slot * heads_ + head) * size_keys_ + offset;
                over_rows<Format>(of_head(w_.to_k, head, source_), source_, head_dim_, panel,
                                  source_,
                                  [&](int64_t d) { return in_units(to, kPanel<A>, d); });
            }
        }
        for (int64_t head = 0; head < heads_; ++head) {
            A* to = packed_values_ + (slot * heads_ + head) * size_values_ +
                    first / kPerUnit<T> * width_;
            values_of(head).apply(rows, stride, n, [&](int64_t row, int64_t c, int) {
                return in_units(to + c, width_, row);
            });
        }
    }

    // h += ... in place, for the queries of a run; `normed`, `q` and `mixed` have room for them
    void apply(int64_t slot, T* h, int64_t rows, T* normed, T* q, T* mixed,
               const Run<T>& run) const {
        norm(h, rows, normed);
        for (int64_t head = 0; head < heads_; ++head) {
            queries_of(head).apply(normed, inner_, rows, nullptr, nullptr, 0, q, head_dim_);
            attend_to(slot * heads_ + head, run, rows, reinterpret_cast<const A*>(q));
            unpack(run, rows, head_dim_, mixed + head * head_dim_, inner_);
        }
        out_.apply(mixed, inner_, rows, w_.bias, h, inner_, h, inner_);
    }

private:
    const T* of_head(const void* weight, int64_t head, int64_t in) const {
        return static_cast<const T*>(weight) + head * head_dim_ * in;
    }
    Linear<Format> queries_of(int64_t head) const {
        return {of_head(w_.to_q, head, inner_), head_dim_, inner_,
                q_ + head * panels_ * panel_size<Format>(inner_)};
    }
    Linear<Format> values_of(int64_t head) const {
        return {of_head(w_.to_v, head, source_), head_dim_, source_,
                v_ + head * panels_ * panel_size<Format>(source_)};
    }

    // takes the tile of rows of keys or values that starts at `row`
    static auto in_units(A* to, int64_t stride, int64_t row) {
        if constexpr (kPerUnit<T> == 2) {
            return PairRows{to, stride, row, kWidth};
        } else {
            return Store<A>{false, {}, nullptr, 0, to + row * stride, stride, kWidth};
        }
    }

    void attend_to(int64_t slot, const Run<T>& run, int64_t n, const A* q) const {
        const A scale = A(kLog2E / sqrt(double(head_dim_)));
        for (int64_t key = 0; key < keys_; key += run.chunk) {
            const Chunk<A> chunk{packed_keys_ + slot * size_keys_ + key * units_,
                                 packed_values_ + slot * size_values_ + key / kPerUnit<T> * width_,
                                 smaller(run.chunk, keys_ - key)};
            for (int64_t row = 0; row < n; row += run.block) {
                attend(run, row, smaller(run.block, n - row), q + row * units_, chunk, scale,
                       key == 0);
            }
        }
    }

    ua_attention w_;
    int64_t heads_, head_dim_, inner_, source_, keys_;
    A eps_;
    int64_t units_, width_, panels_, size_keys_, size_values_;
    U *q_, *v_;
    Linear<Format> out_;
    A *packed_keys_, *packed_values_, *end_;
};

} // namespace
