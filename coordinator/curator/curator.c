#include "coordinator/curator/curator.h"

#include "reinforce/base/clock.h"
#include "reinforce/curate/selection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers on the wire are the library's. */
_Static_assert((int)CURATOR_QUANTILES == (int)SELECTION_QUANTILES, "quantiles");

enum { DEFAULT_CHUNKS = 16, LEAST_COVERAGE_PERCENT = 90, NS_A_MS = 1000000 };

/* A reply that was given: message and frames one behind the other. */
struct remembered {
    char job[128];
    uint64_t super_batch;
    bool is_there;
    enum curator_status status;
    struct byte_buf bytes;
    size_t ends[CURATOR_MAX_FRAMES + 1]; /* of the message, then of every frame */
    size_t n_frames;
};

struct curator {
    struct curator_options options;
    struct arena arena;
    struct remembered *replies; /* [n_remembered], the oldest at `next` */
    size_t next;
};

enum status curator_create(const struct curator_options *options, struct curator **out,
                           struct error *err)
{
    struct curator *curator = calloc(1, sizeof *curator);

    *out = NULL;
    if (curator != NULL)
        curator->replies = calloc(options->n_remembered, sizeof *curator->replies);
    if (curator == NULL || curator->replies == NULL) {
        free(curator);
        return error_set(err, ST_NO_MEMORY, "could not allocate a curator");
    }
    curator->options = *options;
    arena_init(&curator->arena, options->max_bytes);
    for (size_t r = 0; r < options->n_remembered; r++)
        byte_buf_init(&curator->replies[r].bytes, options->max_bytes);
    *out = curator;
    return ST_OK;
}

void curator_destroy(struct curator **curator)
{
    if (*curator == NULL)
        return;
    for (size_t r = 0; r < (*curator)->options.n_remembered; r++)
        byte_buf_release(&(*curator)->replies[r].bytes);
    arena_release(&(*curator)->arena);
    free((*curator)->replies);
    free(*curator);
    *curator = NULL;
}

/* A request as the library wants it. */
struct task {
    const struct curator_request *request;
    int64_t deadline_ns; /* 0: none */
    struct super_batch batch;
    struct selection_options options;
    struct selection selection;
    uint64_t n_without_reference;
};

static struct pair_model model_of(const struct curator_model *from)
{
    static const enum tensor_dtype dtypes[] = {
        [CURATOR_F32] = TENSOR_F32, [CURATOR_F16] = TENSOR_F16, [CURATOR_BF16] = TENSOR_BF16};
    struct pair_model model = {0};

    if (from->D == 0)
        return model;
    model.rows[PAIR_IMAGE] = from->image;
    model.rows[PAIR_TEXT] = from->text;
    model.dtype = dtypes[from->dtype];
    model.D = from->D;
    model.scale = from->scale;
    model.bias = from->bias;
    return model;
}

static enum status convert(struct task *task, struct arena *arena, struct error *err)
{
    const struct curator_request *request = task->request;
    struct example_id *ids;
    uint16_t *strata;
    enum status st = arena_alloc(arena, request->B * sizeof *ids, &ids, err);

    if (st == ST_OK)
        st = arena_alloc(arena, request->B * sizeof *strata, &strata, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < request->B; i++) {
        const uint8_t *id = request->ids.data + i * CURATOR_ID_BYTES;

        ids[i] = (struct example_id){.low = bytes_get_u64(id), .high = bytes_get_u64(id + 8)};
        if (request->n_strata > 0)
            strata[i] =
                (uint16_t)(request->strata.data[2 * i] | request->strata.data[2 * i + 1] << 8);
    }
    task->batch = (struct super_batch){.B = request->B,
                                       .ids = ids,
                                       .strata = request->n_strata > 0 ? strata : NULL,
                                       .learner = model_of(&request->learner),
                                       .reference = model_of(&request->reference)};
    selection_options_default(&task->options);
    task->options.criterion = (enum selection_criterion)request->criterion;
    task->options.loss = (enum pair_loss)request->loss;
    task->options.n_selected = request->n_selected;
    task->options.n_chunks = request->n_chunks != 0
                                 ? request->n_chunks
                                 : MIN((size_t)DEFAULT_CHUNKS, request->n_selected);
    task->options.gain = request->gain;
    task->options.normalise_by_count = request->normalise_by_count;
    task->options.top_k = request->top_k;
    task->options.uniform_share = request->uniform_share;
    task->options.quotas = request->quotas;
    task->options.n_strata = request->n_strata;
    task->options.seed = request->seed;
    task->options.step = (uint32_t)request->step;
    task->options.batch_scores = request->batch_scores;
    task->options.deadline_ns = task->deadline_ns;
    return ST_OK;
}

