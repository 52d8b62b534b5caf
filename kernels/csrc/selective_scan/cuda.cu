// The selective scan on a GPU.
#include "api.h"

#include "backward.cuh"
#include "forward.cuh"

namespace {

Scan describe(const ua_selective_scan* a) {
    Scan scan = {Sizes(a->sizes)};
    scan.in[0] = a->in;
    scan.directions = 1;
    scan.reverse[0] = a->reverse != 0;
    scan.z = a->z;
    scan.initial_state = static_cast<const float*>(a->initial_state);
    return scan;
}

} // namespace

UA_ENTRY(selective_scan_forward_workspace)(ua_selective_scan* a) {
    a->workspace_size = forward_workspace(a->sizes, 1);
    return nullptr;
}

UA_ENTRY(selective_scan_forward)(const ua_selective_scan* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        ForwardScan f = {describe(a), contiguous(a->out, a->sizes),
                         static_cast<float*>(a->final_state), nullptr};
        return run_forward<T>(f, a->sizes, a->workspace, a->call);
    });
}

UA_ENTRY(selective_scan_backward_workspace)(ua_selective_scan* a) {
    a->workspace_size = BackwardPlan(a->sizes, 1, a->call.device).size();
    return nullptr;
}

UA_ENTRY(selective_scan_backward)(const ua_selective_scan* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        BackwardScan f = {describe(a)};
        f.grad_out = a->grad_out;
        f.grad_z = contiguous(a->grad_z, a->sizes);
        f.grad_final_state = static_cast<const float*>(a->grad_final_state);
        f.grad_initial_state = static_cast<float*>(a->grad_initial_state);
        const ua_scan_gradients grad[2] = {a->grad, {}};
        return run_backward<T>(f, a->sizes, grad, static_cast<float*>(a->workspace), a->call);
    });
}
