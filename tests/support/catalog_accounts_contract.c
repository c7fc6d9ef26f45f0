/* What every catalog must do with jobs that pause, retries, shards made again, and the accounts. */
#include "storage/catalog/catalog.h"
#include "tests/support/catalog_contract.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

enum { LEASE_MS = 1000000, MARGIN_MS = 200000, MAX_ATTEMPTS = 3, SHARD_SAMPLES = 3 };

static const struct catalog_terms terms = {
    .lease_ms = LEASE_MS, .max_attempts = MAX_ATTEMPTS, .part_samples = 4, .samples_at_work = 8};

/* A planned job of two shards, under a name of its own. */
struct fixture {
    const struct catalog_target *target;
    struct catalog *catalog;
    struct arena arena;
    struct catalog_job job;
};

static const struct catalog_shard_plan two_shards[] = {
    {.shard = 0, .source = CATALOG_INPUT_JOB, .input_key = "a.tar", .input_format = "webdataset"},
    {.shard = 1,
     .source = CATALOG_INPUT_PLAN,
     .input_key = "_reinforce/plan/1.jsonl",
     .input_format = "jsonl",
     .input_end = 77}};

static struct fixture *setup(const struct catalog_target *target, const char *name)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *config;
    struct error err = {0};

    assert_non_null(f);
    f->target = target;
    arena_init(&f->arena, 1 << 24);
    assert_ok(catalog_open(target->url, &f->catalog, &err));
    assert_ok(
        catalog_job_begin(f->catalog, name, "d1", "{}", 5, &f->arena, &f->job, &config, &err));
    assert_ok(catalog_plan_commit(f->catalog, &f->job, two_shards, 2, true, &err));
    return f;
}

static void teardown(struct fixture *f)
{
    catalog_close(&f->catalog);
    arena_release(&f->arena);
    free(f);
}

static enum status take(struct fixture *f, struct catalog_lease *lease, int64_t *wait)
{
    struct error err = {0};

    return catalog_lease_take(f->catalog, f->job.job, "w", 0, &terms, &f->arena, lease, wait, &err);
}

/* Commits samples "<prefix><index>" as one part; `done` says which of them are. */
static enum status commit(struct fixture *f, struct catalog_lease *lease, const char *prefix,
                          const bool *done, int64_t n, struct error *err)
{
    const struct catalog_caption caption = {
        .column = "syn_text", .text = bytes_of_string(lease->epoch == 1 ? "a cat" : "a pet")};
    const struct catalog_cost costs[] = {
        {.role = "captioner", .model = "c", .seconds = 0.5, .images = n, .texts = n, .tokens = 9}};
    struct catalog_sample samples[SHARD_SAMPLES];
    char uids[SHARD_SAMPLES][32];
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.bytes = 10, .sha256 = "abc"},
                                      .next_index = (uint64_t)n,
                                      .n_samples = (size_t)n,
                                      .samples = samples,
                                      .n_costs = 1,
                                      .costs = costs};

    for (int64_t i = 0; i < n; i++) {
        (void)snprintf(uids[i], sizeof uids[i], "%s%lld", prefix, (long long)i);
        samples[i] = (struct catalog_sample){
            .uid = bytes_of_string(uids[i]),
            .index = i,
            .state = done[i] ? CATALOG_SAMPLE_DONE : CATALOG_SAMPLE_QUARANTINED,
            .stage = done[i] ? NULL : "decode",
            .reason = done[i] ? NULL : (i == 1 ? "no_server" : "bad_image"),
            .n_captions = done[i],
            .captions = &caption};
    }
    return catalog_part_commit(f->catalog, lease, &part, err);
}

static void finish_shard(struct fixture *f, const char *prefix, const bool *done, int64_t n)
{
    const struct object_written written = {.bytes = 7, .sha256 = "s"};
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    assert_ok(take(f, &lease, &wait));
    assert_ok(commit(f, &lease, prefix, done, n, &err));
    assert_ok(catalog_shard_commit(f->catalog, &lease, prefix, &written, &err));
}

/* Both shards done: of three samples each the last two are quarantined. */
static void finish_job(struct fixture *f)
{
    static const bool one_of_three[] = {true, false, false};
    struct error err = {0};

    finish_shard(f, "a", one_of_three, 3);
    finish_shard(f, "b", one_of_three, 3);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
}

static void move(struct fixture *f, enum catalog_job_state from, enum catalog_job_state to)
{
    struct error err = {0};

    assert_ok(catalog_job_move(f->catalog, f->job.job, from, to, "", &err));
}

