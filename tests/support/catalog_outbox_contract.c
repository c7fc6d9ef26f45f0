/* What every catalog must do with events: they come with what they tell of or not at all, in order,
 * and stay until they are published. */
#include "storage/catalog/catalog_outbox.h"
#include "tests/support/catalog_contract.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

enum { N_SHARDS = 3, ALL = 100 };

static const struct catalog_terms terms = {
    .lease_ms = 1000000, .max_attempts = 3, .part_samples = 10};

struct fixture {
    struct catalog *catalog;
    struct arena arena;
    struct catalog_job job;
};

static struct fixture *setup(const struct catalog_target *target, const char *name,
                             enum catalog_events events)
{
    struct catalog_shard_plan shards[N_SHARDS] = {0};
    struct fixture *f = calloc(1, sizeof *f);
    const char *config;
    struct error err = {0};

    assert_non_null(f);
    for (int64_t i = 0; i < N_SHARDS; i++)
        shards[i] = (struct catalog_shard_plan){.shard = i,
                                                .source = CATALOG_INPUT_JOB,
                                                .input_key = "a.tar",
                                                .input_format = "webdataset"};
    arena_init(&f->arena, 1 << 24);
    assert_ok(catalog_open(target->url, &f->catalog, &err));
    assert_ok(
        catalog_job_begin(f->catalog, name, "d1", "{}", 5, &f->arena, &f->job, &config, &err));
    assert_ok(catalog_plan_commit(f->catalog, &f->job, shards, N_SHARDS, true, &err));
    assert_ok(catalog_job_set_events(f->catalog, f->job.job, events, &err));
    return f;
}

static void teardown(struct fixture *f)
{
    catalog_close(&f->catalog);
    arena_release(&f->arena);
    free(f);
}

static struct catalog_outbox count(struct fixture *f)
{
    struct catalog_outbox outbox;
    struct error err = {0};

    assert_ok(catalog_outbox_count(f->catalog, f->job.job, &outbox, &err));
    return outbox;
}

static struct catalog_outbox_row *read_all(struct fixture *f, size_t n)
{
    struct catalog_outbox_row *rows;
    size_t n_rows;
    struct error err = {0};

    assert_ok(catalog_outbox_read(f->catalog, f->job.job, ALL, &f->arena, &rows, &n_rows, &err));
    assert_int_equal(n_rows, n);
    return rows;
}

static struct catalog_lease take(struct fixture *f)
{
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    assert_ok(
        catalog_lease_take(f->catalog, f->job.job, "w", 0, &terms, &f->arena, &lease, &wait, &err));
    return lease;
}

/* One part of two samples, the second quarantined. */
static void commit_part(struct fixture *f, struct catalog_lease *lease)
{
    const struct catalog_caption captions[] = {
        {.column = "syn_text", .index = 0, .text = bytes_of_string("a cat"), .score = -1.5},
        {.column = "text", .index = 0, .text = bytes_of_string("Katze"), .score = NAN}};
    const struct catalog_score scores[] = {
        {.teacher = "a", .column = "syn_text", .index = 0, .value = 0.25},
        {.teacher = "b", .column = "syn_text", .index = 0, .value = 0.5},
        {.teacher = "a", .column = "text", .index = 0, .value = 0.75}};
    const struct catalog_sample samples[] = {{.uid = bytes_of_string("good"),
                                              .index = 0,
                                              .state = CATALOG_SAMPLE_DONE,
                                              .width = 3,
                                              .height = 4,
                                              .n_captions = ARRAY_LEN(captions),
                                              .captions = captions,
                                              .n_scores = ARRAY_LEN(scores),
                                              .scores = scores},
                                             {.uid = bytes_of_string("bad"),
                                              .index = 1,
                                              .state = CATALOG_SAMPLE_QUARANTINED,
                                              .stage = "decode",
                                              .reason = "undecodable_image",
                                              .detail = "truncated"}};
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.bytes = 10, .sha256 = "abc"},
                                      .next_offset = 512,
                                      .next_index = 2,
                                      .n_samples = 2,
                                      .samples = samples};
    struct error err = {0};

    assert_ok(catalog_part_commit(f->catalog, lease, &part, &err));
    lease->n_parts = 1;
}

static enum status commit_shard(struct fixture *f, const struct catalog_lease *lease,
                                struct error *err)
{
    const struct object_written written = {.bytes = 77, .sha256 = "def"};

