#include "storage/hub/hub.h"

#include "reinforce/base/file.h"
#include "reinforce/base/file_lock.h"
#include "reinforce/base/json.h"
#include "reinforce/models/snapshot.h"
#include "storage/http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_NAME = 96,
    MAX_LISTING_BYTES = 64 << 20,
    MAX_FILES = 4096,
    HEX_BYTES = 65,
    MAX_RESUMES = 8, /* of one file that keeps breaking off */
};

/* One file as the hub lists it. */
struct hub_file {
    const char *name; /* borrowed from the listing */
    uint64_t bytes;
    const char *sha256; /* of large files; NULL: see blob */
    const char *blob;   /* git's id of a small one: SHA-1 over "blob <bytes>\0" and the bytes */
    char found[HEX_BYTES];
};

struct pull {
    const struct hub_options *options;
    const char *endpoint;
    struct http *http;
    char id[2 * MAX_NAME + 2], revision[MAX_NAME + 1];
    char folder[PATH_MAX]; /* <cache>/OWNER--NAME */
    char commit[MAX_NAME + 1];
    json_t *listing;
    struct hub_file *files;
    size_t n_files;
};

static const char *environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody sets it */

    return value != NULL && value[0] != '\0' ? value : otherwise;
}

static enum status too_long(struct error *err)
{
    return error_set(err, ST_INVALID, "a path of the model cache is too long");
}

/* Letters, digits, '-', '_' and '.': what the hub allows, and nothing that leaves a folder. */
static bool is_plain(const char *text, size_t len)
{
    if (len == 0 || len > MAX_NAME || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
              (text[i] >= '0' && text[i] <= '9') || text[i] == '-' || text[i] == '_' ||
              text[i] == '.'))
            return false;
    return true;
}

/* An id of git's, which cannot be taken for "refs". */
static bool is_commit(const char *text)
{
    size_t len = strlen(text);

    return is_plain(text, len) && strspn(text, "0123456789abcdef") == len;
}

static enum status parse_model(const char *model, struct pull *p, struct error *err)
{
    const char *at = strchr(model, '@'), *slash = strchr(model, '/');
    size_t len = at != NULL ? (size_t)(at - model) : strlen(model);
    const char *revision = at != NULL ? at + 1 : "main";

    if (slash == NULL || slash > model + len || !is_plain(model, (size_t)(slash - model)) ||
        !is_plain(slash + 1, (size_t)(model + len - slash - 1)) ||
        !is_plain(revision, strlen(revision)))
        return error_set(err, ST_INVALID,
                         "\"%.100s\" is no model of a hub; write OWNER/NAME or OWNER/NAME@REVISION",
                         model);
    (void)snprintf(p->id, sizeof p->id, "%.*s", (int)len, model);
    (void)snprintf(p->revision, sizeof p->revision, "%s", revision);
    return ST_OK;
}

static enum status find_folder(struct pull *p, struct error *err)
{
    const char *cache = p->options->cache, *slash = strchr(p->id, '/');
    char root[PATH_MAX];
    int n;

    if (cache == NULL)
        cache = environment("REINFORCE_MODELS", NULL);
    if (cache != NULL)
        n = snprintf(root, sizeof root, "%s", cache);
    else if (environment("XDG_CACHE_HOME", NULL) != NULL)
        n = snprintf(root, sizeof root, "%s/reinforce/models", environment("XDG_CACHE_HOME", ""));
    else
        n = snprintf(root, sizeof root, "%s/.cache/reinforce/models", environment("HOME", "."));
    if (n < 0 || (size_t)n >= sizeof root ||
        snprintf(p->folder, sizeof p->folder, "%s/%.*s--%s", root, (int)(slash - p->id), p->id,
                 slash + 1) >= (int)sizeof p->folder - 2 * MAX_NAME)
        return too_long(err);
    return ST_OK;
}

static enum status path_of(const struct pull *p, const char *middle, const char *name,
                           char path[PATH_MAX], struct error *err)
{
    return snprintf(path, PATH_MAX, "%s/%s/%s", p->folder, middle, name) < PATH_MAX ? ST_OK
                                                                                    : too_long(err);
}

