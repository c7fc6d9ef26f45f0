#include "worker/fleet_worker.h"

#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/input.h"
#include "worker/model_record.h"
#include "worker/storage.h"
#include "worker/stored_job.h"
#include "worker/worker_group.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    ANSWER_MS = 10000,
    LOOK_MS = 200,       /* how soon *stop is seen */
    DESERTED_MS = 30000, /* without a word: try a fresh socket */
    AWAY_LOG_MS = 60000,
    PAUSE_MIN_MS = 1000,
    PAUSE_MAX_MS = 30000,
    EXCEPT_MS = 60000, /* a job that cannot be loaded here is not taken again before */
    ARENA_BYTES = 64 << 20,
};

/* A job with its models and stores: what a group of workers shares. */
struct assignment {
    int64_t id;
    char digest[SHA256_HEX_LEN + 1];
    char catalog_url[1024];
    struct arena arena;
    struct job *job; /* NULL: nothing is loaded */
    struct engine *engine;
    struct input input;
    struct object_store *output;
};

struct fleet_worker {
    const struct fleet_worker_options *options;
    void *zmq;
    void *socket; /* DEALER, for job requests; each agent has its own */
    void *watch;  /* of the socket */
    char name[96];
    bool is_welcome;
    uint64_t number;
    int64_t except[WIRE_MAX_EXCEPT];
    uint32_t n_except;
    int64_t except_until_ms;
    int64_t heard_ms, connected_ms, away_log_ms;
    struct assignment assignment;
};

static bool is_stopped(const struct fleet_worker *w)
{
    return atomic_load(w->options->stop);
}

static void disconnect(struct fleet_worker *w)
{
    if (w->socket != NULL)
        (void)zmq_close(w->socket);
    if (w->watch != NULL)
        (void)zmq_close(w->watch);
    w->socket = w->watch = NULL;
    w->is_welcome = false;
}

/* A socket may have given up on an address for good, where something else had answered once. */
static enum status connect_anew(struct fleet_worker *w, struct error *err)
{
    const struct endpoint_target target = {w->options->addresses, w->options->n_addresses, w->name,
                                           w->options->keys};

    disconnect(w);
    w->connected_ms = clock_monotonic_ms();
    return endpoint_connect(w->zmq, &target, &w->socket, &w->watch, err);
}

static bool is_deserted(const struct fleet_worker *w)
{
    return clock_monotonic_ms() - MAX(w->heard_ms, w->connected_ms) > DESERTED_MS;
}

/* Keys that do not fit are told at once, an absence when it lasts; both again each minute. */
static void tell_away(struct fleet_worker *w)
{
    static const char *const causes[] = {
        [ENDPOINT_TROUBLE_NONE] = "it does not run, or cannot be reached",
        [ENDPOINT_TROUBLE_OUR_KEY] = "it refuses our key, which is not in its allow-list",
        [ENDPOINT_TROUBLE_KEYS] = ("keys do not fit: its key is not the one that our key file "
                                   "names, or only one side has keys"),
    };
    int64_t now_ms = clock_monotonic_ms();
    enum endpoint_trouble trouble = endpoint_trouble(w->watch);

    if ((trouble == ENDPOINT_TROUBLE_NONE && now_ms - w->heard_ms < ANSWER_MS) ||
        now_ms < w->away_log_ms)
        return;
    w->away_log_ms = now_ms + AWAY_LOG_MS;
    log_at(LOG_WARN, "coordinator_away", "address=%s seconds=%" PRId64 " cause=\"%s\"",
           w->options->addresses[0], (now_ms - w->heard_ms) / 1000, causes[trouble]);
}

/* One message and its answer. ST_TIMEOUT: there is none, or we were told to stop. */
static enum status talk(struct fleet_worker *w, const struct wire_message *question,
                        struct wire_message *answer, struct error *err)
{
    int64_t until_ms = clock_monotonic_ms() + ANSWER_MS;
    enum status st = endpoint_send(w->socket, question, err);

    if (st == ST_FULL) {
        tell_away(w);
        clock_sleep_ms(LOOK_MS, w->options->stop);
        return ST_TIMEOUT;
    }
    while (st == ST_OK && !is_stopped(w) && clock_monotonic_ms() < until_ms) {
        zmq_pollitem_t item = {.socket = w->socket, .events = ZMQ_POLLIN};

        (void)zmq_poll(&item, 1, LOOK_MS);
        st = endpoint_receive(w->socket, answer, err);
        if (st == ST_OK) {
            w->heard_ms = clock_monotonic_ms();
            w->away_log_ms = 0;
            return ST_OK;
        }
        if (st == ST_CORRUPT)
            log_at(LOG_WARN, "message_ignored", "worker=\"%s\" cause=\"%s\"", w->name,
                   err->message);
        if (st == ST_FULL || st == ST_CORRUPT)
            st = ST_OK;
    }
    if (st == ST_OK) {
        tell_away(w);
        w->is_welcome = false; /* whoever answers next may be another */
    }
    return st == ST_OK ? ST_TIMEOUT : st;
}