/* Rows of the curator's own references; an example without stays zero, which is not selected. */
static enum status fetch_references(struct task *task, const struct curator_references *references,
                                    struct arena *arena, struct error *err)
{
    const struct curator_request *request = task->request;
    size_t D = references->D, bytes = request->B * D * sizeof(float);
    struct pair_model *model = &task->batch.reference;
    float *rows[PAIR_SIDES];
    enum status st = ST_OK;

    for (int s = 0; s < PAIR_SIDES && st == ST_OK; s++)
        st = arena_calloc(arena, request->B * D, sizeof(float), &rows[s], err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < request->B; i++)
        if (!references->row(references->ctx, request->ids.data + i * CURATOR_ID_BYTES,
                             rows[PAIR_IMAGE] + i * D, rows[PAIR_TEXT] + i * D))
            task->n_without_reference++;
    *model = (struct pair_model){
        .dtype = TENSOR_F32, .D = D, .scale = references->scale, .bias = references->bias};
    for (int s = 0; s < PAIR_SIDES; s++)
        model->rows[s] = bytes_view_of(rows[s], bytes);
    return ST_OK;
}

static void reply_with_batch(const struct task *task, struct curator_reply *reply)
{
    const struct selection *selection = &task->selection;
    const struct selection_stats *stats = &selection->stats;
    size_t b = selection->n, B = task->request->all_marginals ? task->request->B : 0;

    reply->n_selected = b;
    reply->n_marginals = B;
    reply->index = bytes_view_of(selection->index, b * sizeof *selection->index);
    reply->chunk = bytes_view_of(selection->chunk, b * sizeof *selection->chunk);
    reply->marginal = bytes_view_of(selection->marginal, b * sizeof *selection->marginal);
    reply->conditional = bytes_view_of(selection->conditional, b * sizeof *selection->conditional);
    reply->marginals = bytes_view_of(selection->marginals, B * sizeof *selection->marginals);
    reply->statistics.n_strata = task->options.n_strata;
    reply->statistics.share_before = stats->share_before;
    reply->statistics.share_after = stats->share_after;
}

static void reply_with_statistics(const struct task *task, struct curator_reply *reply)
{
    const struct selection_stats *stats = &task->selection.stats;
    struct curator_statistics *to = &reply->statistics;

    to->n_usable = stats->n_usable;
    to->n_invalid = stats->n_invalid;
    to->n_duplicates = stats->n_duplicates;
    to->marginal_mean = stats->marginal_mean;
    memcpy(to->marginal_quantiles, stats->marginal_quantiles, sizeof to->marginal_quantiles);
    to->effective_sample_size = stats->effective_sample_size;
    to->batch_score = stats->batch_score;
    to->uniform_batch_score = stats->uniform_batch_score;
    to->scale_looks_logarithmic = stats->scale_looks_logarithmic;
}

static enum status fall_back(struct task *task, const char *reason, struct curator_reply *reply,
                             struct arena *arena, struct error *err)
{
    enum status st = selection_uniform(&task->batch, &task->options, &task->selection, arena, err);

    if (st == ST_OK) {
        reply->status = CURATOR_FALLBACK_UNIFORM;
        (void)snprintf(reply->reason, sizeof reply->reason, "%s", reason);
    }
    return st;
}

static enum status select_batch(struct curator *curator, struct task *task,
                                struct curator_reply *reply, struct error *err)
{
    const struct curator_references *references = curator->options.references;
    const struct curator_request *request = task->request;
    bool reads_reference, own;
    char reason[256];
    enum status st = convert(task, &curator->arena, err);