    return catalog_shard_commit(f->catalog, lease, "00000000.tar", &written, err);
}

static bool is_listed_as_waiting(struct fixture *f)
{
    struct catalog_job_row *rows;
    size_t n;
    bool found = false;
    struct error err = {0};

    assert_ok(catalog_read_jobs(f->catalog, 0, &f->arena, &rows, &n, &err));
    for (size_t i = 0; i < n; i++)
        found = found || (rows[i].job.job == f->job.job && rows[i].has_waiting_events);
    return found;
}

static void events_come_with_what_they_tell_of(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "outbox-samples", CATALOG_EVENTS_SAMPLES);
    struct catalog_lease lease = take(f);
    const struct catalog_outbox_row *rows;
    struct error err = {0};

    commit_part(f, &lease);
    assert_int_equal(count(f).n_waiting, 0); /* no object holds them yet */
    assert_int_equal(count(f).oldest_ms, 0);
    assert_false(is_listed_as_waiting(f));
    assert_ok(commit_shard(f, &lease, &err));
    assert_ok(commit_shard(f, &lease, &err)); /* the answer was lost, say */
    assert_int_equal(count(f).n_waiting, 3);
    assert_true(count(f).oldest_ms > INT64_C(1500000000000));
    assert_true(is_listed_as_waiting(f));
    rows = read_all(f, 3);
    assert_true(rows[0].is_sample && rows[1].is_sample && !rows[2].is_sample);
    assert_true(rows[0].seq < rows[1].seq && rows[1].seq < rows[2].seq);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rows[i].shard, 0);
        assert_string_equal(rows[i].output.object_key, "00000000.tar");
        assert_string_equal(rows[i].output.sha256, "def");
        assert_int_equal(rows[i].output.bytes, 77);
        assert_int_equal(rows[i].output.n_done, 1);
        assert_int_equal(rows[i].output.n_quarantined, 1);
        assert_true(rows[i].committed_ms >= count(f).oldest_ms);
    }
    assert_true(bytes_equal(rows[0].sample.uid, bytes_of_string("good")));
    assert_int_equal(rows[0].sample.state, CATALOG_SAMPLE_DONE);
    assert_int_equal(rows[0].sample.width, 3);
    assert_int_equal(rows[0].sample.n_captions, 2);
    assert_string_equal(rows[0].sample.captions[0].column, "syn_text");
    assert_true(bytes_equal(rows[0].sample.captions[1].text, bytes_of_string("Katze")));
    assert_true(isnan(rows[0].sample.captions[1].score));
    assert_int_equal(rows[0].sample.n_scores, 3);
    assert_string_equal(rows[0].sample.scores[1].teacher, "b");
    assert_true(rows[0].sample.scores[2].value == 0.75);
    assert_true(bytes_equal(rows[1].sample.uid, bytes_of_string("bad")));
    assert_int_equal(rows[1].sample.index, 1);
    assert_int_equal(rows[1].sample.state, CATALOG_SAMPLE_QUARANTINED);
    assert_string_equal(rows[1].sample.reason, "undecodable_image");
    assert_string_equal(rows[1].sample.stage, "decode");
    assert_string_equal(rows[1].sample.detail, "truncated");
    assert_int_equal(rows[1].sample.n_captions, 0);
    teardown(f);
}

static void a_lease_that_was_taken_over_tells_nothing(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "outbox-fenced", CATALOG_EVENTS_SAMPLES);
    struct catalog_lease lease = take(f);
    struct error err = {0};

    commit_part(f, &lease);
    lease.epoch--;
    assert_status(commit_shard(f, &lease, &err), ST_CONFLICT);
    assert_int_equal(count(f).n_waiting, 0);
    teardown(f);
}

static void a_job_tells_what_it_was_asked_for(const struct catalog_target *target)
{
    static const struct {
        enum catalog_events events;
        int64_t n;
    } cases[] = {{CATALOG_EVENTS_NONE, 0}, {CATALOG_EVENTS_SHARDS, 1}, {CATALOG_EVENTS_SAMPLES, 4}};
    struct fixture *f = setup(target, "outbox-levels", CATALOG_EVENTS_NONE);
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct catalog_lease lease = take(f);

        assert_ok(catalog_job_set_events(f->catalog, f->job.job, cases[i].events, &err));
        commit_part(f, &lease);
        assert_ok(commit_shard(f, &lease, &err));
        assert_int_equal(count(f).n_waiting, cases[i].n);
    }
    teardown(f);
}

