/* A range of an object over HTTP, whatever breaks off meanwhile. Private to storage/object. */
#ifndef REINFORCE_STORAGE_RANGE_READ_H
#define REINFORCE_STORAGE_RANGE_READ_H

#include "storage/http/http.h"

/** Asks for `len` bytes from `begin`; the rest as http_run(). */
typedef enum status range_ask_fn(void *ctx, uint64_t begin, uint64_t len, http_body_fn *each,
                                 void *each_ctx, struct http_response *response, struct error *err);

/** Where a range is read from. Borrowed. */
struct range_source {
    range_ask_fn *ask;
    void *ctx;
    const char *name; /* for messages: "s3://bucket/key" */
    const char *etag; /* of the version that is wanted; NULL: any, but one */
};

/**
 * Exactly `len` bytes from `offset` into `out`. An answer that breaks off is gone on with where it
 * broke, for as long as each brings some bytes. ST_CORRUPT: the object is shorter; ST_CONFLICT: it
 * is, or has become, another version.
 */
NODISCARD enum status range_read(const struct range_source *source, uint64_t offset, size_t len,
                                 void *out, struct error *err);

enum status range_too_short(const char *name, uint64_t offset, size_t len, struct error *err);

#endif
