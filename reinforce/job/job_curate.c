#include "reinforce/job/job_curate.h"

#include "reinforce/job/curation_rule.h"
#include "reinforce/job/curation_schema.h"
#include "reinforce/job/job_bind.h"

#include <math.h>
#include <stdio.h>

#define KEEP   "curate.keep"
#define ADVICE "use `reinforce curate` on the dataset afterwards"

/* With every default filled in, a job must still be read: YAML_TREE_MAX_NODES. */
enum { MAX_RULES = 128, MAX_NAMES = 96 };

enum status job_curate_check_keys(const struct yaml_tree *root, struct error *err)
{
    static const enum curation_section of_pools[] = {CURATION_DUPLICATES, CURATION_SELECT,
                                                     CURATION_BALANCE, CURATION_MIX};
    static const struct job_section section = {.name = "curate"};
    const struct yaml_tree *curate = yaml_tree_find(root, section.name);

    if (curate == NULL || curate->kind != YAML_TREE_MAP)
        return ST_OK;
    for (size_t i = 0; i < ARRAY_LEN(of_pools); i++) {
        const char *key = curation_schema.sections[of_pools[i]].name;
        const struct yaml_tree *node = yaml_tree_find(curate, key);

        if (node == NULL)
            continue;
        (void)error_set(err, ST_INVALID,
                        "compares samples with each other, which other workers may have; " ADVICE);
        return job_bind_locate(node, &section, -1, key, err);
    }
    return ST_OK;
}

/* A rule beside the map it was read from. */
struct written {
    struct job *job;
    struct curation_refs *refs;
    const struct rule *rule;
    const struct yaml_tree *node;
    struct curation_place place;
    int *n_rules; /* looked at so far */
};

static enum status refuse(const struct written *w, const char *key, struct error *err)
{
    return curation_refuse(w->node, w->place, key, err);
}

/* A teacher that a score names; `wanted`: it must name one. */
static enum status check_teacher(const struct written *w, const char *key, const char *teacher,
                                 bool wanted, struct error *err)
{
    const struct job *job = w->job;
    char names[MAX_NAMES] = "";
    size_t len = 0;

    if (teacher == NULL && !wanted)
        return ST_OK;
    for (size_t i = 0; i < job->n_teachers; i++) {
        if (teacher != NULL && strcmp(job->teachers[i].name, teacher) == 0)
            return ST_OK;
        if (len < sizeof names)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", i > 0 ? ", " : "",
                                    job->teachers[i].name);
    }
    if (job->n_teachers == 0)
        (void)error_set(err, ST_INVALID, "needs a teacher, and the job has none; add one");
    else if (teacher == NULL)
        (void)error_set(err, ST_INVALID,
                        "must be given in a job, to which teachers may be added later; it has %s",
                        names);
    else
        (void)error_set(err, ST_INVALID, "the job has no teacher \"%.40s\"; it has %s", teacher,
                        names);
    return refuse(w, teacher != NULL || job->n_teachers > 0 ? key : "", err);
}

static enum status check_score(const struct written *w, struct error *err)
{
    const struct score_spec *spec = &w->refs->scores[w->rule->score];
    bool learn = spec->kind == SCORE_LEARNABILITY;
    enum status st;

    if (!isnan(w->rule->top) || !isnan(w->rule->bottom)) {
        (void)error_set(err, ST_INVALID,
                        "is a fraction of the pool, which no worker knows: give min or max, "
                        "or " ADVICE);
        return refuse(w, isnan(w->rule->top) ? "bottom" : "top", err);
    }
    if (spec->kind == SCORE_LOG_PROBABILITY ||
        (spec->caption != NULL && strcmp(spec->caption, "text") != 0)) {
        (void)error_set(err, ST_INVALID,
                        "is of synthetic captions, which are written behind these rules; " ADVICE);
        return refuse(w, spec->kind == SCORE_LOG_PROBABILITY ? "score" : "caption", err);
    }
    st = check_teacher(w, "teacher", spec->teacher, spec->kind == SCORE_SIMILARITY, err);
    if (st == ST_OK)
        st = check_teacher(w, "learner", spec->learner.teacher, learn, err);
    return st == ST_OK ? check_teacher(w, "reference", spec->reference.teacher, learn, err) : st;
}

static enum status check_rule(const struct written *w, struct error *err)
{
    const char *key = w->rule->kind == RULE_ALL ? "all" : w->rule->kind == RULE_ANY ? "any" : "not";
    const struct yaml_tree *child;
    struct written inner = *w;
    enum status st;

    if (++*w->n_rules > MAX_RULES) {
        (void)error_set(err, ST_INVALID,
                        "is one rule too many; the limit is %d, inner ones included",
                        (int)MAX_RULES);
        return refuse(w, "", err);
    }
    if (w->rule->kind == RULE_SCORE)
        return check_score(w, err);
    if (w->rule->kind == RULE_IDS) {
        (void)error_set(err, ST_INVALID, "is a file that other workers may not have; " ADVICE);
        return refuse(w, "ids", err);
    }
    st = curation_inner_path(w->refs, w->place, key, &inner.place.name, err);
    child = yaml_tree_find(w->node, key);
    inner.place.index = -1;
    if (w->rule->kind != RULE_NOT)
        child = child->first;
    for (size_t i = 0; i < w->rule->n_children && st == ST_OK; i++, child = child->next) {
        inner.rule = &w->rule->children[i];
        inner.node = child;
        if (w->rule->kind != RULE_NOT)
            inner.place.index = (int)i;
        st = check_rule(&inner, err);
    }
    return st;
}

