#include "reinforce/text/json_field.h"

static enum status get(const json_t *object, const char *key, const json_t **out, struct error *err)
{
    *out = NULL;
    if (!json_is_object(object))
        return error_set(err, ST_CORRUPT, "not an object where \"%s\" is looked for", key);
    *out = json_object_get(object, key);
    if (json_is_null(*out))
        *out = NULL;
    return ST_OK;
}

enum status json_field_bool(const json_t *object, const char *key, bool otherwise, bool *out,
                            struct error *err)
{
    const json_t *value;
    enum status st = get(object, key, &value, err);

    *out = otherwise;
    if (st != ST_OK || value == NULL)
        return st;
    if (!json_is_boolean(value))
        return error_set(err, ST_CORRUPT, "\"%s\" is not a boolean", key);
    *out = json_is_true(value);
    return ST_OK;
}

enum status json_field_int(const json_t *object, const char *key, int64_t min, int64_t max,
                           int64_t otherwise, int64_t *out, struct error *err)
{
    const json_t *value;
    enum status st = get(object, key, &value, err);

    *out = otherwise;
    if (st != ST_OK || value == NULL)
        return st;
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max)
        return error_set(err, ST_CORRUPT, "\"%s\" is not an integer from %lld to %lld", key,
                         (long long)min, (long long)max);
    *out = json_integer_value(value);
    return ST_OK;
}

enum status json_field_string(const json_t *object, const char *key, bool required,
                              struct bytes_view *out, struct error *err)
{
    const json_t *value;
    enum status st = get(object, key, &value, err);

    *out = bytes_view_of(NULL, 0);
    if (st != ST_OK || (value == NULL && !required))
        return st;
    if (!json_is_string(value))
        return error_set(err, ST_CORRUPT, "\"%s\" is not a string", key);
    *out = json_view(value);
    return ST_OK;
}

enum status json_field_array(const json_t *object, const char *key, const json_t **out,
                             struct error *err)
{
    enum status st = get(object, key, out, err);

    if (st == ST_OK && !json_is_array(*out))
        st = error_set(err, ST_CORRUPT, "\"%s\" is not an array", key);
    return st;
}

enum status json_field_type(const json_t *object, const char **out, struct error *err)
{
    *out = json_string_value(json_object_get(object, "type"));
    return *out != NULL ? ST_OK : error_set(err, ST_CORRUPT, "a part has no \"type\"");
}

enum status json_field_pattern(const json_t *object, struct bytes_view *pattern, bool *literal,
                               struct error *err)
{
    const json_t *value;
    enum status st = get(object, "pattern", &value, err);

    *literal = json_object_get(value, "String") != NULL;
    if (st == ST_OK && json_object_size(value) != 1)
        st = error_set(err, ST_CORRUPT, "\"pattern\" is not {\"String\": ...} or {\"Regex\": ...}");
    return st == ST_OK ? json_field_string(value, *literal ? "String" : "Regex", true, pattern, err)
                       : st;
}
