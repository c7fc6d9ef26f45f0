#include "cli/command.h"
#include "cli/job_args.h"
#include "coordinator/curator/selection_log.h"
#include "coordinator/curator/service.h"
#include "proto/endpoint.h"
#include "proto/version.h"
#include "reinforce/base/log.h"
#include "reinforce/base/unique.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

#define DEFAULT_ADDRESS "tcp://127.0.0.1:7700"

enum { MAX_THREADS = 64, MAX_MIB = 1 << 20, STATUS_WAIT_MS = 10000 };

/* What `serve` was told. */
struct serve_args {
    struct curator_service_options service;
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

static int serve(const struct serve_args *args)
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
        st = curator_service_run(&service, &err);
    selection_log_close(&log);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_curator, &err);
}

static enum status take_number(const char *name, int64_t max, int64_t unit, size_t *out,
                               struct error *err)
{
    int64_t value = 0;
    enum status st = command_number(name, optarg, 1, max, &value, err);

    *out = (size_t)(value * unit);
    return st;
}

static int run_serve(int argc, char **argv)
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
                                          {NULL, 0, NULL, 0}};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct serve_args args = {
        .service = {.address = DEFAULT_ADDRESS,
                    .n_selectors = 1,
                    .n_threads = (size_t)MIN(MAX(processors, 1L), (long)MAX_THREADS),
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
            st = take_number("threads", MAX_THREADS, 1, &service->n_threads, &err);
            break;
        case 's':
            st = take_number("selections", MAX_THREADS, 1, &service->n_selectors, &err);
            break;
        case 'm':
            st = take_number("max-request", MAX_MIB, 1 << 20, &service->max_request_bytes, &err);
            break;
        case 'w':
            st = take_number("max-waiting", MAX_MIB, 1 << 20, &service->max_waiting_bytes, &err);
            break;
        case 'v':
            log_set_level(LOG_INFO);
            break;
        default:
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

static void print_status(const struct curator_status_reply *s)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"selected", s->n_ok},
        {"selected from a part", s->n_partial},
        {"uniform: deadline", s->n_fallback_deadline},
        {"uniform: no reference", s->n_fallback_reference},
        {"uniform: busy", s->n_fallback_busy},
        {"rejected", s->n_rejected},
        {"asked for again", s->n_repeated},
        {"refused", s->n_refused},
        {"probes", s->n_probes},
        {"alarms of staleness", s->n_alarms},
        {"logged", s->n_logged},
        {"not logged", s->n_not_logged},
        {"being selected", s->n_running},
        {"waiting", s->n_waiting},
        {"references", s->n_references},
        {"up, s", s->uptime_ms / 1000},
        {"selecting, ms", s->select_ms},
    };

    (void)printf("%-24s %s\n", "version", s->version);
    (void)printf("%-24s %s\n", "reference",
                 s->reference_version[0] != '\0' ? s->reference_version : "-");
    for (size_t r = 0; r < ARRAY_LEN(rows); r++)
        (void)printf("%-24s %" PRIu64 "\n", rows[r].name, rows[r].value);
}

static enum status receive_status(void *socket, struct curator_status_reply *status,
                                  struct error *err)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    char kind[16];
    zmq_msg_t part;
    enum status st;

    if (zmq_poll(&item, 1, STATUS_WAIT_MS) <= 0)
        return error_set(err, ST_TIMEOUT, "nobody answers");
    (void)zmq_recv(socket, kind, sizeof kind, 0);
    (void)zmq_msg_init(&part);
    if (zmq_msg_recv(&part, socket, 0) < 0)
        st = error_set(err, ST_UNAVAILABLE, "could not receive: %s", zmq_strerror(errno));
    else
        st = curator_status_reply_decode(bytes_view_of(zmq_msg_data(&part), zmq_msg_size(&part)),
                                         status, err);
    (void)zmq_msg_close(&part);
    return st;
}

static enum status ask_status(const char *address, const struct keys *keys,
                              struct curator_status_reply *status, struct error *err)
{
    char id[UNIQUE_TEXT_LEN + 1];
    const struct endpoint_target target = {
        .addresses = &address, .n_addresses = 1, .id = id, .keys = keys};
    void *zmq = zmq_ctx_new(), *socket = NULL;
    zmq_pollitem_t item = {.events = ZMQ_POLLOUT};
    struct byte_buf message;
    enum status st = ST_OK;