static void a_paused_job_hands_out_nothing_now_and_a_cancelled_one_never(struct fixture *f)
{
    struct catalog_lease held, lease;
    struct error err = {0};
    int64_t wait;
    static const bool done[] = {true};

    assert_ok(take(f, &held, &wait));
    move(f, CATALOG_JOB_RUNNING, CATALOG_JOB_PAUSED);
    assert_status(take(f, &lease, &wait), ST_NOT_FOUND);
    assert_in_range(wait, 1, 10000);
    assert_ok(catalog_lease_renew(f->catalog, &held, 0, LEASE_MS, &err)); /* what is out, is out */
    assert_ok(commit(f, &held, "a", done, 1, &err));
    move(f, CATALOG_JOB_PAUSED, CATALOG_JOB_CANCELLED);
    assert_status(take(f, &lease, &wait), ST_NOT_FOUND);
    assert_int_equal(wait, -1);
    move(f, CATALOG_JOB_CANCELLED, CATALOG_JOB_RUNNING);
    assert_ok(take(f, &lease, &wait));
    assert_int_equal(lease.shard, 1);
}

struct seen_job {
    const char *name;
    struct catalog_job_row row;
};

static enum status see_job(void *ctx, const struct catalog_job_row *row, struct error *err)
{
    struct seen_job *seen = ctx;

    (void)err;
    if (strcmp(row->job.name, seen->name) == 0)
        seen->row = *row;
    return ST_OK;
}

static struct catalog_job_row job_row(struct fixture *f)
{
    struct seen_job seen = {.name = f->job.name};
    struct error err = {0};

    assert_ok(catalog_jobs(f->catalog, 0, see_job, &seen, &err));
    return seen.row;
}

static void a_job_has_no_more_leases_out_than_its_quota(struct fixture *f)
{
    struct catalog_lease first, second;
    struct error err = {0};
    int64_t wait;

    assert_int_equal(job_row(f).max_leases, 0);
    assert_int_equal(job_row(f).n_ready, 2);
    assert_ok(catalog_job_set_quota(f->catalog, f->job.job, 1, &err));
    assert_int_equal(job_row(f).max_leases, 1);
    assert_int_equal(job_row(f).n_ready, 1);
    assert_ok(take(f, &first, &wait));
    assert_int_equal(job_row(f).n_ready, 0);
    assert_status(take(f, &second, &wait), ST_NOT_FOUND);
    assert_in_range(wait, 1, 10000);
    assert_ok(catalog_job_set_quota(f->catalog, f->job.job, 2, &err));
    assert_ok(take(f, &second, &wait));
    assert_ok(catalog_job_set_quota(f->catalog, f->job.job, 1, &err)); /* both may be finished */
    assert_ok(catalog_lease_release(f->catalog, &second, false, NULL, &err));
    assert_status(take(f, &second, &wait), ST_NOT_FOUND);
    assert_ok(catalog_lease_release(f->catalog, &first, false, NULL, &err));
    assert_ok(take(f, &second, &wait));
}

struct seen_worker {
    const char *name;
    int n;
    struct catalog_worker last;
    char host[16], version[16];
};

static enum status see_worker(void *ctx, const struct catalog_worker *worker, struct error *err)
{
    struct seen_worker *seen = ctx;

    (void)err;
    if (strcmp(worker->name, seen->name) != 0)
        return ST_OK;
    seen->n++;
    seen->last = *worker;
    (void)snprintf(seen->host, sizeof seen->host, "%s", worker->host);
    (void)snprintf(seen->version, sizeof seen->version, "%s", worker->version);
    return ST_OK;
}

