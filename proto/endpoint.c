#include "proto/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

/*
 * Times in ms, of keepalives in s. A worker notices by ZeroMQ's own heartbeats that its connection
 * has died without a word. The ROUTER leaves that to the kernel: libzmq looks through all timers of
 * an I/O thread to end one, which with 10,000 workers took half a core.
 */
enum {
    RECONNECT_MS = 100,
    RECONNECT_MAX_MS = 3000,
    HEARTBEAT_MS = 5000,
    HEARTBEAT_TIMEOUT_MS = 15000,
    HANDSHAKE_MS = 10000,
    LINGER_MS = 1000,
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_PROBES = 3,
    KEEPALIVE_APART_S = 10,
    BACKLOG = 1024, /* connections that wait to be accepted: a fleet comes back all at once */
};

bool endpoint_is_local(const char *address)
{
    static const char *const local[] = {"inproc:", "ipc:", "tcp://localhost:", "tcp://[::1]:"};
    static const char loopback[] = "tcp://127.";

    if (strncmp(address, loopback, strlen(loopback)) == 0) /* and no name that begins so */
        return address[strlen(loopback) + strspn(address + strlen(loopback), "0123456789.")] == ':';
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        if (strncmp(address, local[i], strlen(local[i])) == 0)
            return true;
    return false;
}

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_text(void *socket, int option, const char *text)
{
    return zmq_setsockopt(socket, option, text, strlen(text)) == 0;
}

static bool set_common(void *socket, const struct endpoint_limits *limits)
{
    int64_t max_bytes =
        limits->max_frame_bytes != 0 ? limits->max_frame_bytes : (int64_t)ENDPOINT_MAX_MESSAGE;

    return set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) && set_int(socket, ZMQ_IPV6, 1) &&
           set_int(socket, ZMQ_LINGER, limits->linger_ms) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof max_bytes) == 0 &&
           (limits->max_received == 0 || set_int(socket, ZMQ_RCVHWM, limits->max_received)) &&
           (limits->max_sent == 0 || set_int(socket, ZMQ_SNDHWM, limits->max_sent));
}

enum status endpoint_bind(void *zmq, const char *address, const struct keys *keys,
                          const struct endpoint_limits *limits, void **socket, struct error *err)
{
    const struct endpoint_limits zeros = {0};
    void *s = zmq_socket(zmq, ZMQ_ROUTER);
    bool ok = s != NULL && set_common(s, limits != NULL ? limits : &zeros) &&
              set_int(s, ZMQ_ROUTER_HANDOVER, 1) && set_int(s, ZMQ_BACKLOG, BACKLOG) &&
              set_int(s, ZMQ_TCP_KEEPALIVE, 1) &&
              set_int(s, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S) &&
              set_int(s, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES) &&
              set_int(s, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_APART_S);

    *socket = NULL;
    if (ok && keys != NULL)
        ok = set_int(s, ZMQ_CURVE_SERVER, 1) &&
             set_text(s, ZMQ_CURVE_SECRETKEY, keys->secret_key) &&
             set_text(s, ZMQ_ZAP_DOMAIN, "reinforce");
    if (ok && zmq_bind(s, address) == 0) {
        *socket = s;
        return ST_OK;
    }
    (void)error_set(err, errno == EINVAL || errno == EPROTONOSUPPORT ? ST_INVALID : ST_UNAVAILABLE,
                    "could not bind %s: %s", address, zmq_strerror(errno));
    if (s != NULL)
        (void)zmq_close(s);
    return err->code;
}

const char *endpoint_peer(const char *address)
{
    static const char mapped[] = "::ffff:";
    bool is_mapped = strncmp(address, mapped, strlen(mapped)) == 0;

    return address + (is_mapped ? strlen(mapped) : 0);
}

enum status endpoint_bound(void *socket, char address[256], struct error *err)
{
    static const char mapped[] = "tcp://[::ffff:"; /* how libzmq says IPv4 */
    char text[256];
    size_t len = sizeof text;

    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, text, &len) != 0)
        return error_set(err, ST_INTERNAL, "cannot tell what was bound: %s", zmq_strerror(errno));
    if (strncmp(text, mapped, strlen(mapped)) == 0) {
        const char *host = text + strlen(mapped);
        size_t host_len = strcspn(host, "]");

        (void)snprintf(address, 256, "tcp://%.*s%s", (int)host_len, host,
                       host + host_len + (host[host_len] == ']'));
    } else {
        (void)snprintf(address, 256, "%s", text);
    }
    return ST_OK;
}

