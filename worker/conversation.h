/* What an agent says to its coordinator and makes of the answers. Pure: time and messages are
 * handed in and out, so that every loss and delay can be tested without sockets. */
#ifndef REINFORCE_WORKER_CONVERSATION_H
#define REINFORCE_WORKER_CONVERSATION_H

#include "proto/wire.h"

enum {
    CONVERSATION_MAX_LEASES = 4,  /* held, or ended and not acknowledged */
    CONVERSATION_MAX_RESULTS = 8, /* with room for leases that were refused */
};

/** Times are monotonic milliseconds. Read the fields, change none. */
struct conversation {
    const char *name, *digest; /* of the worker, of its job; borrowed */
    int64_t job, answer_ms, beat_ms;
    bool is_known;    /* whoever coordinates now has welcomed us */
    bool is_refused;  /* and will not have us; nothing more is said */
    bool is_finished; /* the coordinator has no more work of this job for us */
    bool is_asked;    /* request `number` waits for its answer */
    uint64_t number;
    int64_t hello_at_ms, ask_at_ms;
    struct {
        int64_t shard, epoch, beat_at_ms;
    } held[CONVERSATION_MAX_LEASES];
    size_t n_held;
    struct {
        struct wire_message message;
        int64_t send_at_ms;
    } results[CONVERSATION_MAX_RESULTS]; /* not acknowledged, oldest first */
    size_t n_results;
};

/** What an answer means to the agent. */
enum conversation_heard {
    CONVERSATION_NOTHING = 0,    /* it is dealt with */
    CONVERSATION_LEASE = 1,      /* a grant that is ours now: work on it */
    CONVERSATION_BEAT = 2,       /* see the reply's `lost` and `stop` */
    CONVERSATION_REFUSED = 3,    /* see its `reason`; finish what is held and go */
    CONVERSATION_UNEXPECTED = 4, /* a message that coordinators do not send */
};

/** A request, hello or result without an answer is said again after `answer_ms`; leases are renewed
 * every third of `lease_ms`. */
void conversation_init(struct conversation *c, const char *name, int64_t job, const char *digest,
                       int64_t answer_ms, int64_t lease_ms);

/**
 * The next thing to say, in *message; false: nothing now. `wants_lease`: there is room for one. The
 * sample counts of a heartbeat are the caller's to fill in.
 */
bool conversation_next(struct conversation *c, int64_t now_ms, bool wants_lease,
                       struct wire_message *message);

/** What conversation_next() gave could not be sent: nobody is there. Whoever comes is greeted, and
 * told all that is open. */
void conversation_unsent(struct conversation *c, int64_t now_ms);

/** Takes a message of the coordinator. */
enum conversation_heard conversation_hear(struct conversation *c, int64_t now_ms,
                                          const struct wire_message *message);

/** A lease that was held has ended as the LeaseResult `result` says. */
void conversation_end(struct conversation *c, int64_t now_ms, const struct wire_message *result);

/** When conversation_next() will have something to say though nothing is heard; INT64_MAX: never.
 */
int64_t conversation_due_ms(const struct conversation *c, bool wants_lease);

/** Whether the coordinator still owes us an answer that we should not leave without: to a request,
 * which may be a lease, or to a result. */
bool conversation_is_open(const struct conversation *c);

#endif
