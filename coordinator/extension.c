#include "coordinator/extension.h"

#include "reinforce/base/json.h"

/* Cuts list `key` of `current` to as many elements as `stored` has. */
static void cut_list(json_t *current, const json_t *stored, const char *key)
{
    json_t *list = json_object_get(current, key);
    size_t n = json_array_size(json_object_get(stored, key));

    while (json_array_size(list) > n)
        (void)json_array_remove(list, json_array_size(list) - 1);
}

/* What changed besides appended captioners and teachers, one difference per line; empty: nothing.
 */
static enum status other_changes(const char *stored_json, const char *current_json,
                                 struct arena *arena, const char **changes, struct error *err)
{
    json_t *stored = NULL, *current = NULL;
    struct byte_buf cut;
    const char *cut_text;
    enum status st = json_parse(bytes_of_string(stored_json), &stored, err);

    byte_buf_init(&cut, 16u << 20);
    if (st == ST_OK)
        st = json_parse(bytes_of_string(current_json), &current, err);
    if (st == ST_OK) {
        cut_list(current, stored, "captioners");
        cut_list(current, stored, "teachers");
        st = json_write(current, &cut, err);
    }
    if (st == ST_OK)
        st = byte_buf_c_str(&cut, &cut_text, err);
    if (st == ST_OK)
        st = job_diff(stored_json, cut_text, arena, changes, err);
    byte_buf_release(&cut);
    json_decref(current);
    json_decref(stored);
    return st;
}

/* The stored configuration as this build reads it: keys that are newer than it get their defaults.
 * One that this build cannot read stays as it is, so that the differences are named. */
static enum status read_stored(const char *stored_json, const struct job *job, struct arena *arena,
                               const char **text, bool *same, struct error *err)
{
    struct job *stored;
    struct error ignored;
    enum status st = job_load_text(bytes_of_string(stored_json), "stored configuration", NULL, 0,
                                   &stored, &ignored);
    char *copy;

    *text = stored_json;
    *same = false;
    if (st != ST_OK)
        return ST_OK;
    *same = strcmp(stored->digest, job->digest) == 0;
    st = arena_strndup(arena, stored->effective_json, strlen(stored->effective_json), &copy, err);
    if (st == ST_OK)
        *text = copy;
    job_destroy(&stored);
    return st;
}

enum status extension_begin(const struct job *job, struct catalog_job *row, const char *stored_json,
                            struct catalog *catalog, struct object_store *output,
                            struct arena *arena, bool *extended, struct error *err)
{
    const char *changes;
    struct object_written written;
    bool same;
    enum status st = read_stored(stored_json, job, arena, &stored_json, &same, err);

    *extended = false;
    if (st != ST_OK || same)
        return st;
    st = other_changes(stored_json, job->effective_json, arena, &changes, err);
    if (st != ST_OK)
        return st;
    if (changes[0] != '\0')
        return error_set(err, ST_INVALID,
                         "job \"%s\" was begun with other settings (%s); undo the change, or give "
                         "the job another name "
                         "and output.url",
                         job->name, changes);
    if (row->state != CATALOG_JOB_DONE)
        return error_set(err, ST_CONFLICT,
                         "job \"%s\" is not finished; finish it as it was before captioners or "
                         "teachers are added",
                         job->name);
    st = catalog_job_extend(catalog, row->job, job->digest, job->effective_json, job->output.format,
                            err);
    if (st == ST_OK)
        st = object_store_put(output, "_reinforce/job.json", bytes_of_string(job->effective_json),
                              &written, err);
    *extended = st == ST_OK;
    if (st == ST_OK)
        row->state = CATALOG_JOB_RUNNING;
    return st;
}
