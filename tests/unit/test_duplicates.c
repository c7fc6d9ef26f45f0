#include "reinforce/base/philox.h"
#include "reinforce/curate/duplicates.h"
#include "reinforce/nn/dots.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES ((size_t)256 << 20)

struct result {
    uint32_t of[8192];
    float distance[8192];
};

static struct duplicates into(struct result *result)
{
    return (struct duplicates){result->of, result->distance};
}

static void samples_are_ranked_best_first_and_by_place(void **state)
{
    static const float scores[] = {0.5f, NAN, 0.9f, 0.5f, NAN, 1};
    static const uint32_t want[] = {5, 2, 0, 3, 1, 4};
    uint32_t order[6];
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(duplicates_rank(scores, 6, order, &arena, &err));
    assert_memory_equal(order, want, sizeof want);
    arena_release(&arena);
}

static void of_equal_keys_the_first_is_kept(void **state)
{
    static const struct example_id keys[] = {{1, 2}, {1, 1}, {1, 2}, {0, 2}, {1, 1}, {1, 2}};
    static const uint32_t want[] = {
        DUPLICATE_OF_NONE, DUPLICATE_OF_NONE, 0, DUPLICATE_OF_NONE, 1, 0};
    struct result result;
    struct duplicates found = into(&result);
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(duplicates_by_key(keys, ARRAY_LEN(keys), &found, &arena, &err));
    assert_memory_equal(result.of, want, sizeof want);
    assert_ok(duplicates_by_key(keys, 0, &found, &arena, &err));
    arena_release(&arena);
}

/* What the header says, in the plainest loops: distance(a, b) by `ctx`. */
static void greedily(size_t n, float (*distance)(const void *ctx, size_t a, size_t b),
                     const void *ctx, float most, struct result *result)
{
    for (size_t i = 0; i < n; i++) {
        result->of[i] = DUPLICATE_OF_NONE;
        result->distance[i] = 0;
        for (size_t j = 0; j < i && result->of[i] == DUPLICATE_OF_NONE; j++)
            if (result->of[j] == DUPLICATE_OF_NONE && distance(ctx, i, j) <= most) {
                result->of[i] = (uint32_t)j;
                result->distance[i] = distance(ctx, i, j);
            }
    }
}

static void assert_same(const struct result *got, const struct result *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got->of[i] != want->of[i] || got->distance[i] != want->distance[i])
            fail_msg("sample %zu: of %u at %g, want %u at %g", i, got->of[i],
                     (double)got->distance[i], want->of[i], (double)want->distance[i]);
}

static float bits_between(const void *ctx, size_t a, size_t b)
{
    const uint64_t *hashes = ctx;

    return (float)__builtin_popcountll(hashes[a] ^ hashes[b]);
}

static uint64_t random_u64(uint32_t i, uint32_t stream)
{
    uint32_t out[4];

    philox_4x32_10((const uint32_t[4]){i, stream}, (const uint32_t[2]){5}, out);
    return (uint64_t)out[0] << 32 | out[1];
}

static void near_hashes_equal_brute_force(void **state)
{
    enum { COUNT = 3000, CENTRES = 400 };
    static uint64_t hashes[COUNT];
    static struct result got, want;
    struct duplicates found = into(&got);
    struct error err = {0};
    struct arena arena;

    (void)state;
    for (uint32_t i = 0; i < COUNT; i++) {
        uint64_t noise = random_u64(i, 1);

        hashes[i] = random_u64(i % CENTRES, 0);
        for (unsigned k = 0; k < i % 9; k++)
            hashes[i] ^= (uint64_t)1 << (noise >> 6 * k & 63);
    }
    arena_init(&arena, ARENA_BYTES);
    for (int bits = 0; bits <= DUPLICATES_MAX_BITS; bits += 3) {
        assert_ok(duplicates_by_bits(hashes, COUNT, bits, &found, &arena, &err));
        greedily(COUNT, bits_between, hashes, (float)bits, &want);
        assert_same(&got, &want, COUNT);
    }
    assert_status(duplicates_by_bits(hashes, COUNT, 16, &found, &arena, &err), ST_INVALID);
    arena_release(&arena);
}

