#include "storage/object/sigv4.h"

#include <openssl/hmac.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

enum { MAC_BYTES = 32, MAX_REQUEST = 64 << 10, DAY_LEN = 8 };

/* Pairs in canonical order. */
struct order {
    size_t index[SIGV4_MAX_PAIRS];
};

void sigv4_date(int64_t wall_ms, char date[SIGV4_DATE_LEN + 1])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;

    (void)gmtime_r(&seconds, &utc);
    (void)strftime(date, SIGV4_DATE_LEN + 1, "%Y%m%dT%H%M%SZ", &utc);
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

enum status sigv4_encode(const char *text, bool is_path, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (; *text != '\0' && st == ST_OK; text++) {
        if (is_unreserved(*text) || (is_path && *text == '/'))
            st = byte_buf_append(out, text, 1, err);
        else
            st = byte_buf_printf(out, err, "%%%02X", (unsigned)(unsigned char)*text);
    }
    return st;
}

/* By insertion: there are a handful. */
static enum status sort(const struct http_header *pairs, size_t n,
                        int (*compare)(const struct http_header *, const struct http_header *),
                        struct order *order, struct error *err)
{
    if (n > SIGV4_MAX_PAIRS)
        return error_set(err, ST_INVALID, "cannot sign more than %d headers or parameters",
                         (int)SIGV4_MAX_PAIRS);
    for (size_t i = 0; i < n; i++) {
        size_t at = i;

        for (; at > 0 && compare(&pairs[order->index[at - 1]], &pairs[i]) > 0; at--)
            order->index[at] = order->index[at - 1];
        order->index[at] = i;
    }
    return ST_OK;
}

/* As their encoded forms compare: what is encoded begins with "%", below every other character. */
static int compare_encoded(const char *a, const char *b)
{
    while (*a == *b && *a != '\0') {
        a++;
        b++;
    }
    if (*a == '\0' || *b == '\0' || is_unreserved(*a) == is_unreserved(*b))
        return (unsigned char)*a - (unsigned char)*b;
    return is_unreserved(*a) ? 1 : -1;
}

static int compare_parameters(const struct http_header *a, const struct http_header *b)
{
    int by_name = compare_encoded(a->name, b->name);

    return by_name != 0 ? by_name : compare_encoded(a->value, b->value);
}

static int compare_headers(const struct http_header *a, const struct http_header *b)
{
    return strcasecmp(a->name, b->name);
}

enum status sigv4_query(const struct http_header *query, size_t n, struct byte_buf *out,
                        struct error *err)
{
    struct order order;
    enum status st = sort(query, n, compare_parameters, &order, err);

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        const struct http_header *pair = &query[order.index[i]];

        st = byte_buf_append_string(out, i > 0 ? "&" : "", err);
        if (st == ST_OK)
            st = sigv4_encode(pair->name, false, out, err);
        if (st == ST_OK)
            st = byte_buf_append_string(out, "=", err);
        if (st == ST_OK)
            st = sigv4_encode(pair->value, false, out, err);
    }
    return st;
}

static enum status append_lower(struct byte_buf *out, const char *name, struct error *err)
{
    enum status st = ST_OK;

    for (; *name != '\0' && st == ST_OK; name++) {
        char c = *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;

        st = byte_buf_append(out, &c, 1, err);
    }
    return st;
}

/* Without blanks at the ends, a run of them inside as one. */
static enum status append_trimmed(struct byte_buf *out, const char *value, struct error *err)
{
    enum status st = ST_OK;

    for (value += strspn(value, " "); *value != '\0' && st == ST_OK;) {
        size_t word = strcspn(value, " ");

        st = byte_buf_append(out, value, word, err);
        value += word;
        value += strspn(value, " ");
        if (*value != '\0' && st == ST_OK)
            st = byte_buf_append_string(out, " ", err);
    }
    return st;
}

