#include "reinforce/base/file.h"
#include "storage/catalog/catalog.h"
#include "tests/support/test.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LEASE_MS = 1000, MAX_ATTEMPTS = 2 };

/* A catalog in a folder of its own, with a planned job of two shards. */
struct fixture {
    char dir[64], url[96];
    struct catalog *catalog;
    struct arena arena;
    struct catalog_job job;
    const char *config;
};

static struct fixture *setup(void)
{
    static const struct catalog_shard_plan shards[] = {
        {.shard = 0, .input_key = "a.tar", .input_format = "webdataset"},
        {.shard = 1,
         .input_key = "_reinforce/plan/1.jsonl",
         .input_format = "jsonl",
         .input_is_plan = true}};
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};

    assert_non_null(f);
    memcpy(f->dir, "/tmp/test-catalog-XXXXXX", 25);
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->url, sizeof f->url, "sqlite:%s/c.sqlite", f->dir);
    arena_init(&f->arena, 1 << 24);
    assert_ok(catalog_open(f->url, &f->catalog, &err));
    assert_ok(
        catalog_job_begin(f->catalog, "j", "d1", "{}", 5, &f->arena, &f->job, &f->config, &err));
    assert_int_equal(f->job.state, CATALOG_JOB_PLANNING);
    assert_ok(catalog_plan_commit(f->catalog, f->job.job, shards, 2, &err));
    assert_status(catalog_plan_commit(f->catalog, f->job.job, shards, 2, &err), ST_CONFLICT);
    return f;
}

static void teardown(struct fixture *f)
{
    static const char *const names[] = {"c.sqlite", "c.sqlite-wal", "c.sqlite-shm"};
    char path[128];

    catalog_close(&f->catalog);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(f->dir), 0);
    arena_release(&f->arena);
    free(f);
}

static enum status take(struct fixture *f, int64_t now, struct catalog_lease *lease, int64_t *wait,
                        struct error *err)
{
    return catalog_lease_take(f->catalog, f->job.job, "w", now, LEASE_MS, MAX_ATTEMPTS, &f->arena,
                              lease, wait, err);
}

/* Commits one part of two samples, the second quarantined. */
static enum status commit(struct fixture *f, struct catalog_lease *lease, const char *uid,
                          int64_t index, struct error *err)
{
    const struct catalog_caption caption = {
        .column = "syn_text", .index = 0, .text = bytes_of_string("a cat"), .score = -1.5};
    const struct catalog_score score = {
        .teacher = "t", .column = "syn_text", .index = 0, .value = 0.25};
    const struct catalog_sample samples[] = {{.uid = bytes_of_string(uid),
                                              .index = index,
                                              .state = CATALOG_SAMPLE_DONE,
                                              .width = 3,
                                              .height = 4,
                                              .n_captions = 1,
                                              .captions = &caption,
                                              .n_scores = 1,
                                              .scores = &score},
                                             {.uid = bytes_of_string("bad"),
                                              .index = index + 1,
                                              .state = CATALOG_SAMPLE_QUARANTINED,
                                              .stage = "decode",
                                              .reason = "undecodable_image",
                                              .detail = "truncated"}};
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.bytes = 10, .sha256 = "abc"},
                                      .next_offset = 512,
                                      .next_index = (uint64_t)index + 2,
                                      .n_samples = 2,
                                      .samples = samples};

    return catalog_part_commit(f->catalog, lease, &part, err);
}

static void another_digest_is_a_conflict_and_tells_what_is_stored(void **state)
{
    struct fixture *f = setup();
    struct catalog_job job;
    const char *stored;
    struct error err = {0};

    (void)state;
    assert_status(
        catalog_job_begin(f->catalog, "j", "d2", "{\"x\": 1}", 9, &f->arena, &job, &stored, &err),
        ST_CONFLICT);
    assert_string_equal(stored, "{}");
    assert_int_equal(job.job, f->job.job);
    assert_int_equal(job.created_ms, 5);
    teardown(f);
}

