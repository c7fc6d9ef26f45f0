/* Fields that every schema has. Private to proto. */
#ifndef REINFORCE_PROTO_FIELD_H
#define REINFORCE_PROTO_FIELD_H

#include "reinforce/base/error.h"

#include <stddef.h>

/** Copies a text that somebody sent, and its NUL, to `to` [capacity]. ST_CORRUPT names the field:
 * it is longer than there is room. */
NODISCARD enum status field_take_text(const char *field, const char *from, char *to,
                                      size_t capacity, struct error *err);

#endif
