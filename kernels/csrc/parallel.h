// Threads for the CPU kernels: items of work claimed one at a time by the threads torch has.
#pragma once
#include <stdint.h>

// runs body(data) on up to `threads` threads at once (library.cpp)
extern "C" void ua_fork(void (*body)(void*), void* data, int64_t threads);

namespace {

// Calls item(i, worker) for i in [0, count); worker < threads numbers the thread, for scratch
// memory. The results must not depend on which thread ran an item: reductions write a partial
// result an item, never one a thread.
template <class Item>
void parallel_for_workers(int64_t threads, int64_t count, const Item& item) {
    struct Shared {
        const Item* item;
        int64_t count, next, workers;
    } shared{&item, count, 0, 0};
    auto body = [](void* data) {
        auto* shared = static_cast<Shared*>(data);
        int64_t worker = __atomic_fetch_add(&shared->workers, 1, __ATOMIC_RELAXED);
        for (;;) {
            int64_t i = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);
            if (i >= shared->count) return;
            (*shared->item)(i, worker);
        }
    };
    if (threads <= 1 || count <= 1) {
        body(&shared);
    } else {
        ua_fork(body, &shared, threads < count ? threads : count);
    }
}

// the same for items that need no scratch memory
template <class Item>
void parallel_for(int64_t threads, int64_t count, const Item& item) {
    parallel_for_workers(threads, count, [&](int64_t i, int64_t) { item(i); });
}

} // namespace
