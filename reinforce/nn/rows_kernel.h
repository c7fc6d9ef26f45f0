/* Included by ops_rows.c once per instruction set and type of weight: dot products of rows with
 * rows in 16 lanes. Defines NAME(kernels).
 *
 * Before: TARGET, NAME(x), VECTOR (a type of VECTOR_FLOATS floats, loadable anywhere), WEIGHT and
 * WIDEN(p) (VECTOR_FLOATS weights at p as a VECTOR), ROWS x COLUMNS (of x and of w in a tile; its
 * lanes should fit the registers). */

enum { NAME(PARTS) = LANES / VECTOR_FLOATS };

/* y[m, n] = x_m . w_n + bias_n for m < rows, n < columns, both constants when inlined. `ahead` is
 * where w goes on, to be fetched near the end. */
TARGET static ALWAYS_INLINE void NAME(body)(float *y, size_t N, const float *x, const void *weights,
                                            const float *bias, size_t K, const void *weights_ahead,
                                            const int rows, const int columns)
{
    const WEIGHT *w = weights, *ahead = weights_ahead;
    VECTOR sum[ROWS][COLUMNS][NAME(PARTS)], b[COLUMNS][NAME(PARTS)], a;
    float x_end[LANES];
    WEIGHT w_end[COLUMNS][LANES];
    size_t whole = K - K % LANES, far = MIN(FETCH_BYTES / sizeof *w, whole), turn = whole - far;

    for (int m = 0; m < rows; m++)
        for (int n = 0; n < columns; n++)
            for (int p = 0; p < NAME(PARTS); p++)
                sum[m][n][p] = (VECTOR){0};
    for (size_t k = 0; k < whole; k += LANES) {
        const WEIGHT *fetch = k < turn ? w + k + far : ahead + (k - turn);

        for (int n = 0; n < columns; n++) {
            for (int p = 0; p < NAME(PARTS); p++)
                b[n][p] = WIDEN(w + (size_t)n * K + k + (size_t)(p * VECTOR_FLOATS));
            if (columns > 1) /* one stream alone is fetched ahead by the processor */
                __builtin_prefetch(fetch + (size_t)n * K);
        }
        for (int m = 0; m < rows; m++)
            for (int p = 0; p < NAME(PARTS); p++) {
                a = *(const VECTOR *)(x + (size_t)m * K + k + (size_t)(p * VECTOR_FLOATS));
                for (int n = 0; n < columns; n++)
                    sum[m][n][p] += a * b[n][p];
            }
    }
    if (whole < K) { /* the rest, behind it zeros */
        memset(w_end, 0, sizeof w_end);
        for (int n = 0; n < columns; n++)
            memcpy(w_end[n], w + (size_t)n * K + whole, (K - whole) * sizeof *w);
        for (int m = 0; m < rows; m++) {
            memset(x_end, 0, sizeof x_end);
            memcpy(x_end, x + (size_t)m * K + whole, (K - whole) * sizeof *x);
            for (int n = 0; n < columns; n++)
                for (int p = 0; p < NAME(PARTS); p++)
                    sum[m][n][p] += *(const VECTOR *)(x_end + p * VECTOR_FLOATS) *
                                    WIDEN(w_end[n] + p * VECTOR_FLOATS);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < columns; n++) {
            float lane[LANES];

            memcpy(lane, sum[m][n], sizeof lane);
            y[(size_t)m * N + (size_t)n] = add_lanes(lane) + (bias != NULL ? bias[n] : 0);
        }
}

#if ROWS == 2
#define EACH_COUNT(DO) DO(1) DO(2)
#elif ROWS == 4
#define EACH_COUNT(DO) DO(1) DO(2) DO(3) DO(4)
#endif

#define CASE(count)                                                                                \
    case count:                                                                                    \
        NAME(body)(y, N, x, w, bias, K, ahead, count, COLUMNS);                                    \
        break;
TARGET static void NAME(tile)(float *y, size_t N, const float *x, const void *w, const float *bias,
                              size_t K, const void *ahead, size_t rows)
{
    switch (rows) {
        EACH_COUNT(CASE)
    default:
        break;
    }
}
#undef CASE

#define CASE(count)                                                                                \
    case count:                                                                                    \
        NAME(body)(y, N, x, w, bias, K, ahead, count, 1);                                          \
        break;
TARGET static void NAME(column)(float *y, size_t N, const float *x, const void *w,
                                const float *bias, size_t K, const void *ahead, size_t rows)
{
    switch (rows) {
        EACH_COUNT(CASE)
    default:
        break;
    }
}
#undef CASE
#undef EACH_COUNT

static const struct kernels NAME(kernels) = {ROWS, COLUMNS, sizeof(WEIGHT), NAME(tile),
                                             NAME(column)};

#undef TARGET
#undef NAME
#undef VECTOR
#undef VECTOR_FLOATS
#undef WEIGHT
#undef WIDEN
#undef ROWS
#undef COLUMNS
