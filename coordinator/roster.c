#include "coordinator/roster.h"

#include <stdio.h>

enum { NOTE_MS = 10000, GONE_MS = 120000, MAX_AT_ONCE = 50 };

static bool is_due(const struct peer *peer, int64_t now_ms)
{
    return !peer->noted.is_gone &&
           (peer->noted.noted_ms == 0 || now_ms - peer->noted.noted_ms >= NOTE_MS);
}

static enum status note(struct peer *peer, struct catalog *catalog, int64_t now_ms, int64_t wall_ms,
                        struct error *err)
{
    int64_t elapsed_ms = peer->noted.noted_ms > 0 ? now_ms - peer->noted.noted_ms : 0;
    bool is_gone = now_ms - peer->heard_ms > GONE_MS;
    char host[sizeof peer->name];
    const struct catalog_worker worker = {
        .name = peer->name,
        .host = host,
        .address = peer->address,
        .version = peer->version,
        .state = is_gone             ? CATALOG_WORKER_GONE
                 : peer->is_draining ? CATALOG_WORKER_DRAINING
                                     : CATALOG_WORKER_WORKING,
        .samples_per_second = elapsed_ms > 0 ? (double)(peer->n_samples - peer->noted.n_samples) *
                                                   1000 / (double)elapsed_ms
                                             : 0,
    };
    enum status st;

    (void)snprintf(host, sizeof host, "%.*s", (int)strcspn(peer->name, ":"), peer->name);
    st = catalog_worker_seen(catalog, &worker, wall_ms, err);
    if (st != ST_OK)
        return st;
    peer->noted.noted_ms = now_ms;
    peer->noted.n_samples = peer->n_samples;
    peer->noted.is_gone = is_gone;
    return ST_OK;
}

enum status roster_write(struct peers *peers, struct catalog *catalog, int64_t now_ms,
                         int64_t wall_ms, struct error *err)
{
    int n_written = 0;
    enum status st = ST_OK;

    for (size_t i = 0; i < peers->n && n_written < MAX_AT_ONCE && st == ST_OK; i++) {
        struct peer *peer = peers->list[peers->to_note++ % peers->n];

        if (!is_due(peer, now_ms))
            continue;
        st = note(peer, catalog, now_ms, wall_ms, err);
        n_written++;
    }
    return st;
}
