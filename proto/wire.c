#include "proto/wire.h"

#include "proto/field.h"
#include "proto/version.h"
#include "proto/wire.pb-c.h"

/* protobuf-c takes char * for strings that it only reads, and its initialisers do the same */
#pragma GCC diagnostic ignored "-Wcast-qual"

static enum status pack(const Reinforce__Wire__Envelope *envelope, struct byte_buf *out,
                        struct error *err)
{
    size_t size = reinforce__wire__envelope__get_packed_size(envelope);
    uint8_t *to;
    enum status st = byte_buf_extend(out, size, &to, err);

    if (st == ST_OK)
        (void)reinforce__wire__envelope__pack(envelope, to);
    return st;
}

void wire_hello(struct wire_message *message, const char *worker, int64_t job, const char *digest)
{
    memset(message, 0, sizeof *message);
    message->kind = WIRE_HELLO;
    message->u.hello.protocol = WIRE_PROTOCOL;
    message->u.hello.job = job;
    (void)snprintf(message->u.hello.worker, sizeof message->u.hello.worker, "%s", worker);
    (void)snprintf(message->u.hello.version, sizeof message->u.hello.version, "%s",
                   REINFORCE_VERSION);
    (void)snprintf(message->u.hello.config_digest, sizeof message->u.hello.config_digest, "%s",
                   digest);
}

uint32_t wire_protocol_agree(uint32_t theirs)
{
    if (theirs == 0 || theirs > WIRE_PROTOCOL + 1u || theirs + 1 < WIRE_PROTOCOL)
        return 0;
    return MIN(theirs, (uint32_t)WIRE_PROTOCOL);
}

enum status wire_encode(const struct wire_message *m, struct byte_buf *out, struct error *err)
{
    Reinforce__Wire__Envelope envelope = REINFORCE__WIRE__ENVELOPE__INIT;
    Reinforce__Wire__Hello hello = REINFORCE__WIRE__HELLO__INIT;
    Reinforce__Wire__Welcome welcome = REINFORCE__WIRE__WELCOME__INIT;
    Reinforce__Wire__Refused refused = REINFORCE__WIRE__REFUSED__INIT;
    Reinforce__Wire__JobRequest job_request = REINFORCE__WIRE__JOB_REQUEST__INIT;
    Reinforce__Wire__JobOffer offer = REINFORCE__WIRE__JOB_OFFER__INIT;
    Reinforce__Wire__LeaseRequest request = REINFORCE__WIRE__LEASE_REQUEST__INIT;
    Reinforce__Wire__LeaseGrant grant = REINFORCE__WIRE__LEASE_GRANT__INIT;
    Reinforce__Wire__Position next = REINFORCE__WIRE__POSITION__INIT;
    Reinforce__Wire__NoWork no_work = REINFORCE__WIRE__NO_WORK__INIT;
    Reinforce__Wire__Heartbeat beat = REINFORCE__WIRE__HEARTBEAT__INIT;
    Reinforce__Wire__HeartbeatReply reply = REINFORCE__WIRE__HEARTBEAT_REPLY__INIT;
    Reinforce__Wire__LeaseResult result = REINFORCE__WIRE__LEASE_RESULT__INIT;
    Reinforce__Wire__WhoAreYou who = REINFORCE__WIRE__WHO_ARE_YOU__INIT;
    Reinforce__Wire__ResultTaken taken = REINFORCE__WIRE__RESULT_TAKEN__INIT;

