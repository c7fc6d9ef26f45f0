#include "proto/keys.h"

#include "reinforce/base/file.h"
#include "reinforce/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

enum { MAX_FILE_BYTES = 16 << 20, MAX_LINE = 256 };

static bool is_key(const char *text, size_t len)
{
    uint8_t bytes[32];
    char copy[KEYS_TEXT_LEN + 1];

    if (len != KEYS_TEXT_LEN)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return zmq_z85_decode(bytes, copy) != NULL;
}

/* Never over what is there. */
static enum status write_new(const char *path, mode_t mode, const char *text, struct error *err)
{
    size_t len = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    enum status st = ST_OK;

    if (fd < 0)
        return error_set_errno(err, errno == EEXIST ? ST_CONFLICT : ST_UNAVAILABLE,
                               "could not create \"%s\"", path);
    if (write(fd, text, len) != (ssize_t)len || fsync(fd) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not write \"%s\"", path);
    (void)close(fd);
    if (st != ST_OK)
        (void)unlink(path);
    return st;
}

/* The next word of a line, or length 0 at its end. */
static const char *next_word(const char **at, size_t *len)
{
    const char *word = *at + strspn(*at, " \t\r");

    *len = strcspn(word, " \t\r");
    *at = word + *len;
    return word;
}

/* Lines that hold something; `each` gets them without their end. A key may begin with '#', a
 * comment begins with "# ". */
typedef enum status line_fn(void *ctx, const char *line, struct error *err);

static enum status read_lines(const char *path, line_fn *each, void *ctx, struct error *err)
{
    struct byte_buf body;
    const char *text;
    int number = 0;
    enum status st;

    byte_buf_init(&body, MAX_FILE_BYTES);
    st = file_read(path, &body, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&body, &text, err);
    while (st == ST_OK && *text != '\0') {
        size_t len = strcspn(text, "\n");
        char line[MAX_LINE];

        number++;
        if (len >= sizeof line)
            st = error_set(err, ST_INVALID, "the line is longer than %d bytes", MAX_LINE - 1);
        else if (len > strspn(text, " \t\r") && strncmp(text, "# ", 2) != 0) {
            memcpy(line, text, len);
            line[len] = '\0';
            st = each(ctx, line, err);
        }
        if (st != ST_OK)
            error_add_context(err, "%s:%d", path, number);
        text += len + (text[len] == '\n');
    }
    if (body.data != NULL)
        memset(body.data, 0, body.len); /* it may be a secret */
    byte_buf_release(&body);
    return st;
}

static enum status take_public(void *ctx, const char *line, struct error *err)
{
    char *key = ctx;
    const char *at = line;
    size_t len;
    const char *word = next_word(&at, &len);

    if (!is_key(word, len) || key[0] != '\0')
        return error_set(err, ST_INVALID,
                         key[0] != '\0' ? "there is a second key" : "not a public key");
    memcpy(key, word, len);
    return ST_OK;
}

enum status keys_create(const char *path, const char *server_path, struct error *err)
{
    struct keys keys = {0};
    const char *name = strrchr(path, '/');
    char file[PATH_MAX], text[512];
    enum status st = ST_OK;

    name = name != NULL ? name + 1 : path;
    if (name[0] == '\0' || strlen(name) > 100 || strpbrk(name, " \t\r\n") != NULL)
        return error_set(err, ST_INVALID, "\"%s\" is no name for a key", path);
    if (server_path != NULL)
        st = read_lines(server_path, take_public, keys.server_key, err);
    if (st == ST_OK && server_path != NULL && keys.server_key[0] == '\0')
        st = error_set(err, ST_INVALID, "\"%s\" holds no public key", server_path);
    if (st == ST_OK && zmq_curve_keypair(keys.public_key, keys.secret_key) != 0)
        st = error_set(err, ST_INTERNAL, "could not make keys: %s", zmq_strerror(errno));
    if (st != ST_OK)
        return st;
    (void)snprintf(text, sizeof text,
                   "# key of \"%s\"; whoever has this file is it\npublic %s\nsecret %s\n%s%s%s",
                   name, keys.public_key, keys.secret_key, server_path != NULL ? "server " : "",
                   keys.server_key, server_path != NULL ? "\n" : "");
    if (snprintf(file, sizeof file, "%s.key", path) >= (int)sizeof file)
        return error_set(err, ST_INVALID, "path \"%.100s...\" is too long", path);
    st = write_new(file, 0600, text, err);
    (void)snprintf(text, sizeof text, "%s %s\n", keys.public_key, name);
    (void)snprintf(file, sizeof file, "%s.pub", path);
    if (st == ST_OK)
        st = write_new(file, 0644, text, err);
    return st;
}

static enum status path_in(const char *dir, const char *name, char path[PATH_MAX],
                           struct error *err)
{
    return snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX
               ? ST_OK
               : error_set(err, ST_INVALID, "path \"%.100s...\" is too long", dir);
}

/* `name`.pub to the end of the list, which may be new. */
static enum status allow(const char *dir, const char *name, struct error *err)
{
    char list_path[PATH_MAX], path[PATH_MAX], file[256];
    struct byte_buf list;
    struct error none;
    enum status st;

    (void)snprintf(file, sizeof file, "%s.pub", name);
    byte_buf_init(&list, MAX_FILE_BYTES);
    st = path_in(dir, "allow", list_path, err);
    if (st == ST_OK)
        st = path_in(dir, file, path, err);
    if (st == ST_OK) {
        st = file_read(list_path, &list, &none);
        if (st != ST_OK && st != ST_NOT_FOUND)
            *err = none;
        else
            st = file_read(path, &list, err);
    }
    if (st == ST_OK)
        st = file_write_atomic(list_path, bytes_view_of(list.data, list.len), err);
    byte_buf_release(&list);
    return st;
}

