/* What both kinds of catalog look up of a leased shard before they commit under its epoch. Private
 * to storage/catalog. */
#ifndef REINFORCE_STORAGE_STANDING_H
#define REINFORCE_STORAGE_STANDING_H

#include <stdbool.h>
#include <stdint.h>

/* A leased shard: how far it is, and how its samples get into the tables. */
struct catalog_standing {
    int64_t n_parts;
    bool is_again;    /* rows are there already, and keep their places */
    bool is_redo;     /* of these: captions are what they are now, not what they were */
    bool is_retry;    /* rows take the places of others */
    bool is_split;    /* it is a piece, or its rest is one */
    bool is_rivalled; /* two have it, until one of them commits */
    int64_t home; /* the shard whose samples they are: its own, or that of which it is a piece */
    uint64_t next_index, end_index; /* end 0: that of the input */
};

#endif
