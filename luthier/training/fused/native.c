/* What lies between the matrix products of a training step on a CPU, each piece in one pass.

   This file is compiled once for bfloat16 and once for float32: it includes itself, with another
   `T` each time (see the end). All arithmetic is in float32 and is rounded once, when it is stored.
   Matrices have rows of `ld_` elements, of which the first ones are meant. Work is divided over rows
   in the same way whenever there are as many threads, so results are the same to the bit. */

#ifndef T

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bfloat16;

static inline float wide_bf16(bfloat16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

/* To the nearest, ties to even. */
static inline bfloat16 narrow_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bfloat16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* e^x with a relative error of about 1e-7 (Cody and Waite's reduction, a polynomial of degree 6);
   below -87 it stays at the smallest normal number. NaN stays NaN. */
static inline float exp_of(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* Sixteen at once, for rows that are a multiple of 16 long; the compiler cuts them to the width that
   the processor has. */
typedef float float16 __attribute__((vector_size(64)));
typedef int32_t int16v __attribute__((vector_size(64)));
typedef uint32_t word16 __attribute__((vector_size(64)));
typedef uint16_t half16 __attribute__((vector_size(32)));
typedef float float8 __attribute__((vector_size(32)));
typedef float float4 __attribute__((vector_size(16)));

static const int16v COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline float16 read_bf16(const bfloat16 *x) {
    half16 half;
    memcpy(&half, x, 32);
    return (float16)(__builtin_convertvector(half, word16) << 16);
}

static inline void write_bf16(bfloat16 *out, float16 x) {
    word16 bits = (word16)x;
    half16 half = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, half16);
    memcpy(out, &half, 32);
}

static inline float16 read_f32(const float *x) {
    float16 out;
    memcpy(&out, x, 64);
    return out;
}

static inline void write_f32(float *out, float16 x) { memcpy(out, &x, 64); }

static inline float16 choose(int16v mask, float16 yes, float16 no) {
    return (float16)((mask & (int16v)yes) | (~mask & (int16v)no));
}

static inline float16 larger(float16 a, float16 b) { return choose(a > b, a, b); }

static inline float sum_of(float16 x) {
    float8 half[2];
    float4 quarter[2];
    memcpy(half, &x, 64);
    half[0] += half[1];
    memcpy(quarter, half, 32);
    quarter[0] += quarter[1];
    return (quarter[0][0] + quarter[0][1]) + (quarter[0][2] + quarter[0][3]);
}

static inline float largest_of(float16 x) {
    float out = x[0];
    for (int i = 1; i < 16; i++) out = x[i] > out ? x[i] : out;
    return out;
}

/* As `exp_of`, of what is not above 88. */
static inline float16 exp_of16(float16 x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    x = choose(x < -87.0f, (float16){} - 87.0f, x);
    float16 shifted = x * 1.44269504f + magic;
    float16 n = shifted - magic;
    float16 r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float16 p = r * (1.0f / 720.0f) + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * (float16)(((int16v)shifted + (127 - 0x4b400000)) << 23);
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp_of(-x)); }

#define EACH_ROW _Pragma("omp parallel for schedule(static) num_threads(threads)")

#define LANES _Pragma("omp simd")
#define PRAGMA(text) _Pragma(#text)
#define SUMMED(sum) PRAGMA(omp simd reduction(+ : sum))
#define LARGEST(top) PRAGMA(omp simd reduction(max : top))

#define JOIN(a, b) a##_##b
#define NAMED(a, b) JOIN(a, b)
#define FN(name) NAMED(name, SUFFIX)

#define T bfloat16
#define SUFFIX bf16
#define READ read_bf16
#define WRITE write_bf16
#define WIDE wide_bf16
#define NARROW narrow_bf16
#include __FILE__
#undef T
#undef SUFFIX
#undef READ
#undef WRITE
#undef WIDE
#undef NARROW

#define T float
#define SUFFIX f32
#define READ read_f32
#define WRITE write_f32
#define WIDE(x) (x)
#define NARROW(x) (x)
#include __FILE__

#else

/* out = x * rsqrt(mean(x^2) + epsilon) * weight, and the scales (n). */
void FN(norm)(int threads, long n, long d, float epsilon, const T *x, const T *restrict weight,
              T *out, long ld_out, float *scales) {
    EACH_ROW
    for (long i = 0; i < n; i++) {
        const T *restrict row = x + i * d;
        T *restrict to = out + i * ld_out;
        float sum = 0;
        SUMMED(sum)
        for (long j = 0; j < d; j++) sum += WIDE(row[j]) * WIDE(row[j]);
        float scale = 1.0f / sqrtf(sum / (float)d + epsilon);
        scales[i] = scale;
        LANES
        for (long j = 0; j < d; j++) to[j] = NARROW(WIDE(row[j]) * scale * WIDE(weight[j]));
    }
}

/* With z = x scale and t = d_y weight: out = scale (t - z mean(t z)) + added. */
void FN(norm_backward)(int threads, long n, long d, const T *d_y, long ld_y, const T *x,
                       const T *restrict weight, const float *scales, const T *added, T *out) {
    EACH_ROW
    for (long i = 0; i < n; i++) {
        const T *restrict dy = d_y + i * ld_y, *restrict row = x + i * d;
        const T *restrict more = added + i * d;
        T *restrict to = out + i * d;
        float scale = scales[i], sum = 0;
        SUMMED(sum)
        for (long j = 0; j < d; j++) sum += WIDE(dy[j]) * WIDE(weight[j]) * WIDE(row[j]);
        float along = sum * scale * scale / (float)d;
        LANES
        for (long j = 0; j < d; j++) {
            float t = WIDE(dy[j]) * WIDE(weight[j]);
            to[j] = NARROW(scale * (t - WIDE(row[j]) * along) + WIDE(more[j]));
        }
    }
}

/* The gradient of a norm's weight: out (d) = sum over rows of d_y x scale. */
void FN(norm_weight)(int threads, long n, long d, const T *d_y, long ld_y, const T *x,
                     const float *scales, float *out) {
    const long width = 64; /* columns of one thread at a time */
    EACH_ROW
    for (long first = 0; first < d; first += width) {
        long columns = first + width < d ? width : d - first;
        float *restrict sums = out + first;
        for (long j = 0; j < columns; j++) sums[j] = 0;
        for (long i = 0; i < n; i++) {
            const T *restrict dy = d_y + i * ld_y + first, *restrict row = x + i * d + first;
            float scale = scales[i];
            LANES
            for (long j = 0; j < columns; j++) sums[j] += WIDE(dy[j]) * WIDE(row[j]) * scale;
        }
    }
}

/* out = silu(gate) * up, of gate_up (n, 2 w). */
void FN(gate)(int threads, long n, long w, const T *gate_up, T *out, long ld_out) {
    EACH_ROW
    for (long i = 0; i < n; i++) {
        const T *restrict gate = gate_up + i * 2 * w, *restrict up = gate + w;
        T *restrict to = out + i * ld_out;
        LANES
        for (long j = 0; j < w; j++) {
            float x = WIDE(gate[j]);
            to[j] = NARROW(x * sigmoid(x) * WIDE(up[j]));
        }
    }
}

/* The gradients of gate and up, side by side, and silu(gate) * up once more. */
void FN(gate_backward)(int threads, long n, long w, const T *gate_up, const T *d_act, long ld_act,
                       T *d_gate_up, T *act, long ld_out) {
    EACH_ROW
    for (long i = 0; i < n; i++) {
        const T *restrict gate = gate_up + i * 2 * w, *restrict up = gate + w;
        const T *restrict dy = d_act + i * ld_act;
        T *restrict d_gate = d_gate_up + i * 2 * w, *restrict d_up = d_gate + w;
        T *restrict to = act + i * ld_out;
        LANES
        for (long j = 0; j < w; j++) {
            float x = WIDE(gate[j]), u = WIDE(up[j]), d = WIDE(dy[j]);
            float share = sigmoid(x), silu = x * share;
            to[j] = NARROW(silu * u);
            d_up[j] = NARROW(d * silu);
            d_gate[j] = NARROW(d * u * (share + silu * (1.0f - share)));
        }
    }
}

/* Rotary position embedding of one head; `sign` -1 turns it back. */
static inline void FN(turn)(long half, const T *restrict x, const T *restrict cos,
                            const T *restrict sin, float sign, T *restrict out) {
    LANES
    for (long j = 0; j < half; j++) {
        float a = WIDE(x[j]), b = WIDE(x[j + half]), c = WIDE(cos[j]), s = sign * WIDE(sin[j]);
        out[j] = NARROW(a * c - b * s);
        out[j + half] = NARROW(b * c + a * s);
    }
}

/* Queries, keys and values of b rows that begin at the tokens `starts` and have `lengths` of them,
   from qkv (tokens, (g h + 2 h) d) to q (b, h, l, g, d) and k, v (b, h, first + l, d): turned, with
   zeros behind the shorter rows. The first `first` keys and values are the first ones of the prefix
   (h, ld_prefix, d); cos and sin (l, d / 2) are those of the positions behind it. */
void FN(split)(int threads, long b, long h, long g, long l, long d, long first, const int64_t *starts,
               const int64_t *lengths, const T *qkv, const T *cos, const T *sin,
               const T *prefix_k, const T *prefix_v, long ld_prefix, T *q, T *k, T *v) {
    long heads = (g + 2) * h, half = d / 2, keys = first + l;
    EACH_ROW
    for (long place = 0; place < b * l; place++) {
        long row = place / l, i = place % l;
        const T *token = qkv + (starts[row] + i) * heads * d;
        const T *c = cos + i * half, *s = sin + i * half;
        for (long head = 0; head < h; head++) {
            T *to_q = q + ((row * h + head) * l + i) * g * d;
            T *to_k = k + ((row * h + head) * keys + first + i) * d;
            T *to_v = v + ((row * h + head) * keys + first + i) * d;
            if (i >= lengths[row]) {
                memset(to_q, 0, g * d * sizeof(T));
                memset(to_k, 0, d * sizeof(T));
                memset(to_v, 0, d * sizeof(T));
                continue;
            }
            for (long j = 0; j < g; j++)
                FN(turn)(half, token + (head * g + j) * d, c, s, 1.0f, to_q + j * d);
            FN(turn)(half, token + (g * h + head) * d, c, s, 1.0f, to_k);
            memcpy(to_v, token + ((g + 1) * h + head) * d, d * sizeof(T));
        }
    }
    if (!first) return;
    EACH_ROW
    for (long one = 0; one < b * h; one++) {
        long head = one % h;
        memcpy(k + one * keys * d, prefix_k + head * ld_prefix * d, first * d * sizeof(T));
        memcpy(v + one * keys * d, prefix_v + head * ld_prefix * d, first * d * sizeof(T));
    }
}

/* The inverse of `split` for gradients: those of the prefix's keys and values are left out. */
void FN(join)(int threads, long b, long h, long g, long l, long d, long first, const int64_t *starts,
              const int64_t *lengths, const T *q, const T *k, const T *v, const T *cos, const T *sin,
              T *qkv) {
    long heads = (g + 2) * h, half = d / 2, keys = first + l;
    EACH_ROW
    for (long place = 0; place < b * l; place++) {
        long row = place / l, i = place % l;
        if (i >= lengths[row]) continue;
        T *token = qkv + (starts[row] + i) * heads * d;
        const T *c = cos + i * half, *s = sin + i * half;
        for (long head = 0; head < h; head++) {
            const T *from_q = q + ((row * h + head) * l + i) * g * d;
            const T *from_k = k + ((row * h + head) * keys + first + i) * d;
            const T *from_v = v + ((row * h + head) * keys + first + i) * d;
            for (long j = 0; j < g; j++)
                FN(turn)(half, from_q + j * d, c, s, -1.0f, token + (head * g + j) * d);
            FN(turn)(half, from_k, c, s, -1.0f, token + (g * h + head) * d);
            memcpy(token + ((g + 1) * h + head) * d, from_v, d * sizeof(T));
        }
    }
}

/* What attention gives, o (b, h, l, g, d), to the rows' tokens in out (tokens, ld_out); with `back`
   the other way, with zeros behind the shorter rows. */
void FN(heads)(int threads, long b, long h, long g, long l, long d, const int64_t *starts,
               const int64_t *lengths, T *o, T *out, long ld_out, int back) {
    EACH_ROW
    for (long place = 0; place < b * l; place++) {
        long row = place / l, i = place % l, size = g * d * sizeof(T);
        T *token = out + (starts[row] + i) * ld_out;
        for (long head = 0; head < h; head++) {
            T *own = o + ((row * h + head) * l + i) * g * d;
            if (i >= lengths[row]) {
                if (back) memset(own, 0, size);
            } else if (back) {
                memcpy(own, token + head * g * d, size);
            } else {
                memcpy(token + head * g * d, own, size);
            }
        }
    }
}

/* Softmax of scale * scores (b, l g, m) in place: query i of l, the rows i g to (i + 1) g, sees keys
   up to m - l + i. m is a multiple of 16. */
void FN(softmax)(int threads, long b, long l, long g, long m, float scale, T *scores) {
#pragma omp parallel num_threads(threads)
    {
        float *room = malloc(m * sizeof(float));
#pragma omp for schedule(static)
        for (long place = 0; place < b * l; place++) {
            int last = (int)(m - l + place % l), whole = (last + 1) / 16 * 16;
            int16v visible = COUNT <= last - whole;
            for (long j = 0; j < g; j++) {
                T *row = scores + (place * g + j) * m;
                float16 tops = {}, sums = {};
                tops = tops - INFINITY;
                for (int i = 0; i < whole; i += 16) tops = larger(READ(row + i), tops);
                if (whole <= last) tops = larger(choose(visible, READ(row + whole), tops), tops);
                float top = largest_of(tops);
                for (int i = 0; i < whole; i += 16) {
                    float16 e = exp_of16((READ(row + i) - top) * scale);
                    write_f32(room + i, e);
                    sums += e;
                }
                if (whole <= last) {
                    float16 e = exp_of16((READ(row + whole) - top) * scale);
                    e = choose(visible, e, (float16){});
                    write_f32(room + whole, e);
                    sums += e;
                }
                float share = 1.0f / sum_of(sums);
                int stop = whole <= last ? whole + 16 : whole;
                for (int i = 0; i < stop; i += 16) WRITE(row + i, read_f32(room + i) * share);
                memset(row + stop, 0, (m - stop) * sizeof(T));
            }
        }
        free(room);
    }
}

/* The gradient of the scores, in place of that of the probabilities p: scale p (d_p - sum(d_p p)). */
void FN(softmax_backward)(int threads, long b, long l, long g, long m, float scale, const T *p,
                          T *d_p) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long place = 0; place < b * l; place++) {
        int stop = (int)(m - l + place % l) / 16 * 16 + 16; /* behind those that are seen p is 0 */
        for (long j = 0; j < g; j++) {
            const T *own = p + (place * g + j) * m;
            T *row = d_p + (place * g + j) * m;
            float16 sums = {};
            for (int i = 0; i < stop; i += 16) sums += READ(own + i) * READ(row + i);
            float sum = sum_of(sums);
            for (int i = 0; i < stop; i += 16)
                WRITE(row + i, READ(own + i) * (READ(row + i) - sum) * scale);
            memset(row + stop, 0, (m - stop) * sizeof(T));
        }
    }
}

