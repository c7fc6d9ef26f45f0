#include "cli/catalog_args.h"
#include "cli/job_args.h"
#include "coordinator/absolute_job.h"
#include "coordinator/local_run.h"
#include "coordinator/submit.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { ARENA_BYTES = 1 << 20, MAX_URL = 1024 };

static int report(const struct submission *made, const char *url, bool json)
{
    const char *state = catalog_job_state_name(made->row.state);
    struct error err = {0};

    if (json)
        return catalog_args_print_json(json_pack("{s:s, s:I, s:s, s:b, s:b}", "job", made->row.name,
                                                 "number", (json_int_t)made->row.job, "state",
                                                 state, "new", made->is_new, "extended",
                                                 made->is_extended),
                                       &err) == ST_OK
                   ? EXIT_DONE
                   : command_fail(&cmd_submit, &err);
    (void)printf("%s: %s, %s\n", made->row.name,
                 made->is_new        ? "submitted"
                 : made->is_extended ? "extended"
                                     : "submitted before",
                 state);
    if (made->row.state == CATALOG_JOB_PAUSED || made->row.state == CATALOG_JOB_CANCELLED)
        (void)printf("next:\n  reinforce resume --catalog %s %s\n", url, made->row.name);
    return EXIT_DONE;
}

static int submit(const char *path, const struct job_override *overrides, size_t n,
                  const int32_t *priority, const int64_t *max_leases, bool json)
{
    struct submission made;
    struct arena arena;
    struct error err = {0};
    struct job *written, *job = NULL;
    char folder[PATH_MAX];
    const char *url;
    int code;
    enum status st = job_load(path, overrides, n, &written, &err);

    if (st != ST_OK) {
        (void)command_fail(&cmd_submit, &err);
        return EXIT_USAGE;
    }
    arena_init(&arena, ARENA_BYTES);
    if (getcwd(folder, sizeof folder) == NULL)
        st = error_set_errno(&err, ST_UNAVAILABLE, "could not tell the current folder");
    else
        st = absolute_job_create(written, folder, &job, &err);
    if (st == ST_OK)
        st = local_run_catalog_url(job, &arena, &url, &err);
    if (st == ST_OK)
        st = submit_job(job, url, priority, max_leases, &made, &err);
    code = st == ST_OK ? report(&made, url, json) : command_fail(&cmd_submit, &err);
    arena_release(&arena);
    job_destroy(&job);
    job_destroy(&written);
    return code;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"set", required_argument, NULL, 's'},      {"catalog", required_argument, NULL, 'c'},
        {"priority", required_argument, NULL, 'p'}, {"max-leases", required_argument, NULL, 'm'},
        {"json", no_argument, NULL, 'j'},           {NULL, 0, NULL, 0}};
    struct job_override overrides[JOB_ARGS_MAX_OVERRIDES + 1];
    char catalog[MAX_URL + sizeof "catalog.url="];
    const int32_t *has_priority = NULL;
    const int64_t *has_max_leases = NULL;
    int32_t priority = 0;
    int64_t number, max_leases = 0;
    struct error err = {0};
    bool json = false;
    size_t n = 0;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_submit, argc, argv, "", known)) != -1) {
        if (c == '?')
            return EXIT_USAGE;
        if (c == 'j')
            json = true;
        if (c == 'p') {
            if (command_number("priority", optarg, -1000000, 1000000, &number, &err) != ST_OK)
                return command_usage(&cmd_submit, "%s", err.message);
            priority = (int32_t)number;
            has_priority = &priority;
        }
        if (c == 'm') {
            if (command_number("max-leases", optarg, 0, 1000000000, &max_leases, &err) != ST_OK)
                return command_usage(&cmd_submit, "%s", err.message);
            has_max_leases = &max_leases;
        }
        if (c == 'c' && strlen(optarg) > MAX_URL)
            return command_usage(&cmd_submit, "--catalog is longer than %d bytes", MAX_URL);
        if (c == 'c') /* so that the dataset knows its catalog */
            (void)snprintf(catalog, sizeof catalog, "catalog.url=%s", optarg);
        if ((c == 's' || c == 'c') && n == JOB_ARGS_MAX_OVERRIDES)
            return command_usage(&cmd_submit, "more than %d --set", JOB_ARGS_MAX_OVERRIDES);
        if (c == 's' || c == 'c')
            overrides[n++].text = c == 's' ? optarg : catalog;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_submit,
                             optind == argc ? "a job file is missing" : "more than one job file");
    return submit(argv[optind], overrides, n, has_priority, has_max_leases, json);
}

/* clang-format off: as it is printed */
const struct command cmd_submit = {
    .name = "submit",
    .synopsis = "reinforce submit [--catalog URL] [--priority N] [--max-leases N] JOB.yaml",
    .summary = "hands a job to the coordinator of a catalog",
    .help =
        "Checks the job file and puts the job into its catalog, where a coordinator finds\n"
        "it. Input, output, catalog and models must be named so that coordinator and\n"
        "workers find them, too: by URL, or by paths they share. Relative paths are made\n"
        "absolute here, since those processes have working folders of their own.\n"
        "A job that is there already stays as it is, but for priority and quota. Captioners and\n"
        "teachers that were appended to a finished one are computed; any other change that\n"
        "would change results is refused and named.\n"
        "\n"
        "Options:\n"
        "  --catalog URL      instead of the job file's catalog.url\n"
        "  --priority N       jobs of higher priority go first; default 0; may be changed by\n"
        "                     submitting again\n"
        "  --max-leases N     no more than N shards are worked on at once; default 0: any\n"
        "                     number; may be changed by submitting again\n"
        "  --set PATH=VALUE   overrides one value of the job file; may be repeated\n"
        "  --json             prints JSON\n"
        "\n"
        "Examples:\n"
        "  reinforce submit --catalog postgres://reinforce@db/reinforce job.yaml\n"
        "\n"
        "Exit codes:\n"
        "  0  it is in the catalog\n"
        "  1  the catalog could not be reached, or the job has changed\n"
        "  2  usage or job file\n",
    .run = run,
};
/* clang-format on */