static void a_worker_has_one_row_that_tells_its_latest(struct fixture *f)
{
    const int64_t now = 1000000000000, day_ms = 86400000;
    struct seen_worker seen = {.name = "w"};
    struct catalog_lease lease;
    int64_t wait;
    struct catalog_worker worker = {.name = "w",
                                    .host = "h",
                                    .address = "tcp://10.0.0.1:9",
                                    .version = "1.0",
                                    .state = CATALOG_WORKER_WORKING,
                                    .samples_per_second = 1.5};
    struct error err = {0};

    assert_ok(take(f, &lease, &wait));
    assert_ok(catalog_workers_seen(f->catalog, &worker, 1, now, &err));
    worker.state = CATALOG_WORKER_DRAINING;
    worker.version = "1.1";
    assert_ok(catalog_workers_seen(f->catalog, &worker, 1, now + 1000, &err));
    assert_ok(catalog_workers(f->catalog, now + 3000, see_worker, &seen, &err));
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.last.state, CATALOG_WORKER_DRAINING);
    assert_true(seen.last.n_leases >= 1); /* of this job, and of the suite's other ones */
    assert_true(seen.last.samples_per_second == 1.5);
    assert_string_equal(seen.host, "h");
    assert_string_equal(seen.version, "1.1");
    assert_true(seen.last.first_seen_ms > 0);
    if (f->target->pass_time == NULL) {
        assert_int_equal(seen.last.first_seen_ms, now);
        assert_int_equal(seen.last.seen_ago_ms, 2000);
        worker.state = CATALOG_WORKER_GONE;
        assert_ok(catalog_workers_seen(f->catalog, &worker, 1, now + 9000, &err));
        assert_ok(catalog_workers(f->catalog, now + 9000, see_worker, &seen, &err));
        assert_int_equal(seen.last.state, CATALOG_WORKER_GONE);
        assert_int_equal(seen.last.seen_ago_ms, 8000);
        worker.name = "h:2:0";
        assert_ok(catalog_workers_seen(f->catalog, &worker, 1, now + 2000 + day_ms, &err));
        seen.n = 0;
        assert_ok(catalog_workers(f->catalog, now + 2000 + day_ms, see_worker, &seen, &err));
        assert_int_equal(seen.n, 0);
    } else {
        assert_in_range(seen.last.seen_ago_ms, 0, MARGIN_MS);
    }
}

struct sums {
    int n;
    int64_t read, done, quarantined, retried;
    struct catalog_account of[4];
};

static enum status add_account(void *ctx, const struct catalog_account *a, struct error *err)
{
    struct sums *sums = ctx;

    (void)err;
    assert_int_equal(a->shard, sums->n);
    assert_int_equal(a->samples, a->done + a->quarantined + a->retried);
    assert_int_equal(a->last_index, a->samples - 1);
    if (a->state == CATALOG_SHARD_DONE) {
        assert_int_equal(a->read, a->samples);
        assert_int_equal(a->output_done, a->done);
        assert_int_equal(a->output_quarantined, a->quarantined);
    }
    if (!a->is_retry)
        sums->read += a->read;
    sums->done += a->done;
    sums->quarantined += a->quarantined;
    sums->retried += a->retried;
    sums->of[sums->n++] = *a;
    return ST_OK;
}

static struct sums read_accounts(struct fixture *f)
{
    struct sums sums = {0};
    struct error err = {0};

    assert_ok(catalog_accounts(f->catalog, f->job.job, add_account, &sums, &err));
    return sums;
}

struct seen_sources {
    size_t n;
    struct catalog_source of[8];
    char keys[8][32];
};

static enum status see_source(void *ctx, const struct catalog_source *source, struct error *err)
{
    struct seen_sources *seen = ctx;

    (void)err;
    assert_true(seen->n < ARRAY_LEN(seen->of));
    (void)snprintf(seen->keys[seen->n], sizeof seen->keys[0], "%s", source->source.input_key);
    seen->of[seen->n++] = *source;
    return ST_OK;
}

static struct seen_sources find_sources(struct fixture *f, enum catalog_sample_state state,
                                        const char *reason, int64_t shard)
{
    const struct catalog_source_query query = {.state = state, .reason = reason, .shard = shard};
    struct seen_sources seen = {0};
    struct error err = {0};

    assert_ok(catalog_sources(f->catalog, f->job.job, &query, see_source, &seen, &err));
    return seen;
}

/* A shard that tries the given samples again. */
static enum status retry(struct fixture *f, int64_t shard, const struct seen_sources *what,
                         struct error *err)
{
    const struct catalog_shard_plan plan = {.shard = shard,
                                            .source = CATALOG_INPUT_LIST,
                                            .input_key = "_reinforce/plan/list.json",
                                            .input_format = "list"};
    struct catalog_retry retries[8];

    for (size_t i = 0; i < what->n; i++)
        retries[i] = (struct catalog_retry){.shard = shard,
                                            .index = (int64_t)i,
                                            .old_shard = what->of[i].shard,
                                            .old_index = what->of[i].index,
                                            .source_shard = what->of[i].source_shard,
                                            .source_index = what->of[i].source_index};
    return catalog_retry_commit(f->catalog, f->job.job, &plan, 1, retries, what->n, err);
}

