/* An object uploaded in parts, some of them copied on the store's side. Private to storage/object.
 */
#ifndef REINFORCE_STORAGE_S3_MULTIPART_H
#define REINFORCE_STORAGE_S3_MULTIPART_H

#include "storage/object/s3_client.h"

enum {
    S3_MIN_PART_BYTES = 5 << 20, /* of every part but the last */
    S3_MAX_PARTS = 10000,
    S3_MD5_BYTES = 16,
};

/** What a part was when the store said it had it. */
struct s3_part {
    uint64_t bytes;
    uint8_t md5[S3_MD5_BYTES];
    char etag[80];
};

/** Under way between begin and end. Parts may be put by several threads, each its own. */
struct s3_multipart {
    struct s3_client *client;
    const char *key; /* borrowed */
    struct arena arena;
    char *id;
    struct s3_part *parts; /* [max_parts] */
    size_t max_parts;
    atomic_bool opaque; /* some ETag is no MD5: the store encrypts */
};

/** Nothing is left behind on failure. */
NODISCARD enum status s3_multipart_begin(struct s3_client *client, const char *key,
                                         size_t max_parts, struct s3_multipart *out,
                                         struct error *err);

/** Part `i`, counted from 0. The store checks its MD5 and SHA-256, and the ETag it answers with. */
NODISCARD enum status s3_multipart_put(struct s3_multipart *upload, size_t i,
                                       struct bytes_view body, struct error *err);

/** A range of an object that the store has, with the ETag it had when it was hashed to `md5`. */
struct s3_copy {
    const char *key, *etag;
    uint64_t offset, bytes;
    bool whole; /* all of the object */
    uint8_t md5[S3_MD5_BYTES];
};

/** ST_CONFLICT: the object has been replaced; sets client->no_copy when the store cannot copy. */
NODISCARD enum status s3_multipart_copy(struct s3_multipart *upload, size_t i,
                                        const struct s3_copy *copy, struct error *err);

/**
 * Ends the upload: parts 0..n-1 become the object when `st` is ST_OK, which is confirmed by its
 * ETag and length; else, and when that fails, they are thrown away. Returns what became of it.
 */
NODISCARD enum status s3_multipart_end(struct s3_multipart *upload, size_t n, enum status st,
                                       struct error *err);

/** Throws away the upload `id` of `key`; one that is gone is fine. */
NODISCARD enum status s3_multipart_abort(struct s3_client *client, const char *key, const char *id,
                                         struct error *err);

/** Puts `body` in one request, or in parts side by side when it is long, and confirms it. With
 * `only_new` ST_CONFLICT when `key` is there, as far as the store can tell. */
NODISCARD enum status s3_put(struct s3_client *client, const char *key, struct bytes_view body,
                             bool only_new, struct error *err);

#endif