static void leases_go_out_in_order_and_expire(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease a, b, c;
    struct error err = {0};
    int64_t wait;

    (void)state;
    assert_ok(take(f, 100, &a, &wait, &err));
    assert_ok(take(f, 100, &b, &wait, &err));
    assert_int_equal(a.shard, 0);
    assert_int_equal(b.shard, 1);
    assert_true(b.plan.input_is_plan);
    assert_status(take(f, 200, &c, &wait, &err), ST_NOT_FOUND);
    assert_int_equal(wait, 900);
    assert_ok(catalog_lease_renew(f->catalog, &b, 900, LEASE_MS, &err));
    assert_ok(take(f, 1100, &c, &wait, &err)); /* a's ran out, b's was renewed */
    assert_int_equal(c.shard, 0);
    assert_int_equal(c.epoch, a.epoch + 1);
    assert_int_equal(c.attempts, 1);
    assert_status(catalog_lease_renew(f->catalog, &a, 1100, LEASE_MS, &err), ST_CONFLICT);
    teardown(f);
}

static void a_fenced_worker_commits_nothing(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease old, now;
    struct catalog_progress progress;
    const struct object_written written = {.bytes = 1, .sha256 = "x"};
    struct error err = {0};
    int64_t wait;

    (void)state;
    assert_ok(take(f, 0, &old, &wait, &err));
    assert_ok(take(f, 0, &now, &wait, &err));
    assert_ok(take(f, 5000, &now, &wait, &err));
    assert_int_equal(now.shard, old.shard);
    assert_status(commit(f, &old, "cat", 0, &err), ST_CONFLICT);
    assert_status(catalog_shard_commit(f->catalog, &old, "o", &written, &err), ST_CONFLICT);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 0);
    assert_ok(commit(f, &now, "cat", 0, &err));
    teardown(f);
}

static void a_part_is_whole_or_not_there_and_repeating_it_is_harmless(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease, again;
    const struct catalog_part other = {.object_key = "p", .written = {.sha256 = "other bytes"}};
    struct catalog_part_row *rows;
    struct catalog_progress progress;
    struct error err = {0};
    size_t n;
    int64_t wait;

    (void)state;
    assert_ok(take(f, 0, &lease, &wait, &err));
    assert_ok(commit(f, &lease, "cat", 0, &err));
    assert_ok(commit(f, &lease, "cat", 0, &err)); /* the answer was lost, the call is made again */
    lease.n_parts = 1;
    assert_int_not_equal(commit(f, &lease, "dog", 1, &err),
                         ST_OK); /* sample 1 has its state already */
    assert_ok(catalog_parts(f->catalog, f->job.job, 0, &f->arena, &rows, &n, &err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].n_done, 1);
    assert_int_equal(rows[0].n_quarantined, 1);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done + progress.samples_quarantined, 2);
    assert_ok(catalog_leases_reset(f->catalog, f->job.job, &err));
    assert_ok(take(f, 0, &again, &wait, &err));
    assert_int_equal(again.next_index, 2);
    assert_int_equal(again.next_offset, 512);
    assert_int_equal(again.n_parts, 1);
    assert_int_equal(again.attempts, 0);
    again.n_parts = 0; /* there already, but by another epoch */
    assert_status(commit(f, &again, "cat", 0, &err), ST_CONFLICT);
    again.n_parts = 7; /* parts come in order */
    assert_status(commit(f, &again, "dog", 2, &err), ST_CONFLICT);
    again.n_parts = 1;
    assert_ok(commit(f, &again, "dog", 2, &err));
    assert_status(catalog_part_commit(f->catalog, &again, &other, &err), ST_CONFLICT);
    teardown(f);
}

static void a_shard_that_keeps_failing_is_given_up(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct error err = {0};
    int64_t wait;

    (void)state;
    for (int i = 0; i < 2 * MAX_ATTEMPTS; i++) {
        assert_ok(take(f, 0, &lease, &wait, &err));
        assert_ok(catalog_lease_release(f->catalog, &lease, true, "no", &err));
    }
    assert_status(take(f, 0, &lease, &wait, &err), ST_NOT_FOUND);
    assert_int_equal(wait, -1);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_failed, 2);
    assert_ok(catalog_leases_reset(f->catalog, f->job.job, &err));
    assert_ok(take(f, 0, &lease, &wait, &err));
    teardown(f);
}

static enum status see_sample(void *ctx, int64_t shard, const struct catalog_sample *sample,
                              struct error *err)
{
    int *n = ctx;