/* Before the socket connects, or what happens first is not seen. */
static bool watch_socket(void *zmq, void *socket, void **watch)
{
    const int events = ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    char address[64];

    (void)snprintf(address, sizeof address, "inproc://watch-%p", socket);
    *watch = zmq_socket(zmq, ZMQ_PAIR);
    return *watch != NULL && set_int(*watch, ZMQ_LINGER, 0) &&
           zmq_socket_monitor(socket, address, events) == 0 && zmq_connect(*watch, address) == 0;
}

static bool set_target(void *s, const struct endpoint_target *target)
{
    const struct endpoint_limits limits = {.linger_ms = LINGER_MS};
    const struct keys *keys = target->keys;

    return set_common(s, &limits) && set_int(s, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS) &&
           set_int(s, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS) &&
           set_int(s, ZMQ_IMMEDIATE, 1) && set_int(s, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
           set_int(s, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
           set_text(s, ZMQ_ROUTING_ID, target->id) &&
           (keys == NULL || (set_text(s, ZMQ_CURVE_SERVERKEY, keys->server_key) &&
                             set_text(s, ZMQ_CURVE_PUBLICKEY, keys->public_key) &&
                             set_text(s, ZMQ_CURVE_SECRETKEY, keys->secret_key)));
}

enum status endpoint_connect(void *zmq, const struct endpoint_target *target, void **socket,
                             void **watch, struct error *err)
{
    const char *address = target->addresses[0];
    void *s, *w = NULL;
    bool ok;

    *socket = NULL;
    if (watch != NULL)
        *watch = NULL;
    if (target->keys != NULL && target->keys->server_key[0] == '\0')
        return error_set(err, ST_INVALID,
                         "the key file does not name the coordinator's key; make it with "
                         "`reinforce keys add`");
    s = zmq_socket(zmq, ZMQ_DEALER);
    ok = s != NULL && set_target(s, target) && (watch == NULL || watch_socket(zmq, s, &w));
    for (size_t i = 0; i < target->n_addresses && ok; i++) {
        address = target->addresses[i];
        ok = zmq_connect(s, address) == 0;
    }
    if (!ok)
        (void)error_set(err,
                        errno == EINVAL || errno == EPROTONOSUPPORT ? ST_INVALID : ST_UNAVAILABLE,
                        "could not connect to %s: %s", address, zmq_strerror(errno));
    if (!ok && s != NULL)
        (void)zmq_close(s);
    if (!ok && w != NULL)
        (void)zmq_close(w);
    if (!ok)
        return err->code;
    *socket = s;
    if (watch != NULL)
        *watch = w;
    return ST_OK;
}

enum endpoint_trouble endpoint_trouble(void *watch)
{
    enum endpoint_trouble trouble = ENDPOINT_TROUBLE_NONE;
    uint8_t frame[6]; /* event, and a value */
    char address[256];

    while (zmq_recv(watch, frame, sizeof frame, ZMQ_DONTWAIT) == (int)sizeof frame) {
        uint16_t event;

        memcpy(&event, frame, sizeof event);
        (void)zmq_recv(watch, address, sizeof address, ZMQ_DONTWAIT);
        trouble = event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ? ENDPOINT_TROUBLE_OUR_KEY
                                                           : ENDPOINT_TROUBLE_KEYS;
    }
    return trouble;
}

enum status endpoint_send(void *socket, const struct wire_message *message, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    byte_buf_init(&buf, ENDPOINT_MAX_MESSAGE);
    st = wire_encode(message, &buf, err);
    if (st == ST_OK && zmq_send(socket, buf.data, buf.len, ZMQ_DONTWAIT) < 0)
        st = error_set(err, errno == EAGAIN ? ST_FULL : ST_UNAVAILABLE,
                       "could not send to the coordinator: %s", zmq_strerror(errno));
    byte_buf_release(&buf);
    return st;
}

enum status endpoint_receive(void *socket, struct wire_message *message, struct error *err)
{
    zmq_msg_t frame;
    enum status st;

    (void)zmq_msg_init(&frame);
    if (zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT) < 0)
        st = errno == EAGAIN
                 ? ST_FULL
                 : error_set(err, ST_UNAVAILABLE, "could not receive from the coordinator: %s",
                             zmq_strerror(errno));
    else
        st = wire_decode(bytes_view_of(zmq_msg_data(&frame), zmq_msg_size(&frame)), message, err);
    (void)zmq_msg_close(&frame);
    return st;
}
