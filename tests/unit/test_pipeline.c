#include "reinforce/base/clock.h"
#include "tests/support/flaky_store.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

enum { B = 8 }; /* images to a captioner's call, and samples to a part */

static const char output_key[] = "00000000.tar";

static const struct record_embedding *embedding(const struct record *record, const char *name)
{
    const struct record_embedding *found = record_find_embedding(record, name);

    if (found == NULL)
        fail_msg("%.*s has no %s", (int)record->uid.len, (const char *)record->uid.data, name);
    return found;
}

/* Row r of an embedding as float32, [dim]. */
static void row_of(const struct record_embedding *emb, size_t r, float *row)
{
    if (emb->dtype == RECORD_F32)
        memcpy(row, (const float *)emb->data + r * emb->dim, emb->dim * sizeof *row);
    else
        record_f32_from_bf16((const uint16_t *)emb->data + r * emb->dim, emb->dim, row);
}

static bool uid_is(const struct record *record, const char *uid)
{
    return record->uid.len == strlen(uid) && memcmp(record->uid.data, uid, record->uid.len) == 0;
}

static void assert_absent(const struct record *records, size_t n, const char *uid)
{
    for (size_t i = 0; i < n; i++)
        assert_false(uid_is(&records[i], uid));
}

/* DR 24, 29: rows of every array, whatever the number of samples is to the batch. */
static void every_record_has_a_row_per_view_and_text(void **state)
{
    static const int counts[] = {1, B - 1, B, B + 1, 3 * B + 1};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct record records[SMALL_RUN_MAX_SAMPLES];
        struct small_run run;
        size_t n;

        small_run_init(&run, NULL);
        small_run_put_samples(&run, "s", counts[c]);
        small_run_plan(&run);
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        n = small_run_records(&run, output_key, records);
        assert_int_equal(n, counts[c]);
        for (size_t i = 0; i < n; i++) {
            const struct record_column *column = record_find_column(&records[i], "syn_text");

            assert_non_null(column);
            assert_int_equal(column->n_texts, 2); /* N */
            for (size_t t = 0; t < 2; t++)
                assert_true(column->texts[t].len > 0 && column->texts[t].data[0] != ' ');
            assert_int_equal(records[i].n_views, 3); /* A */
            assert_int_equal(embedding(&records[i], "image_emb")->rows, 3);
            assert_int_equal(embedding(&records[i], "text_emb")->rows, 1); /* G */
            assert_int_equal(embedding(&records[i], "syn_text_emb")->rows, 2);
            assert_int_equal(records[i].n_embeddings, 3);
            for (size_t e = 0; e < 3; e++)
                assert_int_equal(records[i].embeddings[e].dim, 14); /* D */
        }
        assert_int_equal(atomic_load(&run.stats.samples_done), counts[c]);
        small_run_release(&run);
    }
}

static void several_real_captions_have_a_row_each(void **state) /* DR 29 */
{
    static const char *const sets[] = {"output.format=jsonl", NULL}; /* a tar holds one */
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;

    (void)state;
    small_run_init(&run, sets);
    small_run_put_image(&run, "img/a.png", 1);
    small_run_put_text(&run, "x.jsonl",
                       "{\"uid\": \"a\", \"image_key\": \"img/a.png\", \"text\": [\"one\", "
                       "\"two\", \"three\"]}\n");
    small_run_plan(&run);
    small_run_work(&run, 1, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_records(&run, "00000000.jsonl", records), 1);
    assert_int_equal(embedding(&records[0], "text_emb")->rows, 3);
    small_run_release(&run);
}

/* An empty caption has no place in a list of N: its sample is quarantined. */
static void an_empty_caption_costs_its_sample(void **state) /* DR 24 */
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_sample bad;
    struct small_run run;
    size_t n;

    (void)state;
    small_run_init(&run, NULL);
    run.captioner->fault = FAKE_EMPTY;
    run.captioner->trap = "s-004";
    small_run_put_samples(&run, "s", 10);
    small_run_plan(&run);
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    n = small_run_records(&run, output_key, records);
    assert_int_equal(n, 9);
    assert_absent(records, n, "s-004");
    bad = small_run_sample(&run, "s-004");
    assert_string_equal(bad.reason, "caption_failed");
    assert_string_equal(bad.stage, "caption");
    assert_non_null(strstr(bad.detail, "caption 2 of 2 is empty"));
    assert_non_null(strstr(bad.detail, "captioner \"c0\""));
    small_run_release(&run);
}

