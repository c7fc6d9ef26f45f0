/* What requests bring, as the library wants it; and reference embeddings by id. */
#ifndef REINFORCE_COORDINATOR_CURATOR_INPUTS_H
#define REINFORCE_COORDINATOR_CURATOR_INPUTS_H

#include "proto/curator.h"
#include "reinforce/curate/super_batch.h"

/** Reference embeddings of one teacher by id: unit rows of D values. */
struct curator_references {
    size_t D;
    enum tensor_dtype dtype;
    float scale, bias;
    const char *version; /* told with every reply; another one is another cache */
    uint64_t n;          /* examples */
    const void *ctx;
    /* Fills image [D] and text [D] of an example, or neither when both are NULL; false: there are
     * none. Any number of threads. */
    bool (*row)(const void *ctx, struct example_id id, void *image, void *text);
};

/** The model with its rows, borrowed; zeroed when it is not there. */
struct pair_model curator_pair_model(const struct curator_model *from);

/** n ids of a frame, in the arena. */
NODISCARD enum status curator_ids(struct bytes_view frame, size_t n, struct example_id **ids,
                                  struct arena *arena, struct error *err);

/** Examples that have no reference. */
struct references_missing {
    size_t n;
    struct example_id first; /* of them */
};

/** Rows of n examples, in the arena; one without stays zero, which is not selected. */
NODISCARD enum status references_fetch(const struct curator_references *references,
                                       const struct example_id *ids, size_t n,
                                       struct pair_model *model, struct references_missing *missing,
                                       struct arena *arena, struct error *err);

/** "30 of 200 examples have no reference, the first is 00...2a" */
void references_missing_text(const struct references_missing *missing, size_t n, char text[128]);

#endif
