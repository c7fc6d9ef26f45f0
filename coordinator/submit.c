#include "coordinator/submit.h"

#include "coordinator/courier.h"
#include "coordinator/extension.h"
#include "reinforce/base/clock.h"
#include "reinforce/job/job_stream.h"
#include "worker/storage.h"

enum { ARENA_BYTES = 64 << 20 };

static enum status extend(const struct job *job, const char *stored, struct catalog *catalog,
                          struct arena *arena, struct submission *out, struct error *err)
{
    struct object_store_options stores;
    struct object_store *output;
    enum status st;

    storage_output_options(job, false, &stores);
    st = object_store_open_with(job->output.url, &stores, &output, err);
    if (st == ST_OK)
        st =
            extension_begin(job, &out->row, stored, catalog, output, arena, &out->is_extended, err);
    object_store_close(&output);
    return st;
}

enum status submit_job(const struct job *job, const char *catalog_url, const int32_t *priority,
                       const int64_t *max_leases, struct submission *out, struct error *err)
{
    struct arena arena;
    struct catalog *catalog;
    const char *stored = NULL;
    struct error why;
    enum status st;

    memset(out, 0, sizeof *out);
    st = catalog_open(catalog_url, &catalog, err);
    if (st != ST_OK)
        return st;
    arena_init(&arena, ARENA_BYTES);
    st = catalog_job_find(catalog, job->name, &arena, &out->row, &stored, &why);
    out->is_new = st == ST_NOT_FOUND;
    if (st != ST_OK && !out->is_new)
        *err = why;
    else
        st = catalog_job_begin(catalog, job->name, job->digest, job->effective_json,
                               clock_wall_ms(), &arena, &out->row, &stored, err);
    if (st == ST_CONFLICT && stored != NULL)
        st = extend(job, stored, catalog, &arena, out, err);
    if (st == ST_OK && job_is_stream(job) && out->row.state == CATALOG_JOB_DONE) {
        st = catalog_job_set_state(catalog, out->row.job, CATALOG_JOB_RUNNING, err);
        out->row.state = CATALOG_JOB_RUNNING; /* there may be more by now */
    }
    if (st == ST_OK && (out->is_new || out->is_extended)) /* else it stays as it was begun */
        st = courier_enable(catalog, out->row.job, job, err);
    if (st == ST_OK && priority != NULL)
        st = catalog_job_set_priority(catalog, out->row.job, *priority, err);
    if (st == ST_OK && max_leases != NULL)
        st = catalog_job_set_quota(catalog, out->row.job, *max_leases, err);
    catalog_close(&catalog);
    arena_release(&arena);
    return st;
}
