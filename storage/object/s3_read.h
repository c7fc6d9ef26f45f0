/* Reading ranges of objects, whatever breaks off meanwhile. Private to storage/object. */
#ifndef REINFORCE_STORAGE_S3_READ_H
#define REINFORCE_STORAGE_S3_READ_H

#include "storage/object/s3_client.h"

NODISCARD enum status s3_head(struct s3_client *client, const char *key, struct object_info *info,
                              struct error *err);

/** Exactly `len` bytes from `offset`; ST_CORRUPT when the object is shorter. `etag`: ST_CONFLICT
 * when the object has another; NULL: any, but the same for all of them. Long ranges are read in
 * pieces side by side. */
NODISCARD enum status s3_read(struct s3_client *client, const char *key, const char *etag,
                              uint64_t offset, size_t len, void *out, struct error *err);

/** All of `key`, as object_store_get(): in one request when it is no longer than a part. */
NODISCARD enum status s3_get(struct s3_client *client, const char *key, size_t max_bytes,
                             struct arena *arena, struct bytes_view *body, struct error *err);

#endif
