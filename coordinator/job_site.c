#include "coordinator/job_site.h"

#include "coordinator/accounts.h"
#include "coordinator/output.h"
#include "coordinator/planner.h"
#include "coordinator/side_objects.h"
#include "reinforce/base/log.h"
#include "reinforce/job/job_stream.h"
#include "storage/format/dataset.h"
#include "worker/storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define JOB_OBJECT   "_reinforce/job.json"
#define PARTS_PREFIX "_reinforce/parts/" /* and the shard's number */

enum { ARENA_BYTES = 1 << 30, PORTION_ARENA_BYTES = 64 << 20, JOB_OBJECT_MAX_BYTES = 16 << 20 };

enum status job_site_open(struct job_site *site, const struct job *job, bool sole_writer,
                          struct error *err)
{
    struct object_store_options stores;
    enum status st;

    memset(site, 0, sizeof *site);
    site->job = job;
    arena_init(&site->arena, ARENA_BYTES);
    st = storage_open_input(job, &site->arena, &site->input, err);
    storage_output_options(job, sole_writer, &stores);
    if (st == ST_OK)
        st = object_store_open_with(job->output.url, &stores, &site->output, err);
    if (st != ST_OK)
        job_site_close(site);
    return st;
}

void job_site_close(struct job_site *site)
{
    object_store_close(&site->output);
    input_close(&site->input);
    arena_release(&site->arena);
    memset(site, 0, sizeof *site);
}

/* What a look at the output carries along. */
struct visit {
    struct job_site *site;
    const char *catalog_url;
    bool is_empty; /* the catalog knows no shard of the job */
};

/* A shard in the output of a job that has not been planned: another catalog made it. */
static enum status refuse_shard(void *ctx, const struct object_info *info, struct error *err)
{
    const struct visit *visit = ctx;
    const struct job *job = visit->site->job;

    if (!output_is_shard(info->key, dataset_format_by_name(job->output.format)->extension))
        return ST_OK;
    return error_set(err, ST_CONFLICT,
                     "output \"%s\" holds a dataset that catalog \"%s\" does not know; restore the "
                     "catalog or choose another output.url",
                     job->output.url, visit->catalog_url);
}

/* An output that another job has begun is not ours to write into. */
static enum status check_output(struct visit *visit, struct error *err)
{
    struct job_site *site = visit->site;
    const struct job *job = site->job;
    struct bytes_view body;
    json_t *found = NULL;
    const char *name;
    enum status st =
        object_store_get(site->output, JOB_OBJECT, JOB_OBJECT_MAX_BYTES, &site->arena, &body, err);

    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK)
        st = json_parse(body, &found, err);
    if (st != ST_OK)
        return st;
    site->is_known = true;
    name = json_string_value(json_object_get(found, "name"));
    if (name == NULL || strcmp(name, job->name) != 0)
        st = error_set(
            err, ST_CONFLICT,
            "output \"%s\" holds the dataset of job \"%s\", not \"%s\"; choose another output.url",
            job->output.url, name != NULL ? name : "?", job->name);
    else if (visit->is_empty)
        st = object_store_list(site->output, "", refuse_shard, visit, err);
    json_decref(found);
    return st;
}

enum status job_site_check(struct job_site *site, struct catalog *catalog,
                           const struct catalog_job *row, const char *catalog_url,
                           struct error *err)
{
    struct visit visit = {.site = site, .catalog_url = catalog_url};
    struct catalog_progress progress;
    size_t n_swept;
    enum status st = ST_OK;

    if (!row->is_planned && row->state == CATALOG_JOB_PLANNING) {
        st = catalog_read_progress(catalog, row->job, &progress, err);
        visit.is_empty = st == ST_OK && progress.shards_total == 0;
    }
    if (st == ST_OK)
        st = check_output(&visit, err);
    if (st == ST_OK && object_store_is_remote(site->output))
        st = object_store_sweep(site->output, "", &n_swept, err);
    return st;
}

/* A job that is being planned. */
struct planning {
    struct job_site *site;
    struct catalog *catalog;
    const struct catalog_job *row;
    bool has_begun; /* the output says whose it is */
};

/* Before the first shard goes out. Another job may have begun here since job_site_check() looked.
 */
static enum status begin_output(struct planning *planning, struct error *err)
{
    struct job_site *site = planning->site;
    struct bytes_view config = bytes_of_string(site->job->effective_json);
    struct object_written written;
    enum status st;

    if (planning->has_begun)
        return ST_OK;
    st = site->is_known ? object_store_put(site->output, JOB_OBJECT, config, &written, err)
                        : object_store_put_new(site->output, JOB_OBJECT, config, &written, err);
    if (st == ST_CONFLICT)
        error_add_context(err, "another job begins in this output");
    planning->has_begun = st == ST_OK;
    return st;
}

