#include "bench/fleet/committers.h"

#include "reinforce/base/log.h"
#include "reinforce/base/queue.h"
#include "storage/catalog/catalog.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_THREADS = 64, MAX_SAMPLES = 256, QUARANTINE_EVERY = 61 };

struct committers {
    struct committers_options options;
    struct queue *todo, *over; /* struct commit * */
    pthread_t threads[MAX_THREADS];
    size_t n_threads;
};

static enum status commit_part(const struct committers *c, struct catalog *catalog,
                               struct catalog_lease *lease, struct error *err)
{
    struct catalog_sample samples[MAX_SAMPLES];
    char uids[MAX_SAMPLES][40], key[80], sha256[SHA256_HEX_LEN + 1];
    const struct catalog_caption caption = {
        .column = "syn_text", .text = bytes_of_string("a photo of a small dog"), .score = -1.25};
    const struct catalog_score score = {.teacher = "clip", .column = "syn_text", .value = 0.25};
    int n = c->options.n_samples;
    struct catalog_part part = {
        .object_key = key, .n_samples = (size_t)n, .samples = samples, .next_index = (uint64_t)n};
    enum status st;

    (void)snprintf(key, sizeof key, "_reinforce/parts/%06" PRId64 "-0-%" PRId64, lease->shard,
                   lease->epoch);
    (void)snprintf(sha256, sizeof sha256, "%064" PRIx64, (uint64_t)lease->shard);
    memcpy(part.written.sha256, sha256, sizeof part.written.sha256);
    part.written.bytes = 1000;
    for (int i = 0; i < n; i++) {
        bool is_bad = (lease->shard * n + i) % QUARANTINE_EVERY == 0;

        (void)snprintf(uids[i], sizeof uids[i], "%" PRId64 "-%d", lease->shard, i);
        samples[i] = (struct catalog_sample){.uid = bytes_of_string(uids[i]),
                                             .index = i,
                                             .state = is_bad ? CATALOG_SAMPLE_QUARANTINED
                                                             : CATALOG_SAMPLE_DONE,
                                             .reason = is_bad ? "decode_failed" : NULL,
                                             .stage = is_bad ? "decode" : NULL,
                                             .n_captions = is_bad ? 0 : 1,
                                             .captions = &caption,
                                             .n_scores = is_bad ? 0 : 1,
                                             .scores = &score};
    }
    st = catalog_part_commit(catalog, lease, &part, err);
    lease->n_parts += st == ST_OK;
    return st;
}

/* As a worker does it: the part, then the shard. One that dies between the two leaves the part to
 * whoever comes after it. */
static enum status make_commit(const struct committers *c, struct catalog *catalog,
                               struct commit *commit, struct error *err)
{
    struct catalog_lease lease = {.job = commit->job,
                                  .shard = commit->shard,
                                  .epoch = commit->epoch,
                                  .n_parts = commit->n_parts};
    struct object_written written = {.bytes = 1000};
    char key[40];
    enum status st = ST_OK;

    if (lease.n_parts == 0)
        st = commit_part(c, catalog, &lease, err);
    if (st == ST_OK && atomic_load(commit->lives) != commit->life)
        return ST_CANCELLED;
    (void)snprintf(key, sizeof key, "%08" PRId64 ".tar", lease.shard);
    (void)snprintf(written.sha256, sizeof written.sha256, "%064" PRIx64, (uint64_t)lease.shard);
    if (st == ST_OK)
        st = catalog_shard_commit(catalog, &lease, key, &written, err);
    return st;
}

static void *work(void *arg)
{
    struct committers *c = arg;
    struct catalog *catalog = NULL;
    struct error err = {0};
    void *item;
    enum status st = catalog_open(c->options.catalog_url, &catalog, &err);

    while (queue_pop(c->todo, &item) == ST_OK) {
        struct commit *commit = item;

        if (catalog != NULL)
            st = make_commit(c, catalog, commit, &err);
        commit->outcome = st == ST_OK         ? WIRE_OUTCOME_DONE
                          : st == ST_CONFLICT ? WIRE_OUTCOME_LOST
                                              : WIRE_OUTCOME_FAILED;
        atomic_fetch_add(&c->options.stats->committed, st == ST_OK);
        atomic_fetch_add(&c->options.stats->lost, st == ST_CONFLICT);
        if (st != ST_OK && st != ST_CONFLICT && st != ST_CANCELLED) {
            atomic_fetch_add(&c->options.stats->errors, 1);
            log_at(LOG_ERROR, "commit_failed", "shard=%" PRId64 " cause=\"%s\"", commit->shard,
                   err.message);
        }
        st = queue_push(c->over, commit, 0);
        assert(st == ST_OK); /* it holds all there are, and is closed last */
        wake_signal(c->options.wake);
    }
    catalog_close(&catalog);
    return NULL;
}

enum status committers_start(const struct committers_options *options, struct committers **out,
                             struct error *err)
{
    struct committers *c = calloc(1, sizeof *c);
    enum status st;

    *out = c;
    if (c == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate committers");
    assert(options->n_samples <= MAX_SAMPLES && options->n_threads <= MAX_THREADS);
    c->options = *options;
    st = queue_create(options->max_commits, SIZE_MAX, &c->todo, err);
    if (st == ST_OK)
        st = queue_create(options->max_commits, SIZE_MAX, &c->over, err);
    for (; c->n_threads < options->n_threads && st == ST_OK; c->n_threads++)
        if (pthread_create(&c->threads[c->n_threads], NULL, work, c) != 0)
            return error_set(err, ST_UNAVAILABLE, "could not start a thread");
    return st;
}

void committers_push(struct committers *c, struct commit *commit)
{
    enum status st = queue_push(c->todo, commit, 0);

    assert(st == ST_OK);
}

struct commit *committers_next(struct committers *c)
{
    void *item;

    return queue_try_pop(c->over, &item) == ST_OK ? item : NULL;
}

void committers_stop(struct committers **committers)
{
    struct committers *c = *committers;

    queue_close(c->todo);
    for (size_t i = 0; i < c->n_threads; i++)
        (void)pthread_join(c->threads[i], NULL);
    for (struct commit *commit = committers_next(c); commit != NULL; commit = committers_next(c))
        free(commit);
    queue_close(c->over);
    queue_destroy(&c->over);
    queue_destroy(&c->todo);
    free(c);
    *committers = NULL;
}
