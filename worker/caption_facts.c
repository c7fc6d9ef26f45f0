#include "worker/caption_facts.h"

#include "reinforce/text/locations.h"

#include <math.h>

static enum status no_memory(struct error *err)
{
    return error_set(err, ST_NO_MEMORY, "could not allocate what is known of captions");
}

/* meta[field][column] = list, which is taken whatever happens; NULL: no such column. */
static enum status set_column(struct record *record, const char *field, const char *column,
                              json_t *list, struct error *err)
{
    json_t *all = json_object_get(record->meta, field);

    if (list == NULL) {
        if (json_is_object(all))
            (void)json_object_del(all, column);
        if (json_is_object(all) && json_object_size(all) == 0)
            (void)json_object_del(record->meta, field);
        return ST_OK;
    }
    if (record->meta == NULL)
        record->meta = json_object();
    if (!json_is_object(all)) {
        all = json_object();
        if (json_object_set_new(record->meta, field, all) != 0)
            all = NULL;
    }
    return json_object_set_new(all, column, list) == 0 ? ST_OK : no_memory(err);
}

static enum status set(json_t *entry, const char *key, json_t *value, struct error *err)
{
    return json_object_set_new(entry, key, value) == 0 ? ST_OK : no_memory(err);
}

static enum status set_ids(json_t *entry, const struct caption *caption, struct error *err)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < caption->n_ids; i++)
        if (json_array_append_new(ids, json_integer(caption->ids[i])) != 0) {
            json_decref(ids);
            return no_memory(err);
        }
    return set(entry, "tokens", ids, err);
}

static enum status describe(const struct caption *caption, bool with_ids, json_t *entry,
                            struct error *err)
{
    const char *stop = caption_stop_name(caption->stop);
    enum status st = entry != NULL ? ST_OK : no_memory(err);

    if (st == ST_OK && caption->prompt.data != NULL)
        st = set(entry, "prompt",
                 json_stringn((const char *)caption->prompt.data, caption->prompt.len), err);
    if (st == ST_OK && isfinite(caption->log_prob_sum))
        st = set(entry, "sum_log_probability", json_real(caption->log_prob_sum), err);
    if (st == ST_OK && stop != NULL)
        st = set(entry, "stop", json_string(stop), err);
    if (st == ST_OK && with_ids && caption->ids != NULL)
        st = set_ids(entry, caption, err);
    return st;
}

static enum status keep_captioning(struct record *record, const char *column,
                                   const struct caption *captions, size_t n, struct error *err)
{
    json_t *list = json_array();
    size_t n_ids = 0;
    bool any = false;
    enum status st = ST_OK;

    for (size_t i = 0; i < n; i++)
        n_ids += captions[i].n_ids;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        json_t *entry = json_object();

        st = describe(&captions[i], n_ids <= CAPTION_FACTS_MAX_IDS, entry, err);
        any = any || json_object_size(entry) > 0;
        if (json_array_append_new(list, entry) != 0 && st == ST_OK)
            st = no_memory(err);
    }
    if (st == ST_OK && any)
        return set_column(record, "captioning", column, list, err);
    json_decref(list);
    return st == ST_OK ? set_column(record, "captioning", column, NULL, err) : st;
}

static enum status keep_places(struct record *record, const char *column,
                               const struct bytes_view *texts, size_t n, struct arena *arena,
                               struct error *err)
{
    json_t *list = json_array();
    bool any = false;
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        json_t *places = NULL;

        st = locations_json(texts[i], arena, &places, err);
        any = any || places != NULL;
        if (st == ST_OK && json_array_append_new(list, places != NULL ? places : json_array()) != 0)
            st = no_memory(err);
    }
    if (st == ST_OK && any)
        return set_column(record, "places", column, list, err);
    json_decref(list);
    return st == ST_OK ? set_column(record, "places", column, NULL, err) : st;
}

enum status caption_facts_keep(struct record *record, const char *column,
                               const struct caption *captions, const struct bytes_view *texts,
                               size_t n, struct arena *arena, struct error *err)
{
    enum status st = keep_captioning(record, column, captions, n, err);

    return st == ST_OK ? keep_places(record, column, texts, n, arena, err) : st;
}
