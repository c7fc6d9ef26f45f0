#include "cli/curator_args.h"
#include "cli/job_args.h"
#include "coordinator/curator/selection_log.h"
#include "coordinator/curator/service.h"
#include "proto/endpoint.h"
#include "proto/version.h"
#include "reinforce/base/log.h"

#include <getopt.h>
#include <stdio.h>

enum { MAX_MIB = 1 << 20 };

/* What `serve` was told. */
struct serve_args {
    struct curator_service_options service;
    struct curator_dataset dataset;
    const char *key_path, *log_path;
    bool log_inputs, insecure;
};

/* At once: scripts wait for it. */
static void print_address(void *ctx, const char *address)
{
    (void)ctx;
    (void)printf("serving at %s\n", address);
    (void)fflush(stdout);
}

static int serve(struct serve_args *args)
{
    struct curator_service_options service = args->service;
    struct selection_log *log = NULL;
    struct keys keys;
    struct error err = {0};
    enum status st = ST_OK;

    if (args->key_path != NULL)
        st = keys_read(args->key_path, &keys, &err);
    if (st == ST_OK && args->log_path != NULL)
        st = selection_log_open(args->log_path, args->log_inputs, &log, &err);
    service.keys = args->key_path != NULL ? &keys : NULL;
    service.log = log;
    service.stop = job_args_catch_signals();
    if (st == ST_OK)
        st = curator_dataset_open(&args->dataset, service.stop, &service.references, &err);
    service.teacher = args->dataset.teacher;
    if (st == ST_OK)
        st = curator_service_run(&service, &err);
    selection_log_close(&log);
    curator_dataset_close(&args->dataset);
    return st == ST_OK || st == ST_CANCELLED ? EXIT_DONE : command_fail(&cmd_curator, &err);
}

static enum status take_number(const char *name, int64_t max, int64_t unit, size_t *out,
                               struct error *err)
{
    int64_t value = 0;
    enum status st = command_number(name, optarg, 1, max, &value, err);

    *out = (size_t)(value * unit);
    return st;
}

int curator_serve(int argc, char **argv)
{
    static const struct option known[] = {{"bind", required_argument, NULL, 'b'},
                                          {"keys", required_argument, NULL, 'k'},
                                          {"allow", required_argument, NULL, 'a'},
                                          {"insecure", no_argument, NULL, 'i'},
                                          {"log", required_argument, NULL, 'l'},
                                          {"log-inputs", no_argument, NULL, 'I'},
                                          {"deadline", required_argument, NULL, 'd'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"selections", required_argument, NULL, 's'},
                                          {"max-request", required_argument, NULL, 'm'},
                                          {"max-waiting", required_argument, NULL, 'w'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          CURATOR_DATASET_OPTIONS,
                                          {NULL, 0, NULL, 0}};
    struct serve_args args = {.service = {.address = CURATOR_ADDRESS,
                                          .n_selectors = 1,
                                          .n_threads = curator_threads(),
                                          .max_request_bytes = (size_t)1 << 30,
                                          .max_waiting_bytes = (size_t)4 << 30,
                                          .max_selection_bytes = (size_t)4 << 30,
                                          .version = REINFORCE_VERSION,
                                          .told = print_address}};
    struct curator_service_options *service = &args.service;
    struct error err = {0};
    enum status st = ST_OK;
    int c;

    optind = 1;
    while (st == ST_OK && (c = command_next_option(&cmd_curator, argc, argv, "v", known)) != -1) {
        switch (c) {
        case 'b':
            service->address = optarg;
            break;
        case 'k':
            args.key_path = optarg;
            break;
        case 'a':
            service->allow_path = optarg;
            break;
        case 'i':
            args.insecure = true;
            break;
        case 'l':
            args.log_path = optarg;
            break;
        case 'I':
            args.log_inputs = true;
            break;
        case 'd':
            st = command_number("deadline", optarg, 1, UINT32_MAX, &service->deadline_ms, &err);
            break;
        case 't':
            st = take_number("threads", CURATOR_MAX_THREADS, 1, &service->n_threads, &err);
            break;
        case 's':
            st = take_number("selections", CURATOR_MAX_THREADS, 1, &service->n_selectors, &err);
            break;
        case 'm':
            st = take_number("max-request", MAX_MIB, 1 << 20, &service->max_request_bytes, &err);
            break;
        case 'w':
            st = take_number("max-waiting", MAX_MIB, 1 << 20, &service->max_waiting_bytes, &err);
            break;
        case 'v':
            log_set_level(LOG_INFO);
            args.dataset.verbose = true;
            break;
        default:
            if (!curator_dataset_take(c, optarg, &args.dataset))
                return EXIT_USAGE;
        }
    }
    if (st != ST_OK)
        return command_usage(&cmd_curator, "%s", err.message);
    if (optind != argc)
        return command_usage(&cmd_curator, "unexpected \"%s\"", argv[optind]);
    if ((args.key_path == NULL) != (service->allow_path == NULL))
        return command_usage(&cmd_curator, "--keys and --allow go together");
    if (args.log_inputs && args.log_path == NULL)
        return command_usage(&cmd_curator, "--log-inputs needs --log");
    if (args.key_path == NULL && !args.insecure && !endpoint_is_local(service->address))
        return command_usage(&cmd_curator,
                             "%s is not loopback: give --keys and --allow, or say --insecure",
                             service->address);
    return serve(&args);
}
