#include "cli/command.h"
#include "cli/job_args.h"
#include "proto/endpoint.h"
#include "reinforce/base/log.h"
#include "worker/fleet_worker.h"

#include <getopt.h>
#include <stdio.h>

enum { GRACE_S = 30, MAX_COUNT = 256 };

struct arguments {
    struct fleet_worker_options options;
    char list[1024]; /* --coordinator, cut at its commas */
    const char *addresses[ENDPOINT_MAX_ADDRESSES];
    const char *key_path;
    int64_t grace_s;
    bool insecure;
};

static enum status take_addresses(struct arguments *a, const char *list, struct error *err)
{
    char *next = NULL, *at;

    if (strlen(list) >= sizeof a->list)
        return error_set(err, ST_INVALID, "--coordinator is longer than %zu bytes",
                         sizeof a->list - 1);
    (void)snprintf(a->list, sizeof a->list, "%s", list);
    a->options.n_addresses = 0;
    for (at = strtok_r(a->list, ",", &next); at != NULL; at = strtok_r(NULL, ",", &next)) {
        if (a->options.n_addresses == ENDPOINT_MAX_ADDRESSES)
            return error_set(err, ST_INVALID, "more than %d addresses", ENDPOINT_MAX_ADDRESSES);
        a->addresses[a->options.n_addresses++] = at;
    }
    return ST_OK;
}

static enum status take_option(struct arguments *a, int c, struct error *err)
{
    int64_t count;
    enum status st = ST_OK;

    switch (c) {
    case 'a':
        st = take_addresses(a, optarg, err);
        break;
    case 'k':
        a->key_path = optarg;
        break;
    case 'c':
        a->options.catalog_url = optarg;
        break;
    case 'n':
        st = command_number("count", optarg, 1, MAX_COUNT, &count, err);
        a->options.count = st == ST_OK ? (int)count : 0;
        break;
    case 't':
        st = command_number("threads", optarg, 1, MAX_COUNT, &count, err);
        a->options.threads = st == ST_OK ? (int)count : 0;
        break;
    case 'g':
        st = command_number("grace", optarg, 1, 86400, &a->grace_s, err);
        break;
    case 'i':
        a->insecure = true;
        break;
    default:
        log_set_level(LOG_INFO);
        break;
    }
    return st;
}

static int work(const struct arguments *a)
{
    struct fleet_worker_options options = a->options;
    struct keys keys;
    struct error err = {0};
    enum status st = ST_OK;

    if (a->key_path != NULL)
        st = keys_read(a->key_path, &keys, &err);
    options.keys = a->key_path != NULL ? &keys : NULL;
    options.addresses = a->addresses;
    options.stop = job_args_catch_signals();
    job_args_limit_grace((unsigned)a->grace_s);
    if (st == ST_OK)
        st = fleet_worker_run(&options, &err);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_worker, &err);
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {{"coordinator", required_argument, NULL, 'a'},
                                          {"keys", required_argument, NULL, 'k'},
                                          {"catalog", required_argument, NULL, 'c'},
                                          {"count", required_argument, NULL, 'n'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"grace", required_argument, NULL, 'g'},
                                          {"insecure", no_argument, NULL, 'i'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    struct arguments a = {.grace_s = GRACE_S};
    struct error err = {0};
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_worker, argc, argv, "v", known)) != -1) {
        if (c == '?')
            return EXIT_USAGE;
        if (take_option(&a, c, &err) != ST_OK)
            return command_usage(&cmd_worker, "%s", err.message);
    }
    if (optind != argc)
        return command_usage(&cmd_worker, "unexpected \"%s\"", argv[optind]);
    if (a.options.n_addresses == 0)
        return command_usage(&cmd_worker, "--coordinator is missing");
    for (size_t i = 0; i < a.options.n_addresses; i++)
        if (a.key_path == NULL && !a.insecure && !endpoint_is_local(a.addresses[i]))
            return command_usage(&cmd_worker, "%s is not loopback: give --keys, or say --insecure",
                                 a.addresses[i]);
    return work(&a);
}

/* clang-format off: as it is printed */
const struct command cmd_worker = {
    .name = "worker",
    .synopsis = "reinforce worker --coordinator ADDRESS[,ADDRESS]... [--keys FILE]",
    .summary = "works for a coordinator, on whatever job it has",
    .help = "Asks the coordinator for a job, loads its models, works on its shards until there\n"
            "is nothing left, and asks for the next, for ever. It may be started and stopped\n"
            "at any time. The job's configuration comes from the catalog; input, output,\n"
            "catalog and models must be reached from here as the job file names them. Secrets\n"
            "are never sent: tokens and passwords come from this process's own environment and\n"
            "files, as for `reinforce run`.\n"
            "\n"
            "While the coordinator is away, what is held is finished and committed, and the\n"
            "worker comes back by itself. With several addresses it goes where a coordinator\n"
            "is at work: name the standby's too.\n"
            "\n"
            "SIGTERM or Ctrl-C: samples that are begun are finished and committed, the rest of\n"
            "the shard is handed back. Whoever is killed loses no more than a part.\n"
            "\n"
            "Options:\n"
            "  --coordinator A  where to go, as `reinforce coordinator --bind` says\n"
            "  --keys FILE      worker.key of `reinforce keys new`\n"
            "  --count N        workers in this process, which share the models; default: as the\n"
            "                   job says\n"
            "  --threads N      compute threads of each; default: as the job says\n"
            "  --catalog URL    how the catalog is reached from here, if otherwise than by the\n"
            "                   coordinator\n"
            "  --grace SECONDS  for finishing when told to stop, then it leaves anyway; default\n"
            "                   30\n"
            "  --insecure       lets it go elsewhere than loopback without keys\n"
            "  -v, --verbose    logs every shard and lease to standard error\n"
            "\n"
            "Examples:\n"
            "  reinforce worker --coordinator tcp://127.0.0.1:7600\n"
            "  reinforce worker --coordinator tcp://c1:7600,tcp://c2:7600 --keys worker.key\n"
            "\n"
            "Exit codes:\n"
            "  0  told to stop, all handed back\n"
            "  1  the grace time was over, or it could not go on\n"
            "  2  usage, or the coordinator refuses this release\n",
    .run = run,
};
/* clang-format on */
