#include "reinforce/base/secret.h"

#include "reinforce/base/file.h"

bool secret_is_name(const char *name)
{
    size_t len = strlen(name);

    return strstr(name, "password") != NULL || strstr(name, "secret") != NULL ||
           strcmp(name, "ssl.key.pem") == 0 || (len >= 6 && strcmp(name + len - 6, ".token") == 0);
}

static enum status read_file(const char *path, struct byte_buf *out, struct error *err)
{
    enum status st = file_read(path, out, err);

    if (st == ST_OK && out->len > 0 && out->data[out->len - 1] == '\n')
        out->len--;
    return st;
}

enum status secret_resolve(const char *name, const char *value, struct byte_buf *out,
                           struct error *err)
{
    enum status st;

    if (strncmp(value, "env:", 4) == 0) {
        const char *found = getenv(value + 4); /* NOLINT(concurrency-mt-unsafe): nobody sets any */

        st = found != NULL ? byte_buf_append_string(out, found, err)
                           : error_set(err, ST_NOT_FOUND, "environment variable \"%s\" is not set",
                                       value + 4);
    } else if (strncmp(value, "file:", 5) == 0) {
        st = read_file(value + 5, out, err);
    } else if (secret_is_name(name)) {
        return error_set(err, ST_INVALID,
                         "\"%s\" is a secret; write env:NAME or file:PATH and put it there", name);
    } else {
        st = byte_buf_append_string(out, value, err);
    }
    if (st == ST_OK)
        st = byte_buf_append(out, "", 1, err);
    if (st != ST_OK)
        error_add_context(err, "property %s", name);
    return st;
}
