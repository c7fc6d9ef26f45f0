/* `--set path=value`: changes the tree before it is checked, so that a value from the command line
 * passes the same gate as one from the file. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_OVERRIDE_H
#define REINFORCE_JOB_JOB_OVERRIDE_H

#include "reinforce/base/yaml.h"
#include "reinforce/job/job.h"

/**
 * Puts the value where the path says: "seed=7", "workers.count=4", "teachers[0].model=/m"; one past
 * the last element appends. The value is taken as it is written, except that one beginning with
 * "[" or "{" is read as YAML. New nodes name "--set PATH=VALUE" as their source and live in
 * `arena`. ST_INVALID for a path that leads nowhere.
 */
NODISCARD enum status job_override_apply(struct yaml_tree *root,
                                         const struct job_override *override, struct arena *arena,
                                         struct error *err);

#endif
