#include "tests/support/small_run.h"

#include "coordinator/planner.h"
#include "reinforce/base/clock.h"
#include "reinforce/image/encode.h"
#include "tests/support/image_patterns.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_OVERRIDES = 16, MAX_BODY_BYTES = 1 << 26, LEASE_MS = 60000, MAX_ATTEMPTS = 3 };

static const char job_text[] = "{name: small, seed: 5,"
                               " input: {url: 'mem:%s/in', format: jsonl, shard_samples: 1000},"
                               " output: {url: 'mem:%s/out'}, catalog: {url: '%s'},"
                               " views: {count: 3},"
                               " captioners: [{name: c0, model: none, count: 2}],"
                               " teachers: [{name: t0, model: none}, {name: t1, model: none}],"
                               " workers: {count: 1, threads: 2, part_samples: 8, queue_items: 16},"
                               " budget: {failure_fraction: 1.0}}";

static void open_engine(struct small_run *run)
{
    static const struct {
        size_t dim;
        int size, context;
    } kinds[SMALL_RUN_MAX_TEACHERS] = {{8, 32, 16}, {6, 24, 48}, {4, 32, 48}};
    struct teacher *teachers[SMALL_RUN_MAX_TEACHERS] = {0};
    struct captioner *captioner = NULL;
    struct error err = {0};

    assert_true(run->job->n_teachers <= SMALL_RUN_MAX_TEACHERS && run->job->n_captioners <= 1);
    for (size_t t = 0; t < run->job->n_teachers; t++) {
        run->teachers[t] = fake_teacher_create(kinds[t].dim, kinds[t].size, kinds[t].context);
        teachers[t] = &run->teachers[t]->base;
    }
    if (run->job->n_captioners > 0) {
        run->captioner = fake_captioner_create();
        captioner = &run->captioner->base;
    }
    assert_ok(engine_create(run->job, teachers, &captioner, &run->engine, &err));
}

void small_run_init(struct small_run *run, const char *const *sets)
{
    struct job_override overrides[MAX_OVERRIDES];
    struct error err = {0};
    char text[2048];
    size_t n = 0;

    memset(run, 0, sizeof *run);
    arena_init(&run->arena, (size_t)1 << 28);
    temp_folder_init(&run->folder);
    (void)snprintf(run->catalog_url, sizeof run->catalog_url, "sqlite:%s/catalog.sqlite",
                   run->folder.path);
    (void)snprintf(text, sizeof text, job_text, run->folder.path, run->folder.path,
                   run->catalog_url);
    for (; sets != NULL && sets[n] != NULL; n++)
        overrides[n].text = sets[n];
    assert_ok(job_load_text(bytes_of_string(text), "small.yaml", overrides, n, &run->job, &err));
    open_engine(run);
    assert_ok(object_store_open(run->job->input.url, &run->input, &err));
    assert_ok(object_store_open(run->job->output.url, &run->output, &err));
    assert_ok(catalog_open(run->catalog_url, &run->catalog, &err));
    assert_ok(wake_init(&run->wake, &err));
    assert_ok(queue_create(16, SIZE_MAX, &run->ended, &err));
    isolation_init(&run->isolation);
    memory_budget_init(&run->budget, (size_t)run->job->workers.memory_bytes);
    run->context = (struct stage_context){.job = run->job,
                                          .engine = run->engine,
                                          .input = run->input,
                                          .output = run->output,
                                          .stats = &run->stats,
                                          .budget = &run->budget,
                                          .isolation = &run->isolation};
}

void small_run_release(struct small_run *run)
{
    assert_int_equal(run->budget.used_bytes, 0); /* whatever happened, nothing is held */
    memory_budget_release(&run->budget);
    isolation_release(&run->isolation);
    queue_close(run->ended);
    queue_destroy(&run->ended);
    wake_release(&run->wake);
    catalog_close(&run->catalog);
    object_store_close(&run->output);
    object_store_close(&run->input);
    engine_close(&run->engine);
    job_destroy(&run->job);
    temp_folder_release(&run->folder);
    json_decref(run->metas);
    arena_release(&run->arena);
}

void small_run_put(struct small_run *run, const char *key, struct bytes_view body)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(run->input, key, body, &written, &err));
}

void small_run_put_text(struct small_run *run, const char *key, const char *text)
{
    small_run_put(run, key, bytes_of_string(text));
}

