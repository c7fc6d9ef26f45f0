/* Sockets of the worker protocol: a ROUTER that is bound, DEALERs that connect; with CURVE or
 * plain. */
#ifndef REINFORCE_PROTO_ENDPOINT_H
#define REINFORCE_PROTO_ENDPOINT_H

#include "proto/keys.h"
#include "proto/wire.h"

enum { ENDPOINT_MAX_ADDRESSES = 8, ENDPOINT_MAX_ID = 255, ENDPOINT_MAX_MESSAGE = 1 << 16 };

/** Whether only this machine can reach what is bound there: inproc:, ipc:, tcp: to loopback. */
bool endpoint_is_local(const char *address);

/**
 * A ROUTER bound to `address`; `keys` NULL: plain. A worker that comes back under its name takes
 * its place at once.
 */
NODISCARD enum status endpoint_bind(void *zmq, const char *address, const struct keys *keys,
                                    void **socket, struct error *err);

/**
 * A DEALER named `id` (at most ENDPOINT_MAX_ID bytes) that is connected to those of the addresses
 * that are there, and comes back, with growing pauses, to those that are not. Messages go to
 * connected peers alone: with none, endpoint_send() says ST_FULL. `keys` NULL: plain; ST_INVALID
 * when they do not name the coordinator's.
 */
NODISCARD enum status endpoint_connect(void *zmq, const char *const *addresses, size_t n_addresses,
                                       const char *id, const struct keys *keys, void **socket,
                                       struct error *err);

/** To the coordinator. ST_FULL: nobody is there, or the queue is full; nothing was sent. */
NODISCARD enum status endpoint_send(void *socket, const struct wire_message *message,
                                    struct error *err);

/** From the coordinator. ST_FULL: nothing there now. ST_CORRUPT. */
NODISCARD enum status endpoint_receive(void *socket, struct wire_message *message,
                                       struct error *err);

#endif
