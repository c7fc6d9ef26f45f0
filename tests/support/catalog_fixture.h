/* What the suites of catalogs begin with: a planned job of two shards, under a name of its own. */
#ifndef REINFORCE_TESTS_CATALOG_FIXTURE_H
#define REINFORCE_TESTS_CATALOG_FIXTURE_H

#include "storage/catalog/catalog.h"
#include "tests/support/catalog_contract.h"
#include "tests/support/test.h"

/* Leases are long, so that real time does not end them on a slow machine: time passes by
 * fixture_pass_time(). MARGIN_MS is how long a test may take. */
enum { LEASE_MS = 1000000, MARGIN_MS = 200000, MAX_ATTEMPTS = 2 };

struct fixture {
    const struct catalog_target *target;
    struct catalog *catalog;
    struct arena arena;
    struct catalog_job job;
    const char *config;
    int64_t now;
};

extern const struct catalog_terms fixture_terms;
extern const struct catalog_shard_plan fixture_shards[2];

/** For a kind that asks the clock of its caller, and for one that has its own. */
void fixture_pass_time(struct fixture *f, int64_t ms);

/** A lease for worker "w". */
enum status fixture_take(struct fixture *f, struct catalog_lease *lease, int64_t *wait,
                         struct error *err);

/** Commits one part of two samples, the second quarantined. */
enum status fixture_commit(struct fixture *f, struct catalog_lease *lease, const char *uid,
                           int64_t index, struct error *err);

struct fixture_test {
    const char *name;
    void (*run)(struct fixture *f);
};
#define FIXTURE_TEST(name)                                                                         \
    {                                                                                              \
#name, name                                                                                \
    }

/** Each with a job of its own. */
void fixture_run(const struct catalog_target *target, const struct fixture_test *tests, size_t n);

#endif