/* True when this commit was pulled to the end. */
static bool is_whole(const struct pull *p)
{
    char path[PATH_MAX];
    struct error ignored;

    return path_of(p, p->commit, "pulled.json", path, &ignored) == ST_OK && access(path, R_OK) == 0;
}

/* The commit a name stood for when it was pulled; a commit stands for itself. */
static bool find_pulled(struct pull *p)
{
    char path[PATH_MAX];
    struct byte_buf text;
    struct error ignored;
    bool found = false;

    (void)snprintf(p->commit, sizeof p->commit, "%s", p->revision);
    if (is_whole(p))
        return true;
    byte_buf_init(&text, MAX_NAME);
    if (path_of(p, "refs", p->revision, path, &ignored) == ST_OK &&
        file_read(path, &text, &ignored) == ST_OK && is_plain((const char *)text.data, text.len)) {
        (void)snprintf(p->commit, sizeof p->commit, "%.*s", (int)text.len, (const char *)text.data);
        found = is_whole(p);
    }
    byte_buf_release(&text);
    return found;
}

static enum status read_listing(struct pull *p, struct bytes_view body, struct error *err)
{
    const char *commit;
    enum status st = json_parse(body, &p->listing, err);

    if (st != ST_OK)
        return st;
    commit = json_string_value(json_object_get(p->listing, "sha"));
    if (commit == NULL || !is_commit(commit))
        return error_set(err, ST_CORRUPT, "the hub's answer names no commit");
    (void)snprintf(p->commit, sizeof p->commit, "%s", commit);
    return ST_OK;
}

static enum status fetch_listing(struct pull *p, struct error *err)
{
    char url[1024];
    const struct http_request request = {.method = "GET", .url = url, .follow_redirects = true};
    struct http_response response;
    enum status st;

    if (snprintf(url, sizeof url, "%s/api/models/%s/revision/%s?blobs=true", p->endpoint, p->id,
                 p->revision) >= (int)sizeof url)
        return error_set(err, ST_INVALID, "the endpoint \"%.60s...\" is too long", p->endpoint);
    st = http_run(p->http, &request, MAX_LISTING_BYTES, NULL, NULL, &response, err);
    if (st == ST_OK)
        st = read_listing(p, byte_buf_view(&response.body), err);
    if (st == ST_INVALID && (response.status == 401 || response.status == 403))
        error_add_context(err, "the hub wants a token that may read this model: set HF_TOKEN");
    http_response_release(&response);
    return st;
}

/* Keeps the files that a snapshot is read from. */
static enum status choose_files(struct pull *p, struct error *err)
{
    const json_t *siblings = json_object_get(p->listing, "siblings");
    size_t n = json_array_size(siblings);
    const char **names;

    if (n > MAX_FILES)
        return error_set(err, ST_INVALID, "the repository has %zu files", n);
    names = calloc(n + 1, sizeof(const char *));
    p->files = calloc(n + 1, sizeof *p->files);
    if (names == NULL || p->files == NULL) {
        free(names);
        return error_set(err, ST_NO_MEMORY, "could not allocate a list of %zu files", n);
    }
    for (size_t i = 0; i < n; i++) {
        names[i] = json_string_value(json_object_get(json_array_get(siblings, i), "rfilename"));
        if (names[i] == NULL || !is_plain(names[i], strlen(names[i])))
            names[i] = ""; /* in a folder: no part of a snapshot */
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *file = json_array_get(siblings, i), *lfs = json_object_get(file, "lfs");
        const json_t *bytes = json_object_get(json_is_object(lfs) ? lfs : file, "size");

        if (!snapshot_is_part(names, n, i))
            continue;
        p->files[p->n_files++] = (struct hub_file){
            .name = names[i],
            .bytes = json_is_integer(bytes) ? (uint64_t)MAX(json_integer_value(bytes), 0) : 0,
            .sha256 = json_string_value(json_object_get(lfs, "sha256")),
            .blob = json_string_value(json_object_get(file, "blobId"))};
    }
    free(names);
    for (size_t i = 0; i < p->n_files; i++)
        if (snapshot_is_weights(p->files[i].name))
            return ST_OK;
    return error_set(err, ST_NOT_FOUND, "%s@%s holds no weights that can be read", p->id,
                     p->revision);
}

/* A file while it grows. */
struct download {
    const struct pull *pull;
    const struct hub_file *file;
    int fd;
    uint64_t done;
};

