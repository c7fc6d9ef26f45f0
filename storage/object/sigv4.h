/*
 * AWS Signature Version 4, as S3 and what is compatible with it check it.
 *
 *   canonical request   METHOD \n PATH \n QUERY \n name:value \n ... \n\n name;name \n SHA-256 OF
 * BODY string to sign      AWS4-HMAC-SHA256 \n DATE \n DAY/REGION/SERVICE/aws4_request \n SHA-256
 * OF THAT key                 HMAC(HMAC(HMAC(HMAC("AWS4" secret, DAY), REGION), SERVICE),
 * "aws4_request")
 *
 * libcurl has a signer too; the one Debian 12 ships leaves out x-amz-content-sha256, signs queries
 * as they were given, and encodes paths by other rules than S3.
 *
 * Source: "Signature Version 4 signing process", AWS General Reference; "Authenticating requests",
 * Amazon S3 API Reference.
 */
#ifndef REINFORCE_STORAGE_SIGV4_H
#define REINFORCE_STORAGE_SIGV4_H

#include "reinforce/base/sha256.h"
#include "storage/http/http.h"

enum { SIGV4_MAX_PAIRS = 24, SIGV4_DATE_LEN = 16 };

/** Who signs, and for what. Borrowed. */
struct sigv4_scope {
    const char *access_key, *secret_key;
    const char *region, *service; /* "us-east-1", "s3" */
};

/** What is signed. Borrowed; nothing is encoded yet. */
struct sigv4_request {
    const char *method;
    const char *path; /* "/a b/c": a path of bytes */
    const struct http_header *query;
    size_t n_query;
    const struct http_header *headers; /* all are signed; host and x-amz-date must be among them */
    size_t n_headers;                  /* names differ, whatever their case */
    const char *body_sha256;           /* hex */
    const char *date;                  /* as x-amz-date has it: "20130524T000000Z" */
};

/** `wall_ms` as x-amz-date wants it. */
void sigv4_date(int64_t wall_ms, char date[SIGV4_DATE_LEN + 1]);

/** Appends `text` with all but letters, digits, "-", "_", "." and "~" as %XX; with `is_path`
 * slashes stay. */
NODISCARD enum status sigv4_encode(const char *text, bool is_path, struct byte_buf *out,
                                   struct error *err);

/** Appends "a=1&b=" sorted and encoded: what is signed, and what must then be sent. ST_INVALID:
 * more than SIGV4_MAX_PAIRS. */
NODISCARD enum status sigv4_query(const struct http_header *query, size_t n, struct byte_buf *out,
                                  struct error *err);

/** Appends the value of the Authorization header. ST_INVALID: too many headers; ST_NO_MEMORY. */
NODISCARD enum status sigv4_sign(const struct sigv4_scope *scope,
                                 const struct sigv4_request *request, struct byte_buf *out,
                                 struct error *err);

#endif