static void nul_is_dropped_from_captions(void **state)
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;

    (void)state;
    small_run_init(&run, NULL);
    run.captioner->fault = FAKE_NUL;
    run.captioner->trap = "s-000";
    small_run_put_samples(&run, "s", 1);
    small_run_plan(&run);
    small_run_work(&run, 1, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_records(&run, output_key, records), 1);
    assert_true(bytes_equal(records[0].columns[0].texts[1], bytes_of_string("acat")));
    small_run_release(&run);
}

static void assert_field(const struct record *record, const char *field, const char *want)
{
    struct byte_buf text;
    struct error err = {0};

    byte_buf_init(&text, 1024);
    assert_ok(json_write(json_object_get(record->meta, field), &text, &err));
    if (!bytes_equal(byte_buf_view(&text), bytes_of_string(want)))
        fail_msg("%s is %.*s", field, (int)text.len, (const char *)text.data);
    byte_buf_release(&text);
}

static void places_in_captions_are_kept_as_such(void **state)
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    size_t n;

    (void)state;
    small_run_init(&run, NULL);
    run.captioner->fault = FAKE_PLACES;
    run.captioner->trap = "s-001";
    small_run_put_samples(&run, "s", 3);
    small_run_plan(&run);
    small_run_work(&run, 1, WIRE_OUTCOME_DONE);
    n = small_run_records(&run, output_key, records);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) {
        if (uid_is(&records[i], "s-001"))
            assert_field(&records[i], "places",
                         "{\"syn_text\": [[], [{\"box\": [10, 20, 500, 1023], \"label\": "
                         "\"cat\"}]]}");
        else
            assert_null(json_object_get(records[i].meta, "places"));
    }
    small_run_release(&run);
}

/* PALI 35: per caption, in the place of what another captioner left in the input */
static void a_record_holds_what_is_known_of_its_captions(void **state)
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;

    (void)state;
    small_run_init(&run, NULL);
    run.captioner->facts = true;
    small_run_put_image(&run, "img/a.png", 1);
    small_run_put_text(&run, "x.jsonl",
                       "{\"uid\": \"a\", \"image_key\": \"img/a.png\", \"text\": \"one\", "
                       "\"captioning\": {\"syn_text\": [{\"tokens\": [1]}], \"other\": []}, "
                       "\"places\": {\"syn_text\": [[{\"box\": [0, 0, 1, 1]}]]}}\n");
    small_run_plan(&run);
    small_run_work(&run, 1, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_records(&run, output_key, records), 1);
    assert_field(&records[0], "captioning",
                 "{\"syn_text\": [{\"sum_log_probability\": -2.0, \"stop\": \"end\", "
                 "\"tokens\": [7, 0]}, {\"sum_log_probability\": -4.0, \"stop\": \"length\", "
                 "\"tokens\": [7, 1]}], \"other\": []}");
    assert_null(json_object_get(records[0].meta, "places"));
    small_run_release(&run);
}

static void a_captioner_that_refuses_one_image_costs_that_sample(void **state) /* DR 35 */
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    size_t n;

    (void)state;
    small_run_init(&run, NULL);
    run.captioner->fault = FAKE_REFUSES;
    run.captioner->trap = "s-002";
    small_run_put_samples(&run, "s", 2 * B);
    small_run_plan(&run);
    small_run_work(&run, 1, WIRE_OUTCOME_DONE);
    n = small_run_records(&run, output_key, records);
    assert_int_equal(n, 2 * B - 1);
    assert_absent(records, n, "s-002");
    assert_string_equal(small_run_sample(&run, "s-002").reason, "caption_failed");
    small_run_release(&run);
}

static double norm_of(const float *row, size_t first, size_t last)
{
    double sum = 0;

    for (size_t d = first; d < last; d++)
        sum += (double)row[d] * (double)row[d];
    return sqrt(sum);
}

