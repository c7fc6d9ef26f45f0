#include "coordinator/curator/teacher_process.h"

#include "coordinator/curator/computed_references.h"
#include "coordinator/curator/teacher_child.h"
#include "coordinator/curator/work_order.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/queue.h"
#include "reinforce/base/wake.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum {
    MAX_ASKED = 1 << 16, /* requests that were not looked up yet */
    FIRST_PAUSE_MS = 250,
    MAX_PAUSE_MS = 60000,
};

struct wanted {
    atomic_int n_owners; /* who asked, and the thread */
    atomic_bool is_ready;
    struct wanted *next;    /* the thread's */
    struct example_id *ids; /* [n]; until they are looked up */
    uint64_t *places;       /* [n_open] */
    size_t n, n_open;
};

struct counters {
    atomic_ullong n_found, n_unknown, n_computed, n_bad, n_failed, n_wanted, n_deaths, compute_ns;
};

struct teacher_process {
    struct teacher_process_options options;
    struct teacher_hello hello; /* of the first worker */
    struct computed_references computed;
    struct queue *asked;        /* struct wanted */
    struct wake wake, answered; /* of the thread; of who asked */
    atomic_bool stop;
    struct counters counters;
    pthread_t thread;
    bool started;

    /* The thread's from here on. */
    struct teacher_child child;
    bool is_up; /* the child has said hello */
    bool is_given_up;
    int64_t pause_ms, start_ms;
    struct work_order order;
    size_t max_given;
    struct wanted *open; /* that somebody waits for */
};

static void disown(struct wanted *wanted)
{
    if (atomic_fetch_sub(&wanted->n_owners, 1) != 1)
        return;
    free(wanted->ids);
    free(wanted->places);
    free(wanted);
}

static void look_up(struct teacher_process *p, struct wanted *wanted)
{
    for (size_t i = 0; i < wanted->n; i++) {
        uint64_t place;
        enum computed_found found = computed_references_find(&p->computed, wanted->ids[i], &place);

        if (found == COMPUTED_IS_THERE)
            (void)atomic_fetch_add(&p->counters.n_found, 1);
        else if (found == COMPUTED_CAN_BE && work_order_want(&p->order, place))
            wanted->places[wanted->n_open++] = place;
        else
            (void)atomic_fetch_add(&p->counters.n_unknown, 1);
    }
    free(wanted->ids);
    wanted->ids = NULL;
}

static void take_asked(struct teacher_process *p)
{
    void *item;

    while (queue_try_pop(p->asked, &item) == ST_OK) {
        struct wanted *wanted = item;

        look_up(p, wanted);
        wanted->next = p->open;
        p->open = wanted;
    }
}

/* Those with nothing left to wait for are told so. */
static void settle(struct teacher_process *p)
{
    bool any = false;

    for (struct wanted **at = &p->open; *at != NULL;) {
        struct wanted *wanted = *at;

        while (wanted->n_open > 0 &&
               !work_order_is_open(&p->order, wanted->places[wanted->n_open - 1]))
            wanted->n_open--;
        if (wanted->n_open > 0 && p->is_up && atomic_load(&wanted->n_owners) > 1) {
            at = &wanted->next;
            continue;
        }
        *at = wanted->next;
        atomic_store(&wanted->is_ready, true);
        disown(wanted);
        any = true;
    }
    if (any)
        wake_signal(&p->answered);
}

static void give(struct teacher_process *p)
{
    uint64_t place;

    while (p->is_up && work_order_next(&p->order, p->max_given, &place) &&
           teacher_child_give(&p->child, place))
        work_order_give(&p->order, place);
}

static void take_said(struct teacher_process *p, const struct teacher_said *said)
{
    if (said->word == TEACHER_BEGINS) {
        work_order_begin(&p->order, said->place);
    } else if (work_order_end(&p->order, said->place)) {
        (void)atomic_fetch_add(said->word == TEACHER_HAS_WRITTEN ? &p->counters.n_computed
                               : said->word == TEACHER_CANNOT    ? &p->counters.n_bad
                                                                 : &p->counters.n_failed,
                               1);
        if (said->word == TEACHER_HAS_WRITTEN)
            p->pause_ms = FIRST_PAUSE_MS;
    }
}