static enum status commit_portion(void *ctx, const struct catalog_shard_plan *shards,
                                  size_t n_shards, struct error *err)
{
    struct planning *planning = ctx;
    const atomic_bool *stop = planning->site->stop;
    enum status st = begin_output(planning, err);

    if (st == ST_OK && stop != NULL && atomic_load(stop))
        return error_set(err, ST_CANCELLED, "planning was stopped");
    return st == ST_OK
               ? catalog_plan_commit(planning->catalog, planning->row, shards, n_shards, false, err)
               : st;
}

/* Shards of a stream come with its records. */
static enum status plan_shards(struct planning *planning, struct plan *plan, struct error *err)
{
    struct catalog_progress progress;
    enum status st;

    if (job_is_stream(plan->job))
        return ST_OK;
    st = catalog_read_progress(planning->catalog, planning->row->job, &progress, err);
    if (st != ST_OK)
        return st;
    plan->n_known = (size_t)progress.shards_total;
    return planner_run(plan, err);
}

enum status job_site_plan(struct job_site *site, struct catalog *catalog, struct catalog_job *row,
                          struct error *err)
{
    struct planning planning = {.site = site, .catalog = catalog, .row = row};
    struct arena portion;
    struct plan plan = {.job = site->job,
                        .input = site->input,
                        .output = site->output,
                        .arena = &portion,
                        .commit = commit_portion,
                        .commit_ctx = &planning};
    enum status st;

    arena_init(&portion, PORTION_ARENA_BYTES);
    st = plan_shards(&planning, &plan, err);
    if (st == ST_OK)
        st = begin_output(&planning, err);
    if (st == ST_OK)
        st = catalog_plan_commit(catalog, row, plan.shards, plan.n_open, true, err);
    arena_release(&portion);
    if (st == ST_OK) {
        row->state = CATALOG_JOB_RUNNING;
        row->is_planned = true;
    }
    return st;
}

/* Of the shards that are done. A stream's readers may be adding others, whose parts are wanted, and
 * so may be those of pieces, which do not say whose they are. A part that may not be removed costs
 * room and nothing else: the job is done all the same. */
struct parts_sweep {
    struct object_store *output;
    int64_t n_shards;
    bool is_stream;
};

static enum status sweep_part(void *ctx, const struct object_info *info, struct error *err)
{
    const struct parts_sweep *sweep = ctx;
    long long shard = strtoll(info->key + strlen(PARTS_PREFIX), NULL, 10);
    enum status st;

    if (shard >= sweep->n_shards || (shard < 0 && sweep->is_stream))
        return ST_OK;
    st = object_store_remove(sweep->output, info->key, err);
    if (st != ST_OK)
        log_at(LOG_WARN, "part_left", "key=%s cause=\"%s\"", info->key, err->message);
    return st == ST_INVALID ? ST_OK : st;
}

enum status job_site_finish(struct job_site *site, struct catalog *catalog,
                            const struct catalog_job *row, struct error *err)
{
    struct parts_sweep sweep = {.output = site->output, .is_stream = job_is_stream(site->job)};
    size_t n_swept = 0;
    struct accounts accounts;
    enum status st = accounts_read(catalog, row->job, &accounts, err);

    if (st != ST_OK)
        return st;
    if (!accounts.agree) {
        (void)error_set(err, ST_CORRUPT, "%s", accounts.why);
        error_add_context(err, accounts.shard >= 0 ? "accounts of shard %" PRId64 : "accounts",
                          accounts.shard);
        return err->code;
    }
    if (!accounts.is_complete)
        return error_set(err, ST_CONFLICT, "job \"%s\" has shards that are not done", row->name);
    st = side_objects_write(site->job, row, catalog, site->output, err);

    /* What killed runs have left: parts nobody committed, writes nobody finished. */
    sweep.n_shards = accounts.n_shards;
    if (st == ST_OK)
        st = object_store_list(site->output, PARTS_PREFIX, sweep_part, &sweep, err);
    if (st == ST_OK)
        st = object_store_sweep(site->output, "", &n_swept, err);
    if (st == ST_OK)
        st = catalog_job_move(catalog, row->job, CATALOG_JOB_RUNNING, CATALOG_JOB_DONE, "", err);
    return st;
}

enum status job_give_up(struct catalog *catalog, const struct catalog_job *row,
                        const struct error *why, struct error *err)
{
    char note[512];
    enum status st;

    (void)snprintf(note, sizeof note, "%s%s%s", why->context, why->context[0] != '\0' ? ": " : "",
                   why->message);
    log_at(LOG_ERROR, "job_paused", "job=\"%s\" cause=\"%s\"", row->name, note);
    st = catalog_job_move(catalog, row->job, row->state, CATALOG_JOB_PAUSED, note, err);
    return st == ST_CONFLICT ? ST_OK : st;
}
