#include "worker/model_record.h"

#include "reinforce/base/json.h"
#include "reinforce/base/log.h"
#include "reinforce/base/sha256.h"

#include <stdio.h>

enum { MAX_BYTES = 1 << 20 };

static enum status add(json_t *list, const char *name, const char *model, const char *family,
                       const char *digest, const char *weights_type, struct error *err)
{
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s, s:s*}", "name", name, "model", model, "family",
                              family, "digest", digest, "weights_type", weights_type);

    if (json_array_append_new(list, entry) != 0)
        return error_set(err, ST_NO_MEMORY, "could not allocate the record of models");
    return ST_OK;
}

/* What was found when it was compared with itself in float32, if it was. */
static enum status add_fidelity(json_t *list, const json_t *said, struct error *err)
{
    json_t *entry = json_array_get(list, json_array_size(list) - 1);

    if (said == NULL || json_object_set_new(entry, "fidelity", json_deep_copy(said)) == 0)
        return ST_OK;
    return error_set(err, ST_NO_MEMORY, "could not allocate the record of models");
}

/* What the job file does not say of how a captioner runs. */
static enum status add_caps(json_t *list, const struct captioner_info *info, struct error *err)
{
    json_t *entry = json_array_get(list, json_array_size(list) - 1), *caps;

    if (!info->has_caps)
        return ST_OK;
    caps = json_pack("{s:f, s:f, s:I}", "attention_cap", info->attention_cap, "final_cap",
                     info->final_cap, "sliding_window", (json_int_t)info->sliding_window);
    return json_object_update_new(entry, caps) == 0
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate the record of models");
}

static enum status add_facts(json_t *list, const struct teacher_info *info, struct error *err)
{
    const struct preprocess *pre = &info->preprocess;
    json_t *entry = json_array_get(list, json_array_size(list) - 1);
    json_t *more =
        json_pack("{s:i, s:[fff], s:[fff], s:I, s:f}", "image_size", pre->size, "mean",
                  (double)pre->mean[0], (double)pre->mean[1], (double)pre->mean[2], "std",
                  (double)pre->std[0], (double)pre->std[1], (double)pre->std[2], "dim",
                  (json_int_t)info->dim, "logit_scale", (double)info->logit_scale);
    int failed = json_object_update_new(entry, more);

    if (info->has_logit_bias)
        failed |= json_object_set_new(entry, "logit_bias", json_real((double)info->logit_bias));
    return failed == 0 ? ST_OK
                       : error_set(err, ST_NO_MEMORY, "could not allocate the record of models");
}

static enum status describe(const struct engine *engine, json_t *record, struct error *err)
{
    const struct job *job = engine->job;
    json_t *captioners = json_array(), *teachers = json_array();
    enum status st = ST_OK;

    if (json_object_set_new(record, "captioners", captioners) != 0 ||
        json_object_set_new(record, "teachers", teachers) != 0)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the record of models");
    for (size_t i = 0; i < engine->n_captioners && st == ST_OK; i++) {
        const struct captioner_info *info = captioner_info(engine->captioners[i]);

        st = add(captioners, job->captioners[i].name, job->captioners[i].model, info->family,
                 info->weights_digest, info->weights_type, err);
        if (st == ST_OK)
            st = add_caps(captioners, info, err);
        if (st == ST_OK)
            st = add_fidelity(captioners, engine_captioner_fidelity(engine, i), err);
    }
    for (size_t i = 0; i < engine->n_teachers && st == ST_OK; i++) {
        const struct teacher_info *info = teacher_info(engine->teachers[i]);

        st = add(teachers, job->teachers[i].name, job->teachers[i].model, info->family,
                 info->weights_digest, info->weights_type, err);
        if (st == ST_OK)
            st = add_facts(teachers, info, err);
        if (st == ST_OK)
            st = add_fidelity(teachers, engine_teacher_fidelity(engine, i), err);
    }
    return st;
}

static const char *text_of(const json_t *entry, const char *key)
{
    const char *text = json_string_value(json_object_get(entry, key));

    return text != NULL ? text : "";
}

static void compare(const json_t *before, const json_t *now, const char *role)
{
    const json_t *old = json_object_get(before, role), *new = json_object_get(now, role);

    for (size_t i = 0; i < json_array_size(old); i++) {
        for (size_t k = 0; k < json_array_size(new); k++) {
            const json_t *a = json_array_get(old, i), *b = json_array_get(new, k);

            if (strcmp(text_of(a, "name"), text_of(b, "name")) == 0 &&
                strcmp(text_of(a, "digest"), text_of(b, "digest")) != 0)
                log_at(LOG_WARN, "model_changed", "role=%s name=\"%s\" was=%s is=%s", role,
                       text_of(b, "name"), text_of(a, "digest"), text_of(b, "digest"));
        }
    }
}

static enum status compare_with_earlier(struct object_store *output, const json_t *now,
                                        struct error *err)
{
    struct arena arena;
    struct bytes_view body;
    json_t *before = NULL;
    enum status st;

