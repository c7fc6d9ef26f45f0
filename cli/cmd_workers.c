#include "cli/catalog_args.h"
#include "cli/job_args.h"
#include "reinforce/base/clock.h"

#include <inttypes.h>
#include <stdio.h>

/* Workers by name, each as the JSON object that is printed; those that only hold leases, too. */
struct crew {
    struct catalog_args *args;
    json_t *workers;
    const char *job; /* whose leases are gathered */
};

static json_t *worker_named(struct crew *crew, const char *name)
{
    json_t *worker = json_object_get(crew->workers, name);

    if (worker == NULL) {
        worker = json_pack("{s:s, s:[]}", "worker", name, "leases");
        (void)json_object_set_new(crew->workers, name, worker);
    }
    return worker;
}

static enum status add_worker(void *ctx, const struct catalog_worker *w, struct error *err)
{
    json_t *worker = worker_named(ctx, w->name);
    json_t *facts = json_pack("{s:s, s:s, s:s, s:s, s:f, s:I, s:I}", "state",
                              catalog_worker_state_name(w->state), "host", w->host, "address",
                              w->address, "version", w->version, "samples_per_second",
                              w->samples_per_second, "first_seen_ms", (json_int_t)w->first_seen_ms,
                              "seen_ago_ms", (json_int_t)w->seen_ago_ms);

    return json_object_update_new(worker, facts) == 0
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate the workers");
}

static enum status add_lease(void *ctx, const struct catalog_shard_row *row, struct error *err)
{
    struct crew *crew = ctx;
    json_t *worker = worker_named(crew, row->owner != NULL ? row->owner : "?");
    json_t *lease =
        json_pack("{s:s, s:I, s:I, s:I, s:I}", "job", crew->job, "shard", (json_int_t)row->shard,
                  "epoch", (json_int_t)row->epoch, "attempts", (json_int_t)row->attempts,
                  "lease_ms", (json_int_t)row->expires_in_ms);

    return json_array_append_new(json_object_get(worker, "leases"), lease) == 0
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate the leases");
}

static enum status gather(struct crew *crew, struct error *err)
{
    struct catalog *catalog = crew->args->catalog;
    struct catalog_job_row *jobs;
    size_t n;
    enum status st =
        catalog_read_jobs(catalog, clock_wall_ms(), &crew->args->arena, &jobs, &n, err);

    if (st == ST_OK && crew->args->name == NULL)
        st = catalog_workers(catalog, clock_wall_ms(), add_worker, crew, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        crew->job = jobs[i].job.name;
        if (crew->args->name == NULL || strcmp(crew->args->name, crew->job) == 0)
            st = catalog_shards(catalog, jobs[i].job.job, CATALOG_SHARD_LEASED, clock_wall_ms(),
                                add_lease, crew, err);
    }
    return st;
}

static const char *text_of(const json_t *worker, const char *key)
{
    const char *text = json_string_value(json_object_get(worker, key));

    return text != NULL && text[0] != '\0' ? text : "-";
}

static void print_worker(const json_t *worker)
{
    const json_t *leases = json_object_get(worker, "leases"), *lease;
    const json_t *seen = json_object_get(worker, "seen_ago_ms");
    char ago[32] = "-";
    size_t i;

    if (seen != NULL)
        job_args_format_seconds((double)json_integer_value(seen) / 1000, ago);
    (void)printf("%-36s %-9s %6zu %10.1f %12s  %-10s %s\n", text_of(worker, "worker"),
                 text_of(worker, "state"), json_array_size(leases),
                 json_real_value(json_object_get(worker, "samples_per_second")), ago,
                 text_of(worker, "version"), text_of(worker, "address"));
    json_array_foreach(leases, i, lease)
    {
        double left = (double)json_integer_value(json_object_get(lease, "lease_ms")) / 1000;

        (void)printf("  %s %08" PRId64 ", lease %s%.1f s\n", text_of(lease, "job"),
                     (int64_t)json_integer_value(json_object_get(lease, "shard")),
                     left < 0 ? "ran out since " : "", left < 0 ? -left : left);
    }
}

static enum status print(struct crew *crew, struct error *err)
{
    json_t *list = crew->args->json ? json_array() : NULL, *worker;
    const char *name;

    if (list == NULL && json_object_size(crew->workers) == 0)
        (void)printf("nobody is at work\n");
    else if (list == NULL)
        (void)printf("%-36s %-9s %6s %10s %12s  %-10s %s\n", "worker", "state", "leases",
                     "samples/s", "heard ago", "version", "address");
    json_object_foreach(crew->workers, name, worker)
    {
        if (list != NULL)
            (void)json_array_append(list, worker);
        else
            print_worker(worker);
    }
    return list != NULL ? catalog_args_print_json(list, err) : ST_OK;
}

static int run(int argc, char **argv)
{
    struct catalog_args args;
    struct crew crew = {.args = &args};
    struct error err = {0};
    int code = catalog_args_open(&cmd_workers, argc, argv, false, NULL, &args);
    enum status st;

    if (code != EXIT_DONE)
        return code;
    crew.workers = json_object();
    st = gather(&crew, &err);
    if (st == ST_OK)
        st = print(&crew, &err);
    json_decref(crew.workers);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_workers, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_workers = {
    .name = "workers",
    .synopsis = "reinforce workers [--catalog URL] [--json] [JOB]",
    .summary = "says who is at work, and who holds which shard",
    .help = "Without JOB, every worker that a coordinator of the catalog has heard of in the\n"
            "last day: working, draining or gone, its speed, and when it was heard last; below\n"
            "it the shards it holds, and how long each lease lasts unless it is renewed. A\n"
            "worker process has a line for itself and one for each of its workers.\n"
            "With JOB, a job file or with --catalog the name of a job: who holds its shards.\n"
            "\n"
            "Options:\n" CATALOG_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce workers --catalog postgres://reinforce@db/reinforce\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  the catalog could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
