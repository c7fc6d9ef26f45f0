/* Duplicates by embedding; part of duplicates.h. */
#include "reinforce/base/parallel.h"
#include "reinforce/curate/duplicates.h"
#include "reinforce/nn/dots.h"

#include <string.h>

/*
 * Samples are taken in blocks of BLOCK, each compared with all kept ones before it (the bulk of the
 * work, GROUP of them at a time), then in pieces of PIECE with those kept in the block so far, and
 * with each other. Larger blocks read the rows less often, larger pieces hold more cosines.
 */
enum { BLOCK = 16384, PIECE = 1024, GROUP = 4096 };

struct search {
    const float *rows; /* [n, D] */
    size_t D, n_threads;
    float least; /* cosine of samples that are alike */
    const struct duplicates *found;
    uint32_t *kept; /* [n] in order */
    size_t n_kept;
    float *strips;  /* of a block: [BLOCK / DOTS_COLUMNS][D][DOTS_COLUMNS] */
    float *panels;  /* of a group: [GROUP / rows][D][rows] */
    float *cosines; /* of a piece with itself: [PIECE, PIECE] */
    /* What the threads are at: */
    size_t block;          /* sample that strip 0 begins with */
    size_t end;            /* of the samples looked at */
    size_t strip;          /* first strip */
    const uint32_t *group; /* kept samples in panels */
    size_t n_group;
};

static size_t panel_floats(const struct search *s)
{
    return s->D * dots_rows();
}

static size_t strip_floats(const struct search *s)
{
    return s->D * DOTS_COLUMNS;
}

static enum status pack_strip(void *ctx, size_t k, struct error *err)
{
    const struct search *s = ctx;
    float *strip = s->strips + k * strip_floats(s);
    size_t begin = s->block + k * DOTS_COLUMNS;

    (void)err;
    memset(strip, 0, strip_floats(s) * sizeof *strip);
    for (size_t r = 0; r < DOTS_COLUMNS && begin + r < s->end; r++)
        dots_pack(strip, DOTS_COLUMNS, r, s->rows + (begin + r) * s->D, 1, s->D);
    return ST_OK;
}

static enum status pack_panel(void *ctx, size_t k, struct error *err)
{
    const struct search *s = ctx;
    float *panel = s->panels + k * panel_floats(s);
    size_t begin = k * dots_rows();

    (void)err;
    memset(panel, 0, panel_floats(s) * sizeof *panel);
    for (size_t r = 0; r < dots_rows() && begin + r < s->n_group; r++)
        dots_pack(panel, dots_rows(), r, s->rows + (size_t)s->group[begin + r] * s->D, 1, s->D);
    return ST_OK;
}

/* One strip of samples with a group of kept ones: the first that a sample is like. */
static enum status compare_strip(void *ctx, size_t k, struct error *err)
{
    const struct search *s = ctx;
    float y[DOTS_MAX_ROWS * DOTS_COLUMNS];
    size_t begin = s->block + (s->strip + k) * DOTS_COLUMNS;

    (void)err;
    for (size_t at = 0; at < s->n_group; at += dots_rows()) {
        dots_product(y, DOTS_COLUMNS, s->panels + at / dots_rows() * panel_floats(s),
                     s->strips + (s->strip + k) * strip_floats(s), s->D);
        for (size_t r = 0; r < dots_rows() && at + r < s->n_group; r++)
            for (size_t c = 0; c < DOTS_COLUMNS && begin + c < s->end; c++)
                if (y[r * DOTS_COLUMNS + c] >= s->least &&
                    s->found->of[begin + c] == DUPLICATE_OF_NONE) {
                    s->found->of[begin + c] = s->group[at + r];
                    s->found->distance[begin + c] = 1 - y[r * DOTS_COLUMNS + c];
                }
    }
    return ST_OK;
}

static size_t n_strips(size_t n)
{
    return (n + DOTS_COLUMNS - 1) / DOTS_COLUMNS;
}

/* Samples of strips [strip, strip + n) with the kept ones from `from` on. */
static enum status compare(struct search *s, size_t strip, size_t n, size_t from, struct error *err)
{
    enum status st = ST_OK;