    envelope.body_case = (Reinforce__Wire__Envelope__BodyCase)m->kind;
    switch (m->kind) {
    case WIRE_HELLO:
        hello.protocol = m->u.hello.protocol;
        hello.worker = (char *)m->u.hello.worker;
        hello.config_digest = (char *)m->u.hello.config_digest;
        hello.job = m->u.hello.job;
        hello.version = (char *)m->u.hello.version;
        envelope.hello = &hello;
        break;
    case WIRE_WELCOME:
        welcome.protocol = m->u.welcome.protocol;
        welcome.job = m->u.welcome.job;
        envelope.welcome = &welcome;
        break;
    case WIRE_REFUSED:
        refused.reason = (char *)m->u.refused.reason;
        envelope.refused = &refused;
        break;
    case WIRE_JOB_REQUEST:
        job_request.number = m->u.job_request.number;
        job_request.n_except = m->u.job_request.n_except;
        job_request.except = (int64_t *)m->u.job_request.except;
        envelope.job_request = &job_request;
        break;
    case WIRE_JOB_OFFER:
        offer.number = m->u.job_offer.number;
        offer.job = m->u.job_offer.job;
        offer.name = (char *)m->u.job_offer.name;
        offer.config_digest = (char *)m->u.job_offer.config_digest;
        offer.catalog_url = (char *)m->u.job_offer.catalog_url;
        envelope.job_offer = &offer;
        break;
    case WIRE_LEASE_REQUEST:
        request.number = m->u.lease_request.number;
        request.job = m->u.lease_request.job;
        envelope.lease_request = &request;
        break;
    case WIRE_LEASE_GRANT:
        grant.number = m->u.lease_grant.number;
        grant.job = m->u.lease_grant.job;
        grant.shard = m->u.lease_grant.shard;
        grant.epoch = m->u.lease_grant.epoch;
        grant.expires_ms = m->u.lease_grant.expires_ms;
        grant.input_key = (char *)m->u.lease_grant.input_key;
        grant.input_format = (char *)m->u.lease_grant.input_format;
        grant.input_source = (uint32_t)m->u.lease_grant.input_source;
        grant.input_begin = m->u.lease_grant.input_begin;
        grant.input_end = m->u.lease_grant.input_end;
        next.offset = m->u.lease_grant.next_offset;
        next.index = m->u.lease_grant.next_index;
        grant.next = &next;
        grant.n_parts = m->u.lease_grant.n_parts;
        grant.attempts = m->u.lease_grant.attempts;
        grant.input_samples = m->u.lease_grant.input_samples;
        grant.suspect_end = m->u.lease_grant.suspect_end;
        grant.probe_samples = m->u.lease_grant.probe_samples;
        grant.is_poison = m->u.lease_grant.is_poison;
        grant.end_index = m->u.lease_grant.end_index;
        envelope.lease_grant = &grant;
        break;
    case WIRE_NO_WORK:
        no_work.number = m->u.no_work.number;
        no_work.wait_ms = m->u.no_work.wait_ms;
        no_work.finished = m->u.no_work.finished;
        envelope.no_work = &no_work;
        break;
    case WIRE_HEARTBEAT:
        beat.job = m->u.heartbeat.job;
        beat.shard = m->u.heartbeat.shard;
        beat.epoch = m->u.heartbeat.epoch;
        beat.samples_done = m->u.heartbeat.samples_done;
        beat.samples_quarantined = m->u.heartbeat.samples_quarantined;
        beat.samples_left = m->u.heartbeat.samples_left;
        envelope.heartbeat = &beat;
        break;
    case WIRE_HEARTBEAT_REPLY:
        reply.shard = m->u.heartbeat_reply.shard;
        reply.epoch = m->u.heartbeat_reply.epoch;
        reply.lost = m->u.heartbeat_reply.lost;
        reply.stop = m->u.heartbeat_reply.stop;
        reply.split = m->u.heartbeat_reply.split;
        envelope.heartbeat_reply = &reply;
        break;
    case WIRE_LEASE_RESULT:
        result.job = m->u.lease_result.job;
        result.shard = m->u.lease_result.shard;
        result.epoch = m->u.lease_result.epoch;
        result.outcome = (Reinforce__Wire__Outcome)m->u.lease_result.outcome;
        result.why = (char *)m->u.lease_result.why;
        result.samples_done = m->u.lease_result.samples_done;
        result.samples_quarantined = m->u.lease_result.samples_quarantined;
        envelope.lease_result = &result;
        break;
    case WIRE_WHO_ARE_YOU:
        envelope.who_are_you = &who;
        break;
    case WIRE_RESULT_TAKEN:
        taken.job = m->u.result_taken.job;
        taken.shard = m->u.result_taken.shard;
        taken.epoch = m->u.result_taken.epoch;
        envelope.result_taken = &taken;
        break;
    }
    return pack(&envelope, out, err);
}

static enum status take_range(const char *field, int64_t value, int64_t min, int64_t max,
                              struct error *err)
{
    if (value < min || value > max)
        return error_set(err, ST_CORRUPT, "%s is %lld, outside %lld..%lld", field, (long long)value,
                         (long long)min, (long long)max);
    return ST_OK;
}

static enum status take_grant(const Reinforce__Wire__LeaseGrant *grant, struct wire_message *out,
                              struct error *err)
{
    enum status st = field_take_text("input_key", grant->input_key, out->u.lease_grant.input_key,
                                     sizeof out->u.lease_grant.input_key, err);

