#include "proto/curator.h"

#include "proto/curator_parts.h"
#include "proto/field.h"

#include <string.h>

/* protobuf-c takes char * for strings that it only reads, and its initialisers do the same */
#pragma GCC diagnostic ignored "-Wcast-qual"

enum status curator_request_encode(const struct curator_request *request, struct byte_buf *out,
                                   struct bytes_view *frames, size_t *n_frames, struct error *err)
{
    Reinforce__Curator__SelectRequest message = REINFORCE__CURATOR__SELECT_REQUEST__INIT;
    Reinforce__Curator__Model learner = REINFORCE__CURATOR__MODEL__INIT;
    Reinforce__Curator__Model reference = REINFORCE__CURATOR__MODEL__INIT;
    uint8_t *to;
    enum status st;

    *n_frames = 0;
    frames[(*n_frames)++] = request->ids;
    curator_give_model(&request->learner, &learner, &message.learner, frames, n_frames);
    curator_give_model(&request->reference, &reference, &message.reference, frames, n_frames);
    if (request->n_strata > 0)
        frames[(*n_frames)++] = request->strata;
    message.protocol = CURATOR_PROTOCOL;
    message.job = (char *)request->job;
    message.super_batch = request->super_batch;
    message.step = request->step;
    message.learner_version = request->learner_version;
    message.learner_step = request->learner_step;
    message.n_examples = (uint32_t)request->B;
    message.n_selected = (uint32_t)request->n_selected;
    message.n_chunks = (uint32_t)request->n_chunks;
    message.criterion = request->criterion;
    message.loss = request->loss;
    message.gain = request->gain;
    message.normalise_by_count = request->normalise_by_count;
    message.top_k = request->top_k;
    message.uniform_share = request->uniform_share;
    message.seed = request->seed;
    message.deadline_ms = request->deadline_ms;
    message.batch_scores = request->batch_scores;
    message.all_marginals = request->all_marginals;
    message.n_quotas = request->n_strata;
    message.quotas = (uint32_t *)request->quotas;
    st = byte_buf_extend(out, reinforce__curator__select_request__get_packed_size(&message), &to,
                         err);
    if (st == ST_OK)
        (void)reinforce__curator__select_request__pack(&message, to);
    return st;
}

static enum status take_request(const Reinforce__Curator__SelectRequest *message,
                                struct curator_frames *frames, struct curator_request *request,
                                struct arena *arena, struct error *err)
{
    size_t B = message->n_examples;
    uint32_t *quotas;
    enum status st =
        curator_check_range("protocol", message->protocol, CURATOR_PROTOCOL, CURATOR_PROTOCOL, err);

    if (st == ST_OK)
        st = curator_check_range("n_examples", B, 1, CURATOR_MAX_EXAMPLES, err);
    if (st == ST_OK)
        st = curator_check_range("the number of strata", message->n_quotas, 0, CURATOR_MAX_STRATA,
                                 err);
    if (st == ST_OK)
        st = field_take_text("job", message->job, request->job, sizeof request->job, err);
    if (st == ST_OK)
        st = curator_take_frame(frames, "ids", B, CURATOR_ID_BYTES, &request->ids, err);
    if (st == ST_OK)
        st = curator_take_model(message->learner, "the learner's images", "the learner's texts", B,
                                frames, &request->learner, err);
    if (st == ST_OK)
        st = curator_take_model(message->reference, "the reference's images",
                                "the reference's texts", B, frames, &request->reference, err);
    if (st == ST_OK && message->n_quotas > 0)
        st = curator_take_frame(frames, "strata", B, sizeof(uint16_t), &request->strata, err);
    if (st == ST_OK)
        st = curator_end_frames(frames, err);
    if (st == ST_OK)
        st = arena_alloc(arena, message->n_quotas * sizeof *quotas, &quotas, err);
    if (st != ST_OK)
        return st;
    if (message->n_quotas > 0) {
        memcpy(quotas, message->quotas, message->n_quotas * sizeof *quotas);
        request->quotas = quotas;
    }
    request->n_strata = message->n_quotas;
    request->super_batch = message->super_batch;
    request->step = message->step;
    request->learner_version = message->learner_version;
    request->learner_step = message->learner_step;
    request->seed = message->seed;
    request->B = B;
    request->n_selected = message->n_selected;
    request->n_chunks = message->n_chunks;
    request->criterion = message->criterion;
    request->loss = message->loss;
    request->deadline_ms = message->deadline_ms;
    request->gain = message->gain;
    request->uniform_share = message->uniform_share;
    request->normalise_by_count = message->normalise_by_count;
    request->top_k = message->top_k;
    request->batch_scores = message->batch_scores;
    request->all_marginals = message->all_marginals;
    return ST_OK;
}

