/* Who may come in: answers libzmq's questions about CURVE clients (ZeroMQ RFC 27, ZAP) from an
 * allow-list, on a thread of its own. One per ZeroMQ context. */
#ifndef REINFORCE_PROTO_DOOR_H
#define REINFORCE_PROTO_DOOR_H

#include "reinforce/base/error.h"

struct door;

/** Starts the thread; make sockets after it. The list is read again when its file changes; who is
 * in already stays until the connection ends. */
NODISCARD enum status door_open(void *zmq, const char *allow_path, struct door **out,
                                struct error *err);
void door_close(struct door **door);

#endif
