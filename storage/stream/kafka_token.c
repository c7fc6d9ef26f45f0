#include "storage/stream/kafka_token.h"

#include "reinforce/base/bytes.h"
#include "reinforce/base/json.h"
#include "storage/format/base64.h"

#include <stdio.h>

enum { TOKEN_MAX_BYTES = 64 << 10 };

/* URL-safe base64 without padding (RFC 7515) to what base64_decode() takes. */
static enum status decode_part(const char *part, size_t len, struct byte_buf *out,
                               struct error *err)
{
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, TOKEN_MAX_BYTES);
    st = byte_buf_append(&text, part, len, err);
    for (size_t i = 0; i < text.len && st == ST_OK; i++)
        text.data[i] = text.data[i] == '-' ? '+' : text.data[i] == '_' ? '/' : text.data[i];
    while (st == ST_OK && text.len % 4 != 0)
        st = byte_buf_append(&text, "=", 1, err);
    if (st == ST_OK)
        st = base64_decode(byte_buf_view(&text), out, err);
    byte_buf_release(&text);
    return st;
}

static enum status read_claims(const json_t *claims, struct kafka_token *out, struct error *err)
{
    const char *subject = json_string_value(json_object_get(claims, "sub"));
    const json_t *expires = json_object_get(claims, "exp");

    if (subject == NULL || strlen(subject) >= sizeof out->principal)
        return error_set(err, ST_CORRUPT, "the token has no claim \"sub\"");
    if (!json_is_number(expires) || !(json_number_value(expires) > 0) ||
        !(json_number_value(expires) < 1e12))
        return error_set(err, ST_CORRUPT, "the token has no claim \"exp\"");
    (void)snprintf(out->principal, sizeof out->principal, "%s", subject);
    out->expires_ms = (int64_t)(json_number_value(expires) * 1000);
    return ST_OK;
}

enum status kafka_token_read(const char *token, struct kafka_token *out, struct error *err)
{
    const char *dot = strchr(token, '.'), *end = dot != NULL ? strchr(dot + 1, '.') : NULL;
    struct byte_buf body;
    json_t *claims = NULL;
    enum status st;

    if (end == NULL)
        return error_set(err, ST_CORRUPT, "the token is no JWT: three parts joined by \".\"");
    byte_buf_init(&body, TOKEN_MAX_BYTES);
    st = decode_part(dot + 1, (size_t)(end - dot - 1), &body, err);
    if (st == ST_OK)
        st = json_parse(byte_buf_view(&body), &claims, err);
    if (st == ST_OK)
        st = read_claims(claims, out, err);
    json_decref(claims);
    byte_buf_release(&body);
    return st;
}
