#include "reinforce/job/curation.h"

#include "reinforce/base/file.h"
#include "reinforce/base/yaml.h"
#include "reinforce/curate/balance.h"
#include "reinforce/curate/subset.h"
#include "reinforce/job/curation_rule.h"
#include "reinforce/job/curation_schema.h"
#include "reinforce/job/job_bind.h"
#include "reinforce/job/job_override.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* An address range: lists of ids come into it, 16 bytes each. */
#define ARENA_BYTES ((size_t)64 << 30)

/* Binds the map `node` (NULL: left out of `parent`) against a section. */
static enum status bind_as(const struct job_section *section, const struct yaml_tree *node,
                           const struct yaml_tree *parent, int index, void *base, struct error *err)
{
    static job_bind_fn *const passes[] = {job_bind_keys, job_bind_values, job_bind_required};
    const struct job_binding binding = {.schema = &curation_schema,
                                        .section = section,
                                        .index = index,
                                        .node = node != NULL && node->kind != YAML_TREE_NULL ? node
                                                                                             : NULL,
                                        .place = node != NULL ? node : parent,
                                        .base = base};
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(passes) && st == ST_OK; i++)
        st = passes[i](&binding, err);
    return st;
}

static enum status bind(const struct yaml_tree *node, const struct yaml_tree *parent,
                        enum curation_section which, int index, void *base, struct error *err)
{
    return bind_as(&curation_schema.sections[which], node, parent, index, base, err);
}

static enum status bind_section(const struct yaml_tree *root, enum curation_section which,
                                void *base, struct error *err)
{
    return bind(yaml_tree_find(root, curation_schema.sections[which].name), root, which, -1, base,
                err);
}

/* As curation_begin_list(), for a list under `name`. */
static enum status begin_list(struct curation *curation, const struct yaml_tree *map,
                              const char *name, size_t max, size_t element_size,
                              const struct yaml_tree **first, void *array, size_t *n,
                              struct error *err)
{
    return curation_begin_list(&curation->arena, yaml_tree_find(map, name), name, max, element_size,
                               first, array, n, err);
}

/* The name of a step, and its `best` where it has one. */
static enum status finish_step(struct curation *curation, const struct yaml_tree *node,
                               struct curation_place place, const char *given, const char **name,
                               uint32_t *best, struct error *err)
{
    const struct yaml_tree *score = yaml_tree_find(node, "best");
    char path[64];
    enum status st = curation_path(&curation->refs, place, name, err);

    if (given != NULL)
        *name = given;
    if (best == NULL)
        return st;
    *best = CURATION_NO_SCORE;
    (void)snprintf(path, sizeof path, "%s[%d].best", place.name, place.index);
    if (st == ST_OK && score != NULL && score->kind != YAML_TREE_NULL)
        st = curation_parse_score(&curation->refs, score, path, best, err);
    return st;
}

static enum status refuse(const struct yaml_tree *node, enum curation_section which, int index,
                          const char *key, struct error *err)
{
    const struct yaml_tree *at = yaml_tree_find(node, key);

    return job_bind_locate(at != NULL ? at : node, &curation_schema.sections[which], index, key,
                           err);
}

static enum status parse_duplicates(struct curation *curation, const struct yaml_tree *node,
                                    int index, struct curation_duplicates *step, struct error *err)
{
    struct curation_duplicates_keys keys = {.by = CURATION_ALIKE_CONTENT};
    const struct curation_place place = {"duplicates", index};
    enum status st = bind(node, node, CURATION_DUPLICATES, index, &keys, err);

    if (st != ST_OK)
        return st;
    if (keys.by != CURATION_ALIKE_EMBEDDING && !isnan(keys.radius)) {
        (void)error_set(err, ST_INVALID, "has a meaning by embedding alone");
        return refuse(node, CURATION_DUPLICATES, index, "radius", err);
    }
    if (keys.by != CURATION_ALIKE_EMBEDDING && keys.teacher != NULL) {
        (void)error_set(err, ST_INVALID, "has a meaning by embedding alone");
        return refuse(node, CURATION_DUPLICATES, index, "teacher", err);
    }
    if (keys.by == CURATION_ALIKE_EMBEDDING && isnan(keys.radius)) {
        (void)error_set(err, ST_INVALID, "must be given by embedding");
        return refuse(node, CURATION_DUPLICATES, index, "radius", err);
    }
    if (keys.by != CURATION_ALIKE_PERCEPTUAL && keys.bits != 0) {
        (void)error_set(err, ST_INVALID, "has a meaning by perceptual hash alone");
        return refuse(node, CURATION_DUPLICATES, index, "bits", err);
    }
    step->alike = keys.by;
    step->bits = keys.bits;
    step->radius = keys.radius;
    step->teacher = keys.teacher;
    return finish_step(curation, node, place, keys.name, &step->name, &step->best, err);
}

