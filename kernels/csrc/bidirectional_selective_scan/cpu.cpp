// The selective scan in both directions of time on the CPU; selective_scan/scan.h has the work.
#include "api.h"

#include "../selective_scan/scan.h"

namespace {

Scan scan_of(const ua_bidirectional_selective_scan* a) {
    Scan s = {a->call, a->sizes, 2};
    s.direction[0] = only_direction(a->onward, a->grad_onward, false);
    s.direction[1] = second_direction(a->onward, a->backward, a->grad_backward);
    s.z = a->z;
    s.grad_out = a->grad_out;
    s.out = a->out;
    s.grad_z = a->grad_z;
    s.workspace = a->workspace;
    return s;
}

} // namespace

UA_ENTRY(bidirectional_selective_scan_forward_workspace)(ua_bidirectional_selective_scan* a) {
    return measure_workspace(a, scan_of(a), false);
}
UA_ENTRY(bidirectional_selective_scan_backward_workspace)(ua_bidirectional_selective_scan* a) {
    return measure_workspace(a, scan_of(a), true);
}
UA_ENTRY(bidirectional_selective_scan_forward)(const ua_bidirectional_selective_scan* a) {
    return run_forward(a, scan_of(a));
}
UA_ENTRY(bidirectional_selective_scan_backward)(const ua_bidirectional_selective_scan* a) {
    return run_backward(a, scan_of(a));
}
