// Both directions of the selective scan on a GPU, in one kernel.
#include "api.h"

#include "../selective_scan/backward.cuh"
#include "../selective_scan/forward.cuh"

namespace {

Scan describe(const ua_bidirectional_selective_scan* a) {
    Scan scan = {Sizes(a->sizes)};
    scan.in[0] = a->onward;
    scan.in[1] = shared_inputs(a->onward, a->backward);
    scan.directions = 2;
    scan.reverse[1] = 1;
    scan.z = a->z;
    return scan;
}

} // namespace

UA_ENTRY(bidirectional_selective_scan_forward_workspace)(ua_bidirectional_selective_scan* a) {
    a->workspace_size = forward_workspace(a->sizes, 2);
    return nullptr;
}

UA_ENTRY(bidirectional_selective_scan_forward)(const ua_bidirectional_selective_scan* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        ForwardScan f = {describe(a), contiguous(a->out, a->sizes), nullptr, nullptr};
        return run_forward<T>(f, a->sizes, a->workspace, a->call);
    });
}

UA_ENTRY(bidirectional_selective_scan_backward_workspace)(ua_bidirectional_selective_scan* a) {
    a->workspace_size = BackwardPlan(a->sizes, 2, a->call.device).size();
    return nullptr;
}

UA_ENTRY(bidirectional_selective_scan_backward)(const ua_bidirectional_selective_scan* a) {
    return with_dtype(a, [&](auto tag) {
        typedef decltype(tag) T;
        BackwardScan f = {describe(a)};
        f.grad_out = a->grad_out;
        f.grad_z = contiguous(a->grad_z, a->sizes);
        const ua_scan_gradients grad[2] = {a->grad_onward, a->grad_backward};
        return run_backward<T>(f, a->sizes, grad, static_cast<float*>(a->workspace), a->call);
    });
}