struct rows {
    const float *data;
    size_t D;
};

static float cosine_between(const void *ctx, size_t a, size_t b)
{
    const struct rows *rows = ctx;
    float sum = 0;

    for (size_t k = 0; k < rows->D; k++)
        sum = fmaf(rows->data[a * rows->D + k], rows->data[b * rows->D + k], sum);
    return 1 - sum;
}

/* Unit rows around `centres` directions. */
static float *make_rows(size_t n, size_t D, size_t centres)
{
    float *rows = malloc(n * D * sizeof *rows);

    assert_non_null(rows);
    for (size_t i = 0; i < n; i++) {
        double norm = 0;

        for (size_t k = 0; k < D; k++) {
            double centre = (double)random_u64((uint32_t)(i * 7 % centres), (uint32_t)k + 9);
            double noise = (double)random_u64((uint32_t)i, (uint32_t)(k + 9 + D));

            rows[i * D + k] = (float)(centre / 1.8e19 - 0.5 + 0.3 * (noise / 1.8e19 - 0.5));
            norm += (double)rows[i * D + k] * (double)rows[i * D + k];
        }
        for (size_t k = 0; k < D; k++)
            rows[i * D + k] = (float)((double)rows[i * D + k] / sqrt(norm));
    }
    return rows;
}

static void near_embeddings_equal_brute_force(void **state)
{
    static const struct {
        size_t n, D, centres;
        double radius;
    } cases[] = {{0, 8, 1, 0.1},        {1, 8, 1, 0.1},      {37, 5, 9, 0.08},
                 {1500, 16, 300, 0.08}, {3000, 17, 40, 0.1}, {2100, 24, 2100, 0.0}};
    static struct result got, want;
    struct duplicates found = into(&got);
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        float *data = make_rows(cases[c].n, cases[c].D, cases[c].centres);
        const struct rows rows = {data, cases[c].D};
        size_t n_dropped = 0;

        /* the cosine itself is compared, as float32: 1 - cos rounds */
        greedily(cases[c].n, cosine_between, &rows, 1 - (float)(1 - cases[c].radius), &want);
        for (size_t i = 0; i < cases[c].n; i++)
            n_dropped += want.of[i] != DUPLICATE_OF_NONE;
        if (cases[c].n > 1000 && cases[c].radius > 0)
            assert_true(n_dropped > 100 && n_dropped < cases[c].n - 30);
        for (size_t threads = 1; threads <= 2; threads++) {
            assert_ok(duplicates_by_embedding(data, cases[c].n, cases[c].D, cases[c].radius,
                                              threads, &found, &arena, &err));
            assert_same(&got, &want, cases[c].n);
        }
        free(data);
    }
    arena_release(&arena);
}

static void running_out_of_memory_is_told(void **state)
{
    static const uint64_t hashes[] = {1, 2, 3};
    static const float rows[] = {1, 0, 0, 1, 1, 0};
    static struct result result;
    struct duplicates found = into(&result);
    struct error err = {0};

    (void)state;
    for (unsigned nth = 1;; nth++) {
        struct arena arena;
        enum status st;

        arena_init(&arena, ARENA_BYTES);
        oom_fail_at(nth);
        st = duplicates_by_bits(hashes, 3, 1, &found, &arena, &err);
        if (st == ST_OK)
            st = duplicates_by_embedding(rows, 3, 2, 0.1, 1, &found, &arena, &err);
        arena_release(&arena);
        if (!oom_fired())
            break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
    oom_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_ranked_best_first_and_by_place),
        cmocka_unit_test(of_equal_keys_the_first_is_kept),
        cmocka_unit_test(near_hashes_equal_brute_force),
        cmocka_unit_test(near_embeddings_equal_brute_force),
        cmocka_unit_test(running_out_of_memory_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