static void what_is_published_goes_and_the_rest_stays(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "outbox-removed", CATALOG_EVENTS_SAMPLES);
    struct fixture *other = setup(target, "outbox-other", CATALOG_EVENTS_SHARDS);
    struct catalog_outbox_row *rows, *first;
    struct catalog_lease lease;
    struct error err = {0};
    size_t n;

    for (int i = 0; i < 2; i++) {
        lease = take(f);
        commit_part(f, &lease);
        assert_ok(commit_shard(f, &lease, &err));
    }
    lease = take(other);
    assert_ok(commit_shard(other, &lease, &err));
    rows = read_all(f, 6);
    assert_ok(catalog_outbox_read(f->catalog, f->job.job, 4, &f->arena, &first, &n, &err));
    assert_int_equal(n, 4);
    assert_int_equal(first[3].sample.n_captions, 2);
    assert_ok(catalog_outbox_remove(f->catalog, f->job.job, first, n, &err));
    assert_ok(catalog_outbox_remove(f->catalog, f->job.job, first, n, &err)); /* again */
    assert_ok(catalog_outbox_remove(f->catalog, f->job.job, NULL, 0, &err));
    first = read_all(f, 2);
    assert_int_equal(first[0].seq, rows[4].seq);
    assert_ok(catalog_outbox_remove(f->catalog, f->job.job, first, 2, &err));
    assert_int_equal(count(f).n_waiting, 0);
    assert_int_equal(count(other).n_waiting, 1);
    lease = take(f);
    assert_ok(commit_shard(f, &lease, &err));       /* of no sample */
    assert_true(read_all(f, 1)->seq > rows[5].seq); /* no number comes twice */
    teardown(other);
    teardown(f);
}

static void what_has_changed_is_told_as_it_is_now(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "outbox-changed", CATALOG_EVENTS_SAMPLES);
    const struct catalog_shard_plan again = {.shard = N_SHARDS,
                                             .source = CATALOG_INPUT_LIST,
                                             .input_key = "list",
                                             .input_format = "list"};
    const struct catalog_retry retry = {.shard = N_SHARDS, .old_index = 1, .source_index = 1};
    const struct catalog_sample mended = {
        .uid = bytes_of_string("bad"), .state = CATALOG_SAMPLE_DONE, .width = 3, .height = 4};
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.bytes = 10, .sha256 = "abc"},
                                      .next_index = 1,
                                      .n_samples = 1,
                                      .samples = &mended};
    struct catalog_outbox_row *rows;
    struct catalog_lease lease;
    struct error err = {0};

    for (int i = 0; i < N_SHARDS; i++) {
        lease = take(f);
        if (i == 0)
            commit_part(f, &lease);
        assert_ok(commit_shard(f, &lease, &err));
    }
    assert_ok(catalog_retry_commit(f->catalog, f->job.job, &again, 1, &retry, 1, &err));
    lease = take(f);
    assert_int_equal(lease.shard, N_SHARDS);
    assert_ok(catalog_part_commit(f->catalog, &lease, &part, &err));
    lease.n_parts = 1;
    assert_ok(commit_shard(f, &lease, &err));
    rows = read_all(f, 7); /* three of shard 0, one of 1 and 2 each, two of the retry */
    assert_int_equal(rows[1].sample.state, CATALOG_SAMPLE_RETRIED);
    assert_string_equal(rows[1].sample.reason, "undecodable_image");
    assert_int_equal(rows[2].output.n_quarantined, 0);
    assert_int_equal(rows[5].shard, N_SHARDS);
    assert_true(bytes_equal(rows[5].sample.uid, bytes_of_string("bad")));
    assert_int_equal(rows[5].sample.state, CATALOG_SAMPLE_DONE);
    teardown(f);
}

void catalog_outbox_contract(const struct catalog_target *target)
{
    events_come_with_what_they_tell_of(target);
    a_lease_that_was_taken_over_tells_nothing(target);
    a_job_tells_what_it_was_asked_for(target);
    what_is_published_goes_and_the_rest_stays(target);
    what_has_changed_is_told_as_it_is_now(target);
}
