#include "coordinator/local_run.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"
#include "worker/model_record.h"

#include <stdlib.h>

/* Runs the job with the fixture's models, and finds its row. */
static enum status run_job(struct small_run *run, int64_t sample_limit, struct run_summary *summary,
                           struct error *err)
{
    const struct local_run_options options = {
        .job = run->job, .sample_limit = sample_limit, .engine = run->engine};
    enum status st = local_run(&options, summary, err);
    const char *config;
    struct error missing;

    assert_int_equal(
        catalog_job_find(run->catalog, run->job->name, &run->arena, &run->row, &config, &missing),
        ST_OK);
    return st;
}

static long long calls(const struct small_run *run)
{
    long long n = atomic_load(&run->captioner->n_calls);

    for (size_t t = 0; t < run->job->n_teachers; t++)
        n += atomic_load(&run->teachers[t]->n_calls);
    return n;
}

static size_t lines_of(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static void a_finished_job_run_again_does_no_model_work(void **state) /* DR 37 */
{
    struct run_summary summary;
    struct small_run run;
    struct error err = {0};
    long long before;
    const char *manifest;

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", 9);
    small_run_put_samples(&run, "b", 2);
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_false(summary.nothing_to_do);
    assert_int_equal(summary.captions, 22);
    before = calls(&run);
    assert_true(before > 0);
    manifest = small_run_text(&run, "manifest.jsonl");
    assert_int_equal(lines_of(manifest), 2);

    assert_ok(run_job(&run, 0, &summary, &err));
    assert_true(summary.nothing_to_do);
    assert_int_equal(calls(&run), before);
    assert_int_equal(summary.captions + summary.views_embedded + summary.texts_embedded, 0);
    assert_int_equal(summary.progress.catalog.shards_done, 2);
    assert_string_equal(small_run_text(&run, "manifest.jsonl"), manifest);
    {
        const struct local_run_options options = {.job = run.job}; /* whose models do not exist */

        assert_ok(local_run(&options, &summary, &err)); /* not even loaded */
        assert_true(summary.nothing_to_do);
    }
    small_run_release(&run);
}

/* A model goes away in the last shard and comes back: what was committed is not computed again, and
 * the manifest lists every shard. */
static void a_resumed_job_goes_on_where_it_stopped(void **state) /* DR 37, 38 */
{
    static const char *const sets[] = {"workers.max_attempts=1", "workers.threads=1", NULL};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct run_summary summary;
    struct small_run run, whole;
    struct error err = {0};

    (void)state;
    small_run_init(&run, sets);
    small_run_init(&whole, NULL);
    for (int i = 0; i < 2; i++) {
        small_run_put_samples(i == 0 ? &run : &whole, "a", 9);
        small_run_put_samples(i == 0 ? &run : &whole, "b", 20);
    }
    run.captioner->fault = FAKE_AWAY;
    run.captioner->trap = "b-017";
    assert_status(run_job(&run, 0, &summary, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.message, "1 of 2 shards failed"));
    assert_int_equal(small_run_samples(&run, samples), 9 + 16); /* one shard, and two parts */

    run.captioner->trap = NULL;
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_int_equal(summary.captions, 2 * 4); /* of the samples that were missing, N each */
    assert_int_equal(summary.progress.samples_this_run, 4);
    assert_int_equal(summary.progress.catalog.samples_done, 29);

    assert_ok(run_job(&whole, 0, &summary, &err));
    assert_int_equal(lines_of(small_run_text(&run, "manifest.jsonl")), 2);
    small_run_assert_same(&run, &whole, 2);
    small_run_release(&whole);
    small_run_release(&run);
}

static void a_dataset_says_which_models_made_it(void **state)
{
    struct run_summary summary;
    struct small_run run;
    struct error err = {0};
    char zeros[SHA256_HEX_LEN + 1] = "", want[1024];

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", 2);
    assert_ok(run_job(&run, 0, &summary, &err));
    memset(zeros, '0', SHA256_HEX_LEN);
    (void)snprintf(want, sizeof want,
                   "{\"captioners\": [{\"name\": \"c0\", \"model\": \"none\", \"family\": "
                   "\"fake\", \"digest\": \"%s\"}], \"teachers\": [{\"name\": \"t0\", "
                   "\"model\": \"none\", \"family\": \"fake\", \"digest\": \"%s\", "
                   "\"image_size\": 32, \"mean\": [0.0, 0.0, 0.0], \"std\": [0.0, 0.0, 0.0], "
                   "\"dim\": 8, \"logit_scale\": 1.0}, {\"name\": \"t1\", \"model\": \"none\", "
                   "\"family\": \"fake\", "
                   "\"digest\": \"%s\", \"image_size\": 24, \"mean\": [0.0, 0.0, 0.0], \"std\": "
                   "[0.0, 0.0, 0.0], \"dim\": 6, \"logit_scale\": 1.0}]}",
                   zeros, zeros, zeros);
    assert_string_equal(small_run_text(&run, MODEL_RECORD_KEY), want);
    run.teachers[1]->base.info.weights_digest[0] = 'f'; /* another model by the same name */
    assert_ok(model_record_write(run.engine, run.output, &err));
    assert_non_null(strstr(small_run_text(&run, MODEL_RECORD_KEY), "\"digest\": \"f000"));
    small_run_release(&run);
}

static void a_drained_run_goes_on_later(void **state) /* DR 38 */
{
    static const char *const sets[] = {"workers.part_samples=1", "workers.queue_items=1", NULL};
    struct run_summary summary;
    struct small_run run;
    struct error err = {0};
    int64_t first;

    (void)state;
    small_run_init(&run, sets);
    small_run_put_samples(&run, "a", 100);
    {
        atomic_bool stop = true;
        const struct local_run_options options = {
            .job = run.job, .engine = run.engine, .stop = &stop};

        assert_ok(local_run(&options, &summary, &err));
    }
    first = summary.progress.samples_this_run;
    if (first < 100)
        assert_true(summary.drained);
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_int_equal(summary.progress.samples_this_run, 100 - first);
    assert_int_equal(summary.progress.catalog.samples_done, 100);
    small_run_release(&run);
}

static void equal_base_names_give_outputs_of_their_own(void **state) /* DR 39 */
{
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct run_summary summary;
    struct small_run run;
    struct error err = {0};

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "x/00", 3);
    small_run_put_samples(&run, "y/00", 4);
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_int_equal(summary.progress.catalog.shards_done, 2);
    assert_int_equal(small_run_records(&run, "00000000.tar", records), 3);
    assert_int_equal(small_run_records(&run, "00000001.tar", records), 4);
    assert_int_equal(lines_of(small_run_text(&run, "manifest.jsonl")), 2);
    small_run_release(&run);
}

