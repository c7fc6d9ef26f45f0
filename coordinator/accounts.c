#include "coordinator/accounts.h"

#include <inttypes.h>
#include <stdio.h>

/* What is wrong with a done shard; false: nothing. */
static bool disagrees(const struct catalog_account *a, char why[200])
{
    if (a->read < 0)
        (void)snprintf(why, 200, "nobody knows how many samples its input has");
    else if (a->read != a->done + a->quarantined + a->filtered + a->retried ||
             a->last_index != a->read - 1)
        (void)snprintf(why, 200,
                       "%" PRId64 " samples were read; %" PRId64 " are done, %" PRId64
                       " quarantined, %" PRId64 " filtered, %" PRId64
                       " tried again, the last is sample %" PRId64,
                       a->read, a->done, a->quarantined, a->filtered, a->retried, a->last_index);
    else if (a->output_done < 0)
        (void)snprintf(why, 200, "it has no output");
    else if (a->output_done != a->done || a->output_quarantined != a->quarantined ||
             a->output_filtered != a->filtered)
        (void)snprintf(why, 200,
                       "%" PRId64 " samples are done, %" PRId64 " quarantined and %" PRId64
                       " filtered, its output's row says %" PRId64 ", %" PRId64 " and %" PRId64,
                       a->done, a->quarantined, a->filtered, a->output_done, a->output_quarantined,
                       a->output_filtered);
    else
        return false;
    return true;
}

static enum status add(void *ctx, const struct catalog_account *a, struct error *err)
{
    struct accounts *accounts = ctx;

    (void)err;
    accounts->n_shards = MAX(accounts->n_shards, a->shard + 1);
    if (a->state != CATALOG_SHARD_DONE)
        accounts->is_complete = false;
    else if (accounts->agree && disagrees(a, accounts->why)) {
        accounts->agree = false;
        accounts->shard = a->shard;
    }
    if (!a->is_retry && a->read > 0)
        accounts->read += a->read;
    accounts->done += a->done;
    accounts->quarantined += a->quarantined;
    accounts->filtered += a->filtered;
    accounts->retried += a->retried;
    return ST_OK;
}

enum status accounts_read(struct catalog *catalog, int64_t job, struct accounts *accounts,
                          struct error *err)
{
    enum status st;

    *accounts = (struct accounts){.is_complete = true, .agree = true, .shard = -1};
    st = catalog_accounts(catalog, job, add, accounts, err);
    if (st == ST_OK && accounts->agree && accounts->is_complete &&
        accounts->read != accounts->done + accounts->quarantined + accounts->filtered) {
        accounts->agree = false;
        (void)snprintf(accounts->why, sizeof accounts->why,
                       "%" PRId64 " samples were read, %" PRId64 " are done, %" PRId64
                       " quarantined and %" PRId64 " filtered",
                       accounts->read, accounts->done, accounts->quarantined, accounts->filtered);
    }
    return st;
}