static enum status write_piece(void *ctx, struct bytes_view piece, struct error *err)
{
    struct download *d = ctx;

    if (d->file->bytes > 0 && piece.len > d->file->bytes - d->done)
        return error_set(err, ST_CORRUPT, "\"%s\" is longer than the hub says", d->file->name);
    for (size_t at = 0; at < piece.len;) {
        ssize_t n = write(d->fd, piece.data + at, piece.len - at);

        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno == ENOSPC ? ST_FULL : ST_UNAVAILABLE,
                                   "could not write \"%s\"", d->file->name);
        at += n > 0 ? (size_t)n : 0;
    }
    d->done += piece.len;
    if (d->pull->options->progress != NULL)
        d->pull->options->progress(d->pull->options->progress_ctx, d->file->name, d->done,
                                   d->file->bytes);
    return ST_OK;
}

/* The two digests of a file under way. */
struct digests {
    EVP_MD_CTX *sha256, *git;
};

static enum status digest_piece(void *ctx, struct bytes_view piece, struct error *err)
{
    struct digests *d = ctx;

    return EVP_DigestUpdate(d->sha256, piece.data, piece.len) == 1 &&
                   EVP_DigestUpdate(d->git, piece.data, piece.len) == 1
               ? ST_OK
               : error_set(err, ST_INTERNAL, "libcrypto could not hash");
}

static bool digest_hex(EVP_MD_CTX *digest, char hex[HEX_BYTES])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool ok = EVP_DigestFinal_ex(digest, bytes, &len) == 1;

    for (unsigned i = 0; ok && i < len; i++)
        (void)snprintf(hex + (size_t)2 * i, 3, "%02x", bytes[i]);
    return ok;
}

static enum status digest_file(const char *path, uint64_t size, char sha256[HEX_BYTES],
                               char blob[HEX_BYTES], struct error *err)
{
    struct digests d = {EVP_MD_CTX_new(), EVP_MD_CTX_new()};
    char head[48];
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size);
    bool ok = d.sha256 != NULL && d.git != NULL &&
              EVP_DigestInit_ex(d.sha256, EVP_sha256(), NULL) == 1 &&
              EVP_DigestInit_ex(d.git, EVP_sha1(), NULL) == 1 &&
              EVP_DigestUpdate(d.git, head, (size_t)n + 1) == 1;
    enum status st = ok ? file_read_pieces(path, digest_piece, &d, err)
                        : error_set(err, ST_INTERNAL, "libcrypto could not hash");

    if (st == ST_OK && (!digest_hex(d.sha256, sha256) || !digest_hex(d.git, blob)))
        st = error_set(err, ST_INTERNAL, "libcrypto could not hash");
    EVP_MD_CTX_free(d.git);
    EVP_MD_CTX_free(d.sha256);
    return st;
}

/* SHA-256 of the file, and whether it is what the hub has. */
static enum status check_file(const char *path, struct hub_file *file, struct error *err)
{
    char blob[HEX_BYTES] = "";
    struct stat info;
    enum status st;

    if (stat(path, &info) != 0)
        return error_set_errno(err, errno == ENOENT ? ST_NOT_FOUND : ST_UNAVAILABLE,
                               "could not read \"%s\"", path);
    st = digest_file(path, (uint64_t)info.st_size, file->found, blob, err);
    if (st != ST_OK)
        return st;
    if (file->bytes > 0 && (uint64_t)info.st_size != file->bytes)
        return error_set(err, ST_CORRUPT, "\"%s\" has %llu bytes, the hub says %llu", file->name,
                         (unsigned long long)info.st_size, (unsigned long long)file->bytes);
    if (file->sha256 != NULL ? strcmp(file->sha256, file->found) != 0
                             : file->blob != NULL && strcmp(file->blob, blob) != 0)
        return error_set(err, ST_CORRUPT, "\"%s\" has another digest than the hub says",
                         file->name);
    return ST_OK;
}

/* Fetches until the file is whole, going on behind what is there already. */
static enum status fetch_to(struct download *d, struct error *err)
{
    const struct pull *p = d->pull;
    char url[2048];
    enum status st = ST_UNAVAILABLE;

