#include "worker/stage_curate.h"

#include "worker/embed_rows.h"

#include <math.h>

/* A sample before its judge. What is found out is kept: a score is not computed twice. */
struct hearing {
    const struct stage_context *context;
    struct sample *sample;
    struct arena *room;          /* of the hearing */
    struct arena *scratch;       /* of the models */
    struct catalog_sample facts; /* as the catalog would have them */
    struct catalog_score *cosines;
    struct pool pool; /* this sample alone */
    bool *is_known;   /* [n_scores] */
};

static enum status begin(struct hearing *h, struct error *err)
{
    const struct judge *judge = &h->context->engine->judge;
    const struct record *record = &h->sample->record;
    struct catalog_caption *captions;
    size_t G = record->n_captions, n = judge->n_scores;
    float *values;
    enum status st = arena_calloc(h->room, G, sizeof *captions, &captions, err);

    if (st == ST_OK)
        st = arena_calloc(h->room, G * h->context->engine->n_teachers, sizeof *h->cosines,
                          &h->cosines, err);
    if (st == ST_OK)
        st = arena_calloc(h->room, n, sizeof *values, &values, err);
    if (st == ST_OK)
        st = arena_calloc(h->room, n, sizeof(float *), &h->pool.scores, err);
    if (st == ST_OK)
        st = arena_calloc(h->room, n, sizeof *h->is_known, &h->is_known, err);
    if (st == ST_OK && h->sample->ready == NULL)
        st = arena_calloc(&h->sample->arena, h->context->engine->n_teachers,
                          sizeof *h->sample->ready, &h->sample->ready, err);
    if (st != ST_OK)
        return st;
    for (size_t g = 0; g < G; g++)
        captions[g] = (struct catalog_caption){
            .column = "text", .index = (int32_t)g, .text = record->captions[g]};
    for (size_t k = 0; k < n; k++) {
        values[k] = NAN;
        h->pool.scores[k] = &values[k];
    }
    h->pool.n = 1;
    h->pool.n_scores = n;
    h->pool.specs = judge->specs;
    h->facts = (struct catalog_sample){.uid = record->uid,
                                       .width = image_stored_width(&h->sample->image),
                                       .height = image_stored_height(&h->sample->image),
                                       .n_captions = G,
                                       .captions = captions,
                                       .scores = h->cosines};
    return ST_OK;
}

/* What a reader of the dataset will see of embeddings. */
static enum status as_stored(const struct hearing *h, const float *values, size_t n,
                             const float **out, struct error *err)
{
    uint16_t *bits;
    float *seen;
    enum status st;

    *out = values;
    if (h->context->job->output.embedding_dtype != RECORD_BF16)
        return ST_OK;
    st = arena_alloc(h->room, n * sizeof *bits, &bits, err);
    if (st == ST_OK)
        st = arena_alloc(h->room, n * sizeof *seen, &seen, err);
    if (st != ST_OK)
        return st;
    record_bf16_from_f32(values, n, bits);
    record_f32_from_bf16(bits, n, seen);
    *out = seen;
    return ST_OK;
}

/* Teacher t's embeddings of views and real captions stay with the sample: the embed stage takes
 * them. */
static enum status embed(struct hearing *h, size_t t, struct error *err)
{
    const struct engine *engine = h->context->engine;
    struct sample *sample = h->sample;
    size_t dim = engine->teacher_column[t + 1] - engine->teacher_column[t];
    size_t A = sample->record.n_views, G = sample->record.n_captions;
    float *views, *captions;
    enum status st = arena_alloc(&sample->arena, A * dim * sizeof *views, &views, err);

    if (st == ST_OK)
        st = arena_alloc(&sample->arena, G * dim * sizeof *captions, &captions, err);
    arena_reset(h->scratch);
    if (st == ST_OK)
        st = embed_rows(h->context, sample, t, NULL, A, views, h->scratch, err);
    arena_reset(h->scratch);
    if (st == ST_OK)
        st = embed_rows(h->context, sample, t, sample->record.captions, G, captions, h->scratch,
                        err);
    if (st == ST_OK)
        sample->ready[t] = (struct teacher_rows){.views = views, .captions = captions};
    return st;
}

/* The cosines of the real captions under a teacher, once. */
static enum status hear_teacher(struct hearing *h, const char *name, struct error *err)
{
    const struct engine *engine = h->context->engine;
    size_t G = h->sample->record.n_captions, t = 0, dim;
    const float *views, *captions;
    enum status st;

