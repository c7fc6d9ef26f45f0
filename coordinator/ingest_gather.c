#include "coordinator/ingest_gather.h"

#include "coordinator/ingest_window.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MAX_BATCH_ARENA = 1 << 30, MAX_SEEN_BYTES = 256 << 20, KEY_DIGITS = 16 };

/* What tells keys of contents from keys of uids with the same text. */
#define CONTENT_SALT 0x9e3779b97f4a7c15u

enum item_kind { ITEM_RECORD, ITEM_DUPLICATE, ITEM_REFUSED, ITEM_PASSED };

/* One consumed message, or offsets without any, waiting. */
struct item {
    struct item *next;
    enum item_kind kind;
    int64_t offset, arrived_ms;
    uint64_t keys[2];
    size_t n_keys;
    size_t len;
    uint8_t line[];
};

struct partition {
    char *topic;
    int32_t partition;
    int64_t committed; /* in the catalog, or will be with the batch at hand */
    int64_t next;      /* offset of what is to come */
    struct item *first, *last;
    size_t bytes;
    struct ingest_window window;
    bool paused; /* as was said last */
};

struct ingest_gather {
    struct ingest_limits limits;
    struct partition *partitions;
    size_t n_partitions, capacity;
    size_t last;         /* where the last record went: the next goes there, too, as a rule */
    size_t turn;         /* the partition whose turn it is in the next batch */
    int64_t n_queued;    /* records; duplicates and refusals are not counted */
    size_t line_bytes;   /* of these */
    size_t queued_bytes; /* of all that waits, in memory */
    bool has_batch;
    struct ingest_batch batch;
    struct byte_buf lines;
    struct arena arena; /* of the batch */
};

enum status ingest_gather_create(const struct ingest_limits *limits, struct ingest_gather **out,
                                 struct error *err)
{
    struct ingest_gather *g = calloc(1, sizeof *g);

    *out = g;
    if (g == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a gatherer");
    g->limits = *limits;
    arena_init(&g->arena, MAX_BATCH_ARENA);
    /* a line that is longer than a batch may be is a batch */
    byte_buf_init(&g->lines, limits->max_bytes + limits->max_queued_bytes);
    return ST_OK;
}

static struct partition *find(struct ingest_gather *g, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < g->n_partitions; i++) {
        size_t at = (g->last + i) % g->n_partitions;
        struct partition *p = &g->partitions[at];

        if (p->partition == partition && strcmp(p->topic, topic) == 0) {
            g->last = at;
            return p;
        }
    }
    return NULL;
}

static struct item *pop(struct ingest_gather *g, struct partition *p)
{
    struct item *item = p->first;

    p->first = item->next;
    if (p->first == NULL)
        p->last = NULL;
    p->bytes -= sizeof *item + item->len;
    g->queued_bytes -= sizeof *item + item->len;
    g->line_bytes -= item->len;
    g->n_queued -= item->kind == ITEM_RECORD;
    return item;
}

static void release(struct ingest_gather *g, struct partition *p)
{
    while (p->first != NULL)
        free(pop(g, p));
    ingest_window_release(&p->window);
    free(p->topic);
}

void ingest_gather_end(struct ingest_gather *g, const char *topic, int32_t partition)
{
    struct partition *p = find(g, topic, partition);

    if (p == NULL)
        return;
    release(g, p);
    *p = g->partitions[--g->n_partitions];
    g->last = g->turn = 0;
}

static void drop_batch(struct ingest_gather *g)
{
    g->has_batch = false;
    g->batch = (struct ingest_batch){0};
    byte_buf_reset(&g->lines);
    arena_reset(&g->arena);
}

void ingest_gather_reset(struct ingest_gather *g)
{
    while (g->n_partitions > 0)
        release(g, &g->partitions[--g->n_partitions]);
    g->last = g->turn = 0;
    drop_batch(g);
}

