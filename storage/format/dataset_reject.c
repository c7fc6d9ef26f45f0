#include "storage/format/dataset_reject.h"

#include "reinforce/base/utf8.h"

#include <stdarg.h>

static void set_uid(struct dataset_reject *reject, struct bytes_view uid)
{
    size_t len = 0;

    for (size_t i = 0; i < uid.len;) {
        uint8_t bytes[4];
        size_t n = utf8_put(utf8_next(uid, &i), bytes);

        if (len + n >= sizeof reject->uid)
            break;
        if (n == 1 && (bytes[0] < 0x20 || bytes[0] == 0x7f))
            bytes[0] = '?';
        memcpy(reject->uid + len, bytes, n);
        len += n;
    }
    reject->uid[len] = '\0';
}

/* Input goes into details: it must not break log lines or a database's text columns. */
static void make_printable(char *text)
{
    struct bytes_view view = bytes_of_string(text);
    size_t i = 0;

    while (i < view.len) {
        size_t begin = i, len;

        (void)utf8_next(view, &i);
        len = i - begin;
        if (!utf8_is_valid(bytes_view_of(view.data + begin, len)) || view.data[begin] < 0x20 ||
            view.data[begin] == 0x7f)
            memset(text + begin, '?', len);
    }
}

enum status dataset_reject_set(struct dataset_reject *reject, struct bytes_view uid,
                               enum status code, const char *reason, const char *fmt, ...)
{
    va_list ap;

    set_uid(reject, uid);
    reject->code = code;
    (void)snprintf(reject->reason, sizeof reject->reason, "%s", reason);
    va_start(ap, fmt);
    (void)vsnprintf(reject->detail, sizeof reject->detail, fmt, ap);
    va_end(ap);
    make_printable(reject->detail);
    return ST_CORRUPT;
}

enum status dataset_reject_error(struct dataset_reject *reject, struct bytes_view uid,
                                 const char *reason, const struct error *err)
{
    if (err->code != ST_CORRUPT && err->code != ST_INVALID && err->code != ST_NOT_FOUND)
        return err->code;
    return dataset_reject_set(reject, uid, err->code, reason, "%s%s%s", err->context,
                              err->context[0] != '\0' ? ": " : "", err->message);
}

void dataset_lower(const char *text, char *out, size_t size)
{
    size_t i = 0;

    for (; text[i] != '\0' && i + 1 < size; i++)
        out[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
    out[i] = '\0';
}

bool dataset_is_image_ext(const char *ext)
{
    static const char *const known[] = {"jpg", "jpeg", "png", "webp", "gif"};
    char lower[8];

    dataset_lower(ext, lower, sizeof lower);
    for (size_t i = 0; i < ARRAY_LEN(known) && strlen(ext) < sizeof lower; i++)
        if (strcmp(lower, known[i]) == 0)
            return true;
    return false;
}
