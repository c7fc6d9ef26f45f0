/* What teachers of every protocol share: opening with a trial, rows in batches, checked and of unit
 * length. */
#ifndef REINFORCE_WORKER_REMOTE_TEACHER_H
#define REINFORCE_WORKER_REMOTE_TEACHER_H

#include "worker/remote/remote_client.h"

struct remote_teacher;

/** Rows as a server gave them; `values` is malloc'd, the taker's to free. */
struct remote_rows {
    size_t n, dim;
    float *values; /* [n, dim] */
};

/** One protocol. */
struct remote_teacher_protocol {
    const char *name;

    /* Required. Finds the model: fills the digest and, if the job leaves it open, the view size. */
    enum status (*find)(struct remote_teacher *own, struct error *err);
    /* Required. One request each; `rows` is zeroed before. */
    enum status (*ask_images)(const struct remote_teacher *own, const struct image *view_b,
                              size_t B, struct remote_rows *rows, struct error *err);
    enum status (*ask_texts)(const struct remote_teacher *own, const struct bytes_view *text_b,
                             size_t B, struct remote_rows *rows, struct error *err);
    /* Optional. What else must hold of a server that has answered a trial image. */
    enum status (*check)(const struct remote_teacher *own, const struct image *view,
                         struct error *err);
};

struct remote_teacher {
    struct teacher base;
    const struct remote_teacher_protocol *protocol;
    const struct job_teacher *spec;
    struct remote_client *client;
    bool binary;        /* oip: tensors may follow the JSON */
    bool texts_in_rows; /* oip: texts are [n, 1], not [n] */
};

NODISCARD enum status remote_teacher_create(const struct job_teacher *spec, const atomic_bool *stop,
                                            const struct remote_teacher_protocol *protocol,
                                            struct teacher **out, struct error *err);

/** Allocates [n, dim]. ST_NO_MEMORY; ST_UNAVAILABLE: n and dim are out of all proportion. */
NODISCARD enum status remote_rows_alloc(struct remote_rows *rows, size_t n, size_t dim,
                                        struct error *err);

/** Appends the numbers of `list`, which may be nested, to row values from *at on. ST_UNAVAILABLE:
 * there are more than n * dim, or other things than numbers. */
NODISCARD enum status remote_rows_read(struct remote_rows *rows, const json_t *list, size_t *at,
                                       struct error *err);

/** The name that texts go to. */
const char *remote_teacher_text_model(const struct remote_teacher *own);

#endif