    if (snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", p->endpoint, p->id, p->commit,
                 d->file->name) >= (int)sizeof url)
        return error_set(err, ST_INVALID, "the endpoint \"%.60s...\" is too long", p->endpoint);
    for (int i = 0; i < MAX_RESUMES && status_is_retryable(st); i++) {
        const struct http_request request = {
            .method = "GET", .url = url, .range_begin = d->done, .follow_redirects = true};
        struct http_response response;

        if (d->file->bytes > 0 && d->done == d->file->bytes)
            return ST_OK;
        st = http_run(p->http, &request, 0, write_piece, d, &response, err);
        http_response_release(&response);
    }
    return st;
}

static enum status fetch_file(struct pull *p, struct hub_file *file, struct error *err)
{
    struct download d = {.pull = p, .file = file};
    char path[PATH_MAX], part[PATH_MAX], name[MAX_NAME + 8];
    enum status st = path_of(p, p->commit, file->name, path, err);

    (void)snprintf(name, sizeof name, "%s.part", file->name);
    if (st == ST_OK)
        st = path_of(p, p->commit, name, part, err);
    if (st != ST_OK)
        return st;
    if (access(path, R_OK) == 0) /* whole, of a pull that stopped later */
        return check_file(path, file, err);
    d.fd = open(part, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (d.fd < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not create \"%s\"", part);
    d.done = (uint64_t)MAX(lseek(d.fd, 0, SEEK_END), (off_t)0);
    if (file->bytes > 0 && d.done > file->bytes && ftruncate(d.fd, 0) == 0)
        d.done = 0;
    st = fetch_to(&d, err);
    if (st == ST_OK && fsync(d.fd) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not write \"%s\"", part);
    (void)close(d.fd);
    if (st == ST_OK)
        st = check_file(part, file, err);
    if (st == ST_CORRUPT)
        (void)unlink(part); /* no use to go on from */
    if (st == ST_OK && rename(part, path) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not name \"%s\"", path);
    return st;
}

static enum status write_marks(struct pull *p, struct error *err)
{
    json_t *files = json_object(), *mark;
    char path[PATH_MAX];
    struct byte_buf text;
    enum status st = ST_OK;

    for (size_t i = 0; i < p->n_files; i++)
        if (json_object_set_new(files, p->files[i].name,
                                json_pack("{s:I, s:s}", "bytes", (json_int_t)p->files[i].bytes,
                                          "sha256", p->files[i].found)) != 0)
            st = error_set(err, ST_NO_MEMORY, "could not allocate pulled.json");
    mark = json_pack("{s:s, s:s, s:o}", "model", p->id, "commit", p->commit, "files", files);
    byte_buf_init(&text, MAX_LISTING_BYTES);
    if (st == ST_OK)
        st = json_write(mark, &text, err);
    if (st == ST_OK)
        st = path_of(p, p->commit, "pulled.json", path, err);
    if (st == ST_OK)
        st = file_write_atomic(path, byte_buf_view(&text), err);
    if (st == ST_OK)
        st = path_of(p, "refs", p->revision, path, err);
    if (st == ST_OK)
        st = file_write_atomic(path, bytes_of_string(p->commit), err);
    json_decref(mark);
    byte_buf_release(&text);
    return st;
}

static enum status fetch_files(struct pull *p, struct error *err)
{
    struct file_lock lock = {.fd = -1};
    char path[PATH_MAX];
    enum status st = path_of(p, p->commit, ".lock", path, err);

    if (st == ST_OK)
        st = file_lock_take(path, &lock, err);
    if (st == ST_CONFLICT)
        error_add_context(err, "another process pulls this model; wait for it");
    for (size_t i = 0; i < p->n_files && st == ST_OK; i++)
        st = fetch_file(p, &p->files[i], err);
    if (st == ST_OK)
        st = write_marks(p, err);
    file_lock_release(&lock);
    return st;
}

static enum status pull(struct pull *p, struct error *err)
{
    char path[PATH_MAX];
    enum status st = fetch_listing(p, err);

