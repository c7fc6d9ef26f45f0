#include "tests/support/catalog_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void begin_job(struct fixture *f, const char *name, const char *digest,
                      struct catalog_job *job)
{
    const char *config;
    struct error err = {0};

    assert_ok(
        catalog_job_begin(f->catalog, name, digest, digest, 5, &f->arena, job, &config, &err));
    assert_string_equal(job->config_digest, digest);
    assert_string_equal(config, digest);
}

static enum status take_of(struct fixture *f, const struct catalog_job *job,
                           struct catalog_lease *lease, int64_t *wait)
{
    struct error err;

    return catalog_lease_take(f->catalog, job->job, "w", f->now, &fixture_terms, &f->arena, lease,
                              wait, &err);
}

/* Is the job over? */
static enum status see_over(void *ctx, const struct catalog_job_row *row, struct error *err)
{
    struct catalog_job_row *wanted = ctx;

    (void)err;
    if (row->job.job == wanted->job.job)
        *wanted = *row;
    return ST_OK;
}

static void shards_go_out_while_others_are_still_planned(struct fixture *f)
{
    struct catalog_shard_plan plan[5], other;
    struct catalog_job_row row = {0};
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    for (int i = 0; i < 5; i++) {
        plan[i] = fixture_shards[0];
        plan[i].shard = i;
        plan[i].input_begin = (uint64_t)i;
    }
    begin_job(f, "streamed", "d", &row.job);
    assert_status(take_of(f, &row.job, &lease, &wait), ST_NOT_FOUND);
    assert_in_range(wait, 0, 1000); /* soon, perhaps */
    assert_ok(catalog_plan_commit(f->catalog, &row.job, plan, 2, false, &err));
    assert_ok(take_of(f, &row.job, &lease, &wait));
    assert_int_equal(lease.shard, 0);
    assert_ok(take_of(f, &row.job, &lease, &wait));
    assert_ok(catalog_shard_commit(f->catalog, &lease, "o",
                                   &(struct object_written){.bytes = 1, .sha256 = "x"}, &err));
    assert_ok(catalog_jobs(f->catalog, f->now, see_over, &row, &err));
    assert_int_equal(row.job.state, CATALOG_JOB_PLANNING);
    assert_false(row.job.is_planned);

    /* that planner dies, and the next one begins anew, in other portions */
    assert_ok(catalog_plan_commit(f->catalog, &row.job, plan, 3, false, &err));
    other = plan[2];
    other.input_begin++;
    assert_status(catalog_plan_commit(f->catalog, &row.job, &other, 1, false, &err), ST_CONFLICT);
    assert_non_null(strstr(err.message, "has changed"));
    assert_ok(catalog_job_move(f->catalog, row.job.job, CATALOG_JOB_PLANNING, CATALOG_JOB_PAUSED,
                               "", &err));
    assert_status(catalog_plan_commit(f->catalog, &row.job, &plan[3], 1, false, &err),
                  ST_CONFLICT); /* nor while it is paused */
    assert_ok(catalog_job_move(f->catalog, row.job.job, CATALOG_JOB_PAUSED, CATALOG_JOB_PLANNING,
                               "", &err));
    assert_ok(catalog_plan_commit(f->catalog, &row.job, &plan[3], 2, true, &err));
    assert_ok(catalog_jobs(f->catalog, f->now, see_over, &row, &err));
    assert_int_equal(row.job.state, CATALOG_JOB_RUNNING);
    assert_true(row.job.is_planned);
    assert_int_equal(row.n_ready, 3);
    assert_false(row.is_over);
}

static void a_job_that_could_not_be_planned_takes_a_mended_configuration(struct fixture *f)
{
    struct catalog_job first, second;
    const char *stored;
    struct error err = {0};

    begin_job(f, "mended", "wrong", &first);
    assert_ok(catalog_job_move(f->catalog, first.job, CATALOG_JOB_PLANNING, CATALOG_JOB_PAUSED,
                               "no such input", &err));
    begin_job(f, "mended", "right", &second);
    assert_int_equal(second.job, first.job);
    assert_int_equal(second.state, CATALOG_JOB_PLANNING);
    assert_status(catalog_plan_commit(f->catalog, &first, fixture_shards, 1, false, &err),
                  ST_CONFLICT); /* by one who still plans the first */
    assert_ok(catalog_plan_commit(f->catalog, &second, fixture_shards, 1, false, &err));
    assert_status(catalog_job_begin(f->catalog, "mended", "another", "x", 5, &f->arena, &first,
                                    &stored, &err),
                  ST_CONFLICT); /* too late */
    assert_string_equal(stored, "right");
}