/* out (n, ld_out), float32, += x (n, w): what blocks of queries give to the keys they share. */
void FN(add)(int threads, long n, long w, const T *x, float *out, long ld_out) {
    EACH_ROW
    for (long i = 0; i < n; i++) {
        const T *restrict row = x + i * w;
        float *restrict to = out + i * ld_out;
        LANES
        for (long j = 0; j < w; j++) to[j] += WIDE(row[j]);
    }
}

/* Sums of the squares of each 65,536 of n values. */
void FN(squares)(int threads, long n, const T *x, double *out) {
    const long width = 65536;
    EACH_ROW
    for (long block = 0; block < (n + width - 1) / width; block++) {
        const T *restrict own = x + block * width;
        long count = n - block * width < width ? n - block * width : width;
        double total = 0;
        for (long from = 0; from < count; from += 1024) {
            long to = from + 1024 < count ? from + 1024 : count;
            float sum = 0;
            SUMMED(sum)
            for (long j = from; j < to; j++) sum += WIDE(own[j]) * WIDE(own[j]);
            total += sum;
        }
        out[block] = total;
    }
}

/* One step of AdamW (Loshchilov & Hutter 2019, algorithm 2) on float32 masters of n rows of w
   values, written down to the parameter as well unless that is null. The gradient is `wide`, or
   `narrow` where that is null, times `factor`. `share1` and `share2` are 1 - beta, `rate` is the
   learning rate over 1 - beta1^t, `root` the root of 1 - beta2^t, `kept` 1 - rate * decay. */