/* Names are what the catalog tells rules apart by. */
static enum status check_name(const struct written *w, const struct rule *keep, struct error *err)
{
    for (const struct rule *other = keep->children; other < w->rule; other++)
        if (strcmp(other->name, w->rule->name) == 0) {
            (void)error_set(err, ST_INVALID, "is another rule's name, too; give it one of its own");
            return refuse(w, "name", err);
        }
    return ST_OK;
}

enum status job_curate_parse(struct job *job, const struct yaml_tree *root, struct error *err)
{
    const struct yaml_tree *curate = yaml_tree_find(root, "curate"), *list = NULL, *node;
    struct rule *keep = &job->curate.keep;
    struct curation_refs refs;
    int n_rules = 0;
    enum status st = curation_refs_init(&refs, &job->arena, err);

    if (curate != NULL && curate->kind == YAML_TREE_MAP)
        list = yaml_tree_find(curate, "keep");
    if (st == ST_OK)
        st = curation_parse_keep(&refs, list, KEEP, keep, err);
    if (st != ST_OK)
        return st;
    job->curate.n_scores = refs.n_scores;
    job->curate.scores = refs.scores;
    node = list != NULL ? list->first : NULL;
    for (size_t i = 0; node != NULL && st == ST_OK; i++, node = node->next) {
        const struct written w = {.job = job,
                                  .refs = &refs,
                                  .rule = &keep->children[i],
                                  .node = node,
                                  .place = {KEEP, (int)i},
                                  .n_rules = &n_rules};

        st = check_rule(&w, err);
        if (st == ST_OK)
            st = check_name(&w, keep, err);
    }
    return st;
}

/* A member of an object that is being made; NULL and NaN: not given. False stays false. */
static void put(json_t *object, const char *key, json_t *value, bool *is_made)
{
    *is_made = json_object_set_new(object, key, value) == 0 && *is_made;
}

static void put_text(json_t *object, const char *key, const char *text, bool *is_made)
{
    if (text != NULL)
        put(object, key, json_string(text), is_made);
}

static void put_number(json_t *object, const char *key, double value, bool *is_made)
{
    if (isfinite(value))
        put(object, key, json_real(value), is_made);
}

static const char *name_of(const struct job_option_name *names, int value)
{
    while (names->value != value)
        names++;
    return names->name;
}

static void put_score(json_t *object, const struct score_spec *spec, bool *is_made)
{
    put_text(object, "score", name_of(curation_score_names, (int)spec->kind), is_made);
    put_text(object, "caption", spec->caption, is_made);
    if (score_kind_is_of_captions(spec->kind))
        put_text(object, "take", name_of(curation_take_names, (int)spec->take), is_made);
    put_text(object, "teacher", spec->teacher, is_made);
    put_text(object, "script", spec->script, is_made);
    put_text(object, "language", spec->language, is_made);
    put_text(object, "tokenizer", spec->tokenizer, is_made);
    if (spec->kind != SCORE_LEARNABILITY)
        return;
    put_text(object, "learner", spec->learner.teacher, is_made);
    put_number(object, "learner_scale", spec->learner.scale, is_made);
    put_number(object, "learner_bias", spec->learner.bias, is_made);
    put_text(object, "reference", spec->reference.teacher, is_made);
    put_number(object, "reference_scale", spec->reference.scale, is_made);
    put_number(object, "reference_bias", spec->reference.bias, is_made);
}

static json_t *rule_to_json(const struct job *job, const struct rule *rule, bool *is_made);

static json_t *rules_to_json(const struct job *job, const struct rule *rule, bool *is_made)
{
    json_t *list = json_array();

    for (size_t i = 0; i < rule->n_children; i++)
        *is_made =
            json_array_append_new(list, rule_to_json(job, &rule->children[i], is_made)) == 0 &&
            *is_made;
    return list;
}

static json_t *rule_to_json(const struct job *job, const struct rule *rule, bool *is_made)
{
    json_t *object = json_object();

    put_text(object, "name", rule->name, is_made);
    switch (rule->kind) {
    case RULE_SCORE:
        put_score(object, &job->curate.scores[rule->score], is_made);
        put_number(object, "min", rule->low, is_made);
        put_number(object, "max", rule->high, is_made);
        break;
    case RULE_ALL:
        put(object, "all", rules_to_json(job, rule, is_made), is_made);
        break;
    case RULE_ANY:
        put(object, "any", rules_to_json(job, rule, is_made), is_made);
        break;
    case RULE_NOT:
        put(object, "not", rule_to_json(job, rule->children, is_made), is_made);
        break;
    case RULE_IDS: /* in no job */
        break;
    }
    return object;
}

json_t *job_curate_to_json(const struct job *job)
{
    json_t *object = json_object();
    bool is_made = object != NULL;

    if (job->curate.keep.n_children > 0)
        put(object, "keep", rules_to_json(job, &job->curate.keep, &is_made), &is_made);
    if (is_made)
        return object;
    json_decref(object);
    return NULL;
}
