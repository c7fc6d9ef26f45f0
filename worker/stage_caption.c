#include "worker/stage_caption.h"

#include "reinforce/base/clock.h"
#include "reinforce/text/clean.h"
#include "worker/caption_facts.h"

#include <stdio.h>

/* Decoding reads all weights once a step for all rows of a call; more images add rows, not reads.
 */
enum { MAX_BATCH = 8 };

static bool wants_captions(const struct sample *sample, const struct job_captioner *spec)
{
    if (!stage_wants(sample))
        return false;
    return sample->work->grant.u.lease_grant.input_source != WIRE_SOURCE_PREVIOUS ||
           record_find_column(&sample->record, spec->column) == NULL;
}

static struct bytes_view post_process(enum job_caption_post post, struct bytes_view text)
{
    struct bytes_view out = text;

    if (post == JOB_POST_TRIM)
        out = clean_trim(text);
    else if (post == JOB_POST_FIRST_SENTENCE)
        out = clean_first_sentence(text);
    return out;
}

/* Decoders that fall back to bytes may say NUL, which no database holds: it is dropped. */
static size_t drop_nul(char *text, size_t len)
{
    size_t kept = 0;

    for (size_t i = 0; i < len; i++)
        if (text[i] != '\0')
            text[kept++] = text[i];
    return kept;
}

/* Stores N captions as a column of the record and as catalog rows. */
static enum status keep_captions(struct sample *sample, const struct job_captioner *spec,
                                 const struct caption *captions, struct error *err)
{
    size_t n = (size_t)spec->how.n_captions;
    struct record_column column = {.name = spec->column, .n_texts = n};
    struct bytes_view *texts;
    struct catalog_caption *rows;
    enum status st = arena_calloc(&sample->arena, n, sizeof *texts, &texts, err);

    if (st == ST_OK)
        st = arena_calloc(&sample->arena, sample->n_captions + n, sizeof *rows, &rows, err);
    if (st != ST_OK)
        return st;
    if (sample->n_captions > 0)
        memcpy(rows, sample->captions, sample->n_captions * sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        struct bytes_view said = bytes_view_of(captions[i].text, captions[i].text_len);
        struct bytes_view kept = post_process(spec->post, said);
        char *copy;

        if (kept.len == 0)
            kept = clean_trim(said); /* a cut that leaves nothing is not made */
        st = arena_strndup(&sample->arena, kept.len > 0 ? (const char *)kept.data : "", kept.len,
                           &copy, err);
        if (st != ST_OK)
            return st;
        texts[i] = bytes_view_of(copy, drop_nul(copy, kept.len));
        if (texts[i].len == 0)
            return error_set(err, ST_CORRUPT, "caption %zu of %zu is empty", i + 1, n);
        rows[sample->n_captions + i] = (struct catalog_caption){.column = spec->column,
                                                                .index = (int32_t)i,
                                                                .text = texts[i],
                                                                .score = captions[i].score};
    }
    column.texts = texts;
    sample->captions = rows;
    sample->n_captions += n;
    st = caption_facts_keep(&sample->record, spec->column, captions, texts, n, &sample->arena, err);
    if (st != ST_OK)
        return st;
    return record_set_column(&sample->record, &column, &sample->arena, err);
}

/* A batch's time is its samples' in equal shares. */
static void charge(size_t which, int64_t ns, size_t n_texts, const struct caption *captions,
                   struct sample **batch, size_t B)
{
    for (size_t b = 0; b < B; b++) {
        struct model_cost *cost = &batch[b]->costs.captioners[which];

        cost->ns += ns / (int64_t)B;
        if (captions == NULL)
            continue;
        cost->images++;
        cost->texts += (int64_t)n_texts;
        for (size_t i = 0; i < n_texts; i++)
            cost->tokens += captions[b * n_texts + i].n_tokens;
    }
}

