/* Records of a topic: what makes one valid, and the line of JSONL that workers read instead of
 * it. */
#ifndef REINFORCE_STORAGE_STREAM_RECORD_H
#define REINFORCE_STORAGE_STREAM_RECORD_H

#include "proto/ingest.h"
#include "reinforce/record/record.h"

/** How a record is written. A JSON object begins with a brace, which no protobuf record does. */
enum stream_schema {
    STREAM_SCHEMA_AUTO = 0,
    STREAM_SCHEMA_JSON = 1,
    STREAM_SCHEMA_PROTOBUF = 2,
};

enum { STREAM_RECORD_VERSION = 1 };

/** Added to every line: "topic/partition/offset", where the sample came from. */
#define STREAM_RECORD_ORIGIN "_kafka"

/** Where a record stood. */
struct stream_origin {
    const char *topic;
    int32_t partition;
    int64_t offset;
};

/** A valid record, as the line it became. */
struct stream_record {
    char key[201]; /* the uid made flat (RECORD_KEY_MAX and a NUL) */
    enum ingest_image kind;
    uint64_t uid_hash;     /* of the key */
    uint64_t content_hash; /* of the image's bytes, its URL or its key: first 64 bits of SHA-256 */
};

/** Why a record is refused. Reasons are listed in docs/kafka.md. */
struct stream_refusal {
    char reason[32]; /* stable, snake_case */
    char detail[256];
};

/**
 * Reads the value of a message and appends its line, newline included, to `line`. ST_CORRUPT: it is
 * refused, *refusal says why. ST_NO_MEMORY. After both `line` is as it was. `arena` is scratch, to
 * be reset by the caller.
 */
NODISCARD enum status stream_record_read(enum stream_schema schema, struct bytes_view value,
                                         const struct stream_origin *origin, size_t max_bytes,
                                         struct arena *arena, struct byte_buf *line,
                                         struct stream_record *out, struct stream_refusal *refusal,
                                         struct error *err);

/**
 * Appends a sample as a record; `schema` is not AUTO. Its image goes along, unless `image_key`
 * names it instead. ST_INVALID: it cannot be written. `arena` is scratch.
 */
NODISCARD enum status stream_record_write(enum stream_schema schema, const struct record *record,
                                          const char *image_key, struct arena *arena,
                                          struct byte_buf *out, struct error *err);

#endif
