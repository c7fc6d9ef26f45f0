#include "worker/engine.h"

#include "reinforce/base/log.h"
#include "storage/hub/hub.h"
#include "worker/remote/remote.h"

#include <stdlib.h>

static enum status open_teacher(const struct job_teacher *spec, const atomic_bool *stop,
                                struct teacher **out, struct error *err)
{
    const struct hub_options hub = {.stop = stop};
    char dir[PATH_MAX];
    const struct teacher_options options = {
        .model_dir = dir,
        .clean = spec->clean,
        .special_tokens_in_text = spec->special_tokens_in_text,
        .activation = spec->activation,
        .matrices = spec->dtype,
    };
    enum status st;

    if (spec->remote.server != NULL)
        return remote_teacher_open(spec, stop, out, err);
    st = hub_resolve(&hub, spec->model, dir, err);
    return st == ST_OK ? teacher_open(&options, out, err) : st;
}

static enum status open_captioner(const struct job_captioner *spec, const atomic_bool *stop,
                                  struct captioner **out, struct error *err)
{
    const struct hub_options hub = {.stop = stop};
    char dir[PATH_MAX];
    const struct captioner_options options = {.model_dir = dir,
                                              .activation = spec->activation,
                                              .no_attention_cap = !spec->attention_cap,
                                              .final_cap = spec->final_cap,
                                              .sliding_window = spec->sliding_window,
                                              .matrices = spec->dtype,
                                              .kv_type = spec->kv_cache};
    enum status st;

    if (spec->remote.server != NULL)
        return remote_captioner_open(spec, stop, out, err);
    st = hub_resolve(&hub, spec->model, dir, err);
    return st == ST_OK ? captioner_open(&options, out, err) : st;
}

static enum status open_models(const struct job *job, const atomic_bool *stop,
                               struct teacher **teachers, struct captioner **captioners,
                               struct error *err)
{
    for (size_t i = 0; i < job->n_teachers; i++) {
        const char *name = job->teachers[i].name;
        enum status st = open_teacher(&job->teachers[i], stop, &teachers[i], err);

        if (st != ST_OK) {
            error_add_context(err, "teacher \"%s\"", name);
            return st;
        }
        log_at(LOG_INFO, "teacher_opened", "name=\"%s\" family=%s digest=%s", name,
               teacher_info(teachers[i])->family, teacher_info(teachers[i])->weights_digest);
    }
    for (size_t i = 0; i < job->n_captioners; i++) {
        const char *name = job->captioners[i].name;
        enum status st = open_captioner(&job->captioners[i], stop, &captioners[i], err);

        if (st != ST_OK) {
            error_add_context(err, "captioner \"%s\"", name);
            return st;
        }
        log_at(LOG_INFO, "captioner_opened", "name=\"%s\" family=%s digest=%s", name,
               captioner_info(captioners[i])->family,
               captioner_info(captioners[i])->weights_digest);
    }
    return ST_OK;
}

static void close_models(const struct job *job, struct teacher **teachers,
                         struct captioner **captioners)
{
    for (size_t i = 0; captioners != NULL && i < job->n_captioners; i++)
        captioner_close(&captioners[i]);
    for (size_t i = 0; teachers != NULL && i < job->n_teachers; i++)
        teacher_close(&teachers[i]);
}

enum status engine_open(const struct job *job, const atomic_bool *stop, struct engine **out,
                        struct error *err)
{
    struct teacher **teachers = calloc(job->n_teachers + 1, sizeof(struct teacher *));
    struct captioner **captioners = calloc(job->n_captioners + 1, sizeof(struct captioner *));
    enum status st = ST_OK;

    *out = NULL;
    if (teachers == NULL || captioners == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the engine");
    if (st == ST_OK)
        st = open_models(job, stop, teachers, captioners, err);
    if (st == ST_OK)
        st = engine_create(job, teachers, captioners, out, err);
    if (st != ST_OK)
        close_models(job, teachers, captioners);
    free(captioners);
    free(teachers);
    return st;
}

static enum status check_captioners(const struct job *job, struct captioner *const *captioners,
                                    struct error *err)
{
    for (size_t i = 0; i < job->n_captioners; i++) {
        enum status st =
            caption_options_check(&job->captioners[i].how, captioner_info(captioners[i]), err);

        if (st != ST_OK) {
            error_add_context(err, "captioner \"%s\"", job->captioners[i].name);
            return st;
        }
    }
    return ST_OK;
}

/* Columns of the stored row, and which of the distinct input sizes each teacher sees. */
static void place_teachers(struct engine *engine)
{
    for (size_t i = 0; i < engine->n_teachers; i++) {
        const struct teacher_info *info = teacher_info(engine->teachers[i]);
        size_t k = 0;

        engine->teacher_column[i + 1] = engine->teacher_column[i] + info->dim;
        while (k < engine->n_sizes && engine->sizes[k] != info->preprocess.size)
            k++;
        if (k == engine->n_sizes)
            engine->sizes[engine->n_sizes++] = info->preprocess.size;
        engine->teacher_size[i] = k;
    }
}

enum status engine_create(const struct job *job, struct teacher *const *teachers,
                          struct captioner *const *captioners, struct engine **out,
                          struct error *err)
{
    struct engine *engine;
    enum status st = check_captioners(job, captioners, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the engine");
    engine->job = job;
    engine->teachers = calloc(job->n_teachers + 1, sizeof(struct teacher *));
    engine->teacher_column = calloc(job->n_teachers + 1, sizeof *engine->teacher_column);
    engine->teacher_size = calloc(job->n_teachers + 1, sizeof *engine->teacher_size);
    engine->captioners = calloc(job->n_captioners + 1, sizeof(struct captioner *));
    engine->sizes = calloc(job->n_teachers + 1, sizeof *engine->sizes);
    if (engine->teachers == NULL || engine->teacher_column == NULL ||
        engine->teacher_size == NULL || engine->captioners == NULL || engine->sizes == NULL) {
        engine_close(&engine);
        return error_set(err, ST_NO_MEMORY, "could not allocate the engine");
    }
    st = judge_init(&engine->judge, job, teachers, err);
    if (st != ST_OK) {
        engine_close(&engine);
        return st;
    }
    engine->n_teachers = job->n_teachers;
    engine->n_captioners = job->n_captioners;
    for (size_t i = 0; i < job->n_teachers; i++)
        engine->teachers[i] = teachers[i];
    for (size_t i = 0; i < job->n_captioners; i++)
        engine->captioners[i] = captioners[i];
    place_teachers(engine);
    engine->augment = job->views.augment;
    for (size_t k = 0; k < engine->n_sizes && job->views.augment.size == 0; k++)
        engine->augment.size = MAX(engine->augment.size, engine->sizes[k]);
    *out = engine;
    return ST_OK;
}

void engine_close(struct engine **engine)
{
    struct engine *e = *engine;

    if (e == NULL)
        return;
    if (e->n_teachers + e->n_captioners > 0)
        close_models(e->job, e->teachers, e->captioners);
    judge_release(&e->judge);
    free(e->sizes);
    free(e->captioners);
    free(e->teacher_size);
    free(e->teacher_column);
    free(e->teachers);
    free(e);
    *engine = NULL;
}

size_t engine_dim(const struct engine *engine)
{
    return engine->teacher_column[engine->n_teachers];
}