/* DR 30, 31: the slices of both stored types are unit vectors, and point the same way. */
static void slices_are_unit_vectors_in_both_types(void **state)
{
    static const char *const as_bfloat16[] = {"output.embedding_dtype=bfloat16", NULL};
    static const char *const names[] = {"image_emb", "text_emb", "syn_text_emb"};
    struct record records[SMALL_RUN_MAX_SAMPLES], rounded[SMALL_RUN_MAX_SAMPLES];
    struct small_run exact, brief;
    size_t n;

    (void)state;
    small_run_init(&exact, NULL);
    small_run_init(&brief, as_bfloat16);
    small_run_put_samples(&exact, "s", 9);
    small_run_put_samples(&brief, "s", 9);
    small_run_plan(&exact);
    small_run_plan(&brief);
    small_run_work(&exact, 1, WIRE_OUTCOME_DONE);
    small_run_work(&brief, 2, WIRE_OUTCOME_DONE);
    n = small_run_records(&exact, output_key, records);
    assert_int_equal(n, 9);
    assert_int_equal(small_run_records(&brief, output_key, rounded), n);
    for (size_t i = 0; i < n; i++)
        for (size_t e = 0; e < ARRAY_LEN(names); e++) {
            const struct record_embedding *a = embedding(&records[i], names[e]),
                                          *b = embedding(&rounded[i], names[e]);

            assert_int_equal(a->dtype, RECORD_F32);
            assert_int_equal(b->dtype, RECORD_BF16);
            assert_int_equal(a->rows, b->rows);
            for (size_t r = 0; r < a->rows; r++) {
                float x[14], y[14];

                row_of(a, r, x);
                row_of(b, r, y);
                for (size_t t = 0; t < 2; t++) {
                    size_t first = exact.engine->teacher_column[t],
                           last = exact.engine->teacher_column[t + 1];
                    double dot = 0, p = norm_of(x, first, last), q = norm_of(y, first, last);

                    for (size_t d = first; d < last; d++)
                        dot += (double)x[d] * (double)y[d];
                    assert_true(fabs(p - 1) <= 1e-3 && fabs(q - 1) <= 5e-3);
                    assert_true(dot / (p * q) >= 0.999);
                }
            }
        }
    small_run_release(&brief);
    small_run_release(&exact);
}

/* DR 30, 35: one teacher answers one text, or one view, with what is no embedding. */
static void a_bad_embedding_costs_its_sample(void **state)
{
    static const struct {
        const char *name;
        enum fake_fault fault;
        bool view;
        const char *reason, *detail;
    } cases[] = {
        {"NaN for a text", FAKE_NAN, false, "bad_embedding", "not finite"},
        {"NaN for a view", FAKE_NAN, true, "bad_embedding", "not finite"},
        {"length 2", FAKE_LONG, false, "bad_embedding", "length 2"},
        {"refusal", FAKE_REFUSES, true, "embed_failed", "refuses"},
    };
    static const char *const sets[] = {"views.rand_augment=false", NULL};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct record records[SMALL_RUN_MAX_SAMPLES];
        struct small_sample bad;
        struct small_run run;
        size_t n;

        small_run_init(&run, sets);
        run.teachers[1]->fault = cases[c].fault;
        if (cases[c].view)
            run.teachers[1]->trap_grey = 77;
        else
            run.teachers[1]->trap = "caption of s-005";
        small_run_put_samples(&run, "s", 9);
        if (cases[c].view)
            small_run_put_grey(&run, "img/s-005.png", 50, 40, 77);
        small_run_plan(&run);
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        n = small_run_records(&run, output_key, records);
        if (n != 8)
            fail_msg("%s: %zu records", cases[c].name, n);
        assert_absent(records, n, "s-005");
        bad = small_run_sample(&run, "s-005");
        assert_string_equal(bad.reason, cases[c].reason);
        assert_string_equal(bad.stage, "embed");
        if (strstr(bad.detail, cases[c].detail) == NULL ||
            strstr(bad.detail, "teacher \"t1\"") == NULL)
            fail_msg("%s: %s", cases[c].name, bad.detail);
        small_run_release(&run);
    }
}

/* Slice of teacher `t` in the rows of `name`, from a run with `sets`; [rows * width], in arena. */
static float *slices(struct small_run *run, const struct record *record, const char *name, size_t t,
                     size_t *bytes)
{
    const struct record_embedding *emb = embedding(record, name);
    size_t first = run->engine->teacher_column[t], last = run->engine->teacher_column[t + 1];
    struct error err = {0};
    float *out;

    *bytes = emb->rows * (last - first) * sizeof *out;
    assert_ok(arena_alloc(&run->arena, *bytes, &out, &err));
    for (size_t r = 0; r < emb->rows; r++)
        memcpy(out + r * (last - first), (const float *)emb->data + r * emb->dim + first,
               (last - first) * sizeof *out);
    return out;
}

/* DR 32, 33: teachers of other input sizes and context lengths stand side by side; each slice is
 * what that teacher gives when the job has the same view size and no other teacher. */
