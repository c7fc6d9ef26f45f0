/* The curator's smaller messages: probes of staleness, its status, refusals. Encoders append;
 * decoders' views borrow from the frames. docs/curator-protocol.md. */
#ifndef REINFORCE_PROTO_CURATOR_PROBE_H
#define REINFORCE_PROTO_CURATOR_PROBE_H

#include "proto/curator.h"

/** Criterion and loss as in curator_request; a model of D 0 is not there. */
struct curator_probe_request {
    char job[128];
    uint64_t step, learner_step;
    size_t n, n_top;
    uint32_t criterion, loss;
    double gain;
    struct curator_model used, fresh, reference;
    struct bytes_view ids; /* [n, CURATOR_ID_BYTES] */
};

struct curator_probe_reply {
    char job[128];
    uint64_t step, staleness, n_compared;
    double sigma, spearman, overlap;
    bool alarm;
};

struct curator_status_reply {
    char version[32], reference_version[128];
    uint64_t uptime_ms, n_references;
    uint64_t n_ok, n_partial, n_fallback_deadline, n_fallback_reference, n_fallback_busy;
    uint64_t n_rejected, n_repeated, n_refused, n_probes, n_alarms, n_logged, n_not_logged;
    uint64_t n_running, n_waiting, select_ms;
    uint64_t n_examples, n_rows_found, n_rows_unknown, n_rows_computed, n_rows_bad, n_rows_failed;
    uint64_t n_rows_wanted, n_teacher_deaths, compute_ms, n_rows_missing;
};

/** As curator_request_encode() and curator_request_decode(). */
NODISCARD enum status curator_probe_request_encode(const struct curator_probe_request *request,
                                                   struct byte_buf *out, struct bytes_view *frames,
                                                   size_t *n_frames, struct error *err);
NODISCARD enum status curator_probe_request_decode(struct bytes_view message,
                                                   const struct bytes_view *frames, size_t n_frames,
                                                   struct curator_probe_request *request,
                                                   struct error *err);

NODISCARD enum status curator_probe_reply_encode(const struct curator_probe_reply *reply,
                                                 struct byte_buf *out, struct error *err);

/** ST_CORRUPT: no request of this protocol. */
NODISCARD enum status curator_status_request_decode(struct bytes_view message, struct error *err);
NODISCARD enum status curator_status_request_encode(struct byte_buf *out, struct error *err);
NODISCARD enum status curator_status_reply_encode(const struct curator_status_reply *reply,
                                                  struct byte_buf *out, struct error *err);
NODISCARD enum status curator_status_reply_decode(struct bytes_view message,
                                                  struct curator_status_reply *reply,
                                                  struct error *err);

NODISCARD enum status curator_refused_encode(const char *reason, struct byte_buf *out,
                                             struct error *err);

#endif
