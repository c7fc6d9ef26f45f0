#include "storage/object/s3_answer.h"

#include "reinforce/base/parse.h"
#include "storage/object/s3_xml.h"

#include <ctype.h>
#include <stdio.h>

/* What a reading gathers; each answer uses some of it. */
struct gathering {
    struct arena *arena;
    bool seen; /* the root was the one we asked for */
    bool encoded;
    struct s3_list_page *list;
    struct s3_entry entry;
    struct s3_uploads_page *uploads;
    struct s3_upload upload;
    int64_t newest_ms;
    char *id;
    char etag[80];
    struct s3_error error;
};

static bool ends(const char *path, const char *end)
{
    size_t len = strlen(path), n = strlen(end);

    return len >= n && strcmp(path + len - n, end) == 0;
}

static void cut(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text);
}

static void keep_etag(const char *text, char etag[80])
{
    size_t len = strlen(text);
    bool quoted = len >= 2 && text[0] == '"' && text[len - 1] == '"';

    (void)snprintf(etag, 80, "%.*s", (int)(quoted ? len - 2 : len), quoted ? text + 1 : text);
}

static enum status on_error(struct gathering *g, const char *path, const char *text)
{
    if (strcmp(path, "Error/Code") == 0)
        cut(g->error.code, sizeof g->error.code, text);
    else if (strcmp(path, "Error/Message") == 0)
        cut(g->error.message, sizeof g->error.message, text);
    else if (strcmp(path, "Error/Region") == 0)
        cut(g->error.region, sizeof g->error.region, text);
    return ST_OK;
}

static enum status each_error(void *ctx, const char *path, const char *text, struct error *err)
{
    (void)err;
    return on_error(ctx, path, text);
}

void s3_answer_error(struct bytes_view xml, struct s3_error *out)
{
    struct gathering g = {.seen = false};
    struct error ignored;

    enum status st = s3_xml_read(xml, each_error, &g, &ignored);

    (void)st; /* an answer that was cut short has said its code first */
    *out = g.error;
    for (char *c = out->message; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c))
            *c = ' ';
}

