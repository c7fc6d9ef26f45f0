#include "coordinator/curator/selectors.h"

#include "coordinator/curator/selection_log.h"
#include "reinforce/base/queue.h"
#include "reinforce/base/wake.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct selector {
    struct selectors *all;
    struct curator *curator;
    pthread_t thread;
    bool started;
};

struct selectors {
    struct selector *list; /* [n] */
    size_t n;
    struct queue *asked, *answered, *done; /* answered: to be logged; NULL without a log */
    struct wake wake;
    struct selection_log *log; /* the logging thread's */
    pthread_t logger;
    bool logger_started;
};

static void hand_over(struct queue *queue, struct task *task)
{
    enum status st = queue_push(queue, task, 0);

    assert(st == ST_OK); /* there is room for all, and it is closed when all are out */
}

static void finish(struct selectors *all, struct task *task)
{
    hand_over(all->done, task);
    wake_signal(&all->wake);
}

static void *select_tasks(void *ctx)
{
    struct selector *selector = ctx;
    struct selectors *all = selector->all;
    void *item;

    while (queue_pop(all->asked, &item) == ST_OK) {
        struct task *task = item;

        if (task->kind == TASK_PROBE)
            task->status =
                curator_probe(selector->curator, &task->request.probe, &task->probed, &task->err);
        else
            task->status =
                curator_answer(selector->curator, &task->request.select, task->received_ns,
                               (struct curator_fallback){0}, &task->answer, &task->err);
        selectors_push_answered(all, task);
    }
    return NULL;
}

static void *log_tasks(void *ctx)
{
    struct selectors *all = ctx;
    void *item;

    while (queue_pop(all->answered, &item) == ST_OK) {
        selection_log_write(all->log, item);
        finish(all, item);
    }
    return NULL;
}

static enum status start(pthread_t *thread, bool *started, void *(*run)(void *), void *ctx,
                         struct error *err)
{
    *started = pthread_create(thread, NULL, run, ctx) == 0;
    return *started ? ST_OK : error_set(err, ST_UNAVAILABLE, "could not start a thread");
}

enum status selectors_start(const struct curator_options *options, size_t n, size_t max_tasks,
                            struct selection_log *log, struct selectors **out, struct error *err)
{
    struct selectors *all = calloc(1, sizeof *all);
    enum status st;

    *out = all;
    if (all == NULL || (all->list = calloc(n, sizeof *all->list)) == NULL) {
        free(all);
        *out = NULL;
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu selectors", n);
    }
    all->log = log;
    all->wake = (struct wake){{-1, -1}};
    st = wake_init(&all->wake, err);
    if (st == ST_OK)
        st = queue_create(max_tasks, SIZE_MAX, &all->asked, err);
    if (st == ST_OK)
        st = queue_create(max_tasks, SIZE_MAX, &all->done, err);
    if (st == ST_OK && log != NULL)
        st = queue_create(max_tasks, SIZE_MAX, &all->answered, err);
    if (st == ST_OK && log != NULL)
        st = start(&all->logger, &all->logger_started, log_tasks, all, err);
    for (; all->n < n && st == ST_OK; all->n++) {
        struct selector *selector = &all->list[all->n];

        selector->all = all;
        st = curator_create(options, &selector->curator, err);
        if (st == ST_OK)
            st = start(&selector->thread, &selector->started, select_tasks, selector, err);
    }
    if (st != ST_OK) {
        selectors_stop(all);
        selectors_destroy(out);
    }
    return st;
}

void selectors_stop(struct selectors *all)
{
    if (all->asked != NULL)
        queue_close(all->asked);
    for (size_t s = 0; s < all->n; s++) {
        if (all->list[s].started)
            (void)pthread_join(all->list[s].thread, NULL);
        all->list[s].started = false;
    }
    if (all->answered != NULL)
        queue_close(all->answered);
    if (all->logger_started)
        (void)pthread_join(all->logger, NULL);
    all->logger_started = false;
}

void selectors_destroy(struct selectors **selectors)
{
    struct selectors *all = *selectors;

    if (all == NULL)
        return;
    for (size_t s = 0; s < all->n; s++)
        curator_destroy(&all->list[s].curator);
    queue_destroy(&all->asked);
    queue_destroy(&all->answered);
    queue_destroy(&all->done);
    wake_release(&all->wake);
    free(all->list);
    free(all);
    *selectors = NULL;
}

int selectors_fd(const struct selectors *selectors)
{
    return selectors->wake.fds[0];
}

void selectors_push(struct selectors *selectors, struct task *task)
{
    hand_over(selectors->asked, task);
}

void selectors_push_answered(struct selectors *selectors, struct task *task)
{
    if (selectors->answered != NULL && task->kind == TASK_SELECT && task->status == ST_OK &&
        task->answer.status != CURATOR_REJECTED)
        hand_over(selectors->answered, task);
    else
        finish(selectors, task);
}

struct task *selectors_pop(struct selectors *selectors)
{
    void *item = NULL;

    wake_drain(&selectors->wake);
    return queue_try_pop(selectors->done, &item) == ST_OK ? item : NULL;
}
