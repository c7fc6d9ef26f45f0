#include "cli/command.h"
#include "cli/job_args.h"
#include "coordinator/absolute_job.h"
#include "coordinator/coordinator.h"
#include "proto/endpoint.h"
#include "reinforce/base/log.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define DEFAULT_ADDRESS "tcp://127.0.0.1:7600"

enum { ARENA_BYTES = 1 << 16 };

/* One line on standard output for each change, at once: scripts wait for it. */
static void print_told(void *ctx, const char *address)
{
    (void)ctx;
    if (address != NULL)
        (void)printf("serving at %s\n", address);
    else
        (void)printf("standing by\n");
    (void)fflush(stdout);
}

/* Whoever can reach us could otherwise take work and see what is in it. */
static bool is_safe(const struct coordinator_options *options, const char *key_path, bool insecure)
{
    return key_path != NULL || insecure || endpoint_is_local(options->address);
}

static int serve(const struct coordinator_options *given, const char *key_path)
{
    struct coordinator_options options = *given;
    struct keys keys;
    struct arena arena;
    struct error err = {0};
    char folder[PATH_MAX];
    enum status st = ST_OK;

    arena_init(&arena, ARENA_BYTES);
    if (getcwd(folder, sizeof folder) == NULL)
        st = error_set_errno(&err, ST_UNAVAILABLE, "could not tell the current folder");
    if (st == ST_OK) /* workers are told it */
        st = absolute_job_url(given->catalog_url, "sqlite:", folder, &arena, &options.catalog_url,
                              &err);
    if (st == ST_OK && key_path != NULL)
        st = keys_read(key_path, &keys, &err);
    options.keys = key_path != NULL ? &keys : NULL;
    options.stop = job_args_catch_signals();
    options.told = print_told;
    if (st == ST_OK)
        st = coordinator_run(&options, &err);
    arena_release(&arena);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_coordinator, &err);
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {{"catalog", required_argument, NULL, 'c'},
                                          {"bind", required_argument, NULL, 'b'},
                                          {"keys", required_argument, NULL, 'k'},
                                          {"allow", required_argument, NULL, 'a'},
                                          {"insecure", no_argument, NULL, 'i'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    struct coordinator_options options = {.address = DEFAULT_ADDRESS};
    const char *key_path = NULL;
    bool insecure = false;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_coordinator, argc, argv, "v", known)) != -1) {
        switch (c) {
        case 'c':
            options.catalog_url = optarg;
            break;
        case 'b':
            options.address = optarg;
            break;
        case 'k':
            key_path = optarg;
            break;
        case 'a':
            options.allow_path = optarg;
            break;
        case 'i':
            insecure = true;
            break;
        case 'v':
            log_set_level(LOG_INFO);
            break;
        default:
            return EXIT_USAGE;
        }
    }
    if (optind != argc)
        return command_usage(&cmd_coordinator, "unexpected \"%s\"", argv[optind]);
    if (options.catalog_url == NULL)
        return command_usage(&cmd_coordinator, "--catalog is missing");
    if ((key_path == NULL) != (options.allow_path == NULL))
        return command_usage(&cmd_coordinator, "--keys and --allow go together");
    if (!is_safe(&options, key_path, insecure))
        return command_usage(&cmd_coordinator,
                             "%s is not loopback: give --keys and --allow, or say --insecure",
                             options.address);
    return serve(&options, key_path);
}

/* clang-format off: as it is printed */
const struct command cmd_coordinator = {
    .name = "coordinator",
    .synopsis = "reinforce coordinator --catalog URL [--bind ADDRESS] [--keys FILE --allow FILE]",
    .summary = "serves every job of a catalog to the workers of a fleet",
    .help = "Plans jobs that were submitted, hands their shards to workers, the job of the\n"
            "highest priority first, then the oldest, and finishes those that are done. A job\n"
            "whose failure budget is spent, or that cannot be planned, is paused, and\n"
            "`reinforce status` says why.\n"
            "\n"
            "It knows nothing that is not in the catalog, and may be killed at any moment:\n"
            "workers finish and commit what they hold, and wait for the next. A second\n"
            "coordinator on the same catalog stands by, and takes over within seconds when\n"
            "the first is gone.\n"
            "\n"
            "Options:\n"
            "  --catalog URL    postgres://USER@HOST:PORT/DATABASE; sqlite:PATH for one machine\n"
            "  --bind ADDRESS   where workers come; default " DEFAULT_ADDRESS "\n"
            "  --keys FILE      coordinator.key of `reinforce keys new`: messages are encrypted\n"
            "  --allow FILE     public keys of the workers that may come, one a line; read again\n"
            "                   when it changes\n"
            "  --insecure       lets it be reached from elsewhere without keys\n"
            "  -v, --verbose    logs every worker and job to standard error\n"
            "\n"
            "Examples:\n"
            "  reinforce coordinator --catalog postgres://reinforce@db/reinforce\n"
            "  reinforce coordinator --catalog postgres://reinforce@db/reinforce \\\n"
            "      --bind tcp://0.0.0.0:7600 --keys fleet/coordinator.key --allow fleet/allow\n"
            "\n"
            "Exit codes:\n"
            "  0  told to stop, by SIGTERM or Ctrl-C\n"
            "  1  it could not go on\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
