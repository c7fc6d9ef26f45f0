#include "cli/catalog_args.h"
#include "cli/job_args.h"
#include "coordinator/ingest_stream.h"
#include "reinforce/base/clock.h"
#include "reinforce/job/job_stream.h"

#include <inttypes.h>
#include <stdio.h>

enum { MAX_PARTITIONS = 65536, CONNECT_MS = 5000 };

/* What the catalog says of each partition, and where the brokers are by now. */
struct view {
    struct arena *arena;
    struct catalog_ingest_partition *rows;
    struct stream_partition *partitions;
    int64_t *ends; /* -1: not known */
    size_t n;
};

static enum status keep(void *ctx, const struct catalog_ingest_partition *row, struct error *err)
{
    struct view *view = ctx;
    char *topic;
    enum status st = arena_strndup(view->arena, row->topic, strlen(row->topic), &topic, err);

    if (st != ST_OK || view->n == MAX_PARTITIONS)
        return st;
    view->rows[view->n] = *row;
    view->rows[view->n].topic = topic;
    view->partitions[view->n] =
        (struct stream_partition){.topic = topic, .partition = row->partition};
    view->ends[view->n++] = -1;
    return ST_OK;
}

static enum status read_catalog(struct catalog_args *args, int64_t job, struct view *view,
                                struct error *err)
{
    enum status st =
        arena_calloc(view->arena, MAX_PARTITIONS, sizeof *view->rows, &view->rows, err);

    if (st == ST_OK)
        st = arena_calloc(view->arena, MAX_PARTITIONS, sizeof *view->partitions, &view->partitions,
                          err);
    if (st == ST_OK)
        st = arena_calloc(view->arena, MAX_PARTITIONS, sizeof *view->ends, &view->ends, err);
    return st == ST_OK ? catalog_ingest_list(args->catalog, job, keep, view, err) : st;
}

static enum status read_brokers(const struct job *job, struct view *view, struct error *err)
{
    struct stream_producer_options options = {.client = "reinforce-status",
                                              .connect_ms = CONNECT_MS};
    struct ingest_stream stream;
    enum status st = ingest_stream_of(job, view->arena, &stream, err);

    if (st != ST_OK)
        return st;
    options.properties = stream.properties;
    options.n_properties = stream.n_properties;
    return stream_read_ends(stream.url, &options, view->partitions, view->n, view->ends, err);
}

static int64_t lag_of(const struct view *view, size_t i)
{
    return view->ends[i] < 0 ? -1 : MAX(view->ends[i] - view->rows[i].next_offset, (int64_t)0);
}

static enum status print_json(const struct view *view, const char *job, struct error *err)
{
    json_t *list = json_array();

    for (size_t i = 0; i < view->n; i++) {
        const struct catalog_ingest_partition *row = &view->rows[i];
        int64_t lag = lag_of(view, i);
        json_t *one = json_pack(
            "{s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "topic", row->topic, "partition",
            (int)row->partition, "next_offset", (json_int_t)row->next_offset, "records",
            (json_int_t)row->n_records, "duplicates", (json_int_t)row->n_duplicates, "refused",
            (json_int_t)row->n_refused, "updated_ms", (json_int_t)row->updated_ms);

        (void)json_object_set_new(one, "lag", lag >= 0 ? json_integer(lag) : json_null());
        (void)json_array_append_new(list, one);
    }
    return catalog_args_print_json(json_pack("{s:s, s:o}", "job", job, "partitions", list), err);
}

static void print_table(const struct view *view)
{
    int64_t lag = 0, records = 0, duplicates = 0, refused = 0, now_ms = clock_wall_ms();
    bool known = true;

    (void)printf("%-24s %9s %12s %10s %12s %10s %8s  %s\n", "topic", "partition", "next offset",
                 "lag", "records", "duplicates", "refused", "last commit");
    for (size_t i = 0; i < view->n; i++) {
        const struct catalog_ingest_partition *row = &view->rows[i];
        char text[32] = "?", ago[32];

        if (lag_of(view, i) >= 0)
            (void)snprintf(text, sizeof text, "%" PRId64, lag_of(view, i));
        known = known && lag_of(view, i) >= 0;
        job_args_format_seconds((double)MAX(now_ms - row->updated_ms, (int64_t)0) / 1000, ago);
        (void)printf("%-24s %9" PRId32 " %12" PRId64 " %10s %12" PRId64 " %10" PRId64 " %8" PRId64
                     "  %s ago\n",
                     row->topic, row->partition, row->next_offset, text, row->n_records,
                     row->n_duplicates, row->n_refused, ago);
        lag += MAX(lag_of(view, i), (int64_t)0);
        records += row->n_records;
        duplicates += row->n_duplicates;
        refused += row->n_refused;
    }
    (void)printf("%-24s %9zu %12s %s%" PRId64 " %12" PRId64 " %10" PRId64 " %8" PRId64 "\n", "all",
                 view->n, "", known ? "" : "at least ", lag, records, duplicates, refused);
}

static enum status show(struct catalog_args *args, struct error *err)
{
    struct view view = {.arena = &args->arena};
    struct catalog_job_row row;
    struct error why = {0};
    struct job *job = NULL;
    enum status st = catalog_args_find(args, &row, err);

    if (st == ST_OK)
        st = catalog_args_load(args, &job, err);
    if (st == ST_OK && !job_is_stream(job))
        st = error_set(err, ST_INVALID, "job \"%s\" reads no stream; its input is \"%.100s\"",
                       job->name, job->input.url);
    if (st == ST_OK)
        st = read_catalog(args, row.job.job, &view, err);
    if (st == ST_OK && view.n > 0 && read_brokers(job, &view, &why) != ST_OK)
        (void)fprintf(stderr, "reinforce ingest: lag is not known: %s: %s\n", why.context,
                      why.message);
    if (st == ST_OK && args->json)
        st = print_json(&view, job->name, err);
    else if (st == ST_OK)
        print_table(&view);
    job_destroy(&job);
    return st;
}

static int run(int argc, char **argv)
{
    struct catalog_args args;
    struct error err = {0};
    enum status st;
    int code;

    if (argc < 2 || strcmp(argv[1], "status") != 0)
        return command_usage(&cmd_ingest, "say status");
    code = catalog_args_open(&cmd_ingest, argc - 1, argv + 1, true, NULL, &args);
    if (code != EXIT_DONE)
        return code;
    st = show(&args, &err);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_ingest, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_ingest = {
    .name = "ingest",
    .synopsis = "reinforce ingest status [--catalog URL] [--json] JOB",
    .summary = "says how far a job is in the topics it reads",
    .help = "For every partition of the topics of JOB, a job file or with --catalog the name of a\n"
            "job: the offset where reading goes on, as the catalog has it; the lag, which is how\n"
            "many records the brokers have behind it; records taken, duplicates dropped and\n"
            "records refused; and when a shard was last committed from it. Reading itself is\n"
            "done by `reinforce run`.\n"
            "\n"
            "Options:\n" CATALOG_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce ingest status configs/kafka.yaml\n"
            "\n"
            "Exit codes:\n"
            "  0  done, also when the brokers could not be asked\n"
            "  1  there is no such job, or the catalog could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
