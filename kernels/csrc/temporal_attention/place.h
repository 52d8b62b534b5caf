// Softmax attention over frames on the CPU, one location after the other.
//
// The frames of a location lie far apart in memory, often a power of two apart, so every row is
// read once, all heads of it together, into a dense copy in the slot; results leave the same way.
// A block of kLanes queries then has one query a lane and one row of scores a key: maximum,
// exponentials and sum over the keys never cross lanes. A last block of few queries (F = 17, 33
// and 65 leave one) takes a row a query instead, with the keys across the lanes. All scores of a
// block are held, so the softmax is in one shot for any number of frames.
#pragma once
#include "api.h"

#include "../lanes.h"
#include "../products.h"

namespace {

// a register tile of block_scores: vectors of queries, and keys
constexpr int kVectors = UA_VECTOR_BYTES == 64 ? 1 : 2;
constexpr int kKeys = UA_VECTOR_BYTES == 64 ? 8 : 6;

// ---- rows between the tensors and their dense copies [head][frame][width]

struct Place {
    int64_t batch, location, head, heads; // heads: how many from `head` on
};

template <class T>
T* row(const ua_array& x, const Place& at, int64_t frame, int64_t head) {
    return static_cast<T*>(x.data) + at.batch * x.stride[0] + frame * x.stride[1] +
           at.location * x.stride[2] + (at.head + head) * x.stride[3];
}

// calls run(d, n) for the vectors of a row, n lanes each
template <class A, class Run> inline void over_row(int64_t dim, const Run& run) {
    int64_t d = 0;
    for (; d + kLanes<A> <= dim; d += kLanes<A>) run(d, kLanes<A>);
    if (d < dim) run(d, static_cast<int>(dim - d));
}

template <class T, class A>
void pack(const ua_temporal_attention* a, const ua_array& x, const Place& at, A factor, A* to) {
    int64_t width = round_up(a->dim, kLanes<A>);
    for (int64_t f = 0; f < a->frames; ++f) {
        for (int64_t h = 0; h < at.heads; ++h) {
            const T* from = row<const T>(x, at, f, h);
            A* copy = to + (h * a->frames + f) * width;
            over_row<A>(a->dim,
                        [&](int64_t d, int n) { store(copy + d, load(from + d, n) * factor); });
        }
    }
}

template <class T, class A>
void unpack(const ua_temporal_attention* a, const A* from, const Place& at, A factor,
            const ua_array& x) {
    int64_t width = round_up(a->dim, kLanes<A>);
    for (int64_t f = 0; f < a->frames; ++f) {
        for (int64_t h = 0; h < at.heads; ++h) {
            T* to = row<T>(x, at, f, h);
            const A* copy = from + (h * a->frames + f) * width;
            over_row<A>(a->dim,
                        [&](int64_t d, int n) { store(to + d, load(copy + d) * factor, n); });
        }
    }
}

// Asks for the rows of a head at the next location, 64 bytes of every frame at a call: the calls
// stand between the register tiles, because all rows at once would stall.
template <class T> class Ahead {
public:
    Ahead(const ua_temporal_attention* a, Place at, int64_t head) : frames_(a->frames) {
        if (++at.location == a->locations) return;
        bytes_ = a->dim * sizeof(T);
        const ua_array* arrays[] = {&a->q, &a->k, &a->v, &a->grad};
        for (const ua_array* x : arrays) {
            if (x->data == nullptr) continue;
            start_[arrays_] = reinterpret_cast<const char*>(row<const T>(*x, at, 0, head));
            stride_[arrays_++] = x->stride[1] * sizeof(T);
        }
    }

    void fetch() {
        if (next_ == arrays_) return;
        const char* p = start_[next_] + offset_;
        for (int64_t f = 0; f < frames_; ++f) __builtin_prefetch(p + f * stride_[next_], 0, 2);
        offset_ += 64;
        if (offset_ < bytes_) return;
        offset_ = 0;
        ++next_;
    }

private:
    const char* start_[4];
    int64_t stride_[4], frames_, bytes_ = 0, offset_ = 0;
    int arrays_ = 0, next_ = 0;
};

// ---- products; `width` is the distance of dense rows

// to[d][lane] = rows[lane][d] of n rows, `stride` values from d to d; the other lanes are zero
template <class A>
void transpose_rows(const A* rows, int64_t n, int64_t width, A* to, int64_t stride) {
    constexpr int lanes = kLanes<A>;
    for (int64_t d = 0; d < width; d += lanes) {
        Vector<A> m[lanes];
        for (int i = 0; i < lanes; ++i) m[i] = i < n ? load(rows + i * width + d) : Vector<A>{};
        transpose<A>(m);
        for (int i = 0; i < lanes; ++i) store(to + (d + i) * stride, m[i]);
    }
}

// scores[key][query] = keys[key] . queries[.][query] of n keys and m vectors of queries
template <class A, int n, int m>
UA_KERNEL void block_scores(const A* queries, const A* keys, int64_t width, int64_t dim,
                            A* scores) {
    constexpr int lanes = kLanes<A>;
    const A* key[n];
    for (int i = 0; i < n; ++i) key[i] = keys + i * width;
    Vector<A> sum[n][m];
    clear(sum);
    for (int64_t d = 0; d < dim; ++d) {
        Vector<A> query[m];
        for (int j = 0; j < m; ++j) query[j] = load(queries + (d * m + j) * lanes);
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < m; ++j) sum[i][j] += query[j] * key[i][d];
    }
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < m; ++j) store(scores + (i * m + j) * lanes, sum[i][j]);
}