    task->options.n_threads = curator->options.n_threads;
    if (st == ST_OK)
        st = selection_options_check(&task->options, request->B, err);
    if (st != ST_OK)
        return st;
    reads_reference = selection_reference_sign(&task->options) != 0;
    own = reads_reference && request->reference.D == 0;
    if (own && references == NULL)
        return error_set(err, ST_INVALID,
                         "the request brings no reference, and this curator has none");
    if (selection_learner_sign(&task->options) != 0 && request->learner.D == 0)
        return error_set(err, ST_INVALID, "the criterion reads the learner, which is not there");
    if (own) {
        (void)snprintf(reply->reference_version, sizeof reply->reference_version, "%s",
                       references->version);
        st = fetch_references(task, references, &curator->arena, err);
        if (st != ST_OK)
            return st;
        if ((request->B - task->n_without_reference) * 100 < request->B * LEAST_COVERAGE_PERCENT) {
            (void)snprintf(reason, sizeof reason, "%llu of %zu examples have no reference",
                           (unsigned long long)task->n_without_reference, request->B);
            return fall_back(task, reason, reply, &curator->arena, err);
        }
    }
    st = selection_run(&task->batch, &task->options, &task->selection, &curator->arena, err);
    if (st == ST_TIMEOUT)
        return fall_back(task, err->message, reply, &curator->arena, err);
    reply->status = task->selection.stats.n_usable < request->B ? CURATOR_OK_PARTIAL : CURATOR_OK;
    return st;
}

static bool give(const struct remembered *from, struct curator_answer *answer)
{
    size_t begin = from->ends[0];

    answer->status = from->status;
    answer->message = bytes_view_of(from->bytes.data, begin);
    answer->n_frames = from->n_frames;
    for (size_t f = 0; f < from->n_frames; f++) {
        answer->frames[f] = bytes_view_of(from->bytes.data + begin, from->ends[f + 1] - begin);
        begin = from->ends[f + 1];
    }
    return true;
}

static bool give_again(const struct curator *curator, const struct curator_request *request,
                       struct curator_answer *answer)
{
    for (size_t r = 0; r < curator->options.n_remembered; r++) {
        const struct remembered *reply = &curator->replies[r];

        if (reply->is_there && reply->super_batch == request->super_batch &&
            strcmp(reply->job, request->job) == 0)
            return give(reply, answer);
    }
    return false;
}

/* Encodes a reply into the place of the oldest one. */
static enum status remember(struct curator *curator, const struct curator_reply *reply,
                            struct curator_answer *answer, struct error *err)
{
    struct remembered *to = &curator->replies[curator->next];
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    enum status st;

    to->is_there = false;
    byte_buf_reset(&to->bytes);
    st = curator_reply_encode(reply, &to->bytes, frames, &to->n_frames, err);
    to->ends[0] = to->bytes.len;
    for (size_t f = 0; f < to->n_frames && st == ST_OK; f++) {
        st = byte_buf_append(&to->bytes, frames[f].data, frames[f].len, err);
        to->ends[f + 1] = to->bytes.len;
    }
    if (st != ST_OK)
        return st;
    memcpy(to->job, reply->job, sizeof to->job);
    to->super_batch = reply->super_batch;
    to->status = reply->status;
    to->is_there = true;
    curator->next = (curator->next + 1) % curator->options.n_remembered;
    (void)give(to, answer);
    return ST_OK;
}

enum status curator_answer(struct curator *curator, struct bytes_view message,
                           const struct bytes_view *frames, size_t n_frames, int64_t received_ns,
                           struct curator_answer *answer, struct error *err)
{
    struct curator_request request;
    struct curator_reply reply = {.status = CURATOR_REJECTED};
    struct task task = {.request = &request};
    enum status st;

    arena_reset(&curator->arena);
    st = curator_request_decode(message, frames, n_frames, &request, &curator->arena, err);
    if (st != ST_OK)
        return st;
    if (give_again(curator, &request, answer))
        return ST_OK;
    memcpy(reply.job, request.job, sizeof reply.job);
    reply.super_batch = request.super_batch;
    reply.learner_step = request.learner_step;
    reply.staleness = request.step - MIN(request.step, request.learner_step);
    if (request.deadline_ms != 0)
        task.deadline_ns = received_ns + (int64_t)request.deadline_ms * NS_A_MS;
    st = select_batch(curator, &task, &reply, err);
    if (st == ST_INVALID) {
        reply.status = CURATOR_REJECTED;
        (void)snprintf(reply.reason, sizeof reply.reason, "%s", err->message);
    } else if (st != ST_OK) {
        return st;
    } else {
        reply_with_batch(&task, &reply);
    }
    reply_with_statistics(&task, &reply);
    reply.statistics.n_without_reference = task.n_without_reference;
    reply.statistics.select_ms = (uint64_t)((clock_monotonic_ns() - received_ns) / NS_A_MS);
    return remember(curator, &reply, answer, err);
}