static void put_png(struct small_run *run, const char *key, const struct image *image)
{
    struct error err = {0};
    struct byte_buf png;

    byte_buf_init(&png, MAX_BODY_BYTES);
    assert_ok(image_write_png(image, &png, &err));
    small_run_put(run, key, byte_buf_view(&png));
    byte_buf_release(&png);
}

void small_run_put_image(struct small_run *run, const char *key, int i)
{
    struct arena arena;
    struct image image;

    arena_init(&arena, MAX_BODY_BYTES);
    pattern_p(40 + i % 13, 50 + i % 7, 3, &arena, &image);
    for (size_t b = 0; b < image_bytes(&image); b++)
        image.pixels[b] = (uint8_t)(image.pixels[b] + 11 * i);
    put_png(run, key, &image);
    arena_release(&arena);
}

void small_run_put_grey(struct small_run *run, const char *key, int width, int height, int grey)
{
    struct error err = {0};
    struct arena arena;
    struct image image;

    arena_init(&arena, MAX_BODY_BYTES);
    assert_ok(image_alloc(&image, width, height, 3, &arena, &err));
    memset(image.pixels, grey, image_bytes(&image));
    put_png(run, key, &image);
    arena_release(&arena);
}

void small_run_put_samples(struct small_run *run, const char *name, int n)
{
    struct error err = {0};
    struct byte_buf lines;
    char key[256];

    byte_buf_init(&lines, MAX_BODY_BYTES);
    for (int i = 0; i < n; i++) {
        char line[1024];

        (void)snprintf(key, sizeof key, "img/%s-%03d.png", name, i);
        small_run_put_image(run, key, i);
        (void)snprintf(line, sizeof line,
                       "{\"uid\": \"%s-%03d\", \"image_key\": \"%s\", \"text\": \"caption of "
                       "%s-%03d, a picture\"}\n",
                       name, i, key, name, i);
        assert_ok(byte_buf_append(&lines, line, strlen(line), &err));
    }
    (void)snprintf(key, sizeof key, "%s.jsonl", name);
    small_run_put(run, key, byte_buf_view(&lines));
    byte_buf_release(&lines);
}

void small_run_plan(struct small_run *run)
{
    struct plan plan = {.job = run->job,
                        .input = {.store = run->input},
                        .output = run->output,
                        .arena = &run->arena};
    const char *stored = NULL;
    struct error err = {0};

    assert_ok(catalog_job_begin(run->catalog, run->job->name, run->job->digest,
                                run->job->effective_json, 1, &run->arena, &run->row, &stored,
                                &err));
    assert_ok(planner_run(&plan, &err));
    assert_ok(catalog_plan_commit(run->catalog, &run->row, plan.shards, plan.n_shards, true, &err));
}

struct shard_work *small_run_lease(struct small_run *run, int64_t now_ms)
{
    const struct catalog_terms terms = {.lease_ms = LEASE_MS,
                                        .max_attempts = MAX_ATTEMPTS,
                                        .part_samples = run->job->workers.part_samples,
                                        .samples_at_work = run->job->workers.queue_items};
    struct shard_work *work = calloc(1, sizeof *work);
    int64_t wait_ms;
    struct error err = {0};
    enum status st;

    assert_non_null(work);
    st = catalog_lease_take(run->catalog, run->row.job, "small", now_ms, &terms, &run->arena,
                            &work->lease, &wait_ms, &err);
    if (st == ST_NOT_FOUND) {
        free(work);
        return NULL;
    }
    assert_ok(st);
    work->grant.kind = WIRE_LEASE_GRANT;
    work->grant.u.lease_grant.input_source =
        work->lease.plan.source == CATALOG_INPUT_PLAN ? WIRE_SOURCE_PLAN : WIRE_SOURCE_INPUT;
    return work;
}

/* On the writer's thread. */
static void work_ended(void *ctx, struct shard_work *work)
{
    struct small_run *run = ctx;
    enum status st = queue_push(run->ended, work, 0);

    assert_int_equal(st, ST_OK);
}

struct pipeline *small_run_pipeline(struct small_run *run, int threads)
{
    const struct pipeline_options options = {.context = &run->context,
                                             .catalog_url = run->catalog_url,
                                             .threads = threads,
                                             .drain = &run->drain,
                                             .done = work_ended,
                                             .done_ctx = run,
                                             .idle = &run->wake};
    struct pipeline *pipeline;
    struct error err = {0};

    assert_ok(pipeline_create(&options, &pipeline, &err));
    return pipeline;
}

enum wire_outcome small_run_pass(struct small_run *run, struct pipeline *pipeline,
                                 struct shard_work *work)
{
    void *item;

