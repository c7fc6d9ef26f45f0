#include "reinforce/base/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct entry {
    void *item;
    size_t bytes;
};

struct queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t not_empty, not_full;
    struct entry *ring;
    size_t max_items, max_bytes;
    size_t head, n_items, n_bytes;
    bool closed;
};

enum status queue_create(size_t max_items, size_t max_bytes, struct queue **out, struct error *err)
{
    struct queue *queue = calloc(1, sizeof *queue);

    assert(max_items >= 1);
    *out = NULL;
    if (queue == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a queue");
    queue->ring = calloc(max_items, sizeof *queue->ring);
    if (queue->ring == NULL) {
        free(queue);
        return error_set(err, ST_NO_MEMORY, "could not allocate a queue of %zu items", max_items);
    }
    (void)pthread_mutex_init(&queue->lock, NULL);
    (void)pthread_cond_init(&queue->not_empty, NULL);
    (void)pthread_cond_init(&queue->not_full, NULL);
    queue->max_items = max_items;
    queue->max_bytes = max_bytes;
    *out = queue;
    return ST_OK;
}

static bool has_room(const struct queue *queue, size_t bytes)
{
    if (queue->n_items == 0)
        return true;
    return queue->n_items < queue->max_items && queue->n_bytes <= queue->max_bytes &&
           bytes <= queue->max_bytes - queue->n_bytes;
}

enum status queue_push(struct queue *queue, void *item, size_t bytes)
{
    enum status st = ST_OK;

    (void)pthread_mutex_lock(&queue->lock);
    while (!queue->closed && !has_room(queue, bytes))
        (void)pthread_cond_wait(&queue->not_full, &queue->lock);
    if (queue->closed) {
        st = ST_CANCELLED;
    } else {
        queue->ring[(queue->head + queue->n_items) % queue->max_items] =
            (struct entry){item, bytes};
        queue->n_items++;
        queue->n_bytes += bytes;
        (void)pthread_cond_signal(&queue->not_empty);
    }
    (void)pthread_mutex_unlock(&queue->lock);
    return st;
}

static enum status pop(struct queue *queue, void **item, bool wait)
{
    enum status st = ST_OK;

    *item = NULL;
    (void)pthread_mutex_lock(&queue->lock);
    while (wait && queue->n_items == 0 && !queue->closed)
        (void)pthread_cond_wait(&queue->not_empty, &queue->lock);
    if (queue->n_items > 0) {
        struct entry entry = queue->ring[queue->head];

        *item = entry.item;
        queue->head = (queue->head + 1) % queue->max_items;
        queue->n_items--;
        queue->n_bytes -= entry.bytes;
        (void)pthread_cond_broadcast(&queue->not_full); /* waiters differ in bytes */
    } else {
        st = queue->closed ? ST_END : ST_FULL;
    }
    (void)pthread_mutex_unlock(&queue->lock);
    return st;
}

enum status queue_pop(struct queue *queue, void **item)
{
    return pop(queue, item, true);
}

enum status queue_try_pop(struct queue *queue, void **item)
{
    return pop(queue, item, false);
}

void queue_close(struct queue *queue)
{
    (void)pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    (void)pthread_cond_broadcast(&queue->not_empty);
    (void)pthread_cond_broadcast(&queue->not_full);
    (void)pthread_mutex_unlock(&queue->lock);
}

size_t queue_depth(struct queue *queue)
{
    size_t n;

    (void)pthread_mutex_lock(&queue->lock);
    n = queue->n_items;
    (void)pthread_mutex_unlock(&queue->lock);
    return n;
}

void queue_destroy(struct queue **queue)
{
    struct queue *q = *queue;

    if (q == NULL)
        return;
    assert(q->n_items == 0);
    (void)pthread_cond_destroy(&q->not_full);
    (void)pthread_cond_destroy(&q->not_empty);
    (void)pthread_mutex_destroy(&q->lock);
    free(q->ring);
    free(q);
    *queue = NULL;
}
