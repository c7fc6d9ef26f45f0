#include "proto/wire.h"
#include "tests/support/test.h"

static void fill(struct wire_message *m, enum wire_kind kind)
{
    memset(m, 0, sizeof *m);
    m->kind = kind;
    switch (kind) {
    case WIRE_HELLO:
        m->u.hello.protocol = WIRE_PROTOCOL;
        memcpy(m->u.hello.worker, "host:1:0", 9);
        memcpy(m->u.hello.config_digest, "abc", 4);
        m->u.hello.job = 7;
        memcpy(m->u.hello.version, "1.2", 4);
        break;
    case WIRE_WELCOME:
        m->u.welcome.protocol = WIRE_PROTOCOL;
        m->u.welcome.job = 7;
        break;
    case WIRE_REFUSED:
        memcpy(m->u.refused.reason, "no", 3);
        break;
    case WIRE_JOB_REQUEST:
        m->u.job_request.number = 5;
        m->u.job_request.n_except = 2;
        m->u.job_request.except[0] = 4;
        m->u.job_request.except[1] = INT64_MAX;
        break;
    case WIRE_JOB_OFFER:
        m->u.job_offer.number = 5;
        m->u.job_offer.job = 7;
        memcpy(m->u.job_offer.name, "cc12m", 6);
        memcpy(m->u.job_offer.config_digest, "abc", 4);
        memcpy(m->u.job_offer.catalog_url, "sqlite:/c", 10);
        break;
    case WIRE_LEASE_REQUEST:
        m->u.lease_request.number = UINT64_MAX;
        m->u.lease_request.job = 7;
        break;
    case WIRE_LEASE_GRANT:
        m->u.lease_grant.number = 6;
        m->u.lease_grant.job = 7;
        m->u.lease_grant.shard = -3;
        m->u.lease_grant.epoch = 2;
        m->u.lease_grant.expires_ms = 1234567890123;
        memcpy(m->u.lease_grant.input_key, "a/b.tar", 8);
        memcpy(m->u.lease_grant.input_format, "webdataset", 11);
        m->u.lease_grant.input_source = WIRE_SOURCE_PREVIOUS;
        m->u.lease_grant.input_begin = 1;
        m->u.lease_grant.input_end = UINT64_MAX;
        m->u.lease_grant.next_offset = 512;
        m->u.lease_grant.next_index = 5;
        m->u.lease_grant.n_parts = 1;
        m->u.lease_grant.attempts = 1;
        m->u.lease_grant.input_samples = 9;
        m->u.lease_grant.suspect_end = 7;
        m->u.lease_grant.probe_samples = 1;
        m->u.lease_grant.is_poison = true;
        m->u.lease_grant.end_index = 11;
        break;
    case WIRE_NO_WORK:
        m->u.no_work.number = 6;
        m->u.no_work.wait_ms = 100;
        m->u.no_work.finished = true;
        break;
    case WIRE_HEARTBEAT:
        m->u.heartbeat.job = 7;
        m->u.heartbeat.shard = 3;
        m->u.heartbeat.epoch = 2;
        m->u.heartbeat.samples_done = 10;
        m->u.heartbeat.samples_quarantined = 1;
        m->u.heartbeat.samples_left = UINT64_MAX;
        break;
    case WIRE_HEARTBEAT_REPLY:
        m->u.heartbeat_reply.shard = 3;
        m->u.heartbeat_reply.epoch = 2;
        m->u.heartbeat_reply.lost = true;
        m->u.heartbeat_reply.stop = true;
        m->u.heartbeat_reply.split = true;
        break;
    case WIRE_LEASE_RESULT:
        m->u.lease_result.job = 7;
        m->u.lease_result.shard = 3;
        m->u.lease_result.epoch = 2;
        m->u.lease_result.outcome = WIRE_OUTCOME_FAILED;
        memcpy(m->u.lease_result.why, "disk full", 10);
        m->u.lease_result.samples_done = 20;
        m->u.lease_result.samples_quarantined = 4;
        break;
    case WIRE_WHO_ARE_YOU:
        break;
    case WIRE_RESULT_TAKEN:
        m->u.result_taken.job = 7;
        m->u.result_taken.shard = 3;
        m->u.result_taken.epoch = 2;
        break;
    }
}

static void every_message_survives_encoding(void **state)
{
    struct wire_message in, out;
    struct byte_buf buf;
    struct error err = {0};

    (void)state;
    byte_buf_init(&buf, 1 << 16);
    for (int kind = WIRE_HELLO; kind <= WIRE_RESULT_TAKEN; kind++) {
        fill(&in, (enum wire_kind)kind);
        byte_buf_reset(&buf);
        assert_ok(wire_encode(&in, &buf, &err));
        assert_ok(wire_decode(byte_buf_view(&buf), &out, &err));
        assert_memory_equal(&in, &out, sizeof in);
    }
    byte_buf_release(&buf);
}

static void values_out_of_range_are_refused_by_field(void **state)
{
    struct wire_message in, out;
    struct byte_buf buf;
    struct error err = {0};

    (void)state;
    byte_buf_init(&buf, 1 << 16);
    fill(&in, WIRE_LEASE_GRANT);
    in.u.lease_grant.epoch = 0;
    assert_ok(wire_encode(&in, &buf, &err));
    assert_status(wire_decode(byte_buf_view(&buf), &out, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "epoch"));
    byte_buf_reset(&buf);
    fill(&in, WIRE_LEASE_RESULT);
    in.u.lease_result.outcome = (enum wire_outcome)9;
    assert_ok(wire_encode(&in, &buf, &err));
    assert_status(wire_decode(byte_buf_view(&buf), &out, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "outcome"));
    /* a JobRequest with one `except` more than there may be */
    assert_status(wire_decode(bytes_of_string("\x52\x13\x12\x11\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"),
                              &out, &err),
                  ST_CORRUPT);
    assert_non_null(strstr(err.message, "except"));
    assert_status(wire_decode(bytes_of_string("\xff\xff\xff"), &out, &err), ST_CORRUPT);
    assert_status(wire_decode(bytes_view_of(NULL, 0), &out, &err), ST_CORRUPT);
    byte_buf_release(&buf);
}

static void peers_one_release_apart_speak_the_older_protocol(void **state)
{
    (void)state;
    assert_int_equal(wire_protocol_agree(WIRE_PROTOCOL), WIRE_PROTOCOL);
    assert_int_equal(wire_protocol_agree(WIRE_PROTOCOL + 1), WIRE_PROTOCOL);
    assert_int_equal(wire_protocol_agree(WIRE_PROTOCOL + 2), 0);
    assert_int_equal(wire_protocol_agree(0), 0); /* says none */
    assert_int_equal(wire_protocol_agree(UINT32_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives_encoding),
        cmocka_unit_test(values_out_of_range_are_refused_by_field),
        cmocka_unit_test(peers_one_release_apart_speak_the_older_protocol),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