static enum status append_names(const struct sigv4_request *request, const struct order *order,
                                struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < request->n_headers && st == ST_OK; i++) {
        st = byte_buf_append_string(out, i > 0 ? ";" : "", err);
        if (st == ST_OK)
            st = append_lower(out, request->headers[order->index[i]].name, err);
    }
    return st;
}

static enum status append_canonical(const struct sigv4_request *request, const struct order *order,
                                    struct byte_buf *out, struct error *err)
{
    enum status st = byte_buf_printf(out, err, "%s\n", request->method);

    if (st == ST_OK)
        st = sigv4_encode(request->path, true, out, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "\n", err);
    if (st == ST_OK)
        st = sigv4_query(request->query, request->n_query, out, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "\n", err);
    for (size_t i = 0; i < request->n_headers && st == ST_OK; i++) {
        const struct http_header *header = &request->headers[order->index[i]];

        st = append_lower(out, header->name, err);
        if (st == ST_OK)
            st = byte_buf_append_string(out, ":", err);
        if (st == ST_OK)
            st = append_trimmed(out, header->value, err);
        if (st == ST_OK)
            st = byte_buf_append_string(out, "\n", err);
    }
    if (st == ST_OK)
        st = byte_buf_append_string(out, "\n", err);
    if (st == ST_OK)
        st = append_names(request, order, out, err);
    return st == ST_OK ? byte_buf_printf(out, err, "\n%s", request->body_sha256) : st;
}

static bool mac(const uint8_t *key, size_t key_len, const char *text, uint8_t out[MAC_BYTES])
{
    unsigned len = 0;
    uint8_t result[EVP_MAX_MD_SIZE];
    bool ok = HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)text, strlen(text), result,
                   &len) != NULL;

    if (ok)
        memcpy(out, result, MAC_BYTES);
    return ok && len == MAC_BYTES;
}

/* HMAC of `text` under the day's key, in hex. */
static enum status signature(const struct sigv4_scope *scope, const char *day, const char *text,
                             char hex[2 * MAC_BYTES + 1], struct error *err)
{
    struct byte_buf secret;
    uint8_t key[MAC_BYTES];
    enum status st;

    byte_buf_init(&secret, MAX_REQUEST);
    st = byte_buf_printf(&secret, err, "AWS4%s", scope->secret_key);
    if (st == ST_OK &&
        !(mac(secret.data, secret.len, day, key) && mac(key, MAC_BYTES, scope->region, key) &&
          mac(key, MAC_BYTES, scope->service, key) && mac(key, MAC_BYTES, "aws4_request", key) &&
          mac(key, MAC_BYTES, text, key)))
        st = error_set(err, ST_INTERNAL, "libcrypto could not sign");
    for (size_t i = 0; i < MAC_BYTES && st == ST_OK; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", key[i]);
    byte_buf_release(&secret);
    return st;
}

enum status sigv4_sign(const struct sigv4_scope *scope, const struct sigv4_request *request,
                       struct byte_buf *out, struct error *err)
{
    struct byte_buf text;
    struct order order;
    char day[DAY_LEN + 1], hash[SHA256_HEX_LEN + 1], hex[2 * MAC_BYTES + 1];
    const char *to_sign;
    enum status st;

    (void)snprintf(day, sizeof day, "%s", request->date);
    byte_buf_init(&text, MAX_REQUEST);
    st = sort(request->headers, request->n_headers, compare_headers, &order, err);
    if (st == ST_OK)
        st = append_canonical(request, &order, &text, err);
    if (st != ST_OK)
        goto out;
    sha256_of(byte_buf_view(&text), hash);
    byte_buf_reset(&text);
    st = byte_buf_printf(&text, err, "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%s",
                         request->date, day, scope->region, scope->service, hash);
    if (st == ST_OK)
        st = byte_buf_c_str(&text, &to_sign, err);
    if (st == ST_OK)
        st = signature(scope, day, to_sign, hex, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err,
                             "AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=",
                             scope->access_key, day, scope->region, scope->service);
    if (st == ST_OK)
        st = append_names(request, &order, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, ", Signature=%s", hex);
out:
    byte_buf_release(&text);
    return st;
}