void FN(adamw)(int threads, long n, long w, T *parameter, long ld, const T *narrow,
               const float *wide, float *master, float *mean, float *square, float factor,
               float share1, float share2, float rate, float root, float epsilon, float kept) {
    const long width = 4096, blocks = (w + width - 1) / width;
    EACH_ROW
    for (long block = 0; block < n * blocks; block++) {
        long row = block / blocks, first = block % blocks * width;
        long count = w - first < width ? w - first : width, place = row * w + first;
        float *restrict own = master + place, *restrict m = mean + place;
        float *restrict v = square + place;
        float room[4096];
        if (wide) {
            const float *restrict g = wide + place;
            LANES
            for (long j = 0; j < count; j++) room[j] = g[j] * factor;
        } else {
            const T *restrict g = narrow + place;
            LANES
            for (long j = 0; j < count; j++) room[j] = WIDE(g[j]) * factor;
        }
        LANES
        for (long j = 0; j < count; j++) {
            float g = room[j];
            m[j] += share1 * (g - m[j]);
            v[j] += share2 * (g * g - v[j]);
            own[j] = own[j] * kept - rate * m[j] / (sqrtf(v[j]) / root + epsilon);
        }
        if (!parameter) continue;
        T *restrict to = parameter + row * ld + first;
        LANES
        for (long j = 0; j < count; j++) to[j] = NARROW(own[j]);
    }
}

