/* The file of `reinforce curate`: a dataset, which of its samples are kept, and where the view of
 * them goes; checked as a whole before anything starts. */
#ifndef REINFORCE_JOB_CURATION_H
#define REINFORCE_JOB_CURATION_H

#include "reinforce/curate/rules.h"
#include "reinforce/curate/selection_options.h"
#include "reinforce/job/job.h"

enum { CURATION_MAX_SCORES = 64, CURATION_MAX_ID_LISTS = 64, CURATION_MAX_STEPS = 16 };

/** What makes two samples duplicates. */
enum curation_alike {
    CURATION_ALIKE_CONTENT = 0,    /* the image's bytes */
    CURATION_ALIKE_PERCEPTUAL = 1, /* the image's perceptual hash */
    CURATION_ALIKE_EMBEDDING = 2,  /* the image's embedding */
};

#define CURATION_NO_SCORE UINT32_MAX

/** One step that looks for duplicates among what is kept so far. */
struct curation_duplicates {
    const char *name; /* "duplicates[0]", or as the user calls it */
    enum curation_alike alike;
    int bits;            /* perceptual: that may differ */
    double radius;       /* embedding: largest cosine distance */
    const char *teacher; /* embedding: whose */
    uint32_t best;       /* score of which the highest is kept; CURATION_NO_SCORE: the first */
};

/** The step that selects jointly, super-batch by super-batch: selection.h. */
struct curation_select {
    enum selection_criterion criterion;
    struct score_model learner, reference; /* teacher NULL: not read */
    const char *caption;                   /* column: the mean of its embeddings */
    double keep;                           /* share of each super-batch */
    int64_t super_batch, chunks;
    double gain;
    bool top_k;
};

/** One step that drops samples by lot, so that attributes occur as they should: balance.h. */
struct curation_balance {
    const char *name; /* "balance[0]", or as the user calls it */
    size_t n_attributes, n_concepts;
    struct rule *attributes; /* [n_attributes] which samples have it */
    double *targets;         /* [n_attributes] */
    struct rule *concepts;   /* [n_concepts] */
    double representation, association, strength;
};

/** One step that brings the share of one kind of sample to what it should be. */
struct curation_mix {
    const char *name;  /* "mix[0]", or as the user calls it */
    struct rule which; /* the kind */
    double share;      /* above 0, below 1: of what is kept */
    uint32_t best;     /* the lowest are dropped; CURATION_NO_SCORE: by lot */
};

/** A list of ids that a rule names; rule->ids is filled by curation_read_ids(). */
struct curation_id_list {
    const char *path;
    struct rule *rule;
};

/** What rules refer to by number, or read when all is loaded. */
struct curation_refs {
    struct arena *arena;
    size_t n_scores;
    struct score_spec *scores; /* [n_scores], each once: what rule.score counts in */
    size_t n_id_lists;
    struct curation_id_list *id_lists;
};

/** Immutable after loading, but for what rules_resolve() finds out; strings live in `arena`.
 * Defaults and meaning: docs/curate-file.md, made from the table. */
struct curation {
    struct arena arena;
    const char *text; /* the file as it was read */
    uint64_t seed;
    int threads; /* 0: one for each processor */

    struct {
        const char *url;
        const char *endpoint, *region, *profile; /* NULL: as the environment says */
    } dataset;

    struct {
        const char *url;
    } output;

    struct rule keep; /* RULE_ALL over the list */
    struct curation_refs refs;
    size_t n_duplicates;
    struct curation_duplicates *duplicates;
    bool has_select;
    struct curation_select select;
    size_t n_balances;
    struct curation_balance *balances;
    size_t n_mixes;
    struct curation_mix *mixes;
};

/** As job_load(), for this kind of file. */
NODISCARD enum status curation_load(const char *path, const struct job_override *overrides,
                                    size_t n_overrides, struct curation **out, struct error *err);
/** The same for text at hand; `path` is what errors call it. Opens no file. */
NODISCARD enum status curation_load_text(struct bytes_view text, const char *path,
                                         const struct job_override *overrides, size_t n_overrides,
                                         struct curation **out, struct error *err);

/** Reads the lists of ids that rules name. ST_NOT_FOUND and ST_CORRUPT name rule and file. */
NODISCARD enum status curation_read_ids(struct curation *curation, struct error *err);

void curation_destroy(struct curation **curation);

/** Appends docs/curate-file.md, made from the table. */
NODISCARD enum status curation_write_reference(struct byte_buf *out, struct error *err);

#endif
