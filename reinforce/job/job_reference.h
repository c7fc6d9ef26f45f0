/* A reference page, made from the tables. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_REFERENCE_H
#define REINFORCE_JOB_JOB_REFERENCE_H

#include "reinforce/job/job_schema.h"

/** Appends `before`, then a table for each section of the schema. */
NODISCARD enum status job_reference_write(const char *before, const struct job_schema *schema,
                                          struct byte_buf *out, struct error *err);

#endif