enum status keys_add_worker(const char *dir, const char *name, struct error *err)
{
    char path[PATH_MAX], server_path[PATH_MAX];
    enum status st = path_in(dir, "coordinator.pub", server_path, err);

    if (st == ST_OK)
        st = path_in(dir, name, path, err);
    if (st == ST_OK && strchr(name, '/') != NULL)
        st = error_set(err, ST_INVALID, "\"%s\" is no name for a key", name);
    if (st == ST_OK)
        st = keys_create(path, server_path, err);
    return st == ST_OK ? allow(dir, name, err) : st;
}

enum status keys_create_fleet(const char *dir, struct error *err)
{
    char path[PATH_MAX];
    enum status st = file_make_dirs(dir, err);

    if (st == ST_OK)
        st = path_in(dir, "coordinator", path, err);
    if (st == ST_OK)
        st = keys_create(path, NULL, err);
    return st == ST_OK ? keys_add_worker(dir, "worker", err) : st;
}

static enum status take_entry(void *ctx, const char *line, struct error *err)
{
    struct keys *keys = ctx;
    const char *at = line, *name, *value;
    size_t name_len, value_len;
    char *to = NULL;

    name = next_word(&at, &name_len);
    value = next_word(&at, &value_len);
    if (name_len == 6 && strncmp(name, "public", 6) == 0)
        to = keys->public_key;
    else if (name_len == 6 && strncmp(name, "secret", 6) == 0)
        to = keys->secret_key;
    else if (name_len == 6 && strncmp(name, "server", 6) == 0)
        to = keys->server_key;
    if (to == NULL || to[0] != '\0' || !is_key(value, value_len)) /* and the line is not shown */
        return error_set(err, ST_INVALID, "not a line of a key file");
    memcpy(to, value, value_len);
    return ST_OK;
}

enum status keys_read(const char *path, struct keys *keys, struct error *err)
{
    struct stat info;
    enum status st;

    memset(keys, 0, sizeof *keys);
    if (stat(path, &info) == 0 && (info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return error_set(err, ST_INVALID,
                         "others may read key file \"%s\" (mode %03o); chmod 600 it", path,
                         (unsigned)info.st_mode & 0777u);
    st = read_lines(path, take_entry, keys, err);
    if (st == ST_OK && (keys->public_key[0] == '\0' || keys->secret_key[0] == '\0'))
        st = error_set(err, ST_INVALID,
                       "\"%s\" is not a key file: it holds no public and secret key", path);
    return st;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A list that is being read. */
struct growing {
    char (*list)[KEYS_TEXT_LEN + 1];
    size_t n, capacity;
};

static enum status add_allowed(void *ctx, const char *line, struct error *err)
{
    struct growing *growing = ctx;
    char key[KEYS_TEXT_LEN + 1] = "";
    enum status st = take_public(key, line, err);

    if (st != ST_OK)
        return st;
    if (growing->n == growing->capacity) {
        size_t capacity = MAX(growing->capacity * 2, (size_t)16);
        char(*grown)[KEYS_TEXT_LEN + 1] = realloc(growing->list, capacity * sizeof *grown);

        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu keys", capacity);
        growing->list = grown;
        growing->capacity = capacity;
    }
    memcpy(growing->list[growing->n++], key, sizeof key);
    return ST_OK;
}

static enum status refresh(struct keys_allowed *allowed, struct error *err)
{
    struct growing growing = {0};
    struct stat info;
    long long changed_ns;
    enum status st;

    if (stat(allowed->path, &info) != 0)
        return error_set_errno(err, errno == ENOENT ? ST_NOT_FOUND : ST_UNAVAILABLE,
                               "could not read \"%s\"", allowed->path);
    changed_ns = (long long)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    if (changed_ns == allowed->changed_ns && (long long)info.st_size == allowed->bytes)
        return ST_OK;
    st = read_lines(allowed->path, add_allowed, &growing, err);
    if (st != ST_OK) {
        free(growing.list);
        return st;
    }
    if (growing.n > 0)
        qsort(growing.list, growing.n, sizeof *growing.list, compare_keys);
    free(allowed->list);
    allowed->list = growing.list;
    allowed->n = growing.n;
    allowed->changed_ns = changed_ns;
    allowed->bytes = (long long)info.st_size;
    return ST_OK;
}

enum status keys_allowed_open(const char *path, struct keys_allowed *allowed, struct error *err)
{
    memset(allowed, 0, sizeof *allowed);
    allowed->bytes = -1;
    if (snprintf(allowed->path, sizeof allowed->path, "%s", path) >= (int)sizeof allowed->path)
        return error_set(err, ST_INVALID, "path \"%.100s...\" is too long", path);
    return refresh(allowed, err);
}

void keys_allowed_release(struct keys_allowed *allowed)
{
    free(allowed->list);
    memset(allowed, 0, sizeof *allowed);
}

bool keys_allowed_has(struct keys_allowed *allowed, const char *public_key)
{
    struct error err = {0};

    if (refresh(allowed, &err) != ST_OK)
        log_at(LOG_WARN, "allow_list_not_read", "at=\"%s\" cause=\"%s\"", err.context, err.message);
    return allowed->n > 0 && bsearch(public_key, allowed->list, allowed->n, sizeof *allowed->list,
                                     compare_keys) != NULL;
}