static void bury(struct teacher_process *p)
{
    bool is_leaving =
        p->options.stop != NULL && atomic_load(p->options.stop); /* Ctrl-C is for all */
    int ended = teacher_child_end(&p->child);
    uint64_t refused;

    (void)atomic_fetch_add(&p->counters.n_deaths, 1);
    log_at(is_leaving ? LOG_DEBUG : LOG_WARN, "teacher_died", "at=%zu %s=%d again_in_ms=%" PRId64,
           p->order.n_given, WIFSIGNALED(ended) ? "signal" : "exit",
           WIFSIGNALED(ended) ? WTERMSIG(ended) : WEXITSTATUS(ended), p->pause_ms);
    if (work_order_bury(&p->order, &refused)) {
        struct example_id id = example_index_get(p->computed.index, refused).id;

        log_at(LOG_WARN, "example_refused",
               "id=%016" PRIx64 "%016" PRIx64 " cause=\"two teachers have died of it\"", id.high,
               id.low);
    }
    p->is_up = false;
    p->start_ms = clock_monotonic_ms() + p->pause_ms;
    p->pause_ms = MIN(2 * p->pause_ms, (int64_t)MAX_PAUSE_MS);
}

/* Input, job or weights are others than at first: what it would compute is not what was promised.
 */
static void give_up(struct teacher_process *p)
{
    log_at(LOG_ERROR, "teacher_changed",
           "cause=\"input, job or weights are others than before; start the curator again\"");
    (void)teacher_child_end(&p->child);
    p->is_given_up = true;
}

static void hear_child(struct teacher_process *p)
{
    enum status st = ST_OK;
    struct error err = {0};

    while (st == ST_OK && p->child.pid > 0) {
        if (p->is_up) {
            struct teacher_said said;

            st = teacher_child_hear(&p->child, &said, &err);
            if (st == ST_OK)
                take_said(p, &said);
        } else {
            struct teacher_hello hello;

            st = teacher_child_hear_hello(&p->child, &hello, &err);
            p->is_up = st == ST_OK && strcmp(hello.rows_key, p->hello.rows_key) == 0;
            if (st == ST_OK && !p->is_up)
                give_up(p);
        }
    }
    if (st != ST_OK && st != ST_FULL)
        bury(p);
}

static void start_again(struct teacher_process *p)
{
    struct error err = {0};

    if (p->child.pid > 0 || p->is_given_up || clock_monotonic_ms() < p->start_ms)
        return;
    if (teacher_child_start(p->options.argv, &p->child, &err) != ST_OK) {
        log_at(LOG_WARN, "teacher_not_started", "cause=\"%s\"", err.message);
        p->start_ms = clock_monotonic_ms() + p->pause_ms;
    }
}

static void wait_for_news(struct teacher_process *p)
{
    struct pollfd items[] = {{.fd = p->wake.fds[0], .events = POLLIN},
                             {.fd = p->child.pid > 0 ? p->child.socket : -1, .events = POLLIN}};
    int64_t begun = clock_monotonic_ns(), pause = -1;

    if (p->child.pid == 0 && !p->is_given_up)
        pause = MAX(p->start_ms - clock_monotonic_ms(), (int64_t)0);
    (void)poll(items, ARRAY_LEN(items), (int)pause);
    wake_drain(&p->wake);
    if (p->order.n_given > 0)
        (void)atomic_fetch_add(&p->counters.compute_ns,
                               (unsigned long long)(clock_monotonic_ns() - begun));
}

static void *run(void *ctx)
{
    struct teacher_process *p = ctx;

    while (!atomic_load(&p->stop)) {
        take_asked(p);
        hear_child(p);
        start_again(p);
        give(p);
        settle(p);
        atomic_store(&p->counters.n_wanted, p->order.n_wanted);
        wait_for_news(p);
    }
    return NULL;
}

static enum status begin(struct teacher_process *p, struct error *err)
{
    enum status st = queue_create(MAX_ASKED, SIZE_MAX, &p->asked, err);

