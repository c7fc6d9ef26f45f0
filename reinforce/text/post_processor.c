#include "reinforce/text/post_processor.h"

#include "reinforce/text/json_field.h"

enum { TEXT_ITSELF = -1, MAX_PLAN_IDS = 4096, MAX_DEPTH = 16 };

static enum status plan_add(struct byte_buf *plan, int64_t id, struct error *err)
{
    if (id < TEXT_ITSELF || id > INT32_MAX)
        return error_set(err, ST_CORRUPT, "id %lld is out of range", (long long)id);
    return byte_buf_append(plan, &(int32_t){(int32_t)id}, sizeof(int32_t), err);
}

/* "sep": ["<|endoftext|>", 49407] */
static enum status token_pair_id(const json_t *json, const char *key, int64_t *id,
                                 struct error *err)
{
    const json_t *pair = json_object_get(json, key);

    if (json_array_size(pair) != 2 || !json_is_integer(json_array_get(pair, 1)) ||
        json_integer_value(json_array_get(pair, 1)) < 0)
        return error_set(err, ST_CORRUPT, "\"%s\" is not [token, id]", key);
    *id = json_integer_value(json_array_get(pair, 1));
    return ST_OK;
}

static enum status read_roberta(struct byte_buf *plan, const json_t *json, struct error *err)
{
    int64_t cls = 0, sep = 0;
    enum status st = token_pair_id(json, "cls", &cls, err);

    if (st == ST_OK)
        st = token_pair_id(json, "sep", &sep, err);
    if (st == ST_OK)
        st = plan_add(plan, cls, err);
    if (st == ST_OK)
        st = plan_add(plan, TEXT_ITSELF, err);
    return st == ST_OK ? plan_add(plan, sep, err) : st;
}

static enum status read_special(struct byte_buf *plan, const json_t *piece, const json_t *tokens,
                                struct error *err)
{
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids = json_object_get(name != NULL ? json_object_get(tokens, name) : NULL, "ids");
    enum status st = ST_OK;

    if (name == NULL || !json_is_array(ids))
        return error_set(err, ST_CORRUPT, "special token \"%.60s\" is not in \"special_tokens\"",
                         name != NULL ? name : "");
    for (size_t i = 0; i < json_array_size(ids) && st == ST_OK; i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return error_set(err, ST_CORRUPT, "an id of special token \"%.60s\" is wrong", name);
        st = plan_add(plan, json_integer_value(id), err);
    }
    return st;
}

static enum status read_template(struct byte_buf *plan, const json_t *json, struct error *err)
{
    const json_t *single, *tokens = json_object_get(json, "special_tokens");
    enum status st = json_field_array(json, "single", &single, err);

    for (size_t i = 0; st == ST_OK && i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *special = json_object_get(piece, "SpecialToken");
        const char *sequence =
            json_string_value(json_object_get(json_object_get(piece, "Sequence"), "id"));

        if (special != NULL)
            st = read_special(plan, special, tokens, err);
        else if (sequence != NULL && strcmp(sequence, "A") == 0)
            st = plan_add(plan, TEXT_ITSELF, err);
        else
            st = error_set(err, ST_CORRUPT,
                           "entry %zu of \"single\" is neither a special token nor sequence A", i);
    }
    return st;
}

/* Wraps what the plan has so far: every text of `outer` becomes the plan. */
static enum status wrap(struct byte_buf *plan, const struct byte_buf *outer, struct error *err)
{
    const int32_t *ids = (const int32_t *)(const void *)outer->data;
    struct byte_buf joined;
    enum status st = ST_OK;

    byte_buf_init(&joined, MAX_PLAN_IDS * sizeof(int32_t));
    for (size_t i = 0; i < outer->len / sizeof *ids && st == ST_OK; i++)
        st = ids[i] == TEXT_ITSELF ? byte_buf_append(&joined, plan->data, plan->len, err)
                                   : byte_buf_append(&joined, &ids[i], sizeof ids[i], err);
    if (st != ST_OK) {
        byte_buf_release(&joined);
        return st;
    }
    byte_buf_release(plan);
    *plan = joined;
    return ST_OK;
}

static enum status read_processor(struct post_processor *post, const json_t *json, int depth,
                                  bool *template_seen, struct error *err)
{
    struct byte_buf outer;
    const char *type;
    const json_t *list;
    bool is_template, is_roberta;
    enum status st = json_field_type(json, &type, err);

    if (st != ST_OK || strcmp(type, "ByteLevel") == 0)
        return st;
    if (strcmp(type, "Sequence") == 0) {
        st = depth < MAX_DEPTH ? json_field_array(json, "processors", &list, err)
                               : error_set(err, ST_INVALID, "sequences nest too deep");
        for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++)
            st = read_processor(post, json_array_get(list, i), depth + 1, template_seen, err);
        return st;
    }
    is_template = strcmp(type, "TemplateProcessing") == 0;
    is_roberta = strcmp(type, "RobertaProcessing") == 0;
    if (!is_template && !is_roberta)
        return error_set(err, ST_INVALID, "post-processor kind \"%.60s\" is not supported", type);
    if (*template_seen) /* the reference takes a template's pieces for several texts there */
        return error_set(err, ST_INVALID, "%s behind a TemplateProcessing is not supported", type);
    *template_seen = is_template;
    byte_buf_init(&outer, MAX_PLAN_IDS * sizeof(int32_t));
    st = is_template ? read_template(&outer, json, err) : read_roberta(&outer, json, err);
    if (st == ST_OK)
        st = wrap(&post->plan, &outer, err);
    post->has_plan = true;
    byte_buf_release(&outer);
    return st;
}

enum status post_processor_init(struct post_processor *post, const json_t *json, struct error *err)
{
    bool template_seen = false;
    enum status st;

    memset(post, 0, sizeof *post);
    if (json == NULL || json_is_null(json))
        return ST_OK;
    byte_buf_init(&post->plan, MAX_PLAN_IDS * sizeof(int32_t));
    st = plan_add(&post->plan, TEXT_ITSELF, err);
    if (st == ST_OK)
        st = read_processor(post, json, 0, &template_seen, err);
    if (st != ST_OK) {
        error_add_context(err, "post_processor");
        post_processor_release(post);
    }
    return st;
}

void post_processor_release(struct post_processor *post)
{
    byte_buf_release(&post->plan);
    memset(post, 0, sizeof *post);
}

int32_t post_processor_max_id(const struct post_processor *post)
{
    const int32_t *plan = (const int32_t *)(const void *)post->plan.data;
    int32_t max = -1;

    for (size_t i = 0; i < post->plan.len / sizeof *plan; i++)
        max = MAX(max, plan[i]);
    return max;
}

enum status post_processor_run(const struct post_processor *post, struct bytes_view ids,
                               bool add_special_tokens, struct byte_buf *out, struct error *err)
{
    const int32_t *plan = (const int32_t *)(const void *)post->plan.data;
    enum status st = ST_OK;

    if (!post->has_plan)
        return byte_buf_append(out, ids.data, ids.len, err);
    for (size_t i = 0; i < post->plan.len / sizeof *plan && st == ST_OK; i++) {
        if (plan[i] == TEXT_ITSELF)
            st = byte_buf_append(out, ids.data, ids.len, err);
        else if (add_special_tokens)
            st = byte_buf_append(out, &plan[i], sizeof plan[i], err);
    }
    return st;
}
