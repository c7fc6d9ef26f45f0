/* Requests and replies of the curator, message and frames. */
#include "proto/curator_probe.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 20, B = 3, D = 4 };

static const uint8_t rows[256] = {1, 2, 3};

static struct curator_request whole_request(void)
{
    static const uint32_t quotas[] = {1, 1};
    struct curator_request request = {
        .job = "b16",
        .super_batch = UINT64_MAX,
        .step = 7,
        .learner_version = 3,
        .learner_step = 6,
        .seed = 1ull << 63,
        .B = B,
        .n_selected = 2,
        .n_chunks = 1,
        .criterion = 1,
        .loss = 1,
        .deadline_ms = 1500,
        .gain = 1.25,
        .uniform_share = 0.5,
        .normalise_by_count = true,
        .batch_scores = true,
        .all_marginals = true,
        .learner = {D, CURATOR_BF16, 110, -16.5f, bytes_view_of(rows, B * D * 2),
                    bytes_view_of(rows + 1, B * D * 2)},
        .reference = {D + 1, CURATOR_F32, 60, -12, bytes_view_of(rows + 2, B * (D + 1) * 4),
                      bytes_view_of(rows + 3, B * (D + 1) * 4)},
        .n_strata = 2,
        .quotas = quotas,
        .ids = bytes_view_of(rows + 4, B * CURATOR_ID_BYTES),
        .strata = bytes_view_of(rows + 5, B * 2),
    };

    return request;
}

static void assert_view(struct bytes_view got, struct bytes_view want)
{
    assert_ptr_equal(got.data, want.data);
    assert_int_equal(got.len, want.len);
}

struct sent {
    struct byte_buf message;
    struct bytes_view frames[CURATOR_MAX_FRAMES + 1];
    size_t n_frames;
    struct arena arena;
};

static void send_request(struct sent *sent, const struct curator_request *request)
{
    struct error err = {0};

    byte_buf_init(&sent->message, 1 << 16);
    arena_init(&sent->arena, ARENA_BYTES);
    assert_ok(curator_request_encode(request, &sent->message, sent->frames, &sent->n_frames, &err));
}

static void release(struct sent *sent)
{
    byte_buf_release(&sent->message);
    arena_release(&sent->arena);
}

static void a_request_arrives_as_it_was_sent(void **state)
{
    struct curator_request sent_request = whole_request(), got;
    struct error err = {0};
    struct sent sent;

    (void)state;
    for (int models = 0; models < 3; models++) {
        struct curator_request want = sent_request;

        if (models == 1)
            want.learner = (struct curator_model){0};
        if (models == 2) {
            want.reference = (struct curator_model){0};
            want.n_strata = 0;
            want.quotas = NULL;
            want.strata = (struct bytes_view){0};
        }
        send_request(&sent, &want);
        assert_int_equal(sent.n_frames, models == 0 ? 6 : models == 1 ? 4 : 3);
        assert_ok(curator_request_decode(byte_buf_view(&sent.message), sent.frames, sent.n_frames,
                                         &got, &sent.arena, &err));
        assert_view(got.ids, want.ids);
        assert_view(got.strata, want.strata);
        assert_view(got.learner.text, want.learner.text);
        assert_view(got.reference.image, want.reference.image);
        assert_int_equal(got.n_strata, want.n_strata);
        for (size_t s = 0; s < want.n_strata; s++)
            assert_int_equal(got.quotas[s], want.quotas[s]);
        got.quotas = want.quotas;
        assert_memory_equal(got.job, want.job, sizeof got.job);
        assert_true(got.super_batch == want.super_batch && got.step == want.step &&
                    got.learner_version == want.learner_version &&
                    got.learner_step == want.learner_step && got.seed == want.seed);
        assert_true(got.B == want.B && got.n_selected == want.n_selected &&
                    got.n_chunks == want.n_chunks && got.criterion == want.criterion &&
                    got.loss == want.loss && got.deadline_ms == want.deadline_ms);
        assert_true(got.gain == want.gain && got.uniform_share == want.uniform_share);
        assert_true(got.normalise_by_count && !got.top_k && got.batch_scores && got.all_marginals);
        assert_true(got.learner.D == want.learner.D && got.learner.dtype == want.learner.dtype &&
                    got.learner.scale == want.learner.scale &&
                    got.learner.bias == want.learner.bias);
        release(&sent);
    }
}

