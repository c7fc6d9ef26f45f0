#include "reinforce/base/file.h"
#include "storage/catalog/catalog.h"
#include "tests/support/test.h"

#include <math.h>
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
