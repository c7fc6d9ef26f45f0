/* What the curator's messages are made of; for their encoders and decoders alone. */
#ifndef REINFORCE_PROTO_CURATOR_PARTS_H
#define REINFORCE_PROTO_CURATOR_PARTS_H

#include "proto/curator.h"
#include "proto/curator.pb-c.h"

/** Frames come one after another; a decoder takes each by the length it must have. */
struct curator_frames {
    const struct bytes_view *at; /* NULL: the message alone is read, and every view stays empty */
    size_t n, next;
};

/** The next frame. ST_CORRUPT: there is none, or it is not `rows` of `row_bytes`. */
NODISCARD enum status curator_take_frame(struct curator_frames *frames, const char *name,
                                         size_t rows, size_t row_bytes, struct bytes_view *out,
                                         struct error *err);

/** ST_CORRUPT: a frame is left. */
NODISCARD enum status curator_end_frames(const struct curator_frames *frames, struct error *err);

NODISCARD enum status curator_check_range(const char *field, uint64_t value, uint64_t min,
                                          uint64_t max, struct error *err);

/** Fills `to` and points *member at it, and adds two frames, if the model is there. */
void curator_give_model(const struct curator_model *from, Reinforce__Curator__Model *to,
                        Reinforce__Curator__Model **member, struct bytes_view *frames, size_t *n);

/** The model and its two frames of B rows; `from` NULL: *to stays as it is. */
NODISCARD enum status curator_take_model(const Reinforce__Curator__Model *from, const char *images,
                                         const char *texts, size_t B, struct curator_frames *frames,
                                         struct curator_model *to, struct error *err);

#endif
