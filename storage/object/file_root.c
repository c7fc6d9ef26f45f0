/* realpath */
#define _XOPEN_SOURCE 700
#include "storage/object/file_root.h"

#include "reinforce/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    HOPS_MAX = 32, /* links in one path, as the kernel allows about 40 */
    FOLDER_FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
};

enum status file_root_fail(const char *what, const char *root, const char *key, int sys_errno,
                           struct error *err)
{
    enum status st = ST_UNAVAILABLE;
    const char *next = "";

    if (sys_errno == ENOENT) {
        st = ST_NOT_FOUND;
    } else if (sys_errno == EACCES || sys_errno == EPERM || sys_errno == EROFS) {
        st = ST_INVALID;
        next = " (give the user the right, or choose another folder)";
    } else if (sys_errno == ENAMETOOLONG || sys_errno == ELOOP) {
        st = ST_INVALID;
    } else if (sys_errno == EMFILE || sys_errno == ENFILE) {
        next = " (raise the limit of open files: ulimit -n)";
    }
    return error_set_at(err, st, sys_errno, __FILE__, __LINE__, "%s \"%s%s%s\"%s", what, root,
                        key[0] != '\0' ? "/" : "", key, next);
}

enum status file_root_split(const char *key, struct file_root_path *folder, const char **leaf,
                            struct error *err)
{
    const char *slash = strrchr(key, '/');
    size_t len = slash != NULL ? (size_t)(slash - key) : 0;

    *leaf = slash != NULL ? slash + 1 : key;
    if (len >= sizeof folder->text)
        return error_set(err, ST_INVALID, "path \"%.100s\" is too long", key);
    memcpy(folder->text, key, len);
    folder->text[len] = '\0';
    return ST_OK;
}

/* Makes `name` in `parent_fd`. The parent is synced even when another thread was first: it may not
 * have come to its own sync yet. */
static int make_folder(int parent_fd, const char *name)
{
    if (mkdirat(parent_fd, name, 0777) != 0 && errno != EEXIST)
        return -1;
    return fsync(parent_fd);
}

/* Walks from `at_fd`, which it closes, through `path`, part by part. Returns the last folder, or -1
 * with errno and how much of `path` ends in the part that could not be entered. */
