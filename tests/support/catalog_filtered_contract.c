/* What every catalog must do with samples that a rule of the job has dropped: a state of its own,
 * which is counted apart and never tried again. */
#include "storage/catalog/catalog_outbox.h"
#include "tests/support/catalog_fixture.h"

static const struct catalog_sample done = {
    .uid = {(const uint8_t *)"done", 4}, .index = 0, .state = CATALOG_SAMPLE_DONE};
static const struct catalog_sample quarantined = {.uid = {(const uint8_t *)"bad", 3},
                                                  .index = 1,
                                                  .state = CATALOG_SAMPLE_QUARANTINED,
                                                  .stage = "decode",
                                                  .reason = "undecodable_image"};
static const struct catalog_sample small = {.uid = {(const uint8_t *)"small", 5},
                                            .index = 2,
                                            .state = CATALOG_SAMPLE_FILTERED,
                                            .stage = "curate",
                                            .reason = "curate.keep[0]",
                                            .detail = "width 3 is below 8",
                                            .width = 3,
                                            .height = 4};
static const struct catalog_sample wrong = {.uid = {(const uint8_t *)"wrong", 5},
                                            .index = 3,
                                            .state = CATALOG_SAMPLE_FILTERED,
                                            .stage = "curate",
                                            .reason = "names it",
                                            .detail = "similarity 0.1 is below 0.2"};

static struct catalog_lease take(struct fixture *f)
{
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    return lease;
}

static void commit(struct fixture *f, struct catalog_lease *lease,
                   const struct catalog_sample *samples, size_t n)
{
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.bytes = 10, .sha256 = "abc"},
                                      .next_index = lease->next_index + n,
                                      .n_samples = n,
                                      .samples = samples};
    struct error err = {0};

    assert_ok(catalog_part_commit(f->catalog, lease, &part, &err));
    lease->n_parts++;
    lease->next_index += n;
}

static void end(struct fixture *f, const struct catalog_lease *lease)
{
    const struct object_written written = {.bytes = 7, .sha256 = "s"};
    struct error err = {0};

    assert_ok(catalog_shard_commit(f->catalog, lease, "out", &written, &err));
}

/* Shard 0: one done, one quarantined, two filtered by two rules. */
static struct catalog_lease finish_shard(struct fixture *f)
{
    struct catalog_lease lease = take(f);
    const struct catalog_sample samples[] = {done, quarantined, small, wrong};

    commit(f, &lease, samples, ARRAY_LEN(samples));
    end(f, &lease);
    return lease;
}

struct seen {
    int n, n_filtered;
    struct catalog_account account;
};

static enum status see_account(void *ctx, const struct catalog_account *account, struct error *err)
{
    struct seen *seen = ctx;

    (void)err;
    if (account->shard == 0)
        seen->account = *account;
    return ST_OK;
}

static enum status see_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    struct seen *seen = ctx;

    (void)err;
    assert_int_equal(output->n_done, 1);
    assert_int_equal(output->n_quarantined, 1);
    assert_int_equal(output->n_filtered, 2);
    seen->n++;
    return ST_OK;
}

static enum status see_rule(void *ctx, const char *reason, const char *stage, int64_t n,
                            struct error *err)
{
    struct seen *seen = ctx;

    (void)err;
    assert_string_equal(reason, seen->n == 0 ? small.reason : wrong.reason);
    assert_string_equal(stage, "curate");
    assert_int_equal(n, 1);
    seen->n++;
    return ST_OK;
}

static enum status see_cause(void *ctx, const char *reason, const char *stage, int64_t n,
                             struct error *err)
{
    struct seen *seen = ctx;

    (void)err;
    (void)stage;
    assert_string_equal(reason, quarantined.reason);
    seen->n += (int)n;
    return ST_OK;
}

