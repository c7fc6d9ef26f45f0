#include "reinforce/models/snapshot_config.h"

#include <stdio.h>
#include <string.h>

/* What a snapshot says of itself, to who reads it. */
static const struct snapshot_rules *const families[] = {
    [SNAPSHOT_CLIP] = &snapshot_rules_clip,
    [SNAPSHOT_COCA] = &snapshot_rules_coca,
    [SNAPSHOT_SIGLIP] = &snapshot_rules_siglip,
    [SNAPSHOT_SIGLIP2] = &snapshot_rules_siglip2,
    [SNAPSHOT_MOBILECLIP] = &snapshot_rules_mobileclip,
    [SNAPSHOT_PALIGEMMA] = &snapshot_rules_paligemma,
};
enum { FIRST = SNAPSHOT_CLIP };

const char *snapshot_family_name(enum snapshot_family family)
{
    return families[family]->name;
}

enum status snapshot_config_open_clip(const json_t *config, struct snapshot *s, struct error *err)
{
    const json_t *model = json_object_get(config, "model_cfg");

    if (model == NULL)
        model = config;
    s->naming = NAMING_OPEN_CLIP;
    s->family = SNAPSHOT_CLIP;
    for (size_t i = FIRST; i < ARRAY_LEN(families); i++)
        if (families[i]->claims_open_clip != NULL && families[i]->claims_open_clip(model))
            s->family = (enum snapshot_family)i;
    return families[s->family]->read_open_clip(config, model, s, err);
}

static bool equal(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

enum status snapshot_config_transformers(const json_t *config, const json_t *processor,
                                         struct snapshot *s, struct error *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const char *architecture =
        json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    char known[160] = "";

    s->naming = NAMING_TRANSFORMERS;
    for (size_t i = FIRST; i < ARRAY_LEN(families); i++) {
        const struct snapshot_rules *rules = families[i];
        size_t len = strlen(known);

        if (rules->model_type == NULL)
            continue;
        if ((type == NULL || equal(type, rules->model_type)) &&
            (architecture == NULL || equal(architecture, rules->architecture)) &&
            (type != NULL || architecture != NULL)) {
            s->family = (enum snapshot_family)i;
            return rules->read_transformers(config, processor, s, err);
        }
        (void)snprintf(known + len, sizeof known - len, "%s%s", len > 0 ? ", " : "",
                       rules->architecture);
    }
    return error_set(err, ST_INVALID,
                     "config.json describes a \"%.30s\" model, architecture \"%.40s\"; of "
                     "transformers' are supported: %s",
                     type != NULL ? type : "(model_type absent)",
                     architecture != NULL ? architecture : "(absent)", known);
}
