/* One value of the job file: from text into its field, and back. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_VALUE_H
#define REINFORCE_JOB_JOB_VALUE_H

#include "reinforce/base/yaml.h"
#include "reinforce/job/job_schema.h"

enum { JOB_TEXT_MAX = 4096, JOB_QUANTITY_LEN = 32 };

/**
 * Writes the value of `node` into the option's field of `base`; text is borrowed from the node.
 * ST_INVALID says what is wrong with the value, not where it stands.
 */
NODISCARD enum status job_value_parse(const struct job_option *option, const struct yaml_tree *node,
                                      void *base, struct error *err);

/** Writes the default; a required option's field stays as it is. */
void job_value_set_default(const struct job_option *option, void *base);

/** The field as JSON: bytes and durations in the file's notation, text that is not set as null. A
 * new reference; NULL: no memory. */
json_t *job_value_to_json(const struct job_option *option, const void *base);

/** Appends what may be written: "integer, 0 to 4096", "gelu or quick_gelu", "duration". */
NODISCARD enum status job_value_describe(const struct job_option *option, struct byte_buf *out,
                                         struct error *err);

/** 536870912 -> "512MiB", 60000 -> "60s": the largest unit that divides it, in the file's notation.
 */
void job_value_format_bytes(int64_t bytes, char text[JOB_QUANTITY_LEN]);
void job_value_format_duration(int64_t ms, char text[JOB_QUANTITY_LEN]);

#endif
