#include "cli/command.h"
#include "cli/job_args.h"
#include "cli/store_args.h"
#include "coordinator/curation/view.h"

#include <getopt.h>
#include <inttypes.h>

struct report {
    json_t *problems; /* with --json */
};

static void print_problem(void *ctx, int64_t shard, const char *object, const char *problem)
{
    struct report *report = ctx;

    (void)shard;
    if (report->problems != NULL)
        (void)json_array_append_new(report->problems,
                                    json_pack("{s:s, s:s}", "object", object, "problem", problem));
    else
        (void)printf("  %s %s\n", object, problem);
}

static int print_json(const char *url, const struct output_verdict *verdict, json_t *problems,
                      struct error *err)
{
    json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:O}", "output", url, "objects",
                            (json_int_t)verdict->objects, "samples", (json_int_t)verdict->samples,
                            "bytes", (json_int_t)verdict->bytes, "problems", problems);
    struct byte_buf text;
    int code = verdict->problems > 0 ? EXIT_OTHER : EXIT_DONE;

    byte_buf_init(&text, 256u << 20);
    if (all == NULL)
        (void)error_set(err, ST_NO_MEMORY, "could not allocate the report");
    if (all == NULL || json_write(all, &text, err) != ST_OK)
        code = command_fail(&cmd_verify, err);
    else
        (void)printf("%.*s\n", (int)text.len, (const char *)text.data);
    byte_buf_release(&text);
    json_decref(all);
    return code;
}

/* A view, or ST_NOT_FOUND when it is none. */
static enum status verify_view(const char *url, const struct object_store_options *options,
                               struct report *report, struct output_verdict *verdict,
                               struct error *err)
{
    struct object_store *dataset = NULL;
    struct view view;
    enum status st = view_open(url, options, &view, err);

    if (st != ST_OK)
        return st;
    st = object_store_open_with(view.dataset, options, &dataset, err);
    if (st == ST_OK)
        st = view_verify(&view, dataset, print_problem, report, verdict, err);
    object_store_close(&dataset);
    view_close(&view);
    return st == ST_NOT_FOUND ? error_set(err, ST_UNAVAILABLE, "the dataset is not there") : st;
}

static int verify(const char *url, const struct object_store_options *store, bool json)
{
    struct report report = {.problems = json ? json_array() : NULL};
    struct output_verdict verdict;
    struct output out;
    struct error err = {0};
    char bytes[32];
    int code = EXIT_DONE;
    enum status st = verify_view(url, store, &report, &verdict, &err);
    bool is_view = st != ST_NOT_FOUND;

    if (!is_view) {
        err = (struct error){0};
        st = output_open(url, store, &out, &err);
        if (st == ST_OK) {
            st = output_verify(&out, print_problem, &report, &verdict, &err);
            output_close(&out);
        }
    }
    if (st != ST_OK) {
        code = command_fail(&cmd_verify, &err);
    } else if (json) {
        code = print_json(url, &verdict, report.problems, &err);
    } else {
        job_args_format_bytes((double)verdict.bytes, bytes);
        (void)printf("%s: %" PRId64 " shards, %" PRId64 " samples, %s: ", url, verdict.objects,
                     verdict.samples, bytes);
        if (verdict.problems == 0)
            (void)printf(is_view ? "view and dataset agree\n"
                                 : "objects, manifest and catalog agree\n");
        else if (is_view)
            (void)printf("%" PRId64 " problems\n", verdict.problems);
        else
            (void)printf("%" PRId64 " problems; `reinforce repair` makes shards again\n",
                         verdict.problems);
        code = verdict.problems > 0 ? EXIT_OTHER : EXIT_DONE;
    }
    json_decref(report.problems);
    return code;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, STORE_ARGS_OPTIONS, {NULL, 0, NULL, 0}};
    struct object_store_options store = {.endpoint = NULL};
    bool json = false;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_verify, argc, argv, "", options)) != -1) {
        if (c == 'j')
            json = true;
        else if (!store_args_take(c, optarg, &store))
            return EXIT_USAGE;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_verify, "give one output folder");
    return verify(argv[optind], &store, json);
}

/* clang-format off: as it is printed */
const struct command cmd_verify = {
    .name = "verify",
    .synopsis = "reinforce verify [--json] OUT",
    .summary = "hashes a written dataset again and compares it with its manifest and catalog",
    .help = "Reads every shard of the dataset at OUT, hashes it, counts its samples, and\n"
            "compares with what the catalog and manifest.jsonl say. Also reports shards that\n"
            "the catalog does not know, and whether every sample that was read has ended in\n"
            "exactly one state. What it finds, `reinforce repair` mends. At a view that\n"
            "`reinforce curate` has written, compares the dataset with what the view was\n"
            "made of.\n"
            "\n"
            "Options:\n"
            "  --json        prints one JSON object: output, objects, samples, bytes, "
            "problems\n" STORE_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce verify build/quickstart/dataset\n"
            "  reinforce verify s3://datasets/reinforced\n"
            "\n"
            "Exit codes:\n"
            "  0  everything agrees\n"
            "  1  it does not, or could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