static void another_digest_is_a_conflict_and_tells_what_is_stored(struct fixture *f)
{
    struct catalog_job job;
    const char *stored;
    struct error err = {0};

    assert_status(catalog_job_begin(f->catalog, f->job.name, "d2", "{\"x\": 1}", 9, &f->arena, &job,
                                    &stored, &err),
                  ST_CONFLICT);
    assert_string_equal(stored, "{}");
    assert_int_equal(job.job, f->job.job);
    assert_int_equal(job.created_ms, 5);
}

static void a_part_is_whole_or_not_there_and_repeating_it_is_harmless(struct fixture *f)
{
    struct catalog_lease lease, again;
    const struct catalog_part other = {.object_key = "p", .written = {.sha256 = "other bytes"}};
    struct catalog_part_row *rows;
    struct catalog_progress progress;
    struct error err = {0};
    size_t n;
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(fixture_commit(f, &lease, "cat", 0, &err));
    assert_ok(fixture_commit(f, &lease, "cat", 0,
                             &err)); /* the answer was lost, the call is made again */
    lease.n_parts = 1;
    assert_int_not_equal(fixture_commit(f, &lease, "dog", 1, &err),
                         ST_OK); /* sample 1 has its state already */
    assert_ok(catalog_parts(f->catalog, f->job.job, 0, &f->arena, &rows, &n, &err));
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].n_done, 1);
    assert_int_equal(rows[0].n_quarantined, 1);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done + progress.samples_quarantined, 2);
    assert_ok(catalog_leases_reset(f->catalog, f->job.job, &err));
    assert_ok(fixture_take(f, &again, &wait, &err));
    assert_int_equal(again.next_index, 2);
    assert_int_equal(again.next_offset, 512);
    assert_int_equal(again.n_parts, 1);
    assert_int_equal(again.attempts, 0);
    again.n_parts = 0; /* there already, but by another epoch */
    assert_status(fixture_commit(f, &again, "cat", 0, &err), ST_CONFLICT);
    again.n_parts = 7; /* parts come in order */
    assert_status(fixture_commit(f, &again, "dog", 2, &err), ST_CONFLICT);
    again.n_parts = 1;
    assert_ok(fixture_commit(f, &again, "dog", 2, &err));
    assert_status(catalog_part_commit(f->catalog, &again, &other, &err), ST_CONFLICT);
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

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(fixture_commit(f, &lease, uid, 0, &err));
    assert_ok(catalog_shard_commit(f->catalog, &lease, uid, &written, &err));
}

static void a_finished_job_can_be_read_and_extended(struct fixture *f)
{
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait, n_reasons = 0;
    int n_seen = 0;

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
    n_seen = 0;
    assert_ok(catalog_shard_samples(f->catalog, f->job.job, 0, see_sample, &n_seen, &err));
    assert_int_equal(n_seen, 1); /* the quarantined one is left out */
    assert_ok(catalog_shard_samples(f->catalog, f->job.job, 7, see_sample, &n_seen, &err));
    assert_int_equal(n_seen, 1);
    assert_ok(catalog_reasons(f->catalog, f->job.job, CATALOG_SAMPLE_QUARANTINED, see_reason,
                              &n_reasons, &err));
    assert_int_equal(n_reasons, 2);

    assert_ok(catalog_job_extend(f->catalog, f->job.job, "d2", "{}", "webdataset", &err));
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_int_equal(lease.plan.source, CATALOG_INPUT_PREVIOUS);
    assert_string_equal(lease.plan.input_key, "cat");
    assert_int_equal(lease.plan.input_samples, 1);
    assert_int_equal(lease.n_parts, 0);
    assert_ok(catalog_shard_input(f->catalog, f->job.job, 0, &f->arena, &lease.plan, &err));
    assert_int_equal(lease.plan.source, CATALOG_INPUT_PREVIOUS);
    assert_string_equal(lease.plan.input_key, "cat");
}

