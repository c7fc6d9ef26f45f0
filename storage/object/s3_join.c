#include "storage/object/s3_join.h"

#include "reinforce/base/parallel.h"
#include "storage/object/s3_multipart.h"
#include "storage/object/s3_read.h"

#include <openssl/evp.h>
#include <stdlib.h>

enum { WINDOW_PIECES = 4 };

/* The store takes 5 GiB at a time; less is answered sooner, and copied side by side. */
static const uint64_t max_copy_bytes = (uint64_t)256 << 20;

/* A copy, and which part of the upload it is. */
struct planned_copy {
    struct s3_copy copy;
    size_t number;
};

struct join {
    struct s3_client *client;
    const char *const *keys;
    struct object_info *infos; /* [n]: what the parts are */
    size_t n;
    struct s3_multipart upload;
    size_t n_numbers; /* parts of the upload so far */
    struct sha256 *hash;
    uint8_t *pending; /* [part_bytes]: bytes that wait to be a part */
    size_t n_pending;
    uint8_t *window; /* [window_bytes]: bytes that are hashed and copied over there */
    size_t window_bytes;
    struct planned_copy *copies;
    size_t n_copies;
};

static enum status head_one(void *ctx, size_t i, struct error *err)
{
    struct join *join = ctx;

    return s3_head(join->client, join->keys[i], &join->infos[i], err);
}

static enum status measure(struct join *join, uint64_t *total, struct error *err)
{
    enum status st;

