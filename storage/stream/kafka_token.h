/* Bearer tokens: what OAUTHBEARER must say of one. */
#ifndef REINFORCE_STORAGE_KAFKA_TOKEN_H
#define REINFORCE_STORAGE_KAFKA_TOKEN_H

#include "reinforce/base/error.h"

#include <stdint.h>

struct kafka_token {
    char principal[256]; /* the token's subject */
    int64_t expires_ms;  /* wall clock */
};

/** Reads the claims of a JWT, whose signature is the broker's business. ST_CORRUPT. */
NODISCARD enum status kafka_token_read(const char *token, struct kafka_token *out,
                                       struct error *err);

#endif
