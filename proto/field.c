#include "proto/field.h"

#include <string.h>

enum status field_take_text(const char *field, const char *from, char *to, size_t capacity,
                            struct error *err)
{
    size_t len = strlen(from);

    if (len >= capacity)
        return error_set(err, ST_CORRUPT, "%s has %zu bytes, at most %zu are allowed", field, len,
                         capacity - 1);
    memcpy(to, from, len + 1);
    return ST_OK;
}
