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

/** "keep[2]", in the arena. */
NODISCARD enum status curation_path(struct curation_refs *refs, struct curation_place place,
                                    const char **path, struct error *err);

/** "keep[2].any", in the arena. */
NODISCARD enum status curation_inner_path(struct curation_refs *refs, struct curation_place place,
                                          const char *key, const char **path, struct error *err);

/** Names the place of what is wrong with a rule, or with `key` of it ("": the rule); returns
 * err->code. */
enum status curation_refuse(const struct yaml_tree *node, struct curation_place place,
                            const char *key, struct error *err);

/** Room for what rules refer to, in `arena`, which the caller keeps. */
NODISCARD enum status curation_refs_init(struct curation_refs *refs, struct arena *arena,
                                         struct error *err);

/** A rule and all that is in it. Adds its scores and lists to `refs`.
 * ST_INVALID has file, line, column and key as context. */
NODISCARD enum status curation_parse_rule(struct curation_refs *refs, const struct yaml_tree *node,
                                          struct curation_place place, struct rule *rule,
                                          struct error *err);

/** The list of rules `list` (NULL: none) as one, that all of them hold; `name` is its path. */
NODISCARD enum status curation_parse_keep(struct curation_refs *refs, const struct yaml_tree *list,
                                          const char *name, struct rule *keep, struct error *err);

/** An array for what `list` holds (NULL: nothing) in `arena`; *first is its first element, NULL
 * when there is none. */
NODISCARD enum status curation_begin_list(struct arena *arena, const struct yaml_tree *list,
                                          const char *name, size_t max, size_t element_size,
                                          const struct yaml_tree **first, void *array, size_t *n,
                                          struct error *err);

/** A score without bounds, such as `best`; *score counts in refs->scores. */
NODISCARD enum status curation_parse_score(struct curation_refs *refs, const struct yaml_tree *node,
                                           const char *name, uint32_t *score, struct error *err);

#endif
