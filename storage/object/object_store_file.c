/*
 * A folder as an object store. Keys are paths below it.
 *
 * A write goes to a temporary name in the folder of its key, is synced, renamed, and the folder is
 * synced. While it lasts the writer holds a lock on the temporary file; the kernel drops it when
 * the process dies, however it dies and wherever it ran, which is how sweep() tells a leftover from
 * a write under way. Process ids could not: they repeat, and mean nothing across machines and
 * containers that share a folder.
 */
#include "reinforce/base/clock.h"
#include "storage/object/file_root.h"
#include "storage/object/file_walk.h"
#include "storage/object/object_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    COPY_CHUNK_BYTES = 1 << 20,
    CREATE_TRIES = 64, /* a folder removed, or a name swept, between two steps: begin again */
};

struct file_store {
    struct object_store base;
    atomic_uint n_writes; /* makes temporary names differ */
    char root[];          /* absolute: a later chdir changes nothing; without a slash at the end */
};

/* A write under way. */
struct file_write {
    int folder_fd, fd;
    const char *leaf; /* points into the key */
    const char *key;
    char temporary[64];
    uint64_t bytes;
    bool only_new; /* whatever is there stays */
};

static struct file_store *self(struct object_store *s)
{
    return (struct file_store *)(void *)s;
}

static enum status file_open(const char *url, const struct object_store_options *options,
                             struct object_store **out, struct error *err)
{
    char here[PATH_MAX] = "";
    struct file_store *store;
    size_t bytes, len;

    (void)options;
    if (strncmp(url, "//", 2) == 0) {
        if (url[2] != '/')
            return error_set(err, ST_INVALID,
                             "\"file:%.100s\" names a host; write file:///folder or file:folder",
                             url);
        url += 2;
    }
    if (url[0] == '\0')
        return error_set(err, ST_INVALID, "the folder's name is empty (\".\" is the current one)");
    if (url[0] != '/' && getcwd(here, sizeof here) == NULL)
        return error_set_errno(err, ST_UNAVAILABLE, "could not name the current folder");
    bytes = strlen(here) + 1 + strlen(url) + 1;
    if (bytes > PATH_MAX)
        return error_set(err, ST_INVALID, "folder name \"%.100s\" is too long", url);
    store = calloc(1, sizeof *store + bytes);
    if (store == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", sizeof *store + bytes);
    store->base.ops = &object_store_file;
    (void)snprintf(store->root, bytes, "%s%s%s", here, here[0] != '\0' ? "/" : "", url);
    for (len = strlen(store->root); len > 1 && store->root[len - 1] == '/'; len--)
        store->root[len - 1] = '\0';
    *out = &store->base;
    return ST_OK;
}

static enum status file_head(struct object_store *s, const char *key, struct object_info *info,
                             struct error *err)
{
    struct stat found;
    int fd;
    enum status st = file_root_open_object(self(s)->root, key, &fd, &found, err);

    if (st != ST_OK)
        return st;
    file_walk_info(&found, info);
    (void)close(fd);
    return ST_OK;
}

static enum status file_read_range(struct object_store *s, const char *key, uint64_t offset,
                                   size_t len, void *out, struct error *err)
{
    const char *root = self(s)->root;
    struct stat info;
    int fd;
    enum status st = file_root_open_object(root, key, &fd, &info, err);

    if (st != ST_OK)
        return st;
    if (offset > (uint64_t)info.st_size || len > (uint64_t)info.st_size - offset) {
        st = error_set(err, ST_CORRUPT,
                       "\"%s/%s\" has %llu bytes, but %zu were expected from offset %llu", root,
                       key, (unsigned long long)info.st_size, len, (unsigned long long)offset);
        goto out;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)out + done, len - done, (off_t)(offset + done));

        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            st = error_set(err, ST_CORRUPT, "\"%s/%s\" was cut short while it was read", root, key);
            break;
        } else if (errno != EINTR) {
            st = file_root_fail("could not read", root, key, errno, err);
            break;
        }
    }
