// Winograd's F(m, 3): m results of a convolution of three taps by m + 2 products (Lavin & Gray,
// arXiv 1509.09308). y = A^T ((G g) (B^T d)) of taps g and m + 2 values d; in two directions it is
// applied to the columns, then to the rows.
#pragma once
#include "../simd.h"

namespace {

typedef Vector<float> V;

template <int m> struct Winograd;

// by the points 0, 1, -1 and infinity
template <> struct Winograd<2> {
    static void spread(const V (&d)[4], V (&to)[4]) { // B^T d
        to[0] = d[0] - d[2];
        to[1] = d[1] + d[2];
        to[2] = d[2] - d[1];
        to[3] = d[1] - d[3];
    }
    static void widen(const V (&g)[3], V (&to)[4]) { // G g
        const V even = (g[0] + g[2]) * 0.5f, odd = g[1] * 0.5f;
        to[0] = g[0];
        to[1] = even + odd;
        to[2] = even - odd;
        to[3] = g[2];
    }
    static void gather(const V (&p)[4], V (&to)[2]) { // A^T p
        to[0] = p[0] + p[1] + p[2];
        to[1] = p[1] - p[2] - p[3];
    }
};

// By the points 0, a, -a, b, -b and infinity: of the fractions of small numbers, these lose fewest
// digits (with 1 and 2, the usual ones, twice as many are lost).
template <> struct Winograd<4> {
    static constexpr float a = 11.0f / 16, b = 3.0f / 2, aa = a * a, bb = b * b;
    static constexpr float of_a = 1 / (2 * aa * (aa - bb)), of_b = 1 / (2 * bb * (bb - aa));

    static void spread(const V (&d)[6], V (&to)[6]) {
        const V even_a = d[4] - d[2] * bb, odd_a = (d[3] - d[1] * bb) * a;
        const V even_b = d[4] - d[2] * aa, odd_b = (d[3] - d[1] * aa) * b;
        to[0] = d[4] - d[2] * (aa + bb) + d[0] * (aa * bb);
        to[1] = even_a + odd_a;
        to[2] = even_a - odd_a;
        to[3] = even_b + odd_b;
        to[4] = even_b - odd_b;
        to[5] = d[5] - d[3] * (aa + bb) + d[1] * (aa * bb);
    }
    static void widen(const V (&g)[3], V (&to)[6]) {
        const V even_a = (g[0] + g[2] * aa) * of_a, odd_a = g[1] * (a * of_a);
        const V even_b = (g[0] + g[2] * bb) * of_b, odd_b = g[1] * (b * of_b);
        to[0] = g[0] * (1 / (aa * bb));
        to[1] = even_a + odd_a;
        to[2] = even_a - odd_a;
        to[3] = even_b + odd_b;
        to[4] = even_b - odd_b;
        to[5] = g[2];
    }
    static void gather(const V (&p)[6], V (&to)[4]) {
        const V even_a = p[1] + p[2], odd_a = (p[1] - p[2]) * a;
        const V even_b = p[3] + p[4], odd_b = (p[3] - p[4]) * b;
        to[0] = p[0] + even_a + even_b;
        to[1] = odd_a + odd_b;
        to[2] = even_a * aa + even_b * bb;
        to[3] = odd_a * aa + odd_b * bb + p[5];
    }
};

} // namespace