static void what_a_shard_reads_is_told_before_and_after_it_is_leased(struct fixture *f)
{
    struct catalog_shard_plan plan;
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    for (int leased = 0; leased < 2; leased++) {
        assert_ok(catalog_shard_input(f->catalog, f->job.job, 1, &f->arena, &plan, &err));
        assert_int_equal(plan.shard, 1);
        assert_int_equal(plan.source, CATALOG_INPUT_PLAN);
        assert_string_equal(plan.input_key, fixture_shards[1].input_key);
        assert_string_equal(plan.input_format, "jsonl");
        assert_int_equal(plan.input_samples, 0);
        assert_ok(fixture_take(f, &lease, &wait, &err));
    }
    assert_status(catalog_shard_input(f->catalog, f->job.job, 2, &f->arena, &plan, &err),
                  ST_NOT_FOUND);
    assert_status(catalog_shard_input(f->catalog, f->job.job + 1000, 0, &f->arena, &plan, &err),
                  ST_NOT_FOUND);
}

static void a_planned_job_is_not_planned_again_whatever_the_plan(struct fixture *f)
{
    static const struct catalog_shard_plan third = {.shard = 2,
                                                    .source = CATALOG_INPUT_JOB,
                                                    .input_key = "c.tar",
                                                    .input_format = "webdataset"};
    struct catalog_progress progress;
    struct catalog_job job, other = f->job;
    struct error err = {0};

    assert_status(catalog_plan_commit(f->catalog, &f->job, fixture_shards, 2, true, &err),
                  ST_CONFLICT);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_status(catalog_plan_commit(f->catalog, &f->job, &third, 1, true, &err), ST_CONFLICT);
    assert_status(catalog_plan_commit(f->catalog, &f->job, NULL, 0, true, &err), ST_CONFLICT);
    other.job++;
    assert_status(catalog_plan_commit(f->catalog, &other, &third, 1, true, &err), ST_CONFLICT);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_total, 2);
    assert_ok(catalog_job_find(f->catalog, f->job.name, &f->arena, &job, &f->config, &err));
    assert_int_equal(job.state, CATALOG_JOB_DONE);
    assert_status(catalog_job_find(f->catalog, "no such job", &f->arena, &job, &f->config, &err),
                  ST_NOT_FOUND);
}

static void a_sample_gets_one_terminal_state_or_the_part_is_refused(struct fixture *f)
{
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

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_status(catalog_part_commit(f->catalog, &lease, &part, &err), ST_INTERNAL);
    part.samples = &no_reason;
    part.n_samples = 1;
    assert_status(catalog_part_commit(f->catalog, &lease, &part, &err), ST_INTERNAL);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done + progress.samples_quarantined, 0);
    assert_ok(catalog_parts(f->catalog, f->job.job, 0, &f->arena, &rows, &n, &err));
    assert_int_equal(n, 0);
    assert_ok(fixture_commit(f, &lease, "cat", 0, &err)); /* the handle is as good as before */
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

static void walks_go_in_order_and_end_when_told(struct fixture *f)
{
    struct catalog_progress progress;
    struct error err = {0};
    int n = 0;

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
    assert_ok(fixture_take(f, lease, &wait, &err));
    assert_int_equal(lease->shard, 0);
}

static void an_extended_sample_is_found_by_uid_and_keeps_its_place(struct fixture *f)
{
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
}

static void a_sample_quarantined_by_an_extension_loses_its_rows_not_its_place(struct fixture *f)
{
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
}

static void two_jobs_do_not_touch_each_other(struct fixture *f)
{
    struct catalog_job job;
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct error err = {0};
    const char *config;
    int64_t wait;

    assert_ok(
        catalog_job_begin(f->catalog, "another job", "d", "{}", 5, &f->arena, &job, &config, &err));
    assert_int_not_equal(job.job, f->job.job);
    assert_ok(catalog_plan_commit(f->catalog, &job, fixture_shards, 1, true, &err));
    finish_shard(f, "cat");
    assert_ok(catalog_leases_reset(f->catalog, f->job.job, &err));
    assert_ok(catalog_read_progress(f->catalog, job.job, &progress, &err));
    assert_int_equal(progress.shards_total, 1);
    assert_int_equal(progress.shards_done + progress.samples_done, 0);
    assert_ok(catalog_lease_take(f->catalog, job.job, "w", f->now, &fixture_terms, &f->arena,
                                 &lease, &wait, &err));
    assert_int_equal(lease.epoch, 1);
}

struct seen_job {
    const char *name;
    struct catalog_job_row row;
    bool found;
};