static void filtered_samples_are_counted_apart(struct fixture *f)
{
    struct catalog_lease lease = take(f);
    const struct catalog_sample samples[] = {done, quarantined, small, wrong};
    struct catalog_progress progress;
    struct catalog_part_row *rows;
    struct seen seen = {0};
    struct error err = {0};
    size_t n;

    commit(f, &lease, samples, ARRAY_LEN(samples));
    assert_ok(catalog_parts(f->catalog, f->job.job, 0, &f->arena, &rows, &n, &err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].n_done, 1);
    assert_int_equal(rows[0].n_quarantined, 1);
    assert_int_equal(rows[0].n_filtered, 2);
    end(f, &lease);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 1);
    assert_int_equal(progress.samples_quarantined, 1);
    assert_int_equal(progress.samples_filtered, 2);
    assert_int_equal(progress.samples_in_done_shards, 4);
    assert_ok(catalog_outputs(f->catalog, f->job.job, see_output, &seen, &err));
    assert_int_equal(seen.n, 1);
    assert_ok(catalog_accounts(f->catalog, f->job.job, see_account, &seen, &err));
    assert_int_equal(seen.account.read, 4);
    assert_int_equal(seen.account.done, 1);
    assert_int_equal(seen.account.quarantined, 1);
    assert_int_equal(seen.account.filtered, 2);
    assert_int_equal(seen.account.output_filtered, 2);
    seen.n = 0;
    assert_ok(
        catalog_reasons(f->catalog, f->job.job, CATALOG_SAMPLE_FILTERED, see_rule, &seen, &err));
    assert_int_equal(seen.n, 2);
    seen.n = 0;
    assert_ok(catalog_reasons(f->catalog, f->job.job, CATALOG_SAMPLE_QUARANTINED, see_cause, &seen,
                              &err));
    assert_int_equal(seen.n, 1);
}

static enum status see_sample(void *ctx, int64_t shard, const struct catalog_sample *sample,
                              struct error *err)
{
    struct seen *seen = ctx;

    (void)shard;
    (void)err;
    seen->n++;
    if (sample->state != CATALOG_SAMPLE_FILTERED || seen->n_filtered++ > 0)
        return ST_OK;
    assert_string_equal(sample->reason, small.reason);
    assert_string_equal(sample->detail, small.detail);
    assert_string_equal(sample->stage, small.stage);
    assert_int_equal(sample->width, small.width);
    return ST_OK;
}

static void a_filtered_sample_tells_its_rule_and_is_in_no_shard(struct fixture *f)
{
    struct seen seen = {0};
    struct error err = {0};

    (void)finish_shard(f);
    assert_ok(catalog_sample_find(f->catalog, f->job.job, small.uid, see_sample, &seen, &err));
    assert_int_equal(seen.n_filtered, 1);
    assert_ok(catalog_samples(f->catalog, f->job.job, see_sample, &seen, &err));
    assert_int_equal(seen.n, 1 + 4);
    seen = (struct seen){0};
    assert_ok(catalog_shard_samples(f->catalog, f->job.job, 0, see_sample, &seen, &err));
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.n_filtered, 0);
}

static enum status see_source(void *ctx, const struct catalog_source *source, struct error *err)
{
    struct seen *seen = ctx;

    (void)err;
    assert_int_equal(source->index, quarantined.index);
    seen->n++;
    return ST_OK;
}

static void what_is_filtered_is_not_tried_again_and_a_retry_may_be_filtered(struct fixture *f)
{
    static const struct catalog_source_query query = {.state = CATALOG_SAMPLE_QUARANTINED,
                                                      .shard = -1};
    static const struct catalog_shard_plan plan = {
        .shard = 2, .source = CATALOG_INPUT_LIST, .input_key = "l", .input_format = "list"};
    static const struct catalog_retry retry = {.shard = 2, .old_index = 1, .source_index = 1};
    struct catalog_sample again = small;
    struct catalog_lease lease;
    struct seen seen = {0};
    struct error err = {0};

    (void)finish_shard(f);
    lease = take(f);
    end(f, &lease);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_ok(catalog_sources(f->catalog, f->job.job, &query, see_source, &seen, &err));
    assert_int_equal(seen.n, 1);
    assert_ok(catalog_retry_commit(f->catalog, f->job.job, &plan, 1, &retry, 1, &err));
    lease = take(f);
    again.uid = quarantined.uid;
    again.index = 0;
    commit(f, &lease, &again, 1);
    assert_ok(catalog_accounts(f->catalog, f->job.job, see_account, &seen, &err));
    assert_int_equal(seen.account.retried, 1);
    assert_int_equal(seen.account.quarantined, 0);
    assert_int_equal(seen.account.filtered, 2);
    assert_int_equal(seen.account.output_quarantined, 0);
    assert_int_equal(seen.account.output_filtered, 2);
}

