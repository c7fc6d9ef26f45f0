#include "worker/stage_embed.h"

#include "worker/embed_rows.h"

#include <math.h>
#include <stdio.h>

/* The rows of one stored array while they are computed: `rows` x D float32, the first `known`
 * teachers' columns old. */
struct row_set {
    const char *column; /* "text", "syn_text"; NULL for the views */
    size_t rows;
    size_t known;
    float *values;
    const struct bytes_view *texts;
};

size_t stage_embed_teachers_in(const struct engine *engine, size_t dim)
{
    for (size_t n = 0; n <= engine->n_teachers; n++)
        if (engine->teacher_column[n] == dim)
            return n;
    return engine->n_teachers + 1;
}

/* Takes over what an earlier run of this job has computed. */
static enum status load_known(const struct engine *engine, const struct sample *sample,
                              const char *name, struct row_set *set, struct error *err)
{
    const struct record_embedding *old = record_find_embedding(&sample->record, name);
    size_t D = engine_dim(engine);

    if (sample->work->grant.u.lease_grant.input_source != WIRE_SOURCE_PREVIOUS || old == NULL)
        return ST_OK;
    set->known = stage_embed_teachers_in(engine, old->dim);
    if (set->known > engine->n_teachers || old->rows != set->rows)
        return error_set(
            err, ST_CORRUPT,
            "%s is %zu x %zu in the previous output, which fits no prefix of the teachers", name,
            old->rows, old->dim);
    for (size_t r = 0; r < old->rows; r++) {
        float *to = set->values + r * D;

        if (old->dtype == RECORD_F32)
            memcpy(to, (const float *)old->data + r * old->dim, old->dim * sizeof *to);
        else
            record_f32_from_bf16((const uint16_t *)old->data + r * old->dim, old->dim, to);
    }
    return ST_OK;
}

static enum status set_init(const struct engine *engine, struct sample *sample, const char *name,
                            size_t rows, struct row_set *set, struct error *err)
{
    enum status st;

    set->rows = rows;
    set->known = 0;
    st = arena_calloc(&sample->arena, rows * engine_dim(engine), sizeof *set->values, &set->values,
                      err);
    return st == ST_OK ? load_known(engine, sample, name, set, err) : st;
}

/* What the curate stage has computed, or NULL. */
static const float *ready_rows(const struct sample *sample, size_t t, const struct row_set *set)
{
    if (sample->ready == NULL)
        return NULL;
    if (set->column == NULL)
        return sample->ready[t].views;
    return set->texts == sample->record.captions ? sample->ready[t].captions : NULL;
}

/* Computes the columns of teacher t and copies them in. */
static enum status embed_set(const struct stage_context *context, struct sample *sample, size_t t,
                             struct row_set *set, struct arena *scratch, struct error *err)
{
    const struct engine *engine = context->engine;
    size_t dim = engine->teacher_column[t + 1] - engine->teacher_column[t], D = engine_dim(engine);
    const float *emb = ready_rows(sample, t, set);
    enum status st = ST_OK;
    float *rows;

    if (t < set->known || set->rows == 0)
        return ST_OK;
    if (emb == NULL) {
        arena_reset(scratch);
        st = arena_calloc(scratch, set->rows * dim, sizeof *rows, &rows, err);
        if (st == ST_OK)
            st = embed_rows(context, sample, t, set->texts, set->rows, rows, scratch, err);
        emb = rows;
    }
    for (size_t r = 0; r < set->rows && st == ST_OK; r++)
        memcpy(set->values + r * D + engine->teacher_column[t], emb + r * dim, dim * sizeof *emb);
    return st;
}

/* Stores a set in the record in the job's type; `values` become what a reader of the dataset sees.
 */
static enum status keep_set(const struct stage_context *context, struct sample *sample,
                            const char *name, struct row_set *set, struct error *err)
{
    size_t n = set->rows * engine_dim(context->engine);
    struct record_embedding embedding = {.name = name,
                                         .dtype = RECORD_F32,
                                         .rows = set->rows,
                                         .dim = engine_dim(context->engine),
                                         .data = set->values};
    enum status st = ST_OK;

    if (context->job->output.embedding_dtype == RECORD_BF16) {
        uint16_t *bits;

        st = arena_calloc(&sample->arena, n, sizeof *bits, &bits, err);
        if (st != ST_OK)
            return st;
        record_bf16_from_f32(set->values, n, bits);
        record_f32_from_bf16(bits, n, set->values);
        embedding.dtype = RECORD_BF16;
        embedding.data = bits;
    }
    return record_set_embedding(&sample->record, &embedding, &sample->arena, err);
}

/* Of views and a text under teacher t. */
static double score_of(const struct engine *engine, const struct row_set *views, const float *text,
                       size_t t)
{
    size_t first = engine->teacher_column[t], last = engine->teacher_column[t + 1];

    return embed_rows_score(views->values + first, views->rows, engine_dim(engine), text + first,
                            last - first);
}