static enum status parse_mix(struct curation *curation, const struct yaml_tree *node, int index,
                             struct curation_mix *step, struct error *err)
{
    const struct curation_place place = {"mix", index};
    struct curation_mix_keys keys = {.name = NULL};
    char which[64];
    enum status st = bind(node, node, CURATION_MIX, index, &keys, err);

    if (st != ST_OK)
        return st;
    step->share = keys.share;
    (void)snprintf(which, sizeof which, "mix[%d].which", index);
    st = curation_parse_rule(&curation->refs, yaml_tree_find(node, "which"),
                             (struct curation_place){which, -1}, &step->which, err);
    return st == ST_OK
               ? finish_step(curation, node, place, keys.name, &step->name, &step->best, err)
               : st;
}

static enum status check_model(const struct yaml_tree *node, const char *role, bool wanted,
                               const struct score_model *model, struct error *err)
{
    bool given = model->teacher != NULL || !isnan(model->scale) || !isnan(model->bias);

    if (!wanted && given)
        (void)error_set(err, ST_INVALID, "has no meaning for this criterion");
    else if (wanted && model->teacher == NULL)
        (void)error_set(err, ST_INVALID, "must be given for this criterion");
    else
        return ST_OK;
    return refuse(node, CURATION_SELECT, -1, role, err);
}

static enum status parse_select(struct curation *curation, const struct yaml_tree *root,
                                struct error *err)
{
    const struct yaml_tree *node = yaml_tree_find(root, "select");
    const struct curation_select *how = &curation->select;
    enum status st;

    if (node == NULL || node->kind == YAML_TREE_NULL)
        return ST_OK;
    curation->has_select = true;
    st = bind_section(root, CURATION_SELECT, curation, err);
    if (st == ST_OK)
        st = check_model(node, "learner", how->criterion != SELECT_EASY_REFERENCE, &how->learner,
                         err);
    if (st == ST_OK)
        st = check_model(node, "reference", how->criterion != SELECT_HARD_LEARNER, &how->reference,
                         err);
    return st;
}

/* One of a balance's attributes, or of its concepts, at "balance[0].attributes[1]". */
static enum status parse_attribute(struct curation *curation, const struct yaml_tree *node,
                                   struct curation_place place, struct rule *rule, double *target,
                                   struct error *err)
{
    struct job_section section = curation_schema.sections[CURATION_ATTRIBUTES];
    struct curation_attribute_keys keys = {.target = 0};
    char which[64];
    enum status st;

    section.name = place.name;
    st = bind_as(&section, node, node, place.index, &keys, err);
    if (st != ST_OK)
        return st;
    *target = keys.target;
    (void)snprintf(which, sizeof which, "%s[%d].which", place.name, place.index);
    return curation_parse_rule(&curation->refs, yaml_tree_find(node, "which"),
                               (struct curation_place){which, -1}, rule, err);
}

static enum status parse_balance(struct curation *curation, const struct yaml_tree *map, int index,
                                 struct curation_balance *step, struct error *err)
{
    const struct curation_place place = {"balance", index};
    struct curation_balance_keys keys = {.name = NULL};
    char attributes[32], concepts[32];
    const struct yaml_tree *node;
    enum status st = bind(map, map, CURATION_BALANCE, index, &keys, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(attributes, sizeof attributes, "balance[%d].attributes", index);
    (void)snprintf(concepts, sizeof concepts, "balance[%d].concepts", index);
    st = begin_list(curation, map, "attributes", BALANCE_MAX_BITS / 2, sizeof *step->attributes,
                    &node, &step->attributes, &step->n_attributes, err);
    if (st == ST_OK)
        st = arena_calloc(&curation->arena, step->n_attributes, sizeof *step->targets,
                          &step->targets, err);
    for (int i = 0; node != NULL && st == ST_OK; i++, node = node->next)
        st = parse_attribute(curation, node, (struct curation_place){attributes, i},
                             &step->attributes[i], &step->targets[i], err);
    if (st == ST_OK)
        st = begin_list(curation, map, "concepts", BALANCE_MAX_BITS / 2, sizeof *step->concepts,
                        &node, &step->concepts, &step->n_concepts, err);
    else
        return st;
    for (int i = 0; node != NULL && st == ST_OK; i++, node = node->next)
        st = curation_parse_rule(&curation->refs, node, (struct curation_place){concepts, i},
                                 &step->concepts[i], err);
    if (st != ST_OK)
        return st;
    if (step->n_attributes == 0) {
        (void)error_set(err, ST_INVALID, "needs a list of attributes");
        return refuse(map, CURATION_BALANCE, index, "attributes", err);
    }
    if (isnan(keys.association) != (step->n_concepts == 0)) {
        (void)error_set(err, ST_INVALID,
                        step->n_concepts > 0 ? "must be given with concepts"
                                             : "has no meaning without concepts");
        return refuse(map, CURATION_BALANCE, index, "association", err);
    }
    step->representation = keys.representation;
    step->association = keys.association;
    step->strength = keys.strength;
    return finish_step(curation, map, place, keys.name, &step->name, NULL, err);
}

static enum status parse_steps(struct curation *curation, const struct yaml_tree *root,
                               struct error *err)
{
    const struct yaml_tree *node;
    enum status st =
        begin_list(curation, root, "duplicates", CURATION_MAX_STEPS, sizeof *curation->duplicates,
                   &node, &curation->duplicates, &curation->n_duplicates, err);

