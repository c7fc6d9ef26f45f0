/* A model's folder as published: which family it is, what its configs say, where weights and
 * tokenizer are. */
#ifndef REINFORCE_MODELS_SNAPSHOT_H
#define REINFORCE_MODELS_SNAPSHOT_H

#include "reinforce/base/sha256.h"
#include "reinforce/image/preprocess.h"
#include "reinforce/models/gemma.h"
#include "reinforce/models/transformer.h"

#include <limits.h>

enum {
    SNAPSHOT_DESCRIBE_LEN = 128,
    SNAPSHOT_EOS_LARGEST = -1,
    SNAPSHOT_MAX_SIDE = 8192 /* pixels */
};

enum snapshot_family {
    SNAPSHOT_CLIP = 1,
    SNAPSHOT_COCA = 2,
    SNAPSHOT_SIGLIP = 3,  /* fixed resolution: SigLIP 1 and most of SigLIP 2 */
    SNAPSHOT_SIGLIP2 = 4, /* NaFlex */
    SNAPSHOT_MOBILECLIP = 5,
    SNAPSHOT_PALIGEMMA = 6,
};

struct fastvit_shape;

enum vit_form {
    VIT_CLIP = 0,   /* class token, a norm before the blocks, no patch bias */
    VIT_SIGLIP = 1, /* patches only, patch bias, a norm after the blocks */
    VIT_MCI = 2,    /* MobileCLIP-B: a convolutional stem, a class token without a position */
};

/** A vision transformer tower. */
struct vision_config {
    int image_size, patch_size; /* NaFlex: image_size is what fills the positional table */
    struct transformer_shape shape;
    size_t pooler_heads, pooler_queries; /* CoCa's attentional pooler; 0: none */
    enum vit_form form;
    const struct fastvit_shape *fastvit; /* the tower is one of these; NULL: a transformer */
    size_t naflex_patches;     /* most patches of an image of any aspect ratio; 0: square images */
    enum matrix_form matrices; /* how the matrices of its blocks are kept */
};

enum text_head {
    TEXT_HEAD_PROJECTION = 0, /* a matrix without bias */
    TEXT_HEAD_LINEAR = 1,     /* SigLIP */
    TEXT_HEAD_NONE = 2,       /* SigLIP, multilingual */
};

struct text_config {
    size_t context_length, vocab_size;
    struct transformer_shape shape;
    int32_t eos_id; /* where a text ends; SNAPSHOT_EOS_LARGEST: at its largest id */
    enum text_head head;
    bool bidirectional; /* every token sees every other, padding included */
    bool mixers;        /* a convolutional block before the layers and one behind: MobileCLIP-S0 */
    enum matrix_form matrices; /* how the matrices of its blocks are kept */
};

/** Plain data; describes, owns nothing. */
struct snapshot {
    char dir[PATH_MAX];
    enum snapshot_family family;
    enum naming naming;
    size_t embed_dim;
    struct vision_config vision;
    struct text_config text;
    struct text_config multimodal; /* CoCa's decoder */
    struct gemma_config decoder;   /* PaliGemma's */
    struct preprocess preprocess;
    char weights_path[PATH_MAX];   /* one safetensors file or index */
    char tokenizer_path[PATH_MAX]; /* tokenizer.json; "" if there is none */
    char vocab_path[PATH_MAX];     /* vocab.json, when there is no tokenizer.json; else "" */
    char merges_path[PATH_MAX];    /* merges.txt beside it */
};

/**
 * Reads the folder's own configs; without any, sizes come from the tensors. `activation` ("gelu",
 * "quick_gelu") overrides what the config says; NULL keeps it, and is refused without a config.
 * ST_NOT_FOUND: no folder or weights; ST_INVALID names a config key that asks for what we do not
 * have, or says that there are several checkpoints.
 */
NODISCARD enum status snapshot_read(const char *dir, const char *activation, struct snapshot *out,
                                    struct error *err);

/**
 * Whether file i of a folder or repository that holds `names` [n] is one that snapshot_read() would
 * read: configs, tokenizer, and the weights that it would choose, with all their shards.
 */
bool snapshot_is_part(const char *const *names, size_t n, size_t i);
/** Whether the name is that of a weight file of any kind. */
bool snapshot_is_weights(const char *name);

/** "clip", "coca", "siglip", "siglip2", "mobileclip", "paligemma" */
const char *snapshot_family_name(enum snapshot_family family);
const char *snapshot_activation_name(enum activation activation);

/** Its towers in a few words, "vit 24 x 1024, patch 14, 224 px; text 12 x 768"; returns `out`. */
const char *snapshot_describe(const struct snapshot *snapshot, char out[SNAPSHOT_DESCRIBE_LEN]);

/**
 * Opens the weights and hashes them: digest is SHA-256 over "name, bytes" of config, tokenizer and
 * weight files, hex. *out is the caller's.
 */
NODISCARD enum status snapshot_open_weights(const struct snapshot *snapshot, struct weights **out,
                                            char digest[SHA256_HEX_LEN + 1], struct error *err);

#endif