static enum status say_hello(struct fleet_worker *w, struct error *err)
{
    struct wire_message hello, answer;
    enum status st;

    wire_hello(&hello, w->name, 0, "");
    st = talk(w, &hello, &answer, err);
    if (st != ST_OK)
        return st;
    if (answer.kind == WIRE_REFUSED)
        return error_set(err, ST_INVALID, "the coordinator refused this worker: %s",
                         answer.u.refused.reason);
    if (answer.kind != WIRE_WELCOME) /* a late answer to something else */
        return ST_TIMEOUT;
    if (wire_protocol_agree(answer.u.welcome.protocol) == 0)
        return error_set(err, ST_INVALID,
                         "the coordinator speaks protocol %u, this worker %u; they may be one "
                         "release apart",
                         answer.u.welcome.protocol, (unsigned)WIRE_PROTOCOL);
    w->is_welcome = true;
    return ST_OK;
}

/* The next job. ST_TIMEOUT: none now; ask again. */
static enum status ask_job(struct fleet_worker *w, struct wire_message *offer, struct error *err)
{
    struct wire_message request = {.kind = WIRE_JOB_REQUEST};
    enum status st = is_deserted(w) ? connect_anew(w, err) : ST_OK;

    if (st == ST_OK && !w->is_welcome)
        st = say_hello(w, err);
    if (st != ST_OK)
        return st;
    if (clock_monotonic_ms() >= w->except_until_ms)
        w->n_except = 0;
    request.u.job_request.number = ++w->number;
    request.u.job_request.n_except = w->n_except;
    memcpy(request.u.job_request.except, w->except, sizeof w->except);
    st = talk(w, &request, offer, err);
    if (st == ST_OK && offer->kind == WIRE_JOB_OFFER && offer->u.job_offer.number == w->number)
        return ST_OK;
    if (st == ST_OK && (offer->kind == WIRE_WHO_ARE_YOU || offer->kind == WIRE_REFUSED))
        w->is_welcome = false; /* it is another than before */
    if (st == ST_OK && offer->kind == WIRE_NO_WORK && offer->u.no_work.number == w->number)
        clock_sleep_ms(offer->u.no_work.wait_ms, w->options->stop);
    return st == ST_OK ? ST_TIMEOUT : st;
}

static void unload(struct assignment *a)
{
    engine_close(&a->engine);
    object_store_close(&a->output);
    input_close(&a->input);
    job_destroy(&a->job);
    arena_release(&a->arena);
    memset(a, 0, sizeof *a);
}

/* The job's configuration, as the catalog has it. */
static enum status read_job(struct assignment *a, const char *name, const char *digest,
                            struct error *err)
{
    struct catalog *catalog;
    struct catalog_job row;
    enum status st = catalog_open(a->catalog_url, &catalog, err);

    if (st == ST_OK)
        st = stored_job_load(catalog, name, &row, &a->job, err);
    if (st == ST_OK && row.job != a->id)
        st = error_set(err, ST_INVALID,
                       "job \"%s\" is number %" PRId64 " in this catalog and %" PRId64
                       " in the coordinator's; give --catalog",
                       name, row.job, a->id);
    if (st == ST_OK && strcmp(row.config_digest, digest) != 0)
        st = error_set(err, ST_UNAVAILABLE, "job \"%s\" is just being changed", name);
    catalog_close(&catalog);
    return st;
}

static int count_of(const struct fleet_worker *w)
{
    return w->options->count > 0 ? w->options->count : w->assignment.job->workers.count;
}

/* Workers and threads as in work(). */
static enum status open_engine(struct fleet_worker *w, struct error *err)
{
    struct assignment *a = &w->assignment;
    const struct job_place place = {.input = a->input.store,
                                    .output = a->output,
                                    .catalog_url = a->catalog_url,
                                    .job_id = a->id};
    int threads = w->options->threads > 0 ? w->options->threads : a->job->workers.threads;
    const struct engine_options options = {
        .place = &place,
        .threads = worker_group_threads(count_of(w), threads),
        .stop = w->options->stop,
    };

    return engine_open(a->job, &options, &a->engine, err);
}

static enum status open_assignment(struct fleet_worker *w, const struct wire_message *offer,
                                   struct error *err)
{
    struct assignment *a = &w->assignment;
    struct object_store_options stores;
    const char *url = w->options->catalog_url;
    enum status st;

