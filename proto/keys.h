/*
 * CURVE keys in files, as text.
 *
 *   NAME.key, mode 0600        NAME.pub
 *   # a comment                PUBLIC NAME
 *   public PUBLIC
 *   secret SECRET
 *   server PUBLIC              of the coordinator; in keys of workers
 *
 * Keys are 40 characters of Z85 (ZeroMQ RFC 32). An allow-list is .pub files one behind the other.
 */
#ifndef REINFORCE_PROTO_KEYS_H
#define REINFORCE_PROTO_KEYS_H

#include "reinforce/base/error.h"

#include <stddef.h>

enum { KEYS_TEXT_LEN = 40 };

struct keys {
    char public_key[KEYS_TEXT_LEN + 1];
    char secret_key[KEYS_TEXT_LEN + 1];
    char server_key[KEYS_TEXT_LEN + 1]; /* "" when the file has none */
};

/**
 * Makes a new pair: `path`.key and `path`.pub. `server_path`, which may be NULL, is the .pub file
 * of the coordinator that this worker will speak to. ST_CONFLICT: there is such a file already; it
 * is left as it is.
 */
NODISCARD enum status keys_create(const char *path, const char *server_path, struct error *err);

/** Makes a fleet's first keys in folder `dir`, which may be new: those of "coordinator" and of
 * "worker", and "allow", a list with the worker in it. ST_CONFLICT: they are there. */
NODISCARD enum status keys_create_fleet(const char *dir, struct error *err);

/** Makes one more worker's keys there, and adds it to the list. */
NODISCARD enum status keys_add_worker(const char *dir, const char *name, struct error *err);

/** Reads a .key file. ST_INVALID: not such a file, or others than its owner may read it. */
NODISCARD enum status keys_read(const char *path, struct keys *keys, struct error *err);

/** Public keys that may speak to a coordinator, read again when their file changes. */
struct keys_allowed {
    char path[1024];
    char (*list)[KEYS_TEXT_LEN + 1]; /* [n], sorted */
    size_t n;
    long long changed_ns, bytes; /* of the file that was read */
};

NODISCARD enum status keys_allowed_open(const char *path, struct keys_allowed *allowed,
                                        struct error *err);
void keys_allowed_release(struct keys_allowed *allowed);

/** Whether `public_key` stands in the file. A file that has become unreadable counts as it was. */
bool keys_allowed_has(struct keys_allowed *allowed, const char *public_key);

#endif
