/* Records of a topic in protobuf: plain structs to and from bytes. What makes one valid is
 * storage/stream/stream_record.h's to say. */
#ifndef REINFORCE_PROTO_INGEST_H
#define REINFORCE_PROTO_INGEST_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

/** Which of three an image is given as. */
enum ingest_image {
    INGEST_IMAGE_NONE = 0,
    INGEST_IMAGE_BYTES = 1,
    INGEST_IMAGE_URL = 2,
    INGEST_IMAGE_KEY = 3,
};

/** One record, as it came: texts need not be UTF-8. What is empty is not there. */
struct ingest_record {
    uint32_t version; /* 0: not said */
    struct bytes_view uid;
    enum ingest_image kind;
    struct bytes_view image;
    size_t n_captions;
    const struct bytes_view *captions;
    struct bytes_view url;
    struct bytes_view fields; /* JSON */
};

/** Appends the record's bytes. ST_NO_MEMORY past the buffer's or the arena's limit; `scratch` may
 * be reset afterwards. */
NODISCARD enum status ingest_encode(const struct ingest_record *record, struct arena *scratch,
                                    struct byte_buf *out, struct error *err);

/** All of it lives in `arena`, which needs some times `bytes`. ST_CORRUPT: no such message;
 * ST_NO_MEMORY. */
NODISCARD enum status ingest_decode(struct bytes_view bytes, struct arena *arena,
                                    struct ingest_record *out, struct error *err);

#endif
