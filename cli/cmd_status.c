#include "cli/catalog_args.h"
#include "cli/job_args.h"
#include "reinforce/base/clock.h"
#include "storage/catalog/catalog_outbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { RATE_FRESH_MS = 60000, MAX_ERRORS_SHOWN = 5, WATCH_MS = 2000, ROWS_BYTES = 64 << 20 };

/* One job with what belongs to it. */
struct view {
    struct catalog_args *args;
    const struct catalog_job_row *row;
    struct catalog_progress progress;
    struct catalog_outbox outbox;
    json_t *list; /* with --json: what is gathered now */
    int n_shown;
};

/* < 0: not known. A rate that nobody has measured lately says nothing. */
static double rate_of(const struct catalog_job_row *row)
{
    bool fresh =
        (row->job.state == CATALOG_JOB_RUNNING || row->job.state == CATALOG_JOB_PLANNING) &&
        row->rated_ms > 0 && clock_wall_ms() - row->rated_ms < RATE_FRESH_MS;

    return fresh ? row->samples_per_second : -1;
}

/* Shards hold about as many samples each: those of the done ones say how many the rest have. */
static double eta_of(const struct view *view)
{
    const struct catalog_progress *p = &view->progress;
    double rate = rate_of(view->row), in_done = (double)p->samples_in_done_shards, total;

    if (rate <= 0 || p->shards_done == 0 || !view->row->job.is_planned)
        return -1;
    total = in_done * (double)p->shards_total / (double)p->shards_done;
    return MAX(total - (double)(p->samples_done + p->samples_quarantined + p->samples_filtered),
               0.0) /
           rate;
}

static json_t *number_or_null(double value)
{
    return value >= 0 ? json_real(value) : json_null();
}

static json_t *job_json(const struct view *view)
{
    const struct catalog_progress *p = &view->progress;
    json_t *job = json_pack(
        "{s:s, s:s, s:i, s:I, s:s, s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:I}, s:I}",
        "job", view->row->job.name, "state", catalog_job_state_name(view->row->job.state),
        "priority", (int)view->row->priority, "max_leases", (json_int_t)view->row->max_leases,
        "note", view->row->note, "shards", "total", (json_int_t)p->shards_total, "done",
        (json_int_t)p->shards_done, "leased", (json_int_t)p->shards_leased, "failed",
        (json_int_t)p->shards_failed, "pieces", (json_int_t)p->pieces, "stragglers",
        (json_int_t)p->rivals, "samples", "done", (json_int_t)p->samples_done, "quarantined",
        (json_int_t)p->samples_quarantined, "filtered", (json_int_t)p->samples_filtered, "bytes",
        (json_int_t)p->bytes_written);

    (void)json_object_set_new(job, "samples_per_second", number_or_null(rate_of(view->row)));
    (void)json_object_set_new(job, "eta_seconds", number_or_null(eta_of(view)));
    (void)json_object_set_new(job, "events_waiting", json_integer(view->outbox.n_waiting));
    return job;
}

static void print_line(const struct view *view)
{
    const struct catalog_progress *p = &view->progress;
    char eta[32] = "";
    double seconds = eta_of(view);

    if (seconds >= 0)
        job_args_format_seconds(seconds, eta);
    (void)printf("%-24s %-10s %8d %12" PRId64 "/%-8" PRId64 " %12" PRId64 " %10" PRId64
                 " %10" PRId64 "  %s\n",
                 view->row->job.name, catalog_job_state_name(view->row->job.state),
                 (int)view->row->priority, p->shards_done, p->shards_total, p->samples_done,
                 p->samples_quarantined, p->samples_filtered, eta);
}

static enum status read_view(struct view *view, struct error *err)
{
    int64_t job = view->row->job.job;
    enum status st = catalog_read_progress(view->args->catalog, job, &view->progress, err);

    return st == ST_OK ? catalog_outbox_count(view->args->catalog, job, &view->outbox, err) : st;
}

static enum status show_job(const struct view *all, const struct catalog_job_row *row,
                            struct error *err)
{
    struct view view = *all;
    enum status st;

    view.row = row;
    st = read_view(&view, err);
    if (st != ST_OK)
        return st;
    if (view.list != NULL)
        return json_array_append_new(view.list, job_json(&view)) == 0
                   ? ST_OK
                   : error_set(err, ST_NO_MEMORY, "could not make JSON");
    print_line(&view);
    return ST_OK;
}

static enum status show_all(struct catalog_args *args, struct error *err)
{
    struct view view = {.args = args, .list = args->json ? json_array() : NULL};
    struct catalog_job_row *rows;
    struct arena arena;
    size_t n;
    enum status st;

    arena_init(&arena, ROWS_BYTES);
    st = catalog_read_jobs(args->catalog, clock_wall_ms(), &arena, &rows, &n, err);
    if (st == ST_OK && !args->json)
        (void)printf("%-24s %-10s %8s %12s/%-8s %12s %10s %10s  %s\n", "job", "state", "priority",
                     "shards", "all", "samples", "bad", "filtered", "ETA");
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = show_job(&view, &rows[i], err);
    arena_release(&arena);
    if (st == ST_OK && args->json)
        return catalog_args_print_json(view.list, err);
    json_decref(view.list);
    return st;
}

