#include "reinforce/job/job_bind.h"

#include "reinforce/job/job_value.h"

enum status job_bind_locate(const struct yaml_tree *node, const struct job_section *section,
                            int index, const char *key, struct error *err)
{
    if (index >= 0)
        error_add_context(err, "%s[%d]%s%.60s", section->name, index, key[0] != '\0' ? "." : "",
                          key);
    else
        error_add_context(err, "%s%s%.60s", section->name,
                          section->name[0] != '\0' && key[0] != '\0' ? "." : "", key);
    return yaml_tree_locate(node, err);
}

static enum status refuse_unknown(const struct job_binding *b, const struct yaml_tree *node,
                                  struct error *err)
{
    const char *nearest = job_nearest_key(b->schema, b->section, node->key);
    const struct job_section *elsewhere = job_section_with_key(b->schema, node->key);

    if (nearest != NULL)
        (void)error_set(err, ST_INVALID, "unknown key, did you mean \"%s\"?", nearest);
    else if (elsewhere != NULL)
        (void)error_set(err, ST_INVALID, "unknown key here; it belongs %s%s",
                        elsewhere->name[0] != '\0' ? "under " : "at the top level",
                        elsewhere->name);
    else
        (void)error_set(err, ST_INVALID, "unknown key; %s lists those there are", b->schema->page);
    return job_bind_locate(node, b->section, b->index, node->key, err);
}

enum status job_bind_keys(const struct job_binding *b, struct error *err)
{
    if (b->node != NULL && b->node->kind != YAML_TREE_MAP) {
        (void)error_set(err, ST_INVALID, "is a %s where keys and values are expected",
                        b->node->kind == YAML_TREE_LIST ? "list" : "single value");
        return job_bind_locate(b->node, b->section, b->index, "", err);
    }
    for (const struct yaml_tree *child = b->node != NULL ? b->node->first : NULL; child != NULL;
         child = child->next)
        if (job_option_find(b->section, child->key) == NULL &&
            (b->section->name[0] != '\0' || job_section_find(b->schema, child->key) == NULL))
            return refuse_unknown(b, child, err);
    return ST_OK;
}

static const struct yaml_tree *value_of(const struct job_binding *b,
                                        const struct job_option *option)
{
    return b->node != NULL ? yaml_tree_find(b->node, option->key) : NULL;
}

enum status job_bind_values(const struct job_binding *b, struct error *err)
{
    for (size_t i = 0; i < b->section->n_options; i++) {
        const struct job_option *option = &b->section->options[i];
        const struct yaml_tree *value = value_of(b, option);

        job_value_set_default(option, b->base);
        if (value != NULL && value->kind != YAML_TREE_NULL &&
            job_value_parse(option, value, b->base, err) != ST_OK)
            return job_bind_locate(value, b->section, b->index, option->key, err);
    }
    return ST_OK;
}

enum status job_bind_required(const struct job_binding *b, struct error *err)
{
    for (size_t i = 0; i < b->section->n_options; i++) {
        const struct job_option *option = &b->section->options[i];
        const struct yaml_tree *value = value_of(b, option);

        if (option->default_text != NULL || (value != NULL && value->kind != YAML_TREE_NULL))
            continue;
        (void)error_set(err, ST_INVALID, "is missing and has no default");
        return job_bind_locate(value != NULL ? value : b->place, b->section, b->index, option->key,
                               err);
    }
    return ST_OK;
}
