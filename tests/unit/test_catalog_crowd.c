/* Many workers on one catalog, each with a handle of its own: as threads, and as processes that are
 * killed in the middle of whatever they do. */
#include "reinforce/base/clock.h"
#include "storage/catalog/catalog.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    N_WORKERS = 4,
    N_SHARDS = 40,
    N_PARTS = 3, /* of each shard */
    PART_SAMPLES = 5,
    SHARD_SAMPLES = N_PARTS * PART_SAMPLES,
    QUARANTINED_OF = 7, /* every seventh sample of a shard */
    SHARD_QUARANTINED = (SHARD_SAMPLES + QUARANTINED_OF - 1) / QUARANTINED_OF,
    SHARD_DONE = SHARD_SAMPLES - SHARD_QUARANTINED,
    PART_BYTES = 100,
    N_KILLS = 40,
    KILL_LEASE_MS = 60,
    LONG_LEASE_MS = 600000,
    MANY_ATTEMPTS = 1000,
};

struct crowd {
    struct temp_folder folder;
    char url[128];
    int64_t job;
    int64_t lease_ms;
};

struct worker {
    const struct crowd *crowd;
    pthread_t thread;
    int n_parts, n_shards;
    enum status status;
    struct error err;
};

static void setup(struct crowd *crowd, int64_t lease_ms)
{
    struct catalog_shard_plan plan[N_SHARDS];
    struct catalog *catalog;
    struct catalog_job job;
    struct arena arena;
    const char *config;
    struct error err = {0};
    char path[100];

    memset(crowd, 0, sizeof *crowd);
    memset(plan, 0, sizeof plan);
    temp_folder_init(&crowd->folder);
    temp_folder_name(&crowd->folder, "c.sqlite", path, sizeof path);
    (void)snprintf(crowd->url, sizeof crowd->url, "sqlite:%s", path);
    crowd->lease_ms = lease_ms;
    for (int i = 0; i < N_SHARDS; i++)
        plan[i] = (struct catalog_shard_plan){.shard = i,
                                              .source = CATALOG_INPUT_JOB,
                                              .input_key = "in.tar",
                                              .input_format = "webdataset"};
    arena_init(&arena, 1 << 20);
    assert_ok(catalog_open(crowd->url, &catalog, &err));
    assert_ok(catalog_job_begin(catalog, "j", "d", "{}", 0, &arena, &job, &config, &err));
    assert_ok(catalog_plan_commit(catalog, &job, plan, N_SHARDS, true, &err));
    crowd->job = job.job;
    catalog_close(&catalog); /* no handle may cross a fork */
    arena_release(&arena);
}

static void teardown(struct crowd *crowd)
{
    temp_folder_release(&crowd->folder);
}

/* Part `part` of the lease's shard. Which samples fail depends on their place alone, so that it
 * does not matter who does the work. */
static enum status commit_part(struct catalog *catalog, const struct catalog_lease *lease,
                               int64_t part, struct error *err)
{
    struct catalog_sample samples[PART_SAMPLES];
    struct catalog_caption captions[PART_SAMPLES];
    struct catalog_score scores[PART_SAMPLES];
    char uids[PART_SAMPLES][32], key[64];
    struct catalog_part row = {.object_key = key,
                               .written = {.bytes = PART_BYTES, .sha256 = "part"},
                               .next_offset = (uint64_t)(part + 1) * PART_BYTES,
                               .next_index = (uint64_t)(part + 1) * PART_SAMPLES,
                               .n_samples = PART_SAMPLES,
                               .samples = samples};

    (void)snprintf(key, sizeof key, "%d/%d.%d", (int)lease->shard, (int)part, (int)lease->epoch);
    memset(samples, 0, sizeof samples);
    for (int i = 0; i < PART_SAMPLES; i++) {
        int64_t index = part * PART_SAMPLES + i;

        (void)snprintf(uids[i], sizeof uids[i], "s%d-%d", (int)lease->shard, (int)index);
        samples[i].uid = bytes_of_string(uids[i]);
        samples[i].index = index;
        if (index % QUARANTINED_OF == 0) {
            samples[i].state = CATALOG_SAMPLE_QUARANTINED;
            samples[i].reason = "undecodable_image";
            samples[i].stage = "decode";
            continue;
        }
        captions[i] = (struct catalog_caption){
            .column = "syn_text", .text = bytes_of_string("a cat"), .score = -1};
        scores[i] = (struct catalog_score){.teacher = "t", .column = "syn_text", .value = 0.5};
        samples[i].state = CATALOG_SAMPLE_DONE;
        samples[i].n_captions = samples[i].n_scores = 1;
        samples[i].captions = &captions[i];
        samples[i].scores = &scores[i];
    }
    return catalog_part_commit(catalog, lease, &row, err);
}

