// Threads for the CPU kernels: items of work claimed one at a time by the threads torch has.
#pragma once
#include <stdint.h>

// runs body(data) on up to `threads` threads at once (library.cpp)
extern "C" void ua_fork(void (*body)(void*), void* data, int64_t threads);

namespace {

// Calls item(i) for i in [0, count). The results must not depend on which thread ran an item:
// reductions write a partial result an item, never one a thread.
template <class Item>
void parallel_for(int64_t threads, int64_t count, const Item& item) {
    struct Shared {
        const Item* item;
        int64_t count;
        int64_t next;
    } shared{&item, count, 0};
    auto body = [](void* data) {
        auto* shared = static_cast<Shared*>(data);
        for (;;) {
            int64_t i = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);
            if (i >= shared->count) return;
            (*shared->item)(i);
        }
    };
    if (threads <= 1 || count <= 1) {
        body(&shared);
    } else {
        ua_fork(body, &shared, threads < count ? threads : count);
    }
}

} // namespace