static void a_sample_that_is_tried_again_has_one_state_all_the_time(struct fixture *f)
{
    static const bool half[] = {true, false}, both[] = {true, true};
    struct seen_sources what;
    struct catalog_lease lease;
    struct sums sums;
    struct error err = {0};
    int64_t wait;

    finish_job(f);
    sums = read_accounts(f);
    assert_int_equal(sums.read, 6);
    assert_int_equal(sums.done, 2);
    assert_int_equal(sums.quarantined, 4);
    what = find_sources(f, CATALOG_SAMPLE_QUARANTINED, "no_server", -1);
    assert_int_equal(what.n, 2);
    assert_int_equal(what.of[0].source_shard, 0);
    assert_int_equal(what.of[0].source_index, 1);
    assert_string_equal(what.keys[0], "a.tar");
    assert_int_equal(what.of[0].source.source, CATALOG_INPUT_JOB);
    assert_int_equal(what.of[1].shard, 1);
    assert_string_equal(what.keys[1], "_reinforce/plan/1.jsonl");
    assert_int_equal(what.of[1].source.source, CATALOG_INPUT_PLAN);
    assert_int_equal(what.of[1].source.input_end, 77);
    assert_int_equal(find_sources(f, CATALOG_SAMPLE_QUARANTINED, NULL, -1).n, 4);
    assert_int_equal(find_sources(f, CATALOG_SAMPLE_QUARANTINED, "no such", -1).n, 0);

    assert_status(retry(f, 3, &what, &err), ST_CONFLICT); /* 2 is the next */
    assert_int_equal(job_row(f).job.state, CATALOG_JOB_DONE);
    assert_ok(retry(f, 2, &what, &err));
    assert_int_equal(job_row(f).job.state, CATALOG_JOB_RUNNING);
    assert_status(retry(f, 2, &what, &err), ST_CONFLICT);
    assert_int_equal(find_sources(f, CATALOG_SAMPLE_QUARANTINED, "no_server", -1).n, 0);
    assert_int_equal(read_accounts(f).quarantined, 4); /* nothing has come of it yet */

    assert_ok(take(f, &lease, &wait));
    assert_int_equal(lease.shard, 2);
    assert_int_equal(lease.plan.source, CATALOG_INPUT_LIST);
    assert_string_equal(lease.plan.input_key, "_reinforce/plan/list.json");
    assert_ok(commit(f, &lease, "c", half, 2, &err));
    assert_ok(commit(f, &lease, "c", half, 2, &err)); /* the answer was lost */
    assert_ok(catalog_shard_commit(f->catalog, &lease, "c", &(struct object_written){.sha256 = "s"},
                                   &err));
    sums = read_accounts(f);
    assert_int_equal(sums.read, 6);
    assert_int_equal(sums.done, 3);
    assert_int_equal(sums.quarantined, 3);
    assert_int_equal(sums.retried, 2);
    assert_true(sums.of[2].is_retry);

    /* What failed again is tried again from where it was read first. */
    what = find_sources(f, CATALOG_SAMPLE_QUARANTINED, NULL, -1);
    assert_int_equal(what.n, 3);
    assert_int_equal(what.of[2].source_shard, 1);
    assert_int_equal(what.of[2].source_index, 2);
    what = find_sources(f, CATALOG_SAMPLE_QUARANTINED, "no_server", -1);
    assert_int_equal(what.n, 1);
    assert_int_equal(what.of[0].shard, 2);
    assert_int_equal(what.of[0].index, 1);
    assert_int_equal(what.of[0].source_shard, 1);
    assert_int_equal(what.of[0].source_index, 1);
    assert_string_equal(what.keys[0], "_reinforce/plan/1.jsonl");
    assert_ok(retry(f, 3, &what, &err));
    finish_shard(f, "d", both, 1);
    sums = read_accounts(f);
    assert_int_equal(sums.done, 4);
    assert_int_equal(sums.quarantined, 2);
    assert_int_equal(sums.retried, 3);
}

static void retries_need_a_job_that_may_run(struct fixture *f)
{
    struct seen_sources what;
    struct error err = {0};

    finish_job(f);
    what = find_sources(f, CATALOG_SAMPLE_QUARANTINED, NULL, -1);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_CANCELLED, &err));
    assert_status(retry(f, 2, &what, &err), ST_CONFLICT);
    assert_status(catalog_shard_redo(f->catalog, f->job.job, 0, "l", 1, &err), ST_CONFLICT);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_PAUSED, &err));
    assert_ok(retry(f, 2, &what, &err));
    assert_int_equal(job_row(f).job.state, CATALOG_JOB_PAUSED);
}

struct seen_caption {
    int n;
    char text[16];
};