void ingest_gather_destroy(struct ingest_gather **g)
{
    if (*g == NULL)
        return;
    ingest_gather_reset(*g);
    byte_buf_release(&(*g)->lines);
    arena_release(&(*g)->arena);
    free((*g)->partitions);
    free(*g);
    *g = NULL;
}

static enum status room_for_one(struct ingest_gather *g, struct error *err)
{
    size_t capacity = MAX(2 * g->capacity, (size_t)16);
    struct partition *grown;

    if (g->n_partitions < g->capacity)
        return ST_OK;
    grown = realloc(g->partitions, capacity * sizeof *grown);
    if (grown == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate for %zu partitions", capacity);
    g->partitions = grown;
    g->capacity = capacity;
    return ST_OK;
}

/* Keys of earlier batches, 16 hexadecimal digits each. */
static enum status remember(struct partition *p, struct bytes_view seen, struct error *err)
{
    enum status st = ST_OK;

    for (size_t at = 0; at + KEY_DIGITS <= seen.len && st == ST_OK; at += KEY_DIGITS) {
        uint64_t key = 0;

        for (size_t i = 0; i < KEY_DIGITS; i++) {
            uint8_t digit = seen.data[at + i];

            key = key << 4 | (uint64_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
        }
        st = ingest_window_add(&p->window, key, err);
    }
    return st;
}

enum status ingest_gather_begin(struct ingest_gather *g, const struct stream_partition *at,
                                int64_t committed, const struct bytes_view *seen, size_t n_seen,
                                struct error *err)
{
    size_t keys_of_record = (size_t)g->limits.by_uid + (size_t)g->limits.by_content;
    struct partition *p;
    enum status st;

