/* The table behind the file of `reinforce curate`. Private to reinforce/job. */
#ifndef REINFORCE_JOB_CURATION_SCHEMA_H
#define REINFORCE_JOB_CURATION_SCHEMA_H

#include "reinforce/job/curation.h"
#include "reinforce/job/job_schema.h"

/** A rule's keys as they are written: what is not given is NULL or NaN. */
struct curation_rule_keys {
    const char *name;
    const char *score; /* of curation_score_names */
    const char *caption, *take, *teacher, *script, *language, *tokenizer, *learner, *reference;
    double learner_scale, learner_bias, reference_scale, reference_bias;
    double min, max, top, bottom;
    const char *ids;
};

struct curation_duplicates_keys {
    const char *name;
    enum curation_alike by;
    int bits;
    double radius;
    const char *teacher;
};

struct curation_balance_keys {
    const char *name;
    double representation, association, strength;
};

struct curation_attribute_keys {
    double target;
};

struct curation_mix_keys {
    const char *name;
    double share;
};

/** Sections by place; the others are bound by name. */
enum curation_section {
    CURATION_TOP,
    CURATION_DATASET,
    CURATION_OUTPUT,
    CURATION_KEEP,
    CURATION_DUPLICATES,
    CURATION_SELECT,
    CURATION_BALANCE,
    CURATION_MIX,
    CURATION_ATTRIBUTES, /* of a balance: no key by itself */
    CURATION_N_SECTIONS
};

extern const struct job_schema curation_schema;
extern const struct job_option_name curation_score_names[], curation_take_names[];

#endif