// scores[key] = keys[key] . query of n keys; scores of the other lanes are zero
template <class A, int n>
UA_KERNEL void row_scores(const A* query, const A* keys, int64_t width, A* scores) {
    Vector<A> m[kLanes<A>];
    for (auto& sum : m) sum = Vector<A>{};
    for (int64_t d = 0; d < width; d += kLanes<A>) {
        Vector<A> q = load(query + d);
        for (int i = 0; i < n; ++i) m[i] += q * load(keys + i * width + d);
    }
    store(scores, sums<A>(m));
}

// ---- one head at one location

// A group of queries against all keys: a block with a query a lane, or one row with a key a lane.
// scores(query, key) = scores[query + key * stride]
template <class A> struct Queries {
    int64_t first, count, vectors; // vectors: of a block; 0 of a row
    int64_t stride;
};

template <class A, class Run> void over_queries(int64_t frames, const Run& run) {
    constexpr int lanes = kLanes<A>;
    for (int64_t first = 0; first < frames;) {
        int64_t left = frames - first;
        // the last lanes / 4 queries or fewer are rows
        int64_t vectors = smaller((left + lanes - 1 - lanes / 4) / lanes, kVectors);
        Queries<A> q{first, vectors ? smaller(left, vectors * lanes) : 1, vectors,
                     vectors ? vectors * lanes : 1};
        run(q);
        first += q.count;
    }
}

// sides of the scores as coefficients of a sum over the keys, and over the queries of the group
template <class A> Coefficients<A> by_query(const Queries<A>& q, const A* scores) {
    return {scores, 1, q.stride};
}
template <class A> Coefficients<A> by_key(const Queries<A>& q, const A* scores) {
    return {scores, q.stride, 1};
}

// dot products of the group's rows with all rows of `keys`
template <class A, class T>
void products(const ua_temporal_attention* a, const Queries<A>& q, const A* rows, const A* keys,
              A* turned, A* scores, Ahead<T>& ahead) {
    int64_t width = round_up(a->dim, kLanes<A>);
    rows += q.first * width;
    if (q.vectors > 0) {
        for (int64_t i = 0; i < q.stride; i += kLanes<A>) {
            ahead.fetch();
            transpose_rows(rows + i * width, q.count - i, width, turned + i, q.stride);
        }
        with_constant<kVectors>(static_cast<int>(q.vectors), [&](auto vectors) {
            in_parts<kKeys>(a->frames, [&](int64_t key, auto part) {
                ahead.fetch();
                block_scores<A, decltype(part)::value, decltype(vectors)::value>(
                    turned, keys + key * width, width, a->dim, scores + key * q.stride);
            });
        });
    } else {
        for (int64_t key = 0; key < a->frames; key += kLanes<A>) {
            ahead.fetch();
            int n = static_cast<int>(smaller(a->frames - key, kLanes<A>));
            with_constant<kLanes<A>>(n, [&](auto part) {
                row_scores<A, decltype(part)::value>(rows, keys + key * width, width, scores + key);
            });
        }
    }
}

