#include "worker/engine.h"

#include "reinforce/base/log.h"

#include <stdlib.h>

static enum status open_models(struct dtype_choice *choice, struct teacher **teachers,
                               struct captioner **captioners, struct verdict *verdicts,
                               struct error *err)
{
    const struct job *job = choice->job;

    for (size_t i = 0; i < job->n_teachers; i++) {
        const struct job_teacher *spec = &job->teachers[i];
        enum status st =
            dtype_choice_teacher(choice, spec, &teachers[i], &verdicts[job->n_captioners + i], err);

        if (st != ST_OK) {
            error_add_context(err, "teacher \"%s\"", spec->name);
            return st;
        }
        log_at(LOG_INFO, "teacher_opened", "name=\"%s\" family=%s digest=%s", spec->name,
               teacher_info(teachers[i])->family, teacher_info(teachers[i])->weights_digest);
    }
    for (size_t i = 0; i < job->n_captioners; i++) {
        const struct job_captioner *spec = &job->captioners[i];
        enum status st = dtype_choice_captioner(choice, spec, &captioners[i], &verdicts[i], err);

        if (st != ST_OK) {
            error_add_context(err, "captioner \"%s\"", spec->name);
            return st;
        }
        log_at(LOG_INFO, "captioner_opened", "name=\"%s\" family=%s digest=%s", spec->name,
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

static void release_verdicts(const struct job *job, struct verdict *verdicts)
{
    for (size_t i = 0; verdicts != NULL && i < job->n_captioners + job->n_teachers; i++)
        verdict_release(&verdicts[i]);
    free(verdicts);
}

enum status engine_open(const struct job *job, const struct engine_options *options,
                        struct engine **out, struct error *err)
{
    struct dtype_choice choice = {.job = job,
                                  .place = options->place,
                                  .stop = options->stop,
                                  .threads = MAX(options->threads, (size_t)1)};
    struct teacher **teachers = calloc(job->n_teachers + 1, sizeof(struct teacher *));
    struct captioner **captioners = calloc(job->n_captioners + 1, sizeof(struct captioner *));
    struct verdict *verdicts =
        calloc(job->n_captioners + job->n_teachers + 1, sizeof(struct verdict));
    enum status st = ST_OK;

    *out = NULL;
    if (teachers == NULL || captioners == NULL || verdicts == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the engine");
    if (st == ST_OK)
        st = open_models(&choice, teachers, captioners, verdicts, err);
    dtype_choice_release(&choice);
    if (st == ST_OK)
        st = engine_create(job, teachers, captioners, out, err);
    if (st == ST_OK) {
        (*out)->verdicts = verdicts;
    } else {
        close_models(job, teachers, captioners);
        release_verdicts(job, verdicts);
    }
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
    release_verdicts(e->job, e->verdicts);
    free(e->sizes);
    free(e->captioners);
    free(e->teacher_size);
    free(e->teacher_column);
    free(e->teachers);
    free(e);
    *engine = NULL;
}

const json_t *engine_captioner_fidelity(const struct engine *engine, size_t i)
{
    return engine->verdicts != NULL ? engine->verdicts[i].said : NULL;
}

const json_t *engine_teacher_fidelity(const struct engine *engine, size_t i)
{
    return engine->verdicts != NULL ? engine->verdicts[engine->n_captioners + i].said : NULL;
}

size_t engine_dim(const struct engine *engine)
{
    return engine->teacher_column[engine->n_teachers];
}
