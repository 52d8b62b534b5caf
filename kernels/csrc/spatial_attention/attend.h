// Softmax attention of the queries of one head, block by block and chunk by chunk.
#pragma once
#include "products.h"
#include "softmax.h"

namespace {

template <class A> constexpr int kPanel = kColumns * kLanes<A>; // keys
// units of keys whose values are summed on their own and then added: one long chain loses digits
constexpr int64_t kSummed = 64;

// a unit of two rows, in every column
template <class A> inline Vector<A> join_rows(Vector<A> first, Vector<A>, A) { return first; }
inline Vector<float> join_rows(Vector<float> first, Vector<float> second, bfloat16) {
    return (Vector<float>)((UInt32s)first >> 16 | (UInt32s)second);
}

// Packed keys [panel][unit][key] and values [unit of keys][column]. Missing keys are zero up to
// whole vectors and units.
template <class A> struct Chunk {
    const A *keys, *values;
    int64_t count;
};

// what a thread keeps of a run of queries, in memory of its own
template <class T> struct Run {
    typedef Compute<T> A;
    int64_t units, depth;  // of a head; from a query, or a key, to the next
    int64_t width, chunk;  // columns of values and results; scores of a query
    int64_t block, states; // queries whose scores exist; rounded up
    A *scores, *out, *top, *total, *factor, *end;

    Run(int64_t dim, int64_t depth, int64_t width, int64_t run, int64_t block, int64_t chunk,
        A* memory)
        : units(round_up(dim, kPerUnit<T>) / kPerUnit<T>), depth(depth), width(width),
          chunk(chunk), block(block), states(round_up(block, kLanes<A>)), end(memory) {
        const int64_t blocks = (run + block - 1) / block;
        auto take = [&](int64_t n) { return (end += n) - n; };
        scores = take(block * chunk);
        out = take(run * width);
        top = take(blocks * states);
        total = take(blocks * states);
        factor = take(states);
    }

    Seen<A> seen(int64_t of_block) const {
        return {top + of_block * states, total + of_block * states, factor};
    }
};

template <class A> void scale_row(const A* from, int64_t width, A factor, A* to) {
    for (int64_t d = 0; d < width; d += kLanes<A>) store(to + d, load(from + d) * factor);
}

// n packed queries, from `row` of the run on, against the next or the `first` chunk
template <class T, class A>
void attend(const Run<T>& run, int64_t row, int64_t n, const A* queries, const Chunk<A>& chunk,
            A scale, bool first) {
    const Seen<A> seen = run.seen(row / run.block);
    A* out = run.out + row * run.width;
    for (int64_t key = 0; key < chunk.count; key += kPanel<A>) {
        int64_t columns = round_up(smaller(chunk.count - key, kPanel<A>), kLanes<A>);
        multiply<T, false>(queries, run.depth, n, chunk.keys + key * run.depth, run.units,
                           kPanel<A>, run.scores + key, run.chunk, columns);
    }
    if (first) clear(seen, n);
    softmax<T>(run.scores, run.chunk, n, chunk.count, scale, seen);
    const int64_t count = round_up(chunk.count, kPerUnit<T>) / kPerUnit<T>;
    for (int64_t i = 0; !first && i < n; ++i) {
        scale_row(out + i * run.width, run.width, seen.factor[i], out + i * run.width);
    }
    for (int64_t start = 0; start < count; start += kSummed) {
        const A *weights = run.scores + start, *values = chunk.values + start * run.width;
        const int64_t units = smaller(kSummed, count - start);
        if (first && start == 0) {
            multiply<T, false>(weights, run.chunk, n, values, units, run.width, out, run.width,
                               run.width);
        } else {
            multiply<T, true>(weights, run.chunk, n, values, units, run.width, out, run.width,
                              run.width);
        }
    }
}

// the results of the run, `dim` values a query
template <class T>
UA_KERNEL void unpack(const Run<T>& run, int64_t queries, int64_t dim, T* to, int64_t stride) {
    typedef Compute<T> A;
    for (int64_t i = 0; i < queries; ++i) {
        const Vector<A> factor = broadcast(1 / run.seen(i / run.block).total[i % run.block]);
        const A* row = run.out + i * run.width;
        for (int64_t d = 0; d < dim; d += kLanes<A>) {
            store(to + i * stride + d, load(row + d) * factor,
                  static_cast<int>(smaller(dim - d, kLanes<A>)));
        }
    }
}

} // namespace
