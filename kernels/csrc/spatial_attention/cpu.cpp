// Softmax attention on the CPU, forward only.
//
// A thread takes a run of queries of one head at once. Chunk by chunk it packs the keys and values
// so that both products read whole vectors one after the other: keys turned, a panel of columns
// after the other, values as rows. What a chunk needs stays in the L2 cache, the scores of a block
// of queries in the L1 cache; no more of them exist, whatever the number of keys. The transformer
// around it stands here too, because both are compiled from the same functions.
#include "api.h"

#include "../parallel.h"
#include "../spatial_transformer/transformer.h"
#include "attend.h"

namespace {

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
    Run<T> run;
    A *queries, *keys, *values, *end;

    Slot(const ua_spatial_attention* a, int64_t index)
        : run(a->dim, round_up(round_up(a->dim, kPerUnit<T>) / kPerUnit<T>, kLanes<A>),
              round_up(a->dim, kLanes<A>), a->run, a->block, a->chunk,
              static_cast<A*>(a->workspace) + index * a->slot_size),
          queries(run.end), keys(queries + a->block * run.depth),
          values(keys + a->chunk * run.depth), end(values + a->chunk / kPerUnit<T> * run.width) {}
};

template <class T> const char* forward(const ua_spatial_attention* a) {
    typedef Compute<T> A;
    if (Slot<T>(a, 0).end > static_cast<A*>(a->workspace) + a->slot_size) {
        return "the workspace is too small: reinstall the package";
    }
    const A scale = static_cast<A>(a->scale * kLog2E);
    const int64_t runs = (a->queries + a->run - 1) / a->run;
    const int64_t all = a->items * a->heads * runs;
    parallel_for_workers(a->call.threads, all, [&](int64_t i, int64_t worker) {
        const Slot<T> slot(a, worker);
        const Run<T>& run = slot.run;
        const int64_t start = i % runs * a->run, head = i / runs % a->heads;
        const int64_t item = i / runs / a->heads;
        const int64_t queries = smaller(a->run, a->queries - start);
        const Rows<T> q(a->q, item, start, head, a->dim);
        for (int64_t key = 0; key < a->keys; key += a->chunk) {
            const Chunk<A> chunk{slot.keys, slot.values, smaller(a->chunk, a->keys - key)};
            pack_keys(Rows<T>(a->k, item, key, head, a->dim), chunk.count, run.depth, slot.keys);
            pack_values(Rows<T>(a->v, item, key, head, a->dim), chunk.count, run.width,
                        slot.values);
            for (int64_t row = 0; row < queries; row += run.block) {
                const int64_t n = smaller(run.block, queries - row);
                pack_queries(q, row, row + n, queries, run.depth, slot.queries);
                attend(run, row, n, slot.queries, chunk, scale, key == 0);
            }
        }
        const Rows<T> out(a->out, item, start, head, a->dim);
        unpack(run, queries, a->dim, out.data, out.stride);
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

UA_ENTRY(spatial_transformer_forward)(const ua_spatial_transformer* a) {
    return with_format(a, [&](auto format) { return Transformer<decltype(format)>(a).run(); });
}