static enum status see_job(void *ctx, const struct catalog_job_row *row, struct error *err)
{
    struct seen_job *seen = ctx;

    (void)err;
    if (strcmp(row->job.name, seen->name) == 0) {
        seen->row = *row;
        seen->found = true;
    }
    return ST_OK;
}

static struct catalog_job_row job_row(struct fixture *f)
{
    struct seen_job seen = {.name = f->job.name};
    struct error err = {0};

    struct catalog_job_row *rows;
    struct arena arena;
    bool kept = false;
    size_t n;

    assert_ok(catalog_jobs(f->catalog, f->now, see_job, &seen, &err));
    assert_true(seen.found);
    arena_init(&arena, 1 << 20);
    assert_ok(
        catalog_read_jobs(f->catalog, f->now, &arena, &rows, &n, &err)); /* the same at once */
    for (size_t i = 0; i < n; i++)
        kept = kept || (rows[i].job.job == seen.row.job.job && rows[i].n_ready == seen.row.n_ready);
    assert_true(kept);
    arena_release(&arena);
    return seen.row;
}

static void a_job_moves_only_from_the_state_it_is_in(struct fixture *f)
{
    struct catalog_job_row row = job_row(f);
    struct error err = {0};

    assert_int_equal(row.job.job, f->job.job);
    assert_string_equal(row.job.config_digest, "d1");
    assert_int_equal(row.job.created_ms, 5);
    assert_int_equal(row.job.state, CATALOG_JOB_RUNNING);
    assert_int_equal(row.priority, 0);
    assert_int_equal(row.rated_ms, 0);
    assert_status(/* there are shards to be done */
                  catalog_job_move(f->catalog, f->job.job, CATALOG_JOB_RUNNING, CATALOG_JOB_DONE,
                                   "", &err),
                  ST_CONFLICT);
    assert_ok(catalog_job_move(f->catalog, f->job.job, CATALOG_JOB_RUNNING, CATALOG_JOB_PAUSED,
                               "for lunch", &err));
    assert_status(
        catalog_job_move(f->catalog, f->job.job, CATALOG_JOB_RUNNING, CATALOG_JOB_DONE, "", &err),
        ST_CONFLICT);
    assert_ok(catalog_job_set_priority(f->catalog, f->job.job, -3, &err));
    assert_ok(catalog_job_set_rate(f->catalog, f->job.job, 2.5, 77, &err));
    row = job_row(f);
    assert_int_equal(row.job.state, CATALOG_JOB_PAUSED);
    assert_string_equal(row.note, "for lunch");
    assert_int_equal(row.priority, -3);
    assert_true(row.samples_per_second == 2.5 && row.rated_ms == 77);
}

static void jobs_tell_what_can_be_leased_and_when_they_are_over(struct fixture *f)
{
    struct catalog_lease lease;
    struct catalog_job_row row = job_row(f);
    int64_t wait, n;
    struct error err = {0};

    assert_int_equal(row.n_ready, 2);
    assert_false(row.is_over);
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_int_equal(job_row(f).n_ready, 1);
    fixture_pass_time(f, LEASE_MS + MARGIN_MS); /* it can be taken over now */
    assert_int_equal(job_row(f).n_ready, 2);
    assert_ok(catalog_leases_extend(f->catalog, f->job.job, f->now, LEASE_MS, &err));
    assert_int_equal(job_row(f).n_ready, 1);
    assert_ok(catalog_lease_release(f->catalog, &lease, true, "x", &err));
    for (int i = 0; i < 2 * MAX_ATTEMPTS - 1; i++) {
        assert_ok(fixture_take(f, &lease, &wait, &err));
        assert_ok(catalog_lease_release(f->catalog, &lease, true, "no disk", &err));
    }
    assert_status(fixture_take(f, &lease, &wait, &err), ST_NOT_FOUND);
    row = job_row(f);
    assert_int_equal(row.n_ready, 0);
    assert_true(row.is_over);
    assert_ok(catalog_shards_retry(f->catalog, f->job.job, &n, &err));
    assert_int_equal(n, 2);
    assert_false(job_row(f).is_over);
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_int_equal(lease.attempts, 0);
}

struct seen_shards {
    int n;
    int64_t shard, epoch, expires_in_ms;
    char owner[16], last_error[16];
};

static enum status see_shard(void *ctx, const struct catalog_shard_row *row, struct error *err)
{
    struct seen_shards *seen = ctx;

