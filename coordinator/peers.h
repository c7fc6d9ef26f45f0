/* The workers a dispatcher knows: who has said hello, and what each was last told, so that it can
 * be said again. Soft state: a worker that is not known is asked who it is. */
#ifndef REINFORCE_COORDINATOR_PEERS_H
#define REINFORCE_COORDINATOR_PEERS_H

#include "proto/wire.h"

enum { PEER_MAX_ID = 255, PEER_MAX_ENDED = 8, PEER_MAX_LEASES = 4 };

/** A lease as its worker has last told. */
struct peer_lease {
    int64_t job, shard, epoch; /* epoch 0: there is none */
    uint64_t left;             /* samples not begun; UINT64_MAX: not known */
    uint64_t n_samples;        /* committed */
    int64_t told_ms;           /* when its worker told of it last, */
    int64_t moved_ms;          /* and when that number was another for the last time */
};

struct peer {
    uint8_t id[PEER_MAX_ID]; /* on the wire */
    size_t id_len;
    char name[128];     /* of its hello: the owner of its leases */
    char version[32];   /* of its program */
    char address[64];   /* where its hello came from; "" when that is not known */
    uint64_t n_samples; /* it has reported */
    bool is_draining; /* it handed back a lease that nobody wanted back, and has not asked again */
    int64_t heard_ms;
    struct { /* what the catalog has of it; roster.h */
        int64_t noted_ms;
        uint64_t n_samples;
        bool is_gone;
    } noted;
    struct peer_lease leases[PEER_MAX_LEASES];
    struct wire_message grant; /* its last one; kind 0: none, or it has ended */
    struct {
        int64_t job, shard, epoch;
    } ended[PEER_MAX_ENDED]; /* results that were taken last, in a ring */
    size_t n_ended;
};

struct peers {
    struct peer **list; /* by id */
    size_t n, capacity;
    size_t to_note; /* where roster_write() goes on */
};

void peers_release(struct peers *peers);

/** NULL: it has not said hello. Lives until it is forgotten. */
struct peer *peers_find(const struct peers *peers, const uint8_t *id, size_t id_len);

/** Takes a hello: adds the peer, or finds it. A name that has changed is another worker. */
NODISCARD enum status peers_add(struct peers *peers, const uint8_t *id, size_t id_len,
                                const char *name, int64_t now_ms, struct peer **out,
                                struct error *err);

/** Forgets those that were last heard before `since_ms`. */
void peers_forget(struct peers *peers, int64_t since_ms);

/** Whether this result was taken before: its acknowledgement was lost. */
bool peer_has_ended(const struct peer *peer, int64_t job, int64_t shard, int64_t epoch);
/** Notes that it was; the grant, if it was the last, is not said again. */
void peer_end(struct peer *peer, int64_t job, int64_t shard, int64_t epoch);

/** What a worker tells of a lease, or was granted. Returns how long the lease took for what it has
 * committed since it was told of last; 0: nothing. */
int64_t peer_lease_note(struct peer *peer, const struct peer_lease *told);
/** It is no longer the worker's. */
void peer_lease_drop(struct peer *peer, int64_t job, int64_t shard, int64_t epoch);
/** Of all leases: what stood still did so for another reason than its worker. */
void peers_leases_have_moved(struct peers *peers, int64_t now_ms);
/** It has read all that it holds, or asks for more. */
void peer_leases_are_read(struct peer *peer);

/** Of the leases of a job that were told of since `since_ms`, the one of which most is not begun,
 * at least WIRE_SPLIT_MIN samples; NULL: there is none. Lives as long as *holder. */
struct peer_lease *peers_longest_lease(const struct peers *peers, int64_t job, int64_t since_ms,
                                       const struct peer **holder);
/** The one that has moved last before all others, but not `except`'s. */
struct peer_lease *peers_slowest_lease(const struct peers *peers, int64_t job, int64_t since_ms,
                                       const struct peer *except);

#endif
