#include "coordinator/curator/selection_log.h"

#include "coordinator/curator/task.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/base/file_lock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/sha256.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

enum { REQUEST = 0, REPLY = 1, INDICES = 2, DIGEST = 3 };
enum { HEAD_SUM_AT = 4, PARTS_SUM_AT = 8, TIME_AT = 16 };
enum { MAGIC_BYTES = 8, FIXED_BYTES = 24, SMALL_B = 1 << 16 };

static const char magic[MAGIC_BYTES + 1] = "RCURLOG1";

struct selection_log {
    int fd;
    struct file_lock lock;
    bool with_inputs;
    off_t end; /* behind the last whole record */
    struct byte_buf indices, head;
    atomic_ullong n_logged, n_not_logged;
};

static size_t index_bytes(size_t B)
{
    return B <= SMALL_B ? sizeof(uint16_t) : sizeof(uint32_t);
}

static void put_u32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get_u32(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint32_t head_sum(const uint8_t *head, size_t n_parts)
{
    uLong crc = crc32_z(0, head, HEAD_SUM_AT);

    return (uint32_t)crc32_z(crc, head + PARTS_SUM_AT, FIXED_BYTES - PARTS_SUM_AT + 8 * n_parts);
}

static uint32_t parts_sum(const struct selection_record *record)
{
    uLong crc = 0;

    for (size_t p = 0; p < record->n_parts; p++)
        if (record->parts[p].len > 0)
            crc = crc32_z(crc, record->parts[p].data, record->parts[p].len);
    return (uint32_t)crc;
}

enum status selection_record_head(const struct selection_record *record, struct byte_buf *out,
                                  struct error *err)
{
    uint8_t *head;
    enum status st = byte_buf_extend(out, FIXED_BYTES + 8 * record->n_parts, &head, err);

    if (st != ST_OK)
        return st;
    put_u32(head, (uint32_t)record->n_parts);
    put_u32(head + PARTS_SUM_AT, parts_sum(record));
    put_u32(head + PARTS_SUM_AT + 4, 0);
    bytes_put_u64(head + TIME_AT, record->wall_ms);
    for (size_t p = 0; p < record->n_parts; p++)
        bytes_put_u64(head + FIXED_BYTES + 8 * p, record->parts[p].len);
    put_u32(head + HEAD_SUM_AT, head_sum(head, record->n_parts));
    return ST_OK;
}

static enum status cut(size_t at, bool *is_cut, struct error *err)
{
    *is_cut = true;
    return error_set(err, ST_CORRUPT, "the record at byte %zu is cut", at);
}

enum status selection_log_next(struct bytes_view log, size_t *at, struct selection_record *record,
                               bool *is_cut, struct error *err)
{
    size_t begin = MAX(*at, (size_t)MAGIC_BYTES), left = log.len - begin, used;
    const uint8_t *head = log.data + begin;

    *is_cut = false;
    *record = (struct selection_record){0};
    if (log.len < MAGIC_BYTES || memcmp(log.data, magic, MAGIC_BYTES) != 0)
        return error_set(err, ST_CORRUPT, "not a selection log");
    if (left == 0)
        return ST_END;
    if (left < FIXED_BYTES)
        return cut(begin, is_cut, err);
    record->n_parts = get_u32(head);
    if (record->n_parts < SELECTION_LOG_FRAME || record->n_parts > SELECTION_LOG_MAX_PARTS)
        return error_set(err, ST_CORRUPT, "the record at byte %zu has %zu parts", begin,
                         record->n_parts);
    used = FIXED_BYTES + 8 * record->n_parts;
    if (left < used)
        return cut(begin, is_cut, err);
    if (head_sum(head, record->n_parts) != get_u32(head + HEAD_SUM_AT))
        return error_set(err, ST_CORRUPT, "the record at byte %zu has another checksum", begin);
    for (size_t p = 0; p < record->n_parts; p++) {
        uint64_t len = bytes_get_u64(head + FIXED_BYTES + 8 * p);

        if (len > left - used)
            return cut(begin, is_cut, err);
        record->parts[p] = bytes_view_of(head + used, len);
        used += len;
    }
    record->wall_ms = bytes_get_u64(head + TIME_AT);
    if (parts_sum(record) != get_u32(head + PARTS_SUM_AT))
        return error_set(err, ST_CORRUPT, "the record at byte %zu has another checksum", begin);
    *at = begin + used;
    return ST_OK;
}

static enum status read_indices(struct bytes_view part, size_t B, size_t b, uint32_t **out,
                                struct arena *arena, struct error *err)
{
    size_t bytes = index_bytes(B);
    enum status st;

    if (part.len != b * bytes)
        return error_set(err, ST_CORRUPT, "indices have %zu bytes, expected %zu of %zu", part.len,
                         b, bytes);
    st = arena_alloc(arena, b * sizeof **out, out, err);
    for (size_t i = 0; i < b && st == ST_OK; i++) {
        const uint8_t *from = part.data + i * bytes;

        (*out)[i] = bytes == 2 ? from[0] | (uint32_t)from[1] << 8 : get_u32(from);
    }
    return st;
}

enum status selection_record_read(const struct selection_record *record,
                                  struct logged_selection *logged, struct arena *arena,
                                  struct error *err)
{
    const struct bytes_view *frames = record->parts + SELECTION_LOG_FRAME;
    char digest[SHA256_HEX_LEN + 1];
    enum status st;

    *logged = (struct logged_selection){.has_inputs = record->n_parts > SELECTION_LOG_FRAME};
    st =
        curator_request_decode(record->parts[REQUEST], logged->has_inputs ? frames : NULL,
                               record->n_parts - SELECTION_LOG_FRAME, &logged->request, arena, err);
    if (st == ST_OK)
        st = curator_reply_decode(record->parts[REPLY], NULL, 0, &logged->reply, arena, err);
    if (st == ST_OK && logged->has_inputs) {
        sha256_of(logged->request.ids, digest);
        if (!bytes_equal(record->parts[DIGEST], bytes_of_string(digest)))
            st = error_set(err, ST_CORRUPT, "the ids have another SHA-256");
    }
    return st == ST_OK ? read_indices(record->parts[INDICES], logged->request.B,
                                      logged->reply.n_selected, &logged->index, arena, err)
                       : st;
}

/* Where the next record goes; what a crash has cut is cut off. */
static enum status find_end(struct selection_log *log, const char *path, struct error *err)
{
    struct selection_record record;
    struct file_map map;
    bool is_cut = false;
    size_t at = MAGIC_BYTES;
    enum status st = file_map_open(path, &map, err);

    if (st != ST_OK)
        return st;
    if (map.bytes.len == 0) {
        file_map_close(&map);
        log->end = MAGIC_BYTES;
        return write(log->fd, magic, MAGIC_BYTES) == MAGIC_BYTES
                   ? ST_OK
                   : error_set_errno(err, ST_UNAVAILABLE, "could not begin it");
    }
    while (st == ST_OK)
        st = selection_log_next(map.bytes, &at, &record, &is_cut, err);
    log->end = (off_t)at;
    if (is_cut) {
        log_at(LOG_WARN, "selection_log_cut", "path=\"%s\" cause=\"%s\"", path, err->message);
        st = ftruncate(log->fd, log->end) == 0
                 ? ST_OK
                 : error_set_errno(err, ST_UNAVAILABLE, "could not cut it");
    }
    file_map_close(&map);
    return st == ST_END ? ST_OK : st;
}

enum status selection_log_open(const char *path, bool with_inputs, struct selection_log **out,
                               struct error *err)
{
    struct selection_log *log = calloc(1, sizeof *log);
    char lock[PATH_MAX];
    enum status st;

    *out = log;
    if (log == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a selection log");
    log->with_inputs = with_inputs;
    byte_buf_init(&log->indices, (size_t)CURATOR_MAX_EXAMPLES * sizeof(uint32_t));
    byte_buf_init(&log->head, 1 << 12);
    log->fd = -1;
    (void)snprintf(lock, sizeof lock, "%s.lock", path);
    log->lock.fd = -1;
    st = file_lock_take(lock, &log->lock, err);
    if (st == ST_OK)
        log->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (st == ST_OK && log->fd < 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not be opened");
    if (st == ST_OK)
        st = find_end(log, path, err);
    if (st == ST_OK && lseek(log->fd, log->end, SEEK_SET) < 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "cannot be written at its end");
    if (st != ST_OK) {
        error_add_context(err, "selection log \"%s\"", path);
        selection_log_close(out);
    }
    return st;
}

void selection_log_close(struct selection_log **log)
{
    if (*log == NULL)
        return;
    if ((*log)->fd >= 0) {
        (void)fsync((*log)->fd);
        (void)close((*log)->fd);
    }
    file_lock_release(&(*log)->lock);
    byte_buf_release(&(*log)->indices);
    byte_buf_release(&(*log)->head);
    free(*log);
    *log = NULL;
}

static enum status narrow(struct byte_buf *out, struct bytes_view index, size_t B,
                          struct error *err)
{
    size_t n = index.len / sizeof(uint32_t), bytes = index_bytes(B);
    uint8_t *to;
    enum status st;

    byte_buf_reset(out);
    st = byte_buf_extend(out, n * bytes, &to, err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        memcpy(to + i * bytes, index.data + i * sizeof(uint32_t), bytes); /* little endian */
    return st;
}

/* One system call if the disk takes it all. */
static enum status write_all(int fd, struct iovec *pieces, int n, struct error *err)
{
    while (n > 0) {
        ssize_t written = writev(fd, pieces, n);

        if (written < 0)
            return error_set_errno(err, ST_UNAVAILABLE, "could not write");
        for (; n > 0 && (size_t)written >= pieces->iov_len; pieces++, n--)
            written -= (ssize_t)pieces->iov_len;
        if (n > 0) {
            pieces->iov_base = (uint8_t *)pieces->iov_base + written;
            pieces->iov_len -= (size_t)written;
        }
    }
    return ST_OK;
}

static enum status append(struct selection_log *log, const struct selection_record *record,
                          struct error *err)
{
    struct iovec pieces[1 + SELECTION_LOG_MAX_PARTS];
    off_t end = log->end;
    enum status st;

    byte_buf_reset(&log->head);
    st = selection_record_head(record, &log->head, err);
    if (st != ST_OK)
        return st;
    pieces[0] = (struct iovec){.iov_base = log->head.data, .iov_len = log->head.len};
    end += (off_t)log->head.len;
    for (size_t p = 0; p < record->n_parts; p++) {
        void *data;

        memcpy(&data, &record->parts[p].data, sizeof data); /* writev() only reads it */
        pieces[1 + p] = (struct iovec){.iov_base = data, .iov_len = record->parts[p].len};
        end += (off_t)record->parts[p].len;
    }
    st = write_all(log->fd, pieces, (int)(1 + record->n_parts), err);
    if (st == ST_OK)
        log->end = end;
    else if (ftruncate(log->fd, log->end) != 0 || lseek(log->fd, log->end, SEEK_SET) < 0)
        log_at(LOG_ERROR, "selection_log_broken", "cause=\"could not cut off half a record\"");
    return st;
}

void selection_log_write(struct selection_log *log, const struct task *task)
{
    const struct curator_answer *answer = &task->answer;
    struct selection_record record = {.wall_ms = (uint64_t)clock_wall_ms(),
                                      .n_parts = SELECTION_LOG_FRAME};
    char digest[SHA256_HEX_LEN + 1];
    struct error err;
    enum status st =
        narrow(&log->indices, curator_answer_frame(answer, 0), task->request.select.B, &err);

    sha256_of(task->request.select.ids, digest);
    record.parts[REQUEST] = task->message;
    record.parts[REPLY] = curator_answer_message(answer);
    record.parts[INDICES] = byte_buf_view(&log->indices);
    record.parts[DIGEST] = bytes_of_string(digest);
    for (size_t f = 0; f < task->n_frames && log->with_inputs; f++)
        record.parts[record.n_parts++] = task->frames[f];
    if (st == ST_OK)
        st = append(log, &record, &err);
    if (st == ST_OK)
        atomic_fetch_add(&log->n_logged, 1);
    else if (atomic_fetch_add(&log->n_not_logged, 1) == 0)
        log_at(LOG_ERROR, "selection_not_logged", "cause=\"%s\"", err.message);
}

void selection_log_count(const struct selection_log *log, uint64_t *n_logged,
                         uint64_t *n_not_logged)
{
    *n_logged = atomic_load(&log->n_logged);
    *n_not_logged = atomic_load(&log->n_not_logged);
}
