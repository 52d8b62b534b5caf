// Softmax attention over frames on the CPU: places shared out among the threads. The transformer
// around it stands here too, and the feed-forward in that, because all are compiled from the same
// functions.
#include "api.h"

#include "../parallel.h"
#include "../temporal_transformer/transformer.h"
#include "place.h"

namespace {

template <class T, class Run>
const char* over_places(const ua_temporal_attention* a, int copies, int score_arrays,
                        const Run& run) {
    typedef Compute<T> A;
    int64_t width = round_up(a->dim, kLanes<A>);
    int64_t copy_size = a->slot_heads * a->frames * width;
    int64_t score_size = round_up(a->frames, kLanes<A>) * kVectors * kLanes<A>;
    int64_t used = copies * copy_size + score_arrays * score_size + width * kVectors * kLanes<A>;
    if (used > a->slot_size) return "the workspace is too small: reinstall the package";
    int64_t places = a->batch * a->locations;
    parallel_for(a->call.threads, a->slots, [&](int64_t slot) {
        A* memory = static_cast<A*>(a->workspace) + slot * a->slot_size;
        A* scores = memory + copies * copy_size;
        A* turned = scores + score_arrays * score_size;
        int64_t last = (slot + 1) * places / a->slots;
        for (int64_t i = slot * places / a->slots; i < last; ++i) {
            for (int64_t head = 0; head < a->heads; head += a->slot_heads) {
                Place at{i / a->locations, i % a->locations, head,
                         smaller(a->slot_heads, a->heads - head)};
                run(at, Slot<A>{memory, scores, turned, copy_size, score_size});
            }
        }
    });
    return nullptr;
}

} // namespace

UA_ENTRY(temporal_attention_forward)(const ua_temporal_attention* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        typedef Compute<T> A;
        return over_places<T>(a, 3, 1, [&](const Place& at, const Slot<A>& slot) {
            attend<T>(a, at, slot);
        });
    });
}

UA_ENTRY(temporal_attention_backward)(const ua_temporal_attention* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        typedef Compute<T> A;
        int64_t width = round_up(a->dim, kLanes<A>);
        return over_places<T>(a, 6, 2, [&](const Place& at, const Slot<A>& slot) {
            A *qs = slot.copies, *ks = qs + slot.copy_size, *vs = ks + slot.copy_size;
            A *gs = vs + slot.copy_size, *dks = gs + slot.copy_size, *dvs = dks + slot.copy_size;
            A *p = slot.scores, *slopes = p + slot.score_size;
            pack<T, A>(a, a->q, at, static_cast<A>(a->scale), qs);
            pack<T, A>(a, a->k, at, 1, ks);
            pack<T, A>(a, a->v, at, 1, vs);
            pack<T, A>(a, a->grad, at, 1, gs);
            memset(dks, 0, 2 * slot.copy_size * sizeof(A));
            for (int64_t h = 0; h < at.heads; ++h) {
                int64_t offset = h * a->frames * width;
                A *q = qs + offset, *k = ks + offset, *v = vs + offset, *g = gs + offset;
                Ahead<T> ahead(a, at, h);
                over_queries<A>(a->frames, [&](const Queries<A>& group) {
                    int64_t first = group.first * width;
                    auto fetch = [&] { ahead.fetch(); };
                    products(a, group, q, k, slot.turned, p, ahead);
                    softmax(group, a->frames, p);
                    combine<true>(by_key(group, p), a->frames, g + first, group.count, width,
                                  dvs + offset, width, width, fetch);
                    products(a, group, g, v, slot.turned, slopes, ahead);
                    softmax_backward(group, a->frames, p, slopes);
                    combine<true>(by_key(group, slopes), a->frames, q + first, group.count, width,
                                  dks + offset, width, width, fetch);
                    // a group's queries are no longer needed: their gradient takes their place
                    combine<false>(by_query(group, slopes), group.count, k, a->frames, width,
                                   q + first, width, width, fetch);
                });
            }
            unpack<T, A>(a, qs, at, static_cast<A>(a->scale), a->dq);
            unpack<T, A>(a, dks, at, 1, a->dk);
            unpack<T, A>(a, dvs, at, 1, a->dv);
        });
    });
}

UA_ENTRY(temporal_transformer_forward)(const ua_temporal_transformer* a) {
    return with_format(a, [&](auto format) { return Transformer<decltype(format)>(a).run(); });
}

UA_ENTRY(feed_forward_forward)(const ua_feed_forward* a) {
    return with_format(a, [&](auto format) { return feed_forward<decltype(format)>(a); });
}
