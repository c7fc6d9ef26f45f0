/* One object made of others' bytes. Private to storage/object. */
#ifndef REINFORCE_STORAGE_S3_JOIN_H
#define REINFORCE_STORAGE_S3_JOIN_H

#include "storage/object/s3_client.h"

/**
 * key = the parts' bytes in order, then `tail`. Keys are of the bucket, prefix included. Long parts
 * are copied on the store's side; short ones, which the store would not take as a part of an
 * upload, are gathered and sent. All are read once, for the SHA-256, and copied on the condition
 * that they are still what was read.
 */
NODISCARD enum status s3_join(struct s3_client *client, const char *const *part_keys,
                              size_t n_parts, struct bytes_view tail, const char *key,
                              struct object_written *written, struct error *err);

#endif