    (void)err;
    assert_int_equal(shard, 0);
    assert_int_equal(sample->index, 0);
    assert_int_equal(sample->n_captions, 1);
    assert_true(bytes_equal(sample->captions[0].text, bytes_of_string("a cat")));
    assert_true(sample->captions[0].score == -1.5);
    assert_int_equal(sample->n_scores, 1);
    assert_string_equal(sample->scores[0].teacher, "t");
    assert_true(sample->scores[0].value == 0.25);
    (*n)++;
    return ST_OK;
}

static enum status see_reason(void *ctx, const char *reason, const char *stage, int64_t n,
                              struct error *err)
{
    (void)err;
    assert_string_equal(reason, "undecodable_image");
    assert_string_equal(stage, "decode");
    *(int64_t *)ctx = n;
    return ST_OK;
}

static void finish_shard(struct fixture *f, const char *uid)
{
    const struct object_written written = {.bytes = 7, .sha256 = "s"};
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    assert_ok(take(f, 0, &lease, &wait, &err));
    assert_ok(commit(f, &lease, uid, 0, &err));
    assert_ok(catalog_shard_commit(f->catalog, &lease, uid, &written, &err));
}

static void a_finished_job_can_be_read_and_extended(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait, n_reasons = 0;
    int n_seen = 0;

    (void)state;
    finish_shard(f, "cat");
    finish_shard(f, "dog");
    assert_status(catalog_job_extend(f->catalog, f->job.job, "d2", "{}", "webdataset", &err),
                  ST_CONFLICT);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_ok(catalog_sample_find(f->catalog, f->job.job, bytes_of_string("cat"), see_sample,
                                  &n_seen, &err));
    assert_int_equal(n_seen, 1);
    assert_status(catalog_sample_find(f->catalog, f->job.job, bytes_of_string("cow"), see_sample,
                                      &n_seen, &err),
                  ST_NOT_FOUND);
    assert_ok(catalog_reasons(f->catalog, f->job.job, see_reason, &n_reasons, &err));
    assert_int_equal(n_reasons, 2);

    assert_ok(catalog_job_extend(f->catalog, f->job.job, "d2", "{}", "webdataset", &err));
    assert_ok(take(f, 0, &lease, &wait, &err));
    assert_true(lease.plan.input_is_previous);
    assert_string_equal(lease.plan.input_key, "cat");
    assert_int_equal(lease.plan.input_samples, 1);
    assert_int_equal(lease.n_parts, 0);
    teardown(f);
}

static void a_file_that_is_no_catalog_is_refused_by_name(void **state)
{
    struct fixture *f = setup();
    struct catalog *other;
    char path[128], url[160];
    struct error err = {0};

    (void)state;
    (void)snprintf(path, sizeof path, "%s/text", f->dir);
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    assert_ok(file_write_atomic(
        path, bytes_of_string("this is not a database, but long enough to be read as one"), &err));
    assert_status(catalog_open(url, &other, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, path));
    assert_status(catalog_open("oracle:x", &other, &err), ST_INVALID);
    assert_int_equal(unlink(path), 0);
    teardown(f);
}

static void a_lease_that_runs_out_is_a_try_like_any_other(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease, other;
    struct catalog_progress progress;
    struct error err = {0};
    int64_t wait, now = 0;

    (void)state;
    assert_ok(take(f, now, &lease, &wait, &err));
    assert_ok(take(f, now, &other, &wait, &err));
    for (int i = 1; i < MAX_ATTEMPTS; i++) {
        now += LEASE_MS;
        assert_ok(catalog_lease_renew(f->catalog, &other, now, LEASE_MS, &err));
        assert_ok(take(f, now, &lease, &wait, &err));
        assert_int_equal(lease.shard, 0);
        assert_int_equal(lease.attempts, i);
    }
    now += LEASE_MS;
    assert_ok(catalog_lease_renew(f->catalog, &other, now, LEASE_MS, &err));
    assert_status(take(f, now, &lease, &wait, &err), ST_NOT_FOUND);
    assert_int_equal(wait, LEASE_MS);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_failed, 1);
    assert_int_equal(progress.shards_leased, 1);
    teardown(f);
}

