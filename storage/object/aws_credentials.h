/* As whom requests are signed, and from where that is known: a job's profile, the environment, a
 * web identity (a service account's token), ~/.aws, a container's or a machine's identity. */
#ifndef REINFORCE_STORAGE_AWS_CREDENTIALS_H
#define REINFORCE_STORAGE_AWS_CREDENTIALS_H

#include "storage/object/aws_profile.h"

#include <stdatomic.h>
#include <stdint.h>

/** A key for now. */
struct aws_key {
    char access_key[160];
    char secret_key[160];
    char token[4096];   /* of a session; "": none */
    int64_t expires_ms; /* since 1970; 0: never */
};

/** Where keys come from; keeps the last one and fetches the next before it expires. */
struct aws_credentials;

/**
 * `profile` is borrowed for the call. With `profile_first` its keys go before those of the
 * environment, as when a user has named it. Asks no server yet. ST_INVALID: a profile that would
 * have to be asked in a way we do not know (SSO, a role, a program), with what to do instead.
 * `stop` as in http.h.
 */
NODISCARD enum status aws_credentials_create(const struct aws_profile *profile, bool profile_first,
                                             const char *region, const atomic_bool *stop,
                                             struct aws_credentials **out, struct error *err);

/** A copy of the key to sign with now. ST_INVALID says where a key was looked for; ST_UNAVAILABLE,
 * ST_TIMEOUT of the servers that hand them out. Safe from several threads: one of them asks. */
NODISCARD enum status aws_credentials_get(struct aws_credentials *credentials, struct aws_key *out,
                                          struct error *err);

/** The server called this key expired: the next get() asks for another, where there may be one. */
void aws_credentials_forget(struct aws_credentials *credentials, const struct aws_key *key);

void aws_credentials_destroy(struct aws_credentials **credentials);

#endif
