/* Pickle as data: a fixed list of opcodes becomes a tree of plain values. Nothing is imported or
 * called. */
#ifndef REINFORCE_BASE_PICKLE_H
#define REINFORCE_BASE_PICKLE_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_BYTES,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,   /* items: key, value, key, value, ... */
    PICKLE_GLOBAL, /* a name from the caller's list: a symbol, never code */
    PICKLE_CALL,   /* global applied to items[0] (a tuple); `state` if one was set; more items: a
                      dict's */
    PICKLE_REF,    /* persistent id: items[0] */
};

struct pickle_value {
    enum pickle_kind kind;
    int64_t integer; /* INT, BOOL; GLOBAL and CALL: index into the list of globals */
    double real;
    struct bytes_view bytes; /* BYTES, TEXT: into the pickle */
    struct pickle_value **items;
    size_t n_items, capacity;
    struct pickle_value *state;
};

/** A symbol that may occur. */
struct pickle_global {
    const char *module, *name;
};

/**
 * Interprets protocols 2 to 5. *out in `arena`; views into `bytes`. ST_CORRUPT names the opcode or
 * global that is not on the list, and its offset; limits: 2^23 opcodes, 2^20 memo entries, depth
 * bounded by the stack of 4,096.
 */
NODISCARD enum status pickle_read(struct bytes_view bytes, const struct pickle_global *globals,
                                  size_t n_globals, struct arena *arena, struct pickle_value **out,
                                  struct error *err);

#endif