    s->strip = strip;
    for (size_t at = from; at < s->n_kept && st == ST_OK; at += GROUP) {
        s->group = s->kept + at;
        s->n_group = MIN(s->n_kept - at, (size_t)GROUP);
        st = parallel_run((s->n_group + dots_rows() - 1) / dots_rows(), s->n_threads, pack_panel, s,
                          err);
        if (st == ST_OK)
            st = parallel_run(n, s->n_threads, compare_strip, s, err);
    }
    return st;
}

/* A panel of a piece's own samples with all its strips, into `cosines`. */
static enum status multiply_panel(void *ctx, size_t k, struct error *err)
{
    const struct search *s = ctx;

    (void)err;
    for (size_t strip = 0; strip < n_strips(s->n_group); strip++)
        dots_product(s->cosines + k * dots_rows() * PIECE + strip * DOTS_COLUMNS, PIECE,
                     s->panels + k * panel_floats(s),
                     s->strips + (s->strip + strip) * strip_floats(s), s->D);
    return ST_OK;
}

/* Goes through a piece in order: who is still there is kept, and drops who follows and is alike. */
static void settle(struct search *s, size_t begin, size_t n)
{
    const struct duplicates *found = s->found;

    for (size_t i = 0; i < n; i++) {
        if (found->of[begin + i] != DUPLICATE_OF_NONE)
            continue;
        s->kept[s->n_kept++] = (uint32_t)(begin + i);
        for (size_t j = i + 1; j < n; j++)
            if (s->cosines[i * PIECE + j] >= s->least &&
                found->of[begin + j] == DUPLICATE_OF_NONE) {
                found->of[begin + j] = (uint32_t)(begin + i);
                found->distance[begin + j] = 1 - s->cosines[i * PIECE + j];
            }
    }
}

static enum status take_piece(struct search *s, size_t begin, size_t n, size_t from,
                              struct error *err)
{
    size_t strip = (begin - s->block) / DOTS_COLUMNS;
    uint32_t own[PIECE];
    enum status st = compare(s, strip, n_strips(n), from, err);

    for (size_t i = 0; i < n; i++)
        own[i] = (uint32_t)(begin + i);
    s->strip = strip;
    s->group = own;
    s->n_group = n;
    if (st == ST_OK)
        st = parallel_run((n + dots_rows() - 1) / dots_rows(), s->n_threads, pack_panel, s, err);
    if (st == ST_OK)
        st =
            parallel_run((n + dots_rows() - 1) / dots_rows(), s->n_threads, multiply_panel, s, err);
    s->group = NULL;
    if (st == ST_OK)
        settle(s, begin, n);
    return st;
}

static enum status take_block(struct search *s, size_t begin, size_t end, struct error *err)
{
    size_t before = s->n_kept;
    enum status st;

    s->block = begin;
    s->end = end;
    st = parallel_run(n_strips(end - begin), s->n_threads, pack_strip, s, err);
    if (st == ST_OK)
        st = compare(s, 0, n_strips(end - begin), 0, err);
    for (size_t at = begin; at < end && st == ST_OK; at += PIECE)
        st = take_piece(s, at, MIN(end - at, (size_t)PIECE), before, err);
    return st;
}

enum status duplicates_by_embedding(const float *rows, size_t n, size_t D, double radius,
                                    size_t n_threads, const struct duplicates *found,
                                    struct arena *arena, struct error *err)
{
    struct arena mark = *arena;
    struct search s = {
        .rows = rows, .D = D, .n_threads = n_threads, .least = (float)(1 - radius), .found = found};
    size_t block = MIN(n, (size_t)BLOCK), group = MIN(n, (size_t)GROUP) + DOTS_MAX_ROWS;
    enum status st = arena_alloc(arena, n * sizeof *s.kept, &s.kept, err);

    if (st == ST_OK)
        st = arena_calloc(arena, n_strips(block) * strip_floats(&s), sizeof(float), &s.strips, err);
    if (st == ST_OK)
        st = arena_calloc(arena, group * D, sizeof(float), &s.panels, err);
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)(PIECE + DOTS_MAX_ROWS) * PIECE, sizeof(float), &s.cosines,
                          err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        found->of[i] = DUPLICATE_OF_NONE;
        found->distance[i] = 0;
    }
    for (size_t at = 0; at < n && st == ST_OK; at += BLOCK)
        st = take_block(&s, at, MIN(n, at + BLOCK), err);
    arena_rewind(arena, &mark);
    return st;
}