static int walk(int at_fd, const char *path, bool create, size_t *stuck)
{
    const char *part = path;

    while (*part != '\0') {
        size_t len = strcspn(part, "/");
        char name[NAME_MAX + 1];
        int fd, saved;

        *stuck = (size_t)(part - path) + len;
        if (len > NAME_MAX) {
            (void)close(at_fd);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(name, part, len);
        name[len] = '\0';
        fd = openat(at_fd, name, FOLDER_FLAGS | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT && create && make_folder(at_fd, name) == 0)
            fd = openat(at_fd, name, FOLDER_FLAGS | O_NOFOLLOW);
        saved = errno;
        (void)close(at_fd);
        errno = saved;
        if (fd < 0)
            return -1;
        at_fd = fd;
        part += len + (part[len] == '/');
    }
    return at_fd;
}

/* Puts where the link at path[0, stuck) leads in its place. Nothing changes when it is no link. */
static enum status follow(const char *root, struct file_root_path *path, size_t stuck,
                          struct error *err)
{
    char *real_root = NULL, *real = NULL, *link = NULL;
    struct file_root_path next;
    size_t root_len, link_bytes = strlen(root) + stuck + 2;
    enum status st = ST_OK;

    link = malloc(link_bytes);
    if (link == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", link_bytes);
    (void)snprintf(link, link_bytes, "%s/%.*s", root, (int)stuck, path->text);
    real_root = realpath(root, NULL);
    if (real_root != NULL)
        real = realpath(link, NULL);
    if (real == NULL) {
        st = errno == ENOMEM
                 ? error_set(err, ST_NO_MEMORY, "could not allocate a path")
                 : file_root_fail("could not follow the link", root, path->text, errno, err);
        goto out;
    }
    root_len = strcmp(real_root, "/") == 0 ? 0 : strlen(real_root);
    if (strncmp(real, real_root, root_len) != 0 ||
        (real[root_len] != '/' && real[root_len] != '\0')) {
        st = error_set(err, ST_INVALID,
                       "link \"%s\" leads to \"%s\", outside of the store: copy the data into it, "
                       "or open the store further up",
                       link, real);
        goto out;
    }
    if ((size_t)snprintf(next.text, sizeof next.text, "%s%s",
                         real[root_len] == '/' ? real + root_len + 1 : real + root_len,
                         path->text + stuck) >= sizeof next.text) {
        st = error_set(err, ST_INVALID, "path \"%.100s\" is too long", link);
        goto out;
    }
    /* A link to the root itself leaves "/rest". */
    memcpy(path->text, next.text + (next.text[0] == '/'), sizeof next.text - 1);
out:
    free(real);
    free(real_root);
    free(link);
    return st;
}

static enum status open_root(const char *root, bool create, int *fd, struct error *err)
{
    enum status st;

    *fd = open(root, FOLDER_FLAGS);
    if (*fd < 0 && errno == ENOENT && create) {
        st = file_make_dirs(root, err);
        if (st != ST_OK)
            return st;
        *fd = open(root, FOLDER_FLAGS);
    }
    if (*fd < 0 && errno == ENOTDIR)
        return error_set(err, ST_INVALID, "\"%s\" is not a folder", root);
    if (*fd < 0)
        return file_root_fail("could not open folder", root, "", errno, err);
    return ST_OK;
}

enum status file_root_open_folder(const char *root, struct file_root_path *path, bool create,
                                  int *fd, struct error *err)
{
    for (int hops = 0; hops < HOPS_MAX; hops++) {
        char before[PATH_MAX];
        size_t stuck = 0;
        enum status st = open_root(root, create, fd, err);

        if (st != ST_OK)
            return st;
        *fd = walk(*fd, path->text, create, &stuck);
        if (*fd >= 0)
            return ST_OK;
        if (errno != ENOTDIR && errno != ELOOP)
            return file_root_fail(create ? "could not create folder" : "could not open folder",
                                  root, path->text, errno, err);
        memcpy(before, path->text, sizeof before);
        st = follow(root, path, stuck, err);
        if (st != ST_OK)
            return st;
        if (strcmp(before, path->text) == 0)
            return error_set(err, create ? ST_CONFLICT : ST_NOT_FOUND,
                             "\"%s/%.*s\" is a file, not a folder", root, (int)stuck, before);
    }
    return error_set(err, ST_INVALID, "\"%s/%s\" goes through more than %d links", root, path->text,
                     HOPS_MAX);
}

enum status file_root_open_object(const char *root, const char *key, int *fd, struct stat *info,
                                  struct error *err)
{
    struct file_root_path path, folder;
    size_t len = strlen(key);
    enum status st;

    *fd = -1;
    if (len >= sizeof path.text)
        return error_set(err, ST_INVALID, "path \"%.100s\" is too long", key);
    memcpy(path.text, key, len + 1);
    for (int hops = 0; hops < HOPS_MAX; hops++) {
        const char *leaf;
        int folder_fd, saved;

        st = file_root_split(path.text, &folder, &leaf, err);
        if (st == ST_OK)
            st = file_root_open_folder(root, &folder, false, &folder_fd, err);
        if (st != ST_OK)
            return st;
        /* O_NONBLOCK: a pipe must not hang us before it is refused. */
        *fd = openat(folder_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        saved = errno;
        (void)close(folder_fd);
        if (*fd >= 0)
            break;
        if (saved == ENXIO)
            return error_set(err, ST_INVALID, "\"%s/%s\" is not a regular file", root, key);
        if (saved != ELOOP)
            return file_root_fail("could not open", root, key, saved, err);
        st = follow(root, &path, strlen(path.text), err);
        if (st != ST_OK)
            return st;
        if (path.text[0] == '\0')
            return error_set(err, ST_NOT_FOUND, "\"%s/%s\" is a folder", root, key);
    }
    if (*fd < 0)
        return error_set(err, ST_INVALID, "\"%s/%s\" goes through more than %d links", root, key,
                         HOPS_MAX);
    st = ST_OK;
    if (fstat(*fd, info) != 0)
        st = file_root_fail("could not stat", root, key, errno, err);
    else if (S_ISDIR(info->st_mode))
        st = error_set(err, ST_NOT_FOUND, "\"%s/%s\" is a folder", root, key);
    else if (!S_ISREG(info->st_mode))
        st = error_set(err, ST_INVALID, "\"%s/%s\" is not a regular file", root, key);
    if (st != ST_OK) {
        (void)close(*fd);
        *fd = -1;
    }
    return st;
}
