/* Teacher: images and texts to unit-norm embeddings. Local engines live beside this; remote ones in
 * worker/remote. */
#ifndef REINFORCE_TEACH_TEACHER_H
#define REINFORCE_TEACH_TEACHER_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "reinforce/image/preprocess.h"
#include "reinforce/nn/matrix.h"

struct teacher;

/** How a text is cleaned before the model's tokenizer. */
enum teacher_clean {
    TEACHER_CLEAN_AUTO = 0, /* open_clip for open_clip snapshots; else CLIP tokenizer_json, SigLIP
                               lower_ascii with Gemma's vocabulary and canonical with T5's */
    TEACHER_CLEAN_OPEN_CLIP = 1,      /* as open_clip does for the family */
    TEACHER_CLEAN_TOKENIZER_JSON = 2, /* only what tokenizer.json does */
    TEACHER_CLEAN_LOWER_ASCII = 3,    /* SigLIP only, as the next two: clean_lower_ascii(), */
    TEACHER_CLEAN_LOWER_UNICODE = 4,  /* clean_lower_unicode(), */
    TEACHER_CLEAN_CANONICAL = 5,      /* clean_canonical() */
};

struct teacher_options {
    const char *model_dir; /* snapshot folder */
    enum teacher_clean clean;
    bool special_tokens_in_text;
    const char *activation;    /* "gelu", "quick_gelu" or NULL: as the snapshot's config says */
    enum matrix_form matrices; /* MATRIX_INT8 is faster, MATRIX_BF16 smaller; embeddings near */
};

/** What a teacher is; constant while it lives. */
struct teacher_info {
    char family[24];              /* "clip", "siglip", "siglip2" */
    size_t dim;                   /* D */
    int context_length;           /* tokens */
    struct preprocess preprocess; /* .size is the input size; NaFlex: of a square view */
    float logit_scale;            /* exp() applied */
    bool has_logit_bias;
    float logit_bias;
    const char *weights_type; /* of the blocks' matrices in products: "F32", "BF16", "I8"; static;
                                 NULL: not known */
    char weights_digest[65];  /* SHA-256 over the weight files' bytes and the config, hex */
};

/**
 * One kind of teacher. A teacher is immutable: any number of threads may call it at once, each with
 * its own `scratch`. A result depends on its own input alone, never on what else is in the call.
 */
struct teacher_ops {
    const char *kind;

    /* Required. On ST_OK *out owns weights and tokenizer until close(); else NULL. */
    enum status (*open)(const struct teacher_options *options, struct teacher **out,
                        struct error *err);

    /*
     * Required. view_b: B RGB images of info->preprocess.size squared, already cropped and
     * augmented; NaFlex: any size that preprocess_fits(), as preprocess_pixels() makes them. emb:
     * float32 [B, D] out, unit rows. `scratch` is used and given back as it was found (its
     * allocations may stay until the caller resets it). A row that is not finite or not of unit
     * length is ST_CORRUPT: teacher_embed_images() and _texts() see to that.
     */
    enum status (*embed_images)(const struct teacher *teacher, const struct image *view_b, size_t B,
                                struct arena *scratch, float *emb, struct error *err);

    /* Required. text_b: B UTF-8 texts; emb as above. */
    enum status (*embed_texts)(const struct teacher *teacher, const struct bytes_view *text_b,
                               size_t B, struct arena *scratch, float *emb, struct error *err);

    /* Required. Cannot fail. */
    void (*close)(struct teacher *teacher);
};

struct teacher { /* first member of each kind's own struct */
    const struct teacher_ops *ops;
    struct teacher_info info;
};

/** Opens a snapshot with the kind that knows its family. ST_INVALID: nobody does, or the config
 * asks for what we lack. */
NODISCARD enum status teacher_open(const struct teacher_options *options, struct teacher **out,
                                   struct error *err);
const struct teacher_info *teacher_info(const struct teacher *teacher);
NODISCARD enum status teacher_embed_images(const struct teacher *teacher,
                                           const struct image *view_b, size_t B,
                                           struct arena *scratch, float *emb, struct error *err);
NODISCARD enum status teacher_embed_texts(const struct teacher *teacher,
                                          const struct bytes_view *text_b, size_t B,
                                          struct arena *scratch, float *emb, struct error *err);
void teacher_close(struct teacher **teacher);

#endif
