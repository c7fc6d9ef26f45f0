#include "coordinator/curator/teacher_job.h"

#include "reinforce/base/json.h"
#include "reinforce/models/snapshot.h"
#include "storage/hub/hub.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { JOB_MAX_BYTES = 256 << 20 };

static enum status find_teacher(const struct job *job, const char *name, size_t *t,
                                struct error *err)
{
    char names[128] = "";
    size_t used = 0;

    for (size_t i = 0; i < job->n_teachers; i++) {
        if (job->n_teachers == 1 ? name == NULL || strcmp(name, job->teachers[i].name) == 0
                                 : name != NULL && strcmp(name, job->teachers[i].name) == 0) {
            *t = i;
            return ST_OK;
        }
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                     job->teachers[i].name);
    }
    if (name == NULL)
        return error_set(err, ST_INVALID, "the job has %zu teachers, say which of %s",
                         job->n_teachers, names);
    return error_set(err, ST_INVALID, "the job has no teacher \"%s\", but %s", name, names);
}

/* The largest input of the job's teachers, whose views are drawn for it. */
static enum status largest_size(const struct job *job, int *size, struct error *err)
{
    const struct hub_options hub = {0};
    enum status st = ST_OK;

    *size = 0;
    for (size_t t = 0; t < job->n_teachers && st == ST_OK; t++) {
        const struct job_teacher *teacher = &job->teachers[t];
        struct snapshot snapshot;
        char dir[PATH_MAX];

        if (teacher->remote.server == NULL) {
            st = hub_resolve(&hub, teacher->model, dir, err);
            if (st == ST_OK)
                st = snapshot_read(dir, NULL, &snapshot, err);
            *size = MAX(*size, st == ST_OK ? snapshot.preprocess.size : 0);
        } else if (teacher->image_size > 0) {
            *size = MAX(*size, teacher->image_size);
        } else {
            st = error_set(err, ST_INVALID,
                           "it is served, and its input may be the largest: give views.size");
        }
        if (st != ST_OK)
            error_add_context(err, "teacher \"%s\"", teacher->name);
    }
    return st;
}

/* What views are drawn for does not change with the other teachers. */
static enum status keep_size(const struct job *job, json_t *own, struct error *err)
{
    int size;
    enum status st;

    if (job->views.augment.size != 0 || job->n_teachers == 1)
        return ST_OK;
    st = largest_size(job, &size, err);
    if (st == ST_OK &&
        json_object_set_new(json_object_get(own, "views"), "size", json_integer(size)) != 0)
        st = error_set(err, ST_NO_MEMORY, "could not allocate a job");
    return st;
}

enum status teacher_job(const struct job *job, const char *name, struct job **out,
                        struct error *err)
{
    static const char *const others[] = {"captioners", "curate"};
    struct byte_buf text;
    json_t *own = NULL, *teachers = json_array();
    size_t t = 0;
    enum status st = find_teacher(job, name, &t, err);

    *out = NULL;
    byte_buf_init(&text, JOB_MAX_BYTES);
    if (st == ST_OK)
        st = json_parse(bytes_of_string(job->effective_json), &own, err);
    for (size_t o = 0; o < ARRAY_LEN(others); o++)
        (void)json_object_del(own, others[o]);
    if (st == ST_OK &&
        (json_array_append(teachers, json_array_get(json_object_get(own, "teachers"), t)) != 0 ||
         json_object_set(own, "teachers", teachers) != 0))
        st = error_set(err, ST_NO_MEMORY, "could not allocate a job");
    if (st == ST_OK)
        st = keep_size(job, own, err);
    if (st == ST_OK)
        st = json_write(own, &text, err);
    if (st == ST_OK)
        st = job_load_text(byte_buf_view(&text), job->name, NULL, 0, out, err);
    json_decref(teachers);
    json_decref(own);
    byte_buf_release(&text);
    return st;
}
