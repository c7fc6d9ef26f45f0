#include "cli/curator_args.h"
#include "proto/curator_probe.h"
#include "proto/endpoint.h"
#include "reinforce/base/unique.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <zmq.h>

enum { STATUS_WAIT_MS = 10000 };

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
        {"without a reference", s->n_rows_missing},
    };
    const struct {
        const char *name;
        uint64_t value;
    } computed[] = {
        {"examples of the input", s->n_examples},
        {"asked for and there", s->n_rows_found},
        {"asked for in vain", s->n_rows_unknown},
        {"computed", s->n_rows_computed},
        {"cannot be embedded", s->n_rows_bad},
        {"failed for now", s->n_rows_failed},
        {"wanted", s->n_rows_wanted},
        {"teachers that died", s->n_teacher_deaths},
    };

    (void)printf("%-24s %s\n", "version", s->version);
    (void)printf("%-24s %s\n", "reference",
                 s->reference_version[0] != '\0' ? s->reference_version : "-");
    for (size_t r = 0; r < ARRAY_LEN(rows); r++)
        (void)printf("%-24s %" PRIu64 "\n", rows[r].name, rows[r].value);
    for (size_t r = 0; r < ARRAY_LEN(computed) && s->n_examples > 0; r++)
        (void)printf("%-24s %" PRIu64 "\n", computed[r].name, computed[r].value);
    if (s->compute_ms > 0)
        (void)printf("%-24s %.1f\n", "computed a second",
                     (double)s->n_rows_computed * 1000 / (double)s->compute_ms);
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

int curator_status(int argc, char **argv)
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
        st = ask_status(optind < argc ? argv[optind] : CURATOR_ADDRESS,
                        key_path != NULL ? &keys : NULL, &status, &err);
    if (st != ST_OK)
        return command_fail(&cmd_curator, &err);
    print_status(&status);
    return EXIT_DONE;
}