    arena_init(&a->arena, ARENA_BYTES);
    a->id = offer->u.job_offer.job;
    memcpy(a->digest, offer->u.job_offer.config_digest, sizeof a->digest);
    (void)snprintf(a->catalog_url, sizeof a->catalog_url, "%s",
                   url != NULL ? url : offer->u.job_offer.catalog_url);
    st = read_job(a, offer->u.job_offer.name, a->digest, err);
    if (st != ST_OK)
        return st;
    st = storage_open_input(a->job, &a->arena, &a->input, err);
    storage_output_options(a->job, false, &stores);
    if (st == ST_OK)
        st = object_store_open_with(a->job->output.url, &stores, &a->output, err);
    if (st == ST_OK)
        st = open_engine(w, err);
    if (st == ST_OK)
        st = model_record_write(a->engine, a->output, err);
    return st;
}

/* The offered job, loaded; the one that is loaded already stays. */
static enum status load(struct fleet_worker *w, const struct wire_message *offer, struct error *err)
{
    struct assignment *a = &w->assignment;
    int64_t begun_ms = clock_monotonic_ms();
    enum status st;

    if (a->job != NULL && a->id == offer->u.job_offer.job &&
        strcmp(a->digest, offer->u.job_offer.config_digest) == 0)
        return ST_OK;
    unload(a);
    st = open_assignment(w, offer, err);
    if (st != ST_OK) {
        unload(a);
        return st;
    }
    log_at(LOG_INFO, "job_loaded", "job=\"%s\" ms=%" PRId64, offer->u.job_offer.name,
           clock_monotonic_ms() - begun_ms);
    return ST_OK;
}

static enum status work(struct fleet_worker *w, struct error *err)
{
    struct assignment *a = &w->assignment;
    int count = count_of(w);
    struct worker_stats stats = {0};
    struct memory_budget budget;
    struct isolation isolation;
    const struct stage_context context = {.job = a->job,
                                          .engine = a->engine,
                                          .input = a->input.store,
                                          .output = a->output,
                                          .stats = &stats,
                                          .budget = &budget,
                                          .isolation = &isolation};
    const struct agent_options like = {
        .zmq = w->zmq,
        .addresses = w->options->addresses,
        .n_addresses = w->options->n_addresses,
        .keys = w->options->keys,
        .job_id = a->id,
        .context = &context,
        .catalog_url = a->catalog_url,
        .threads = w->options->threads > 0 ? w->options->threads : a->job->workers.threads};
    struct worker_group *group;
    enum status st;

    isolation_init(&isolation);
    memory_budget_init(&budget, (size_t)a->job->workers.memory_bytes * (size_t)count);
    st = worker_group_start(&like, count, &group, err);
    while (st == ST_OK && !worker_group_wait(group, LOOK_MS))
        if (is_stopped(w))
            worker_group_drain(group);
    if (st == ST_OK)
        st = worker_group_join(&group, err);
    memory_budget_release(&budget);
    isolation_release(&isolation);
    return st;
}

/* Not this one for a while: others may be fit for it, and we for others. */
static void avoid(struct fleet_worker *w, int64_t job)
{
    if (w->n_except < WIRE_MAX_EXCEPT)
        w->except[w->n_except++] = job;
    w->except_until_ms = clock_monotonic_ms() + EXCEPT_MS;
}

static enum status run(struct fleet_worker *w, struct error *err)
{
    int64_t pause_ms = PAUSE_MIN_MS;

    while (!is_stopped(w)) {
        struct wire_message offer;
        enum status st = ask_job(w, &offer, err);

        if (st == ST_TIMEOUT)
            continue;
        if (st != ST_OK)
            return st;
        st = load(w, &offer, err);
        if (st == ST_OK)
            st = work(w, err);
        w->heard_ms = clock_monotonic_ms(); /* nobody was listening meanwhile */
        if (st == ST_OK) {
            pause_ms = PAUSE_MIN_MS;
            continue;
        }
        if (is_stopped(w))
            break;
        log_at(LOG_ERROR, "job_not_worked_on", "job=\"%s\" at=\"%s\" cause=\"%s\"",
               offer.u.job_offer.name, err->context, err->message);
        if (!status_is_retryable(st))
            avoid(w, offer.u.job_offer.job);
        clock_sleep_ms(pause_ms, w->options->stop);
        pause_ms = MIN(pause_ms * 2, (int64_t)PAUSE_MAX_MS);
    }
    return ST_OK;
}

enum status fleet_worker_run(const struct fleet_worker_options *options, struct error *err)
{
    struct fleet_worker w = {.options = options, .heard_ms = clock_monotonic_ms()};
    enum status st;

    arena_init(&w.assignment.arena, ARENA_BYTES);
    worker_group_name("c", w.name);
    w.zmq = zmq_ctx_new();
    if (w.zmq == NULL)
        return error_set(err, ST_NO_MEMORY, "could not create a ZeroMQ context: %s",
                         zmq_strerror(errno));
    st = connect_anew(&w, err);
    if (st == ST_OK)
        st = run(&w, err);
    disconnect(&w);
    (void)zmq_ctx_term(w.zmq);
    unload(&w.assignment);
    return st;
}
