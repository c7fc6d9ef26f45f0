#include "worker/pipeline.h"

#include "reinforce/base/log.h"
#include "worker/stage_caption.h"
#include "worker/stage_curate.h"
#include "worker/stage_decode.h"
#include "worker/stage_embed.h"
#include "worker/stage_read.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum { MAX_LEASES = 16 };

/* A stage that runs on several threads, each with a copy of the same struct. */
struct crew {
    pthread_t *threads;
    int n;
};

struct pipeline {
    struct pipeline_options options;
    struct sample *samples;
    size_t n_samples;
    struct queue *leases, *slots, *read, *decoded, *captioned, *embedded;
    struct queue *curated; /* NULL: the job has no rules, and the stage is left out */
    atomic_int n_unread;
    struct stage_read reader;
    struct stage_decode decoder;
    struct stage_curate curator;
    struct stage_caption captioner;
    struct stage_embed embedder;
    struct stage_write writer;
    struct stage_commit committer;
    struct crew read_crew, decode_crew, curate_crew, caption_crew, embed_crew, write_crew,
        commit_crew;
};

static void *run_read(void *arg)
{
    stage_read_run(arg);
    return NULL;
}

static void *run_decode(void *arg)
{
    stage_decode_run(arg);
    return NULL;
}

static void *run_curate(void *arg)
{
    stage_curate_run(arg);
    return NULL;
}

static void *run_caption(void *arg)
{
    stage_caption_run(arg);
    return NULL;
}

static void *run_embed(void *arg)
{
    stage_embed_run(arg);
    return NULL;
}

static void *run_write(void *arg)
{
    struct error err = {0};

    if (stage_write_run(arg, &err) != ST_OK)
        log_at(LOG_ERROR, "writer_failed", "cause=\"%s\"", err.message);
    return NULL;
}

static void *run_commit(void *arg)
{
    stage_commit_run(arg);
    return NULL;
}

static enum status crew_start(struct crew *crew, int n, void *(*run)(void *), void *arg,
                              struct error *err)
{
    crew->threads = calloc((size_t)n, sizeof *crew->threads);
    if (crew->threads == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %d threads", n);
    for (; crew->n < n; crew->n++)
        if (pthread_create(&crew->threads[crew->n], NULL, run, arg) != 0)
            return error_set(err, ST_UNAVAILABLE, "could not start thread %d of %d", crew->n + 1,
                             n);
    return ST_OK;
}

static void crew_join(struct crew *crew)
{
    for (int i = 0; i < crew->n; i++)
        (void)pthread_join(crew->threads[i], NULL);
    free(crew->threads);
    crew->threads = NULL;
    crew->n = 0;
}

static enum status make_queues(struct pipeline *p, struct error *err)
{
    size_t memory = (size_t)p->options.context->job->workers.memory_bytes;
    enum status st = queue_create(MAX_LEASES, SIZE_MAX, &p->leases, err);
    struct queue **queues[] = {&p->slots, &p->read, &p->decoded, &p->captioned, &p->embedded};

    for (size_t i = 0; i < ARRAY_LEN(queues) && st == ST_OK; i++)
        st = queue_create(p->n_samples, memory, queues[i], err);
    if (st == ST_OK && p->options.context->job->curate.keep.n_children > 0)
        st = queue_create(p->n_samples, memory, &p->curated, err);
    return st;
}

static enum status make_slots(struct pipeline *p, struct error *err)
{
    const struct job *job = p->options.context->job;

    p->samples = calloc(p->n_samples, sizeof *p->samples);
    if (p->samples == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu samples", p->n_samples);
    for (size_t i = 0; i < p->n_samples; i++) {
        enum status st;

        sample_init(&p->samples[i],
                    (size_t)MAX(job->workers.memory_bytes, 4 * job->workers.max_sample_bytes));
        st = queue_push(p->slots, &p->samples[i], 0);
        assert(st == ST_OK);
    }
    return ST_OK;
}

static enum status start(struct pipeline *p, struct error *err)
{
    const struct stage_context *context = p->options.context;
    int n = p->options.threads, n_caption = context->engine->n_captioners > 0 ? n : 1;
    enum status st;

