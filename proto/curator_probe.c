#include "proto/curator_probe.h"

#include "proto/curator_parts.h"
#include "proto/field.h"

/* protobuf-c takes char * for strings that it only reads, and its initialisers do the same */
#pragma GCC diagnostic ignored "-Wcast-qual"

/* Any message behind the bytes that are there. */
static enum status pack(const ProtobufCMessage *message, struct byte_buf *out, struct error *err)
{
    uint8_t *to;
    enum status st = byte_buf_extend(out, protobuf_c_message_get_packed_size(message), &to, err);

    if (st == ST_OK)
        (void)protobuf_c_message_pack(message, to);
    return st;
}

static enum status check_protocol(uint32_t protocol, struct error *err)
{
    return curator_check_range("protocol", protocol, CURATOR_PROTOCOL, CURATOR_PROTOCOL, err);
}

enum status curator_probe_request_encode(const struct curator_probe_request *request,
                                         struct byte_buf *out, struct bytes_view *frames,
                                         size_t *n_frames, struct error *err)
{
    Reinforce__Curator__ProbeRequest message = REINFORCE__CURATOR__PROBE_REQUEST__INIT;
    Reinforce__Curator__Model used = REINFORCE__CURATOR__MODEL__INIT, fresh = used,
                              reference = used;

    *n_frames = 0;
    frames[(*n_frames)++] = request->ids;
    curator_give_model(&request->used, &used, &message.used, frames, n_frames);
    curator_give_model(&request->fresh, &fresh, &message.fresh, frames, n_frames);
    curator_give_model(&request->reference, &reference, &message.reference, frames, n_frames);
    message.protocol = CURATOR_PROTOCOL;
    message.job = (char *)request->job;
    message.step = request->step;
    message.learner_step = request->learner_step;
    message.n_examples = (uint32_t)request->n;
    message.n_top = (uint32_t)request->n_top;
    message.criterion = request->criterion;
    message.loss = request->loss;
    message.gain = request->gain;
    return pack(&message.base, out, err);
}

static enum status take_probe(const Reinforce__Curator__ProbeRequest *message,
                              struct curator_frames *frames, struct curator_probe_request *request,
                              struct error *err)
{
    size_t n = message->n_examples;
    enum status st = check_protocol(message->protocol, err);

    if (st == ST_OK)
        st = curator_check_range("n_examples", n, 1, CURATOR_MAX_EXAMPLES, err);
    if (st == ST_OK)
        st = curator_check_range("n_top", message->n_top, 1, n, err);
    if (st == ST_OK)
        st = field_take_text("job", message->job, request->job, sizeof request->job, err);
    if (st == ST_OK && (message->used == NULL || message->fresh == NULL))
        st = error_set(err, ST_CORRUPT, "a probe needs both learners, used and fresh");
    if (st == ST_OK)
        st = curator_take_frame(frames, "ids", n, CURATOR_ID_BYTES, &request->ids, err);
    if (st == ST_OK)
        st = curator_take_model(message->used, "the used learner's images",
                                "the used learner's texts", n, frames, &request->used, err);
    if (st == ST_OK)
        st = curator_take_model(message->fresh, "the fresh learner's images",
                                "the fresh learner's texts", n, frames, &request->fresh, err);
    if (st == ST_OK)
        st = curator_take_model(message->reference, "the reference's images",
                                "the reference's texts", n, frames, &request->reference, err);
    if (st == ST_OK)
        st = curator_end_frames(frames, err);
    request->step = message->step;
    request->learner_step = message->learner_step;
    request->n = n;
    request->n_top = message->n_top;
    request->criterion = message->criterion;
    request->loss = message->loss;
    request->gain = message->gain;
    return st;
}

enum status curator_probe_request_decode(struct bytes_view message, const struct bytes_view *frames,
                                         size_t n_frames, struct curator_probe_request *request,
                                         struct error *err)
{
    Reinforce__Curator__ProbeRequest *read =
        reinforce__curator__probe_request__unpack(NULL, message.len, message.data);
    struct curator_frames left = {.at = frames, .n = n_frames};
    enum status st;

    *request = (struct curator_probe_request){0};
    if (read == NULL)
        return error_set(err, ST_CORRUPT, "not a probe: %zu bytes", message.len);
    st = take_probe(read, &left, request, err);
    reinforce__curator__probe_request__free_unpacked(read, NULL);
    return st;
}

enum status curator_probe_reply_encode(const struct curator_probe_reply *reply,
                                       struct byte_buf *out, struct error *err)
{
    Reinforce__Curator__ProbeReply message = REINFORCE__CURATOR__PROBE_REPLY__INIT;

    message.protocol = CURATOR_PROTOCOL;
    message.job = (char *)reply->job;
    message.step = reply->step;
    message.staleness = reply->staleness;
    message.n_compared = reply->n_compared;
    message.sigma = reply->sigma;
    message.spearman = reply->spearman;
    message.overlap = reply->overlap;
    message.alarm = reply->alarm;
    return pack(&message.base, out, err);
}

