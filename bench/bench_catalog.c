/* How fast a catalog takes rows and hands out leases: caption rows committed with their shards, and
 * lease operations, each second. bench_catalog URL [THREADS] on a new or migrated catalog. */
#include "reinforce/base/clock.h"
#include "storage/catalog/catalog.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_THREADS = 64,
    N_SHARDS = 64,
    SAMPLES = 1000, /* of a shard, which is one part */
    CAPTIONS = 5,   /* of a sample, each with a score */
    N_LEASES = 4000,
    LEASE_MS = 600000,
};

struct bench {
    const char *url;
    int64_t job;
    bool rows; /* else leases only */
    pthread_t thread;
    enum status status;
    struct error err;
};

static enum status commit_rows(struct catalog *c, const struct catalog_lease *lease,
                               struct error *err)
{
    static const char text[] = "a photo of a small brown dog that runs over a field of grass";
    struct catalog_sample *samples = calloc(SAMPLES, sizeof *samples);
    struct catalog_caption captions[CAPTIONS];
    struct catalog_score scores[CAPTIONS];
    char(*uids)[32] = calloc(SAMPLES, sizeof *uids);
    struct catalog_part part = {
        .object_key = "p", .written = {.sha256 = "s"}, .n_samples = SAMPLES, .samples = samples};
    const struct object_written written = {.bytes = 1, .sha256 = "s"};
    struct catalog_lease next = *lease;
    enum status st =
        samples != NULL && uids != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "no memory");

    for (int i = 0; i < CAPTIONS; i++) {
        captions[i] = (struct catalog_caption){
            .column = "syn_text", .index = i, .text = bytes_of_string(text), .score = -1.25};
        scores[i] = (struct catalog_score){
            .teacher = "vit-b-16", .column = "syn_text", .index = i, .value = 0.25};
    }
    for (int i = 0; i < SAMPLES && st == ST_OK; i++) {
        (void)snprintf(uids[i], sizeof uids[i], "shard-%d-sample-%d", (int)lease->shard, i);
        samples[i] = (struct catalog_sample){.uid = bytes_of_string(uids[i]),
                                             .index = i,
                                             .state = CATALOG_SAMPLE_DONE,
                                             .n_captions = CAPTIONS,
                                             .captions = captions,
                                             .n_scores = CAPTIONS,
                                             .scores = scores};
    }
    if (st == ST_OK)
        st = catalog_part_commit(c, &next, &part, err);
    next.n_parts++;
    if (st == ST_OK)
        st = catalog_shard_commit(c, &next, "o", &written, err);
    free(samples);
    free(uids);
    return st;
}

/* A lease is taken, renewed and handed back, or its shard finished. */
static enum status use_lease(const struct bench *bench, struct catalog *c,
                             const struct catalog_lease *lease, struct error *err)
{
    const struct object_written written = {.bytes = 1, .sha256 = "s"};
    enum status st;

    if (bench->rows)
        return commit_rows(c, lease, err);
    st = catalog_lease_renew(c, lease, clock_wall_ms(), LEASE_MS, err);
    return st == ST_OK ? catalog_shard_commit(c, lease, "o", &written, err) : st;
}

static void *work(void *arg)
{
    struct bench *bench = arg;
    struct catalog *c = NULL;
    static const struct catalog_terms terms = {
        .lease_ms = LEASE_MS, .max_attempts = 3, .part_samples = 256, .samples_at_work = 64};
    struct arena arena;
    enum status st = catalog_open(bench->url, &c, &bench->err);
    int64_t wait_ms = 0;

    arena_init(&arena, 1 << 20);
    while (st == ST_OK) {
        struct catalog_lease lease;

        arena_reset(&arena);
        st = catalog_lease_take(c, bench->job, "w", clock_wall_ms(), &terms, &arena, &lease,
                                &wait_ms, &bench->err);
        if (st == ST_OK)
            st = use_lease(bench, c, &lease, &bench->err);
    }
    bench->status = st == ST_NOT_FOUND ? ST_OK : st;
    catalog_close(&c);
    arena_release(&arena);
    return NULL;
}

/* Seconds that `n_threads` took for a job of `n_shards`. */
static enum status measure(const char *url, const char *name, bool rows, size_t n_shards,
                           int n_threads, double *seconds, struct error *err)
{
    static struct bench benches[MAX_THREADS];
    struct catalog_shard_plan *plan = calloc(n_shards, sizeof *plan);
    struct catalog *c = NULL;
    struct catalog_job job;
    struct arena arena;
    const char *config;
    int64_t begun_ms;
    enum status st = plan != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "no memory");

    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < n_shards && st == ST_OK; i++)
        plan[i] = (struct catalog_shard_plan){.shard = (int64_t)i,
                                              .source = CATALOG_INPUT_JOB,
                                              .input_key = "in.tar",
                                              .input_format = "webdataset"};
    if (st == ST_OK)
        st = catalog_open(url, &c, err);
    if (st == ST_OK)
        st = catalog_job_begin(c, name, "d", "{}", 0, &arena, &job, &config, err);
    if (st == ST_OK)
        st = catalog_plan_commit(c, &job, plan, n_shards, true, err);
    catalog_close(&c);
    arena_release(&arena);
    free(plan);
    if (st != ST_OK)
        return st;
    begun_ms = clock_monotonic_ms();
    for (int i = 0; i < n_threads; i++) {
        benches[i] = (struct bench){.url = url, .job = job.job, .rows = rows};
        if (pthread_create(&benches[i].thread, NULL, work, &benches[i]) != 0)
            abort();
    }
    for (int i = 0; i < n_threads; i++) {
        (void)pthread_join(benches[i].thread, NULL);
        if (benches[i].status != ST_OK) {
            st = benches[i].status;
            *err = benches[i].err;
        }
    }
    *seconds = (double)(clock_monotonic_ms() - begun_ms) / 1000;
    return st;
}

int main(int argc, char **argv)
{
    int n_threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 2;
    double rows_s = 0, leases_s = 0;
    struct error err = {0};
    enum status st;

    if (argc < 2 || n_threads < 1 || n_threads > MAX_THREADS) {
        (void)fprintf(stderr, "usage: bench_catalog URL [THREADS]\n");
        return 2;
    }
    st = measure(argv[1], "rows", true, N_SHARDS, n_threads, &rows_s, &err);
    if (st == ST_OK)
        st = measure(argv[1], "leases", false, N_LEASES, n_threads, &leases_s, &err);
    if (st != ST_OK) {
        (void)fprintf(stderr, "bench_catalog: %s\n", err.message);
        return 1;
    }
    (void)printf("caption rows/s %.0f (with as many scores), lease operations/s %.0f\n",
                 N_SHARDS * SAMPLES * CAPTIONS / rows_s, 3.0 * N_LEASES / leases_s);
    return 0;
}