static enum status caption_batch(const struct stage_context *context, size_t which,
                                 struct sample **batch, size_t B, struct arena *scratch,
                                 struct arena *results)
{
    const struct job_captioner *spec = &context->job->captioners[which];
    struct image images[MAX_BATCH];
    struct bytes_view uids[MAX_BATCH];
    struct caption *captions = NULL;
    struct error err = {0};
    size_t n = (size_t)spec->how.n_captions;
    int64_t begun = clock_monotonic_ns(), ns;
    enum status st;

    for (size_t b = 0; b < B; b++) {
        images[b] = batch[b]->image;
        uids[b] = batch[b]->record.uid;
    }
    arena_reset(scratch);
    arena_reset(results);
    st = arena_calloc(results, B * n, sizeof *captions, &captions, &err);
    if (st == ST_OK)
        st = captioner_caption_images(context->engine->captioners[which], images, uids, B,
                                      &spec->how, results, scratch, captions, &err);
    ns = clock_monotonic_ns() - begun;
    (void)atomic_fetch_add(&context->stats->captioner_ns[which], ns);
    charge(which, ns, n, st == ST_OK ? captions : NULL, batch, B);
    if (st != ST_OK && B > 1)
        return st; /* the caller tries them one by one */
    if (st != ST_OK) {
        error_add_context(&err, "captioner \"%s\"", spec->name);
        sample_fail(batch[0], STAGE_CAPTION, "caption_failed", &err);
        return st;
    }
    for (size_t b = 0; b < B; b++) {
        if (keep_captions(batch[b], spec, &captions[b * n], &err) != ST_OK) {
            error_add_context(&err, "captioner \"%s\"", spec->name);
            sample_fail(batch[b], STAGE_CAPTION, "caption_failed", &err);
        }
    }
    (void)atomic_fetch_add(&context->stats->captions, (long long)(B * n));
    return ST_OK;
}

/* After a batch that failed: so that one sample costs one sample. A server that is away for one is
 * away for the rest, whose waits are saved: their lease has failed already. So it is with a stop.
 */
static void caption_one_by_one(const struct stage_context *context, size_t which,
                               struct sample **batch, size_t B, struct arena *scratch,
                               struct arena *results)
{
    for (size_t b = 0; b < B; b++) {
        struct error err = {.code = caption_batch(context, which, &batch[b], 1, scratch, results)};

        if (!status_is_retryable(err.code) && err.code != ST_CANCELLED)
            continue;
        (void)snprintf(err.message, sizeof err.message, "%s", batch[b]->detail);
        while (++b < B)
            sample_fail(batch[b], STAGE_CAPTION, "caption_failed", &err);
    }
}

static void caption(const struct stage_context *context, struct sample **samples, size_t n,
                    struct arena *scratch, struct arena *results)
{
    for (size_t c = 0; c < context->engine->n_captioners; c++) {
        struct sample *batch[MAX_BATCH];
        size_t B = 0;

        for (size_t i = 0; i < n; i++)
            if (wants_captions(samples[i], &context->job->captioners[c]))
                batch[B++] = samples[i];
        if (B > 0 && caption_batch(context, c, batch, B, scratch, results) != ST_OK && B > 1)
            caption_one_by_one(context, c, batch, B, scratch, results);
    }
}

void stage_caption_run(struct stage_caption *stage)
{
    size_t memory = (size_t)stage->context->job->workers.memory_bytes;
    struct arena scratch, results;
    void *item;
    bool up = true;

    arena_init(&scratch, memory);
    arena_init(&results, memory);
    while (up && queue_pop(stage->in, &item) == ST_OK) {
        struct sample *samples[MAX_BATCH] = {item};
        size_t n = 1;
        int64_t begun;

        while (n < MAX_BATCH && queue_try_pop(stage->in, &item) == ST_OK)
            samples[n++] = item;
        begun = stage_begin();
        caption(stage->context, samples, n, &scratch, &results);
        stage_end(stage->context, STAGE_CAPTION, begun);
        for (size_t i = 0; i < n; i++)
            up = queue_push(stage->out, samples[i], 0) == ST_OK && up;
    }
    arena_release(&results);
    arena_release(&scratch);
}