enum status curator_request_decode(struct bytes_view message, const struct bytes_view *frames,
                                   size_t n_frames, struct curator_request *request,
                                   struct arena *arena, struct error *err)
{
    Reinforce__Curator__SelectRequest *read =
        reinforce__curator__select_request__unpack(NULL, message.len, message.data);
    struct curator_frames left = {.at = frames, .n = n_frames};
    enum status st;

    *request = (struct curator_request){0};
    if (read == NULL)
        return error_set(err, ST_CORRUPT, "not a request: %zu bytes", message.len);
    st = take_request(read, &left, request, arena, err);
    reinforce__curator__select_request__free_unpacked(read, NULL);
    return st;
}

static void give_statistics(const struct curator_statistics *from,
                            Reinforce__Curator__Statistics *to)
{
    to->n_usable = from->n_usable;
    to->n_invalid = from->n_invalid;
    to->n_duplicates = from->n_duplicates;
    to->n_without_reference = from->n_without_reference;
    to->select_ms = from->select_ms;
    to->marginal_mean = from->marginal_mean;
    to->n_marginal_quantiles = CURATOR_QUANTILES;
    to->marginal_quantiles = (double *)from->marginal_quantiles;
    to->effective_sample_size = from->effective_sample_size;
    to->batch_score = from->batch_score;
    to->uniform_batch_score = from->uniform_batch_score;
    to->scale_looks_logarithmic = from->scale_looks_logarithmic;
    to->n_share_before = to->n_share_after = from->n_strata;
    to->share_before = (double *)from->share_before;
    to->share_after = (double *)from->share_after;
}

enum status curator_reply_encode(const struct curator_reply *reply, struct byte_buf *out,
                                 struct bytes_view *frames, size_t *n_frames, struct error *err)
{
    Reinforce__Curator__SelectReply message = REINFORCE__CURATOR__SELECT_REPLY__INIT;
    Reinforce__Curator__Statistics statistics = REINFORCE__CURATOR__STATISTICS__INIT;
    uint8_t *to;
    enum status st;

    *n_frames = 0;
    if (reply->status != CURATOR_REJECTED) {
        frames[(*n_frames)++] = reply->index;
        frames[(*n_frames)++] = reply->chunk;
        frames[(*n_frames)++] = reply->marginal;
        frames[(*n_frames)++] = reply->conditional;
        if (reply->n_marginals > 0)
            frames[(*n_frames)++] = reply->marginals;
    }
    message.protocol = CURATOR_PROTOCOL;
    message.job = (char *)reply->job;
    message.super_batch = reply->super_batch;
    message.status = (uint32_t)reply->status;
    message.reason = (char *)reply->reason;
    message.reference_version = (char *)reply->reference_version;
    message.learner_step = reply->learner_step;
    message.staleness = reply->staleness;
    message.n_selected = (uint32_t)reply->n_selected;
    message.n_marginals = (uint32_t)reply->n_marginals;
    give_statistics(&reply->statistics, &statistics);
    message.statistics = &statistics;
    st =
        byte_buf_extend(out, reinforce__curator__select_reply__get_packed_size(&message), &to, err);
    if (st == ST_OK)
        (void)reinforce__curator__select_reply__pack(&message, to);
    return st;
}

static enum status take_shares(const double *from, size_t n, const double **to, struct arena *arena,
                               struct error *err)
{
    double *copy;
    enum status st = arena_alloc(arena, n * sizeof *copy, &copy, err);

    if (st == ST_OK && n > 0) {
        memcpy(copy, from, n * sizeof *copy);
        *to = copy;
    }
    return st;
}

static enum status take_statistics(const Reinforce__Curator__Statistics *from,
                                   struct curator_statistics *to, struct arena *arena,
                                   struct error *err)
{
    enum status st;

