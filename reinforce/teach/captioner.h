/* Captioner: images to texts. Local engines live beside this; remote ones in worker/remote. */
#ifndef REINFORCE_TEACH_CAPTIONER_H
#define REINFORCE_TEACH_CAPTIONER_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "reinforce/image/preprocess.h"
#include "reinforce/nn/attention.h"
#include "reinforce/nn/matrix.h"

struct captioner;

enum caption_strategy {
    CAPTION_GREEDY = 0,
    CAPTION_SAMPLE = 1,          /* temperature, top-k, top-p */
    CAPTION_BEAM = 2,            /* log-softmax scores, length penalty */
    CAPTION_BEAM_OPEN_CLIP = 3,  /* open_clip 2.x-3.x: raw logits, groups */
    CAPTION_BEAM_BIG_VISION = 4, /* PaliGemma's: sums of log-probabilities, any beam may end */
};

/** How captions are drawn. Plain data; caption_options_default() is the published recipe (nucleus
 * 0.9). */
struct caption_options {
    enum caption_strategy strategy;
    int n_captions; /* N per image; greedy and beam give the best N distinct or repeat the one */
    int max_tokens; /* row length, start and end included */
    int min_tokens; /* no end token before this many */
    double temperature;
    int top_k;              /* 0: off */
    double top_p;           /* 1: off */
    bool temperature_first; /* transformers' order; false: open_clip's, after top-k/top-p */
    double repetition_penalty;
    int n_beams;
    double length_penalty;
    bool mask_pad;   /* never emit the pad id, which CoCa's vocabulary shares with "!" */
    uint64_t seed;   /* with uid, stream and caption index the whole key of every draw */
    uint32_t stream; /* which captioner of the job, so that two do not draw alike */
    /* What a prompted model is asked; NULL or "": its default, and nothing else for others. One
     * prompt a line: an image's captions are divided among them in order, n_captions / lines each;
     * "\n" is the empty prompt. */
    const char *prompt;
};

struct captioner_options {
    const char *model_dir;
    const char *activation; /* as in teacher_options */
    /* A model that needs more than this is refused before it is loaded; 0: what the machine has
     * available. Looked at by captioners of large models. */
    size_t memory_limit_bytes;
    /* PaliGemma 2, whose published configs and training disagree; 0 is how it was trained. */
    bool no_attention_cap; /* run without the soft cap of attention scores */
    bool final_cap;        /* apply the config's soft cap of logits: other probabilities */
    bool sliding_window;   /* apply the config's window: other captions at 896 pixels */
    /* PaliGemma: other than 0 is faster or smaller and gives other captions; refused by others. */
    enum matrix_form matrices;
    enum kv_type kv_type;
};

struct captioner_info {
    char family[24];    /* "coca" */
    int context_length; /* longest row of tokens */
    bool takes_prompt;
    struct preprocess preprocess;
    char weights_digest[65];
    const char *weights_type; /* of the decoder's matrices in products: "F32", "BF16", "I8"; static;
                                 NULL: not known */
    bool has_caps;            /* Gemma's; what it runs with, 0: without */
    double attention_cap, final_cap;
    size_t sliding_window;
};

enum { CAPTION_MAX_PROMPTS = 64 };

/** Why a caption is over. */
enum caption_stop {
    CAPTION_STOP_UNKNOWN = 0, /* a server did not say */
    CAPTION_STOP_END = 1,     /* the model ended it */
    CAPTION_STOP_LENGTH = 2,  /* cut by max_tokens */
};

/** One caption; text and ids live in the call's arena. The text is exactly what the model said, and
 * is NUL-terminated. */
struct caption {
    const char *text;
    size_t text_len;
    struct bytes_view prompt; /* what was asked; as long as caption_options.prompt; NULL: nothing */
    int n_tokens;             /* emitted, end included */
    const int32_t *ids;       /* that the model chose, its own end last; NULL: not known */
    size_t n_ids;
    double log_prob_sum; /* of these ids; NaN: not known */
    double score;        /* their mean log-probability; NaN: not known */
    enum caption_stop stop;
};

/** One kind of captioner; threads and purity as for teachers. */
struct captioner_ops {
    const char *kind;

    /* Required. */
    enum status (*open)(const struct captioner_options *options, struct captioner **out,
                        struct error *err);

    /*
     * Required. image_b: B decoded RGB images of any size (the captioner preprocesses); uid_b: B
     * sample uids. captions: [B, N] out, N = how->n_captions; texts are in `results`; `scratch` as
     * for teachers. One image's captions depend on that image, its uid and `how` alone.
     */
    enum status (*caption_images)(const struct captioner *captioner, const struct image *image_b,
                                  const struct bytes_view *uid_b, size_t B,
                                  const struct caption_options *how, struct arena *results,
                                  struct arena *scratch, struct caption *captions,
                                  struct error *err);

    /* Required. Cannot fail. */
    void (*close)(struct captioner *captioner);
};

struct captioner { /* first member of each kind's own struct */
    const struct captioner_ops *ops;
    struct captioner_info info;
};

/** Whether a model of this family (enum snapshot_family) can be opened as a captioner. */
bool captioner_is_family(int family);

void caption_options_default(struct caption_options *how);

/** "end", "length"; NULL for CAPTION_STOP_UNKNOWN. Stored. */
const char *caption_stop_name(enum caption_stop stop);

/**
 * The lines of how->prompt, or of `otherwise` when there is none; line ends at the end count for
 * nothing. They borrow. Caption i of an image has prompt caption_prompt_of(). ST_INVALID: more than
 * CAPTION_MAX_PROMPTS, or than captions.
 */
NODISCARD enum status caption_prompts(const struct caption_options *how, const char *otherwise,
                                      struct bytes_view prompts[CAPTION_MAX_PROMPTS],
                                      size_t *n_prompts, struct error *err);
size_t caption_prompt_of(const struct caption_options *how, size_t n_prompts, size_t caption);

/** ST_INVALID names the option that cannot be, for this captioner. */
NODISCARD enum status caption_options_check(const struct caption_options *how,
                                            const struct captioner_info *info, struct error *err);

NODISCARD enum status captioner_open(const struct captioner_options *options,
                                     struct captioner **out, struct error *err);
const struct captioner_info *captioner_info(const struct captioner *captioner);
NODISCARD enum status captioner_caption_images(const struct captioner *captioner,
                                               const struct image *image_b,
                                               const struct bytes_view *uid_b, size_t B,
                                               const struct caption_options *how,
                                               struct arena *results, struct arena *scratch,
                                               struct caption *captions, struct error *err);
void captioner_close(struct captioner **captioner);

#endif
