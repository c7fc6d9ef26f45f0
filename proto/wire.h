/* The wire protocol between coordinator and workers: plain structs to and from protobuf bytes. */
#ifndef REINFORCE_PROTO_WIRE_H
#define REINFORCE_PROTO_WIRE_H

#include "reinforce/base/bytes.h"

enum {
    WIRE_PROTOCOL = 1,
    WIRE_KEY_MAX = 1024, /* bytes, as OBJECT_KEY_MAX */
    WIRE_MAX_EXCEPT = 16,
    WIRE_SPLIT_MIN = 8, /* so many samples not begun are worth being shared */
};

enum wire_kind {
    WIRE_HELLO = 1,
    WIRE_WELCOME = 2,
    WIRE_REFUSED = 3,
    WIRE_LEASE_REQUEST = 4,
    WIRE_LEASE_GRANT = 5,
    WIRE_NO_WORK = 6,
    WIRE_HEARTBEAT = 7,
    WIRE_HEARTBEAT_REPLY = 8,
    WIRE_LEASE_RESULT = 9,
    WIRE_JOB_REQUEST = 10,
    WIRE_JOB_OFFER = 11,
    WIRE_WHO_ARE_YOU = 12,
    WIRE_RESULT_TAKEN = 13,
};

enum wire_outcome {
    WIRE_OUTCOME_DONE = 1,
    WIRE_OUTCOME_RELEASED = 2,
    WIRE_OUTCOME_FAILED = 3,
    WIRE_OUTCOME_LOST = 4,
};

/** Where a shard's samples are read from. */
enum wire_source {
    WIRE_SOURCE_INPUT = 1,
    WIRE_SOURCE_PLAN = 2,
    WIRE_SOURCE_PREVIOUS = 3,
    WIRE_SOURCE_LIST = 4,
};

/** One message; `kind` says which member of the union holds. Texts are NUL-terminated copies. */
struct wire_message {
    enum wire_kind kind;
    union {
        struct {
            uint32_t protocol;
            char worker[128];
            char config_digest[65];
            int64_t job;
            char version[32];
        } hello;
        struct {
            uint32_t protocol;
            int64_t job;
        } welcome;
        struct {
            char reason[256];
        } refused;
        struct {
            uint64_t number;
            uint32_t n_except;
            int64_t except[WIRE_MAX_EXCEPT];
        } job_request;
        struct {
            uint64_t number;
            int64_t job;
            char name[128];
            char config_digest[65];
            char catalog_url[1024];
        } job_offer;
        struct {
            uint64_t number;
            int64_t job;
        } lease_request;
        struct {
            uint64_t number;
            int64_t job, shard, epoch, expires_ms;
            char input_key[WIRE_KEY_MAX + 1];
            char input_format[32];
            enum wire_source input_source;
            uint64_t input_begin, input_end;
            uint64_t next_offset, next_index;
            int64_t n_parts;
            uint32_t attempts;
            uint64_t input_samples;              /* of a previous output; else 0 */
            uint64_t suspect_end, probe_samples; /* as in catalog_lease */
            bool is_poison;
            uint64_t end_index;
        } lease_grant;
        struct {
            uint64_t number;
            int64_t wait_ms;
            bool finished;
        } no_work;
        struct {
            int64_t job, shard, epoch;
            uint64_t samples_done, samples_quarantined;
            uint64_t samples_left; /* UINT64_MAX: not known */
        } heartbeat;
        struct {
            int64_t shard, epoch;
            bool lost, stop, split;
        } heartbeat_reply;
        struct {
            int64_t job, shard, epoch;
            enum wire_outcome outcome;
            char why[256];
            uint64_t samples_done, samples_quarantined;
        } lease_result;
        struct {
            int64_t job, shard, epoch;
        } result_taken;
    } u;
};

/** A Hello in this release's protocol and version; `job` 0 and `digest` "": no job yet. */
void wire_hello(struct wire_message *message, const char *worker, int64_t job, const char *digest);

/** What to speak with a peer whose protocol is `theirs`: the lower of the two, or 0 when they are
 * more than one release apart. */
uint32_t wire_protocol_agree(uint32_t theirs);

/** Appends the message's bytes. ST_NO_MEMORY past the buffer's limit. */
NODISCARD enum status wire_encode(const struct wire_message *message, struct byte_buf *out,
                                  struct error *err);

/** ST_CORRUPT: not an envelope, an unknown kind, a text too long, or a value out of range, by field
 * name. */
NODISCARD enum status wire_decode(struct bytes_view bytes, struct wire_message *out,
                                  struct error *err);

#endif