static enum status see_caption(void *ctx, int64_t shard, const struct catalog_sample *sample,
                               struct error *err)
{
    struct seen_caption *seen = ctx;

    (void)err;
    assert_int_equal(shard, 0);
    assert_int_equal(sample->index, 0);
    assert_int_equal(sample->n_captions, 1);
    seen->n++;
    (void)snprintf(seen->text, sizeof seen->text, "%.*s", (int)sample->captions[0].text.len,
                   (const char *)sample->captions[0].text.data);
    return ST_OK;
}

static void a_shard_that_is_made_again_keeps_its_rows(struct fixture *f)
{
    static const bool done[] = {true};
    struct seen_sources what;
    struct seen_caption seen = {0};
    struct catalog_lease lease;
    struct sums before, after;
    struct error err = {0};
    int64_t wait;

    assert_status(catalog_shard_redo(f->catalog, f->job.job, 0, "list", 1, &err), ST_CONFLICT);
    finish_job(f);
    before = read_accounts(f);
    what = find_sources(f, CATALOG_SAMPLE_DONE, NULL, 0);
    assert_int_equal(what.n, 1);
    assert_int_equal(what.of[0].shard, 0);
    assert_ok(catalog_shard_redo(f->catalog, f->job.job, 0, "list", 1, &err));
    assert_int_equal(job_row(f).job.state, CATALOG_JOB_RUNNING);
    assert_ok(take(f, &lease, &wait));
    assert_int_equal(lease.shard, 0);
    assert_int_equal(lease.epoch, 2);
    assert_int_equal(lease.n_parts + (int64_t)lease.next_index, 0);
    assert_int_equal(lease.plan.source, CATALOG_INPUT_LIST);
    assert_string_equal(lease.plan.input_key, "list");
    assert_int_equal(lease.plan.input_samples, 1);
    assert_ok(commit(f, &lease, "a", done, 1, &err));
    assert_ok(catalog_shard_commit(f->catalog, &lease, "a", &(struct object_written){.sha256 = "s"},
                                   &err));
    after = read_accounts(f);
    assert_int_equal(after.read, before.read);
    assert_int_equal(after.done, before.done);
    assert_int_equal(after.quarantined, before.quarantined);
    assert_ok(catalog_sample_find(f->catalog, f->job.job, bytes_of_string("a0"), see_caption, &seen,
                                  &err));
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.text, "a pet"); /* the rows say what the object holds now */
    /* And its planned input is known as before. */
    assert_string_equal(find_sources(f, CATALOG_SAMPLE_DONE, NULL, 0).keys[0], "a.tar");
}

static void an_extended_shard_can_still_be_tried_again_from_its_input(struct fixture *f)
{
    struct seen_sources what;
    struct error err = {0};

    finish_job(f);
    assert_ok(catalog_job_extend(f->catalog, f->job.job, "d2", "{}", "webdataset", &err));
    for (int i = 0; i < 2; i++) {
        struct catalog_lease lease;
        int64_t wait;

        assert_ok(take(f, &lease, &wait));
        assert_int_equal(lease.plan.source, CATALOG_INPUT_PREVIOUS);
        assert_ok(catalog_shard_commit(f->catalog, &lease, i == 0 ? "a" : "b",
                                       &(struct object_written){.sha256 = "s"}, &err));
    }
    assert_int_equal(read_accounts(f).read, 6);
    what = find_sources(f, CATALOG_SAMPLE_QUARANTINED, "no_server", -1);
    assert_int_equal(what.n, 2);
    assert_string_equal(what.keys[0], "a.tar");
    assert_int_equal(what.of[0].source.source, CATALOG_INPUT_JOB);
}

void catalog_accounts_contract(const struct catalog_target *target)
{
    static const struct {
        const char *name;
        void (*run)(struct fixture *f);
    } tests[] = {
#define TEST(name) {#name, name}
        TEST(a_paused_job_hands_out_nothing_now_and_a_cancelled_one_never),
        TEST(a_job_has_no_more_leases_out_than_its_quota),
        TEST(a_worker_has_one_row_that_tells_its_latest),
        TEST(a_sample_that_is_tried_again_has_one_state_all_the_time),
        TEST(retries_need_a_job_that_may_run),
        TEST(a_shard_that_is_made_again_keeps_its_rows),
        TEST(an_extended_shard_can_still_be_tried_again_from_its_input),
#undef TEST
    };

    for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
        struct fixture *f = setup(target, tests[i].name);

        print_message("  %s\n", tests[i].name);
        tests[i].run(f);
        teardown(f);
    }
}
