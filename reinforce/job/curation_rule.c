#include "reinforce/job/curation_rule.h"

#include "reinforce/job/curation_schema.h"
#include "reinforce/job/job_bind.h"
#include "reinforce/text/language.h"
#include "reinforce/text/measure.h"

#include <math.h>
#include <stdio.h>

enum { PATH_MAX_BYTES = 512 };

/* What a rule can be; the first that is given decides. */
static const struct {
    const char *key;
    enum rule_kind kind;
} kinds[] = {{"score", RULE_SCORE},
             {"ids", RULE_IDS},
             {"all", RULE_ALL},
             {"any", RULE_ANY},
             {"not", RULE_NOT}};

enum status curation_refs_init(struct curation_refs *refs, struct arena *arena, struct error *err)
{
    enum status st;

    *refs = (struct curation_refs){.arena = arena};
    st = arena_calloc(arena, CURATION_MAX_SCORES, sizeof *refs->scores, &refs->scores, err);
    return st == ST_OK ? arena_calloc(arena, CURATION_MAX_ID_LISTS, sizeof *refs->id_lists,
                                      &refs->id_lists, err)
                       : st;
}

enum status curation_path(struct curation_refs *refs, struct curation_place place,
                          const char **path, struct error *err)
{
    char text[PATH_MAX_BYTES], *copy;
    int len = place.index >= 0 ? snprintf(text, sizeof text, "%s[%d]", place.name, place.index)
                               : snprintf(text, sizeof text, "%s", place.name);
    enum status st =
        arena_strndup(refs->arena, text, MIN((size_t)len, sizeof text - 1), &copy, err);

    if (st == ST_OK)
        *path = copy;
    return st;
}

