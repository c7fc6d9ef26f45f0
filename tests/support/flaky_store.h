/* An object store in front of another, one of whose changes fails. */
#ifndef REINFORCE_TESTS_FLAKY_STORE_H
#define REINFORCE_TESTS_FLAKY_STORE_H

#include "storage/object/object_store.h"

#include <stdatomic.h>

/** Puts, joins and removes are counted from 1. The one numbered fail_at gives ST_UNAVAILABLE;
 * `after`: it was done all the same, only the answer was lost. */
struct flaky_store {
    struct object_store base;
    struct object_store *behind; /* borrowed */
    int fail_at;
    bool after;
    atomic_int n_changes;
};

/** Storage is the caller's; nothing to release. */
void flaky_store_init(struct flaky_store *store, struct object_store *behind, int fail_at,
                      bool after);

#endif
