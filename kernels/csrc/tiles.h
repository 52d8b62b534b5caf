// Rows times packed weights in register tiles: what linear layers are made of.
//
// A weight (out, in) is packed into panels of two vectors of outputs, one unit of `in` after the
// other: packed [panel][in][2][lanes]. A tile holds the sums of some rows and one panel in
// registers; the rows are read where they lie, one broadcast unit at a time.
#pragma once
#include "lanes.h"
#include "products.h"

extern "C" int64_t ua_cpu_bfloat16();

namespace {

// functions that multiply pairs of bfloat16: for the CPUs that do
#if UA_VECTOR_BYTES == 64 && defined(__AVX512F__)
#define UA_PAIRS __attribute__((target("avx512bf16")))
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;
#endif

constexpr int kTileRows = UA_VECTOR_BYTES == 64 ? 12 : 6;

// A unit is one value, in the type that is computed in.
template <class T> struct Single {
    typedef T Value;
    typedef Compute<T> Unit;
    static constexpr int kPanel = 2 * kLanes<Unit>;
    static int64_t units(int64_t in) { return in; }
    static Vector<Unit> read(const T* row, int64_t unit, int n) { return load(row + unit, n); }
    static void save(T* p, Vector<Unit> v) { store(p, v); }
    static void save(T* p, Vector<Unit> first, Vector<Unit> second) {
        store(p, first);
        store(p + kLanes<Unit>, second);
    }
};

// A unit is two neighbouring values of `in`, which one instruction multiplies and adds up in
// float32: for CPUs that have it, and for even `in`.
struct Pair {
    typedef bfloat16 Value;
    typedef float Unit; // its bits
    static constexpr int kPanel = 2 * kLanes<Unit>;
    static int64_t units(int64_t in) { return in / 2; }
    static Vector<Unit> read(const bfloat16* row, int64_t unit, int n) {
        return load(reinterpret_cast<const float*>(row) + unit, n);
    }
    // One instruction; it takes denormals for zero. In assembly, because the compiler inlines the
    // intrinsic only where every function on the way is for these CPUs alone.
    static void save(bfloat16* p, Vector<float> v) {
#if defined(UA_PAIRS) && !defined(__clang__)
        Halfwords half;
        asm("vcvtneps2bf16 %1, %0" : "=v"(half) : "v"(v));
        memcpy(p, &half, sizeof half);
#else
        store(p, v);
#endif
    }
    // the same for two vectors, one behind the other
    static void save(bfloat16* p, Vector<float> first, Vector<float> second) {
#if defined(UA_PAIRS) && !defined(__clang__)
        UInt32s both;
        asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(first), "v"(second));
        memcpy(p, &both, sizeof both);
#else
        store(p, first);
        store(p + kLanes<float>, second);
#endif
    }
};

// stores the first n lanes as the format does
template <class Format, class T, class V> inline void save(T* p, V v, int n) {
    if (n >= kLanes<Compute<T>>) return Format::save(p, v);
    store(p, v, n);
}

template <class Format> using Value = typename Format::Value;
template <class Format> using Unit = typename Format::Unit;

// units of a packed weight
template <class Format> inline int64_t panels_of(int64_t out) {
    return (out + Format::kPanel - 1) / Format::kPanel;
}
template <class Format> inline int64_t panel_size(int64_t in) {
    return Format::kPanel * Format::units(in);
}

// whether packed weights up to `end` do
inline bool fits(const ua_packed& packed, const void* end) {
    return end <= static_cast<char*>(packed.data) + packed.size;
}

// packs one panel; row(i) is where output i of it lies, or null where there is none
template <class Format, class Row>
void pack_panel(const Row& row, int64_t in, Unit<Format>* to) {
    typedef Unit<Format> U;
    constexpr int lanes = kLanes<U>;
    for (int half = 0; half < 2; ++half) {
        const Value<Format>* rows[lanes];
        for (int i = 0; i < lanes; ++i) rows[i] = row(half * lanes + i);
        for (int64_t k = 0; k < Format::units(in); k += lanes) {
            int n = static_cast<int>(smaller(lanes, Format::units(in) - k));
            Vector<U> m[lanes];
            for (int i = 0; i < lanes; ++i) {
                m[i] = rows[i] ? Format::read(rows[i], k, n) : Vector<U>{};
            }
            transpose<U>(m);
            for (int i = 0; i < n; ++i) store(to + (k + i) * Format::kPanel + half * lanes, m[i]);
        }
    }
}

