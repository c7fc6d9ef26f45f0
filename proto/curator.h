/* Requests to select a training batch and their replies: plain structs to and from a protobuf
 * message and frames of raw rows. docs/curator-protocol.md. */
#ifndef REINFORCE_PROTO_CURATOR_H
#define REINFORCE_PROTO_CURATOR_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

enum {
    CURATOR_PROTOCOL = 1,
    CURATOR_MAX_EXAMPLES = 1 << 24,
    CURATOR_MAX_DIMENSIONS = 1 << 16,
    CURATOR_MAX_STRATA = 1 << 16,
    CURATOR_MAX_FRAMES = 8, /* behind the message */
    CURATOR_QUANTILES = 5,
    CURATOR_ID_BYTES = 16, /* low half, high half */
};

enum curator_dtype {
    CURATOR_F32 = 1,
    CURATOR_F16 = 2,
    CURATOR_BF16 = 3,
};

/** How a request ended. */
enum curator_status {
    CURATOR_OK = 1,
    CURATOR_OK_PARTIAL = 2,
    CURATOR_FALLBACK_UNIFORM = 3,
    CURATOR_REJECTED = 4,
};

/** D 0: the model is not there. */
struct curator_model {
    size_t D;
    enum curator_dtype dtype;
    float scale, bias;
    struct bytes_view image, text; /* [B, D] */
};

/** Views borrow from the frames; quotas are the decoder's arena's. Criterion and loss carry the
 * numbers of enum selection_criterion and enum pair_loss. */
struct curator_request {
    char job[128];
    uint64_t super_batch, step, learner_version, learner_step, seed;
    size_t B, n_selected, n_chunks;
    uint32_t criterion, loss, deadline_ms;
    double gain, uniform_share;
    bool normalise_by_count, top_k, batch_scores, all_marginals;
    struct curator_model learner, reference;
    size_t n_strata;
    const uint32_t *quotas;   /* [n_strata] */
    struct bytes_view ids;    /* [B, CURATOR_ID_BYTES] */
    struct bytes_view strata; /* uint16 [B] if there are quotas */
};

struct curator_statistics {
    uint64_t n_usable, n_invalid, n_duplicates, n_without_reference, select_ms;
    double marginal_mean, marginal_quantiles[CURATOR_QUANTILES], effective_sample_size;
    double batch_score, uniform_batch_score;
    bool scale_looks_logarithmic;
    size_t n_strata;
    const double *share_before, *share_after; /* [n_strata] */
};

/** As curator_request. A rejected reply has no frames. */
struct curator_reply {
    char job[128];
    uint64_t super_batch, learner_step, staleness;
    enum curator_status status;
    char reason[256];
    char reference_version[128];
    size_t n_selected, n_marginals;
    struct curator_statistics statistics;
    struct bytes_view index;       /* uint32 [b], in the order of selection */
    struct bytes_view chunk;       /* uint16 [b] */
    struct bytes_view marginal;    /* float32 [b] */
    struct bytes_view conditional; /* float32 [b] */
    struct bytes_view marginals;   /* float32 [n_marginals] */
};

/** Appends the message to `out`; frames[CURATOR_MAX_FRAMES] borrow what follows it. */
NODISCARD enum status curator_request_encode(const struct curator_request *request,
                                             struct byte_buf *out, struct bytes_view *frames,
                                             size_t *n_frames, struct error *err);

/** Reads a message and the frames behind it; `frames` NULL: the message alone, and every view stays
 * empty. ST_CORRUPT says what is wrong: not a message, another protocol, a number out of range, a
 * frame too many or few, or one of a wrong length. */
NODISCARD enum status curator_request_decode(struct bytes_view message,
                                             const struct bytes_view *frames, size_t n_frames,
                                             struct curator_request *request, struct arena *arena,
                                             struct error *err);

NODISCARD enum status curator_reply_encode(const struct curator_reply *reply, struct byte_buf *out,
                                           struct bytes_view *frames, size_t *n_frames,
                                           struct error *err);
NODISCARD enum status curator_reply_decode(struct bytes_view message,
                                           const struct bytes_view *frames, size_t n_frames,
                                           struct curator_reply *reply, struct arena *arena,
                                           struct error *err);

/** Bytes of a value. */
size_t curator_dtype_bytes(enum curator_dtype dtype);

#endif