    ingest_gather_end(g, at->topic, at->partition);
    st = room_for_one(g, err);
    if (st != ST_OK)
        return st;
    p = &g->partitions[g->n_partitions];
    *p = (struct partition){.topic = strdup(at->topic),
                            .partition = at->partition,
                            .committed = committed,
                            .next = MAX(at->offset, (int64_t)0)};
    if (p->topic == NULL)
        return error_set(err, ST_NO_MEMORY, "could not keep a topic's name");
    g->n_partitions++;
    ingest_window_init(&p->window, g->limits.window * keys_of_record);
    for (size_t i = 0; i < n_seen && st == ST_OK; i++)
        st = remember(p, seen[i], err);
    if (st != ST_OK)
        ingest_gather_end(g, at->topic, at->partition);
    return st;
}

/* Keys of a record that is the first of its kind; ITEM_DUPLICATE when it is not. */
static enum status judge(struct ingest_gather *g, struct partition *p,
                         const struct stream_record *record, struct item *item, struct error *err)
{
    enum status st = ST_OK;

    if (record == NULL || g->limits.window == 0)
        return ST_OK;
    if (g->limits.by_uid)
        item->keys[item->n_keys++] = record->uid_hash;
    if (g->limits.by_content)
        item->keys[item->n_keys++] = record->content_hash ^ CONTENT_SALT;
    for (size_t i = 0; i < item->n_keys; i++)
        if (ingest_window_has(&p->window, item->keys[i]))
            item->kind = ITEM_DUPLICATE;
    for (size_t i = 0; i < item->n_keys && item->kind == ITEM_RECORD && st == ST_OK; i++)
        st = ingest_window_add(&p->window, item->keys[i], err);
    if (item->kind == ITEM_DUPLICATE)
        item->len = item->n_keys = 0;
    return st;
}

static void append(struct ingest_gather *g, struct partition *p, struct item *item)
{
    if (p->last != NULL)
        p->last->next = item;
    else
        p->first = item;
    p->last = item;
    p->next = item->offset + 1;
    p->bytes += sizeof *item + item->len;
    g->queued_bytes += sizeof *item + item->len;
    g->line_bytes += item->len;
    g->n_queued += item->kind == ITEM_RECORD;
}

enum status ingest_gather_add(struct ingest_gather *g, const struct stream_origin *origin,
                              const struct stream_record *record, struct bytes_view line,
                              int64_t now_ms, struct error *err)
{
    struct partition *p = find(g, origin->topic, origin->partition);
    size_t len = record != NULL ? line.len : 0;
    struct item *item;
    enum status st;

    if (p == NULL || origin->offset < p->next)
        return ST_OK;
    item = malloc(sizeof *item + len);
    if (item == NULL)
        return error_set(err, ST_NO_MEMORY, "could not keep a record of %zu bytes", len);
    *item = (struct item){.kind = record != NULL ? ITEM_RECORD : ITEM_REFUSED,
                          .offset = origin->offset,
                          .arrived_ms = now_ms,
                          .len = len};
    st = judge(g, p, record, item, err);
    if (st != ST_OK) {
        free(item);
        return st;
    }
    if (item->len > 0)
        memcpy(item->line, line.data, item->len);
    append(g, p, item);
    return ST_OK;
}

enum status ingest_gather_pass(struct ingest_gather *g, const char *topic, int32_t partition,
                               int64_t end, int64_t now_ms, struct error *err)
{
    struct partition *p = find(g, topic, partition);
    struct item *item;

    if (p == NULL || end <= p->next)
        return ST_OK;
    item = malloc(sizeof *item);
    if (item == NULL)
        return error_set(err, ST_NO_MEMORY, "could not keep an offset");
    *item = (struct item){.kind = ITEM_PASSED, .offset = end - 1, .arrived_ms = now_ms};
    append(g, p, item);
    return ST_OK;
}

/* When the oldest of what waits came; INT64_MAX: nothing waits. */
static int64_t oldest(const struct ingest_gather *g)
{
    int64_t first_ms = INT64_MAX;

    for (size_t i = 0; i < g->n_partitions; i++)
        if (g->partitions[i].first != NULL)
            first_ms = MIN(first_ms, g->partitions[i].first->arrived_ms);
    return first_ms;
}

int64_t ingest_gather_wait_ms(const struct ingest_gather *g, int64_t now_ms)
{
    int64_t first_ms = oldest(g);

    return first_ms == INT64_MAX ? -1 : MAX(first_ms + g->limits.max_age_ms - now_ms, (int64_t)0);
}

bool ingest_gather_is_due(const struct ingest_gather *g, int64_t now_ms)
{
    return g->has_batch || g->n_queued >= g->limits.max_records ||
           g->line_bytes >= g->limits.max_bytes || ingest_gather_wait_ms(g, now_ms) == 0;
}

/* One partition's share of the batch while it is made. */
struct share {
    struct catalog_ingest_range range;
    struct byte_buf seen;
};

static enum status take_keys(struct share *share, const struct item *item, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < item->n_keys && st == ST_OK; i++)
        st = byte_buf_printf(&share->seen, err, "%016" PRIx64, item->keys[i]);
    return st;
}

static bool fits(const struct ingest_gather *g, const struct item *item)
{
    return item->kind != ITEM_RECORD ||
           (g->batch.n_records < g->limits.max_records &&
            (g->lines.len == 0 || g->lines.len + item->len <= g->limits.max_bytes));
}

/* The partition's first item goes into the batch. */
static enum status take(struct ingest_gather *g, struct partition *p, struct share *share,
                        struct error *err)
{
    struct item *item = p->first;
    enum status st = byte_buf_append(&g->lines, item->line, item->len, err);

    if (st == ST_OK)
        st = take_keys(share, item, err);
    if (st != ST_OK)
        return st;
    g->batch.first_ms = MIN(g->batch.first_ms, item->arrived_ms);
    g->batch.n_records += item->kind == ITEM_RECORD;
    share->range.n_records += item->kind == ITEM_RECORD;
    share->range.n_duplicates += item->kind == ITEM_DUPLICATE;
    share->range.n_refused += item->kind == ITEM_REFUSED;
    share->range.end = item->offset + 1;
    free(pop(g, p));
    return ST_OK;
}

static enum status fill(struct ingest_gather *g, struct share *shares, struct error *err)
{
    size_t n = g->n_partitions, empty = 0;
    enum status st = ST_OK;

