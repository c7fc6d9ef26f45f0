/* Secrets of a stream's properties: from the environment or files, never from the job file. */
#ifndef REINFORCE_STORAGE_KAFKA_SECRET_H
#define REINFORCE_STORAGE_KAFKA_SECRET_H

#include "reinforce/base/bytes.h"

/** True for names such as sasl.password and ssl.key.pem, whose values nobody may read. */
bool kafka_secret_is(const char *name);

/** What a property's value stands for: "env:NAME" and "file:PATH" are read (one newline at the end
 * of a file is dropped), everything else is itself. Appends a NUL. ST_NOT_FOUND: no such variable
 * or file, by name. ST_INVALID: a secret that is written out. */
NODISCARD enum status kafka_secret_resolve(const char *name, const char *value,
                                           struct byte_buf *out, struct error *err);

/** What OAUTHBEARER must say of a token: its subject and when it ends. */
struct kafka_token {
    char principal[256];
    int64_t expires_ms; /* wall clock */
};

/** Reads the claims of a JWT, whose signature is the broker's business. ST_CORRUPT. */
NODISCARD enum status kafka_token_read(const char *token, struct kafka_token *out,
                                       struct error *err);

#endif
