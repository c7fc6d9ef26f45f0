/* Streams: partitioned logs of messages, consumed in a group and produced to. */
#ifndef REINFORCE_STORAGE_STREAM_H
#define REINFORCE_STORAGE_STREAM_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

struct stream_consumer;
struct stream_producer;

enum { STREAM_ANY_PARTITION = -1 }; /* the key decides; without one any */

/** The messages that a partition holds: offsets from `begin` to before `end`. */
struct stream_extent {
    const char *topic;
    int32_t partition;
    int64_t begin, end;
};

/** Where to read from when no offset is known. */
enum { STREAM_OFFSET_BEGINNING = -2, STREAM_OFFSET_END = -1 };

/** A client's setting by its own name, such as "compression.type". A value that begins with "env:"
 * or "file:" is read from there: secrets must be. */
struct stream_property {
    const char *name, *value;
};

struct stream_header {
    const char *name;
    struct bytes_view value;
};

/** A place in a stream. */
struct stream_partition {
    const char *topic;
    int32_t partition;
    int64_t offset; /* of the next message, or one of STREAM_OFFSET_* */
};

/** Data NULL is a key or value that is not there, which is not an empty one. */
struct stream_message {
    const char *topic;
    int32_t partition;
    int64_t offset;       /* of a consumed one */
    int64_t timestamp_ms; /* wall clock, as the log has it; -1: unknown. Not of a produced one */
    struct bytes_view key, value;
    const struct stream_header *headers;
    size_t n_headers;
};

enum stream_event_kind {
    STREAM_NOTHING = 0, /* the time was up */
    STREAM_MESSAGE = 1,
    STREAM_ASSIGNED = 2,  /* answer with stream_consumer_assign() and the offsets to begin at */
    STREAM_REVOKED = 3,   /* finish what is begun, then stream_consumer_unassign() */
    STREAM_GONE = 4,      /* nothing stands at the offset; go on by assigning anew */
    STREAM_CAUGHT_UP = 5, /* a partition has been read to its end, for now */
};

/** What poll() gave; what it points at lives until the next poll(). */
struct stream_event {
    enum stream_event_kind kind;
    struct stream_message message;
    const struct stream_partition *partitions; /* without offsets */
    size_t n_partitions;
    int64_t first, end; /* of STREAM_GONE: the offsets there are, end not included; -1: not known */
                        /* of STREAM_CAUGHT_UP: `end`, which may lie behind what is no message */
    bool lost;          /* of STREAM_REVOKED: it has happened already, others may have them */
};

/** Strings are borrowed for the call that opens. */
struct stream_consumer_options {
    const char *group;
    const char *client;        /* names the process in the brokers' logs */
    const char *const *topics; /* a name, or "^..." a regular expression of names */
    size_t n_topics;
    size_t max_bytes; /* of messages fetched ahead */
    const struct stream_property *properties;
    size_t n_properties;
    int connect_ms; /* how long to look for a broker and the topics when opening */
};

/** Called from send(), poll(), flush() and close(), once per message sent: `err` NULL is success.
 */
typedef void stream_delivered_fn(void *ctx, void *tag, const struct error *err);

struct stream_producer_options {
    const char *client;
    const struct stream_property *properties;
    size_t n_properties;
    size_t max_bytes;        /* of messages not delivered yet */
    int connect_ms;          /* how long to look for a broker when opening; 0: when there is need */
    const char *transaction; /* of the producers of this name only the last one opened gets messages
                               through; NULL: no transactions */
    stream_delivered_fn *delivered; /* may be NULL */
    void *ctx;
};

/** One kind of stream. A handle belongs to one thread for its life. All slots are required. */
struct stream_ops {
    const char *scheme; /* "kafka" */
    enum status (*consumer_open)(const char *address, const struct stream_consumer_options *options,
                                 struct stream_consumer **out, struct error *err);
    enum status (*producer_open)(const char *address, const struct stream_producer_options *options,
                                 struct stream_producer **out, struct error *err);
    enum status (*read_extents)(const char *address, const struct stream_consumer_options *options,
                                struct arena *arena, struct stream_extent **out, size_t *n,
                                struct error *err);
};

struct stream_consumer_ops {
    enum status (*poll)(struct stream_consumer *c, int timeout_ms, struct stream_event *event,
                        struct error *err);
    enum status (*assign)(struct stream_consumer *c, const struct stream_partition *partitions,
                          size_t n, struct error *err);
    enum status (*unassign)(struct stream_consumer *c, const struct stream_partition *partitions,
                            size_t n, struct error *err);
    enum status (*pause)(struct stream_consumer *c, const struct stream_partition *partitions,
                         size_t n, bool paused, struct error *err);
    enum status (*commit)(struct stream_consumer *c, const struct stream_partition *partitions,
                          size_t n, struct error *err);
    void (*close)(struct stream_consumer *c);
};

struct stream_consumer { /* first member of each kind's own struct */
    const struct stream_consumer_ops *ops;
};