/* CURATE 16, on the wire */
static void frames_of_wrong_lengths_are_named(void **state)
{
    struct curator_request request = whole_request(), got;
    struct error err = {0};
    struct sent sent;

    (void)state;
    request.learner.image.len += 2;
    send_request(&sent, &request);
    assert_status(curator_request_decode(byte_buf_view(&sent.message), sent.frames, sent.n_frames,
                                         &got, &sent.arena, &err),
                  ST_CORRUPT);
    assert_string_equal(err.message, "the learner's images have 26 bytes, expected 3 rows of 8");
    sent.frames[1].len -= 2;
    assert_status(curator_request_decode(byte_buf_view(&sent.message), sent.frames,
                                         sent.n_frames - 1, &got, &sent.arena, &err),
                  ST_CORRUPT);
    assert_string_equal(err.message, "the frame with strata is missing");
    sent.frames[sent.n_frames] = request.ids;
    assert_status(curator_request_decode(byte_buf_view(&sent.message), sent.frames,
                                         sent.n_frames + 1, &got, &sent.arena, &err),
                  ST_CORRUPT);
    assert_string_equal(err.message, "7 frames follow the message, expected 6");
    release(&sent);
}

static void numbers_out_of_range_are_named(void **state)
{
    struct curator_request requests[3] = {whole_request(), whole_request(), whole_request()};
    static const char *const words[] = {"n_examples", "dtype", "dimensions"};
    struct error err = {0};

    (void)state;
    requests[0].B = CURATOR_MAX_EXAMPLES + 1;
    requests[1].learner.dtype = 4;
    requests[2].learner.D = CURATOR_MAX_DIMENSIONS + 1;
    for (size_t c = 0; c < ARRAY_LEN(requests); c++) {
        struct curator_request got;
        struct sent sent;

        send_request(&sent, &requests[c]);
        assert_status(curator_request_decode(byte_buf_view(&sent.message), sent.frames,
                                             sent.n_frames, &got, &sent.arena, &err),
                      ST_CORRUPT);
        if (strstr(err.message, words[c]) == NULL && c != 0)
            fail_msg("case %zu: %s", c, err.message);
        release(&sent);
    }
    assert_status(curator_request_decode(bytes_of_string("\xff\xff"), NULL, 0, &requests[0],
                                         &(struct arena){0}, &err),
                  ST_CORRUPT);
}