    p->reader = (struct stage_read){.context = context,
                                    .catalog_url = p->options.catalog_url,
                                    .leases = p->leases,
                                    .slots = p->slots,
                                    .out = p->read,
                                    .drain = p->options.drain,
                                    .n_unread = &p->n_unread,
                                    .idle = p->options.idle};
    p->decoder = (struct stage_decode){.context = context, .in = p->read, .out = p->decoded};
    p->curator = (struct stage_curate){
        .context = context, .in = p->decoded, .out = p->curated, .dropped = p->embedded};
    p->captioner = (struct stage_caption){.context = context,
                                          .in = p->curated != NULL ? p->curated : p->decoded,
                                          .out = p->captioned};
    p->embedder = (struct stage_embed){.context = context, .in = p->captioned, .out = p->embedded};
    p->writer.context = context;
    p->writer.in = p->embedded;
    p->writer.slots = p->slots;
    p->writer.commit = &p->committer;
    p->committer.context = context;
    p->committer.format = dataset_format_by_name(context->job->output.format);
    p->committer.drain = p->options.drain;
    p->committer.done = p->options.done;
    p->committer.done_ctx = p->options.done_ctx;
    p->committer.outage_ms = p->options.outage_ms;
    st = catalog_open(p->options.catalog_url, &p->committer.catalog, err);
    if (st == ST_OK)
        st = stage_commit_init(&p->committer, err);
    if (st == ST_OK)
        st = crew_start(&p->commit_crew, 1, run_commit, &p->committer, err);
    if (st == ST_OK)
        st = crew_start(&p->write_crew, 1, run_write, &p->writer, err);
    if (st == ST_OK)
        st = crew_start(&p->embed_crew, n, run_embed, &p->embedder, err);
    if (st == ST_OK)
        st = crew_start(&p->caption_crew, n_caption, run_caption, &p->captioner, err);
    if (st == ST_OK && p->curated != NULL)
        st = crew_start(&p->curate_crew, n, run_curate, &p->curator, err);
    if (st == ST_OK)
        st = crew_start(&p->decode_crew, n, run_decode, &p->decoder, err);
    if (st == ST_OK)
        st = crew_start(&p->read_crew, 1, run_read, &p->reader, err);
    (void)atomic_fetch_add(&context->stats->threads[STAGE_READ], 1);
    (void)atomic_fetch_add(&context->stats->threads[STAGE_DECODE], n);
    if (p->curated != NULL)
        (void)atomic_fetch_add(&context->stats->threads[STAGE_CURATE], n);
    (void)atomic_fetch_add(&context->stats->threads[STAGE_CAPTION], n_caption);
    (void)atomic_fetch_add(&context->stats->threads[STAGE_EMBED], n);
    (void)atomic_fetch_add(&context->stats->threads[STAGE_WRITE], 1);
    return st;
}

enum status pipeline_create(const struct pipeline_options *options, struct pipeline **out,
                            struct error *err)
{
    struct pipeline *p = calloc(1, sizeof *p);
    enum status st;

    *out = NULL;
    if (p == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a pipeline");
    p->options = *options;
    p->n_samples = (size_t)options->context->job->workers.queue_items;
    st = make_queues(p, err);
    if (st == ST_OK)
        st = make_slots(p, err);
    if (st == ST_OK)
        st = start(p, err);
    if (st != ST_OK) {
        pipeline_destroy(&p);
        return st;
    }
    *out = p;
    return ST_OK;
}

void pipeline_submit(struct pipeline *pipeline, struct shard_work *work)
{
    enum status st;

    work->begin_index = work->lease.next_index;
    atomic_store(&work->end_index, work->lease.end_index);
    (void)atomic_fetch_add(&pipeline->n_unread, 1);
    st = queue_push(pipeline->leases, work, 0);
    assert(st == ST_OK); /* open until destroy */
}

int pipeline_unread(const struct pipeline *pipeline)
{
    return atomic_load(&pipeline->n_unread);
}

static void close_if(struct queue *queue)
{
    if (queue != NULL)
        queue_close(queue);
}

void pipeline_destroy(struct pipeline **pipeline)
{
    struct pipeline *p = *pipeline;
    void *item;

    if (p == NULL)
        return;
    /* From source to sink: close, drain, join. */
    close_if(p->leases);
    crew_join(&p->read_crew);
    close_if(p->read);
    crew_join(&p->decode_crew);
    close_if(p->decoded);
    crew_join(&p->curate_crew);
    close_if(p->curated);
    crew_join(&p->caption_crew);
    close_if(p->captioned);
    crew_join(&p->embed_crew);
    close_if(p->embedded);
    crew_join(&p->write_crew);
    close_if(p->committer.in);
    crew_join(&p->commit_crew);
    while (p->slots != NULL && queue_try_pop(p->slots, &item) == ST_OK)
        continue;
    for (size_t i = 0; p->samples != NULL && i < p->n_samples; i++)
        sample_release(&p->samples[i]);
    free(p->samples);
    stage_commit_release(&p->committer);
    catalog_close(&p->committer.catalog);
    queue_destroy(&p->embedded);
    queue_destroy(&p->captioned);
    queue_destroy(&p->curated);
    queue_destroy(&p->decoded);
    queue_destroy(&p->read);
    queue_destroy(&p->slots);
    queue_destroy(&p->leases);
    free(p);
    *pipeline = NULL;
}
