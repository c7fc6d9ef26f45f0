/* What S3's XML answers say. Source: Amazon S3 API Reference. Private to storage/object. */
#ifndef REINFORCE_STORAGE_S3_ANSWER_H
#define REINFORCE_STORAGE_S3_ANSWER_H

#include "reinforce/base/arena.h"
#include "storage/object/object_store.h"

/** <Error>, cut to what messages show. */
struct s3_error {
    char code[64]; /* "SlowDown"; "": the answer was no <Error> */
    char message[128];
    char region[48]; /* where the bucket is, when the error is about that */
};

/** Never fails: what is not an error answer leaves all fields empty. */
void s3_answer_error(struct bytes_view xml, struct s3_error *out);

/** One of a listing. Strings live in the arena. */
struct s3_entry {
    char *key;
    uint64_t bytes;
    const char *etag; /* without quotes */
};

/** A page of ListObjectsV2 with encoding-type=url. */
struct s3_list_page {
    struct s3_entry *entries; /* in the arena */
    size_t n_entries, capacity;
    bool truncated;
    char *token; /* of the next page; NULL: none */
};

/** ST_CORRUPT: not such an answer, or one that is cut off and says no token. */
NODISCARD enum status s3_answer_list(struct bytes_view xml, struct arena *arena,
                                     struct s3_list_page *page, struct error *err);

/** An upload nobody has completed. Strings live in the arena. */
struct s3_upload {
    char *key, *id;
    int64_t initiated_ms; /* by the server's clock, since 1970 */
};

/** A page of ListMultipartUploads with encoding-type=url. */
struct s3_uploads_page {
    struct s3_upload *uploads; /* in the arena */
    size_t n_uploads, capacity;
    bool truncated;
    char *next_key, *next_id; /* markers of the next page */
};

NODISCARD enum status s3_answer_uploads(struct bytes_view xml, struct arena *arena,
                                        struct s3_uploads_page *page, struct error *err);

/** The newest LastModified of ListParts, in *newest_ms; as it was when there are none. */
NODISCARD enum status s3_answer_parts(struct bytes_view xml, int64_t *newest_ms, struct error *err);

/** UploadId of CreateMultipartUpload, in the arena. */
NODISCARD enum status s3_answer_upload_id(struct bytes_view xml, struct arena *arena, char **id,
                                          struct error *err);

/** ETag of UploadPartCopy and CompleteMultipartUpload, without quotes; "": not said.
 * ST_UNAVAILABLE: the answer said 200 and is an <Error> all the same, as these two may; ST_CORRUPT:
 * neither. */
NODISCARD enum status s3_answer_etag(struct bytes_view xml, char etag[80], struct error *err);

/** "2026-01-31T12:00:00.000Z" as milliseconds since 1970. ST_CORRUPT. */
NODISCARD enum status s3_answer_time(const char *text, int64_t *ms, struct error *err);

#endif