    g->turn %= n;
    while (empty < n && st == ST_OK) {
        struct partition *p = &g->partitions[g->turn];

        if (p->first == NULL) {
            empty++;
        } else if (!fits(g, p->first)) {
            break; /* its turn comes first in the next batch */
        } else {
            empty = 0;
            st = take(g, p, &shares[g->turn], err);
        }
        g->turn = (g->turn + 1) % n;
    }
    return st;
}

/* The shares of those that gave something, in memory that lives as long as the batch. */
static enum status keep_ranges(struct ingest_gather *g, const struct share *shares,
                               struct error *err)
{
    struct catalog_ingest_range *ranges;
    enum status st = arena_calloc(&g->arena, g->n_partitions, sizeof *ranges, &ranges, err);

    for (size_t i = 0; i < g->n_partitions && st == ST_OK; i++) {
        struct partition *p = &g->partitions[i];
        struct catalog_ingest_range *range = &ranges[g->batch.n_ranges];
        char *topic = NULL, *seen = NULL;

        if (shares[i].range.end == 0)
            continue;
        st = arena_strndup(&g->arena, p->topic, strlen(p->topic), &topic, err);
        if (st == ST_OK)
            st = arena_strndup(&g->arena, shares[i].seen.len > 0 ? (char *)shares[i].seen.data : "",
                               shares[i].seen.len, &seen, err);
        if (st != ST_OK)
            return st;
        *range = shares[i].range;
        range->topic = topic;
        range->partition = p->partition;
        range->begin = p->committed;
        range->seen = bytes_view_of(seen, shares[i].seen.len);
        p->committed = range->end;
        g->batch.n_ranges++;
    }
    g->batch.ranges = ranges;
    return st;
}

enum status ingest_gather_cut(struct ingest_gather *g, const struct ingest_batch **batch,
                              struct error *err)
{
    struct share *shares;
    enum status st;

    *batch = &g->batch;
    if (g->has_batch)
        return ST_OK;
    if (oldest(g) == INT64_MAX)
        return error_set(err, ST_NOT_FOUND, "no record waits");
    shares = calloc(g->n_partitions, sizeof *shares);
    if (shares == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a batch");
    for (size_t i = 0; i < g->n_partitions; i++)
        byte_buf_init(&shares[i].seen, MAX_SEEN_BYTES);
    g->batch.first_ms = INT64_MAX;
    st = fill(g, shares, err);
    if (st == ST_OK)
        st = keep_ranges(g, shares, err);
    for (size_t i = 0; i < g->n_partitions; i++)
        byte_buf_release(&shares[i].seen);
    free(shares);
    if (st != ST_OK)
        return st;
    g->batch.lines = byte_buf_view(&g->lines);
    g->has_batch = true;
    return ST_OK;
}

void ingest_gather_committed(struct ingest_gather *g)
{
    drop_batch(g);
}

size_t ingest_gather_flow(struct ingest_gather *g, bool paused, struct stream_partition *out,
                          size_t max)
{
    size_t n = 0, share = g->limits.max_queued_bytes / MAX(g->n_partitions, (size_t)1);
    bool is_full = g->queued_bytes > g->limits.max_queued_bytes;
    bool has_room = g->queued_bytes <= g->limits.max_queued_bytes / 2;

    if (paused ? !is_full : !has_room) /* as almost always: no look at each */
        return 0;
    for (size_t i = 0; i < g->n_partitions && n < max; i++) {
        struct partition *p = &g->partitions[i];

        if (paused ? p->paused || p->bytes < share : !p->paused)
            continue;
        p->paused = paused;
        out[n++] = (struct stream_partition){
            .topic = p->topic, .partition = p->partition, .offset = p->next};
    }
    return n;
}
