/* Object stores: named byte strings, whole or not at all. */
#ifndef REINFORCE_STORAGE_OBJECT_STORE_H
#define REINFORCE_STORAGE_OBJECT_STORE_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "reinforce/base/sha256.h"

#include <stdatomic.h>

/* Limits every kind keeps, so that a job moves from a folder to a bucket unchanged. */
#define OBJECT_KEY_MAX          1024              /* bytes, as S3 */
#define OBJECT_KEY_PART_MAX     255               /* bytes between slashes, as file systems */
#define OBJECT_TEMPORARY_PREFIX ".reinforce-tmp-" /* no part of a key begins so */

struct object_store;

struct object_info {
    const char
        *key; /* relative to the store's URL, "/" between folders; until the callback returns */
    uint64_t bytes;
    char etag[80]; /* changes when the object does: size-mtime for files, ETag for S3 */
};

/** How stores behind a network are reached; others take no notice. Strings are borrowed for the
 * call that opens. NULL and 0 are defaults; what a job leaves open the environment says (the
 * standard AWS_* variables), then the profile. */
struct object_store_options {
    const char *endpoint;   /* "https://store:9000"; NULL: as said above, last AWS's own */
    const char *region;     /* NULL: as said above, last us-east-1 */
    const char *addressing; /* "path", "virtual"; NULL or "auto": virtual for AWS, path elsewhere */
    const char *profile;    /* of ~/.aws; named here it goes before the environment */
    bool anonymous;         /* send no signature */
    bool allow_private;     /* http(s): also from private addresses */
    size_t part_bytes;      /* of an upload in parts and a range read in parts; 0: 8 MiB */
    int connections;        /* at once; 0: 16 */
    int max_tries;          /* of one request; 0: 8 */
    int list_keys;          /* of one page; 0: 1000, the most there is */
    bool sole_writer; /* no other process writes here: sweep() aborts every upload it finds, not
                         only those where nothing has come for stale_ms */
    int64_t stale_ms; /* 0: an hour */
    const atomic_bool *stop; /* true: requests are given up with ST_CANCELLED; may be NULL */
};

/** What was written: goes into the catalog. */
struct object_written {
    uint64_t bytes;
    char sha256[SHA256_HEX_LEN + 1];
};

/** Called per object, in byte order of keys; anything but ST_OK ends the listing with that status.
 */
typedef enum status object_list_fn(void *ctx, const struct object_info *info, struct error *err);

/** One kind of store. A store may be used by many threads at once. Keys are relative, without "..",
 * "." or "//". */
struct object_store_ops {
    const char *scheme; /* "file", "mem", "s3", "http", "https" */
    bool remote;        /* a request takes a while: readers ask ahead */

    /* Required. `url` without the scheme. On ST_OK *out owns its resources until close(). Creates
     * nothing. */
    enum status (*open)(const char *url, const struct object_store_options *options,
                        struct object_store **out, struct error *err);
    /* Required. Fills bytes and etag (key is not set). ST_NOT_FOUND. */
    enum status (*head)(struct object_store *s, const char *key, struct object_info *info,
                        struct error *err);
    /* Required. Exactly `len` bytes from `offset` into `out`; ST_CORRUPT when the object is
     * shorter. May block. */
    enum status (*read_range)(struct object_store *s, const char *key, uint64_t offset, size_t len,
                              void *out, struct error *err);
    /* Optional; NULL means head() and read_range(). As object_store_get(), where one request does.
     */
    enum status (*get)(struct object_store *s, const char *key, size_t max_bytes,
                       struct arena *arena, struct bytes_view *body, struct error *err);
    /* Required. Atomic and durable: a reader sees all the old bytes or all the new ones. With
     * `only_new` as object_store_put_new(). */
    enum status (*put)(struct object_store *s, const char *key, struct bytes_view body,
                       bool only_new, struct object_written *written, struct error *err);
    /* Required. key = the parts' bytes in order, then `tail`. Atomic and durable; parts stay. */
    enum status (*join)(struct object_store *s, const char *const *part_keys, size_t n_parts,
                        struct bytes_view tail, const char *key, struct object_written *written,
                        struct error *err);
    /* Required. All objects whose key starts with `prefix`, in byte order. Unfinished writes are
     * not listed. ST_NOT_FOUND when the store itself (its folder, its bucket) is not there. Objects
     * may be put and removed meanwhile, also by `each`; whether those are listed is open. */
    enum status (*list)(struct object_store *s, const char *prefix, object_list_fn *each, void *ctx,
                        struct error *err);
    /* Required. Absent is fine: deleting twice is deleting once. */
    enum status (*remove)(struct object_store *s, const char *key, struct error *err);
    /* Optional; NULL means an unfinished write leaves nothing. Removes under `prefix` what writes
     * of processes that are gone have left; those of living ones stay. Adds to *n_removed. */
    enum status (*sweep)(struct object_store *s, const char *prefix, size_t *n_removed,
                         struct error *err);
    /* Required. Cannot fail. */
    void (*close)(struct object_store *s);
};

