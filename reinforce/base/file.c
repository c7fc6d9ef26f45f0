#include "reinforce/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 20 };

static enum status open_read(const char *path, int *fd, size_t *size, struct error *err)
{
    struct stat info;
    enum status st = ST_OK;

    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return error_set_errno(err, errno == ENOENT ? ST_NOT_FOUND : ST_UNAVAILABLE,
                               "could not open \"%s\"", path);
    if (fstat(*fd, &info) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not stat \"%s\"", path);
    else if (!S_ISREG(info.st_mode))
        st = error_set(err, ST_INVALID, "\"%s\" is not a regular file", path);
    if (st != ST_OK) {
        (void)close(*fd);
        *fd = -1;
        return st;
    }
    *size = (size_t)info.st_size;
    return ST_OK;
}

enum status file_read(const char *path, struct byte_buf *buf, struct error *err)
{
    size_t size = 0, start = buf->len;
    int fd;
    enum status st = open_read(path, &fd, &size, err);
    uint8_t *to;

    if (st != ST_OK)
        return st;
    st = byte_buf_extend(buf, size, &to, err);
    for (size_t done = 0; st == ST_OK && done < size;) {
        ssize_t n = read(fd, to + done, size - done);

        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            st = error_set(err, ST_UNAVAILABLE, "\"%s\" shrank while it was read", path);
        } else if (errno != EINTR) {
            st = error_set_errno(err, ST_UNAVAILABLE, "could not read \"%s\"", path);
        }
    }
    if (st != ST_OK) {
        buf->len = start;
        error_add_context(err, "file \"%s\"", path);
    }
    (void)close(fd);
    return st;
}

enum status file_read_pieces(const char *path, file_piece_fn *each, void *ctx, struct error *err)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    size_t size = 0;
    int fd = -1;
    enum status st = piece != NULL ? open_read(path, &fd, &size, err)
                                   : error_set(err, ST_NO_MEMORY, "could not allocate a buffer");

    for (bool more = true; st == ST_OK && more;) {
        ssize_t n = read(fd, piece, PIECE_BYTES);

        more = n != 0;
        if (n > 0)
            st = each(ctx, bytes_view_of(piece, (size_t)n), err);
        else if (n < 0 && errno != EINTR)
            st = error_set_errno(err, ST_UNAVAILABLE, "could not read \"%s\"", path);
    }
    if (fd >= 0)
        (void)close(fd);
    free(piece);
    return st;
}

static enum status write_all(int fd, const char *path, struct bytes_view data, struct error *err)
{
    for (size_t done = 0; done < data.len;) {
        ssize_t n = write(fd, data.data + done, data.len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            return error_set_errno(err, ST_UNAVAILABLE, "could not write \"%s\"", path);
    }
    if (fsync(fd) != 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not sync \"%s\"", path);
    return ST_OK;
}

enum status file_write_atomic(const char *path, struct bytes_view data, struct error *err)
{
    char temporary[PATH_MAX];
    enum status st;
    int fd;

    if (snprintf(temporary, sizeof temporary, "%s.tmp-XXXXXX", path) >= (int)sizeof temporary)
        return error_set(err, ST_INVALID, "path \"%s\" is too long", path);
    fd = mkstemp(temporary);
    if (fd < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not create a file beside \"%s\"", path);
    st = write_all(fd, path, data, err);
    if (st == ST_OK && fchmod(fd, 0644) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not set the mode of \"%s\"", path);
    (void)close(fd);
    if (st == ST_OK && rename(temporary, path) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not rename to \"%s\"", path);
    if (st != ST_OK)
        (void)unlink(temporary);
    return st;
}

enum status file_make_dirs(const char *path, struct error *err)
{
    char partial[PATH_MAX];
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof partial)
        return error_set(err, ST_INVALID, "cannot create folder \"%s\": its name is %s", path,
                         len == 0 ? "empty" : "too long");
    memcpy(partial, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (partial[i] != '/' && partial[i] != '\0')
            continue;
        partial[i] = '\0';
        if (mkdir(partial, 0777) != 0 && errno != EEXIST)
            return error_set_errno(err, ST_UNAVAILABLE, "could not create folder \"%s\"", partial);
        partial[i] = path[i];
    }
    return ST_OK;
}

enum status file_map_open(const char *path, struct file_map *map, struct error *err)
{
    size_t size = 0;
    int fd;
    enum status st;
    void *memory;

    memset(map, 0, sizeof *map);
    st = open_read(path, &fd, &size, err);
    if (st != ST_OK)
        return st;
    if (size > 0) {
        memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (memory == MAP_FAILED)
            st = error_set_errno(err, ST_UNAVAILABLE, "could not map \"%s\"", path);
        else
            map->bytes = bytes_view_of(memory, size);
    }
    (void)close(fd);
    return st;
}

void file_drop_pages(struct bytes_view mapped)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (uintptr_t)mapped.data % page;
    union {
        const uint8_t *in;
        void *out;
    } cast = {.in = mapped.data - skip};

    if (mapped.len > 0)
        (void)madvise(cast.out, mapped.len + skip, MADV_DONTNEED); /* POSIX's does nothing here */
}

void file_map_close(struct file_map *map)
{
    union {
        const uint8_t *in;
        void *out;
    } cast = {.in = map->bytes.data};

    if (map->bytes.data != NULL)
        (void)munmap(cast.out, map->bytes.len);
    memset(map, 0, sizeof *map);
}
