#include "reinforce/job/job_value.h"

#include "reinforce/base/parse.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit byte_units[] = {{"TiB", (int64_t)1 << 40},
                                         {"GiB", (int64_t)1 << 30},
                                         {"MiB", (int64_t)1 << 20},
                                         {"KiB", (int64_t)1 << 10},
                                         {"B", 1}};
static const struct unit duration_units[] = {
    {"h", 3600000}, {"min", 60000}, {"s", 1000}, {"ms", 1}};

/* Fields have the width their use wants; the table says which. */
static void store_integer(const struct job_option *option, void *base, int64_t value)
{
    void *field = (char *)base + option->offset;

    assert(option->size == sizeof(int32_t) || option->size == sizeof(int64_t));
    if (option->size == sizeof(int32_t))
        memcpy(field, &(int32_t){(int32_t)value}, sizeof(int32_t));
    else
        memcpy(field, &value, sizeof value);
}

static int64_t load_integer(const struct job_option *option, const void *base)
{
    const void *field = (const char *)base + option->offset;
    int32_t narrow;
    int64_t wide;

    if (option->size == sizeof narrow) {
        memcpy(&narrow, field, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, field, sizeof wide);
    return wide;
}

static void store_text(const struct job_option *option, void *base, const char *text)
{
    memcpy((char *)base + option->offset, &text, sizeof text);
}

static const char *load_text(const struct job_option *option, const void *base)
{
    const char *text;

    memcpy(&text, (const char *)base + option->offset, sizeof text);
    return text;
}

static void format_quantity(int64_t value, const struct unit *units, char text[JOB_QUANTITY_LEN])
{
    while (units->factor > 1 && (value == 0 || value % units->factor != 0))
        units++;
    if (value == 0)
        (void)snprintf(text, JOB_QUANTITY_LEN, "0");
    else
        (void)snprintf(text, JOB_QUANTITY_LEN, "%" PRId64 "%s", value / units->factor, units->name);
}

void job_value_format_bytes(int64_t bytes, char text[JOB_QUANTITY_LEN])
{
    format_quantity(bytes, byte_units, text);
}

/* Hours and minutes are read, but seconds are what people compare. */
void job_value_format_duration(int64_t ms, char text[JOB_QUANTITY_LEN])
{
    format_quantity(ms, duration_units + 2, text);
}

/* A whole number and its unit; a bare 0 needs none. `units` goes from large to small. */
static enum status parse_quantity(const char *text, const struct unit *units, size_t n_units,
                                  const char *unit_list, int64_t *out, struct error *err)
{
    size_t n_digits = strspn(text, "0123456789");
    char digits[24];
    enum status st;

    *out = 0;
    if (n_digits == 0 || n_digits >= sizeof digits)
        return error_set(err, ST_INVALID, "\"%.60s\" is not a whole number with a unit (%s)", text,
                         unit_list);
    memcpy(digits, text, n_digits);
    digits[n_digits] = '\0';
    st = parse_i64(digits, 0, INT64_MAX, out, err);
    if (st != ST_OK || (*out == 0 && text[n_digits] == '\0'))
        return st;
    for (size_t i = 0; i < n_units; i++) {
        if (strcmp(text + n_digits, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(*out, units[i].factor, out))
            return error_set(err, ST_INVALID, "%.60s is too large", text);
        return ST_OK;
    }
    if (text[n_digits] == '\0')
        return error_set(err, ST_INVALID, "\"%s\" has no unit; write one of %s behind it", text,
                         unit_list);
    return error_set(err, ST_INVALID, "unit \"%.60s\" is not known; write one of %s",
                     text + n_digits, unit_list);
}

static enum status parse_bounded_quantity(const struct job_option *option, const char *text,
                                          void *base, struct error *err)
{
    bool bytes = option->type == JOB_OPTION_BYTES;
    char low[JOB_QUANTITY_LEN], high[JOB_QUANTITY_LEN];
    int64_t value;
    enum status st = bytes ? parse_quantity(text, byte_units, ARRAY_LEN(byte_units),
                                            "B, KiB, MiB, GiB, TiB", &value, err)
                           : parse_quantity(text, duration_units, ARRAY_LEN(duration_units),
                                            "ms, s, min, h", &value, err);

    if (st != ST_OK)
        return st;
    if (value < option->min || value > option->max) {
        (bytes ? job_value_format_bytes : job_value_format_duration)(option->min, low);
        (bytes ? job_value_format_bytes : job_value_format_duration)(option->max, high);
        return error_set(err, ST_INVALID, "%.60s is outside %s..%s", text, low, high);
    }
    store_integer(option, base, value);
    return ST_OK;
}

static enum status parse_text(const struct job_option *option, const char *text, void *base,
                              struct error *err)
{
    if (text[0] == '\0')
        return error_set(err, ST_INVALID, "is empty; leave the key out for the default");
    if (strlen(text) > JOB_TEXT_MAX)
        return error_set(err, ST_INVALID, "is %zu bytes long; the limit is %d", strlen(text),
                         (int)JOB_TEXT_MAX);
    for (const char *c = text; *c != '\0'; c++)
        if (((unsigned char)*c < 0x20 && !(*c == '\n' && option->max == JOB_TEXT_LINES)) ||
            *c == 0x7f)
            return error_set(err, ST_INVALID, "has a control character (code %d) in it", *c);
    /* Half a path would only fail much later, as a folder that does not exist. */
    if (strstr(text, "${") != NULL)
        return error_set(err, ST_INVALID,
                         "\"%.60s\": variables are not expanded in a job file; pass the value with "
                         "--set",
                         text);
    store_text(option, base, text);
    return ST_OK;
}

static enum status append_names(const struct job_option_name *names, struct byte_buf *out,
                                struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; names[i].name != NULL && st == ST_OK; i++)
        st = byte_buf_printf(out, err, "%s%s",
                             i == 0                      ? ""
                             : names[i + 1].name == NULL ? " or "
                                                         : ", ",
                             names[i].name);
    return st;
}

static enum status refuse_name(const struct job_option *option, const char *text, struct error *err)
{
    const char *nearest = job_nearest_name(option->names, text), *list;
    struct byte_buf buf;

    byte_buf_init(&buf, 512);
    if (append_names(option->names, &buf, err) == ST_OK &&
        byte_buf_c_str(&buf, &list, err) == ST_OK)
        (void)error_set(err, ST_INVALID, "\"%.60s\" is not %s%s%s%s", text, list,
                        nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                        nearest != NULL ? "\"?" : "");
    byte_buf_release(&buf);
    return err->code;
}

static enum status parse_name(const struct job_option *option, const char *text, void *base,
                              struct error *err)
{
    for (const struct job_option_name *name = option->names; name->name != NULL; name++) {
        if (strcmp(name->name, text) != 0)
            continue;
        if (option->type == JOB_OPTION_CHOICE)
            store_text(option, base, name->name);
        else
            store_integer(option, base, name->value);
        return ST_OK;
    }
    return refuse_name(option, text, err);
}

static enum status parse_bool(const struct job_option *option, const char *text, void *base,
                              struct error *err)
{
    bool value = strcmp(text, "true") == 0;

    if (!value && strcmp(text, "false") != 0)
        return error_set(err, ST_INVALID, "\"%.60s\" is neither true nor false", text);
    memcpy((char *)base + option->offset, &value, sizeof value);
    return ST_OK;
}

static enum status parse_real(const struct job_option *option, const char *text, void *base,
                              struct error *err)
{
    double value;
    enum status st;

    if (text[strspn(text, "+-.0123456789eE")] != '\0') /* strtod also reads hexadecimal */
        return error_set(err, ST_INVALID, "\"%.60s\" is not a number", text);
    st = parse_f64(text, option->real_min, option->real_max, &value, err);
    if (st == ST_OK)
        memcpy((char *)base + option->offset, &value, sizeof value);
    return st;
}

static enum status parse_integer(const struct job_option *option, const char *text, void *base,
                                 struct error *err)
{
    int64_t value;
    enum status st = parse_i64(text, option->min, option->max, &value, err);

    if (st == ST_OK)
        store_integer(option, base, value);
    return st;
}

static enum status parse_scalar(const struct job_option *option, const char *text, void *base,
                                struct error *err)
{
    switch (option->type) {
    case JOB_OPTION_TEXT:
        return parse_text(option, text, base, err);
    case JOB_OPTION_CHOICE:
    case JOB_OPTION_ENUM:
        return parse_name(option, text, base, err);
    case JOB_OPTION_BOOL:
        return parse_bool(option, text, base, err);
    case JOB_OPTION_INT:
        return parse_integer(option, text, base, err);
    case JOB_OPTION_REAL:
        return parse_real(option, text, base, err);
    case JOB_OPTION_BYTES:
    case JOB_OPTION_DURATION:
        return parse_bounded_quantity(option, text, base, err);
    case JOB_OPTION_NODE:
        break;
    }
    return error_set(err, ST_INTERNAL, "unknown option type %d", (int)option->type);
}

enum status job_value_parse(const struct job_option *option, const struct yaml_tree *node,
                            void *base, struct error *err)
{
    bool words = option->type == JOB_OPTION_TEXT || option->type == JOB_OPTION_CHOICE ||
                 option->type == JOB_OPTION_ENUM || option->type == JOB_OPTION_BYTES ||
                 option->type == JOB_OPTION_DURATION;

    if (option->type == JOB_OPTION_NODE)
        return ST_OK;
    if (node->kind != YAML_TREE_SCALAR)
        return error_set(err, ST_INVALID, "is a %s where one value is expected",
                         node->kind == YAML_TREE_LIST ? "list" : "map");
    if (node->quoted && !words)
        return error_set(err, ST_INVALID, "\"%.60s\" is text because of its quotes; write it bare",
                         node->text);
    return parse_scalar(option, node->text, base, err);
}

void job_value_set_default(const struct job_option *option, void *base)
{
    struct error err;

    if (option->default_text == NULL || option->type == JOB_OPTION_NODE)
        return;
    if (option->default_text[0] == '\0' && option->type == JOB_OPTION_REAL) {
        memcpy((char *)base + option->offset, &(double){(double)NAN}, sizeof(double));
    } else if (option->default_text[0] == '\0') {
        store_text(option, base, NULL);
    } else {
        enum status st = parse_scalar(option, option->default_text, base, &err);

        assert(st == ST_OK); /* a default outside its own range is our bug */
        (void)st;
    }
}

json_t *job_value_to_json(const struct job_option *option, const void *base)
{
    char quantity[JOB_QUANTITY_LEN];
    const char *text;
    double real;
    bool flag;

    switch (option->type) {
    case JOB_OPTION_TEXT:
    case JOB_OPTION_CHOICE:
        text = load_text(option, base);
        return text != NULL ? json_string(text) : json_null();
    case JOB_OPTION_ENUM:
        for (const struct job_option_name *name = option->names; name->name != NULL; name++)
            if (name->value == load_integer(option, base))
                return json_string(name->name);
        return NULL;
    case JOB_OPTION_BOOL:
        memcpy(&flag, (const char *)base + option->offset, sizeof flag);
        return json_boolean(flag);
    case JOB_OPTION_INT:
        return json_integer(load_integer(option, base));
    case JOB_OPTION_REAL:
        memcpy(&real, (const char *)base + option->offset, sizeof real);
        return json_real(real);
    case JOB_OPTION_BYTES:
        job_value_format_bytes(load_integer(option, base), quantity);
        return json_string(quantity);
    case JOB_OPTION_DURATION:
        job_value_format_duration(load_integer(option, base), quantity);
        return json_string(quantity);
    case JOB_OPTION_NODE:
        break;
    }
    return NULL;
}

enum status job_value_describe(const struct job_option *option, struct byte_buf *out,
                               struct error *err)
{
    char low[JOB_QUANTITY_LEN], high[JOB_QUANTITY_LEN];

    switch (option->type) {
    case JOB_OPTION_TEXT:
        return byte_buf_append_string(out, "text", err);
    case JOB_OPTION_CHOICE:
    case JOB_OPTION_ENUM:
        return append_names(option->names, out, err);
    case JOB_OPTION_BOOL:
        return byte_buf_append_string(out, "true or false", err);
    case JOB_OPTION_INT:
        if (option->max == INT64_MAX)
            return byte_buf_printf(out, err, "integer, %" PRId64 " to 2^63 - 1", option->min);
        return byte_buf_printf(out, err, "integer, %" PRId64 " to %" PRId64, option->min,
                               option->max);
    case JOB_OPTION_REAL:
        return byte_buf_printf(out, err, "number, %g to %g", option->real_min, option->real_max);
    case JOB_OPTION_BYTES:
        job_value_format_bytes(option->min, low);
        job_value_format_bytes(option->max, high);
        return byte_buf_printf(out, err, "bytes, %s to %s", low, high);
    case JOB_OPTION_DURATION:
        job_value_format_duration(option->min, low);
        job_value_format_duration(option->max, high);
        return byte_buf_printf(out, err, "duration, %s to %s", low, high);
    case JOB_OPTION_NODE:
        return byte_buf_append_string(out, option->max > 0 ? "list of rules" : "map", err);
    }
    return error_set(err, ST_INTERNAL, "unknown option type %d", (int)option->type);
}