// the same for a panel of a dense weight
template <class Format>
void pack_weight(const void* weight, int64_t out, int64_t in, int64_t panel, Unit<Format>* to) {
    auto row = [&](int i) -> const Value<Format>* {
        int64_t o = panel * Format::kPanel + i;
        return o < out ? static_cast<const Value<Format>*>(weight) + o * in : nullptr;
    };
    pack_panel<Format>(row, in, to);
}

template <class V, int n> inline void add_tile(V (&sum)[n][2], const V (&part)[n][2]) {
#pragma GCC unroll 12
    for (int i = 0; i < n; ++i) {
        sum[i][0] += part[i][0];
        sum[i][1] += part[i][1];
    }
}

// Sums over `in` values in runs that are added up: one long chain would lose digits.
// terms(sum, first, end) adds the terms of a run, whose sums are all that is in registers then.
template <int n, class V, class Terms>
__attribute__((always_inline)) inline void sum_in_runs(V (&sum)[n][2], int64_t in,
                                                       const Terms& terms) {
    constexpr int64_t most = 128;
    V kept[n][2];
    for (int64_t first = 0;; first += most) {
        clear(sum);
        terms(sum, first, smaller(in, first + most));
        if (first > 0) add_tile(sum, kept);
        if (in - first <= most) return;
#pragma GCC unroll 12
        for (int i = 0; i < n; ++i) {
            kept[i][0] = sum[i][0];
            kept[i][1] = sum[i][1];
        }
    }
}

// Where the rows of a tile are read, three by one address: one each would not fit into the registers,
// and a move from a vector, where the compiler keeps the rest, takes the time of a product.
template <int n, class T> struct ReadRows {
    static constexpr int kBases = (n + 2) / 3;
    const T* base[kBases];
    int64_t stride;

    ReadRows(const T* x, int64_t stride) : stride(stride) {
#pragma GCC unroll 4
        for (int i = 0; i < kBases; ++i) base[i] = x + 3 * i * stride;
    }
    const T* at(int i) const { return base[i / 3] + i % 3 * stride; }
    void advance(int64_t by) {
#pragma GCC unroll 4
        for (int i = 0; i < kBases; ++i) base[i] += by;
    }
};

// What takes the sums of a tile, row after row: `whole(row, first vector, second vector)` where
// `columns` fill the panel, else `part`, which is a call, because it is long and seldom.
template <int n, class V, class Finish>
__attribute__((always_inline)) inline void hand_over(const V (&sum)[n][2], const Finish& finish) {
    if (finish.columns == Finish::kColumns) {
#pragma GCC unroll 12
        for (int i = 0; i < n; ++i) finish.whole(i, sum[i][0], sum[i][1]);
    } else {
#pragma GCC unroll 12
        for (int i = 0; i < n; ++i) finish.part(i, sum[i][0], sum[i][1]);
    }
}

template <int n, class T, class Finish>
UA_KERNEL void tile(Single<T>, const T* x, int64_t x_stride, const Compute<T>* panel, int64_t in,
                    const Finish& finish) {
    typedef Compute<T> A;
    Vector<A> sum[n][2];
    auto terms = [&](Vector<A> (&to)[n][2], int64_t k, int64_t end) {
        ReadRows<n, T> rows(x + k, x_stride);
        for (; k < end; ++k, panel += 2 * kLanes<A>, rows.advance(1)) {
            Vector<A> first = load(panel), second = load(panel + kLanes<A>);
#pragma GCC unroll 12
            for (int i = 0; i < n; ++i) {
                A value = widen(*rows.at(i));
                to[i][0] += first * value;
                to[i][1] += second * value;
            }
        }
    };
    sum_in_runs<n>(sum, in, terms);
    hand_over<n>(sum, finish);
}