static void a_teacher_is_not_affected_by_the_one_before(void **state)
{
    static const char *const names[] = {"image_emb", "text_emb", "syn_text_emb"};
    static const char *const first_alone[] = {"teachers=[{name: t0, model: none}]", "views.size=32",
                                              NULL};
    struct record together[SMALL_RUN_MAX_SAMPLES], alone[SMALL_RUN_MAX_SAMPLES];
    struct small_run three, one;

    (void)state;
    small_run_init(&three, (const char *const[]){"teachers=[{name: t0, model: none}, {name: t1, "
                                                 "model: none}, {name: t2, model: none}]",
                                                 NULL});
    small_run_init(&one, first_alone);
    small_run_put_samples(&three, "s", 5);
    small_run_put_samples(&one, "s", 5);
    small_run_plan(&three);
    small_run_plan(&one);
    small_run_work(&three, 2, WIRE_OUTCOME_DONE);
    small_run_work(&one, 1, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_records(&three, output_key, together), 5);
    assert_int_equal(small_run_records(&one, output_key, alone), 5);
    for (size_t i = 0; i < 5; i++)
        for (size_t e = 0; e < ARRAY_LEN(names); e++) {
            size_t n, m;
            float *a = slices(&three, &together[i], names[e], 0, &n),
                  *b = slices(&one, &alone[i], names[e], 0, &m);

            assert_int_equal(n, m);
            assert_memory_equal(a, b, n);
        }
    /* Teacher 2 reads views of the same size as teacher 0 and longer texts: after teacher 1's
     * smaller views it still gets its own (the fake's values follow from the pixels alone). */
    for (size_t i = 0; i < 5; i++) {
        size_t n, m;
        const float *a = slices(&three, &together[i], "image_emb", 0, &n),
                    *b = slices(&three, &together[i], "image_emb", 2, &m);
        double cosine = 0, p = norm_of(a, 0, 4), q = norm_of(b, 0, 4);

        for (size_t d = 0; d < 4; d++) /* the first values come from the same numbers */
            cosine += (double)a[d] * (double)b[d] / (p * q);
        assert_true(fabs(cosine - 1) <= 1e-5);
    }
    small_run_release(&one);
    small_run_release(&three);
}

/* DR 35: ways for a sample to be bad, among good ones; the reason of each is known. */
static void bad_samples_are_named_and_left_out(void **state)
{
    static const char *const sets[] = {"image.max_side=200", "image.max_pixels=30000",
                                       "image.max_encoded=64KiB", NULL};
    static const struct {
        const char *uid, *reason;
    } bad[] = {
        {"corrupt", "undecodable_image"},   {"empty", "empty_image"},
        {"truncated", "undecodable_image"}, {"header", "undecodable_image"},
        {"large", "image_over_limit"},      {"textless", "missing_caption"},
        {"null", "missing_caption"},        {"gone", "missing_image"},
    };
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct bytes_view png;
    struct error err = {0};
    struct small_run run;
    size_t n, n_good = 0;

    (void)state;
    small_run_init(&run, sets);
    small_run_put_image(&run, "img/good.png", 3);
    assert_ok(object_store_get(run.input, "img/good.png", 1 << 20, &run.arena, &png, &err));
    small_run_put_text(&run, "img/corrupt.png", "this is no picture");
    small_run_put_text(&run, "img/empty.png", "");
    small_run_put(&run, "img/truncated.png", bytes_view_of(png.data, png.len - 40));
    small_run_put(&run, "img/header.png", bytes_view_of(png.data, 20));
    small_run_put_grey(&run, "img/large.png", 201, 20, 9);
    small_run_put_text(
        &run, "x.jsonl",
        "{\"uid\": \"good-0\", \"image_key\": \"img/good.png\", \"text\": \"first\"}\n"
        "{\"uid\": \"corrupt\", \"image_key\": \"img/corrupt.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"empty\", \"image_key\": \"img/empty.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"truncated\", \"image_key\": \"img/truncated.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"header\", \"image_key\": \"img/header.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"large\", \"image_key\": \"img/large.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"textless\", \"image_key\": \"img/good.png\"}\n"
        "{\"uid\": \"null\", \"image_key\": \"img/good.png\", \"text\": null}\n"
        "{\"uid\": \"gone\", \"image_key\": \"img/gone.png\", \"text\": \"t\"}\n"
        "this is no JSON\n"
        "{\"uid\": \"good-0\", \"image_key\": \"img/good.png\", \"text\": \"again\"}\n"
        "{\"uid\": \"good-1\", \"image_key\": \"img/good.png\", \"text\": \"last\"}\n");
    small_run_plan(&run);
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct small_sample sample = small_run_sample(&run, bad[i].uid);

        if (sample.reason == NULL || strcmp(sample.reason, bad[i].reason) != 0)
            fail_msg("%s: reason is %s (%s), expected %s", bad[i].uid,
                     sample.reason != NULL ? sample.reason : "none",
                     sample.detail != NULL ? sample.detail : "", bad[i].reason);
        assert_true(strlen(sample.detail) > 0);
    }
    n = small_run_samples(&run, samples);
    assert_int_equal(n, 12); /* each line has exactly one state */
    for (size_t i = 0; i < n; i++)
        n_good += samples[i].reason == NULL;
    assert_int_equal(n_good, 2);
    n = small_run_records(&run, output_key, records);
    assert_int_equal(n, 2);
    assert_true(uid_is(&records[0], "good-0") && uid_is(&records[1], "good-1"));
    small_run_release(&run);
}