    if (st == ST_OK)
        st = field_take_text("input_format", grant->input_format, out->u.lease_grant.input_format,
                             sizeof out->u.lease_grant.input_format, err);
    if (st == ST_OK)
        st = take_range("input_source", grant->input_source, WIRE_SOURCE_INPUT, WIRE_SOURCE_LIST,
                        err);
    if (st == ST_OK)
        st = take_range("shard", grant->shard, -INT64_MAX, INT64_MAX, err);
    if (st == ST_OK)
        st = take_range("epoch", grant->epoch, 1, INT64_MAX, err);
    if (st == ST_OK && grant->next == NULL)
        st = error_set(err, ST_CORRUPT, "next is missing");
    if (st == ST_OK && grant->suspect_end > grant->next->index && grant->probe_samples == 0)
        st = error_set(err, ST_CORRUPT, "probe_samples is 0 where samples are suspect");
    if (st == ST_OK && (grant->suspect_end > INT64_MAX || grant->probe_samples > INT64_MAX))
        st = error_set(err, ST_CORRUPT, "suspect_end or probe_samples is out of range");
    if (st == ST_OK && grant->end_index > INT64_MAX)
        st = error_set(err, ST_CORRUPT, "end_index is out of range");
    if (st != ST_OK)
        return st;
    out->u.lease_grant.number = grant->number;
    out->u.lease_grant.job = grant->job;
    out->u.lease_grant.shard = grant->shard;
    out->u.lease_grant.epoch = grant->epoch;
    out->u.lease_grant.expires_ms = grant->expires_ms;
    out->u.lease_grant.input_source = (enum wire_source)grant->input_source;
    out->u.lease_grant.input_begin = grant->input_begin;
    out->u.lease_grant.input_end = grant->input_end;
    out->u.lease_grant.next_offset = grant->next->offset;
    out->u.lease_grant.next_index = grant->next->index;
    out->u.lease_grant.n_parts = grant->n_parts;
    out->u.lease_grant.attempts = grant->attempts;
    out->u.lease_grant.input_samples = grant->input_samples;
    out->u.lease_grant.suspect_end = grant->suspect_end;
    out->u.lease_grant.probe_samples = grant->probe_samples;
    out->u.lease_grant.is_poison = grant->is_poison;
    out->u.lease_grant.end_index = grant->end_index;
    return ST_OK;
}

static enum status take_job_request(const Reinforce__Wire__JobRequest *request,
                                    struct wire_message *out, struct error *err)
{
    enum status st = take_range("except", (int64_t)MIN(request->n_except, (size_t)UINT32_MAX), 0,
                                WIRE_MAX_EXCEPT, err);

    if (st != ST_OK)
        return st;
    out->u.job_request.number = request->number;
    out->u.job_request.n_except = (uint32_t)request->n_except;
    for (size_t i = 0; i < request->n_except; i++)
        out->u.job_request.except[i] = request->except[i];
    return ST_OK;
}

static enum status take_offer(const Reinforce__Wire__JobOffer *offer, struct wire_message *out,
                              struct error *err)
{
    enum status st = field_take_text("name", offer->name, out->u.job_offer.name,
                                     sizeof out->u.job_offer.name, err);

    if (st == ST_OK)
        st = field_take_text("config_digest", offer->config_digest, out->u.job_offer.config_digest,
                             sizeof out->u.job_offer.config_digest, err);
    if (st == ST_OK)
        st = field_take_text("catalog_url", offer->catalog_url, out->u.job_offer.catalog_url,
                             sizeof out->u.job_offer.catalog_url, err);
    out->u.job_offer.number = offer->number;
    out->u.job_offer.job = offer->job;
    return st;
}

static enum status take(const Reinforce__Wire__Envelope *envelope, struct wire_message *out,
                        struct error *err)
{
    enum status st;