    for (int i = 0; node != NULL && st == ST_OK; i++, node = node->next)
        st = parse_duplicates(curation, node, i, &curation->duplicates[i], err);
    if (st == ST_OK)
        st = parse_select(curation, root, err);
    if (st == ST_OK)
        st = begin_list(curation, root, "balance", CURATION_MAX_STEPS, sizeof *curation->balances,
                        &node, &curation->balances, &curation->n_balances, err);
    for (int i = 0; st == ST_OK && node != NULL; i++, node = node->next)
        st = parse_balance(curation, node, i, &curation->balances[i], err);
    if (st == ST_OK)
        st = begin_list(curation, root, "mix", CURATION_MAX_STEPS, sizeof *curation->mixes, &node,
                        &curation->mixes, &curation->n_mixes, err);
    for (int i = 0; st == ST_OK && node != NULL; i++, node = node->next)
        st = parse_mix(curation, node, i, &curation->mixes[i], err);
    return st;
}

static enum status parse(struct curation *curation, const struct yaml_tree *root, struct error *err)
{
    enum status st = curation_refs_init(&curation->refs, &curation->arena, err);

    if (st == ST_OK)
        st = bind(root, root, CURATION_TOP, -1, curation, err);
    if (st == ST_OK)
        st = bind_section(root, CURATION_DATASET, curation, err);
    if (st == ST_OK)
        st = bind_section(root, CURATION_OUTPUT, curation, err);
    if (st == ST_OK)
        st = curation_parse_keep(&curation->refs, yaml_tree_find(root, "keep"), "keep",
                                 &curation->keep, err);
    return st == ST_OK ? parse_steps(curation, root, err) : st;
}

static enum status load_text(struct bytes_view text, const char *path,
                             const struct job_override *overrides, size_t n_overrides,
                             struct curation *curation, struct error *err)
{
    struct yaml_tree *root;
    char *source, *copy;
    enum status st = arena_strndup(&curation->arena, path, strlen(path), &source, err);

    if (st == ST_OK)
        st = arena_strndup(&curation->arena, text.len > 0 ? (const char *)text.data : "", text.len,
                           &copy, err);
    if (st != ST_OK)
        return st;
    curation->text = copy;
    st = yaml_tree_parse(text, source, &curation->arena, &root, err);
    for (size_t i = 0; i < n_overrides && st == ST_OK; i++)
        st = job_override_apply(root, &overrides[i], &curation->arena, err);
    return st == ST_OK ? parse(curation, root, err) : st;
}

enum status curation_load_text(struct bytes_view text, const char *path,
                               const struct job_override *overrides, size_t n_overrides,
                               struct curation **out, struct error *err)
{
    struct curation *curation = calloc(1, sizeof *curation);
    enum status st;

    *out = NULL;
    if (curation == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a curation");
    arena_init(&curation->arena, ARENA_BYTES);
    st = load_text(text, path, overrides, n_overrides, curation, err);
    if (st != ST_OK) {
        curation_destroy(&curation);
        return st;
    }
    *out = curation;
    return ST_OK;
}

enum status curation_load(const char *path, const struct job_override *overrides,
                          size_t n_overrides, struct curation **out, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    *out = NULL;
    byte_buf_init(&buf, YAML_TREE_MAX_BYTES);
    st = file_read(path, &buf, err);
    if (st != ST_OK)
        error_add_context(err, "curation file");
    else
        st = curation_load_text(byte_buf_view(&buf), path, overrides, n_overrides, out, err);
    byte_buf_release(&buf);
    return st;
}

enum status curation_read_ids(struct curation *curation, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < curation->refs.n_id_lists && st == ST_OK; i++) {
        const struct curation_id_list *list = &curation->refs.id_lists[i];
        struct example_id *ids;
        struct file_map map;

        st = file_map_open(list->path, &map, err);
        if (st == ST_OK) {
            st = subset_decode(map.bytes, &ids, &list->rule->n_ids, &curation->arena, err);
            list->rule->ids = ids;
            file_map_close(&map);
        }
        if (st != ST_OK)
            error_add_context(err, "%s: ids \"%s\"", list->rule->name, list->path);
    }
    return st;
}

void curation_destroy(struct curation **curation)
{
    if (*curation == NULL)
        return;
    arena_release(&(*curation)->arena);
    free(*curation);
    *curation = NULL;
}