/* What is left of one shard. Runs in threads and children, where cmocka must not jump away.
 * ST_CONFLICT: it was slow, and somebody else has the shard. */
static enum status work_shard(struct worker *worker, struct catalog *catalog,
                              struct catalog_lease *lease)
{
    const struct object_written written = {.bytes = N_PARTS * PART_BYTES, .sha256 = "shard"};
    enum status st = ST_OK;

    if (lease->next_index != (uint64_t)lease->n_parts * PART_SAMPLES ||
        lease->next_offset != (uint64_t)lease->n_parts * PART_BYTES)
        return error_set(&worker->err, ST_CORRUPT, "shard %d goes on at the wrong place",
                         (int)lease->shard);
    while (st == ST_OK && lease->n_parts < N_PARTS) {
        st = commit_part(catalog, lease, lease->n_parts, &worker->err);
        if (st == ST_OK) {
            lease->n_parts++;
            worker->n_parts++;
        }
    }
    if (st == ST_OK)
        st = catalog_shard_commit(catalog, lease, "out", &written, &worker->err);
    worker->n_shards += st == ST_OK;
    return st;
}

static void nap(int64_t ms)
{
    const struct timespec rest = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&rest, NULL);
}

/* Until every shard is done. */
static void *work(void *arg)
{
    struct worker *worker = arg;
    const struct crowd *crowd = worker->crowd;
    struct catalog *catalog = NULL;
    const struct catalog_terms terms = {.lease_ms = crowd->lease_ms,
                                        .max_attempts = MANY_ATTEMPTS,
                                        .part_samples = 4,
                                        .samples_at_work = 8};
    struct arena arena;
    int64_t wait_ms = 0;
    enum status st = catalog_open(crowd->url, &catalog, &worker->err);

    arena_init(&arena, 1 << 20);
    while (st == ST_OK) {
        struct catalog_lease lease;

        arena_reset(&arena);
        st = catalog_lease_take(catalog, crowd->job, "w", clock_wall_ms(), &terms, &arena, &lease,
                                &wait_ms, &worker->err);
        if (st == ST_OK) {
            st = work_shard(worker, catalog, &lease);
            if (st == ST_CONFLICT && crowd->lease_ms < LONG_LEASE_MS)
                st = ST_OK;
        } else if (st == ST_NOT_FOUND && wait_ms > 0) {
            nap(MIN(wait_ms, (int64_t)5));
            st = ST_OK;
        }
    }
    worker->status = st == ST_NOT_FOUND && wait_ms == -1 ? ST_OK : st;
    catalog_close(&catalog);
    arena_release(&arena);
    return NULL;
}

struct tally {
    int n_seen[N_SHARDS][SHARD_SAMPLES];
    int n_outputs;
    size_t n_captions, n_scores;
};

static enum status see_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    struct tally *tally = ctx;

    (void)err;
    assert_int_equal(output->shard, tally->n_outputs);
    assert_int_equal(output->bytes, N_PARTS * PART_BYTES);
    assert_int_equal(output->n_done, SHARD_DONE);
    assert_int_equal(output->n_quarantined, SHARD_QUARANTINED);
    tally->n_outputs++;
    return ST_OK;
}

static enum status see_sample(void *ctx, int64_t shard, const struct catalog_sample *sample,
                              struct error *err)
{
    struct tally *tally = ctx;
    char uid[32];