// calls run(scores, count, stride) for scores that lie across keys: of a vector of queries, or of
// a row, whose lanes are to be joined
template <class A, class Run>
void over_vectors(const Queries<A>& q, int64_t frames, const Run& run) {
    constexpr int lanes = kLanes<A>;
    if (q.vectors == 0) return run(0, round_up(frames, lanes) / lanes, lanes);
    for (int64_t i = 0; i < q.stride; i += lanes) run(i, frames, q.stride);
}

template <class A> void softmax(const Queries<A>& q, int64_t frames, A* scores) {
    if (q.vectors == 0) {
        for (int64_t i = frames; i < round_up(frames, kLanes<A>); ++i) scores[i] = A(-3e38);
    }
    over_vectors(q, frames, [&](int64_t first, int64_t count, int64_t stride) {
        A* s = scores + first;
        Vector<A> top = load(s), total = {};
        for (int64_t i = 1; i < count; ++i) top = larger(top, load(s + i * stride));
        if (q.vectors == 0) top = fold<A>(top, larger<Vector<A>>);
        for (int64_t i = 0; i < count; ++i) {
            Vector<A> p = exp(load(s + i * stride) - top);
            total += p;
            store(s + i * stride, p);
        }
        if (q.vectors == 0) total = fold<A>(total, add<Vector<A>>);
        Vector<A> inverse = 1 / total;
        for (int64_t i = 0; i < count; ++i) store(s + i * stride, load(s + i * stride) * inverse);
    });
}

// slopes = p (slopes - sum over keys of p slopes): from the gradient of p to that of the scores
template <class A>
void softmax_backward(const Queries<A>& q, int64_t frames, const A* p, A* slopes) {
    over_vectors(q, frames, [&](int64_t first, int64_t count, int64_t stride) {
        const A* weights = p + first;
        A* s = slopes + first;
        Vector<A> mean = {};
        for (int64_t i = 0; i < count; ++i) {
            mean += load(weights + i * stride) * load(s + i * stride);
        }
        if (q.vectors == 0) mean = fold<A>(mean, add<Vector<A>>);
        for (int64_t i = 0; i < count; ++i) {
            store(s + i * stride, load(weights + i * stride) * (load(s + i * stride) - mean));
        }
    });
}

// where the work on one place has its dense copies of tensors, its scores and a turned block
template <class A> struct Slot {
    A *copies, *scores, *turned;
    int64_t copy_size, score_size;
};

// all heads of a place: packs them, attends, and puts the result where `out` is
template <class T>
void attend(const ua_temporal_attention* a, const Place& at, const Slot<Compute<T>>& slot) {
    typedef Compute<T> A;
    int64_t width = round_up(a->dim, kLanes<A>);
    A *qs = slot.copies, *ks = qs + slot.copy_size, *vs = ks + slot.copy_size;
    pack<T, A>(a, a->q, at, static_cast<A>(a->scale), qs);
    pack<T, A>(a, a->k, at, 1, ks);
    pack<T, A>(a, a->v, at, 1, vs);
    for (int64_t h = 0; h < at.heads; ++h) {
        int64_t offset = h * a->frames * width;
        A *q = qs + offset, *k = ks + offset, *v = vs + offset;
        Ahead<T> ahead(a, at, h);
        over_queries<A>(a->frames, [&](const Queries<A>& group) {
            products(a, group, q, k, slot.turned, slot.scores, ahead);
            softmax(group, a->frames, slot.scores);
            // a group's queries are no longer needed: the output takes their place
            combine<false>(by_query(group, slot.scores), group.count, v, a->frames, width,
                           q + group.first * width, width, width, [&] { ahead.fetch(); });
        });
    }
    unpack<T, A>(a, qs, at, 1, a->out);
}

} // namespace