    switch (envelope->body_case) {
    case REINFORCE__WIRE__ENVELOPE__BODY_HELLO:
        out->kind = WIRE_HELLO;
        out->u.hello.protocol = envelope->hello->protocol;
        out->u.hello.job = envelope->hello->job;
        st = field_take_text("worker", envelope->hello->worker, out->u.hello.worker,
                             sizeof out->u.hello.worker, err);
        if (st == ST_OK)
            st =
                field_take_text("config_digest", envelope->hello->config_digest,
                                out->u.hello.config_digest, sizeof out->u.hello.config_digest, err);
        if (st == ST_OK)
            st = field_take_text("version", envelope->hello->version, out->u.hello.version,
                                 sizeof out->u.hello.version, err);
        return st;
    case REINFORCE__WIRE__ENVELOPE__BODY_WELCOME:
        out->kind = WIRE_WELCOME;
        out->u.welcome.protocol = envelope->welcome->protocol;
        out->u.welcome.job = envelope->welcome->job;
        return ST_OK;
    case REINFORCE__WIRE__ENVELOPE__BODY_REFUSED:
        out->kind = WIRE_REFUSED;
        return field_take_text("reason", envelope->refused->reason, out->u.refused.reason,
                               sizeof out->u.refused.reason, err);
    case REINFORCE__WIRE__ENVELOPE__BODY_LEASE_REQUEST:
        out->kind = WIRE_LEASE_REQUEST;
        out->u.lease_request.number = envelope->lease_request->number;
        out->u.lease_request.job = envelope->lease_request->job;
        return ST_OK;
    case REINFORCE__WIRE__ENVELOPE__BODY_JOB_REQUEST:
        out->kind = WIRE_JOB_REQUEST;
        return take_job_request(envelope->job_request, out, err);
    case REINFORCE__WIRE__ENVELOPE__BODY_JOB_OFFER:
        out->kind = WIRE_JOB_OFFER;
        return take_offer(envelope->job_offer, out, err);
    case REINFORCE__WIRE__ENVELOPE__BODY_LEASE_GRANT:
        out->kind = WIRE_LEASE_GRANT;
        return take_grant(envelope->lease_grant, out, err);
    case REINFORCE__WIRE__ENVELOPE__BODY_NO_WORK:
        out->kind = WIRE_NO_WORK;
        out->u.no_work.number = envelope->no_work->number;
        out->u.no_work.wait_ms = envelope->no_work->wait_ms;
        out->u.no_work.finished = envelope->no_work->finished;
        return take_range("wait_ms", out->u.no_work.wait_ms, 0, INT64_MAX, err);
    case REINFORCE__WIRE__ENVELOPE__BODY_HEARTBEAT:
        out->kind = WIRE_HEARTBEAT;
        out->u.heartbeat.job = envelope->heartbeat->job;
        out->u.heartbeat.shard = envelope->heartbeat->shard;
        out->u.heartbeat.epoch = envelope->heartbeat->epoch;
        out->u.heartbeat.samples_done = envelope->heartbeat->samples_done;
        out->u.heartbeat.samples_quarantined = envelope->heartbeat->samples_quarantined;
        out->u.heartbeat.samples_left = envelope->heartbeat->samples_left;
        return ST_OK;
    case REINFORCE__WIRE__ENVELOPE__BODY_HEARTBEAT_REPLY:
        out->kind = WIRE_HEARTBEAT_REPLY;
        out->u.heartbeat_reply.shard = envelope->heartbeat_reply->shard;
        out->u.heartbeat_reply.epoch = envelope->heartbeat_reply->epoch;
        out->u.heartbeat_reply.lost = envelope->heartbeat_reply->lost;
        out->u.heartbeat_reply.stop = envelope->heartbeat_reply->stop;
        out->u.heartbeat_reply.split = envelope->heartbeat_reply->split;
        return ST_OK;
    case REINFORCE__WIRE__ENVELOPE__BODY_LEASE_RESULT:
        out->kind = WIRE_LEASE_RESULT;
        out->u.lease_result.job = envelope->lease_result->job;
        out->u.lease_result.shard = envelope->lease_result->shard;
        out->u.lease_result.epoch = envelope->lease_result->epoch;
        out->u.lease_result.samples_done = envelope->lease_result->samples_done;
        out->u.lease_result.samples_quarantined = envelope->lease_result->samples_quarantined;
        st = take_range("outcome", (int64_t)envelope->lease_result->outcome, WIRE_OUTCOME_DONE,
                        WIRE_OUTCOME_LOST, err);
        if (st != ST_OK)
            return st;
        out->u.lease_result.outcome = (enum wire_outcome)envelope->lease_result->outcome;
        return field_take_text("why", envelope->lease_result->why, out->u.lease_result.why,
                               sizeof out->u.lease_result.why, err);
    case REINFORCE__WIRE__ENVELOPE__BODY_WHO_ARE_YOU:
        out->kind = WIRE_WHO_ARE_YOU;
        return ST_OK;
    case REINFORCE__WIRE__ENVELOPE__BODY_RESULT_TAKEN:
        out->kind = WIRE_RESULT_TAKEN;
        out->u.result_taken.job = envelope->result_taken->job;
        out->u.result_taken.shard = envelope->result_taken->shard;
        out->u.result_taken.epoch = envelope->result_taken->epoch;
        return ST_OK;
    case REINFORCE__WIRE__ENVELOPE__BODY__NOT_SET:
    case _REINFORCE__WIRE__ENVELOPE__BODY__CASE_IS_INT_SIZE:
        break;
    }
    return error_set(err, ST_CORRUPT,
                     "message is of an unknown kind: the peer may be a newer release");
}

enum status wire_decode(struct bytes_view bytes, struct wire_message *out, struct error *err)
{
    Reinforce__Wire__Envelope *envelope =
        reinforce__wire__envelope__unpack(NULL, bytes.len, bytes.data);
    enum status st;

    memset(out, 0, sizeof *out);
    if (envelope == NULL)
        return error_set(err, ST_CORRUPT, "cannot parse a message of %zu bytes", bytes.len);
    st = take(envelope, out, err);
    reinforce__wire__envelope__free_unpacked(envelope, NULL);
    return st;
}
