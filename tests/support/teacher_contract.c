#include "tests/support/teacher_contract.h"

#include "tests/support/test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64, SCRATCH_BYTES = 256 << 20 };

struct inputs {
    struct image views[N];
    struct bytes_view texts[N];
    char text[N][64];
    uint8_t *pixels;
};

static void make_inputs(const struct teacher_info *info, struct inputs *in)
{
    static const char *const words[] = {"red", "dog", "on", "a", "table", "two", "birds", "house"};
    size_t side = (size_t)info->preprocess.size, bytes = 3 * side * side;

    in->pixels = malloc(N * bytes);
    assert_non_null(in->pixels);
    for (size_t i = 0; i < N; i++) {
        int n = snprintf(in->text[i], sizeof in->text[i], "%s", words[i % 8]);

        for (size_t b = 0; b < bytes; b++)
            in->pixels[i * bytes + b] = (uint8_t)((b * (i + 3) + b / 7) % 256);
        in->views[i] =
            image_of(info->preprocess.size, info->preprocess.size, 3, in->pixels + i * bytes);
        for (size_t w = 0; w < i % 6; w++)
            n += snprintf(in->text[i] + n, sizeof in->text[i] - (size_t)n, " %s",
                          words[(i / 8 + 3 * w) % 8]);
        in->texts[i] = bytes_view_of(in->text[i], (size_t)n);
    }
}

static void embed(const struct teacher *teacher, const struct inputs *in, size_t first, size_t B,
                  struct arena *scratch, float *images, float *texts)
{
    size_t D = teacher_info(teacher)->dim, used = scratch->used_bytes;
    struct error err = {0};

    assert_ok(
        teacher_embed_images(teacher, in->views + first, B, scratch, images + first * D, &err));
    assert_ok(teacher_embed_texts(teacher, in->texts + first, B, scratch, texts + first * D, &err));
    assert_int_equal(scratch->used_bytes, used);
}

struct worker {
    const struct teacher *teacher;
    const struct inputs *in;
    size_t first, step;
    float *images, *texts;
};

static void *work(void *argument)
{
    const struct worker *w = argument;
    struct arena scratch;

    arena_init(&scratch, SCRATCH_BYTES);
    for (size_t i = w->first; i < N; i += w->step)
        embed(w->teacher, w->in, i, 1, &scratch, w->images, w->texts);
    arena_release(&scratch);
    return NULL;
}

static void check_threads(const struct teacher *teacher, const struct inputs *in, size_t n_threads,
                          const float *images, const float *texts)
{
    size_t D = teacher_info(teacher)->dim, bytes = N * D * sizeof(float);
    float *i2 = malloc(bytes), *t2 = malloc(bytes);
    struct worker workers[16];
    pthread_t threads[16];

    for (size_t t = 0; t < n_threads; t++) {
        workers[t] = (struct worker){teacher, in, t, n_threads, i2, t2};
        assert_int_equal(pthread_create(&threads[t], NULL, work, &workers[t]), 0);
    }
    for (size_t t = 0; t < n_threads; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    assert_memory_equal(images, i2, bytes);
    assert_memory_equal(texts, t2, bytes);
    free(i2);
    free(t2);
}

static void check_unit_rows(const float *rows, size_t D)
{
    for (size_t i = 0; i < N; i++) {
        double sum = 0;

        for (size_t d = 0; d < D; d++)
            sum += (double)rows[i * D + d] * (double)rows[i * D + d];
        assert_true(fabs(sqrt(sum) - 1) <= 1e-5);
    }
}

void teacher_contract(const struct teacher_options *options)
{
    static const size_t batches[] = {1, 7, N}, thread_counts[] = {3, 16};
    struct inputs *in = calloc(1, sizeof *in);
    struct teacher *teacher = NULL;
    struct arena scratch;
    struct error err = {0};
    float *images, *texts, *i2, *t2;
    size_t D, bytes;

    assert_non_null(in);
    assert_ok(teacher_open(options, &teacher, &err));
    D = teacher_info(teacher)->dim;
    bytes = N * D * sizeof *images;
    images = malloc(bytes);
    texts = malloc(bytes);
    i2 = malloc(bytes);
    t2 = malloc(bytes);
    assert_true(D > 0 && images != NULL && texts != NULL && i2 != NULL && t2 != NULL);
    assert_int_equal(strlen(teacher_info(teacher)->weights_digest), 64);
    make_inputs(teacher_info(teacher), in);
    arena_init(&scratch, SCRATCH_BYTES);
    embed(teacher, in, 0, N, &scratch, images, texts);
    check_unit_rows(images, D);
    check_unit_rows(texts, D);
    for (size_t b = 0; b < ARRAY_LEN(batches); b++) { /* CLIP 28 */
        for (size_t first = 0; first < N; first += batches[b])
            embed(teacher, in, first, MIN(batches[b], N - first), &scratch, i2, t2);
        assert_memory_equal(images, i2, bytes);
        assert_memory_equal(texts, t2, bytes);
    }
    for (size_t t = 0; t < ARRAY_LEN(thread_counts); t++)
        check_threads(teacher, in, thread_counts[t], images, texts);
    arena_release(&scratch);
    arena_init(&scratch, 1024);
    assert_status(teacher_embed_images(teacher, in->views, 1, &scratch, i2, &err), ST_NO_MEMORY);
    arena_release(&scratch);
    teacher_close(&teacher);
    assert_null(teacher);
    teacher_close(&teacher);
    free(in->pixels);
    free(in);
    free(images);
    free(texts);
    free(i2);
    free(t2);
}
