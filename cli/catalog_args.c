#include "cli/catalog_args.h"

#include "cli/tool_io.h"
#include "coordinator/local_run.h"
#include "reinforce/base/clock.h"
#include "worker/stored_job.h"

#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

enum { ARENA_BYTES = 64 << 20 };

static enum status copy(struct catalog_args *args, const char *text, const char **out,
                        struct error *err)
{
    char *to;
    enum status st = arena_strndup(&args->arena, text, strlen(text), &to, err);

    *out = to;
    return st;
}

/* The name and the catalog of a job file, or a name as it is. */
static enum status resolve(struct catalog_args *args, const char *word, struct error *err)
{
    const char *url = args->url;
    struct stat info;
    struct job *job;
    enum status st;

    if (stat(word, &info) != 0 || !S_ISREG(info.st_mode)) {
        if (args->url == NULL)
            return error_set(err, ST_INVALID,
                             "there is no job file \"%s\"; for the name of a job, give --catalog",
                             word);
        args->name = word;
        return ST_OK;
    }
    st = job_load(word, NULL, 0, &job, err);
    if (st != ST_OK)
        return st;
    if (url == NULL)
        st = local_run_catalog_url(job, &args->arena, &url, err);
    if (st == ST_OK)
        st = copy(args, url, &args->url, err);
    if (st == ST_OK)
        st = copy(args, job->name, &args->name, err);
    job_destroy(&job);
    return st;
}

int catalog_args_open(const struct command *command, int argc, char **argv, bool needs_job,
                      const struct catalog_args_option *own, struct catalog_args *args)
{
    int takes = own != NULL && own->flag != NULL ? no_argument : required_argument;
    const struct option all[] = {{own != NULL ? own->name : NULL, takes, NULL, 'o'},
                                 {"catalog", required_argument, NULL, 'c'},
                                 {"json", no_argument, NULL, 'j'},
                                 {NULL, 0, NULL, 0}};
    const struct option *options = own != NULL ? all : all + 1;
    struct error err = {0};
    enum status st = ST_OK;
    int c;

    memset(args, 0, sizeof *args);
    optind = 1;
    while ((c = command_next_option(command, argc, argv, "", options)) != -1) {
        if (c == 'c')
            args->url = optarg;
        else if (c == 'j')
            args->json = true;
        else if (c == 'o' && own != NULL && own->flag != NULL)
            *own->flag = true;
        else if (c == 'o' && own != NULL)
            *own->value = optarg;
        else
            return EXIT_USAGE;
    }
    if (argc - optind > 1)
        return command_usage(command, "more than one job");
    if (optind == argc && needs_job)
        return command_usage(command, "a job is missing");
    if (optind == argc && args->url == NULL)
        return command_usage(command, "give a job file or --catalog");
    arena_init(&args->arena, ARENA_BYTES);
    if (optind < argc)
        st = resolve(args, argv[optind], &err);
    if (st == ST_OK)
        st = catalog_open(args->url, &args->catalog, &err);
    if (st == ST_OK)
        return EXIT_DONE;
    arena_release(&args->arena);
    return command_fail(command, &err);
}

void catalog_args_close(struct catalog_args *args)
{
    catalog_close(&args->catalog);
    arena_release(&args->arena);
}

struct search {
    const char *name;
    struct catalog_job_row *row;
    bool found;
};

static enum status match(void *ctx, const struct catalog_job_row *row, struct error *err)
{
    struct search *search = ctx;

    (void)err;
    if (strcmp(row->job.name, search->name) == 0) {
        *search->row = *row;
        search->found = true;
    }
    return ST_OK;
}

enum status catalog_args_find(struct catalog_args *args, struct catalog_job_row *row,
                              struct error *err)
{
    struct search search = {.name = args->name, .row = row};
    enum status st = catalog_jobs(args->catalog, clock_wall_ms(), match, &search, err);

    if (st == ST_OK && !search.found)
        st = error_set(err, ST_NOT_FOUND, "no job \"%s\" in the catalog", args->name);
    return st;
}

enum status catalog_args_load(struct catalog_args *args, struct job **job, struct error *err)
{
    struct catalog_job row;

    return stored_job_load(args->catalog, args->name, &row, job, err);
}

enum status catalog_args_print_json(json_t *value, struct error *err)
{
    enum status st = value != NULL ? tool_print_json(value, err)
                                   : error_set(err, ST_NO_MEMORY, "could not make JSON");

    json_decref(value);
    return st;
}