    join->infos = calloc(join->n + 1, sizeof *join->infos);
    if (join->infos == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu lengths", join->n);
    st = parallel_run(join->n, join->client->connections, head_one, join, err);
    for (size_t i = 0; i < join->n && st == ST_OK; i++)
        if (__builtin_add_overflow(*total, join->infos[i].bytes, total))
            st = error_set(err, ST_CORRUPT, "the parts' lengths are impossible");
    return st;
}

/* All of it in memory, and up in one go. */
static enum status join_small(struct join *join, struct bytes_view tail, const char *key,
                              size_t total, struct object_written *written, struct error *err)
{
    uint8_t *body = malloc(MAX(total, (size_t)1));
    size_t at = 0;
    enum status st = ST_OK;

    if (body == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", total);
    for (size_t i = 0; i < join->n && st == ST_OK; i++) {
        if (join->infos[i].bytes > 0)
            st = s3_read(join->client, join->keys[i], join->infos[i].etag, 0,
                         (size_t)join->infos[i].bytes, body + at, err);
        at += (size_t)join->infos[i].bytes;
    }
    if (st == ST_OK && tail.len > 0)
        memcpy(body + at, tail.data, tail.len);
    if (st == ST_OK)
        st = s3_put(join->client, key, bytes_view_of(body, total), false, err);
    if (st == ST_OK) {
        written->bytes = total;
        sha256_of(bytes_view_of(body, total), written->sha256);
    }
    free(body);
    return st;
}

static enum status next_number(struct join *join, size_t *number, struct error *err)
{
    if (join->n_numbers == join->upload.max_parts)
        return error_set(err, ST_INVALID, "the object would have more than %d parts",
                         (int)S3_MAX_PARTS);
    *number = join->n_numbers++;
    return ST_OK;
}

static enum status flush(struct join *join, struct error *err)
{
    size_t number, n = join->n_pending;
    enum status st = next_number(join, &number, err);

    join->n_pending = 0;
    return st == ST_OK
               ? s3_multipart_put(&join->upload, number, bytes_view_of(join->pending, n), err)
               : st;
}

/* How many of the `rest` bytes of an object to gather: up to where its remainder may be copied. */
static size_t gather_bytes(const struct join *join, uint64_t rest, bool copies)
{
    size_t room = join->client->part_bytes - join->n_pending;
    size_t missing = S3_MIN_PART_BYTES - MIN(join->n_pending, (size_t)S3_MIN_PART_BYTES);

    if (copies && missing <= room && rest >= (uint64_t)missing + S3_MIN_PART_BYTES)
        room = missing;
    return (size_t)MIN((uint64_t)room, rest);
}

/* Hashes `bytes` from `offset` of object `i`, and plans to copy them. */
static enum status plan_copy(struct join *join, size_t i, uint64_t offset, uint64_t bytes,
                             struct error *err)
{
    struct planned_copy *planned = &join->copies[join->n_copies];
    EVP_MD_CTX *md5;
    size_t number;
    enum status st = next_number(join, &number, err);

    if (st != ST_OK)
        return st;
    join->n_copies++;
    *planned = (struct planned_copy){
        .copy = {.key = join->keys[i],
                 .etag = join->infos[i].etag,
                 .offset = offset,
                 .bytes = bytes,
                 .whole = offset == 0 && bytes == join->infos[i].bytes},
        .number = number,
    };
    md5 = EVP_MD_CTX_new();
    if (md5 == NULL || EVP_DigestInit_ex(md5, EVP_md5(), NULL) != 1)
        st = error_set(err, ST_INTERNAL, "libcrypto could not hash");
    for (uint64_t at = 0; at < bytes && st == ST_OK;) {
        size_t n = (size_t)MIN(bytes - at, (uint64_t)join->window_bytes);

        st = s3_read(join->client, planned->copy.key, planned->copy.etag, offset + at, n,
                     join->window, err);
        if (st == ST_OK && EVP_DigestUpdate(md5, join->window, n) != 1)
            st = error_set(err, ST_INTERNAL, "libcrypto could not hash");
        sha256_update(join->hash, join->window, st == ST_OK ? n : 0);
        at += n;
    }
    if (st == ST_OK && EVP_DigestFinal_ex(md5, planned->copy.md5, NULL) != 1)
        st = error_set(err, ST_INTERNAL, "libcrypto could not hash");
    EVP_MD_CTX_free(md5);
    return st;
}

static enum status add_object(struct join *join, size_t i, struct error *err)
{
    bool copies = !atomic_load(&join->client->no_copy);
    uint64_t size = join->infos[i].bytes, at = 0;
    enum status st = ST_OK;

    while (at < size && st == ST_OK) {
        uint64_t rest = size - at;
        bool long_enough = copies && rest >= S3_MIN_PART_BYTES;
        size_t n;

        if (long_enough && join->n_pending == 0) {
            uint64_t bytes = MIN(rest, max_copy_bytes);

            if (rest - bytes > 0 && rest - bytes < S3_MIN_PART_BYTES)
                bytes = rest - S3_MIN_PART_BYTES;
            st = plan_copy(join, i, at, bytes, err);
            at += bytes;
            continue;
        }
        if (join->n_pending == join->client->part_bytes ||
            (long_enough && join->n_pending >= S3_MIN_PART_BYTES)) {
            st = flush(join, err);
            continue;
        }
        n = gather_bytes(join, rest, copies);
        st = s3_read(join->client, join->keys[i], join->infos[i].etag, at, n,
                     join->pending + join->n_pending, err);
        if (st == ST_OK)
            sha256_update(join->hash, join->pending + join->n_pending, n);
        join->n_pending += n;
        at += n;
    }
    return st;
}

static enum status add_tail(struct join *join, struct bytes_view tail, struct error *err)
{
    enum status st = ST_OK;

    sha256_update(join->hash, tail.data, tail.len);
    for (size_t at = 0; at < tail.len && st == ST_OK;) {
        size_t n = MIN(join->client->part_bytes - join->n_pending, tail.len - at);

        memcpy(join->pending + join->n_pending, tail.data + at, n);
        join->n_pending += n;
        at += n;
        if (join->n_pending == join->client->part_bytes)
            st = flush(join, err);
    }
    return st == ST_OK && join->n_pending > 0 ? flush(join, err) : st;
}

static enum status copy_one(void *ctx, size_t i, struct error *err)
{
    struct join *join = ctx;

    return s3_multipart_copy(&join->upload, join->copies[i].number, &join->copies[i].copy, err);
}

static enum status allocate(struct join *join, size_t max_numbers, struct error *err)
{
    join->window_bytes = WINDOW_PIECES * join->client->part_bytes;
    join->pending = malloc(join->client->part_bytes);
    join->window = malloc(join->window_bytes);
    join->copies = calloc(max_numbers, sizeof *join->copies);
    if (join->pending == NULL || join->window == NULL || join->copies == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes to join objects",
                         join->client->part_bytes + join->window_bytes);
    return sha256_create(&join->hash, err);
}

static enum status join_large(struct join *join, struct bytes_view tail, const char *key,
                              uint64_t total, struct object_written *written, struct error *err)
{
    /* Every part of the upload but the last has at least so many bytes. */
    uint64_t most = total / MIN(join->client->part_bytes, (size_t)S3_MIN_PART_BYTES) + 2;
    size_t max_numbers = (size_t)MIN(most, (uint64_t)S3_MAX_PARTS);
    enum status st = allocate(join, max_numbers, err);

    if (st == ST_OK)
        st = s3_multipart_begin(join->client, key, max_numbers, &join->upload, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < join->n && st == ST_OK; i++)
        st = add_object(join, i, err);
    if (st == ST_OK)
        st = add_tail(join, tail, err);
    if (st == ST_OK)
        st = parallel_run(join->n_copies, join->client->connections, copy_one, join, err);
    st = s3_multipart_end(&join->upload, join->n_numbers, st, err);
    if (st == ST_OK) {
        written->bytes = total;
        sha256_hex(join->hash, written->sha256);
    }
    return st;
}

static void release(struct join *join)
{
    sha256_destroy(&join->hash);
    free(join->copies);
    free(join->window);
    free(join->pending);
    free(join->infos);
}

enum status s3_join(struct s3_client *client, const char *const *part_keys, size_t n_parts,
                    struct bytes_view tail, const char *key, struct object_written *written,
                    struct error *err)
{
    enum status st;

    for (int tries = 0;; tries++) {
        struct join join = {.client = client, .keys = part_keys, .n = n_parts};
        bool copied = !atomic_load(&client->no_copy);
        uint64_t total = tail.len;

        st = measure(&join, &total, err);
        if (st == ST_OK)
            st = total <= client->part_bytes
                     ? join_small(&join, tail, key, (size_t)total, written, err)
                     : join_large(&join, tail, key, total, written, err);
        release(&join);
        /* A store that turned out not to copy is sent the bytes instead. */
        if (st == ST_OK || tries > 0 || !copied || !atomic_load(&client->no_copy))
            return st;
    }
}