out:
    (void)close(fd);
    return st;
}

/* Says what to free when the disk, the quota or a size limit stops a write of `bytes`. */
static enum status write_fail(const struct file_store *store, const struct file_write *w,
                              const char *what, int sys_errno, struct error *err)
{
    struct statvfs disk;
    unsigned long long room = 0;

    if (sys_errno == EFBIG)
        return error_set(err, ST_FULL,
                         "could not write %llu bytes of \"%s\": files on \"%s\" may not be so "
                         "large (see ulimit -f)",
                         (unsigned long long)w->bytes, w->key, store->root);
    if (sys_errno != ENOSPC && sys_errno != EDQUOT)
        return file_root_fail(what, store->root, w->key, sys_errno, err);
    if (statvfs(store->root, &disk) == 0)
        room = (unsigned long long)disk.f_bavail * disk.f_frsize;
    return error_set(err, ST_FULL,
                     "%s: could not write %llu bytes of \"%s\", %llu are left: free space on the "
                     "disk of \"%s\" and run the same command again",
                     sys_errno == ENOSPC ? "the disk is full" : "the disk quota is used up",
                     (unsigned long long)w->bytes, w->key, room, store->root);
}

/* A new temporary file, locked. -1 with errno; EAGAIN: begin again. */
static int create_temporary(struct file_store *store, struct file_write *w)
{
    int fd;
    struct stat info;

    (void)snprintf(w->temporary, sizeof w->temporary, OBJECT_TEMPORARY_PREFIX "%ld-%llx-%x",
                   (long)getpid(), (unsigned long long)clock_monotonic_ns(),
                   atomic_fetch_add(&store->n_writes, 1));
    fd = openat(w->folder_fd, w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        /* EEXIST: another machine had the same thought. ENOENT: remove() took the empty folder. */
        if (errno == EEXIST || errno == ENOENT)
            errno = EAGAIN;
        return -1;
    }
    /* A sweep may have come between: it holds the lock, or the name is gone already. Where locks do
     * not exist sweep() cannot take one either and leaves everything alone. */
    if ((flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) ||
        (fstat(fd, &info) == 0 && info.st_nlink == 0)) {
        (void)close(fd);
        errno = EAGAIN;
        return -1;
    }
    return fd;
}

/* `bytes`: how much is coming, for the story when the disk is full. */
static enum status write_begin(struct file_store *store, const char *key, uint64_t bytes,
                               struct file_write *w, struct error *err)
{
    for (int tries = 0; tries < CREATE_TRIES; tries++) {
        struct file_root_path folder;
        enum status st;
        int saved;

        *w = (struct file_write){.folder_fd = -1, .fd = -1, .key = key, .bytes = bytes};
        st = file_root_split(key, &folder, &w->leaf, err);
        if (st == ST_OK)
            st = file_root_open_folder(store->root, &folder, true, &w->folder_fd, err);
        if (st == ST_NOT_FOUND && tries + 1 < CREATE_TRIES)
            continue; /* an empty folder was removed while we walked through it */
        if (st != ST_OK && (err->sys_errno == ENOSPC || err->sys_errno == EDQUOT))
            return write_fail(store, w, "could not create the folder of", err->sys_errno, err);
        if (st != ST_OK)
            return st;
        w->fd = create_temporary(store, w);
        if (w->fd >= 0)
            return ST_OK;
        saved = errno;
        (void)close(w->folder_fd);
        if (saved != EAGAIN)
            return write_fail(store, w, "could not create a file for", saved, err);
    }
    return error_set(err, ST_UNAVAILABLE, "could not create a file for \"%s/%s\" in %d tries",
                     store->root, key, CREATE_TRIES);
}