    if (st == ST_OK)
        st = wake_init(&p->wake, err);
    if (st == ST_OK)
        st = wake_init(&p->answered, err);
    if (st == ST_OK)
        st = teacher_child_start(p->options.argv, &p->child, err);
    if (st == ST_OK)
        st = teacher_child_await_hello(&p->child, p->options.stop, &p->hello, err);
    if (st == ST_OK)
        st = computed_references_open(&p->hello, p->options.cache, p->options.dataset, &p->computed,
                                      err);
    if (st != ST_OK)
        return st;
    p->is_up = true;
    p->max_given = 2 * MIN(MAX((size_t)p->hello.n_threads, (size_t)1), (size_t)TEACHER_MAX_THREADS);
    st = work_order_init(&p->order, example_index_count(p->computed.index), err);
    if (st != ST_OK)
        return st;
    p->started = pthread_create(&p->thread, NULL, run, p) == 0;
    return p->started ? ST_OK : error_set(err, ST_UNAVAILABLE, "could not start a thread");
}

enum status teacher_process_open(const struct teacher_process_options *options,
                                 struct teacher_process **out, struct error *err)
{
    struct teacher_process *p = calloc(1, sizeof *p);
    enum status st;

    *out = p;
    if (p == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a teacher");
    p->options = *options;
    for (int e = 0; e < 2; e++)
        p->wake.fds[e] = p->answered.fds[e] = -1;
    p->pause_ms = FIRST_PAUSE_MS;
    st = begin(p, err);
    if (st != ST_OK)
        teacher_process_close(out);
    return st;
}

void teacher_process_close(struct teacher_process **out)
{
    struct teacher_process *p = *out;
    void *item;

    if (p == NULL)
        return;
    atomic_store(&p->stop, true);
    if (p->started) {
        wake_signal(&p->wake);
        (void)pthread_join(p->thread, NULL);
    }
    (void)teacher_child_end(&p->child);
    while (p->asked != NULL && queue_try_pop(p->asked, &item) == ST_OK)
        disown(item);
    for (struct wanted *next; p->open != NULL; p->open = next) {
        next = p->open->next;
        disown(p->open);
    }
    queue_destroy(&p->asked);
    wake_release(&p->wake);
    wake_release(&p->answered);
    computed_references_close(&p->computed);
    work_order_release(&p->order);
    free(p);
    *out = NULL;
}

const struct curator_references *teacher_process_references(const struct teacher_process *process)
{
    return &process->computed.references;
}

struct wanted *teacher_process_want(struct teacher_process *process, struct bytes_view ids,
                                    size_t n)
{
    struct wanted *wanted = calloc(1, sizeof *wanted);

    if (wanted == NULL)
        return NULL;
    wanted->n = n;
    wanted->ids = calloc(n, sizeof *wanted->ids);
    wanted->places = calloc(n, sizeof *wanted->places);
    atomic_init(&wanted->n_owners, 2);
    if (wanted->ids == NULL || wanted->places == NULL ||
        queue_depth(process->asked) == MAX_ASKED) { /* only we push */
        atomic_store(&wanted->n_owners, 1);
        disown(wanted);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        wanted->ids[i] = (struct example_id){
            .low = bytes_get_u64(ids.data + i * CURATOR_ID_BYTES),
            .high = bytes_get_u64(ids.data + i * CURATOR_ID_BYTES + sizeof(uint64_t))};
    if (queue_push(process->asked, wanted, 0) != ST_OK) {
        atomic_store(&wanted->n_owners, 1);
        disown(wanted);
        return NULL;
    }
    wake_signal(&process->wake);
    return wanted;
}

bool wanted_is_ready(const struct wanted *wanted)
{
    return atomic_load(&wanted->is_ready);
}

void wanted_release(struct wanted **wanted)
{
    if (*wanted != NULL)
        disown(*wanted);
    *wanted = NULL;
}

int teacher_process_fd(const struct teacher_process *process)
{
    return process->answered.fds[0];
}

void teacher_process_heard(struct teacher_process *process)
{
    wake_drain(&process->answered);
}

struct teacher_counts teacher_process_count(const struct teacher_process *process)
{
    const struct counters *c = &process->counters;

    return (struct teacher_counts){.n_examples = example_index_count(process->computed.index),
                                   .n_found = atomic_load(&c->n_found),
                                   .n_unknown = atomic_load(&c->n_unknown),
                                   .n_computed = atomic_load(&c->n_computed),
                                   .n_bad = atomic_load(&c->n_bad),
                                   .n_failed = atomic_load(&c->n_failed),
                                   .n_wanted = atomic_load(&c->n_wanted),
                                   .n_deaths = atomic_load(&c->n_deaths),
                                   .compute_ms = atomic_load(&c->compute_ns) / 1000000};
}