static void a_shard_of_bad_samples_ends_as_an_empty_output(void **state) /* DR 35 */
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    char key[64];

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "s", 2 * B + 1);
    for (int i = 0; i < 2 * B + 1; i++) {
        (void)snprintf(key, sizeof key, "img/s-%03d.png", i);
        small_run_put_text(&run, key, "no picture");
    }
    small_run_plan(&run);
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_samples(&run, samples), 2 * B + 1);
    assert_int_equal(small_run_records(&run, output_key, records), 0);
    assert_int_equal(atomic_load(&run.stats.samples_quarantined), 2 * B + 1);
    assert_int_equal(atomic_load(&run.captioner->n_calls), 0);
    small_run_release(&run);
}

/* A peer that is away is nobody's fault: the lease fails and is tried again, committed parts stay.
 */
static void a_model_that_is_away_fails_the_lease_not_the_sample(void **state)
{
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    struct catalog_lease lease;
    int64_t wait_ms;
    struct error err = {0};
    const struct catalog_terms terms = {
        .lease_ms = 60000, .max_attempts = 3, .part_samples = B, .samples_at_work = 8};

    (void)state;
    small_run_init(&run, NULL);
    run.captioner->fault = FAKE_AWAY;
    run.captioner->trap = "s-020";
    small_run_put_samples(&run, "s", 25);
    small_run_plan(&run);
    small_run_work(&run, 2, WIRE_OUTCOME_FAILED);
    assert_int_equal(small_run_samples(&run, samples), 2 * B); /* DR 38: durable per part */
    assert_ok(catalog_lease_take(run.catalog, run.row.job, "later", clock_wall_ms() + 120000,
                                 &terms, &run.arena, &lease, &wait_ms, &err));
    assert_int_equal(lease.next_index, 2 * B);
    assert_int_equal(lease.n_parts, 2);
    assert_ok(catalog_lease_release(run.catalog, &lease, false, "", &err));
    run.captioner->trap = NULL;
    atomic_store(&run.captioner->n_calls, 0);
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_records(&run, output_key, records), 25);
    assert_true(atomic_load(&run.captioner->n_calls) <= 25 - 2 * B); /* what was done stays done */
    small_run_release(&run);
}

static enum status count_object(void *ctx, const struct object_info *info, struct error *err)
{
    (void)info;
    (void)err;
    ++*(int *)ctx;
    return ST_OK;
}

/* DR 40: what another worker has taken over meanwhile is not committed, and not left behind. */
static void a_lease_taken_over_is_lost(void **state)
{
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    struct pipeline *pipeline;
    struct shard_work *old, *new;
    struct error err = {0};
    int n_parts = 0;

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "s", 9);
    small_run_plan(&run);
    old = small_run_lease(&run, 1000);
    assert_non_null(old);
    new = small_run_lease(&run, 1000 + 120000); /* it has expired */
    assert_non_null(new);
    assert_true(new->lease.epoch > old->lease.epoch);
    pipeline = small_run_pipeline(&run, 2);
    assert_int_equal(small_run_pass(&run, pipeline, old), WIRE_OUTCOME_LOST);
    assert_int_equal(small_run_samples(&run, samples), 0);
    assert_ok(object_store_list(run.output, "_reinforce/parts/", count_object, &n_parts, &err));
    assert_int_equal(n_parts, 0);
    assert_int_equal(small_run_pass(&run, pipeline, new), WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_samples(&run, samples), 9);
    pipeline_destroy(&pipeline);
    free(old);
    free(new);
    small_run_release(&run);
}