static void a_shard_is_tried_anew_after_a_part_that_was_all_filtered(struct fixture *f)
{
    struct catalog_lease lease = take(f);
    struct error err = {0};
    struct catalog_sample first = small;

    assert_ok(catalog_lease_release(f->catalog, &lease, true, "no server", &err));
    lease = take(f);
    assert_int_equal(lease.attempts, 1);
    first.index = 0;
    commit(f, &lease, &first, 1);
    assert_ok(catalog_lease_release(f->catalog, &lease, false, NULL, &err));
    lease = take(f);
    assert_int_equal(lease.attempts, 0); /* it had got on */
}

static void a_sample_that_is_made_again_may_be_filtered(struct fixture *f)
{
    struct catalog_sample again = small;
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct error err = {0};

    (void)finish_shard(f);
    lease = take(f);
    end(f, &lease);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_ok(catalog_shard_redo(f->catalog, f->job.job, 0, "list", 1, &err));
    lease = take(f);
    again.uid = done.uid;
    again.index = 0;
    commit(f, &lease, &again, 1);
    end(f, &lease);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 0);
    assert_int_equal(progress.samples_quarantined, 1);
    assert_int_equal(progress.samples_filtered, 3);
}

static void an_extension_leaves_them_where_they_are(struct fixture *f)
{
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct error err = {0};

    (void)finish_shard(f);
    lease = take(f);
    end(f, &lease);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_ok(catalog_job_extend(f->catalog, f->job.job, "d2", "{}", "webdataset", &err));
    lease = take(f);
    assert_int_equal(lease.plan.input_samples, 1);
    commit(f, &lease, &done, 1);
    end(f, &lease);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 1);
    assert_int_equal(progress.samples_filtered, 2);
}

static void events_tell_of_them(struct fixture *f)
{
    struct catalog_outbox_row *rows;
    struct error err = {0};
    size_t n;

    assert_ok(catalog_job_set_events(f->catalog, f->job.job, CATALOG_EVENTS_SAMPLES, &err));
    (void)finish_shard(f);
    assert_ok(catalog_outbox_read(f->catalog, f->job.job, 100, &f->arena, &rows, &n, &err));
    assert_int_equal(n, 5);
    assert_int_equal(rows[2].sample.state, CATALOG_SAMPLE_FILTERED);
    assert_string_equal(rows[2].sample.reason, small.reason);
    assert_string_equal(rows[2].sample.detail, small.detail);
    assert_false(rows[4].is_sample);
    assert_int_equal(rows[4].output.n_quarantined, 1);
    assert_int_equal(rows[4].output.n_filtered, 2);
}

void catalog_filtered_contract(const struct catalog_target *target)
{
    static const struct fixture_test tests[] = {
        FIXTURE_TEST(filtered_samples_are_counted_apart),
        FIXTURE_TEST(a_filtered_sample_tells_its_rule_and_is_in_no_shard),
        FIXTURE_TEST(what_is_filtered_is_not_tried_again_and_a_retry_may_be_filtered),
        FIXTURE_TEST(a_shard_is_tried_anew_after_a_part_that_was_all_filtered),
        FIXTURE_TEST(a_sample_that_is_made_again_may_be_filtered),
        FIXTURE_TEST(an_extension_leaves_them_where_they_are),
        FIXTURE_TEST(events_tell_of_them),
    };

    fixture_run(target, tests, ARRAY_LEN(tests));
}
