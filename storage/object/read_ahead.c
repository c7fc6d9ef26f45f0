#include "storage/object/read_ahead.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum state {
    IDLE,    /* nothing asked for */
    ASKED,   /* for the thread to fetch: it owns buffer, status and error */
    FETCHED, /* for the reader to take */
    ENDING,
};

struct read_ahead {
    struct object_store *store;
    const char *key;
    size_t capacity;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows, but for what the thread owns while ASKED */
    pthread_cond_t changed;
    enum state state;
    uint64_t offset;
    size_t len;
    uint8_t *buffer;
    enum status st;
    struct error err;
};

static void *fetch(void *arg)
{
    struct read_ahead *ahead = arg;

    (void)pthread_mutex_lock(&ahead->lock);
    while (ahead->state != ENDING) {
        if (ahead->state != ASKED) {
            (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&ahead->lock);
        ahead->st = object_store_read_range(ahead->store, ahead->key, ahead->offset, ahead->len,
                                            ahead->buffer, &ahead->err);
        (void)pthread_mutex_lock(&ahead->lock);
        ahead->state = FETCHED;
        (void)pthread_cond_broadcast(&ahead->changed);
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

enum status read_ahead_create(struct object_store *store, const char *key, size_t capacity,
                              struct read_ahead **out, struct error *err)
{
    struct read_ahead *ahead = calloc(1, sizeof *ahead);

    *out = NULL;
    if (ahead != NULL)
        ahead->buffer = malloc(capacity);
    if (ahead == NULL || ahead->buffer == NULL) {
        free(ahead);
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes to read ahead", capacity);
    }
    ahead->store = store;
    ahead->key = key;
    ahead->capacity = capacity;
    (void)pthread_mutex_init(&ahead->lock, NULL);
    (void)pthread_cond_init(&ahead->changed, NULL);
    if (pthread_create(&ahead->thread, NULL, fetch, ahead) != 0) {
        (void)pthread_cond_destroy(&ahead->changed);
        (void)pthread_mutex_destroy(&ahead->lock);
        free(ahead->buffer);
        free(ahead);
        return error_set(err, ST_UNAVAILABLE, "could not start a thread to read ahead");
    }
    *out = ahead;
    return ST_OK;
}

/* Under the lock. */
static void wait_while_asked(struct read_ahead *ahead)
{
    while (ahead->state == ASKED)
        (void)pthread_cond_wait(&ahead->changed, &ahead->lock);
}

void read_ahead_begin(struct read_ahead *ahead, uint64_t offset, size_t len)
{
    assert(len <= ahead->capacity);
    (void)pthread_mutex_lock(&ahead->lock);
    wait_while_asked(ahead);
    ahead->state = ASKED;
    ahead->offset = offset;
    ahead->len = len;
    (void)pthread_cond_broadcast(&ahead->changed);
    (void)pthread_mutex_unlock(&ahead->lock);
}

enum status read_ahead_take(struct read_ahead *ahead, uint64_t offset, uint8_t **buffer,
                            size_t *len, bool *found, struct error *err)
{
    enum status st = ST_OK;

    (void)pthread_mutex_lock(&ahead->lock);
    *found = ahead->state != IDLE && ahead->offset == offset;
    if (*found) {
        wait_while_asked(ahead);
        ahead->state = IDLE;
        st = ahead->st;
        *len = ahead->len;
        if (st == ST_OK) {
            uint8_t *block = ahead->buffer;

            ahead->buffer = *buffer;
            *buffer = block;
        } else {
            *err = ahead->err;
        }
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return st;
}

void read_ahead_destroy(struct read_ahead **ahead)
{
    struct read_ahead *a = *ahead;

    if (a == NULL)
        return;
    (void)pthread_mutex_lock(&a->lock);
    wait_while_asked(a);
    a->state = ENDING;
    (void)pthread_cond_broadcast(&a->changed);
    (void)pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->thread, NULL);
    (void)pthread_cond_destroy(&a->changed);
    (void)pthread_mutex_destroy(&a->lock);
    free(a->buffer);
    free(a);
    *ahead = NULL;
}
