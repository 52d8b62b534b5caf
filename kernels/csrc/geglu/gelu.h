// The normal distribution function on vectors: GELU is x times it.
#pragma once
#include "../simd.h"

namespace {

// x P(x^2) / Q(x^2) on [-4, 4], beyond which erf is 1 in float; the minimax coefficients of Eigen
inline Vector<float> erf(Vector<float> x) {
    x = clamp(x, -4.0f, 4.0f);
    Vector<float> q = x * x;
    Vector<float> top = broadcast(-2.72614225801306e-10f);
    top = top * q + 2.77068142495902e-08f;
    top = top * q + -2.10102402082508e-06f;
    top = top * q + -5.69250639462346e-05f;
    top = top * q + -7.34990630326855e-04f;
    top = top * q + -2.95459980854025e-03f;
    top = top * q + -1.60960333262415e-02f;
    Vector<float> bottom = broadcast(-1.45660718464996e-05f);
    bottom = bottom * q + -2.13374055278905e-04f;
    bottom = bottom * q + -1.68282697438203e-03f;
    bottom = bottom * q + -7.37332916720468e-03f;
    bottom = bottom * q + -1.42647390514189e-02f;
    return divide(x * top, bottom);
}
inline Vector<double> erf(Vector<double> x) {
    for (int i = 0; i < kLanes<double>; ++i) x[i] = ::erf(x[i]);
    return x;
}

// standard normal distribution function
template <class V> inline V normal_cdf(V x) { return (1 + erf(x * 0.70710678f)) * 0.5f; }
inline Vector<double> normal_cdf(Vector<double> x) { return (1 + erf(x * M_SQRT1_2)) * 0.5; }

// The same for results in bfloat16: 1/2 and an odd polynomial, 1 from 4.2 on. GELU is off by 8e-5
// at most, a hundredth of eps.
inline Vector<float> normal_cdf_bfloat16(Vector<float> x) {
    x = clamp(x, -4.2f, 4.2f);
    Vector<float> q = x * x;
    Vector<float> p = broadcast(-9.01769462e-10f);
    p = p * q + 7.94144351e-08f;
    p = p * q - 3.03795894e-06f;
    p = p * q + 6.68910819e-05f;
    p = p * q - 0.000950660707f;
    p = p * q + 0.00929824499f;
    p = p * q - 0.0655282415f;
    p = p * q + 0.398465902f;
    return x * p + 0.5f;
}

} // namespace