static void handing_a_shard_back_unharmed_costs_no_try(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    (void)state;
    for (int i = 0; i < 3 * MAX_ATTEMPTS; i++) {
        assert_ok(take(f, 0, &lease, &wait, &err));
        assert_int_equal(lease.shard, 0);
        assert_int_equal(lease.epoch, i + 1);
        assert_int_equal(lease.attempts, 0);
        assert_ok(catalog_lease_release(f->catalog, &lease, false, NULL, &err));
        assert_status(catalog_lease_release(f->catalog, &lease, false, NULL, &err), ST_CONFLICT);
    }
    teardown(f);
}

static void a_planned_job_is_not_planned_again_whatever_the_plan(void **state)
{
    static const struct catalog_shard_plan third = {
        .shard = 2, .input_key = "c.tar", .input_format = "webdataset"};
    struct fixture *f = setup();
    struct catalog_progress progress;
    struct error err = {0};

    (void)state;
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_status(catalog_plan_commit(f->catalog, f->job.job, &third, 1, &err), ST_CONFLICT);
    assert_status(catalog_plan_commit(f->catalog, f->job.job, NULL, 0, &err), ST_CONFLICT);
    assert_status(catalog_plan_commit(f->catalog, f->job.job + 1, &third, 1, &err), ST_CONFLICT);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_total, 2);
    assert_ok(catalog_job_find(f->catalog, "j", &f->arena, &f->job, &f->config, &err));
    assert_int_equal(f->job.state, CATALOG_JOB_DONE);
    assert_status(catalog_job_find(f->catalog, "k", &f->arena, &f->job, &f->config, &err),
                  ST_NOT_FOUND);
    teardown(f);
}

static void a_sample_gets_one_terminal_state_or_the_part_is_refused(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct catalog_part_row *rows;
    struct error err = {0};
    const struct catalog_sample twice[] = {
        {.uid = bytes_of_string("cat"), .index = 0, .state = CATALOG_SAMPLE_DONE},
        {.uid = bytes_of_string("cat"),
         .index = 0,
         .state = CATALOG_SAMPLE_QUARANTINED,
         .reason = "undecodable_image",
         .stage = "decode"}};
    const struct catalog_sample no_reason = {
        .uid = bytes_of_string("cat"), .index = 0, .state = CATALOG_SAMPLE_QUARANTINED};
    struct catalog_part part = {.object_key = "p", .n_samples = 2, .samples = twice};
    size_t n;
    int64_t wait;

    (void)state;
    assert_ok(take(f, 0, &lease, &wait, &err));
    assert_status(catalog_part_commit(f->catalog, &lease, &part, &err), ST_INTERNAL);
    part.samples = &no_reason;
    part.n_samples = 1;
    assert_status(catalog_part_commit(f->catalog, &lease, &part, &err), ST_INTERNAL);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done + progress.samples_quarantined, 0);
    assert_ok(catalog_parts(f->catalog, f->job.job, 0, &f->arena, &rows, &n, &err));
    assert_int_equal(n, 0);
    assert_ok(commit(f, &lease, "cat", 0, &err)); /* the handle is as good as before */
    teardown(f);
}

static enum status see_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    int *n = ctx;

    (void)err;
    assert_int_equal(output->shard, *n);
    assert_string_equal(output->object_key, *n == 0 ? "cat" : "dog");
    assert_int_equal(output->bytes, 7);
    assert_string_equal(output->sha256, "s");
    assert_int_equal(output->n_done, 1);
    assert_int_equal(output->n_quarantined, 1);
    (*n)++;
    return ST_OK;
}

static enum status see_in_order(void *ctx, int64_t shard, const struct catalog_sample *sample,
                                struct error *err)
{
    int *n = ctx;

    (void)err;
    assert_int_equal(shard, *n / 2);
    assert_int_equal(sample->index, *n % 2);
    assert_int_equal(sample->n_captions + sample->n_scores, 0);
    if (*n % 2 == 0) {
        assert_int_equal(sample->state, CATALOG_SAMPLE_DONE);
        assert_true(bytes_equal(sample->uid, bytes_of_string(shard == 0 ? "cat" : "dog")));
        assert_null(sample->reason);
        assert_int_equal(sample->width, 3);
        assert_int_equal(sample->height, 4);
    } else {
        assert_int_equal(sample->state, CATALOG_SAMPLE_QUARANTINED);
        assert_string_equal(sample->reason, "undecodable_image");
        assert_string_equal(sample->detail, "truncated");
        assert_string_equal(sample->stage, "decode");
    }
    (*n)++;
    return ST_OK;
}