struct stream_producer_ops {
    enum status (*send)(struct stream_producer *p, const struct stream_message *message, void *tag,
                        struct error *err);
    enum status (*poll)(struct stream_producer *p, int timeout_ms, struct error *err);
    enum status (*flush)(struct stream_producer *p, int timeout_ms, struct error *err);
    enum status (*begin)(struct stream_producer *p, int timeout_ms, struct error *err);
    enum status (*commit)(struct stream_producer *p, int timeout_ms, struct error *err);
    void (*close)(struct stream_producer *p);
};

struct stream_producer { /* first member of each kind's own struct */
    const struct stream_producer_ops *ops;
};

/**
 * "kafka://HOST:PORT,HOST:PORT". Joins the group; assignments come as events. ST_INVALID: another
 * scheme, a property that is unknown or not the user's to set, a secret written out, a refused
 * login; ST_NOT_FOUND: a topic that is not there; ST_UNAVAILABLE: no broker answered in connect_ms.
 * *out is the caller's.
 */
NODISCARD enum status stream_consumer_open(const char *url,
                                           const struct stream_consumer_options *options,
                                           struct stream_consumer **out, struct error *err);

/**
 * The next event. The consumer must be polled often (Kafka: max.poll.interval.ms) or the group goes
 * on without it. ST_UNAVAILABLE: no broker can be reached; it goes on trying, and so may the caller
 * by calling again. ST_CONFLICT: the group has gone on without this member. ST_INVALID: the brokers
 * refuse us.
 */
NODISCARD enum status stream_consumer_poll(struct stream_consumer *c, int timeout_ms,
                                           struct stream_event *event, struct error *err);

/** Begins to read at the offsets given, whatever the group has committed: answers STREAM_ASSIGNED,
 * or moves partitions that are assigned already. None of them is paused afterwards. */
NODISCARD enum status stream_consumer_assign(struct stream_consumer *c,
                                             const struct stream_partition *partitions, size_t n,
                                             struct error *err);
/** Gives partitions back: answers STREAM_REVOKED. No message of theirs comes afterwards. */
NODISCARD enum status stream_consumer_unassign(struct stream_consumer *c,
                                               const struct stream_partition *partitions, size_t n,
                                               struct error *err);
/** No messages of these until they are resumed; none is lost. */
NODISCARD enum status stream_consumer_pause(struct stream_consumer *c,
                                            const struct stream_partition *partitions, size_t n,
                                            bool paused, struct error *err);
/** Tells the brokers where we are, for those who watch the lag; what comes of it is not waited
 * for. */
NODISCARD enum status stream_consumer_commit(struct stream_consumer *c,
                                             const struct stream_partition *partitions, size_t n,
                                             struct error *err);
/** Leaves the group. What was assigned is given back without an event. */
void stream_consumer_close(struct stream_consumer **c);

/** As stream_consumer_open(). Messages arrive once and in order whatever is sent again on the way
 * (an idempotent producer). */
NODISCARD enum status stream_producer_open(const char *url,
                                           const struct stream_producer_options *options,
                                           struct stream_producer **out, struct error *err);
/**
 * Copies the message to the queue; `tag` comes back with what became of it. ST_FULL: nothing was
 * queued, poll() makes room. ST_INVALID: too large, or no such topic.
 */
NODISCARD enum status stream_producer_send(struct stream_producer *p,
                                           const struct stream_message *message, void *tag,
                                           struct error *err);
/** Serves deliveries for up to timeout_ms or until there are any. ST_UNAVAILABLE: no broker can be
 * reached, which goes on being tried. */
NODISCARD enum status stream_producer_poll(struct stream_producer *p, int timeout_ms,
                                           struct error *err);
/** Waits until all is delivered or has failed. ST_TIMEOUT, ST_UNAVAILABLE: not yet. */
NODISCARD enum status stream_producer_flush(struct stream_producer *p, int timeout_ms,
                                            struct error *err);
/**
 * Transactions, of a producer that was opened for them: what is sent after begin() is seen by
 * readers of what is committed after commit(), all of it or nothing. begin() ends what an earlier
 * producer of the same name has left, and shuts it out. ST_TIMEOUT, ST_UNAVAILABLE: say it again,
 * or open another producer; close() abandons a transaction. ST_CONFLICT: another one was opened
 * meanwhile; nothing that was sent is seen. Whatever else fails, open another.
 */
NODISCARD enum status stream_producer_begin(struct stream_producer *p, int timeout_ms,
                                            struct error *err);
/** After a flush() that was ST_OK and deliveries that were. */
NODISCARD enum status stream_producer_commit(struct stream_producer *p, int timeout_ms,
                                             struct error *err);
/** What is not delivered by now is dropped; its deliveries fail. */
void stream_producer_close(struct stream_producer **p);

/** Asks the brokers for every partition of options' topics; joins no group, which need not be
 * named. ST_NOT_FOUND: a topic that is not there. What comes out lives in `arena`. */
NODISCARD enum status stream_read_extents(const char *url,
                                          const struct stream_consumer_options *options,
                                          struct arena *arena, struct stream_extent **out,
                                          size_t *n, struct error *err);

/* Named by the dispatcher alone. */
extern const struct stream_ops stream_kafka;

#endif
