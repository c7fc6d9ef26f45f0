#include "storage/object/object_store.h"

#include <pthread.h>

/* Objects of one name, shared by its handles. */
struct mem_space {
    struct mem_space *next;
    char *name;
    size_t n_handles;     /* guarded by spaces_lock */
    pthread_mutex_t lock; /* guards what follows */
    uint64_t version;     /* raised by each put: the etag */
    struct mem_object *objects;
    size_t n_objects, capacity;
};

struct mem_object {
    char *key;
    uint8_t *data;
    size_t len;
    uint64_t version;
};

struct mem_store {
    struct object_store base;
    struct mem_space *space;
};

/* The one mutable static of the stores: two handles of one name must meet somewhere, as two
 * processes meet in a folder. */
static pthread_mutex_t spaces_lock = PTHREAD_MUTEX_INITIALIZER; /* guards spaces */
static struct mem_space *spaces;

static struct mem_space *space_of(struct object_store *s)
{
    return ((struct mem_store *)(void *)s)->space;
}

/* Index of the first object whose key is not below `key`. Under the lock. */
static size_t lower_bound(const struct mem_space *space, const char *key)
{
    size_t low = 0, high = space->n_objects;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (strcmp(space->objects[mid].key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Under the lock. */
static struct mem_object *find(const struct mem_space *space, const char *key)
{
    size_t at = lower_bound(space, key);

    if (at < space->n_objects && strcmp(space->objects[at].key, key) == 0)
        return &space->objects[at];
    return NULL;
}

static enum status not_found(const struct mem_space *space, const char *key, struct error *err)
{
    return error_set(err, ST_NOT_FOUND, "object \"%s\" does not exist in mem:%s", key, space->name);
}

static void describe(const struct mem_object *object, struct object_info *info)
{
    info->bytes = object->len;
    (void)snprintf(info->etag, sizeof info->etag, "%zu-%llu", object->len,
                   (unsigned long long)object->version);
}

static void space_free(struct mem_space *space)
{
    for (size_t i = 0; i < space->n_objects; i++) {
        free(space->objects[i].key);
        free(space->objects[i].data);
    }
    free(space->objects);
    (void)pthread_mutex_destroy(&space->lock);
    free(space->name);
    free(space);
}

/* Under spaces_lock. */
static struct mem_space *space_join(const char *name)
{
    struct mem_space *space;

    for (space = spaces; space != NULL; space = space->next)
        if (strcmp(space->name, name) == 0) {
            space->n_handles++;
            return space;
        }
    space = calloc(1, sizeof *space);
    if (space == NULL)
        return NULL;
    space->name = malloc(strlen(name) + 1);
    if (space->name == NULL) {
        free(space);
        return NULL;
    }
    memcpy(space->name, name, strlen(name) + 1);
    (void)pthread_mutex_init(&space->lock, NULL); /* cannot fail with default attributes */
    space->n_handles = 1;
    space->next = spaces;
    spaces = space;
    return space;
}

static enum status mem_open(const char *url, const struct object_store_options *options,
                            struct object_store **out, struct error *err)
{
    struct mem_store *store = calloc(1, sizeof *store);

    (void)options;
    if (store != NULL) {
        store->base.ops = &object_store_mem;
        (void)pthread_mutex_lock(&spaces_lock);
        store->space = space_join(url);
        (void)pthread_mutex_unlock(&spaces_lock);
    }
    if (store == NULL || store->space == NULL) {
        free(store);
        return error_set(err, ST_NO_MEMORY, "could not allocate store mem:%s", url);
    }
    *out = &store->base;
    return ST_OK;
}

static enum status mem_head(struct object_store *s, const char *key, struct object_info *info,
                            struct error *err)
{
    struct mem_space *space = space_of(s);
    struct mem_object *object;

    (void)pthread_mutex_lock(&space->lock);
    object = find(space, key);
    if (object != NULL)
        describe(object, info);
    (void)pthread_mutex_unlock(&space->lock);
    return object != NULL ? ST_OK : not_found(space, key, err);
}

static enum status mem_read_range(struct object_store *s, const char *key, uint64_t offset,
                                  size_t len, void *out, struct error *err)
{
    struct mem_space *space = space_of(s);
    const struct mem_object *object;
    enum status st = ST_OK;

    (void)pthread_mutex_lock(&space->lock);
    object = find(space, key);
    if (object == NULL)
        st = not_found(space, key, err);
    else if (offset > object->len || len > object->len - offset)
        st = error_set(err, ST_CORRUPT,
                       "object \"%s\" has %zu bytes, but %zu were expected from offset %llu", key,
                       object->len, len, (unsigned long long)offset);
    else if (len > 0)
        memcpy(out, object->data + offset, len);
    (void)pthread_mutex_unlock(&space->lock);
    return st;
}

/* Makes room for one object at `at`. Under the lock. */
static bool insert_at(struct mem_space *space, size_t at)
{
    if (space->n_objects == space->capacity) {
        size_t capacity = MAX(space->capacity * 2, (size_t)16);
        struct mem_object *objects = realloc(space->objects, capacity * sizeof *objects);

        if (objects == NULL)
            return false;
        space->objects = objects;
        space->capacity = capacity;
    }
    memmove(space->objects + at + 1, space->objects + at,
            (space->n_objects - at) * sizeof *space->objects);
    space->n_objects++;
    return true;
}

/* Takes `data`, also on failure. Under the lock. */
static enum status put_locked(struct mem_space *space, const char *key, uint8_t *data, size_t len,
                              struct error *err)
{
    struct mem_object *object = find(space, key);

    if (object == NULL) {
        size_t key_bytes = strlen(key) + 1, at = lower_bound(space, key);
        char *name = malloc(key_bytes);

        if (name == NULL || !insert_at(space, at)) {
            free(name);
            free(data);
            return error_set(err, ST_NO_MEMORY, "could not allocate object \"%s\"", key);
        }
        memcpy(name, key, key_bytes);
        object = &space->objects[at];
        *object = (struct mem_object){.key = name};
    }
    free(object->data);
    object->data = data;
    object->len = len;
    object->version = ++space->version;
    return ST_OK;
}

static enum status join(struct object_store *s, const char *const *part_keys, size_t n_parts,
                        struct bytes_view tail, const char *key, bool only_new,
                        struct object_written *written, struct error *err)
{
    struct mem_space *space = space_of(s);
    size_t len = 0, done = 0;
    uint8_t *data;
    enum status st = ST_OK;

    (void)pthread_mutex_lock(&space->lock);
    if (only_new && find(space, key) != NULL) {
        st = error_set(err, ST_CONFLICT, "object \"%s\" is in mem:%s already", key, space->name);
        goto out;
    }
    for (size_t i = 0; i < n_parts; i++) {
        const struct mem_object *part = find(space, part_keys[i]);

        if (part == NULL) {
            st = not_found(space, part_keys[i], err);
            goto out;
        }
        len += part->len; /* all are in memory: the sum cannot wrap */
    }
    len += tail.len;
    data = malloc(MAX(len, (size_t)1));
    if (data == NULL) {
        st = error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", len);
        goto out;
    }
    for (size_t i = 0; i < n_parts; i++) {
        const struct mem_object *part = find(space, part_keys[i]);

        memcpy(data + done, part->data, part->len);
        done += part->len;
    }
    if (tail.len > 0)
        memcpy(data + done, tail.data, tail.len);
    written->bytes = len;
    sha256_of(bytes_view_of(data, len), written->sha256);
    st = put_locked(space, key, data, len, err);
out:
    (void)pthread_mutex_unlock(&space->lock);
    return st;
}

static enum status mem_join(struct object_store *s, const char *const *part_keys, size_t n_parts,
                            struct bytes_view tail, const char *key, struct object_written *written,
                            struct error *err)
{
    return join(s, part_keys, n_parts, tail, key, false, written, err);
}

static enum status mem_put(struct object_store *s, const char *key, struct bytes_view body,
                           bool only_new, struct object_written *written, struct error *err)
{
    return join(s, NULL, 0, body, key, only_new, written, err);
}

static enum status mem_list(struct object_store *s, const char *prefix, object_list_fn *each,
                            void *ctx, struct error *err)
{
    struct mem_space *space = space_of(s);
    size_t prefix_len = strlen(prefix);
    char key[OBJECT_KEY_MAX + 1] = "";

    /* One object at a time, so that the lock is not held in the callback. */
    for (bool first = true;; first = false) {
        struct object_info info = {.key = key};
        size_t at;
        bool found = false;
        enum status st;

        (void)pthread_mutex_lock(&space->lock);
        at = lower_bound(space, first ? prefix : key);
        if (!first && at < space->n_objects && strcmp(space->objects[at].key, key) == 0)
            at++;
        if (at < space->n_objects && strncmp(space->objects[at].key, prefix, prefix_len) == 0) {
            found = true;
            memcpy(key, space->objects[at].key, strlen(space->objects[at].key) + 1);
            describe(&space->objects[at], &info);
        }
        (void)pthread_mutex_unlock(&space->lock);
        if (!found)
            return ST_OK;
        st = each(ctx, &info, err);
        if (st != ST_OK)
            return st;
    }
}

static enum status mem_remove(struct object_store *s, const char *key, struct error *err)
{
    struct mem_space *space = space_of(s);
    struct mem_object *object;

    (void)err;
    (void)pthread_mutex_lock(&space->lock);
    object = find(space, key);
    if (object != NULL) {
        size_t at = (size_t)(object - space->objects);

        free(object->key);
        free(object->data);
        memmove(object, object + 1, (space->n_objects - at - 1) * sizeof *object);
        space->n_objects--;
    }
    (void)pthread_mutex_unlock(&space->lock);
    return ST_OK;
}

static void mem_close(struct object_store *s)
{
    struct mem_space *space = space_of(s), *dead = NULL;

    (void)pthread_mutex_lock(&spaces_lock);
    if (--space->n_handles == 0) {
        struct mem_space **link = &spaces;

        while (*link != space)
            link = &(*link)->next;
        *link = space->next;
        dead = space;
    }
    (void)pthread_mutex_unlock(&spaces_lock);
    if (dead != NULL)
        space_free(dead);
    free(s);
}

const struct object_store_ops object_store_mem = {
    .scheme = "mem",
    .open = mem_open,
    .head = mem_head,
    .read_range = mem_read_range,
    .put = mem_put,
    .join = mem_join,
    .list = mem_list,
    .remove = mem_remove,
    .close = mem_close,
};
