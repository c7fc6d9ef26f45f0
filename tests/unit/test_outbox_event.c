/* What events say, in both forms, and that their ids depend on nothing else. */
#include "coordinator/outbox_event.h"
#include "proto/event.pb-c.h"
#include "tests/support/test.h"

#include <math.h>

static const struct catalog_caption captions[] = {
    {.column = "syn_text", .index = 0, .text = {(const uint8_t *)"a \"cat\"", 7}, .score = -1.5},
    {.column = "text", .index = 0, .text = {(const uint8_t *)"bad \xff", 5}, .score = NAN}};
static const struct catalog_score scores[] = {{.teacher = "a", .column = "syn_text", .value = 0.25},
                                              {.teacher = "b", .column = "syn_text", .value = NAN},
                                              {.teacher = "a", .column = "text", .value = 0.1}};

static struct catalog_outbox_row shard_row(void)
{
    return (struct catalog_outbox_row){.seq = 9,
                                       .shard = 12,
                                       .committed_ms = 1700000000000,
                                       .output = {.shard = 12,
                                                  .object_key = "00000012.tar",
                                                  .bytes = 77,
                                                  .sha256 = "abc",
                                                  .n_done = 4,
                                                  .n_quarantined = 1,
                                                  .n_filtered = 2}};
}

static struct catalog_outbox_row sample_row(enum catalog_sample_state state)
{
    struct catalog_outbox_row row = shard_row();

    row.is_sample = true;
    row.sample = (struct catalog_sample){
        .uid = bytes_of_string("u/1"), .index = 3, .state = state, .width = 5, .height = 6};
    if (state == CATALOG_SAMPLE_DONE) {
        row.sample.captions = captions;
        row.sample.n_captions = ARRAY_LEN(captions);
        row.sample.scores = scores;
        row.sample.n_scores = ARRAY_LEN(scores);
    } else {
        row.sample.stage = "decode";
        row.sample.reason = "undecodable_image";
        row.sample.detail = "at \xfe";
    }
    return row;
}

struct fixture {
    struct arena arena;
    struct byte_buf text;
    struct event event;
};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof f);
    arena_init(&f.arena, 1 << 20);
    byte_buf_init(&f.text, 1 << 20);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    byte_buf_release(&f->text);
    arena_release(&f->arena);
    return 0;
}

static void make(struct fixture *f, const struct catalog_outbox_row *row)
{
    const struct outbox_source source = {.job = "j", .output = "s3://b/out"};
    struct error err = {0};

    assert_ok(outbox_event_make(row, &source, &f->arena, &f->event, &err));
    assert_int_equal(strlen(f->event.id), EVENT_ID_LEN);
}

/* Without the id, which stands in front. */
static void assert_json(struct fixture *f, const struct catalog_outbox_row *row, const char *want)
{
    struct error err = {0};
    const char *text, *after;

    make(f, row);
    byte_buf_reset(&f->text);
    assert_ok(outbox_event_write_json(&f->event, &f->text, &err));
    assert_ok(byte_buf_c_str(&f->text, &text, &err));
    after = strstr(text, ", \"kind\"");
    assert_non_null(after);
    assert_memory_equal(text, "{\"event_version\": 1, \"id\": \"", 28);
    assert_string_equal(after, want);
}

static void every_kind_is_written_as_the_page_has_it(void **state)
{
    struct fixture *f = *state;
    struct catalog_outbox_row row = shard_row();

    assert_json(f, &row,
                ", \"kind\": \"shard_done\", \"job\": \"j\", \"shard\": 12, \"time_ms\": "
                "1700000000000, \"object\": \"s3://b/out/00000012.tar\", \"sha256\": \"abc\", "
                "\"bytes\": 77, \"samples_done\": 4, \"samples_quarantined\": 1, "
                "\"samples_filtered\": 2}");
    row = sample_row(CATALOG_SAMPLE_DONE);
    assert_json(f, &row,
                ", \"kind\": \"sample_done\", \"job\": \"j\", \"shard\": 12, \"time_ms\": "
                "1700000000000, \"object\": \"s3://b/out/00000012.tar\", \"sha256\": \"abc\", "
                "\"uid\": \"u/1\", \"index\": 3, \"width\": 5, \"height\": 6, \"captions\": "
                "[{\"column\": \"syn_text\", \"index\": 0, \"text\": \"a \\\"cat\\\"\", "
                "\"log_probability\": -1.5, \"scores\": {\"a\": 0.25}}, {\"column\": \"text\", "
                "\"index\": 0, \"text\": \"bad \\ufffd\", \"scores\": {\"a\": 0.1}}]}");
    row = sample_row(CATALOG_SAMPLE_QUARANTINED);
    assert_json(f, &row,
                ", \"kind\": \"sample_quarantined\", \"job\": \"j\", \"shard\": 12, \"time_ms\": "
                "1700000000000, \"uid\": \"u/1\", \"index\": 3, \"width\": 5, \"height\": 6, "
                "\"stage\": \"decode\", \"reason\": \"undecodable_image\", \"detail\": \"at "
                "\\ufffd\"}");
    row = sample_row(CATALOG_SAMPLE_FILTERED);
    row.sample.stage = "curate";
    row.sample.reason = "curate.keep[0]";
    row.sample.detail = "width 5 is below 8";
    assert_json(
        f, &row,
        ", \"kind\": \"sample_filtered\", \"job\": \"j\", \"shard\": 12, \"time_ms\": "
        "1700000000000, \"uid\": \"u/1\", \"index\": 3, \"width\": 5, \"height\": 6, "
        "\"stage\": \"curate\", \"reason\": \"curate.keep[0]\", \"detail\": \"width 5 is below "
        "8\"}");
    row = sample_row(CATALOG_SAMPLE_RETRIED); /* its end is told by another row */
    row.sample.reason = row.sample.stage = row.sample.detail = "x";
    make(f, &row);
    assert_int_equal(f->event.kind, EVENT_SAMPLE_QUARANTINED);
}