    (void)err;
    assert_in_range(shard, 0, N_SHARDS - 1);
    assert_in_range(sample->index, 0, SHARD_SAMPLES - 1);
    (void)snprintf(uid, sizeof uid, "s%d-%d", (int)shard, (int)sample->index);
    assert_true(bytes_equal(sample->uid, bytes_of_string(uid)));
    assert_int_equal(sample->state, sample->index % QUARANTINED_OF == 0 ? CATALOG_SAMPLE_QUARANTINED
                                                                        : CATALOG_SAMPLE_DONE);
    tally->n_seen[shard][sample->index]++;
    return ST_OK;
}

static enum status see_rows(void *ctx, int64_t shard, const struct catalog_sample *sample,
                            struct error *err)
{
    struct tally *tally = ctx;

    (void)shard;
    (void)err;
    tally->n_captions += sample->n_captions;
    tally->n_scores += sample->n_scores;
    return ST_OK;
}

/* Parts are 0, 1, 2 ... with no gap, at epochs that never go back, and hold what the samples say.
 */
static void check_parts(struct catalog *catalog, const struct crowd *crowd, int64_t shard,
                        struct arena *arena)
{
    struct catalog_part_row *rows;
    struct error err = {0};
    int64_t n_done = 0;
    size_t n;

    assert_ok(catalog_parts(catalog, crowd->job, shard, arena, &rows, &n, &err));
    assert_int_equal(n, N_PARTS);
    for (size_t i = 0; i < n; i++) {
        char key[64];

        (void)snprintf(key, sizeof key, "%d/%d.%d", (int)shard, (int)i, (int)rows[i].epoch);
        assert_string_equal(rows[i].object_key, key);
        assert_int_equal(rows[i].part, i);
        assert_int_equal(rows[i].n_done + rows[i].n_quarantined, PART_SAMPLES);
        assert_true(i == 0 || rows[i].epoch >= rows[i - 1].epoch);
        n_done += rows[i].n_done;
    }
    assert_int_equal(n_done, SHARD_DONE);
}

static void check_finished(const struct crowd *crowd)
{
    struct tally *tally = calloc(1, sizeof *tally);
    struct catalog *catalog;
    struct catalog_progress progress;
    struct arena arena;
    struct error err = {0};

    assert_non_null(tally);
    arena_init(&arena, 1 << 20);
    assert_ok(catalog_open(crowd->url, &catalog, &err));
    assert_ok(catalog_read_progress(catalog, crowd->job, &progress, &err));
    assert_int_equal(progress.shards_total, N_SHARDS);
    assert_int_equal(progress.shards_done, N_SHARDS);
    assert_int_equal(progress.samples_done, N_SHARDS * SHARD_DONE);
    assert_int_equal(progress.samples_quarantined, N_SHARDS * SHARD_QUARANTINED);
    assert_int_equal(progress.samples_in_done_shards, N_SHARDS * SHARD_SAMPLES);
    assert_ok(catalog_outputs(catalog, crowd->job, see_output, tally, &err));
    assert_int_equal(tally->n_outputs, N_SHARDS);
    assert_ok(catalog_samples(catalog, crowd->job, see_sample, tally, &err));
    for (int shard = 0; shard < N_SHARDS; shard++) {
        check_parts(catalog, crowd, shard, &arena);
        for (int i = 0; i < SHARD_SAMPLES; i++) {
            char uid[32];

            assert_int_equal(tally->n_seen[shard][i], 1);
            (void)snprintf(uid, sizeof uid, "s%d-%d", shard, i);
            assert_ok(catalog_sample_find(catalog, crowd->job, bytes_of_string(uid), see_rows,
                                          tally, &err));
        }
    }
    assert_int_equal(tally->n_captions, N_SHARDS * SHARD_DONE);
    assert_int_equal(tally->n_scores, N_SHARDS * SHARD_DONE);
    catalog_close(&catalog);
    arena_release(&arena);
    free(tally);
}