static enum status write_bytes(const struct file_store *store, struct file_write *w,
                               struct bytes_view data, struct error *err)
{
    for (size_t done = 0; done < data.len;) {
        ssize_t n = write(w->fd, data.data + done, data.len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            return write_fail(store, w, "could not write", errno, err);
    }
    return ST_OK;
}

/* Gives the temporary file its name. -1 with errno; EEXIST: only a new object may have it. */
static int take_name(const struct file_write *w)
{
    struct stat info;

    if (!w->only_new)
        return renameat(w->folder_fd, w->temporary, w->folder_fd, w->leaf);
    if (linkat(w->folder_fd, w->temporary, w->folder_fd, w->leaf, 0) == 0) {
        (void)unlinkat(w->folder_fd, w->temporary, 0);
        return 0;
    }
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
        return -1;
    /* A file system without links: as near as it gets. */
    if (fstatat(w->folder_fd, w->leaf, &info, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return -1;
    }
    return renameat(w->folder_fd, w->temporary, w->folder_fd, w->leaf);
}

/* Ends the write, well when `st` is ST_OK: durable under its name, or gone without trace. */
static enum status write_end(const struct file_store *store, struct file_write *w,
                             uint64_t expected_bytes, enum status st, struct error *err)
{
    struct stat info;

    if (st == ST_OK && fsync(w->fd) != 0)
        st = write_fail(store, w, "could not sync", errno, err);
    if (st == ST_OK && fstat(w->fd, &info) != 0)
        st = write_fail(store, w, "could not stat", errno, err);
    if (st == ST_OK && (uint64_t)info.st_size != expected_bytes)
        st = error_set(err, ST_UNAVAILABLE, "\"%s/%s\" has %llu bytes after %llu were written",
                       store->root, w->key, (unsigned long long)info.st_size,
                       (unsigned long long)expected_bytes);
    if (st == ST_OK && take_name(w) != 0) {
        if (errno == EISDIR)
            st =
                error_set(err, ST_CONFLICT, "\"%s/%s\" is a folder: an object cannot take its name",
                          store->root, w->key);
        else if (errno == EEXIST)
            st = error_set(err, ST_CONFLICT, "\"%s/%s\" is there already", store->root, w->key);
        else
            st = write_fail(store, w, "could not rename to", errno, err);
    }
    if (st != ST_OK)
        (void)unlinkat(w->folder_fd, w->temporary, 0);
    else if (fsync(w->folder_fd) != 0)
        st = write_fail(store, w, "could not sync the folder of", errno, err);
    (void)close(w->fd);
    (void)close(w->folder_fd);
    return st;
}

static enum status file_put(struct object_store *s, const char *key, struct bytes_view body,
                            bool only_new, struct object_written *written, struct error *err)
{
    struct file_store *store = self(s);
    struct file_write w;
    enum status st = write_begin(store, key, body.len, &w, err);

    if (st != ST_OK)
        return st;
    w.only_new = only_new;
    st = write_bytes(store, &w, body, err);
    st = write_end(store, &w, body.len, st, err);
    if (st == ST_OK) {
        written->bytes = body.len;
        sha256_of(body, written->sha256);
    }
    return st;
}

/* Appends the object `from` to the write and to the hash. */
static enum status copy_object(const struct file_store *store, const char *from,
                               struct file_write *w, struct sha256 *hash, uint8_t *chunk,
                               uint64_t *n_bytes, struct error *err)
{
    struct stat info;
    uint64_t copied = 0;
    int fd;
    enum status st = file_root_open_object(store->root, from, &fd, &info, err);

    if (st != ST_OK)
        return st;
    for (;;) {
        ssize_t n = read(fd, chunk, COPY_CHUNK_BYTES);

        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = file_root_fail("could not read", store->root, from, errno, err);
            break;
        }
        sha256_update(hash, chunk, (size_t)n);
        st = write_bytes(store, w, bytes_view_of(chunk, (size_t)n), err);
        if (st != ST_OK)
            break;
        copied += (uint64_t)n;
    }
    if (st == ST_OK && copied != (uint64_t)info.st_size)
        st = error_set(err, ST_CORRUPT, "part \"%s/%s\" changed while it was copied", store->root,
                       from);
    *n_bytes += copied;
    (void)close(fd);
    return st;
}

static enum status file_join(struct object_store *s, const char *const *part_keys, size_t n_parts,
                             struct bytes_view tail, const char *key,
                             struct object_written *written, struct error *err)
{
    struct file_store *store = self(s);
    struct file_write w = {0};
    struct sha256 *hash = NULL;
    uint8_t *chunk = NULL;
    uint64_t n_bytes = tail.len;
    enum status st = ST_OK;