struct object_store { /* first member of each kind's own struct */
    const struct object_store_ops *ops;
};

/** ST_INVALID says why `key` cannot name an object: empty, absolute, "." or ".." or empty parts,
 * too long. Everything else is allowed, byte for byte. */
NODISCARD enum status object_key_check(const char *key, struct error *err);

/** What get() says of an object of `bytes` that is larger than its reader allows: ST_INVALID. */
enum status object_too_large(const char *key, uint64_t bytes, size_t max_bytes, struct error *err);

/**
 * "file:/data/x", "file:///data/x", "/data/x" or "x" (a local folder, as written: no %xx),
 * "mem:name" (in this process, until its last handle is closed; for tests), "s3://bucket/prefix",
 * or "https://host/path" (reading alone, of objects whose names are known). *out is the caller's.
 * ST_INVALID names an unknown scheme.
 */
NODISCARD enum status object_store_open(const char *url, struct object_store **out,
                                        struct error *err);
/** The same with options, which may be NULL: all defaults. */
NODISCARD enum status object_store_open_with(const char *url,
                                             const struct object_store_options *options,
                                             struct object_store **out, struct error *err);
/** Whether a request takes long enough that readers should ask ahead. */
bool object_store_is_remote(const struct object_store *s);
NODISCARD enum status object_store_head(struct object_store *s, const char *key,
                                        struct object_info *info, struct error *err);
NODISCARD enum status object_store_read_range(struct object_store *s, const char *key,
                                              uint64_t offset, size_t len, void *out,
                                              struct error *err);
/** The whole object, up to `max_bytes`, in `arena`. ST_INVALID when it is larger. */
NODISCARD enum status object_store_get(struct object_store *s, const char *key, size_t max_bytes,
                                       struct arena *arena, struct bytes_view *body,
                                       struct error *err);
NODISCARD enum status object_store_put(struct object_store *s, const char *key,
                                       struct bytes_view body, struct object_written *written,
                                       struct error *err);
/** The same unless `key` is there: then ST_CONFLICT, and nothing has changed. Of several writers at
 * once one succeeds; but in a store without conditional writes (some that speak S3) the last may
 * win, so nothing may rest on this alone. */
NODISCARD enum status object_store_put_new(struct object_store *s, const char *key,
                                           struct bytes_view body, struct object_written *written,
                                           struct error *err);
NODISCARD enum status object_store_join(struct object_store *s, const char *const *part_keys,
                                        size_t n_parts, struct bytes_view tail, const char *key,
                                        struct object_written *written, struct error *err);
NODISCARD enum status object_store_list(struct object_store *s, const char *prefix,
                                        object_list_fn *each, void *ctx, struct error *err);
NODISCARD enum status object_store_remove(struct object_store *s, const char *key,
                                          struct error *err);
/** Removes what unfinished writes of dead processes have left under `prefix`; safe at any time (for
 * S3 see object_store_options.sole_writer). */
NODISCARD enum status object_store_sweep(struct object_store *s, const char *prefix,
                                         size_t *n_removed, struct error *err);
/** Reads the object again and hashes it: for verify. ST_CONFLICT when it was replaced meanwhile. */
NODISCARD enum status object_store_hash(struct object_store *s, const char *key,
                                        struct object_written *found, struct error *err);
void object_store_close(struct object_store **s);

/* Named by the dispatcher alone. */
extern const struct object_store_ops object_store_file;
extern const struct object_store_ops object_store_mem;
extern const struct object_store_ops object_store_s3;
extern const struct object_store_ops object_store_http;
extern const struct object_store_ops object_store_https;

#endif
