/* Configuration files: one YAML document as a tree of nodes that know their line and column. */
#ifndef REINFORCE_BASE_YAML_H
#define REINFORCE_BASE_YAML_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

enum {
    YAML_TREE_MAX_BYTES = 1 << 20,
    YAML_TREE_MAX_DEPTH = 16,
    YAML_TREE_MAX_NODES = 4096,
};

enum yaml_tree_kind {
    YAML_TREE_NULL = 0, /* nothing, "~" or "null": the key counts as not given */
    YAML_TREE_SCALAR = 1,
    YAML_TREE_LIST = 2,
    YAML_TREE_MAP = 3,
};

/** Plain data; lives in the arena of the call that made it. */
struct yaml_tree {
    enum yaml_tree_kind kind;
    const char *source; /* file name as the user wrote it, or "--set PATH=VALUE" */
    int line, column;   /* from 1; 0 when `source` has no lines. A map's member: of its key */
    const char *key;    /* set for members of a map */
    const char *text;   /* scalars: NUL-terminated UTF-8 without inner NUL */
    bool quoted;        /* scalars: written in quotes or as a block, so always text */
    size_t n_children;
    struct yaml_tree *first, *last, *next; /* children in the order written; the next sibling */
};

/**
 * Parses one document. An empty one gives YAML_TREE_NULL. Anchors, aliases and tags are refused
 * (a job file needs none and they can expand without bound), and so are repeated keys, keys that
 * are not plain words, a second document, and anything past the limits above. ST_INVALID with
 * "source:line:column" as context. `source` is borrowed for as long as the tree.
 */
NODISCARD enum status yaml_tree_parse(struct bytes_view text, const char *source,
                                      struct arena *arena, struct yaml_tree **out,
                                      struct error *err);

/** Member of a map by key, or NULL. */
struct yaml_tree *yaml_tree_find(const struct yaml_tree *map, const char *key);

/** Puts `child` behind the other children of a list or map. */
void yaml_tree_append(struct yaml_tree *parent, struct yaml_tree *child);

/** Adds "source:line:column" as context; returns err->code. */
enum status yaml_tree_locate(const struct yaml_tree *node, struct error *err);

#endif