/* DR 40: two work on a shard; whoever commits first goes on, and the other leaves nothing behind.
 */
static void a_straggler_and_its_rival_write_one_shard(void **state)
{
    const struct catalog_terms terms = {
        .lease_ms = 60000, .max_attempts = 3, .part_samples = 4, .samples_at_work = 8};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct small_run runs[2];
    struct pipeline *pipeline;
    struct shard_work *slow, *fast;
    struct error err = {0};
    int n_parts = 0;

    (void)state;
    for (size_t r = 0; r < 2; r++) {
        small_run_init(&runs[r], NULL);
        small_run_put_samples(&runs[r], "s", 9);
        small_run_plan(&runs[r]);
    }
    small_run_work(&runs[0], 2, WIRE_OUTCOME_DONE);
    slow = small_run_lease(&runs[1], 1000);
    assert_non_null(slow);
    fast = calloc(1, sizeof *fast);
    assert_non_null(fast);
    fast->grant = slow->grant;
    assert_ok(catalog_lease_rival(runs[1].catalog, slow->lease.job, slow->lease.shard,
                                  slow->lease.epoch, "fast", 1000, &terms, &runs[1].arena,
                                  &fast->lease, &err));
    pipeline = small_run_pipeline(&runs[1], 2);
    assert_int_equal(small_run_pass(&runs[1], pipeline, fast), WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_pass(&runs[1], pipeline, slow), WIRE_OUTCOME_LOST);
    small_run_assert_same(&runs[0], &runs[1], 1);
    assert_int_equal(small_run_samples(&runs[1], samples), 9);
    assert_ok(object_store_list(runs[1].output, "_reinforce/parts/", count_object, &n_parts, &err));
    assert_int_equal(n_parts, 0);
    pipeline_destroy(&pipeline);
    free(slow);
    free(fast);
    small_run_release(&runs[1]);
    small_run_release(&runs[0]);
}

/* DR 23, 40: one slot or many, one thread or many, small parts or one: the same bytes. */
static void bytes_do_not_depend_on_how_the_work_was_cut(void **state)
{
    static const char *const one[] = {"workers.queue_items=1", "workers.part_samples=1", NULL};
    static const char *const many[] = {"workers.queue_items=64", "workers.part_samples=1000", NULL};
    struct small_run runs[2];

    (void)state;
    for (size_t r = 0; r < 2; r++) {
        small_run_init(&runs[r], r == 0 ? one : many);
        runs[r].captioner->fault = FAKE_REFUSES;
        runs[r].captioner->trap = "s-011";
        small_run_put_samples(&runs[r], "s", 25);
        small_run_plan(&runs[r]);
        small_run_work(&runs[r], r == 0 ? 1 : 3, WIRE_OUTCOME_DONE);
    }
    small_run_assert_same(&runs[0], &runs[1], 1);
    small_run_release(&runs[1]);
    small_run_release(&runs[0]);
}

/* DR 40: the rest of a shard is split off, and what is left of that, too; whoever is last joins the
 * parts. */
static void bytes_do_not_depend_on_who_shared_a_shard(void **state)
{
    static const char *const sets[] = {"workers.part_samples=4", NULL};
    struct small_sample samples[2][SMALL_RUN_MAX_SAMPLES];
    struct small_run runs[2];
    struct shard_work *work[4];
    struct pipeline *pipeline;

    (void)state;
    for (size_t r = 0; r < 2; r++) {
        small_run_init(&runs[r], sets);
        runs[r].captioner->fault = FAKE_REFUSES;
        runs[r].captioner->trap = "s-011";
        small_run_put_samples(&runs[r], "s", 35);
        small_run_plan(&runs[r]);
    }
    small_run_work(&runs[0], 2, WIRE_OUTCOME_DONE);
    pipeline = small_run_pipeline(&runs[1], 2);
    for (size_t i = 0; i < ARRAY_LEN(work); i++) { /* 0..17, 17..26, 26..30, 30..35 */
        work[i] = small_run_lease(&runs[1], 1000);
        assert_non_null(work[i]);
        atomic_store(&work[i]->split, true); /* five are too few for the last */
        assert_int_equal(small_run_pass(&runs[1], pipeline, work[i]), WIRE_OUTCOME_DONE);
        assert_int_equal(work[i]->lease.shard, -(int)i);
        assert_int_equal(atomic_load(&work[i]->samples_left), 0);
    }
    assert_int_equal(atomic_load(&work[1]->end_index), 26);
    assert_int_equal(atomic_load(&work[3]->end_index), 0);
    assert_null(small_run_lease(&runs[1], 1000));
    small_run_assert_same(&runs[0], &runs[1], 1);
    assert_int_equal(small_run_samples(&runs[0], samples[0]), 35);
    assert_int_equal(small_run_samples(&runs[1], samples[1]), 35);
    for (size_t i = 0; i < 35; i++)
        assert_string_equal(samples[0][i].uid, samples[1][i].uid);
    pipeline_destroy(&pipeline);
    for (size_t i = 0; i < ARRAY_LEN(work); i++)
        free(work[i]);
    small_run_release(&runs[1]);
    small_run_release(&runs[0]);
}

