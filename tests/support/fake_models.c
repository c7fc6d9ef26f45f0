#include "tests/support/fake_models.h"

#include "reinforce/nn/ops.h"
#include "tests/support/test.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t fnv(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint64_t hash = 14695981039346656037U;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * 1099511628211U;
    return hash;
}

static bool holds(struct bytes_view text, const char *word)
{
    size_t n = word != NULL ? strlen(word) : 0;

    for (size_t i = 0; n > 0 && i + n <= text.len; i++)
        if (memcmp(text.data + i, word, n) == 0)
            return true;
    return false;
}

static enum status fail_as(enum fake_fault fault, struct error *err)
{
    if (fault == FAKE_REFUSES)
        return error_set(err, ST_INVALID, "a fake model refuses");
    if (fault == FAKE_AWAY)
        return error_set(err, ST_UNAVAILABLE, "a fake model is away");
    if (fault == FAKE_STOPPED)
        return error_set(err, ST_CANCELLED, "a fake model was stopped");
    return ST_OK;
}

/* A unit row that follows from `hash` alone, or what the fault makes of it. */
static void fill_row(uint64_t hash, enum fake_fault fault, float *row, size_t dim)
{
    for (size_t d = 0; d < dim; d++) {
        hash = hash * 6364136223846793005U + 1442695040888963407U;
        row[d] = (float)(int32_t)(hash >> 32);
    }
    (void)ops_l2_normalize(row, dim);
    if (fault == FAKE_NAN)
        row[dim / 2] = NAN;
    for (size_t d = 0; d < dim && fault == FAKE_LONG; d++)
        row[d] *= 2;
}

static enum status fake_embed_images(const struct teacher *teacher, const struct image *view_b,
                                     size_t B, struct arena *scratch, float *emb, struct error *err)
{
    struct fake_teacher *own = (struct fake_teacher *)(uintptr_t)teacher; /* it counts its calls */
    enum status st = ST_OK;

    (void)scratch;
    (void)atomic_fetch_add(&own->n_calls, 1);
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        const uint8_t *first = view_b[b].pixels;
        bool trapped =
            first[0] == own->trap_grey && first[1] == own->trap_grey && first[2] == own->trap_grey;
        enum fake_fault fault = trapped ? own->fault : FAKE_NONE;

        st = fail_as(fault, err);
        fill_row(fnv(first, image_bytes(&view_b[b])), fault, emb + b * teacher->info.dim,
                 teacher->info.dim);
    }
    return st;
}

static enum status fake_embed_texts(const struct teacher *teacher, const struct bytes_view *text_b,
                                    size_t B, struct arena *scratch, float *emb, struct error *err)
{
    struct fake_teacher *own = (struct fake_teacher *)(uintptr_t)teacher;
    enum status st = ST_OK;

    (void)scratch;
    (void)atomic_fetch_add(&own->n_calls, 1);
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        size_t len = MIN(text_b[b].len, (size_t)teacher->info.context_length);
        enum fake_fault fault = holds(text_b[b], own->trap) ? own->fault : FAKE_NONE;

        st = fail_as(fault, err);
        fill_row(fnv(text_b[b].data, len), fault, emb + b * teacher->info.dim, teacher->info.dim);
    }
    return st;
}

static void fake_teacher_close(struct teacher *teacher)
{
    free(teacher);
}

/* Made by a function of their own, so never opened from a folder. */
static const struct teacher_ops teacher_fake = {
    .kind = "fake",
    .embed_images = fake_embed_images,
    .embed_texts = fake_embed_texts,
    .close = fake_teacher_close,
};

struct fake_teacher *fake_teacher_create(size_t dim, int size, int context_length)
{
    struct fake_teacher *own = calloc(1, sizeof *own);

    assert_non_null(own);
    own->base.ops = &teacher_fake;
    own->base.info.dim = dim;
    own->base.info.context_length = context_length;
    own->base.info.preprocess.size = size;
    own->base.info.logit_scale = 1;
    memcpy(own->base.info.family, "fake", sizeof "fake");
    memset(own->base.info.weights_digest, '0', sizeof own->base.info.weights_digest - 1);
    own->trap_grey = -1;
    return own;
}

static enum status add_facts(const struct caption_options *how, size_t i, bool cut,
                             struct arena *results, struct caption *caption, struct error *err)
{
    int32_t *ids;
    enum status st = arena_calloc(results, 2, sizeof *ids, &ids, err);

    if (st != ST_OK)
        return st;
    ids[0] = 7;
    ids[1] = (int32_t)i;
    if (how->prompt != NULL)
        caption->prompt = bytes_of_string(how->prompt);
    caption->ids = ids;
    caption->n_ids = 2;
    caption->log_prob_sum = 2 * caption->score;
    caption->stop = cut ? CAPTION_STOP_LENGTH : CAPTION_STOP_END;
    return ST_OK;
}

static enum status fake_caption_images(const struct captioner *captioner,
                                       const struct image *image_b, const struct bytes_view *uid_b,
                                       size_t B, const struct caption_options *how,
                                       struct arena *results, struct arena *scratch,
                                       struct caption *captions, struct error *err)
{
    struct fake_captioner *own = (struct fake_captioner *)(uintptr_t)captioner;
    size_t N = (size_t)how->n_captions;

    (void)scratch;
    (void)atomic_fetch_add(&own->n_calls, 1);
    for (size_t b = 0; b < B; b++) {
        enum fake_fault fault = holds(uid_b[b], own->trap) ? own->fault : FAKE_NONE;
        uint64_t hash = fnv(image_b[b].pixels, image_bytes(&image_b[b]));
        enum status st = fail_as(fault, err);

        for (size_t i = 0; i < N && st == ST_OK; i++) {
            char text[512], *copy;
            int n = fault == FAKE_EMPTY && i + 1 == N ? snprintf(text, sizeof text, "  \n")
                    : fault == FAKE_NUL && i + 1 == N ? snprintf(text, sizeof text, "a%ccat", 0)
                    : fault == FAKE_PLACES && i + 1 == N
                        ? snprintf(text, sizeof text, "<loc0010><loc0020><loc0500><loc1023> cat")
                        : snprintf(text, sizeof text, " %dx%d %016" PRIx64 " %.*s %zu",
                                   image_b[b].width, image_b[b].height, hash, (int)uid_b[b].len,
                                   (const char *)uid_b[b].data, i);

            st = arena_strndup(results, text, (size_t)n, &copy, err);
            if (st == ST_OK)
                captions[b * N + i] = (struct caption){.text = copy,
                                                       .text_len = (size_t)n,
                                                       .n_tokens = n,
                                                       .log_prob_sum = NAN,
                                                       .score = -1 - (double)i};
            if (st == ST_OK && own->facts)
                st = add_facts(how, i, i + 1 == N, results, &captions[b * N + i], err);
        }
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static void fake_captioner_close(struct captioner *captioner)
{
    free(captioner);
}

static const struct captioner_ops captioner_fake = {
    .kind = "fake",
    .caption_images = fake_caption_images,
    .close = fake_captioner_close,
};

struct fake_captioner *fake_captioner_create(void)
{
    struct fake_captioner *own = calloc(1, sizeof *own);

    assert_non_null(own);
    own->base.ops = &captioner_fake;
    own->base.info.context_length = 77;
    memcpy(own->base.info.family, "fake", sizeof "fake");
    memset(own->base.info.weights_digest, '0', sizeof own->base.info.weights_digest - 1);
    return own;
}
