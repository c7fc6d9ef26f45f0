#include "worker/input.h"

#include "reinforce/base/json.h"
#include "reinforce/base/parse.h"
#include "storage/format/side_files.h"

#include <stdlib.h>

enum { MAX_URLS = 1 << 24, MANIFEST_MAX_BYTES = 1 << 30, NUMBER_LEN = 18 };

/* URLs while they are gathered; everything lives in the arena. */
struct url_list {
    struct arena *arena;
    const struct object_store_options *options;
    const char **urls;
    size_t n, capacity;
};

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);

    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* Behind the last slash; without any, behind the scheme. */
static const char *base_name(const char *url)
{
    const char *slash = strrchr(url, '/'), *colon = strchr(url, ':');

    return slash != NULL ? slash + 1 : colon != NULL ? colon + 1 : url;
}

static bool is_manifest(const char *url)
{
    const char *name = base_name(url);

    return strcmp(name, SIDE_FILES_MANIFEST) == 0 || strcmp(name, "info.json") == 0;
}

const char *input_format(const char *key)
{
    static const struct {
        const char *suffix, *format;
    } suffixes[] = {
        {".tar", "webdataset"},       {".jsonl", "jsonl"},         {".jsonl.gz", "jsonl.gz"},
        {".json.gz", "jsonl.gz"},     {".jsonl.zst", "jsonl.zst"}, {".json.zst", "jsonl.zst"},
        {".jsonl.zstd", "jsonl.zst"},
    };

    for (size_t i = 0; i < ARRAY_LEN(suffixes) && !is_manifest(key); i++)
        if (ends_with(key, suffixes[i].suffix))
            return suffixes[i].format;
    return NULL;
}

static enum status add_url(struct url_list *list, const char *url, size_t len, struct error *err)
{
    char *copy;
    enum status st;

    if (list->n == MAX_URLS)
        return error_set(err, ST_INVALID, "more than %d objects", MAX_URLS);
    if (list->n == list->capacity) {
        size_t capacity = MAX(list->capacity * 2, (size_t)64);
        const char **grown;

        st = arena_calloc(list->arena, capacity, sizeof *grown, &grown, err);
        if (st != ST_OK)
            return st;
        if (list->n > 0)
            memcpy(grown, list->urls, list->n * sizeof *grown);
        list->urls = grown;
        list->capacity = capacity;
    }
    st = arena_strndup(list->arena, url, len, &copy, err);
    if (st == ST_OK)
        list->urls[list->n++] = copy;
    return st;
}

static enum status expand(struct url_list *list, const char *url, struct error *err);

/* One choice of a brace, and what it makes of the rest. */
static enum status expand_choice(struct url_list *list, const char *url, const char *open,
                                 const char *choice, size_t choice_len, const char *rest,
                                 struct error *err)
{
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, OBJECT_KEY_MAX * 4);
    st = byte_buf_append(&text, url, (size_t)(open - url), err);
    if (st == ST_OK)
        st = byte_buf_append(&text, choice, choice_len, err);
    if (st == ST_OK)
        st = byte_buf_append(&text, rest, strlen(rest) + 1, err);
    if (st == ST_OK)
        st = expand(list, (const char *)byte_buf_view(&text).data, err);
    byte_buf_release(&text);
    return st;
}

static enum status parse_end(const char *from, size_t len, int64_t *out, struct error *err)
{
    char text[NUMBER_LEN + 1];

    if (len == 0 || len > NUMBER_LEN)
        return error_set(err, ST_INVALID, "a range needs two numbers of at most %d digits",
                         NUMBER_LEN);
    memcpy(text, from, len);
    text[len] = '\0';
    return parse_i64(text, 0, INT64_MAX, out, err);
}

/* "000..123": padded to the wider end when either begins with a zero. */
static enum status expand_range(struct url_list *list, const char *url, const char *open,
                                const char *dots, const char *close, struct error *err)
{
    size_t low_len = (size_t)(dots - open - 1), high_len = (size_t)(close - dots - 2);
    bool padded = (open[1] == '0' && low_len > 1) || (dots[2] == '0' && high_len > 1);
    int width = padded ? (int)MAX(low_len, high_len) : 1;
    char text[NUMBER_LEN + 2];
    int64_t low = 0, high = 0;
    enum status st = parse_end(open + 1, low_len, &low, err);

    if (st == ST_OK)
        st = parse_end(dots + 2, high_len, &high, err);
    if (st == ST_OK && (high < low || high - low >= MAX_URLS))
        return error_set(err, ST_INVALID, "range {%.*s} must ascend over at most %d numbers",
                         (int)(close - open - 1), open + 1, MAX_URLS);
    for (int64_t i = low; st == ST_OK && i <= high; i++) {
        int len = snprintf(text, sizeof text, "%0*lld", width, (long long)i);

        st = expand_choice(list, url, open, text, (size_t)len, close + 1, err);
    }
    return st;
}