static int digits(const char *text, size_t n)
{
    int value = 0;

    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

/* Days since 1970 of a date of the Gregorian calendar, by counting 400-year eras from March on. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year, era = y / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

enum status s3_answer_time(const char *text, int64_t *ms, struct error *err)
{
    int year, month, day, hour, minute, second, thousandth = 0;
    bool shaped = strlen(text) >= 20 && text[4] == '-' && text[7] == '-' && text[10] == 'T' &&
                  text[13] == ':' && text[16] == ':' &&
                  (text[19] == 'Z' || (text[19] == '.' && strlen(text) >= 24));

    if (!shaped)
        return error_set(err, ST_CORRUPT, "\"%.40s\" is no time", text);
    year = digits(text, 4);
    month = digits(text + 5, 2);
    day = digits(text + 8, 2);
    hour = digits(text + 11, 2);
    minute = digits(text + 14, 2);
    second = digits(text + 17, 2);
    if (text[19] == '.')
        thousandth = digits(text + 20, 3);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 60 || thousandth < 0)
        return error_set(err, ST_CORRUPT, "\"%.40s\" is no time", text);
    *ms = ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60000 + second * 1000 +
          thousandth;
    return ST_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "%2F" and "+", in place: what encoding-type=url does to keys, so that XML can carry any. */
static enum status decode(char *text, struct error *err)
{
    char *to = text;

    for (const char *from = text; *from != '\0'; to++) {
        if (*from == '%') {
            int high = hex_digit(from[1]), low = high >= 0 ? hex_digit(from[2]) : -1;

            if (low < 0 || high + low == 0)
                return error_set(err, ST_CORRUPT, "\"%.60s\" is no encoded key", text);
            *to = (char)(high << 4 | low);
            from += 3;
        } else {
            *to = *from == '+' ? ' ' : *from;
            from++;
        }
    }
    *to = '\0';
    return ST_OK;
}

static enum status copy(struct gathering *g, const char *text, char **out, struct error *err)
{
    return arena_strndup(g->arena, text, strlen(text), out, err);
}

/* Makes room for one more in an array of the arena: [n] of `size` bytes. */
static enum status grow(struct arena *arena, void *array, size_t n, size_t *capacity, size_t size,
                        struct error *err)
{
    size_t bigger = MAX(*capacity * 2, (size_t)64);
    void *grown, *old;
    enum status st;

    if (n < *capacity)
        return ST_OK;
    st = arena_calloc(arena, bigger, size, &grown, err);
    if (st != ST_OK)
        return st;
    memcpy(&old, array, sizeof old);
    if (n > 0)
        memcpy(grown, old, n * size);
    memcpy(array, &grown, sizeof grown);
    *capacity = bigger;
    return ST_OK;
}

static enum status each_entry(void *ctx, const char *path, const char *text, struct error *err)
{
    struct gathering *g = ctx;
    struct s3_list_page *page = g->list;
    char etag[80], *copied;
    int64_t size;
    enum status st = ST_OK;

    if (strcmp(path, "ListBucketResult/Contents/Key") == 0) {
        st = copy(g, text, &g->entry.key, err);
    } else if (strcmp(path, "ListBucketResult/Contents/ETag") == 0) {
        keep_etag(text, etag);
        st = copy(g, etag, &copied, err);
        g->entry.etag = st == ST_OK ? copied : "";
    } else if (strcmp(path, "ListBucketResult/Contents/Size") == 0) {
        if (parse_i64(text, 0, INT64_MAX, &size, err) != ST_OK)
            return error_set(err, ST_CORRUPT, "\"%.40s\" is no size", text);
        g->entry.bytes = (uint64_t)size;
    } else if (strcmp(path, "ListBucketResult/Contents") == 0) {
        st = g->entry.key == NULL ? error_set(err, ST_CORRUPT, "an object without a key")
                                  : grow(g->arena, &page->entries, page->n_entries, &page->capacity,
                                         sizeof *page->entries, err);
        if (st == ST_OK)
            page->entries[page->n_entries++] = g->entry;
        g->entry = (struct s3_entry){.etag = ""};
    } else if (strcmp(path, "ListBucketResult/IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0) {
        st = copy(g, text, &page->token, err);
    } else if (strcmp(path, "ListBucketResult/EncodingType") == 0) {
        g->encoded = strcmp(text, "url") == 0;
    } else if (strcmp(path, "ListBucketResult") == 0) {
        g->seen = true;
    }
    return st;
}

enum status s3_answer_list(struct bytes_view xml, struct arena *arena, struct s3_list_page *page,
                           struct error *err)
{
    struct gathering g = {.arena = arena, .list = page, .entry = {.etag = ""}};
    enum status st;

    *page = (struct s3_list_page){0};
    st = s3_xml_read(xml, each_entry, &g, err);
    if (st == ST_OK && !g.seen)
        st = error_set(err, ST_CORRUPT, "the answer is no listing");
    for (size_t i = 0; i < page->n_entries && g.encoded && st == ST_OK; i++)
        st = decode(page->entries[i].key, err);
    if (st == ST_OK && page->truncated && page->token == NULL)
        st = error_set(err, ST_CORRUPT, "a listing is cut off and does not say where");
    return st;
}

static enum status each_upload(void *ctx, const char *path, const char *text, struct error *err)
{
    struct gathering *g = ctx;
    struct s3_uploads_page *page = g->uploads;
    enum status st = ST_OK;

    if (strcmp(path, "ListMultipartUploadsResult/Upload/Key") == 0) {
        st = copy(g, text, &g->upload.key, err);
    } else if (strcmp(path, "ListMultipartUploadsResult/Upload/UploadId") == 0) {
        st = copy(g, text, &g->upload.id, err);
    } else if (strcmp(path, "ListMultipartUploadsResult/Upload/Initiated") == 0) {
        st = s3_answer_time(text, &g->upload.initiated_ms, err);
    } else if (strcmp(path, "ListMultipartUploadsResult/Upload") == 0) {
        st = g->upload.key == NULL || g->upload.id == NULL
                 ? error_set(err, ST_CORRUPT, "an upload without key or id")
                 : grow(g->arena, &page->uploads, page->n_uploads, &page->capacity,
                        sizeof *page->uploads, err);
        if (st == ST_OK)
            page->uploads[page->n_uploads++] = g->upload;
        g->upload = (struct s3_upload){0};
    } else if (strcmp(path, "ListMultipartUploadsResult/IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "ListMultipartUploadsResult/NextKeyMarker") == 0) {
        st = copy(g, text, &page->next_key, err);
    } else if (strcmp(path, "ListMultipartUploadsResult/NextUploadIdMarker") == 0) {
        st = copy(g, text, &page->next_id, err);
    } else if (strcmp(path, "ListMultipartUploadsResult/EncodingType") == 0) {
        g->encoded = strcmp(text, "url") == 0;
    } else if (strcmp(path, "ListMultipartUploadsResult") == 0) {
        g->seen = true;
    }
    return st;
}

enum status s3_answer_uploads(struct bytes_view xml, struct arena *arena,
                              struct s3_uploads_page *page, struct error *err)
{
    struct gathering g = {.arena = arena, .uploads = page};
    enum status st;

    *page = (struct s3_uploads_page){0};
    st = s3_xml_read(xml, each_upload, &g, err);
    if (st == ST_OK && !g.seen)
        st = error_set(err, ST_CORRUPT, "the answer is no list of uploads");
    for (size_t i = 0; i < page->n_uploads && g.encoded && st == ST_OK; i++)
        st = decode(page->uploads[i].key, err);
    if (st == ST_OK && g.encoded && page->next_key != NULL)
        st = decode(page->next_key, err);
    if (st == ST_OK && page->truncated && page->next_key == NULL)
        st = error_set(err, ST_CORRUPT, "a list of uploads is cut off and does not say where");
    return st;
}

static enum status each_part(void *ctx, const char *path, const char *text, struct error *err)
{
    struct gathering *g = ctx;
    int64_t ms;
    enum status st = ST_OK;

    if (strcmp(path, "ListPartsResult/Part/LastModified") == 0) {
        st = s3_answer_time(text, &ms, err);
        if (st == ST_OK)
            g->newest_ms = MAX(g->newest_ms, ms);
    } else if (strcmp(path, "ListPartsResult") == 0) {
        g->seen = true;
    }
    return st;
}

enum status s3_answer_parts(struct bytes_view xml, int64_t *newest_ms, struct error *err)
{
    struct gathering g = {.newest_ms = *newest_ms};
    enum status st = s3_xml_read(xml, each_part, &g, err);

    if (st == ST_OK && !g.seen)
        st = error_set(err, ST_CORRUPT, "the answer is no list of parts");
    *newest_ms = g.newest_ms;
    return st;
}

static enum status each_id(void *ctx, const char *path, const char *text, struct error *err)
{
    struct gathering *g = ctx;

    return strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0 ? copy(g, text, &g->id, err)
                                                                       : ST_OK;
}

enum status s3_answer_upload_id(struct bytes_view xml, struct arena *arena, char **id,
                                struct error *err)
{
    struct gathering g = {.arena = arena};
    enum status st = s3_xml_read(xml, each_id, &g, err);

    if (st == ST_OK && (g.id == NULL || g.id[0] == '\0'))
        st = error_set(err, ST_CORRUPT, "the answer names no upload");
    *id = g.id;
    return st;
}

static enum status each_etag(void *ctx, const char *path, const char *text, struct error *err)
{
    struct gathering *g = ctx;

    (void)err;
    if (ends(path, "Result/ETag"))
        keep_etag(text, g->etag);
    else if (strchr(path, '/') == NULL && ends(path, "Result"))
        g->seen = true;
    return on_error(g, path, text);
}

enum status s3_answer_etag(struct bytes_view xml, char etag[80], struct error *err)
{
    struct gathering g = {.seen = false};
    enum status st = s3_xml_read(xml, each_etag, &g, err);

    if (st == ST_OK && g.error.code[0] != '\0')
        st = error_set(err, ST_UNAVAILABLE, "%s: %s", g.error.code, g.error.message);
    else if (st == ST_OK && !g.seen)
        st = error_set(err, ST_CORRUPT, "the answer is no result");
    memcpy(etag, g.etag, sizeof g.etag);
    return st;
}
