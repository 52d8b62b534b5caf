// The selective scan in one direction of time on the CPU; scan.h has the work.
#include "api.h"

#include "scan.h"

namespace {

Scan scan_of(const ua_selective_scan* a) {
    Scan s = {a->call, a->sizes, 1};
    s.direction[0] = only_direction(a->in, a->grad, a->reverse);
    s.z = a->z;
    s.grad_out = a->grad_out;
    s.initial_state = a->initial_state;
    s.final_state = a->final_state;
    s.grad_initial_state = a->grad_initial_state;
    s.grad_final_state = a->grad_final_state;
    s.out = a->out;
    s.grad_z = a->grad_z;
    s.workspace = a->workspace;
    return s;
}

} // namespace

UA_ENTRY(selective_scan_forward_workspace)(ua_selective_scan* a) {
    return measure_workspace(a, scan_of(a), false);
}
UA_ENTRY(selective_scan_backward_workspace)(ua_selective_scan* a) {
    return measure_workspace(a, scan_of(a), true);
}
UA_ENTRY(selective_scan_forward)(const ua_selective_scan* a) {
    return run_forward(a, scan_of(a));
}
UA_ENTRY(selective_scan_backward)(const ua_selective_scan* a) {
    return run_backward(a, scan_of(a));
}