/* The first brace is expanded here, the ones behind it by recursion. */
static enum status expand(struct url_list *list, const char *url, struct error *err)
{
    const char *open = strchr(url, '{'), *close, *dots;
    enum status st = ST_OK;

    if (open == NULL)
        return add_url(list, url, strlen(url), err);
    close = strpbrk(open + 1, "{}");
    if (close == NULL || *close == '{')
        return error_set(err, ST_INVALID,
                         "\"%.100s\" has a brace that is not closed, or one in "
                         "another; write {a,b} or {000..123}",
                         url);
    dots = strstr(open, "..");
    if (dots != NULL && dots < close)
        return expand_range(list, url, open, dots, close, err);
    for (const char *at = open + 1; st == ST_OK && at <= close;) {
        size_t len = strcspn(at, ",}");

        st = expand_choice(list, url, open, at, len, close + 1, err);
        at += len + 1;
    }
    return st;
}

/* A shard's name in a manifest: a URL of its own, or relative to the manifest's folder. */
static enum status add_name(struct url_list *list, const char *folder, size_t folder_len,
                            const char *name, const char *suffix, struct error *err)
{
    bool whole = name[0] == '/' || strchr(name, ':') != NULL;
    char text[OBJECT_KEY_MAX * 4];
    int len =
        snprintf(text, sizeof text, "%.*s%s%s", whole ? 0 : (int)folder_len, folder, name, suffix);

    if (len < 0 || (size_t)len >= sizeof text)
        return error_set(err, ST_INVALID, "the name \"%.40s...\" is too long", name);
    return add_url(list, text, (size_t)len, err);
}

static enum status add_manifest_line(struct url_list *list, const char *url, size_t folder_len,
                                     struct bytes_view line, struct error *err)
{
    json_t *object = NULL;
    const char *name, *suffix = "";
    enum status st = json_parse(line, &object, err);

    if (st != ST_OK)
        return st;
    if (json_object_get(object, "kept") != NULL) {
        json_decref(object);
        return error_set(err, ST_INVALID,
                         "is of a view of a dataset, which a job cannot read; name the dataset");
    }
    name = json_string_value(json_object_get(object, "object"));
    if (name == NULL) { /* as RayGen writes it */
        name = json_string_value(json_object_get(object, "shard"));
        suffix = ".tar";
    }
    st = name != NULL ? add_name(list, url, folder_len, name, suffix, err)
                      : error_set(err, ST_INVALID, "no \"object\" and no \"shard\"");
    json_decref(object);
    return st;
}

static enum status add_manifest(struct url_list *list, const char *url, size_t folder_len,
                                struct bytes_view body, struct error *err)
{
    enum status st = ST_OK;

    for (size_t at = 0, number = 1; at < body.len && st == ST_OK; number++) {
        const uint8_t *end = memchr(body.data + at, '\n', body.len - at);
        size_t len = end != NULL ? (size_t)(end - body.data) - at : body.len - at;

        if (len > 0)
            st = add_manifest_line(list, url, folder_len, bytes_view_of(body.data + at, len), err);
        if (st != ST_OK)
            error_add_context(err, "line %zu", number);
        at += len + 1;
    }
    return st;
}

static enum status add_info(struct url_list *list, const char *url, size_t folder_len,
                            struct bytes_view body, struct error *err)
{
    json_t *root = NULL, *lengths, *value;
    const char *name;
    enum status st = json_parse(body, &root, err);

    if (st != ST_OK)
        return st;
    lengths = json_object_get(root, "lengths");
    if (!json_is_object(lengths))
        st = error_set(err, ST_INVALID, "no object \"lengths\"");
    json_object_foreach(lengths, name, value) if (st == ST_OK) st =
        add_name(list, url, folder_len, name, "", err);
    json_decref(root);
    return st;
}

/* Opens the folder that is the first `len` bytes of a URL. */
static enum status open_folder(const struct url_list *list, const char *url, size_t len,
                               struct object_store **store, struct error *err)
{
    char *folder;
    enum status st;

