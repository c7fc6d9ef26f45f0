/* Secrets of settings: from the environment or files, never from a job file. */
#ifndef REINFORCE_BASE_SECRET_H
#define REINFORCE_BASE_SECRET_H

#include "reinforce/base/bytes.h"

/** True for names such as sasl.password and ssl.key.pem, whose values nobody may read. */
bool secret_is_name(const char *name);

/** What a setting's value stands for: "env:NAME" and "file:PATH" are read (one newline at the end
 * of a file is dropped), everything else is itself. Appends a NUL. ST_NOT_FOUND: no such variable
 * or file, by name. ST_INVALID: a secret that is written out. */
NODISCARD enum status secret_resolve(const char *name, const char *value, struct byte_buf *out,
                                     struct error *err);

#endif