static enum status stop_at_once(void *ctx, int64_t shard, const struct catalog_sample *sample,
                                struct error *err)
{
    (void)shard;
    (void)sample;
    (*(int *)ctx)++;
    return error_set(err, ST_CANCELLED, "enough");
}

static void walks_go_in_order_and_end_when_told(void **state)
{
    struct fixture *f = setup();
    struct catalog_progress progress;
    struct error err = {0};
    int n = 0;

    (void)state;
    finish_shard(f, "cat");
    finish_shard(f, "dog");
    assert_ok(catalog_outputs(f->catalog, f->job.job, see_output, &n, &err));
    assert_int_equal(n, 2);
    n = 0;
    assert_ok(catalog_samples(f->catalog, f->job.job, see_in_order, &n, &err));
    assert_int_equal(n, 4);
    n = 0;
    assert_status(catalog_samples(f->catalog, f->job.job, stop_at_once, &n, &err), ST_CANCELLED);
    assert_int_equal(n, 1);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_total, 2);
    assert_int_equal(progress.shards_done, 2);
    assert_int_equal(progress.shards_leased + progress.shards_failed, 0);
    assert_int_equal(progress.samples_done, 2);
    assert_int_equal(progress.samples_quarantined, 2);
    assert_int_equal(progress.samples_in_done_shards, 4);
    assert_int_equal(progress.bytes_written, 14);
    teardown(f);
}

/* What is known of a sample after an extension. */
struct extended {
    int64_t index;
    enum catalog_sample_state state;
    size_t n_captions, n_scores;
    double first_score, first_caption_score;
};

static enum status see_extended(void *ctx, int64_t shard, const struct catalog_sample *sample,
                                struct error *err)
{
    (void)err;
    assert_int_equal(shard, 0);
    *(struct extended *)ctx = (struct extended){
        .index = sample->index,
        .state = sample->state,
        .n_captions = sample->n_captions,
        .n_scores = sample->n_scores,
        .first_score = sample->n_scores > 0 ? sample->scores[0].value : 0,
        .first_caption_score = sample->n_captions > 0 ? sample->captions[0].score : 0};
    return ST_OK;
}

static void begin_extension(struct fixture *f, struct catalog_lease *lease)
{
    struct error err = {0};
    int64_t wait;

    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_ok(catalog_job_extend(f->catalog, f->job.job, "d2", "{}", "webdataset", &err));
    assert_ok(take(f, 0, lease, &wait, &err));
    assert_int_equal(lease->shard, 0);
}

static void an_extended_sample_is_found_by_uid_and_keeps_its_place(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease;
    struct error err = {0};
    struct extended seen;
    const struct catalog_caption captions[] = {
        {.column = "syn_text", .index = 0, .text = bytes_of_string("a dog"), .score = -9},
        {.column = "syn_text", .index = 1, .text = bytes_of_string("a pet"), .score = -2}};
    const struct catalog_score scores[] = {
        {.teacher = "t", .column = "syn_text", .index = 0, .value = 0.5},
        {.teacher = "u", .column = "syn_text", .index = 0, .value = 0.75}};
    /* The previous output holds done samples only, so the places in it are others. */
    struct catalog_sample sample = {.uid = bytes_of_string("cat"),
                                    .index = 40,
                                    .state = CATALOG_SAMPLE_DONE,
                                    .n_captions = 2,
                                    .captions = captions,
                                    .n_scores = 2,
                                    .scores = scores};
    const struct catalog_part part = {.object_key = "p2", .n_samples = 1, .samples = &sample};

    (void)state;
    finish_shard(f, "cat");
    finish_shard(f, "dog");
    begin_extension(f, &lease);
    sample.uid = bytes_of_string("cow");
    assert_status(catalog_part_commit(f->catalog, &lease, &part, &err), ST_CORRUPT);
    sample.uid = bytes_of_string("cat");
    assert_ok(catalog_part_commit(f->catalog, &lease, &part, &err));
    assert_ok(catalog_sample_find(f->catalog, f->job.job, bytes_of_string("cat"), see_extended,
                                  &seen, &err));
    assert_int_equal(seen.index, 0);
    assert_int_equal(seen.state, CATALOG_SAMPLE_DONE);
    assert_int_equal(seen.n_captions, 2);
    assert_true(seen.first_caption_score == -1.5); /* a caption is made once */
    assert_int_equal(seen.n_scores, 2);
    assert_true(seen.first_score == 0.5);
    teardown(f);
}

