// Softmax attention on the CPU, forward only.
//
// A thread takes a run of queries of one head at once. Chunk by chunk it packs the keys and values
// so that both products read whole vectors one after the other: keys turned, a panel of columns
// after the other, values as rows. What a chunk needs stays in the L2 cache, the scores of a block
// of queries in the L1 cache; no more of them exist, whatever the number of keys.
#include "api.h"

#include "../parallel.h"
#include "products.h"
#include "softmax.h"

namespace {

template <class A> constexpr int kPanel = kColumns * kLanes<A>; // keys
// units of keys whose values are summed on their own and then added: one long chain loses digits
constexpr int64_t kRun = 64;

// `n` values as whole units, zero after their end
template <class T> inline Vector<Compute<T>> load_units(const T* from, int64_t n) {
    Vector<Compute<T>> units = {};
    if (n * static_cast<int64_t>(sizeof(T)) >= static_cast<int64_t>(sizeof units)) {
        memcpy(&units, from, sizeof units);
    } else if (n > 0) {
        memcpy(&units, from, n * sizeof(T));
    }
    return units;
}

// a unit of two rows, in every column
template <class A> inline Vector<A> join_rows(Vector<A> first, Vector<A>, A) { return first; }
inline Vector<float> join_rows(Vector<float> first, Vector<float> second, bfloat16) {
    return (Vector<float>)((UInt32s)first >> 16 | (UInt32s)second);
}

// the rows of one head; their last axis is dense
template <class T> struct Rows {
    T* data;
    int64_t stride, dim;

    Rows(const ua_array& x, int64_t item, int64_t first, int64_t head, int64_t dim)
        : data(static_cast<T*>(x.data) + item * x.stride[0] + first * x.stride[1] +
               head * x.stride[2]),
          stride(x.stride[1]), dim(dim) {}

    Vector<Compute<T>> units(int64_t row, int64_t unit) const {
        int64_t d = unit * kPerUnit<T>;
        return load_units(data + row * stride + d, dim - d);
    }
};

// rows from `first` up to `last`; the block after them is asked for
template <class T, class A>
UA_KERNEL void pack_queries(const Rows<T>& q, int64_t first, int64_t last, int64_t all,
                            int64_t depth, A* to) {
    for (int64_t row = first; row < last; ++row, to += depth) {
        const T* next = q.data + smaller(row + last - first, all - 1) * q.stride;
        for (int64_t u = 0; u < depth; u += kLanes<A>) {
            store(to + u, q.units(row, u));
            __builtin_prefetch(next + u * kPerUnit<T>);
        }
    }
}

// to[panel][unit][key]; missing keys are zero
template <class T, class A>
UA_KERNEL void pack_keys(const Rows<T>& k, int64_t n, int64_t depth, A* to) {
    constexpr int lanes = kLanes<A>;
    for (int64_t key = 0; key < n; key += lanes) {
        A* panel = to + key / kPanel<A> * depth * kPanel<A> + key % kPanel<A>;
        for (int64_t u = 0; u < depth; u += lanes) {
            Vector<A> m[lanes];
            for (int i = 0; i < lanes; ++i) m[i] = key + i < n ? k.units(key + i, u) : Vector<A>{};
            transpose<A>(m);
            for (int i = 0; i < lanes; ++i) store(panel + (u + i) * kPanel<A>, m[i]);
        }
    }
}

// to[unit of keys][column]; missing keys and columns are zero
template <class T, class A>
UA_KERNEL void pack_values(const Rows<T>& v, int64_t n, int64_t width, A* to) {
    constexpr int lanes = kLanes<A>;
    for (int64_t key = 0; key < n; key += kPerUnit<T>, to += width) {
        const T* row = v.data + key * v.stride;
        for (int64_t d = 0; d < width; d += lanes) {
            int columns = static_cast<int>(smaller(v.dim - d, lanes));
            Vector<A> second = {};
            if (kPerUnit<T> == 2 && key + 1 < n) second = load(row + v.stride + d, columns);
            store(to + d, join_rows(load(row + d, columns), second, T{}));
        }
    }
}

// what a thread works with, in memory of its own
template <class T> struct Slot {
    typedef Compute<T> A;
    int64_t units, depth;  // of a head; rounded up
    int64_t width, chunk;  // columns of values and results; scores of a query
    int64_t block, states; // queries whose scores exist; rounded up
    A *keys, *values, *queries, *scores, *out, *top, *total, *factor;
    int64_t size;

    Slot(const ua_spatial_attention* a, int64_t index) : chunk(a->chunk), block(a->block) {
        A* memory = static_cast<A*>(a->workspace) + index * a->slot_size;
        A* next = memory;
        auto take = [&](int64_t n) { return (next += n) - n; };
        units = round_up(a->dim, kPerUnit<T>) / kPerUnit<T>;
        depth = round_up(units, kLanes<A>);
        width = round_up(a->dim, kLanes<A>);
        states = round_up(block, kLanes<A>);
        keys = take(chunk * depth);
        values = take(chunk / kPerUnit<T> * width);
        queries = take(block * depth);
        scores = take(block * chunk);
        out = take(a->run * width);
        top = take(a->run / block * states);
        total = take(a->run / block * states);
        factor = take(states);
        size = next - memory;
    }

    Seen<A> seen(int64_t of_block) const {
        return {top + of_block * states, total + of_block * states, factor};
    }
};

template <class A> void scale_row(const A* from, int64_t width, A factor, A* to) {
    for (int64_t d = 0; d < width; d += kLanes<A>) store(to + d, load(from + d) * factor);
}

// n queries, packed, against the packed keys of a chunk
template <class T, class A>
void attend(const Slot<T>& slot, int64_t n, int64_t keys, A scale, bool first, A* out,
            const Seen<A>& seen) {
    for (int64_t key = 0; key < keys; key += kPanel<A>) {
        int64_t columns = round_up(smaller(keys - key, kPanel<A>), kLanes<A>);
        multiply<T, false>(slot.queries, slot.depth, n, slot.keys + key * slot.depth, slot.units,
                           kPanel<A>, slot.scores + key, slot.chunk, columns);
    }
    if (first) clear(seen, n);
    softmax<T>(slot.scores, slot.chunk, n, keys, scale, seen);
    int64_t count = round_up(keys, kPerUnit<T>) / kPerUnit<T>;
    for (int64_t i = 0; !first && i < n; ++i) {
        A* row = out + i * slot.width;
        scale_row(row, slot.width, seen.factor[i], row);
    }
    for (int64_t start = 0; start < count; start += kRun) {
        const A *weights = slot.scores + start, *values = slot.values + start * slot.width;
        const int64_t units = smaller(kRun, count - start);
        if (first && start == 0) {
            multiply<T, false>(weights, slot.chunk, n, values, units, slot.width, out, slot.width,
                               slot.width);
        } else {
            multiply<T, true>(weights, slot.chunk, n, values, units, slot.width, out, slot.width,
                              slot.width);
        }
    }
}

template <class T, class A>
UA_KERNEL void unpack(const Slot<T>& slot, int64_t queries, const Rows<T>& out) {
    for (int64_t i = 0; i < queries; ++i) {
        const Vector<A> factor = broadcast(1 / slot.seen(i / slot.block).total[i % slot.block]);
        const A* row = slot.out + i * slot.width;
        for (int64_t d = 0; d < out.dim; d += kLanes<A>) {
            store(out.data + i * out.stride + d, load(row + d) * factor,
                  static_cast<int>(smaller(out.dim - d, kLanes<A>)));
        }
    }
}

template <class T> const char* forward(const ua_spatial_attention* a) {
    typedef Compute<T> A;
    if (Slot<T>(a, 0).size > a->slot_size) {
        return "the workspace is too small: reinstall the package";
    }
    const A scale = static_cast<A>(a->scale * 1.4426950408889634); // 1 / ln 2
    const int64_t runs = (a->queries + a->run - 1) / a->run;
    const int64_t all = a->items * a->heads * runs;
    parallel_for_workers(a->call.threads, all, [&](int64_t i, int64_t worker) {
        const Slot<T> slot(a, worker);
        const int64_t start = i % runs * a->run, head = i / runs % a->heads;
        const int64_t item = i / runs / a->heads;
        const int64_t queries = smaller(a->run, a->queries - start);
        const Rows<T> q(a->q, item, start, head, a->dim);
        for (int64_t key = 0; key < a->keys; key += a->chunk) {
            const int64_t keys = smaller(a->chunk, a->keys - key);
            pack_keys(Rows<T>(a->k, item, key, head, a->dim), keys, slot.depth, slot.keys);
            pack_values(Rows<T>(a->v, item, key, head, a->dim), keys, slot.width, slot.values);
            for (int64_t row = 0; row < queries; row += slot.block) {
                const int64_t n = smaller(slot.block, queries - row);
                pack_queries(q, row, row + n, queries, slot.depth, slot.queries);
                attend<T, A>(slot, n, keys, scale, key == 0, slot.out + row * slot.width,
                             slot.seen(row / slot.block));
            }
        }
        unpack<T, A>(slot, queries, Rows<T>(a->out, item, start, head, a->dim));
    });
    return nullptr;
}

} // namespace

UA_ENTRY(spatial_attention_forward)(const ua_spatial_attention* a) {
    return with_dtype(a, [&](auto tag) -> const char* {
        typedef decltype(tag) T;
        if constexpr (kPerUnit<T> == 2 && !kHasPairs) {
            return "bfloat16 needs a CPU with AVX512-BF16";
        } else {
            return forward<T>(a);
        }
    });
}