/* Draining ends the shard at the next sample; what was read is committed and given back. */
static void a_drained_shard_keeps_what_was_read(void **state)
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    struct error err = {0};

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "s", 9);
    small_run_plan(&run);
    atomic_store(&run.drain, true);
    small_run_work(&run, 2, WIRE_OUTCOME_RELEASED);
    atomic_store(&run.drain, false);
    assert_ok(catalog_leases_reset(run.catalog, run.row.job, &err));
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_records(&run, output_key, records), 9);
    small_run_release(&run);
}

/* A drain stops what waits for a server: samples in front of the first that was stopped are
 * committed, the others are as if never begun, and the bytes are those of a run in peace. */
static void a_stopped_model_call_leaves_its_sample_undone(void **state)
{
    enum { N = 25, AT = 11 };
    struct small_run whole;

    (void)state;
    small_run_init(&whole, NULL);
    small_run_put_samples(&whole, "s", N);
    small_run_plan(&whole);
    small_run_work(&whole, 1, WIRE_OUTCOME_DONE);
    for (int teacher = 0; teacher < 2; teacher++) {
        struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
        struct small_run run;
        struct error err = {0};

        small_run_init(&run, NULL);
        if (teacher) {
            run.teachers[1]->fault = FAKE_STOPPED;
            run.teachers[1]->trap = "caption of s-011";
        } else {
            run.captioner->fault = FAKE_STOPPED;
            run.captioner->trap = "s-011";
        }
        small_run_put_samples(&run, "s", N);
        small_run_plan(&run);
        small_run_work(&run, 1, WIRE_OUTCOME_RELEASED); /* threads may overtake each other */
        assert_int_equal(small_run_samples(&run, samples), AT);
        for (int i = 0; i < AT; i++)
            assert_null(samples[i].reason);
        run.captioner->trap = run.teachers[1]->trap = NULL;
        assert_ok(catalog_leases_reset(run.catalog, run.row.job, &err));
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        assert_int_equal(small_run_samples(&run, samples), N);
        for (int i = 0; i < N; i++)
            assert_null(samples[i].reason);
        small_run_assert_same(&run, &whole, 1);
        small_run_release(&run);
    }
    small_run_release(&whole);
}

/* One write after another fails, or is made and not answered for: the lease is tried again, and the
 * output is that of a run without failures; each sample has one state. */
static void each_write_may_fail_once(void **state) /* DR 36, 38 */
{
    enum { N = 20, N_CHANGES = 3 + 1 + 3 }; /* parts, their join, their removal */
    struct small_run whole;

    (void)state;
    small_run_init(&whole, NULL);
    small_run_put_samples(&whole, "s", N);
    small_run_plan(&whole);
    small_run_work(&whole, 1, WIRE_OUTCOME_DONE);
    for (int i = 0; i < 2 * N_CHANGES; i++) {
        struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
        int n_tries = 0, fail_at = 1 + i / 2;
        enum wire_outcome outcome = WIRE_OUTCOME_FAILED;
        struct flaky_store flaky;
        struct small_run run;
        struct pipeline *pipeline;
        struct error err = {0};

        small_run_init(&run, NULL);
        small_run_put_samples(&run, "s", N);
        small_run_plan(&run);
        flaky_store_init(&flaky, run.output, fail_at, i % 2 == 1);
        run.context.output = &flaky.base;
        pipeline = small_run_pipeline(&run, 2);
        for (; outcome == WIRE_OUTCOME_FAILED && n_tries < 3; n_tries++) {
            struct shard_work *work = small_run_lease(&run, clock_wall_ms());

            assert_non_null(work);
            outcome = small_run_pass(&run, pipeline, work);
            if (outcome == WIRE_OUTCOME_FAILED) {
                assert_non_null(strstr(work->why, "no answer about"));
                assert_ok(catalog_lease_release(run.catalog, &work->lease, true, work->why, &err));
            }
            free(work);
        }
        pipeline_destroy(&pipeline);
        assert_int_equal(outcome, WIRE_OUTCOME_DONE);
        assert_int_equal(n_tries, fail_at <= 3 + 1 ? 2 : 1); /* what is left over is swept later */
        assert_int_equal(small_run_samples(&run, samples), N);
        small_run_assert_same(&whole, &run, 1);
        small_run_release(&run);
    }
    small_run_release(&whole);
}