static enum status show_reason(void *ctx, const char *reason, const char *stage, int64_t n,
                               struct error *err)
{
    struct view *view = ctx;

    (void)err;
    if (view->list != NULL)
        (void)json_array_append_new(view->list,
                                    json_pack("{s:s, s:s, s:I}", "reason", reason, "stage", stage,
                                              "samples", (json_int_t)n));
    else
        (void)printf("%s    %-20s %" PRId64 " (%s)\n",
                     view->n_shown++ == 0 ? "  quarantined by reason\n" : "", reason, n, stage);
    return ST_OK;
}

static enum status show_rule(void *ctx, const char *rule, const char *stage, int64_t n,
                             struct error *err)
{
    struct view *view = ctx;

    (void)stage; /* there is one that filters */
    (void)err;
    if (view->list != NULL)
        (void)json_array_append_new(
            view->list, json_pack("{s:s, s:I}", "rule", rule, "samples", (json_int_t)n));
    else
        (void)printf("%s    %-20s %" PRId64 "\n",
                     view->n_shown++ == 0 ? "  filtered by rule\n" : "", rule, n);
    return ST_OK;
}

static enum status show_failed(void *ctx, const struct catalog_shard_row *row, struct error *err)
{
    struct view *view = ctx;
    const char *cause = row->last_error != NULL ? row->last_error : "";

    (void)err;
    if (view->list != NULL)
        (void)json_array_append_new(
            view->list, json_pack("{s:I, s:s}", "shard", (json_int_t)row->home, "cause", cause));
    else if (view->n_shown < MAX_ERRORS_SHOWN)
        (void)printf("%s    %08" PRId64 "  %s\n", view->n_shown == 0 ? "  failed shards\n" : "",
                     row->home, cause);
    view->n_shown++;
    return ST_OK;
}

static enum status show_lease(void *ctx, const struct catalog_shard_row *row, struct error *err)
{
    struct view *view = ctx;
    const char *owner = row->owner != NULL ? row->owner : "?";
    char where[48] = "", rival[160] = "";

    (void)err;
    if (row->home != row->shard)
        (void)snprintf(where, sizeof where, " from sample %" PRId64, row->begin_index);
    if (row->rival != NULL)
        (void)snprintf(rival, sizeof rival, ", and so does %.128s", row->rival);
    if (view->list != NULL)
        (void)json_array_append_new(
            view->list,
            json_pack("{s:s, s:s*, s:s, s:I, s:I, s:I, s:I}", "worker", owner, "rival", row->rival,
                      "job", view->row->job.name, "shard", (json_int_t)row->home, "begin",
                      (json_int_t)row->begin_index, "epoch", (json_int_t)row->epoch, "lease_ms",
                      (json_int_t)row->expires_in_ms));
    else
        (void)printf("%s    %-32s %s %08" PRId64 "%s, lease %s%.1f s%s\n",
                     view->n_shown == 0 ? "  at work\n" : "", owner, view->row->job.name, row->home,
                     where, row->expires_in_ms < 0 ? "ran out since " : "",
                     (double)(row->expires_in_ms < 0 ? -row->expires_in_ms : row->expires_in_ms) /
                         1000,
                     rival);
    view->n_shown++;
    return ST_OK;
}

static enum status show_reasons(struct view *view, struct error *err)
{
    return catalog_reasons(view->args->catalog, view->row->job.job, CATALOG_SAMPLE_QUARANTINED,
                           show_reason, view, err);
}

static enum status show_rules(struct view *view, struct error *err)
{
    return catalog_reasons(view->args->catalog, view->row->job.job, CATALOG_SAMPLE_FILTERED,
                           show_rule, view, err);
}

static enum status show_failures(struct view *view, struct error *err)
{
    return catalog_shards(view->args->catalog, view->row->job.job, CATALOG_SHARD_FAILED,
                          clock_wall_ms(), show_failed, view, err);
}

static enum status show_leases(struct view *view, struct error *err)
{
    return catalog_shards(view->args->catalog, view->row->job.job, CATALOG_SHARD_LEASED,
                          clock_wall_ms(), show_lease, view, err);
}

