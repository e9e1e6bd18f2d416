/* Norms and gates. */

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
