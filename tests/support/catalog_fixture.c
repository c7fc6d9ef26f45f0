#include "tests/support/catalog_fixture.h"

#include <stdlib.h>

const struct catalog_terms fixture_terms = {
    .lease_ms = LEASE_MS, .max_attempts = MAX_ATTEMPTS, .part_samples = 4, .samples_at_work = 8};

const struct catalog_shard_plan fixture_shards[2] = {
    {.shard = 0, .source = CATALOG_INPUT_JOB, .input_key = "a.tar", .input_format = "webdataset"},
    {.shard = 1,
     .source = CATALOG_INPUT_PLAN,
     .input_key = "_reinforce/plan/1.jsonl",
     .input_format = "jsonl"}};

static struct fixture *setup(const struct catalog_target *target, const char *name)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};

    assert_non_null(f);
    f->target = target;
    arena_init(&f->arena, 1 << 24);
    assert_ok(catalog_open(target->url, &f->catalog, &err));
    assert_ok(
        catalog_job_begin(f->catalog, name, "d1", "{}", 5, &f->arena, &f->job, &f->config, &err));
    assert_int_equal(f->job.state, CATALOG_JOB_PLANNING);
    assert_ok(catalog_plan_commit(f->catalog, &f->job, fixture_shards, 2, true, &err));
    return f;
}

static void teardown(struct fixture *f)
{
    catalog_close(&f->catalog);
    arena_release(&f->arena);
    free(f);
}

void fixture_pass_time(struct fixture *f, int64_t ms)
{
    f->now += ms;
    if (f->target->pass_time != NULL)
        f->target->pass_time(f->target->ctx, ms);
}

enum status fixture_take(struct fixture *f, struct catalog_lease *lease, int64_t *wait,
                         struct error *err)
{
    return catalog_lease_take(f->catalog, f->job.job, "w", f->now, &fixture_terms, &f->arena, lease,
                              wait, err);
}

enum status fixture_commit(struct fixture *f, struct catalog_lease *lease, const char *uid,
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

void fixture_run(const struct catalog_target *target, const struct fixture_test *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fixture *f = setup(target, tests[i].name);

        print_message("  %s\n", tests[i].name);
        tests[i].run(f);
        teardown(f);
    }
}