    if (st == ST_OK && is_whole(p)) { /* "main" is what it was */
        st = path_of(p, "refs", p->revision, path, err);
        return st == ST_OK ? file_write_atomic(path, bytes_of_string(p->commit), err) : st;
    }
    if (st == ST_OK)
        st = choose_files(p, err);
    if (st == ST_OK)
        st = path_of(p, p->commit, "", path, err);
    if (st == ST_OK)
        st = file_make_dirs(path, err);
    if (st == ST_OK)
        st = path_of(p, "refs", "", path, err);
    if (st == ST_OK)
        st = file_make_dirs(path, err);
    return st == ST_OK ? fetch_files(p, err) : st;
}

static enum status begin(const struct hub_options *options, const char *model, struct pull *p,
                         struct error *err)
{
    enum status st;

    *p = (struct pull){.options = options};
    p->endpoint = options->endpoint != NULL ? options->endpoint
                                            : environment("HF_ENDPOINT", "https://huggingface.co");
    st = parse_model(model, p, err);
    return st == ST_OK ? find_folder(p, err) : st;
}

static enum status run(struct pull *p, const char *model, char dir[PATH_MAX], struct error *err)
{
    struct http_options http;
    enum status st;

    http_options_default(&http);
    http.timeout_ms = 0; /* weights take as long as they take; a stall ends a try */
    http.max_connections = 1;
    http.bearer = p->options->token != NULL ? p->options->token : environment("HF_TOKEN", NULL);
    http.stop = p->options->stop;
    st = http_open(&http, &p->http, err);
    if (st == ST_OK)
        st = pull(p, err);
    http_close(&p->http);
    json_decref(p->listing);
    free(p->files);
    if (st == ST_OK)
        st = path_of(p, p->commit, "", dir, err);
    if (st == ST_OK)
        dir[strlen(dir) - 1] = '\0'; /* the slash */
    else
        error_add_context(err, "model %s", model);
    return st;
}

enum status hub_pull(const struct hub_options *options, const char *model, char dir[PATH_MAX],
                     struct error *err)
{
    struct pull p;
    enum status st = begin(options, model, &p, err);

    return st == ST_OK ? run(&p, model, dir, err) : st;
}

/* The files that `mark`, the text of pulled.json, names, against it. */
static enum status check_marks(const char *dir, struct bytes_view mark, size_t *n_files,
                               struct error *err)
{
    json_t *root = NULL, *files, *entry;
    const char *name;
    char path[PATH_MAX];
    enum status st = json_parse(mark, &root, err);

    files = json_object_get(root, "files");
    if (st == ST_OK && json_object_size(files) == 0)
        st = error_set(err, ST_CORRUPT, "pulled.json names no files");
    json_object_foreach(files, name, entry)
    {
        struct hub_file file = {.name = name,
                                .sha256 = json_string_value(json_object_get(entry, "sha256"))};

        if (st == ST_OK && (!is_plain(name, strlen(name)) || file.sha256 == NULL))
            st = error_set(err, ST_CORRUPT, "pulled.json names no file and digest");
        if (st == ST_OK && snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
            st = too_long(err);
        if (st == ST_OK)
            st = check_file(path, &file, err);
        *n_files += st == ST_OK;
    }
    json_decref(root);
    return st;
}

enum status hub_verify(const char *dir, size_t *n_files, struct error *err)
{
    char path[PATH_MAX];
    struct byte_buf text;
    enum status st;

    *n_files = 0;
    if (snprintf(path, sizeof path, "%s/pulled.json", dir) >= (int)sizeof path)
        return too_long(err);
    if (access(path, R_OK) != 0)
        return ST_OK;
    byte_buf_init(&text, MAX_LISTING_BYTES);
    st = file_read(path, &text, err);
    if (st == ST_OK)
        st = check_marks(dir, byte_buf_view(&text), n_files, err);
    byte_buf_release(&text);
    return st;
}

enum status hub_resolve(const struct hub_options *options, const char *model, char dir[PATH_MAX],
                        struct error *err)
{
    size_t scheme = sizeof HUB_SCHEME - 1;
    struct pull p;
    enum status st;

    if (strncmp(model, HUB_SCHEME, scheme) != 0)
        return snprintf(dir, PATH_MAX, "%s", model) < PATH_MAX ? ST_OK : too_long(err);
    st = begin(options, model + scheme, &p, err);
    if (st != ST_OK || !find_pulled(&p))
        return st == ST_OK ? run(&p, model + scheme, dir, err) : st;
    st = path_of(&p, p.commit, "", dir, err);
    if (st == ST_OK)
        dir[strlen(dir) - 1] = '\0';
    return st;
}
