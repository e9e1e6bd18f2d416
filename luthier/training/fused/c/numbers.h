/* Numbers: bfloat16, the exponential, and sixteen at once. */

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
