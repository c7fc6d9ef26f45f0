#include "storage/stream/stream.h"

#include <assert.h>

static const struct stream_ops *const kinds[] = {&stream_kafka};

/* The kind of `url`, and in *address what follows "scheme://". */
static enum status find_kind(const char *url, const struct stream_ops **kind, const char **address,
                             struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t len = strlen(kinds[i]->scheme);

        if (strncmp(url, kinds[i]->scheme, len) != 0 || strncmp(url + len, "://", 3) != 0)
            continue;
        *kind = kinds[i];
        *address = url + len + 3;
        return ST_OK;
    }
    return error_set(err, ST_INVALID,
                     "stream \"%.*s\" is of no kind we know; write kafka://HOST:PORT",
                     (int)MIN(strcspn(url, ":"), (size_t)32), url);
}

enum status stream_consumer_open(const char *url, const struct stream_consumer_options *options,
                                 struct stream_consumer **out, struct error *err)
{
    const struct stream_ops *kind;
    const char *address;
    enum status st = find_kind(url, &kind, &address, err);

    *out = NULL;
    if (st == ST_OK)
        st = kind->consumer_open(address, options, out, err);
    assert((st == ST_OK) == (*out != NULL));
    return st;
}

enum status stream_consumer_poll(struct stream_consumer *c, int timeout_ms,
                                 struct stream_event *event, struct error *err)
{
    memset(event, 0, sizeof *event);
    return c->ops->poll(c, timeout_ms, event, err);
}

enum status stream_consumer_assign(struct stream_consumer *c,
                                   const struct stream_partition *partitions, size_t n,
                                   struct error *err)
{
    return c->ops->assign(c, partitions, n, err);
}

enum status stream_consumer_unassign(struct stream_consumer *c,
                                     const struct stream_partition *partitions, size_t n,
                                     struct error *err)
{
    return c->ops->unassign(c, partitions, n, err);
}

enum status stream_consumer_pause(struct stream_consumer *c,
                                  const struct stream_partition *partitions, size_t n, bool paused,
                                  struct error *err)
{
    return n > 0 ? c->ops->pause(c, partitions, n, paused, err) : ST_OK;
}

enum status stream_consumer_commit(struct stream_consumer *c,
                                   const struct stream_partition *partitions, size_t n,
                                   struct error *err)
{
    return n > 0 ? c->ops->commit(c, partitions, n, err) : ST_OK;
}

void stream_consumer_close(struct stream_consumer **c)
{
    if (*c != NULL)
        (*c)->ops->close(*c);
    *c = NULL;
}

enum status stream_producer_open(const char *url, const struct stream_producer_options *options,
                                 struct stream_producer **out, struct error *err)
{
    const struct stream_ops *kind;
    const char *address;
    enum status st = find_kind(url, &kind, &address, err);

    *out = NULL;
    if (st == ST_OK)
        st = kind->producer_open(address, options, out, err);
    assert((st == ST_OK) == (*out != NULL));
    return st;
}

enum status stream_producer_send(struct stream_producer *p, const struct stream_message *message,
                                 void *tag, struct error *err)
{
    return p->ops->send(p, message, tag, err);
}

enum status stream_producer_poll(struct stream_producer *p, int timeout_ms, struct error *err)
{
    return p->ops->poll(p, timeout_ms, err);
}

enum status stream_producer_flush(struct stream_producer *p, int timeout_ms, struct error *err)
{
    return p->ops->flush(p, timeout_ms, err);
}

enum status stream_producer_begin(struct stream_producer *p, int timeout_ms, struct error *err)
{
    return p->ops->begin(p, timeout_ms, err);
}

enum status stream_producer_commit(struct stream_producer *p, int timeout_ms, struct error *err)
{
    return p->ops->commit(p, timeout_ms, err);
}

void stream_producer_close(struct stream_producer **p)
{
    if (*p != NULL)
        (*p)->ops->close(*p);
    *p = NULL;
}

enum status stream_read_extents(const char *url, const struct stream_consumer_options *options,
                                struct arena *arena, struct stream_extent **out, size_t *n,
                                struct error *err)
{
    const struct stream_ops *kind;
    const char *address;
    enum status st = find_kind(url, &kind, &address, err);

    *n = 0;
    return st == ST_OK ? kind->read_extents(address, options, arena, out, n, err) : st;
}