static void print_head(const struct view *view)
{
    const struct catalog_progress *p = &view->progress;
    double rate = rate_of(view->row), seconds = eta_of(view);
    char eta[32] = "not known yet", bytes[32], age[32];

    if (seconds >= 0)
        job_args_format_seconds(seconds, eta);
    job_args_format_bytes((double)p->bytes_written, bytes);
    (void)printf("%s: %s\n", view->row->job.name, catalog_job_state_name(view->row->job.state));
    if (view->row->note[0] != '\0')
        (void)printf("  why          %s\n", view->row->note);
    (void)printf("  priority     %d\n  samples      %" PRId64 " done, %" PRId64
                 " quarantined, %" PRId64 " filtered\n",
                 (int)view->row->priority, p->samples_done, p->samples_quarantined,
                 p->samples_filtered);
    if (view->row->max_leases > 0)
        (void)printf("  leases       %" PRId64 " at once\n", view->row->max_leases);
    (void)printf("  shards       %" PRId64 " of %" PRId64 "%s done, %" PRId64 " leased, %" PRId64
                 " failed, %s\n",
                 p->shards_done, p->shards_total,
                 view->row->job.is_planned ? "" : ", so far planned,", p->shards_leased,
                 p->shards_failed, bytes);
    if (p->pieces > 0)
        (void)printf("  split        %" PRId64 " pieces of shards for idle workers\n", p->pieces);
    if (p->rivals > 0)
        (void)printf("  stragglers   %" PRId64 ", which a second worker works on, too\n",
                     p->rivals);
    if (rate >= 0)
        (void)printf("  speed        %.1f samples/s, ETA %s\n", rate, eta);
    if (view->outbox.n_waiting > 0) {
        job_args_format_seconds(
            (double)MAX(clock_wall_ms() - view->outbox.oldest_ms, (int64_t)0) / 1000, age);
        (void)printf("  events       %" PRId64 " wait to be published, the oldest for %s\n",
                     view->outbox.n_waiting, age);
    }
}

static enum status show_one(struct catalog_args *args, struct error *err)
{
    static const struct {
        const char *key;
        enum status (*show)(struct view *view, struct error *err);
    } lists[] = {{"reasons", show_reasons},
                 {"filtered", show_rules},
                 {"failed", show_failures},
                 {"workers", show_leases}};
    struct catalog_job_row row;
    struct view view = {.args = args, .row = &row};
    json_t *job = NULL;
    enum status st = catalog_args_find(args, &row, err);

    if (st == ST_OK)
        st = read_view(&view, err);
    if (st != ST_OK)
        return st;
    if (args->json)
        job = job_json(&view);
    else
        print_head(&view);
    for (size_t i = 0; i < ARRAY_LEN(lists) && st == ST_OK; i++) {
        view.n_shown = 0;
        view.list = args->json ? json_array() : NULL;
        st = lists[i].show(&view, err);
        if (args->json)
            (void)json_object_set_new(job, lists[i].key, view.list);
    }
    if (st == ST_OK && args->json)
        return catalog_args_print_json(job, err);
    json_decref(job);
    return st;
}

static enum status show(struct catalog_args *args, struct error *err)
{
    return args->name != NULL ? show_one(args, err) : show_all(args, err);
}

/* Whether the job that was named has come to its end. */
static bool is_ended(struct catalog_args *args, struct error *err)
{
    struct catalog_job_row row;

    return args->name != NULL && catalog_args_find(args, &row, err) == ST_OK &&
           (row.job.state == CATALOG_JOB_DONE || row.job.state == CATALOG_JOB_CANCELLED);
}

/* Again and again, on a terminal over what was there. */
static enum status watch(struct catalog_args *args, struct error *err)
{
    const atomic_bool *stop = job_args_catch_signals();
    bool is_terminal = isatty(STDOUT_FILENO) == 1, ended = false;
    enum status st = ST_OK;

    while (st == ST_OK && !ended && !atomic_load(stop)) {
        ended = is_ended(args, err); /* asked before: what is shown last is the end */
        if (is_terminal)
            (void)fputs("\033[H\033[J", stdout);
        st = show(args, err);
        (void)fflush(stdout);
        if (st == ST_OK && !ended)
            clock_sleep_ms(WATCH_MS, stop);
    }
    return st;
}

static int run(int argc, char **argv)
{
    struct catalog_args args;
    struct error err = {0};
    bool again = false;
    const struct catalog_args_option own = {.name = "watch", .flag = &again};
    int code = catalog_args_open(&cmd_status, argc, argv, false, &own, &args);
    enum status st;

    if (code != EXIT_DONE)
        return code;
    st = again ? watch(&args, &err) : show(&args, &err);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_status, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_status = {
    .name = "status",
    .synopsis = "reinforce status [--catalog URL] [--json] [--watch] [JOB]",
    .summary = "says how far the jobs of a catalog are",
    .help = "Without JOB a line for each job of the catalog, the next to be worked on first.\n"
            "With JOB, a job file or with --catalog the name of a job: its progress, speed as\n"
            "the coordinator last measured it, why it is paused, quarantined samples by\n"
            "reason and filtered ones by rule, failed shards, events that wait to be published,\n"
            "and who is at work.\n"
            "\n"
            "Options:\n" CATALOG_ARGS_HELP
            "  --watch         again every 2 s, until the job is done or cancelled\n"
            "\n"
            "Examples:\n"
            "  reinforce status --catalog postgres://reinforce@db/reinforce\n"
            "  reinforce status --json job.yaml\n"
            "  reinforce status --watch job.yaml\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  there is no such job, or the catalog could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
