/* Attention, besides its matrix products. Heads of one key lie next to each other: (b, h, l, g, d). */

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
