/* A model over a job's first images, in two forms one after the other, and how far they are apart.
 */
#ifndef REINFORCE_WORKER_COMPARISON_H
#define REINFORCE_WORKER_COMPARISON_H

#include "reinforce/teach/fidelity.h"
#include "reinforce/teach/teacher.h"
#include "worker/dtype/first_images.h"

/** What both runs see. */
struct comparison {
    const struct job *job;
    const struct first_images *first;
    size_t threads;
    const atomic_bool *stop; /* may be NULL */
};

/** What a teacher made of them. An image or text that it fails on is a row of zeros, and not done.
 */
struct comparison_rows {
    size_t dim;
    float *images, *texts; /* [FIRST_IMAGES, dim] each */
    bool image_done[FIRST_IMAGES], text_done[FIRST_IMAGES];
};

/** What a captioner made of them: greedy captions, one for each prompt. */
struct comparison_captions {
    size_t n_prompts;
    struct caption *captions;           /* [FIRST_IMAGES, n_prompts]; "" of an image it fails on */
    struct arena results[FIRST_IMAGES]; /* of their texts */
    bool done[FIRST_IMAGES];
};

/**
 * Images are preprocessed as for evaluation, texts are the captions that come with them. Rows are
 * in `arena`. ST_CANCELLED: stopped; what is not one image's fault is an error, too.
 */
NODISCARD enum status comparison_embed(const struct comparison *comparison,
                                       const struct teacher *teacher, struct arena *arena,
                                       struct comparison_rows *rows, struct error *err);

/** Of what float32 could do: what the other form fails on has cosine 0. `reference` is used up. */
NODISCARD enum status comparison_of_rows(const struct comparison *comparison,
                                         struct comparison_rows *reference,
                                         struct comparison_rows *other, struct arena *arena,
                                         struct fidelity_cosines *images,
                                         struct fidelity_cosines *texts, struct error *err);

/** As `how` says, but greedily. To be released, also when it fails. Errors as above. */
NODISCARD enum status comparison_caption(const struct comparison *comparison,
                                         const struct captioner *captioner,
                                         const struct caption_options *how, struct arena *arena,
                                         struct comparison_captions *captions, struct error *err);

/** Of the images that float32 could caption. */
void comparison_of_captions(const struct comparison *comparison,
                            const struct comparison_captions *reference,
                            const struct comparison_captions *other,
                            struct fidelity_captions *figures);

/** Safe on a zeroed one. */
void comparison_captions_release(struct comparison_captions *captions);

#endif
