// The selective scan in one direction of time or in both on the CPU; scan.h has the work. They are one
// unit, so that it is compiled once.
#include "api.h"

#include "../bidirectional_selective_scan/api.h"
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
