#include "coordinator/roster.h"

#include <stdio.h>

enum { NOTE_MS = 10000, GONE_MS = 120000, MAX_AT_ONCE = 4 * CATALOG_BATCH_MAX };

static bool is_due(const struct peer *peer, int64_t now_ms)
{
    return !peer->noted.is_gone &&
           (peer->noted.noted_ms == 0 || now_ms - peer->noted.noted_ms >= NOTE_MS);
}

/* Peers whose rows go into the catalog together. */
struct notes {
    struct peer *peers[CATALOG_BATCH_MAX];
    struct catalog_worker workers[CATALOG_BATCH_MAX];
    char hosts[CATALOG_BATCH_MAX][sizeof((struct peer *)0)->name];
    size_t n;
};

static bool is_gone(const struct peer *peer, int64_t now_ms)
{
    return now_ms - peer->heard_ms > GONE_MS;
}

static void note(struct notes *notes, struct peer *peer, int64_t now_ms)
{
    int64_t elapsed_ms = peer->noted.noted_ms > 0 ? now_ms - peer->noted.noted_ms : 0;
    char *host = notes->hosts[notes->n];

    (void)snprintf(host, sizeof notes->hosts[0], "%.*s", (int)strcspn(peer->name, ":"), peer->name);
    notes->workers[notes->n] = (struct catalog_worker){
        .name = peer->name,
        .host = host,
        .address = peer->address,
        .version = peer->version,
        .state = is_gone(peer, now_ms) ? CATALOG_WORKER_GONE
                 : peer->is_draining   ? CATALOG_WORKER_DRAINING
                                       : CATALOG_WORKER_WORKING,
        .samples_per_second = elapsed_ms > 0 ? (double)(peer->n_samples - peer->noted.n_samples) *
                                                   1000 / (double)elapsed_ms
                                             : 0,
    };
    notes->peers[notes->n++] = peer;
}

static enum status write(struct notes *notes, struct catalog *catalog, int64_t now_ms,
                         int64_t wall_ms, struct error *err)
{
    enum status st = ST_OK;

    if (notes->n > 0)
        st = catalog_workers_seen(catalog, notes->workers, notes->n, wall_ms, err);
    for (size_t i = 0; i < notes->n && st == ST_OK; i++) {
        struct peer *peer = notes->peers[i];

        peer->noted.noted_ms = now_ms;
        peer->noted.n_samples = peer->n_samples;
        peer->noted.is_gone = is_gone(peer, now_ms);
    }
    notes->n = 0;
    return st;
}

enum status roster_write(struct peers *peers, struct catalog *catalog, int64_t now_ms,
                         int64_t wall_ms, struct error *err)
{
    struct notes notes = {.n = 0};
    size_t n_written = 0;
    enum status st = ST_OK;

    for (size_t i = 0; i < peers->n && n_written < MAX_AT_ONCE && st == ST_OK; i++) {
        struct peer *peer = peers->list[peers->to_note++ % peers->n];

        if (!is_due(peer, now_ms))
            continue;
        note(&notes, peer, now_ms);
        n_written++;
        if (notes.n == CATALOG_BATCH_MAX)
            st = write(&notes, catalog, now_ms, wall_ms, err);
    }
    return st == ST_OK ? write(&notes, catalog, now_ms, wall_ms, err) : st;
}