#ifdef UA_PAIRS
// adds the products of `in` values of every row; without runs: each term is already of two
template <int n>
UA_PAIRS __attribute__((always_inline)) inline void
add_pairs(Vector<float> (&sum)[n][2], const bfloat16* x, int64_t x_stride, const float* panel,
          int64_t in) {
    ReadRows<n, bfloat16> rows(x, x_stride);
    for (const float* end = panel + in / 2 * 32; panel < end; panel += 32, rows.advance(2)) {
        __m512bh first = (__m512bh)load(panel), second = (__m512bh)load(panel + 16);
#pragma GCC unroll 12
        for (int i = 0; i < n; ++i) {
            int pair;
            memcpy(&pair, rows.at(i), sizeof pair);
            __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], first, value);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], second, value);
        }
    }
}

template <int n, class Finish>
UA_PAIRS UA_KERNEL void tile(Pair, const bfloat16* x, int64_t x_stride, const float* panel,
                             int64_t in, const Finish& finish) {
    Vector<float> sum[n][2];
    clear(sum);
    add_pairs<n>(sum, x, x_stride, panel, in);
    hand_over<n>(sum, finish);
}
#endif

// What is added to the rows of a panel, `columns` of it; read once a tile.
template <class T> struct Bias {
    typedef Vector<Compute<T>> V;
    V first = {}, second = {};

    Bias() = default;
    Bias(const T* from, int columns) {
        constexpr int lanes = kLanes<Compute<T>>;
        first = load(from, columns);
        if (columns > lanes) second = load(from + lanes, columns - lanes);
    }
};

// Stores `columns` of a panel, after a bias and other rows where there are any.
template <class T, class Format = Single<T>> struct Store {
    bool biased;
    Bias<T> bias;
    const T* add;
    int64_t add_stride;
    T* y;
    int64_t stride;
    int columns;

    typedef Vector<Compute<T>> V;
    static constexpr int kLane = kLanes<Compute<T>>, kColumns = 2 * kLane;

    void whole(int row, V first, V second) const {
        Format::save(y + row * stride, sum(row, 0, first, bias.first, kLane),
                     sum(row, kLane, second, bias.second, kLane));
    }
    UA_KERNEL void part(int row, V first, V second) const {
        put(row, 0, first, bias.first, columns < kLane ? columns : kLane);
        if (columns > kLane) put(row, kLane, second, bias.second, columns - kLane);
    }
    void put(int row, int c, V v, V more, int n) const {
        save<Format>(y + row * stride + c, sum(row, c, v, more, n), n);
    }
    V sum(int row, int c, V v, V more, int n) const {
        if (biased) v += more;
        if (add != nullptr) v += load(add + row * add_stride + c, n);
        return v;
    }
};

// cuts rows into tiles of `most`, then into smaller ones: run(first, Constant<rows of a tile>{})
template <int most, class Run> inline void in_tiles(int64_t rows, const Run& run) {
    int64_t row = 0;
    auto all = [&](auto part) {
        for (; rows - row >= part.value; row += part.value) run(row, part);
    };
    all(Constant<most>{});
    all(Constant<most / 3>{});
    all(Constant<1>{});
}

// All rows against one panel; finish(first row of a tile) makes what takes the sums of the tile.
template <class Format, class Finish>
void over_rows(const Value<Format>* x, int64_t x_stride, int64_t rows, const Unit<Format>* panel,
               int64_t in, const Finish& finish) {
    in_tiles<kTileRows>(rows, [&](int64_t row, auto part) {
        tile<decltype(part)::value>(Format{}, x + row * x_stride, x_stride, panel, in, finish(row));
    });
}

// Runs with the format for the dtype of a call. Not float64: it serves gradcheck, and what is made
// of these tiles has no gradient. Nor bfloat16 without pairs: Python then calls with float32.
template <class Arguments, class Run>
const char* with_format(const Arguments* a, const Run& run) {
    return with_dtype(a, [&](auto tag) -> const char* {
        typedef decltype(tag) T;
        if constexpr (sizeof(T) == sizeof(float)) {
            return run(Single<T>{});
        } else if constexpr (kPairs && sizeof(T) == sizeof(bfloat16)) {
            if (ua_cpu_bfloat16()) return run(Pair{});
        }
        return "this code takes float32, and bfloat16 on CPUs with AVX512-BF16";
    });
}

} // namespace
