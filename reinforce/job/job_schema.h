/* The table behind the job file: every key once. What parses, fills in defaults, prints, suggests
 * the nearest key and writes the reference page reads it. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_SCHEMA_H
#define REINFORCE_JOB_JOB_SCHEMA_H

#include "reinforce/job/job.h"

enum job_option_type {
    JOB_OPTION_TEXT,     /* const char * */
    JOB_OPTION_CHOICE,   /* const char *, one of `names` */
    JOB_OPTION_ENUM,     /* an enum, by `names` */
    JOB_OPTION_BOOL,     /* bool */
    JOB_OPTION_INT,      /* int, int64_t or uint64_t, by `size` */
    JOB_OPTION_REAL,     /* double */
    JOB_OPTION_BYTES,    /* size_t or int64_t, written as "512MiB" */
    JOB_OPTION_DURATION, /* int64_t milliseconds, written as "30s" */
    JOB_OPTION_NODE,     /* a map or list that whoever binds the section reads: no field */
};

enum { JOB_TEXT_LINES = 1 }; /* max of a text that may have line ends */

struct job_option_name {
    const char *name; /* NULL ends the list */
    int value;
};

/** One key. */
struct job_option {
    const char *key;
    enum job_option_type type;
    bool changes_results; /* part of the digest */
    size_t offset, size;  /* of the field in the section's struct */
    const char
        *default_text; /* as a user would write it; NULL: required, "": not set (NULL, NaN) */
    int64_t min, max;  /* inclusive; of integers, bytes and milliseconds */
    double real_min, real_max; /* inclusive; of reals */
    const struct job_option_name *names;
    const char *help; /* one sentence, with the unit */
};

/** Keys that stand together; a list repeats them for every element. */
struct job_section {
    const char *name; /* "" for the top level */
    const struct job_option *options;
    size_t n_options;
    const char *help;
    /* Lists only; element_size 0 says it is none. */
    size_t element_size, array_offset, count_offset;
    size_t max_elements;
};

/** A kind of file: its sections, in the order of the page, and the page that explains them. */
struct job_schema {
    const struct job_section *sections;
    size_t n_sections;
    const char *page; /* "docs/job-file.md" */
};

/** All sections of the job file, in the order of the page and of the effective configuration. */
extern const struct job_section job_sections[];
extern const size_t job_n_sections;
extern const struct job_schema job_file_schema;

/** By name, or NULL. */
const struct job_section *job_section_find(const struct job_schema *schema, const char *name);
const struct job_option *job_option_find(const struct job_section *section, const char *key);

/** The key (or value) nearest to `word` by edit distance, or NULL when none is near. */
const char *job_nearest_key(const struct job_schema *schema, const struct job_section *section,
                            const char *word);
const char *job_nearest_name(const struct job_option_name *names, const char *word);
/** The section that has exactly this key, or NULL: for keys put under the wrong heading. */
const struct job_section *job_section_with_key(const struct job_schema *schema, const char *key);

#endif
