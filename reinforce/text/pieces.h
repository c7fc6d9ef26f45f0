/* A text cut into pieces on its way from normalizer to model. */
#ifndef REINFORCE_TEXT_PIECES_H
#define REINFORCE_TEXT_PIECES_H

#include "reinforce/base/bytes.h"

struct piece {
    size_t start, len; /* in the text of its list */
    int32_t id;        /* of an added token; -1: still text */
    bool at_start;     /* begins where the user's text begins (Metaspace asks) */
};

/** A list and the text it points into. Zeroed is released safely. */
struct pieces {
    struct byte_buf text;
    struct byte_buf items; /* struct piece */
};

enum { PIECES_MAX_TEXT_BYTES = 1 << 26 };

static inline void pieces_init(struct pieces *pieces)
{
    byte_buf_init(&pieces->text, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&pieces->items, (size_t)PIECES_MAX_TEXT_BYTES * sizeof(struct piece));
}

static inline void pieces_release(struct pieces *pieces)
{
    byte_buf_release(&pieces->text);
    byte_buf_release(&pieces->items);
}

static inline void pieces_reset(struct pieces *pieces)
{
    byte_buf_reset(&pieces->text);
    byte_buf_reset(&pieces->items);
}

static inline size_t pieces_count(const struct pieces *pieces)
{
    return pieces->items.len / sizeof(struct piece);
}

static inline const struct piece *pieces_at(const struct pieces *pieces, size_t i)
{
    return (const struct piece *)(const void *)pieces->items.data + i;
}

/** What piece `i` says; until the text grows. */
static inline struct bytes_view pieces_text(const struct pieces *pieces, size_t i)
{
    const struct piece *piece = pieces_at(pieces, i);

    return bytes_view_of(pieces->text.data + piece->start, piece->len);
}

/** Appends a piece unless it is empty text. */
static inline NODISCARD enum status pieces_push(struct pieces *pieces, struct piece piece,
                                                struct error *err)
{
    if (piece.len == 0 && piece.id < 0)
        return ST_OK;
    return byte_buf_append(&pieces->items, &piece, sizeof piece, err);
}

#endif