static void protobuf_says_the_same(void **state)
{
    struct fixture *f = *state;
    struct catalog_outbox_row row = sample_row(CATALOG_SAMPLE_DONE);
    Reinforce__Events__Event *message;
    struct error err = {0};

    make(f, &row);
    assert_ok(event_encode(&f->event, &f->arena, &f->text, &err));
    message = reinforce__events__event__unpack(NULL, f->text.len, f->text.data);
    assert_non_null(message);
    assert_int_equal(message->version, 1);
    assert_int_equal(message->id.len, EVENT_ID_LEN);
    assert_memory_equal(message->id.data, f->event.id, EVENT_ID_LEN);
    assert_int_equal(message->kind, REINFORCE__EVENTS__KIND__SAMPLE_DONE);
    assert_int_equal(message->shard, 12);
    assert_int_equal(message->time_ms, 1700000000000);
    assert_memory_equal(message->object.data, "s3://b/out/00000012.tar", message->object.len);
    assert_memory_equal(message->uid.data, "u/1", message->uid.len);
    assert_int_equal(message->index, 3);
    assert_int_equal(message->height, 6);
    assert_int_equal(message->n_captions, 2);
    assert_int_equal(message->captions[0]->known_case,
                     REINFORCE__EVENTS__CAPTION__KNOWN_LOG_PROBABILITY);
    assert_true(message->captions[0]->log_probability == -1.5);
    assert_int_equal(message->captions[0]->n_scores, 1);
    assert_true(message->captions[0]->scores[0]->cosine == 0.25);
    assert_int_equal(message->captions[1]->known_case, 0);
    assert_memory_equal(message->captions[1]->text.data, "bad \xef\xbf\xbd",
                        message->captions[1]->text.len);
    assert_int_equal(message->reason.len, 0);
    reinforce__events__event__free_unpacked(message, NULL);

    row = sample_row(CATALOG_SAMPLE_QUARANTINED);
    make(f, &row);
    byte_buf_reset(&f->text);
    assert_ok(event_encode(&f->event, &f->arena, &f->text, &err));
    message = reinforce__events__event__unpack(NULL, f->text.len, f->text.data);
    assert_non_null(message);
    assert_int_equal(message->kind, REINFORCE__EVENTS__KIND__SAMPLE_QUARANTINED);
    assert_memory_equal(message->reason.data, "undecodable_image", message->reason.len);
    assert_int_equal(message->object.len, 0);
    reinforce__events__event__free_unpacked(message, NULL);

    row = shard_row();
    make(f, &row);
    byte_buf_reset(&f->text);
    assert_ok(event_encode(&f->event, &f->arena, &f->text, &err));
    message = reinforce__events__event__unpack(NULL, f->text.len, f->text.data);
    assert_non_null(message);
    assert_int_equal(message->samples_quarantined, 1);
    assert_int_equal(message->samples_filtered, 2);
    reinforce__events__event__free_unpacked(message, NULL);
}

static void an_id_is_of_what_is_told_and_of_nothing_else(void **state)
{
    struct fixture *f = *state;
    char first[EVENT_ID_LEN + 1], id[EVENT_ID_LEN + 1];
    struct catalog_outbox_row row = sample_row(CATALOG_SAMPLE_DONE);

    make(f, &row);
    memcpy(first, f->event.id, sizeof first);
    assert_string_equal(first, "f0310097410c5e0ea7b5e6e67cb280f1"); /* it outlives releases */
    row.seq = 1000;
    row.committed_ms += 5;
    row.output.n_done++;
    make(f, &row);
    assert_string_equal(f->event.id, first);
    row.output.sha256[0] = 'x'; /* the shard was made again, and is another */
    make(f, &row);
    assert_string_not_equal(f->event.id, first);
    row = sample_row(CATALOG_SAMPLE_DONE);
    row.sample.index++; /* a second sample of that uid */
    make(f, &row);
    assert_string_not_equal(f->event.id, first);
    row = sample_row(CATALOG_SAMPLE_QUARANTINED);
    make(f, &row);
    assert_string_not_equal(f->event.id, first);
    memcpy(id, f->event.id, sizeof id);
    row.output.sha256[0] = 'x'; /* it is not in there */
    make(f, &row);
    assert_string_equal(f->event.id, id);
}

static void keys_are_the_uid_or_the_shard(void **state)
{
    struct fixture *f = *state;
    struct catalog_outbox_row row = shard_row();
    struct bytes_view key;
    struct error err = {0};

    make(f, &row);
    assert_ok(outbox_event_key(&f->event, &f->arena, &key, &err));
    assert_true(bytes_equal(key, bytes_of_string("j/00000012")));
    row = sample_row(CATALOG_SAMPLE_DONE);
    make(f, &row);
    assert_ok(outbox_event_key(&f->event, &f->arena, &key, &err));
    assert_true(bytes_equal(key, bytes_of_string("u/1")));
    row = sample_row(CATALOG_SAMPLE_QUARANTINED);
    row.sample.uid = bytes_of_string("");
    make(f, &row);
    assert_ok(outbox_event_key(&f->event, &f->arena, &key, &err));
    assert_true(bytes_equal(key, bytes_of_string("j/00000012/3")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_is_written_as_the_page_has_it, setup, teardown),
        cmocka_unit_test_setup_teardown(protobuf_says_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(an_id_is_of_what_is_told_and_of_nothing_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(keys_are_the_uid_or_the_shard, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