    if (len > 1 && url[len - 1] == '/' && url[len - 2] != ':' && url[len - 2] != '/')
        len--;
    st = arena_strndup(list->arena, url, len, &folder, err);
    return st == ST_OK ? object_store_open_with(len > 0 ? folder : ".", list->options, store, err)
                       : st;
}

static enum status read_manifest(struct url_list *list, const char *url, struct error *err)
{
    size_t folder_len = (size_t)(base_name(url) - url);
    struct object_store *store = NULL;
    struct bytes_view body = {0};
    enum status st = open_folder(list, url, folder_len, &store, err);

    if (st == ST_OK)
        st = object_store_get(store, base_name(url), MANIFEST_MAX_BYTES, list->arena, &body, err);
    if (st == ST_OK)
        st = ends_with(url, "info.json") ? add_info(list, url, folder_len, body, err)
                                         : add_manifest(list, url, folder_len, body, err);
    if (st != ST_OK)
        error_add_context(err, "manifest \"%s\"", url);
    object_store_close(&store);
    return st;
}

static enum status gather(struct url_list *list, const char *url, struct error *err)
{
    struct url_list patterns = {.arena = list->arena};
    enum status st = ST_OK;

    for (const char *at = url, *end; st == ST_OK && at != NULL; at = end != NULL ? end + 2 : NULL) {
        char *part;

        end = strstr(at, "::");
        st = arena_strndup(list->arena, at, end != NULL ? (size_t)(end - at) : strlen(at), &part,
                           err);
        if (st == ST_OK)
            st = expand(&patterns, part, err);
    }
    for (size_t i = 0; i < patterns.n && st == ST_OK; i++)
        st = is_manifest(patterns.urls[i])
                 ? read_manifest(list, patterns.urls[i], err)
                 : add_url(list, patterns.urls[i], strlen(patterns.urls[i]), err);
    return st;
}

static int compare_urls(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The folder all URLs have in common: sorted, the first and the last decide. */
static size_t common_folder(const struct url_list *list)
{
    const char *first = list->urls[0], *last = list->urls[list->n - 1];
    size_t longest = (size_t)(base_name(first) - first), same = 0;

    while (same < longest && first[same] == last[same])
        same++;
    while (same > 0 && first[same - 1] != '/' && first[same - 1] != ':')
        same--;
    return same;
}

static enum status check_urls(const struct url_list *list, struct error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (input_format(list->urls[i]) == NULL)
            return error_set(
                err, ST_INVALID,
                "\"%s\" is no shard we can read (.tar, .jsonl, .jsonl.gz, .jsonl.zst); "
                "a list cannot hold folders",
                list->urls[i]);
        if (i > 0 && strcmp(list->urls[i], list->urls[i - 1]) == 0)
            return error_set(err, ST_INVALID, "\"%s\" is named twice", list->urls[i]);
    }
    return ST_OK;
}

static enum status open_list(struct url_list *list, struct input *out, struct error *err)
{
    size_t folder_len;
    enum status st;

    if (list->urls == NULL)
        return error_set(err, ST_INVALID, "names no shards");
    qsort(list->urls, list->n, sizeof *list->urls, compare_urls);
    st = check_urls(list, err);
    if (st != ST_OK)
        return st;
    folder_len = common_folder(list);
    st = open_folder(list, list->urls[0], folder_len, &out->store, err);
    for (size_t i = 0; i < list->n && st == ST_OK; i++) {
        list->urls[i] += folder_len;
        if (folder_len == 0 && strchr(list->urls[i], ':') != NULL)
            st = error_set(err, ST_INVALID, "\"%s\" and \"%s\" are in different stores",
                           list->urls[0], list->urls[i]);
        else
            st = object_key_check(list->urls[i], err);
    }
    out->keys = list->urls;
    out->n_keys = list->n;
    return st;
}

enum status input_open(const char *url, const struct object_store_options *options,
                       struct arena *arena, struct input *out, struct error *err)
{
    struct url_list list = {.arena = arena, .options = options};
    bool everything = strchr(url, '{') == NULL && strstr(url, "::") == NULL && !is_manifest(url) &&
                      input_format(url) == NULL;
    enum status st;

    *out = (struct input){0};
    if (everything)
        return object_store_open_with(url, options, &out->store, err);
    st = gather(&list, url, err);
    if (st == ST_OK)
        st = open_list(&list, out, err);
    if (st != ST_OK) {
        error_add_context(err, "input.url");
        input_close(out);
    }
    return st;
}

void input_close(struct input *input)
{
    object_store_close(&input->store);
    *input = (struct input){0};
}
