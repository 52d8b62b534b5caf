// A transformer over the tokens of frames, on the CPU. What joins the tokens of a frame is made
// first: the statistics of its norm; then, from the first rows between the layers, the keys and
// values of its first attention. With those a thread takes some tokens through all that is left,
// and those rows never leave its cache.
#pragma once
#include "attention.h"

#include "../clip_norm.h"
#include "../feed_forward/rows.h"
#include "../parallel.h"

namespace {

template <class Format> class Transformer {
    typedef Value<Format> T;
    typedef Compute<T> A;
    typedef Unit<Format> U;

public:
    explicit Transformer(const ua_spatial_transformer* a)
        : a_(a), inner_(a->heads * a->head_dim), items_(a->batch * a->frames),
          cuts_((a->tokens + a->cut - 1) / a->cut),
          norm_(items_, cuts_, double(a->tokens), a->dim, a->groups, a->workspace),
          proj_in_{a->proj_in.weight, inner_, a->dim, static_cast<U*>(a->packed.data)},
          among_(a->attentions[0], a->heads, a->head_dim, inner_, a->tokens, a->together, a->eps,
                 proj_in_.packed + proj_in_.size(), static_cast<A*>(norm_.end())),
          to_context_(a->attentions[1], a->heads, a->head_dim, a->context_dim, a->keys,
                      a->batch, a->eps, among_.packed_end(), among_.end()),
          feed_forward_(a->feed_forward, inner_, a->hidden, a->eps, to_context_.packed_end()),
          proj_out_{a->proj_out.weight, a->dim, inner_, feed_forward_.end()},
          rows_(reinterpret_cast<T*>(to_context_.end())),
          threads_(reinterpret_cast<U*>(rows_) + a->together * a->tokens * inner_) {}

    const char* run() {
        const int64_t threads = a_->call.threads;
        const U* end = threads_ + threads * a_->thread_size;
        if (reinterpret_cast<const char*>(end) >
                static_cast<const char*>(a_->workspace) + a_->workspace_size ||
            own() > a_->thread_size || !fits(a_->packed, proj_out_.packed + proj_out_.size())) {
            return "the workspace is too small: reinstall the package";
        }
        // both read only what came in
        const int64_t cuts = items_ * cuts_;
        parallel_for(threads, cuts + (a_->packed.filled ? 0 : panels()), [&](int64_t i) {
            i < cuts ? measure(i / cuts_, i % cuts_ * a_->cut) : pack(i - cuts);
        });
        parallel_for(threads, items_, [&](int64_t i) {
            norm_.fold(i, a_->norm_weight, a_->norm_bias, a_->norm_eps);
        });
        over(a_->batch, a_->keys, kGroup, [&](int64_t i, int64_t first, U* memory) {
            const int64_t* stride = a_->context.stride;
            const T* from = static_cast<const T*>(a_->context.data) + i * stride[0];
            to_context_.make_keys(i, first, from + first * stride[1], stride[1],
                                  smaller(kGroup, a_->keys - first), memory);
        });
        for (int64_t start = 0; start < items_; start += a_->together) {
            const int64_t items = smaller(a_->together, items_ - start);
            over(items, a_->tokens, kGroup, [&](int64_t i, int64_t first, U* memory) {
                begin(start + i, i, first, memory);
            });
            over(items, a_->tokens, a_->run, [&](int64_t i, int64_t first, U* memory) {
                finish(start + i, i, first, memory);
            });
        }
        return nullptr;
    }

private:
    // shares out the parts of `count` items among the threads: run(item, first row, own memory)
    template <class Run>
    void over(int64_t count, int64_t rows, int64_t part, const Run& run) const {
        const int64_t parts = (rows + part - 1) / part;
        parallel_for_workers(a_->call.threads, count * parts, [&](int64_t i, int64_t worker) {
            run(i / parts, i % parts * part, threads_ + worker * a_->thread_size);
        });
    }

    int64_t panels() const {
        return panels_in(proj_in_, among_, to_context_, feed_forward_, proj_out_);
    }
    void pack(int64_t p) const { pack_in(p, proj_in_, among_, to_context_, feed_forward_, proj_out_); }

    int64_t normed() const { return a_->dim > inner_ ? a_->dim : inner_; }
    int64_t wide() const {
        const int64_t of_query = among_.of_query();
        return a_->hidden > of_query ? a_->hidden : of_query;
    }
    // of a thread: what either phase needs
    int64_t own() const {
        const int64_t context = to_context_.for_keys(), tokens = among_.for_keys();
        const int64_t keys = (context > tokens ? context : tokens) + kGroup * normed();
        const A* end = among_.run_of(a_->run, a_->block, a_->chunk, threads_).end;
        const int64_t queries = end - threads_ + a_->run * (normed() + wide());
        return keys > queries ? keys : queries;
    }

    T* row(const ua_array& of, int64_t item, int64_t i) const {
        const int64_t batch = item / a_->frames, frame = item % a_->frames;
        return static_cast<T*>(of.data) + batch * of.stride[0] + frame * of.stride[1] +
               i * of.stride[2];
    }
    T* between(int64_t slot, int64_t first) const {
        return rows_ + (slot * a_->tokens + first) * inner_;
    }

    void measure(int64_t item, int64_t first) const {
        norm_.measure(
            item * cuts_ + first / a_->cut, [&](int64_t i) { return row(a_->x, item, first + i); },
            smaller(a_->cut, a_->tokens - first));
    }

    // the rows before the first attention, and its keys and values
    void begin(int64_t item, int64_t slot, int64_t first, U* memory) const {
        const int64_t n = smaller(kGroup, a_->tokens - first);
        T* normed = reinterpret_cast<T*>(memory + among_.for_keys());
        T* h = between(slot, first);
        for (int64_t i = 0; i < n; ++i) {
            norm_.apply(item, row(a_->x, item, first + i), normed + i * a_->dim);
        }
        proj_in_.apply(normed, a_->dim, n, a_->proj_in.bias, nullptr, 0, h, inner_);
        among_.norm(h, n, normed);
        among_.make_keys(slot, first, normed, inner_, n, memory);
    }

    void finish(int64_t item, int64_t slot, int64_t first, U* memory) const {
        const int64_t n = smaller(a_->run, a_->tokens - first);
        const Run<T> run = among_.run_of(a_->run, a_->block, a_->chunk, memory);
        T* normed = reinterpret_cast<T*>(run.end);
        T* wide = normed + a_->run * this->normed();
        T *mixed = wide + a_->run * a_->head_dim, *h = between(slot, first);
        among_.apply(slot, h, n, normed, wide, mixed, run);
        to_context_.apply(item / a_->frames, h, n, normed, wide, mixed, run);
        feed_forward_.apply(h, inner_, n, normed, wide, h, inner_);
        proj_out_.apply(h, inner_, n, a_->proj_out.bias, row(a_->x, item, first), a_->x.stride[2],
                        row(a_->y, item, first), a_->y.stride[2]);
    }

    const ua_spatial_transformer* a_;
    int64_t inner_, items_, cuts_;
    ClipNorm<Format> norm_;
    Linear<Format> proj_in_;
    TokenAttention<Format> among_, to_context_;
    FeedForward<Format> feed_forward_;
    Linear<Format> proj_out_;
    T* rows_;
    U* threads_;
};

} // namespace