    for (size_t i = 0; i < n_parts; i++) {
        struct object_info part;

        st = file_head(s, part_keys[i], &part, err);
        if (st != ST_OK)
            return st;
        n_bytes += part.bytes;
    }
    st = sha256_create(&hash, err);
    if (st != ST_OK)
        return st;
    chunk = malloc(COPY_CHUNK_BYTES);
    if (chunk == NULL) {
        st = error_set(err, ST_NO_MEMORY, "could not allocate %d bytes", COPY_CHUNK_BYTES);
        goto out;
    }
    st = write_begin(store, key, n_bytes, &w, err);
    if (st != ST_OK)
        goto out;
    n_bytes = tail.len;
    for (size_t i = 0; st == ST_OK && i < n_parts; i++)
        st = copy_object(store, part_keys[i], &w, hash, chunk, &n_bytes, err);
    if (st == ST_OK) {
        sha256_update(hash, tail.data, tail.len);
        st = write_bytes(store, &w, tail, err);
    }
    st = write_end(store, &w, n_bytes, st, err);
    if (st == ST_OK) {
        written->bytes = n_bytes;
        sha256_hex(hash, written->sha256);
    }
out:
    free(chunk);
    sha256_destroy(&hash);
    return st;
}

static enum status file_remove(struct object_store *s, const char *key, struct error *err)
{
    const struct file_store *store = self(s);
    struct file_root_path folder;
    const char *leaf;
    int fd, root_fd, result, saved;
    enum status st = file_root_split(key, &folder, &leaf, err);

    if (st == ST_OK)
        st = file_root_open_folder(store->root, &folder, false, &fd, err);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st != ST_OK)
        return st;
    result = unlinkat(fd, leaf, 0);
    saved = errno;
    (void)close(fd);
    if (result != 0 && saved != ENOENT && saved != EISDIR)
        return file_root_fail("could not remove", store->root, key, saved, err);
    /* A bucket has no empty folders, so neither do we: drop those that this left empty. A folder
     * with anything in it, a write under way included, stays. */
    root_fd = open(store->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (root_fd >= 0 && result == 0 && folder.text[0] != '\0' &&
           unlinkat(root_fd, folder.text, AT_REMOVEDIR) == 0) {
        char *slash = strrchr(folder.text, '/');

        *(slash != NULL ? slash : folder.text) = '\0';
    }
    if (root_fd >= 0)
        (void)close(root_fd);
    return ST_OK;
}

static enum status file_list(struct object_store *s, const char *prefix, object_list_fn *each,
                             void *ctx, struct error *err)
{
    return file_walk_list(self(s)->root, prefix, each, ctx, err);
}

static enum status file_sweep(struct object_store *s, const char *prefix, size_t *n_removed,
                              struct error *err)
{
    return file_walk_sweep(self(s)->root, prefix, n_removed, err);
}

static void file_close(struct object_store *s)
{
    free(s);
}

const struct object_store_ops object_store_file = {
    .scheme = "file",
    .open = file_open,
    .head = file_head,
    .read_range = file_read_range,
    .put = file_put,
    .join = file_join,
    .list = file_list,
    .remove = file_remove,
    .sweep = file_sweep,
    .close = file_close,
};