static void the_number_of_workers_changes_nothing(void **state) /* DR 40 */
{
    static const char *const one[] = {"workers.count=1", "workers.threads=1", NULL};
    static const char *const many[] = {"workers.count=4", "workers.part_samples=3",
                                       "workers.queue_items=2", NULL};
    struct run_summary summary;
    struct small_run runs[2];
    struct error err = {0};

    (void)state;
    for (size_t r = 0; r < 2; r++) {
        small_run_init(&runs[r], r == 0 ? one : many);
        for (char name[] = "a"; name[0] < 'g'; name[0]++)
            small_run_put_samples(&runs[r], name, 10);
        runs[r].captioner->fault = FAKE_EMPTY;
        runs[r].captioner->trap = "-006";
        assert_ok(run_job(&runs[r], 0, &summary, &err));
        assert_int_equal(summary.progress.catalog.samples_quarantined, 6);
        assert_int_equal(summary.progress.catalog.samples_done, 54);
    }
    small_run_assert_same(&runs[0], &runs[1], 6);
    small_run_release(&runs[1]);
    small_run_release(&runs[0]);
}

/* Shards that end between two heartbeats spend the failure budget too. */
static void a_job_of_bad_samples_pauses(void **state) /* DR 35 */
{
    static const char *const sets[] = {"budget.failure_fraction=0.5", "budget.failure_window=10",
                                       "workers.threads=1", NULL};
    struct run_summary summary;
    struct small_run run;
    struct error err = {0};

    (void)state;
    small_run_init(&run, sets);
    run.captioner->fault = FAKE_REFUSES;
    run.captioner->trap = "-";
    for (char name[] = "a"; name[0] < 'j'; name[0]++)
        small_run_put_samples(&run, name, 10);
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_true(summary.over_budget);
    assert_int_equal(run.row.state, CATALOG_JOB_PAUSED);
    assert_true(summary.progress.catalog.shards_done < 9);

    run.captioner->trap = NULL; /* mended: the rest is done */
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_int_equal(run.row.state, CATALOG_JOB_DONE);
    assert_int_equal(summary.progress.catalog.shards_done, 9);
    small_run_release(&run);
}

static void filtered_samples_spend_no_budget(void **state)
{
    static const char *const sets[] = {"budget.failure_fraction=0.01", "budget.failure_window=10",
                                       "curate.keep=[{score: width, min: 1000}]", NULL};
    struct run_summary summary;
    struct small_run run;
    struct error err = {0};

    (void)state;
    small_run_init(&run, sets);
    for (char name[] = "a"; name[0] < 'd'; name[0]++)
        small_run_put_samples(&run, name, 10);
    assert_ok(run_job(&run, 0, &summary, &err));
    assert_false(summary.over_budget);
    assert_int_equal(run.row.state, CATALOG_JOB_DONE);
    assert_int_equal(summary.progress.catalog.samples_filtered, 30);
    assert_int_equal(summary.progress.samples_this_run, 30);
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_finished_job_run_again_does_no_model_work),
        cmocka_unit_test(a_resumed_job_goes_on_where_it_stopped),
        cmocka_unit_test(a_dataset_says_which_models_made_it),
        cmocka_unit_test(a_drained_run_goes_on_later),
        cmocka_unit_test(equal_base_names_give_outputs_of_their_own),
        cmocka_unit_test(the_number_of_workers_changes_nothing),
        cmocka_unit_test(a_job_of_bad_samples_pauses),
        cmocka_unit_test(filtered_samples_spend_no_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