static void threads_share_the_shards_and_every_sample_is_there_once(void **state)
{
    struct crowd crowd;
    struct worker workers[N_WORKERS];
    int n_parts = 0, n_shards = 0;

    (void)state;
    setup(&crowd, LONG_LEASE_MS);
    memset(workers, 0, sizeof workers);
    for (int i = 0; i < N_WORKERS; i++) {
        workers[i].crowd = &crowd;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < N_WORKERS; i++) {
        struct error err;

        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        err = workers[i].err;
        assert_ok(workers[i].status);
        n_parts += workers[i].n_parts;
        n_shards += workers[i].n_shards;
    }
    assert_int_equal(n_parts, N_SHARDS * N_PARTS);
    assert_int_equal(n_shards, N_SHARDS);
    check_finished(&crowd);
    teardown(&crowd);
}

static void *open_and_close(void *arg)
{
    struct worker *worker = arg;
    struct catalog *catalog = NULL;

    worker->status = catalog_open(worker->crowd->url, &catalog, &worker->err);
    catalog_close(&catalog);
    return NULL;
}

static void a_new_catalog_can_be_opened_by_all_at_once(void **state)
{
    struct crowd crowd;

    (void)state;
    memset(&crowd, 0, sizeof crowd);
    temp_folder_init(&crowd.folder);
    for (int round = 0; round < 8; round++) {
        struct worker workers[N_WORKERS];
        char name[32], path[100];

        (void)snprintf(name, sizeof name, "new%d/c.sqlite", round);
        temp_folder_name(&crowd.folder, name, path, sizeof path);
        (void)snprintf(crowd.url, sizeof crowd.url, "sqlite:%s", path);
        memset(workers, 0, sizeof workers);
        for (int i = 0; i < N_WORKERS; i++) {
            workers[i].crowd = &crowd;
            assert_int_equal(pthread_create(&workers[i].thread, NULL, open_and_close, &workers[i]),
                             0);
        }
        for (int i = 0; i < N_WORKERS; i++) {
            struct error err;

            assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
            err = workers[i].err;
            assert_ok(workers[i].status);
        }
    }
    teardown(&crowd);
}

static pid_t start_child(const struct crowd *crowd)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct worker worker = {.crowd = crowd};

        (void)work(&worker);
        _exit(worker.status == ST_OK ? 0 : 1);
    }
    return child;
}

/* True when the child had come to its end before the signal did. */
static bool reap(pid_t child)
{
    int how = 0;

    assert_int_equal(waitpid(child, &how, 0), child);
    if (WIFSIGNALED(how))
        assert_int_equal(WTERMSIG(how), SIGKILL);
    else
        assert_int_equal(WEXITSTATUS(how), 0);
    return WIFEXITED(how);
}

static void workers_killed_at_any_moment_leave_a_catalog_that_can_be_finished(void **state)
{
    struct crowd crowd;
    pid_t children[N_WORKERS];
    uint64_t random = (uint64_t)clock_wall_ms();
    int n_killed = 0;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)random);
    setup(&crowd, KILL_LEASE_MS);
    for (int i = 0; i < N_WORKERS; i++)
        children[i] = start_child(&crowd);
    for (int kill_no = 0; kill_no < N_KILLS; kill_no++) {
        int victim = kill_no % N_WORKERS;

        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        nap((int64_t)(random >> 33) % 6);
        (void)kill(children[victim], SIGKILL);
        n_killed += !reap(children[victim]);
        children[victim] = start_child(&crowd);
    }
    for (int i = 0; i < N_WORKERS; i++)
        assert_true(reap(children[i])); /* these were let finish */
    print_message("%d of %d were killed at work\n", n_killed, N_KILLS);
    assert_true(n_killed > 0);
    check_finished(&crowd);
    teardown(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_the_shards_and_every_sample_is_there_once),
        cmocka_unit_test(a_new_catalog_can_be_opened_by_all_at_once),
        cmocka_unit_test(workers_killed_at_any_moment_leave_a_catalog_that_can_be_finished),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
