// Group normalisation + SiLU on the CPU: one pass for sums, one that writes the result.
//
// Both passes run lanes over the channels (channels-last) or over the rows (planes). What connects
// them is small and in double: sums per channel, folded to groups. So an embedding costs nothing
// (it shifts the channel means), and the results do not depend on the number of threads.
#include "api.h"

#include "../moments.h"
#include "../parallel.h"

namespace {

typedef const ua_group_norm_silu* Call;

constexpr int64_t kAlone = 32768; // values that one thread has done before a second one is awake

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- where things are

template <class T> inline T* row(Call a, const ua_array& of, int64_t n, int64_t r) {
    int64_t offset = n * of.stride[0];
    if (a->inner[1] == a->rows) {
        offset += r * of.stride[3];
    } else {
        int64_t outer = r / a->inner[1];
        offset += r % a->inner[1] * of.stride[3] + outer % a->inner[0] * of.stride[2] +
                  outer / a->inner[0] * of.stride[1];
    }
    return static_cast<T*>(of.data) + offset;
}

template <class T> inline T* plane(const ua_array& of, int64_t n, int64_t c) {
    return static_cast<T*>(of.data) + n * of.stride[0] + c * of.stride[1];
}

// `count` arrays of `padded` doubles: the sums of one block of item n
inline double* sums(Call a, int count, int64_t n, int64_t block) {
    return static_cast<double*>(a->sums) + (n * a->blocks + block) * count * a->padded;
}

// `count` arrays of `padded` values: what the passes need to know of every channel of item n
template <class A> inline A* table(Call a, int count, int64_t n) {
    return static_cast<A*>(a->coefficients) + n * count * a->padded;
}

// how a pass reads a table: lanes are neighbouring channels, or rows of one channel
template <class A> struct Across {
    int64_t c;
    Vector<A> operator()(const A* values) const { return load(values + c); }
};
template <class A> struct Within {
    int64_t c;
    Vector<A> operator()(const A* values) const { return broadcast(values[c]); }
};

// ---- the passes over the data. `terms(n)(how)` reads the tables of item n and gives a
// function that adds a vector's terms to `count` sums; `point(n)(how)` one that gives a result.
// Both come by value: what they hold then stays in registers beside stores of any type.

template <class T, int count, int together, class Terms>
void sum_together(Call a, int64_t n, int64_t r, Terms terms, double* into) {
    typedef Compute<T> A;
    const T *x[together], *grad[together];
    for (int i = 0; i < together; ++i) {
        x[i] = row<T>(a, a->x, n, r + i);
        grad[i] = a->grad.data ? row<T>(a, a->grad, n, r + i) : x[i];
    }
    const int64_t channels = a->channels, width = a->padded;
    const int64_t next = together * a->x.stride[3]; // so many streams defeat the prefetcher
    for (int64_t c = 0; c < channels; c += kLanes<A>) {
        int lanes = least(kLanes<A>, channels - c);
        auto add = terms(Across<A>{c});
        Vector<A> sum[count] = {};
        for (int i = 0; i < together; ++i) {
            __builtin_prefetch(x[i] + c + next);
            add(load(x[i] + c, lanes), load(grad[i] + c, lanes), sum);
        }
        for (int k = 0; k < count; ++k) accumulate(into + k * width + c, sum[k]);
    }
}

template <class T, int count, class Terms>
void sum_rows(Call a, int64_t n, int64_t block, Terms terms) {
    double* into = sums(a, count, n, block);
    memset(into, 0, count * a->padded * sizeof(double));
    int64_t r = block * a->block, end = least(r + a->block, a->rows);
    for (; r + kTogether <= end; r += kTogether) {
        sum_together<T, count, kTogether>(a, n, r, terms, into);
    }
    for (; r < end; ++r) sum_together<T, count, 1>(a, n, r, terms, into);
}

template <class T, int count, class Terms>
void sum_plane(Call a, int64_t n, int64_t c, Terms terms) {
    typedef Compute<T> A;
    const T* x = plane<T>(a->x, n, c);
    const T* grad = a->grad.data ? plane<T>(a->grad, n, c) : x;
    auto add = terms(Within<A>{c});
    double total[count][kLanes<A>] = {};
    for (int64_t r = 0; r < a->rows; r += kTogether * kLanes<A>) {
        int64_t end = least(r + kTogether * kLanes<A>, a->rows);
        Vector<A> sum[count] = {};
        int64_t i = r;
        for (; i + kLanes<A> <= end; i += kLanes<A>) add(load(x + i), load(grad + i), sum);
        if (i < end) {
            Vector<A> last[count] = {};
            add(load(x + i, end - i), load(grad + i, end - i), last);
            for (int k = 0; k < count; ++k) {
                for (int64_t lane = 0; lane < end - i; ++lane) sum[k][lane] += last[k][lane];
            }
        }
        for (int k = 0; k < count; ++k) accumulate(total[k], sum[k]);
    }
    for (int k = 0; k < count; ++k) {
        double all = 0;
        for (int lane = 0; lane < kLanes<A>; ++lane) all += total[k][lane];
        sums(a, count, n, 0)[k * a->padded + c] = all;
    }
}

template <class T, int together, class Point>
void write_together(Call a, int64_t n, int64_t r, Point point) {
    typedef Compute<T> A;
    const T *x[together], *grad[together];
    T* out[together];
    for (int i = 0; i < together; ++i) {
        x[i] = row<T>(a, a->x, n, r + i);
        grad[i] = a->grad.data ? row<T>(a, a->grad, n, r + i) : x[i];
        out[i] = row<T>(a, a->out, n, r + i);
    }
    const int64_t channels = a->channels, next = together * a->x.stride[3];
    for (int64_t c = 0; c < channels; c += kLanes<A>) {
        int lanes = least(kLanes<A>, channels - c);
        auto value = point(Across<A>{c});
        for (int i = 0; i < together; ++i) {
            __builtin_prefetch(x[i] + c + next);
            store(out[i] + c, value(load(x[i] + c, lanes), load(grad[i] + c, lanes)), lanes);
        }
    }
}

template <class T, class Point>
void write_rows(Call a, int64_t n, int64_t block, Point point) {
    constexpr int kTogetherWritten = 4;
    int64_t r = block * a->block, end = least(r + a->block, a->rows);
    for (; r + kTogetherWritten <= end; r += kTogetherWritten) {
        write_together<T, kTogetherWritten>(a, n, r, point);
    }
    for (; r < end; ++r) write_together<T, 1>(a, n, r, point);
}

template <class T, class Point>
void write_plane(Call a, int64_t n, int64_t c, Point point) {
    typedef Compute<T> A;
    const T* x = plane<T>(a->x, n, c);
    const T* grad = a->grad.data ? plane<T>(a->grad, n, c) : x;
    T* out = plane<T>(a->out, n, c);
    auto value = point(Within<A>{c});
    for (int64_t r = 0; r < a->rows; r += kLanes<A>) {
        int lanes = least(kLanes<A>, a->rows - r);
        store(out + r, value(load(x + r, lanes), load(grad + r, lanes)), lanes);
    }
}

// Runs prepare(n), the sums, fold(n), the writing. An item is done from end to end where there are
// enough of them, so that the second pass finds in the cache what the first has read.
template <class T, int count, class Prepare, class Terms, class Fold, class Point>
void two_passes(Call a, const Prepare& prepare, Terms terms, const Fold& fold,
                Point point) {
    int64_t parts = a->channels_last ? a->blocks : a->channels;
    int64_t threads = a->batch * a->channels * a->rows < kAlone ? 1 : a->call.threads;
    auto read = [&](int64_t n, int64_t part) {
        a->channels_last ? sum_rows<T, count>(a, n, part, terms(n))
                         : sum_plane<T, count>(a, n, part, terms(n));
    };
    auto write = [&](int64_t n, int64_t part) {
        a->channels_last ? write_rows<T>(a, n, part, point(n))
                         : write_plane<T>(a, n, part, point(n));
    };
    if (a->batch % threads == 0 || a->batch >= 4 * threads) {
        parallel_for(threads, a->batch, [&](int64_t n) {
            prepare(n);
            for (int64_t part = 0; part < parts; ++part) read(n, part);
            fold(n);
            for (int64_t part = parts; part-- > 0;) write(n, part); // the last read is the nearest
        });
    } else {
        for (int64_t n = 0; n < a->batch; ++n) prepare(n);
        parallel_for(threads, a->batch * parts, [&](int64_t i) { read(i / parts, i % parts); });
        for (int64_t n = 0; n < a->batch; ++n) fold(n);
        parallel_for(threads, a->batch * parts, [&](int64_t i) { write(i / parts, i % parts); });
    }
}

// leaves the sums over all blocks in the first one
inline void add_blocks(Call a, int count, int64_t n) {
    double* into = sums(a, count, n, 0);
    for (int64_t block = 1; block < a->blocks; ++block) {
        const double* from = sums(a, count, n, block);
        for (int64_t i = 0; i < count * a->padded; ++i) into[i] += from[i];
    }
}

template <class T> inline double get(const void* values, int64_t i) {
    return widen(static_cast<const T*>(values)[i]);
}
template <class T> inline void put(void* values, int64_t i, double value) {
    store(static_cast<T*>(values) + i, broadcast(static_cast<Compute<T>>(value)), 1);
}

// what the embedding adds to channel c of item n
template <class T> inline double shift(Call a, int64_t n, int64_t c) {
    return a->embedding ? get<T>(a->embedding, n * a->channels + c) : 0;
}

// ---- forward

// sums of x and x^2 about the item's first location: the variance keeps its digits
template <class A> auto moments(Call a) {
    typedef Vector<A> V;
    return [=](int64_t n) {
        return [values = table<A>(a, 3, n)](auto how) {
            return [origin = how(values)](V x, V, V* sum) {
                V d = x - origin;
                sum[0] += d;
                sum[1] += d * d;
            };
        };
    };
}

template <class T, bool kSilu> void forward(Call a) {
    typedef Compute<T> A;
    typedef Vector<A> V;
    const int64_t width = a->padded, per_group = a->channels / a->groups;
    auto prepare = [=](int64_t n) {
        A* origin = table<A>(a, 3, n);
        for (int64_t c = 0; c < width; ++c) {
            origin[c] = c >= a->channels  ? 0
                        : a->channels_last ? widen(row<T>(a, a->x, n, 0)[c])
                                           : widen(*plane<T>(a->x, n, c));
        }
    };
    auto fold = [=](int64_t n) {
        add_blocks(a, 2, n);
        double *sum = sums(a, 2, n, 0), *square = sum + width, rows = a->rows;
        A *centre = table<A>(a, 3, n), *scale = centre + width, *bias = scale + width;
        for (int64_t g = 0; g < a->groups; ++g) {
            int64_t begin = g * per_group, end = begin + per_group;
            double mean = 0, spread = 0;
            for (int64_t c = begin; c < end; ++c) {
                double drift = sum[c] / rows;
                square[c] -= sum[c] * drift;
                sum[c] = centre[c] + drift + shift<T>(a, n, c); // the channel's mean
                mean += sum[c] / per_group;
            }
            for (int64_t c = begin; c < end; ++c) {
                spread += square[c] + rows * (sum[c] - mean) * (sum[c] - mean); // Chan et al., 1979
            }
            double rstd = 1 / sqrt(spread / (rows * per_group) + a->eps);
            static_cast<A*>(a->mean)[n * a->groups + g] = mean;
            static_cast<A*>(a->rstd)[n * a->groups + g] = rstd;
            for (int64_t c = begin; c < end; ++c) {
                centre[c] = mean - shift<T>(a, n, c);
                scale[c] = rstd * get<T>(a->weight, c);
                bias[c] = get<T>(a->bias, c);
            }
        }
    };
    auto point = [=](int64_t n) {
        return [=, values = table<A>(a, 3, n)](auto how) {
            V centre = how(values), scale = how(values + width), bias = how(values + 2 * width);
            return [=](V x, V) {
                V z = (x - centre) * scale + bias;
                return kSilu ? silu(z) : z;
            };
        };
    };
    two_passes<T, 2>(a, prepare, moments<A>(a), fold, point);
}

// ---- backward. With u = (x + embedding - mean) rstd, z = u w + b and g = dL/dz:
//   dL/dx = rstd (w g - mean of w g - u * mean of w g u), the means over the group

template <class T, bool kSilu> void backward(Call a) {
    typedef Compute<T> A;
    typedef Vector<A> V;
    const int64_t width = a->padded, per_group = a->channels / a->groups;
    auto prepare = [=](int64_t n) {
        A *centre = table<A>(a, 6, n), *rstd = centre + width, *weight = rstd + width;
        A* bias = weight + width;
        memset(centre, 0, 6 * width * sizeof(A));
        for (int64_t c = 0; c < a->channels; ++c) {
            int64_t group = n * a->groups + c / per_group;
            centre[c] = get<A>(a->mean, group) - shift<T>(a, n, c);
            rstd[c] = get<A>(a->rstd, group);
            weight[c] = get<T>(a->weight, c);
            bias[c] = get<T>(a->bias, c);
        }
    };
    // x and dL/dout -> u and dL/dz
    auto recompute = [=](const A* values, auto how) {
        V centre = how(values), rstd = how(values + width);
        V weight = how(values + 2 * width), bias = how(values + 3 * width);
        return [=](V x, V grad, V& u) {
            u = (x - centre) * rstd;
            V z = u * weight + bias;
            return kSilu ? grad * silu_slope(z, sigmoid(z)) : grad;
        };
    };
    auto terms = [=](int64_t n) {
        return [=, values = table<A>(a, 6, n)](auto how) {
            return [slope = recompute(values, how)](V x, V grad, V* sum) {
                V u, g = slope(x, grad, u);
                sum[0] += g;
                sum[1] += g * u;
                sum[2] += u;
            };
        };
    };
    auto fold = [=](int64_t n) {
        add_blocks(a, 3, n);
        const double *g = sums(a, 3, n, 0), *gu = g + width, *u = gu + width;
        const A *rstd = table<A>(a, 6, n) + width, *weight = rstd + width;
        A *level = table<A>(a, 6, n) + 4 * width, *slope = level + width;
        double count = static_cast<double>(a->rows) * per_group;
        for (int64_t begin = 0; begin < a->channels; begin += per_group) {
            double mean_g = 0, mean_gu = 0;
            for (int64_t c = begin; c < begin + per_group; ++c) {
                mean_g += weight[c] * g[c] / count;
                mean_gu += weight[c] * gu[c] / count;
            }
            for (int64_t c = begin; c < begin + per_group; ++c) {
                level[c] = rstd[c] * mean_g;
                slope[c] = rstd[c] * mean_gu;
                if (a->grad_embedding == nullptr) continue;
                put<T>(a->grad_embedding, n * a->channels + c,
                       rstd[c] * (weight[c] * g[c] - a->rows * mean_g - u[c] * mean_gu));
            }
        }
    };
    auto point = [=](int64_t n) {
        return [=, values = table<A>(a, 6, n)](auto how) {
            auto slope_of = recompute(values, how);
            V scale = how(values + width) * how(values + 2 * width);
            V level = how(values + 4 * width), slope = how(values + 5 * width);
            return [=](V x, V grad) {
                V u, g = slope_of(x, grad, u);
                return scale * g - level - slope * u;
            };
        };
    };
    two_passes<T, 3>(a, prepare, terms, fold, point);
    parallel_for(a->call.threads, (a->channels + 63) / 64, [=](int64_t item) {
        for (int64_t c = item * 64; c < least(item * 64 + 64, a->channels); ++c) {
            double g = 0, gu = 0;
            for (int64_t n = 0; n < a->batch; ++n) {
                g += sums(a, 3, n, 0)[c];
                gu += sums(a, 3, n, 0)[width + c];
            }
            put<T>(a->grad_bias, c, g);
            put<T>(a->grad_weight, c, gu);
        }
    });
}

} // namespace

UA_ENTRY(group_norm_silu_forward)(const ua_group_norm_silu* a) {
    return with_dtype(a, [=](auto tag) -> const char* {
        typedef decltype(tag) T;
        a->silu ? forward<T, true>(a) : forward<T, false>(a);
        return nullptr;
    });
}

UA_ENTRY(group_norm_silu_backward)(const ua_group_norm_silu* a) {
    return with_dtype(a, [=](auto tag) -> const char* {
        typedef decltype(tag) T;
        a->silu ? backward<T, true>(a) : backward<T, false>(a);
        return nullptr;
    });
}