    if (from == NULL || from->n_marginal_quantiles != CURATOR_QUANTILES ||
        from->n_share_before != from->n_share_after || from->n_share_before > CURATOR_MAX_STRATA)
        return error_set(err, ST_CORRUPT, "the reply's statistics are not complete");
    to->n_usable = from->n_usable;
    to->n_invalid = from->n_invalid;
    to->n_duplicates = from->n_duplicates;
    to->n_without_reference = from->n_without_reference;
    to->select_ms = from->select_ms;
    to->marginal_mean = from->marginal_mean;
    memcpy(to->marginal_quantiles, from->marginal_quantiles, sizeof to->marginal_quantiles);
    to->effective_sample_size = from->effective_sample_size;
    to->batch_score = from->batch_score;
    to->uniform_batch_score = from->uniform_batch_score;
    to->scale_looks_logarithmic = from->scale_looks_logarithmic;
    to->n_strata = from->n_share_before;
    st = take_shares(from->share_before, to->n_strata, &to->share_before, arena, err);
    return st == ST_OK ? take_shares(from->share_after, to->n_strata, &to->share_after, arena, err)
                       : st;
}

static enum status take_batch(struct curator_frames *frames, struct curator_reply *reply,
                              struct error *err)
{
    size_t b = reply->n_selected;
    enum status st = curator_take_frame(frames, "indices", b, sizeof(uint32_t), &reply->index, err);

    if (st == ST_OK)
        st = curator_take_frame(frames, "chunks", b, sizeof(uint16_t), &reply->chunk, err);
    if (st == ST_OK)
        st = curator_take_frame(frames, "marginal scores", b, sizeof(float), &reply->marginal, err);
    if (st == ST_OK)
        st = curator_take_frame(frames, "conditional scores", b, sizeof(float), &reply->conditional,
                                err);
    if (st == ST_OK && reply->n_marginals > 0)
        st = curator_take_frame(frames, "all marginal scores", reply->n_marginals, sizeof(float),
                                &reply->marginals, err);
    return st;
}

static enum status take_reply(const Reinforce__Curator__SelectReply *message,
                              struct curator_frames *frames, struct curator_reply *reply,
                              struct arena *arena, struct error *err)
{
    enum status st =
        curator_check_range("protocol", message->protocol, CURATOR_PROTOCOL, CURATOR_PROTOCOL, err);

    if (st == ST_OK)
        st = curator_check_range("status", message->status, CURATOR_OK, CURATOR_REJECTED, err);
    if (st == ST_OK)
        st = curator_check_range("n_selected", message->n_selected, 0, CURATOR_MAX_EXAMPLES, err);
    if (st == ST_OK)
        st = curator_check_range("n_marginals", message->n_marginals, 0, CURATOR_MAX_EXAMPLES, err);
    if (st == ST_OK)
        st = field_take_text("job", message->job, reply->job, sizeof reply->job, err);
    if (st == ST_OK)
        st = field_take_text("reason", message->reason, reply->reason, sizeof reply->reason, err);
    if (st == ST_OK)
        st = field_take_text("reference_version", message->reference_version,
                             reply->reference_version, sizeof reply->reference_version, err);
    if (st == ST_OK)
        st = take_statistics(message->statistics, &reply->statistics, arena, err);
    if (st != ST_OK)
        return st;
    reply->super_batch = message->super_batch;
    reply->learner_step = message->learner_step;
    reply->staleness = message->staleness;
    reply->status = (enum curator_status)message->status;
    reply->n_selected = message->n_selected;
    reply->n_marginals = message->n_marginals;
    if (reply->status != CURATOR_REJECTED)
        st = take_batch(frames, reply, err);
    return st == ST_OK ? curator_end_frames(frames, err) : st;
}

enum status curator_reply_decode(struct bytes_view message, const struct bytes_view *frames,
                                 size_t n_frames, struct curator_reply *reply, struct arena *arena,
                                 struct error *err)
{
    Reinforce__Curator__SelectReply *read =
        reinforce__curator__select_reply__unpack(NULL, message.len, message.data);
    struct curator_frames left = {.at = frames, .n = n_frames};
    enum status st;

    *reply = (struct curator_reply){0};
    if (read == NULL)
        return error_set(err, ST_CORRUPT, "not a reply: %zu bytes", message.len);
    st = take_reply(read, &left, reply, arena, err);
    reinforce__curator__select_reply__free_unpacked(read, NULL);
    return st;
}