    pipeline_submit(pipeline, work);
    assert_int_equal(queue_pop(run->ended, &item), ST_OK);
    assert_ptr_equal(item, work);
    return work->outcome;
}

void small_run_work(struct small_run *run, int threads, enum wire_outcome want)
{
    struct pipeline *pipeline = small_run_pipeline(run, threads);
    enum wire_outcome got = WIRE_OUTCOME_DONE;
    struct shard_work *work;

    while (got == WIRE_OUTCOME_DONE && (work = small_run_lease(run, clock_wall_ms())) != NULL) {
        got = small_run_pass(run, pipeline, work);
        if (got != want)
            fail_msg("shard %d ended as %d: %s", (int)work->lease.shard, (int)got, work->why);
        free(work);
    }
    pipeline_destroy(&pipeline);
}

size_t small_run_records(struct small_run *run, const char *key, struct record *records)
{
    const struct dataset_read_options options = {.max_sample_bytes = MAX_BODY_BYTES};
    const struct dataset_position from = {0};
    struct dataset_reader *reader;
    struct dataset_reject reject;
    struct error err = {0};
    enum status st = ST_OK;
    size_t n = 0;

    assert_ok(dataset_reader_open(dataset_format_by_name(run->job->output.format), run->output, key,
                                  &options, &from, &reader, &err));
    for (;;) {
        struct record record;

        st = dataset_reader_next(reader, &run->arena, &record, &reject, &err);
        if (st == ST_END)
            break;
        assert_ok(st);
        assert_true(n < SMALL_RUN_MAX_SAMPLES);
        if (record.meta != NULL) {
            if (run->metas == NULL)
                run->metas = json_array();
            assert_int_equal(json_array_append_new(run->metas, record.meta), 0);
        }
        records[n++] = record;
    }
    dataset_reader_close(&reader);
    return n;
}

struct gathering {
    struct small_run *run;
    struct small_sample *samples;
    size_t n;
};

static const char *keep(struct small_run *run, const char *text, size_t len)
{
    struct error err = {0};
    char *copy;

    if (text == NULL)
        return NULL;
    assert_ok(arena_strndup(&run->arena, text, len, &copy, &err));
    return copy;
}

static const char *keep_string(struct small_run *run, const char *text)
{
    return keep(run, text, text != NULL ? strlen(text) : 0);
}

static enum status gather(void *ctx, int64_t shard, const struct catalog_sample *sample,
                          struct error *err)
{
    struct gathering *g = ctx;

    (void)err;
    assert_true(g->n < SMALL_RUN_MAX_SAMPLES);
    assert_int_equal(sample->reason == NULL, sample->state == CATALOG_SAMPLE_DONE);
    g->samples[g->n++] = (struct small_sample){
        .shard = shard,
        .uid = keep(g->run, (const char *)sample->uid.data, sample->uid.len),
        .reason = keep_string(g->run, sample->reason),
        .detail = keep_string(g->run, sample->detail),
        .stage = keep_string(g->run, sample->stage),
    };
    return ST_OK;
}

size_t small_run_samples(struct small_run *run, struct small_sample *samples)
{
    struct gathering g = {.run = run, .samples = samples};
    struct error err = {0};

    assert_ok(catalog_samples(run->catalog, run->row.job, gather, &g, &err));
    return g.n;
}

struct small_sample small_run_sample(struct small_run *run, const char *uid)
{
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    size_t n = small_run_samples(run, samples);

    for (size_t i = 0; i < n; i++)
        if (strcmp(samples[i].uid, uid) == 0)
            return samples[i];
    fail_msg("no sample \"%s\"", uid);
    return (struct small_sample){0};
}

const char *small_run_text(struct small_run *run, const char *key)
{
    struct bytes_view body;
    struct error err = {0};

    assert_ok(object_store_get(run->output, key, MAX_BODY_BYTES, &run->arena, &body, &err));
    return keep(run, (const char *)body.data, body.len);
}

void small_run_assert_same(struct small_run *a, struct small_run *b, int n_shards)
{
    struct error err = {0};

    for (int s = 0; s < n_shards; s++) {
        struct bytes_view x, y;
        char key[64];

        (void)snprintf(key, sizeof key, "%08d.tar", s);
        assert_ok(object_store_get(a->output, key, MAX_BODY_BYTES, &a->arena, &x, &err));
        assert_ok(object_store_get(b->output, key, MAX_BODY_BYTES, &b->arena, &y, &err));
        assert_int_equal(x.len, y.len);
        assert_memory_equal(x.data, y.data, x.len);
    }
}