static void a_sample_quarantined_by_an_extension_loses_its_rows_not_its_place(void **state)
{
    struct fixture *f = setup();
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct error err = {0};
    struct extended seen;
    const struct catalog_sample sample = {.uid = bytes_of_string("cat"),
                                          .index = 40,
                                          .state = CATALOG_SAMPLE_QUARANTINED,
                                          .stage = "teach",
                                          .reason = "not_finite"};
    const struct catalog_part part = {.object_key = "p2", .n_samples = 1, .samples = &sample};

    (void)state;
    finish_shard(f, "cat");
    finish_shard(f, "dog");
    begin_extension(f, &lease);
    assert_ok(catalog_part_commit(f->catalog, &lease, &part, &err));
    assert_ok(catalog_sample_find(f->catalog, f->job.job, bytes_of_string("cat"), see_extended,
                                  &seen, &err));
    assert_int_equal(seen.index, 0);
    assert_int_equal(seen.state, CATALOG_SAMPLE_QUARANTINED);
    assert_int_equal(seen.n_captions + seen.n_scores, 0);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 1);
    assert_int_equal(progress.samples_quarantined, 3);
    teardown(f);
}

/* Another program's hand in the file. */
static void execute(const char *path, const char *text)
{
    sqlite3 *handle = NULL;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void a_newer_schema_is_refused_by_name(void **state)
{
    struct fixture *f = setup();
    struct error err = {0};

    (void)state;
    catalog_close(&f->catalog);
    execute(f->url + strlen("sqlite:"), "pragma user_version = 1000");
    assert_status(catalog_open(f->url, &f->catalog, &err), ST_INVALID);
    assert_null(f->catalog);
    assert_non_null(strstr(err.message, f->url + strlen("sqlite:")));
    assert_non_null(strstr(err.message, "1000"));
    teardown(f);
}

static void the_database_of_another_program_is_left_as_it_is(void **state)
{
    struct fixture *f = setup();
    struct catalog *other;
    char path[128], url[160];
    struct byte_buf before, after;
    struct error err = {0};

    (void)state;
    byte_buf_init(&before, 1 << 20);
    byte_buf_init(&after, 1 << 20);
    (void)snprintf(path, sizeof path, "%s/other", f->dir);
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    execute(path, "create table recipes (name text)");
    assert_ok(file_read(path, &before, &err));
    assert_status(catalog_open(url, &other, &err), ST_INVALID);
    assert_null(other);
    assert_non_null(strstr(err.message, path));
    assert_ok(file_read(path, &after, &err));
    assert_true(bytes_equal(byte_buf_view(&before), byte_buf_view(&after)));
    assert_status(catalog_open("sqlite:", &other, &err), ST_INVALID);
    byte_buf_release(&before);
    byte_buf_release(&after);
    assert_int_equal(unlink(path), 0);
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_digest_is_a_conflict_and_tells_what_is_stored),
        cmocka_unit_test(leases_go_out_in_order_and_expire),
        cmocka_unit_test(a_fenced_worker_commits_nothing),
        cmocka_unit_test(a_part_is_whole_or_not_there_and_repeating_it_is_harmless),
        cmocka_unit_test(a_shard_that_keeps_failing_is_given_up),
        cmocka_unit_test(a_finished_job_can_be_read_and_extended),
        cmocka_unit_test(a_file_that_is_no_catalog_is_refused_by_name),
        cmocka_unit_test(a_lease_that_runs_out_is_a_try_like_any_other),
        cmocka_unit_test(handing_a_shard_back_unharmed_costs_no_try),
        cmocka_unit_test(a_planned_job_is_not_planned_again_whatever_the_plan),
        cmocka_unit_test(a_sample_gets_one_terminal_state_or_the_part_is_refused),
        cmocka_unit_test(walks_go_in_order_and_end_when_told),
        cmocka_unit_test(an_extended_sample_is_found_by_uid_and_keeps_its_place),
        cmocka_unit_test(a_sample_quarantined_by_an_extension_loses_its_rows_not_its_place),
        cmocka_unit_test(a_newer_schema_is_refused_by_name),
        cmocka_unit_test(the_database_of_another_program_is_left_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