    if (name == NULL || G == 0)
        return ST_OK;
    while (strcmp(h->context->job->teachers[t].name, name) != 0) /* job_load() has found it */
        t++;
    if (h->sample->ready[t].views != NULL)
        return ST_OK;
    dim = engine->teacher_column[t + 1] - engine->teacher_column[t];
    st = embed(h, t, err);
    if (st == ST_OK)
        st = as_stored(h, h->sample->ready[t].views, h->sample->record.n_views * dim, &views, err);
    if (st == ST_OK)
        st = as_stored(h, h->sample->ready[t].captions, G * dim, &captions, err);
    for (size_t g = 0; g < G && st == ST_OK; g++)
        h->cosines[h->facts.n_scores++] =
            (struct catalog_score){.teacher = name,
                                   .column = "text",
                                   .index = (int32_t)g,
                                   .value = embed_rows_score(views, h->sample->record.n_views, dim,
                                                             captions + g * dim, dim)};
    return st;
}

static enum status find_score(struct hearing *h, size_t k, struct error *err)
{
    const struct judge *judge = &h->context->engine->judge;
    const struct score_spec *spec = &judge->specs[k];
    enum status st;

    if (h->is_known[k])
        return ST_OK;
    st = hear_teacher(h, spec->teacher, err);
    if (st == ST_OK)
        st = hear_teacher(h, spec->learner.teacher, err);
    if (st == ST_OK)
        st = hear_teacher(h, spec->reference.teacher, err);
    if (st == ST_OK)
        st = sample_score(spec, &judge->tools[k], &h->facts, h->room, h->pool.scores[k], err);
    h->is_known[k] = st == ST_OK;
    return st;
}

/* Whether the rule holds: as rule_holds(), with no score found that does not count. */
static enum status hold(struct hearing *h, const struct rule *rule, bool *holds, struct error *err)
{
    bool wanted = rule->kind == RULE_ALL; /* of children, to look at the next one */
    enum status st = ST_OK;

    switch (rule->kind) {
    case RULE_ALL:
    case RULE_ANY:
        *holds = wanted;
        for (size_t i = 0; i < rule->n_children && st == ST_OK && *holds == wanted; i++)
            st = hold(h, &rule->children[i], holds, err);
        return st;
    case RULE_NOT:
        st = hold(h, rule->children, holds, err);
        *holds = !*holds;
        return st;
    case RULE_SCORE:
        st = find_score(h, rule->score, err);
        break;
    case RULE_IDS: /* in no job */
        break;
    }
    *holds = st == ST_OK && rule_holds(rule, &h->pool, 0);
    return st;
}

/* In the order of the file: the first rule that does not hold drops the sample. */
static enum status judge(struct hearing *h, struct error *err)
{
    const struct rule *keep = h->context->engine->judge.keep;
    enum status st = begin(h, err);

    for (size_t i = 0; i < keep->n_children && st == ST_OK; i++) {
        const struct rule *rule = &keep->children[i];
        bool holds = false;

        st = hold(h, rule, &holds, err);
        if (st != ST_OK || holds)
            continue;
        h->sample->filtered_by = rule->name;
        judge_explain(rule, &h->pool, h->sample->detail, sizeof h->sample->detail);
        break;
    }
    return st;
}

/* A sample of an earlier output was kept then. */
static bool is_to_be_judged(const struct sample *sample)
{
    return stage_wants(sample) &&
           sample->work->grant.u.lease_grant.input_source != WIRE_SOURCE_PREVIOUS;
}

void stage_curate_run(struct stage_curate *stage)
{
    size_t memory = (size_t)stage->context->job->workers.memory_bytes;
    struct arena room, scratch;
    void *item;

    arena_init(&room, memory);
    arena_init(&scratch, memory);
    while (queue_pop(stage->in, &item) == ST_OK) {
        struct hearing h = {
            .context = stage->context, .sample = item, .room = &room, .scratch = &scratch};
        struct sample *sample = item;
        int64_t begun = stage_begin();
        struct error err = {0};

        arena_reset(&room);
        if (is_to_be_judged(sample) && judge(&h, &err) != ST_OK)
            sample_fail(sample, STAGE_CURATE,
                        err.code == ST_CORRUPT ? "bad_embedding" : "embed_failed", &err);
        if (sample->filtered_by != NULL)
            stage_free_pixels(stage->context, sample);
        stage_end(stage->context, STAGE_CURATE, begun);
        if (queue_push(sample->filtered_by != NULL ? stage->dropped : stage->out, sample, 0) !=
            ST_OK)
            break;
    }
    arena_release(&scratch);
    arena_release(&room);
}