enum status curator_status_request_encode(struct byte_buf *out, struct error *err)
{
    Reinforce__Curator__StatusRequest message = REINFORCE__CURATOR__STATUS_REQUEST__INIT;

    message.protocol = CURATOR_PROTOCOL;
    return pack(&message.base, out, err);
}

enum status curator_status_request_decode(struct bytes_view message, struct error *err)
{
    Reinforce__Curator__StatusRequest *read =
        reinforce__curator__status_request__unpack(NULL, message.len, message.data);
    enum status st;

    if (read == NULL)
        return error_set(err, ST_CORRUPT, "not a question for the status: %zu bytes", message.len);
    st = check_protocol(read->protocol, err);
    reinforce__curator__status_request__free_unpacked(read, NULL);
    return st;
}

enum status curator_status_reply_encode(const struct curator_status_reply *reply,
                                        struct byte_buf *out, struct error *err)
{
    Reinforce__Curator__StatusReply message = REINFORCE__CURATOR__STATUS_REPLY__INIT;

    message.protocol = CURATOR_PROTOCOL;
    message.version = (char *)reply->version;
    message.reference_version = (char *)reply->reference_version;
    message.uptime_ms = reply->uptime_ms;
    message.n_references = reply->n_references;
    message.n_ok = reply->n_ok;
    message.n_partial = reply->n_partial;
    message.n_fallback_deadline = reply->n_fallback_deadline;
    message.n_fallback_reference = reply->n_fallback_reference;
    message.n_fallback_busy = reply->n_fallback_busy;
    message.n_rejected = reply->n_rejected;
    message.n_repeated = reply->n_repeated;
    message.n_refused = reply->n_refused;
    message.n_probes = reply->n_probes;
    message.n_alarms = reply->n_alarms;
    message.n_logged = reply->n_logged;
    message.n_not_logged = reply->n_not_logged;
    message.n_running = reply->n_running;
    message.n_waiting = reply->n_waiting;
    message.select_ms = reply->select_ms;
    message.n_examples = reply->n_examples;
    message.n_rows_found = reply->n_rows_found;
    message.n_rows_unknown = reply->n_rows_unknown;
    message.n_rows_computed = reply->n_rows_computed;
    message.n_rows_bad = reply->n_rows_bad;
    message.n_rows_failed = reply->n_rows_failed;
    message.n_rows_wanted = reply->n_rows_wanted;
    message.n_teacher_deaths = reply->n_teacher_deaths;
    message.compute_ms = reply->compute_ms;
    message.n_rows_missing = reply->n_rows_missing;
    return pack(&message.base, out, err);
}

enum status curator_status_reply_decode(struct bytes_view message,
                                        struct curator_status_reply *reply, struct error *err)
{
    Reinforce__Curator__StatusReply *read =
        reinforce__curator__status_reply__unpack(NULL, message.len, message.data);
    enum status st;

    *reply = (struct curator_status_reply){0};
    if (read == NULL)
        return error_set(err, ST_CORRUPT, "not a status: %zu bytes", message.len);
    reply->uptime_ms = read->uptime_ms;
    reply->n_references = read->n_references;
    reply->n_ok = read->n_ok;
    reply->n_partial = read->n_partial;
    reply->n_fallback_deadline = read->n_fallback_deadline;
    reply->n_fallback_reference = read->n_fallback_reference;
    reply->n_fallback_busy = read->n_fallback_busy;
    reply->n_rejected = read->n_rejected;
    reply->n_repeated = read->n_repeated;
    reply->n_refused = read->n_refused;
    reply->n_probes = read->n_probes;
    reply->n_alarms = read->n_alarms;
    reply->n_logged = read->n_logged;
    reply->n_not_logged = read->n_not_logged;
    reply->n_running = read->n_running;
    reply->n_waiting = read->n_waiting;
    reply->select_ms = read->select_ms;
    reply->n_examples = read->n_examples;
    reply->n_rows_found = read->n_rows_found;
    reply->n_rows_unknown = read->n_rows_unknown;
    reply->n_rows_computed = read->n_rows_computed;
    reply->n_rows_bad = read->n_rows_bad;
    reply->n_rows_failed = read->n_rows_failed;
    reply->n_rows_wanted = read->n_rows_wanted;
    reply->n_teacher_deaths = read->n_teacher_deaths;
    reply->compute_ms = read->compute_ms;
    reply->n_rows_missing = read->n_rows_missing;
    st = check_protocol(read->protocol, err);
    if (st == ST_OK)
        st = field_take_text("version", read->version, reply->version, sizeof reply->version, err);
    if (st == ST_OK)
        st = field_take_text("reference_version", read->reference_version, reply->reference_version,
                             sizeof reply->reference_version, err);
    reinforce__curator__status_reply__free_unpacked(read, NULL);
    return st;
}

enum status curator_refused_encode(const char *reason, struct byte_buf *out, struct error *err)
{
    Reinforce__Curator__Refused message = REINFORCE__CURATOR__REFUSED__INIT;

    message.protocol = CURATOR_PROTOCOL;
    message.reason = (char *)reason;
    return pack(&message.base, out, err);
}
