/* The loss over a vocabulary, and the optimiser's update. */

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