static void a_reply_arrives_as_it_was_sent(void **state)
{
    static const double before[] = {0.25, 0.75}, after[] = {0.5, 0.5};
    struct curator_reply want = {
        .job = "b16",
        .super_batch = 9,
        .learner_step = 6,
        .staleness = 1,
        .status = CURATOR_OK_PARTIAL,
        .reference_version = "so400m",
        .n_selected = 2,
        .n_marginals = B,
        .statistics = {.n_usable = 2,
                       .n_invalid = 1,
                       .n_without_reference = 1,
                       .select_ms = 12,
                       .marginal_quantiles = {-1, 0, 0.5, 1, 2},
                       .effective_sample_size = 1.5,
                       .batch_score = NAN,
                       .n_strata = 2,
                       .share_before = before,
                       .share_after = after},
        .index = bytes_view_of(rows, 8),
        .chunk = bytes_view_of(rows + 8, 4),
        .marginal = bytes_view_of(rows + 12, 8),
        .conditional = bytes_view_of(rows + 20, 8),
        .marginals = bytes_view_of(rows + 28, 12),
    };
    struct error err = {0};
    struct curator_reply got;
    struct sent sent;

    (void)state;
    for (int rejected = 0; rejected < 2; rejected++) {
        byte_buf_init(&sent.message, 1 << 16);
        arena_init(&sent.arena, ARENA_BYTES);
        if (rejected) {
            want.status = CURATOR_REJECTED;
            (void)snprintf(want.reason, sizeof want.reason, "3 chunks of 2 examples");
        }
        assert_ok(curator_reply_encode(&want, &sent.message, sent.frames, &sent.n_frames, &err));
        assert_int_equal(sent.n_frames, rejected ? 0 : 5);
        assert_ok(curator_reply_decode(byte_buf_view(&sent.message), sent.frames, sent.n_frames,
                                       &got, &sent.arena, &err));
        assert_int_equal(got.status, want.status);
        assert_string_equal(got.reason, want.reason);
        assert_string_equal(got.reference_version, "so400m");
        assert_int_equal(got.staleness, 1);
        assert_true(isnan(got.statistics.batch_score));
        assert_true(got.statistics.marginal_quantiles[4] == 2);
        assert_true(got.statistics.share_before[1] == 0.75 && got.statistics.share_after[0] == 0.5);
        if (!rejected) {
            assert_view(got.index, want.index);
            assert_view(got.chunk, want.chunk);
            assert_view(got.conditional, want.conditional);
            assert_view(got.marginals, want.marginals);
        }
        release(&sent);
    }
}

static void a_probe_and_a_status_arrive_as_they_were_sent(void **state)
{
    const struct curator_request from = whole_request();
    struct curator_probe_request probe = {.job = "b16",
                                          .step = 9,
                                          .learner_step = 7,
                                          .n = B,
                                          .n_top = 2,
                                          .criterion = 1,
                                          .loss = 2,
                                          .gain = 1.5,
                                          .used = from.learner,
                                          .fresh = from.learner,
                                          .reference = from.reference,
                                          .ids = from.ids};
    struct curator_probe_request got;
    struct curator_status_reply status = {.version = "0.1.0", .n_ok = 7, .select_ms = UINT64_MAX},
                                heard;
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    struct byte_buf message;
    struct error err = {0};
    size_t n;

    (void)state;
    byte_buf_init(&message, 1 << 12);
    assert_ok(curator_probe_request_encode(&probe, &message, frames, &n, &err));
    assert_int_equal(n, 7);
    assert_ok(curator_probe_request_decode(byte_buf_view(&message), frames, n, &got, &err));
    assert_string_equal(got.job, "b16");
    assert_int_equal(got.step, 9);
    assert_int_equal(got.learner_step, 7);
    assert_int_equal(got.n_top, 2);
    assert_int_equal(got.loss, 2);
    assert_true(got.gain == 1.5);
    assert_view(got.fresh.text, from.learner.text);
    assert_view(got.reference.image, from.reference.image);
    assert_status(curator_probe_request_decode(byte_buf_view(&message), frames, n - 1, &got, &err),
                  ST_CORRUPT);
    byte_buf_reset(&message);
    assert_ok(curator_status_reply_encode(&status, &message, &err));
    assert_ok(curator_status_reply_decode(byte_buf_view(&message), &heard, &err));
    assert_string_equal(heard.version, "0.1.0");
    assert_int_equal(heard.n_ok, 7);
    assert_true(heard.select_ms == UINT64_MAX);
    byte_buf_release(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_arrives_as_it_was_sent),
        cmocka_unit_test(frames_of_wrong_lengths_are_named),
        cmocka_unit_test(numbers_out_of_range_are_named),
        cmocka_unit_test(a_reply_arrives_as_it_was_sent),
        cmocka_unit_test(a_probe_and_a_status_arrive_as_they_were_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