enum status curation_inner_path(struct curation_refs *refs, struct curation_place place,
                                const char *key, const char **path, struct error *err)
{
    char text[PATH_MAX_BYTES];
    enum status st = curation_path(refs, place, path, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(text, sizeof text, "%.400s.%s", *path, key);
    return curation_path(refs, (struct curation_place){text, -1}, path, err);
}

/* The section of rules as it is called at this place. */
static struct job_section section_at(struct curation_place place)
{
    struct job_section section = curation_schema.sections[CURATION_KEEP];

    section.name = place.name;
    return section;
}

enum status curation_refuse(const struct yaml_tree *node, struct curation_place place,
                            const char *key, struct error *err)
{
    const struct job_section section = section_at(place);
    const struct yaml_tree *at = node->kind == YAML_TREE_MAP ? yaml_tree_find(node, key) : NULL;

    return job_bind_locate(at != NULL ? at : node, &section, place.index, key, err);
}

static int value_of(const struct job_option_name *names, const char *name)
{
    while (names->name != NULL && strcmp(names->name, name) != 0)
        names++;
    return names->value;
}

/* A key that was given must mean something to the score. */
struct demand {
    const char *key;
    bool given, wanted, needed;
};

static enum status check_demands(const struct yaml_tree *node, struct curation_place place,
                                 const struct curation_rule_keys *keys, enum score_kind kind,
                                 struct error *err)
{
    bool learn = kind == SCORE_LEARNABILITY, captions = score_kind_is_of_captions(kind);
    const struct demand demands[] = {
        {"caption", keys->caption != NULL, captions, kind == SCORE_LOG_PROBABILITY},
        {"take", keys->take != NULL, captions, false},
        {"teacher", keys->teacher != NULL, kind == SCORE_SIMILARITY, false},
        {"script", keys->script != NULL, kind == SCORE_SCRIPT, kind == SCORE_SCRIPT},
        {"language", keys->language != NULL, kind == SCORE_LANGUAGE, kind == SCORE_LANGUAGE},
        {"tokenizer", keys->tokenizer != NULL, kind == SCORE_TOKENS, kind == SCORE_TOKENS},
        {"learner", keys->learner != NULL, learn, learn},
        {"reference", keys->reference != NULL, learn, learn},
        {"learner_scale", !isnan(keys->learner_scale), learn, false},
        {"learner_bias", !isnan(keys->learner_bias), learn, false},
        {"reference_scale", !isnan(keys->reference_scale), learn, false},
        {"reference_bias", !isnan(keys->reference_bias), learn, false},
    };

    for (size_t i = 1; i < ARRAY_LEN(kinds); i++)
        if (yaml_tree_find(node, kinds[i].key) != NULL) {
            (void)error_set(err, ST_INVALID, "has no meaning beside score");
            return curation_refuse(node, place, kinds[i].key, err);
        }
    for (size_t i = 0; i < ARRAY_LEN(demands); i++) {
        if (demands[i].given && !demands[i].wanted)
            (void)error_set(err, ST_INVALID, "has no meaning for score %s", keys->score);
        else if (!demands[i].given && demands[i].needed)
            (void)error_set(err, ST_INVALID, "must be given for score %s", keys->score);
        else
            continue;
        return curation_refuse(node, place, demands[i].key, err);
    }
    if (keys->script != NULL && text_script_find(keys->script) < 0) {
        (void)error_set(err, ST_INVALID,
                        "\"%.60s\" is no script's Unicode name, such as Latin, Han, Cyrillic",
                        keys->script);
        return curation_refuse(node, place, "script", err);
    }
    if (keys->language != NULL && text_language_find(keys->language) < 0) {
        (void)error_set(err, ST_INVALID, "\"%.60s\" is no language's code, such as en, de, zh",
                        keys->language);
        return curation_refuse(node, place, "language", err);
    }
    return ST_OK;
}

static enum status add_score(struct curation_refs *refs, const struct yaml_tree *node,
                             struct curation_place place, const struct curation_rule_keys *keys,
                             uint32_t *score, struct error *err)
{
    enum score_kind kind = (enum score_kind)value_of(curation_score_names, keys->score);
    struct score_spec spec = {.kind = kind};
    enum status st = check_demands(node, place, keys, kind, err);

    if (st != ST_OK)
        return st;
    if (score_kind_is_of_captions(kind)) {
        spec.caption = keys->caption != NULL ? keys->caption : "text";
        spec.take = (enum score_take)(keys->take != NULL ? value_of(curation_take_names, keys->take)
                                                         : SCORE_TAKE_MEAN);
    }
    spec.teacher = keys->teacher;
    spec.script = keys->script;
    spec.language = keys->language;
    spec.tokenizer = keys->tokenizer;
    if (kind == SCORE_LEARNABILITY) {
        spec.learner = (struct score_model){keys->learner, keys->learner_scale, keys->learner_bias};
        spec.reference =
            (struct score_model){keys->reference, keys->reference_scale, keys->reference_bias};
    }
    for (*score = 0; *score < refs->n_scores; ++*score)
        if (score_spec_equal(&refs->scores[*score], &spec))
            return ST_OK;
    if (refs->n_scores == CURATION_MAX_SCORES) {
        (void)error_set(err, ST_INVALID, "is one score too many; the limit is %d different ones",
                        (int)CURATION_MAX_SCORES);
        return curation_refuse(node, place, "score", err);
    }
    refs->scores[refs->n_scores++] = spec;
    return ST_OK;
}

/* A node that is empty binds as an empty map. */
static enum status bind_keys(const struct yaml_tree *node, struct curation_place place,
                             struct curation_rule_keys *keys, struct error *err)
{
    const struct job_section section = section_at(place);
    const struct job_binding binding = {.schema = &curation_schema,
                                        .section = &section,
                                        .index = place.index,
                                        .node = node->kind != YAML_TREE_NULL ? node : NULL,
                                        .place = node,
                                        .base = keys};
    enum status st = job_bind_keys(&binding, err);

    return st == ST_OK ? job_bind_values(&binding, err) : st;
}

static enum status set_bounds(const struct yaml_tree *node, struct curation_place place,
                              const struct curation_rule_keys *keys, struct rule *rule,
                              struct error *err)
{
    bool bounds = !isnan(keys->min) || !isnan(keys->max);
    bool fractions = !isnan(keys->top) || !isnan(keys->bottom);

    rule->low = isnan(keys->min) ? (double)-INFINITY : keys->min;
    rule->high = isnan(keys->max) ? (double)INFINITY : keys->max;
    rule->top = keys->top;
    rule->bottom = keys->bottom;
    if (bounds && fractions)
        (void)error_set(err, ST_INVALID,
                        "has bounds (min, max) and a fraction (top, bottom); write two rules");
    else if (!bounds && !fractions)
        (void)error_set(err, ST_INVALID, "has no bound: give min, max, top or bottom");
    else if (!isnan(keys->top) && !isnan(keys->bottom))
        (void)error_set(err, ST_INVALID, "has both top and bottom; write two rules");
    else if (rule->low > rule->high)
        (void)error_set(err, ST_INVALID, "no score is at least %g and at most %g", rule->low,
                        rule->high);
    else
        return ST_OK;
    return curation_refuse(node, place, "", err);
}

/* The rules under all, any or not. */
static enum status parse_children(struct curation_refs *refs, const struct yaml_tree *list,
                                  const char *path, struct rule *rule, struct error *err)
{
    size_t n = rule->kind == RULE_NOT ? 1 : list->n_children;
    const struct yaml_tree *child = rule->kind == RULE_NOT ? list : list->first;
    enum status st = arena_calloc(refs->arena, n, sizeof *rule->children, &rule->children, err);

    for (int i = 0; child != NULL && st == ST_OK; i++) {
        const struct curation_place place = {path, rule->kind == RULE_NOT ? -1 : i};

        st = curation_parse_rule(refs, child, place, &rule->children[i], err);
        child = rule->kind == RULE_NOT ? NULL : child->next;
    }
    rule->n_children = n;
    return st;
}

static enum status parse_combined(struct curation_refs *refs, struct curation_place place,
                                  const struct yaml_tree *list, struct rule *rule,
                                  struct error *err)
{
    const char *path;
    enum status st = curation_inner_path(refs, place, list->key, &path, err);

    if (st != ST_OK)
        return st;
    if (rule->kind != RULE_NOT && (list->kind != YAML_TREE_LIST || list->n_children == 0)) {
        const struct job_section section = section_at((struct curation_place){path, -1});

        (void)error_set(err, ST_INVALID, "needs a list of rules: begin every one with \"- \"");
        return job_bind_locate(list, &section, -1, "", err);
    }
    return parse_children(refs, list, path, rule, err);
}

static enum status refuse_others(const struct yaml_tree *node, struct curation_place place,
                                 const char *kind, struct error *err)
{
    for (const struct yaml_tree *child = node->first; child != NULL; child = child->next)
        if (strcmp(child->key, kind) != 0 && strcmp(child->key, "name") != 0) {
            (void)error_set(err, ST_INVALID, "has no meaning beside %s", kind);
            return curation_refuse(node, place, child->key, err);
        }
    return ST_OK;
}

enum status curation_parse_rule(struct curation_refs *refs, const struct yaml_tree *node,
                                struct curation_place place, struct rule *rule, struct error *err)
{
    const struct yaml_tree *what = NULL;
    struct curation_rule_keys keys;
    uint32_t score = 0;
    enum status st = curation_path(refs, place, &rule->name, err);

    if (st == ST_OK)
        st = bind_keys(node, place, &keys, err);
    if (st != ST_OK)
        return st;
    rule->top = rule->bottom = (double)NAN;
    if (keys.name != NULL)
        rule->name = keys.name;
    for (size_t i = 0; i < ARRAY_LEN(kinds) && (what == NULL || what->kind == YAML_TREE_NULL);
         i++) {
        what = yaml_tree_find(node, kinds[i].key);
        rule->kind = kinds[i].kind;
    }
    if (what == NULL || what->kind == YAML_TREE_NULL) {
        (void)error_set(err, ST_INVALID, "is no rule: it needs score, ids, all, any or not");
        return curation_refuse(node, place, "", err);
    }
    if (rule->kind != RULE_SCORE)
        st = refuse_others(node, place, what->key, err);
    if (st != ST_OK)
        return st;
    if (rule->kind == RULE_IDS && refs->n_id_lists == CURATION_MAX_ID_LISTS) {
        (void)error_set(err, ST_INVALID, "is one list too many; the limit is %d",
                        (int)CURATION_MAX_ID_LISTS);
        return curation_refuse(node, place, "ids", err);
    }
    if (rule->kind == RULE_IDS) {
        refs->id_lists[refs->n_id_lists++] = (struct curation_id_list){keys.ids, rule};
        return ST_OK;
    }
    if (rule->kind != RULE_SCORE)
        return parse_combined(refs, place, what, rule, err);
    st = set_bounds(node, place, &keys, rule, err);
    if (st == ST_OK)
        st = add_score(refs, node, place, &keys, &score, err);
    rule->score = score;
    return st;
}

enum status curation_begin_list(struct arena *arena, const struct yaml_tree *list, const char *name,
                                size_t max, size_t element_size, const struct yaml_tree **first,
                                void *array, size_t *n, struct error *err)
{
    const struct job_section place = {.name = name};

    *first = NULL;
    if (list == NULL || list->kind == YAML_TREE_NULL)
        return ST_OK;
    if (list->kind != YAML_TREE_LIST) {
        (void)error_set(err, ST_INVALID,
                        "is a %s where a list is expected: begin every element with \"- \"",
                        list->kind == YAML_TREE_MAP ? "map" : "single value");
        return job_bind_locate(list, &place, -1, "", err);
    }
    if (list->n_children > max) {
        (void)error_set(err, ST_INVALID, "has %zu elements; the limit is %zu", list->n_children,
                        max);
        return job_bind_locate(list, &place, -1, "", err);
    }
    *first = list->first;
    *n = list->n_children;
    return arena_calloc(arena, *n, element_size, array, err);
}

enum status curation_parse_keep(struct curation_refs *refs, const struct yaml_tree *list,
                                const char *name, struct rule *keep, struct error *err)
{
    const struct yaml_tree *node;
    enum status st = curation_begin_list(refs->arena, list, name, SIZE_MAX, sizeof *keep->children,
                                         &node, &keep->children, &keep->n_children, err);

    keep->kind = RULE_ALL;
    keep->name = "keep";
    for (int i = 0; node != NULL && st == ST_OK; i++, node = node->next)
        st = curation_parse_rule(refs, node, (struct curation_place){name, i}, &keep->children[i],
                                 err);
    return st;
}

enum status curation_parse_score(struct curation_refs *refs, const struct yaml_tree *node,
                                 const char *name, uint32_t *score, struct error *err)
{
    const struct curation_place place = {name, -1};
    struct curation_rule_keys keys;
    enum status st = bind_keys(node, place, &keys, err);

    if (st != ST_OK)
        return st;
    if (keys.score == NULL)
        (void)error_set(err, ST_INVALID, "needs a score");
    else if (!isnan(keys.min) || !isnan(keys.max) || !isnan(keys.top) || !isnan(keys.bottom) ||
             keys.name != NULL)
        (void)error_set(err, ST_INVALID, "is a score without name and bounds");
    else
        return add_score(refs, node, place, &keys, score, err);
    return curation_refuse(node, place, "", err);
}
