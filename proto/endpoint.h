/* Sockets of the worker protocol, and of the curator's: a ROUTER that is bound, DEALERs that
 * connect; with CURVE or plain. */
#ifndef REINFORCE_PROTO_ENDPOINT_H
#define REINFORCE_PROTO_ENDPOINT_H

#include "proto/keys.h"
#include "proto/wire.h"

enum { ENDPOINT_MAX_ADDRESSES = 8, ENDPOINT_MAX_MESSAGE = 1 << 16 };

/** What a bound socket takes and keeps; zeros are what the worker protocol needs. */
struct endpoint_limits {
    int64_t max_frame_bytes; /* a larger frame ends its connection; 0: ENDPOINT_MAX_MESSAGE */
    int max_received;        /* whole messages of a peer that are kept to be read; then it waits */
    int max_sent;            /* and for a peer, then more are dropped; 0 each: libzmq's 1,000 */
    int linger_ms; /* how long what was sent may take to leave when the socket is closed */
};

/** Whether only this machine can reach what is bound there: inproc:, ipc:, tcp: to loopback. */
bool endpoint_is_local(const char *address);

/**
 * A ROUTER bound to `address`; `keys` NULL: plain; `limits` NULL: all zeros. A worker that comes
 * back under its name takes its place at once.
 */
NODISCARD enum status endpoint_bind(void *zmq, const char *address, const struct keys *keys,
                                    const struct endpoint_limits *limits, void **socket,
                                    struct error *err);

/** The address of a peer as libzmq tells it, "::ffff:1.2.3.4" without its prefix; in there. */
const char *endpoint_peer(const char *address);

/** What a socket was bound to, with the port that the system chose. */
NODISCARD enum status endpoint_bound(void *socket, char address[256], struct error *err);

/** Where a DEALER goes, and as whom. */
struct endpoint_target {
    const char *const *addresses;
    size_t n_addresses;
    const char *id;          /* at most 255 bytes */
    const struct keys *keys; /* NULL: plain */
};

/**
 * A DEALER that is connected to those of the addresses that are there, and comes back, with growing
 * pauses, to those that are not. Messages go to connected peers alone: with none, endpoint_send()
 * says ST_FULL. ST_INVALID: an address that is none, or keys that do not name the coordinator's.
 * Where something else than ZeroMQ has answered, or with other keys, it does not go again: after a
 * long silence make a fresh one. *watch (`watch` may be NULL) is for endpoint_trouble();
 * zmq_close() it after the socket.
 */
NODISCARD enum status endpoint_connect(void *zmq, const struct endpoint_target *target,
                                       void **socket, void **watch, struct error *err);

/** Why nobody is there, as far as is known since the last call: keys that do not fit are told from
 * an address where nobody is. */
enum endpoint_trouble {
    ENDPOINT_TROUBLE_NONE = 0, /* nobody has answered, or nothing was tried */
    ENDPOINT_TROUBLE_OUR_KEY = 1,
    ENDPOINT_TROUBLE_KEYS = 2,
};
enum endpoint_trouble endpoint_trouble(void *watch);

/** To the coordinator. ST_FULL: nobody is there, or the queue is full; nothing was sent. */
NODISCARD enum status endpoint_send(void *socket, const struct wire_message *message,
                                    struct error *err);

/** From the coordinator. ST_FULL: nothing there now. ST_CORRUPT. */
NODISCARD enum status endpoint_receive(void *socket, struct wire_message *message,
                                       struct error *err);

#endif
