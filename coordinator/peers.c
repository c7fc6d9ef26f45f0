#include "coordinator/peers.h"

#include <stdio.h>
#include <stdlib.h>

static int compare(const struct peer *peer, const uint8_t *id, size_t id_len)
{
    int order = memcmp(peer->id, id, MIN(peer->id_len, id_len));

    if (order != 0)
        return order;
    return (peer->id_len > id_len) - (peer->id_len < id_len);
}

/* Of the first that is not before `id`. */
static size_t place_of(const struct peers *peers, const uint8_t *id, size_t id_len)
{
    size_t begin = 0, end = peers->n;

    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;

        if (compare(peers->list[middle], id, id_len) < 0)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

void peers_release(struct peers *peers)
{
    for (size_t i = 0; i < peers->n; i++)
        free(peers->list[i]);
    free(peers->list);
    memset(peers, 0, sizeof *peers);
}

struct peer *peers_find(const struct peers *peers, const uint8_t *id, size_t id_len)
{
    size_t i = place_of(peers, id, id_len);

    return i < peers->n && compare(peers->list[i], id, id_len) == 0 ? peers->list[i] : NULL;
}

static enum status insert(struct peers *peers, const uint8_t *id, size_t id_len, struct peer **out,
                          struct error *err)
{
    size_t i = place_of(peers, id, id_len);
    struct peer *peer;

    if (peers->n == peers->capacity) {
        size_t capacity = MAX(peers->capacity * 2, (size_t)64);
        struct peer **grown = realloc(peers->list, capacity * sizeof(struct peer *));

        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu workers", capacity);
        peers->list = grown;
        peers->capacity = capacity;
    }
    peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a worker");
    memcpy(peer->id, id, id_len);
    peer->id_len = id_len;
    memmove(&peers->list[i + 1], &peers->list[i], (peers->n - i) * sizeof(struct peer *));
    peers->list[i] = peer;
    peers->n++;
    *out = peer;
    return ST_OK;
}

enum status peers_add(struct peers *peers, const uint8_t *id, size_t id_len, const char *name,
                      int64_t now_ms, struct peer **out, struct error *err)
{
    enum status st = ST_OK;

    *out = peers_find(peers, id, id_len);
    if (*out == NULL)
        st = insert(peers, id, id_len, out, err);
    if (st != ST_OK)
        return st;
    if (strcmp((*out)->name, name) != 0) {
        (*out)->grant.kind = 0;
        (*out)->n_ended = 0;
        memset((*out)->leases, 0, sizeof(*out)->leases);
        (void)snprintf((*out)->name, sizeof(*out)->name, "%s", name);
    }
    (*out)->heard_ms = now_ms;
    (*out)->noted.is_gone = false;
    return ST_OK;
}

void peers_forget(struct peers *peers, int64_t since_ms)
{
    size_t n = 0;

    for (size_t i = 0; i < peers->n; i++) {
        if (peers->list[i]->heard_ms < since_ms)
            free(peers->list[i]);
        else
            peers->list[n++] = peers->list[i];
    }
    peers->n = n;
}

bool peer_has_ended(const struct peer *peer, int64_t job, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < MIN(peer->n_ended, (size_t)PEER_MAX_ENDED); i++)
        if (peer->ended[i].job == job && peer->ended[i].shard == shard &&
            peer->ended[i].epoch == epoch)
            return true;
    return false;
}

void peer_end(struct peer *peer, int64_t job, int64_t shard, int64_t epoch)
{
    size_t i = peer->n_ended++ % PEER_MAX_ENDED;

    peer->ended[i].job = job;
    peer->ended[i].shard = shard;
    peer->ended[i].epoch = epoch;
    peer_lease_drop(peer, job, shard, epoch);
    if (peer->grant.kind != 0 && peer->grant.u.lease_grant.job == job &&
        peer->grant.u.lease_grant.shard == shard && peer->grant.u.lease_grant.epoch == epoch)
        peer->grant.kind = 0;
}

static bool is_same(const struct peer_lease *lease, int64_t job, int64_t shard, int64_t epoch)
{
    return lease->epoch == epoch && lease->shard == shard && lease->job == job;
}

int64_t peer_lease_note(struct peer *peer, const struct peer_lease *told)
{
    struct peer_lease *lease = &peer->leases[0];
    int64_t took_ms = 0;

    /* Its own place, a free one, or that of the lease it was silent about for longest. */
    for (size_t i = 0; i < PEER_MAX_LEASES; i++) {
        if (is_same(&peer->leases[i], told->job, told->shard, told->epoch)) {
            lease = &peer->leases[i];
            break;
        }
        if (lease->epoch != 0 &&
            (peer->leases[i].epoch == 0 || peer->leases[i].told_ms < lease->told_ms))
            lease = &peer->leases[i];
    }
    if (!is_same(lease, told->job, told->shard, told->epoch)) {
        *lease = *told;
        lease->moved_ms = told->told_ms;
    } else if (lease->n_samples != told->n_samples) {
        took_ms = told->told_ms - lease->moved_ms;
        lease->n_samples = told->n_samples;
        lease->moved_ms = told->told_ms;
    }
    lease->left = told->left;
    lease->told_ms = told->told_ms;
    return took_ms;
}

void peer_lease_drop(struct peer *peer, int64_t job, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < PEER_MAX_LEASES; i++)
        if (is_same(&peer->leases[i], job, shard, epoch))
            peer->leases[i] = (struct peer_lease){0};
}

void peers_leases_have_moved(struct peers *peers, int64_t now_ms)
{
    for (size_t i = 0; i < peers->n; i++)
        for (size_t k = 0; k < PEER_MAX_LEASES; k++)
            peers->list[i]->leases[k].moved_ms = now_ms;
}

void peer_leases_are_read(struct peer *peer)
{
    for (size_t i = 0; i < PEER_MAX_LEASES; i++)
        peer->leases[i].left = 0;
}

static bool is_alive(const struct peer_lease *lease, int64_t job, int64_t since_ms)
{
    return lease->epoch != 0 && lease->job == job && lease->told_ms >= since_ms;
}

struct peer_lease *peers_longest_lease(const struct peers *peers, int64_t job, int64_t since_ms,
                                       const struct peer **holder)
{
    struct peer_lease *longest = NULL;

    *holder = NULL;
    for (size_t i = 0; i < peers->n; i++)
        for (size_t k = 0; k < PEER_MAX_LEASES; k++) {
            struct peer_lease *lease = &peers->list[i]->leases[k];

            if (!is_alive(lease, job, since_ms) || lease->left < WIRE_SPLIT_MIN ||
                (longest != NULL && lease->left <= longest->left))
                continue;
            longest = lease;
            *holder = peers->list[i];
        }
    return longest;
}

struct peer_lease *peers_slowest_lease(const struct peers *peers, int64_t job, int64_t since_ms,
                                       const struct peer *except)
{
    struct peer_lease *slowest = NULL;

    for (size_t i = 0; i < peers->n; i++)
        for (size_t k = 0; k < PEER_MAX_LEASES && peers->list[i] != except; k++) {
            struct peer_lease *lease = &peers->list[i]->leases[k];

            if (is_alive(lease, job, since_ms) &&
                (slowest == NULL || lease->moved_ms < slowest->moved_ms))
                slowest = lease;
        }
    return slowest;
}
