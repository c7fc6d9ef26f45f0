#include "worker/engine.h"

#include <stdlib.h>

static enum status open_teachers(struct engine *engine, struct error *err)
{
    const struct job *job = engine->job;

    for (size_t i = 0; i < job->n_teachers; i++) {
        const struct job_teacher *spec = &job->teachers[i];
        const struct teacher_options options = {
            .model_dir = spec->model,
            .clean = spec->clean,
            .special_tokens_in_text = spec->special_tokens_in_text,
            .activation = spec->activation,
        };
        enum status st = teacher_open(&options, &engine->teachers[i], err);
        size_t k = 0;
        int size;

        if (st != ST_OK) {
            error_add_context(err, "teacher \"%s\"", spec->name);
            return st;
        }
        engine->n_teachers = i + 1;
        engine->teacher_column[i + 1] =
            engine->teacher_column[i] + teacher_info(engine->teachers[i])->dim;
        size = teacher_info(engine->teachers[i])->preprocess.size;
        while (k < engine->n_sizes && engine->sizes[k] != size)
            k++;
        if (k == engine->n_sizes)
            engine->sizes[engine->n_sizes++] = size;
        engine->teacher_size[i] = k;
    }
    return ST_OK;
}

static enum status open_captioners(struct engine *engine, struct error *err)
{
    const struct job *job = engine->job;

    for (size_t i = 0; i < job->n_captioners; i++) {
        const struct job_captioner *spec = &job->captioners[i];
        const struct captioner_options options = {.model_dir = spec->model,
                                                  .activation = spec->activation};
        enum status st = captioner_open(&options, &engine->captioners[i], err);

        if (st == ST_OK) {
            engine->n_captioners = i + 1;
            st = caption_options_check(&spec->how, captioner_info(engine->captioners[i]), err);
        }
        if (st != ST_OK) {
            error_add_context(err, "captioner \"%s\"", spec->name);
            return st;
        }
    }
    return ST_OK;
}

enum status engine_open(const struct job *job, struct engine **out, struct error *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    enum status st = ST_OK;

    *out = NULL;
    if (engine == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the engine");
    engine->job = job;
    engine->teachers = calloc(job->n_teachers + 1, sizeof(struct teacher *));
    engine->teacher_column = calloc(job->n_teachers + 1, sizeof *engine->teacher_column);
    engine->teacher_size = calloc(job->n_teachers + 1, sizeof *engine->teacher_size);
    engine->captioners = calloc(job->n_captioners + 1, sizeof(struct captioner *));
    engine->sizes = calloc(job->n_teachers + 1, sizeof *engine->sizes);
    if (engine->teachers == NULL || engine->teacher_column == NULL ||
        engine->teacher_size == NULL || engine->captioners == NULL || engine->sizes == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the engine");
    if (st == ST_OK)
        st = open_teachers(engine, err);
    if (st == ST_OK)
        st = open_captioners(engine, err);
    if (st != ST_OK) {
        engine_close(&engine);
        return st;
    }
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
    for (size_t i = 0; e->captioners != NULL && i < e->n_captioners; i++)
        captioner_close(&e->captioners[i]);
    for (size_t i = 0; e->teachers != NULL && i < e->n_teachers; i++)
        teacher_close(&e->teachers[i]);
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