/* DR 35: a tar that was cut off in the middle of a sample gives what is whole in it. */
static void a_truncated_shard_gives_its_whole_samples(void **state)
{
    static const char *const sets[] = {"input.format=webdataset", NULL};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run made, run;
    struct object_info info;
    struct bytes_view tar;
    struct error err = {0};
    size_t n;

    (void)state;
    small_run_init(&made, NULL);
    small_run_put_samples(&made, "s", 5);
    small_run_plan(&made);
    small_run_work(&made, 1, WIRE_OUTCOME_DONE);
    assert_ok(object_store_head(made.output, output_key, &info, &err));
    assert_ok(
        object_store_get(made.output, output_key, (size_t)info.bytes, &made.arena, &tar, &err));

    small_run_init(&run, sets);
    small_run_put(&run, "cut.tar", bytes_view_of(tar.data, tar.len / 2));
    small_run_plan(&run);
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    n = small_run_samples(&run, samples);
    assert_int_equal(n, 3); /* the third is where it was cut; nothing is known of what followed */
    assert_string_equal(samples[2].reason, "damaged_archive");
    assert_non_null(strstr(samples[2].detail, "archive is cut"));
    n = small_run_records(&run, output_key, records);
    assert_int_equal(n, 2);
    small_run_release(&run);
    small_run_release(&made);
}

static void a_pipeline_that_cannot_start_leaves_nothing(void **state)
{
    struct small_run run;
    struct pipeline *pipeline;
    struct error err = {0};

    (void)state;
    small_run_init(&run, NULL);
    {
        const struct pipeline_options options = {.context = &run.context,
                                                 .catalog_url = "nosuch:catalog",
                                                 .threads = 2,
                                                 .drain = &run.drain,
                                                 .idle = &run.wake};

        assert_status(pipeline_create(&options, &pipeline, &err), ST_INVALID);
        assert_null(pipeline);
    }
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_has_a_row_per_view_and_text),
        cmocka_unit_test(several_real_captions_have_a_row_each),
        cmocka_unit_test(an_empty_caption_costs_its_sample),
        cmocka_unit_test(nul_is_dropped_from_captions),
        cmocka_unit_test(places_in_captions_are_kept_as_such),
        cmocka_unit_test(a_record_holds_what_is_known_of_its_captions),
        cmocka_unit_test(a_captioner_that_refuses_one_image_costs_that_sample),
        cmocka_unit_test(slices_are_unit_vectors_in_both_types),
        cmocka_unit_test(a_bad_embedding_costs_its_sample),
        cmocka_unit_test(a_teacher_is_not_affected_by_the_one_before),
        cmocka_unit_test(bad_samples_are_named_and_left_out),
        cmocka_unit_test(a_shard_of_bad_samples_ends_as_an_empty_output),
        cmocka_unit_test(a_model_that_is_away_fails_the_lease_not_the_sample),
        cmocka_unit_test(a_lease_taken_over_is_lost),
        cmocka_unit_test(a_straggler_and_its_rival_write_one_shard),
        cmocka_unit_test(bytes_do_not_depend_on_how_the_work_was_cut),
        cmocka_unit_test(bytes_do_not_depend_on_who_shared_a_shard),
        cmocka_unit_test(a_drained_shard_keeps_what_was_read),
        cmocka_unit_test(a_stopped_model_call_leaves_its_sample_undone),
        cmocka_unit_test(each_write_may_fail_once),
        cmocka_unit_test(a_truncated_shard_gives_its_whole_samples),
        cmocka_unit_test(a_pipeline_that_cannot_start_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
