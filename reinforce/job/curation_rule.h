/* Rules of the curation file: maps that nest. Private to reinforce/job. */
#ifndef REINFORCE_JOB_CURATION_RULE_H
#define REINFORCE_JOB_CURATION_RULE_H

#include "reinforce/base/yaml.h"
#include "reinforce/job/curation.h"

/** Where a map stands: in a list ("keep", 2), or under a key ("keep[0].not", -1). */
struct curation_place {
    const char *name;
    int index;
};

/** "keep[2]" in the curation's arena. */
NODISCARD enum status curation_path(struct curation *curation, struct curation_place place,
                                    const char **path, struct error *err);

/** A rule and all that is in it. Adds its scores and lists to the curation, whose arrays have room.
 * ST_INVALID has file, line, column and key as context. */
NODISCARD enum status curation_parse_rule(struct curation *curation, const struct yaml_tree *node,
                                          struct curation_place place, struct rule *rule,
                                          struct error *err);

/** A score without bounds, such as `best`; *score counts in curation->scores. */
NODISCARD enum status curation_parse_score(struct curation *curation, const struct yaml_tree *node,
                                           const char *name, uint32_t *score, struct error *err);

#endif