    arena_init(&arena, 2 * MAX_BYTES);
    st = object_store_get(output, MODEL_RECORD_KEY, MAX_BYTES, &arena, &body, err);
    if (st == ST_OK)
        st = json_parse(body, &before, err);
    if (st == ST_OK) {
        compare(before, now, "captioners");
        compare(before, now, "teachers");
    }
    json_decref(before);
    arena_release(&arena);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status model_record_write(const struct engine *engine, struct object_store *output,
                               struct error *err)
{
    json_t *record = json_object();
    struct object_written written;
    struct byte_buf text;
    enum status st = record != NULL
                         ? describe(engine, record, err)
                         : error_set(err, ST_NO_MEMORY, "could not allocate the record of models");

    byte_buf_init(&text, MAX_BYTES);
    if (st == ST_OK)
        st = compare_with_earlier(output, record, err);
    if (st == ST_OK)
        st = json_write(record, &text, err);
    if (st == ST_OK)
        st = object_store_put(output, MODEL_RECORD_KEY, byte_buf_view(&text), &written, err);
    if (st != ST_OK)
        error_add_context(err, MODEL_RECORD_KEY);
    byte_buf_release(&text);
    json_decref(record);
    return st;
}

static enum status read_triple(const json_t *entry, const char *key, double out[3],
                               struct error *err)
{
    const json_t *list = json_object_get(entry, key);

    for (size_t c = 0; c < 3; c++) {
        const json_t *value = json_array_get(list, c);

        if (!json_is_number(value))
            return error_set(err, ST_CORRUPT, "\"%s\" is not three numbers", key);
        out[c] = json_number_value(value);
    }
    return ST_OK;
}

enum status model_record_read(struct object_store *output, struct model_facts *facts,
                              struct error *err)
{
    struct arena arena;
    struct bytes_view body;
    json_t *record = NULL;
    const json_t *teachers;
    enum status st;

    memset(facts, 0, sizeof *facts);
    arena_init(&arena, 2 * MAX_BYTES);
    st = object_store_get(output, MODEL_RECORD_KEY, MAX_BYTES, &arena, &body, err);
    if (st == ST_OK)
        st = json_parse(body, &record, err);
    teachers = json_object_get(record, "teachers");
    for (size_t t = 0; t < json_array_size(teachers) && st == ST_OK; t++) {
        const json_t *entry = json_array_get(teachers, t);
        json_int_t size = json_integer_value(json_object_get(entry, "image_size"));

        if (size < 0 || size > INT32_MAX)
            st = error_set(err, ST_CORRUPT, "\"image_size\" is not a size");
        facts->image_size = MAX(facts->image_size, (int)size);
        if (st == ST_OK && t == 0)
            st = read_triple(entry, "mean", facts->mean, err);
        if (st == ST_OK && t == 0)
            st = read_triple(entry, "std", facts->std, err);
    }
    if (st != ST_OK)
        error_add_context(err, MODEL_RECORD_KEY);
    json_decref(record);
    arena_release(&arena);
    return st;
}

/* The entry that is meant, and where its columns begin. */
static enum status find_teacher(const json_t *teachers, const char *name, const json_t **found,
                                size_t *first, struct error *err)
{
    size_t n = json_array_size(teachers), t = 0;
    char names[128] = "";

    *first = 0;
    for (size_t i = 0, used = 0; i < n && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 text_of(json_array_get(teachers, i), "name"));
    if (name == NULL && n != 1)
        return error_set(err, ST_INVALID, "the dataset has %zu teachers, say which of %s", n,
                         names);
    for (; t < n; t++) {
        const json_t *entry = json_array_get(teachers, t);
        json_int_t dim = json_integer_value(json_object_get(entry, "dim"));

        if (dim < 1 || dim > INT32_MAX)
            return error_set(err, ST_CORRUPT,
                             "\"dim\" of teacher \"%s\" is missing: an older version wrote it",
                             text_of(entry, "name"));
        *found = entry;
        if (name == NULL || strcmp(text_of(entry, "name"), name) == 0)
            return ST_OK;
        *first += (size_t)dim;
    }
    return error_set(err, ST_INVALID, "the dataset has no teacher \"%s\", but %s", name, names);
}

enum status model_record_teacher(struct object_store *output, const char *name,
                                 struct model_teacher *teacher, struct error *err)
{
    const json_t *entry = NULL;
    struct byte_buf text;
    struct arena arena;
    struct bytes_view body;
    json_t *record = NULL;
    enum status st;

    memset(teacher, 0, sizeof *teacher);
    arena_init(&arena, 2 * MAX_BYTES);
    byte_buf_init(&text, MAX_BYTES);
    st = object_store_get(output, MODEL_RECORD_KEY, MAX_BYTES, &arena, &body, err);
    if (st == ST_OK)
        st = json_parse(body, &record, err);
    if (st == ST_OK)
        st = find_teacher(json_object_get(record, "teachers"), name, &entry, &teacher->first, err);
    if (st == ST_OK)
        st = json_write(entry, &text, err);
    if (st == ST_OK) {
        (void)snprintf(teacher->name, sizeof teacher->name, "%s", text_of(entry, "name"));
        teacher->dim = (size_t)json_integer_value(json_object_get(entry, "dim"));
        teacher->logit_scale = (float)json_number_value(json_object_get(entry, "logit_scale"));
        teacher->logit_bias = (float)json_number_value(json_object_get(entry, "logit_bias"));
        sha256_of(byte_buf_view(&text), teacher->digest);
    } else {
        error_add_context(err, MODEL_RECORD_KEY);
    }
    json_decref(record);
    byte_buf_release(&text);
    arena_release(&arena);
    return st;
}