    (void)err;
    seen->n++;
    seen->shard = row->shard;
    seen->epoch = row->epoch;
    seen->expires_in_ms = row->expires_in_ms;
    (void)snprintf(seen->owner, sizeof seen->owner, "%s", row->owner != NULL ? row->owner : "");
    (void)snprintf(seen->last_error, sizeof seen->last_error, "%s",
                   row->last_error != NULL ? row->last_error : "");
    return ST_OK;
}

static void shards_of_a_state_tell_who_has_them_and_what_went_wrong(struct fixture *f)
{
    struct seen_shards leased = {0}, ready = {0};
    struct catalog_lease lease;
    int64_t wait;
    struct error err = {0};

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(catalog_lease_release(f->catalog, &lease, true, "no disk", &err));
    assert_ok(catalog_shards(f->catalog, f->job.job, CATALOG_SHARD_READY, f->now, see_shard, &ready,
                             &err));
    assert_int_equal(ready.n, 2);
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(catalog_shards(f->catalog, f->job.job, CATALOG_SHARD_LEASED, f->now, see_shard,
                             &leased, &err));
    assert_int_equal(leased.n, 1);
    assert_int_equal(leased.shard, 0);
    assert_int_equal(leased.epoch, 2);
    assert_string_equal(leased.owner, "w");
    assert_string_equal(leased.last_error, "no disk");
    assert_true(leased.expires_in_ms > LEASE_MS - MARGIN_MS && leased.expires_in_ms <= LEASE_MS);
}

/* Tries from a process of its own, for a file's lock belongs to a process. */
static enum status coordinate_elsewhere(const char *url)
{
    pid_t child = fork();
    int how = 0;

    assert_true(child >= 0);
    if (child == 0) {
        struct catalog *catalog;
        struct error err = {0};
        enum status st = catalog_open(url, &catalog, &err);

        if (st == ST_OK)
            st = catalog_coordinate(catalog, &err);
        _exit((int)st);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    return (enum status)WEXITSTATUS(how);
}

static void one_coordinator_serves_a_catalog_and_the_next_takes_over(struct fixture *f)
{
    struct catalog *first;
    struct error err = {0};

    assert_ok(catalog_open(f->target->url, &first, &err));
    assert_ok(catalog_coordinate(first, &err));
    assert_ok(catalog_coordinate(first, &err)); /* still */
    assert_status(coordinate_elsewhere(f->target->url), ST_CONFLICT);
    catalog_close(&first);
    assert_status(coordinate_elsewhere(f->target->url), ST_OK); /* and died with it */
    assert_status(coordinate_elsewhere(f->target->url), ST_OK);
}

void catalog_contract(const struct catalog_target *target)
{
    static const struct fixture_test tests[] = {
        FIXTURE_TEST(another_digest_is_a_conflict_and_tells_what_is_stored),
        FIXTURE_TEST(shards_go_out_while_others_are_still_planned),
        FIXTURE_TEST(a_job_that_could_not_be_planned_takes_a_mended_configuration),
        FIXTURE_TEST(a_part_is_whole_or_not_there_and_repeating_it_is_harmless),
        FIXTURE_TEST(a_finished_job_can_be_read_and_extended),
        FIXTURE_TEST(what_a_shard_reads_is_told_before_and_after_it_is_leased),
        FIXTURE_TEST(a_planned_job_is_not_planned_again_whatever_the_plan),
        FIXTURE_TEST(a_sample_gets_one_terminal_state_or_the_part_is_refused),
        FIXTURE_TEST(walks_go_in_order_and_end_when_told),
        FIXTURE_TEST(an_extended_sample_is_found_by_uid_and_keeps_its_place),
        FIXTURE_TEST(a_sample_quarantined_by_an_extension_loses_its_rows_not_its_place),
        FIXTURE_TEST(two_jobs_do_not_touch_each_other),
        FIXTURE_TEST(a_job_moves_only_from_the_state_it_is_in),
        FIXTURE_TEST(jobs_tell_what_can_be_leased_and_when_they_are_over),
        FIXTURE_TEST(shards_of_a_state_tell_who_has_them_and_what_went_wrong),
        FIXTURE_TEST(one_coordinator_serves_a_catalog_and_the_next_takes_over),
    };

    fixture_run(target, tests, ARRAY_LEN(tests));
}