/* The cross-entropy of each row of scores (n, v) against its goal; the scores are overwritten with
   the gradient, softmax - one_hot, times `factor`. */
void FN(cross_entropy)(int threads, long n, long v, float factor, T *scores, const int64_t *goals,
                       double *losses) {
#pragma omp parallel num_threads(threads)
    {
        float *restrict room = malloc(v * sizeof(float));
#pragma omp for schedule(static)
        for (long i = 0; i < n; i++) {
            T *restrict row = scores + i * v;
            float top = -INFINITY;
            LARGEST(top)
            for (long j = 0; j < v; j++) {
                float x = WIDE(row[j]);
                top = x > top ? x : top;
            }
            double total = 0;
            for (long from = 0; from < v; from += 1024) { /* float32 for a thousand, then double */
                long to = from + 1024 < v ? from + 1024 : v;
                float sum = 0;
                SUMMED(sum)
                for (long j = from; j < to; j++) {
                    float e = exp_of(WIDE(row[j]) - top);
                    room[j] = e;
                    sum += e;
                }
                total += sum;
            }
            long goal = goals[i];
            losses[i] = log(total) + top - WIDE(row[goal]);
            float share = (float)(factor / total), of_goal = room[goal];
            LANES
            for (long j = 0; j < v; j++) row[j] = NARROW(room[j] * share);
            row[goal] = NARROW((float)(factor * (of_goal / total - 1.0)));
        }
        free(room);
    }
}

#endif
