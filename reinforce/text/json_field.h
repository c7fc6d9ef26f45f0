/* Typed members of a JSON object, with the reason when one is wrong. */
#ifndef REINFORCE_TEXT_JSON_FIELD_H
#define REINFORCE_TEXT_JSON_FIELD_H

#include "reinforce/base/json.h"

/** Each reads member `key` of `object` (ST_CORRUPT when `object` is none). Absent or null gives the
 * default, another type is ST_CORRUPT. */
NODISCARD enum status json_field_bool(const json_t *object, const char *key, bool otherwise,
                                      bool *out, struct error *err);
NODISCARD enum status json_field_int(const json_t *object, const char *key, int64_t min,
                                     int64_t max, int64_t otherwise, int64_t *out,
                                     struct error *err);

/** Absent or null gives an empty view with data NULL, unless `required`. Lives as long as `object`.
 */
NODISCARD enum status json_field_string(const json_t *object, const char *key, bool required,
                                        struct bytes_view *out, struct error *err);

/** A member that must be an array. */
NODISCARD enum status json_field_array(const json_t *object, const char *key, const json_t **out,
                                       struct error *err);

/** The "type" of a part; ST_CORRUPT when it has none. */
NODISCARD enum status json_field_type(const json_t *object, const char **out, struct error *err);

/** {"String": s} or {"Regex": s}, as Split and Replace have it. */
NODISCARD enum status json_field_pattern(const json_t *object, struct bytes_view *pattern,
                                         bool *literal, struct error *err);

static inline struct bytes_view json_view(const json_t *string)
{
    return bytes_view_of(json_string_value(string), json_string_length(string));
}

#endif
