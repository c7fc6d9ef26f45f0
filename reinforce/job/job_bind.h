/* Keys and values of a YAML map, checked against a section of a schema and written into a struct.
 * Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_BIND_H
#define REINFORCE_JOB_JOB_BIND_H

#include "reinforce/base/yaml.h"
#include "reinforce/job/job_schema.h"

/** Where one section's (or list element's) values come from and go to. */
struct job_binding {
    const struct job_schema *schema;
    const struct job_section *section;
    int index;                     /* of the list element, or -1 */
    const struct yaml_tree *node;  /* the map with the values; NULL: left out */
    const struct yaml_tree *place; /* what an error about something missing points at */
    void *base;
};

/** A pass over a binding. ST_INVALID has file, line, column and key as context. */
typedef enum status job_bind_fn(const struct job_binding *b, struct error *err);

/** The node is a map and has no unknown key; else the nearest one is named. */
job_bind_fn job_bind_keys;
/** Defaults, then what is given. */
job_bind_fn job_bind_values;
/** What has no default is given. */
job_bind_fn job_bind_required;

/** Puts "views.count", "captioners[1].top_p" in front of what is wrong with a value, and the place;
 * returns err->code. */
enum status job_bind_locate(const struct yaml_tree *node, const struct job_section *section,
                            int index, const char *key, struct error *err);

#endif
