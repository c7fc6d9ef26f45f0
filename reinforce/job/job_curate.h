/* Section `curate` of the job file: rules of the curation file, as far as what is known of one
 * sample decides them. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_CURATE_H
#define REINFORCE_JOB_JOB_CURATE_H

#include "reinforce/base/json.h"
#include "reinforce/base/yaml.h"
#include "reinforce/job/job.h"

/** Before anything is bound: keys of the curation file that compare samples with each other are
 * refused with what to do instead. ST_INVALID has file, line, column and key as context. */
NODISCARD enum status job_curate_check_keys(const struct yaml_tree *root, struct error *err);

/** Fills job->curate; the job's models are checked. ST_INVALID as above. */
NODISCARD enum status job_curate_parse(struct job *job, const struct yaml_tree *root,
                                       struct error *err);

/** The section with every default filled in; an empty object when nothing is dropped, NULL when
 * memory is out. */
json_t *job_curate_to_json(const struct job *job);

#endif