static enum status keep_scores(const struct stage_context *context, struct sample *sample,
                               const struct row_set *views, const struct row_set *sets,
                               size_t n_sets, struct error *err)
{
    const struct engine *engine = context->engine;
    size_t n = 0;
    enum status st;

    for (size_t s = 0; s < n_sets; s++)
        n += sets[s].rows * engine->n_teachers;
    st = arena_calloc(&sample->arena, MAX(n, (size_t)1), sizeof *sample->scores, &sample->scores,
                      err);
    if (st != ST_OK)
        return st;
    for (size_t s = 0; s < n_sets; s++)
        for (size_t r = 0; r < sets[s].rows; r++)
            for (size_t t = 0; t < engine->n_teachers; t++)
                sample->scores[sample->n_scores++] = (struct catalog_score){
                    .teacher = context->job->teachers[t].name,
                    .column = sets[s].column,
                    .index = (int32_t)r,
                    .value = score_of(engine, views, sets[s].values + r * engine_dim(engine), t),
                };
    return ST_OK;
}

static enum status emb_name(struct sample *sample, const char *column, char **name,
                            struct error *err)
{
    size_t len = strlen(column);
    enum status st = arena_alloc(&sample->arena, len + sizeof "_emb", name, err);

    if (st == ST_OK) {
        memcpy(*name, column, len);
        memcpy(*name + len, "_emb", sizeof "_emb");
    }
    return st;
}

static enum status embed(const struct stage_context *context, struct sample *sample,
                         struct arena *scratch, struct error *err)
{
    const struct engine *engine = context->engine;
    struct record *record = &sample->record;
    size_t n_sets = 1 + record->n_columns;
    struct row_set views = {0}, *sets;
    char **names;
    enum status st = arena_calloc(&sample->arena, n_sets, sizeof *sets, &sets, err);

    if (st == ST_OK)
        st = arena_calloc(&sample->arena, n_sets, sizeof *names, &names, err);
    if (st == ST_OK)
        st = set_init(engine, sample, "image_emb", record->n_views, &views, err);
    for (size_t s = 0; s < n_sets && st == ST_OK; s++) {
        sets[s].column = s == 0 ? "text" : record->columns[s - 1].name;
        sets[s].texts = s == 0 ? record->captions : record->columns[s - 1].texts;
        st = emb_name(sample, sets[s].column, &names[s], err);
        if (st == ST_OK)
            st = set_init(engine, sample, names[s],
                          s == 0 ? record->n_captions : record->columns[s - 1].n_texts, &sets[s],
                          err);
    }
    for (size_t t = 0; t < engine->n_teachers && st == ST_OK; t++) {
        st = embed_set(context, sample, t, &views, scratch, err);
        for (size_t s = 0; s < n_sets && st == ST_OK; s++)
            st = embed_set(context, sample, t, &sets[s], scratch, err);
    }
    if (st == ST_OK && sample->work->grant.u.lease_grant.input_source != WIRE_SOURCE_PREVIOUS)
        record->n_embeddings = 0; /* of other teachers: stale */
    if (st == ST_OK)
        st = keep_set(context, sample, "image_emb", &views, err);
    for (size_t s = 0; s < n_sets && st == ST_OK; s++)
        if (sets[s].rows > 0)
            st = keep_set(context, sample, names[s], &sets[s], err);
    return st == ST_OK ? keep_scores(context, sample, &views, sets, n_sets, err) : st;
}

/* The real caption as a catalog row, beside the synthetic ones. */
static enum status keep_real_captions(struct sample *sample, struct error *err)
{
    size_t G = sample->record.n_captions;
    struct catalog_caption *rows;
    enum status st =
        arena_calloc(&sample->arena, G + sample->n_captions + 1, sizeof *rows, &rows, err);

    if (st != ST_OK)
        return st;
    for (size_t g = 0; g < G; g++)
        rows[g] = (struct catalog_caption){.column = "text",
                                           .index = (int32_t)g,
                                           .text = sample->record.captions[g],
                                           .score = (double)NAN};
    if (sample->n_captions > 0)
        memcpy(rows + G, sample->captions, sample->n_captions * sizeof *rows);
    sample->captions = rows;
    sample->n_captions += G;
    return ST_OK;
}

static void finish(const struct stage_context *context, struct sample *sample,
                   struct arena *scratch)
{
    struct error err = {0};
    enum status st = ST_OK;

    if (context->engine->n_teachers > 0)
        st = embed(context, sample, scratch, &err);
    if (st == ST_OK)
        st = keep_real_captions(sample, &err);
    if (st == ST_OK)
        st = record_check(&sample->record, &err);
    if (st != ST_OK)
        sample_fail(sample, STAGE_EMBED, st == ST_CORRUPT ? "bad_embedding" : "embed_failed", &err);
}

void stage_embed_run(struct stage_embed *stage)
{
    struct arena scratch;
    void *item;

    arena_init(&scratch, (size_t)stage->context->job->workers.memory_bytes);
    while (queue_pop(stage->in, &item) == ST_OK) {
        struct sample *sample = item;
        int64_t begun = stage_begin();

        if (stage_wants(sample))
            finish(stage->context, sample, &scratch);
        stage_free_pixels(stage->context, sample);
        stage_end(stage->context, STAGE_EMBED, begun);
        if (queue_push(stage->out, sample, 0) != ST_OK)
            break;
    }
    arena_release(&scratch);
}