    unique_text(id);
    byte_buf_init(&message, ENDPOINT_MAX_MESSAGE);
    if (zmq == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not create a ZeroMQ context");
    if (st == ST_OK)
        st = endpoint_connect(zmq, &target, &socket, NULL, err);
    if (st == ST_OK)
        st = curator_status_request_encode(&message, err);
    item.socket = socket;
    if (st == ST_OK && (zmq_poll(&item, 1, STATUS_WAIT_MS) <= 0 ||
                        zmq_send(socket, "status", 6, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
                        zmq_send(socket, message.data, message.len, ZMQ_DONTWAIT) < 0))
        st = error_set(err, ST_UNAVAILABLE, "no curator is there");
    if (st == ST_OK)
        st = receive_status(socket, status, err);
    byte_buf_release(&message);
    if (socket != NULL)
        (void)zmq_close(socket);
    if (zmq != NULL)
        (void)zmq_ctx_term(zmq);
    if (st != ST_OK)
        error_add_context(err, "%s", address);
    return st;
}

static int run_status(int argc, char **argv)
{
    static const struct option known[] = {{"keys", required_argument, NULL, 'k'},
                                          {NULL, 0, NULL, 0}};
    struct curator_status_reply status;
    const char *key_path = NULL;
    struct keys keys;
    struct error err = {0};
    enum status st = ST_OK;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_curator, argc, argv, "", known)) != -1) {
        if (c != 'k')
            return EXIT_USAGE;
        key_path = optarg;
    }
    if (optind + 1 < argc)
        return command_usage(&cmd_curator, "unexpected \"%s\"", argv[optind + 1]);
    if (key_path != NULL)
        st = keys_read(key_path, &keys, &err);
    if (st == ST_OK)
        st = ask_status(optind < argc ? argv[optind] : DEFAULT_ADDRESS,
                        key_path != NULL ? &keys : NULL, &status, &err);
    if (st != ST_OK)
        return command_fail(&cmd_curator, &err);
    print_status(&status);
    return EXIT_DONE;
}

static int run(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "serve") == 0)
        return run_serve(argc - 1, argv + 1);
    if (strcmp(word, "status") == 0)
        return run_status(argc - 1, argv + 1);
    return command_usage(&cmd_curator, "say serve or status");
}

/* clang-format off: as it is printed */
const struct command cmd_curator = {
    .name = "curator",
    .synopsis = "reinforce curator serve [--bind ADDRESS] ... | status [ADDRESS]",
    .summary = "selects training batches for training jobs, beside them",
    .help = "serve answers training jobs that send a super-batch as their model sees it: it\n"
            "selects the examples to train on, by SigLIP 2's learnability or another criterion.\n"
            "Any number of trainers may ask; what cannot be selected by its deadline is answered\n"
            "with a seeded random batch, so that training never waits. The client for Python is\n"
            "in docs/curator-client, the protocol in docs/curator-protocol.md.\n"
            "status prints what a curator has answered, and how.\n"
            "\n"
            "Options:\n"
            "  --bind ADDRESS     where trainers come; default " DEFAULT_ADDRESS "\n"
            "  --deadline MS      of requests that have none, and the longest any has\n"
            "  --log FILE         adds every selection to FILE\n"
            "  --log-inputs       and what it was selected from: hundreds of megabytes each\n"
            "  --threads N        of one selection; default: one for each processor\n"
            "  --selections N     selections at a time; default 1\n"
            "  --max-request MIB  of one request; default 1024: 65,536 examples with two models\n"
            "                     of 768 dimensions, bfloat16, take 386\n"
            "  --max-waiting MIB  of requests that wait; beyond, answers are random and at once;\n"
            "                     default 4096\n"
            "  --keys FILE        coordinator.key of `reinforce keys new`: messages are\n"
            "                     encrypted; for status, worker.key\n"
            "  --allow FILE       public keys of the trainers that may come, one a line\n"
            "  --insecure         lets it be reached from elsewhere without keys\n"
            "  -v, --verbose      logs every selection to standard error\n"
            "\n"
            "Examples:\n"
            "  reinforce curator serve --deadline 2000 --log selections.log\n"
            "  reinforce curator status\n"
            "\n"
            "Exit codes:\n"
            "  0  done; told to stop, by SIGTERM or Ctrl-C\n"
            "  1  it could not go on; nobody answers\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
