#include "reinforce/base/parallel.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MAX_THREADS = 64 };

struct work {
    size_t n;
    parallel_fn *each;
    void *ctx;
    atomic_size_t next;
    atomic_bool failed;
    pthread_mutex_t lock; /* guards what follows */
    enum status st;
    struct error *err;
};

static void *run(void *arg)
{
    struct work *work = arg;

    while (!atomic_load(&work->failed)) {
        size_t i = atomic_fetch_add(&work->next, 1);
        struct error err = {0};
        enum status st;

        if (i >= work->n)
            break;
        st = work->each(work->ctx, i, &err);
        if (st == ST_OK)
            continue;
        atomic_store(&work->failed, true);
        (void)pthread_mutex_lock(&work->lock);
        if (work->st == ST_OK) {
            work->st = st;
            *work->err = err;
        }
        (void)pthread_mutex_unlock(&work->lock);
    }
    return NULL;
}

enum status parallel_run(size_t n, size_t max_threads, parallel_fn *each, void *ctx,
                         struct error *err)
{
    struct work work = {.n = n, .each = each, .ctx = ctx, .st = ST_OK, .err = err};
    pthread_t threads[MAX_THREADS];
    size_t wanted = MIN(MIN(n, max_threads), (size_t)MAX_THREADS), n_threads = 0;

    (void)pthread_mutex_init(&work.lock, NULL);
    while (n_threads + 1 < wanted && pthread_create(&threads[n_threads], NULL, run, &work) == 0)
        n_threads++;
    (void)run(&work);
    for (size_t i = 0; i < n_threads; i++)
        (void)pthread_join(threads[i], NULL);
    (void)pthread_mutex_destroy(&work.lock);
    return work.st;
}
