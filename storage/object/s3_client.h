/* One signed request to one bucket, and what its failures mean. Private to storage/object. */
#ifndef REINFORCE_STORAGE_S3_CLIENT_H
#define REINFORCE_STORAGE_S3_CLIENT_H

#include "storage/http/http.h"
#include "storage/object/aws_credentials.h"
#include "storage/object/s3_answer.h"
#include "storage/object/s3_config.h"

/** Shared by threads; immutable but for the atomics. */
struct s3_client {
    struct s3_config config;
    struct arena arena; /* of the configuration */
    struct http *http;
    struct aws_credentials *credentials; /* NULL: requests are not signed */
    size_t part_bytes;
    size_t connections;
    int max_tries, list_keys;
    bool sole_writer;
    int64_t stale_ms;
    atomic_llong skew_ms; /* how far the server's clock is ahead of ours, once it has complained */
    atomic_bool no_copy;  /* the store cannot copy on its side */
    atomic_bool no_condition; /* nor write on a condition */
};

struct s3_request {
    const char *method;
    const char *key; /* in the bucket, prefix included; NULL: the bucket itself */
    const struct http_header *query;
    size_t n_query;
    const struct http_header *headers; /* beside those every request has */
    size_t n_headers;
    struct bytes_view body;
    const char *body_sha256;         /* NULL: hashed here */
    uint64_t range_begin, range_len; /* as in http.h */
};

NODISCARD enum status s3_client_open(const char *url, const struct object_store_options *options,
                                     struct s3_client *out, struct error *err);
void s3_client_close(struct s3_client *client);

/**
 * Runs `request` signed; limits, callback and release of `response` as http_run(). Beyond that one:
 * sets its clock by the server's, and takes a new key when the old one has expired. The message
 * names bucket, key, status and S3's code, and what to do.
 *
 * ST_NOT_FOUND no such key, bucket or upload; ST_CONFLICT a condition did not hold; ST_FULL a
 * quota; ST_INVALID refused for good; ST_UNAVAILABLE, ST_TIMEOUT may work later; ST_CANCELLED.
 */
NODISCARD enum status s3_call(struct s3_client *client, const struct s3_request *request,
                              size_t max_body, http_body_fn *each, void *ctx,
                              struct http_response *response, struct error *err);

/** The same for answers that do not matter. */
NODISCARD enum status s3_tell(struct s3_client *client, const struct s3_request *request,
                              struct error *err);

#endif
