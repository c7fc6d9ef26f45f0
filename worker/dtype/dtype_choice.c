#include "worker/dtype/dtype_choice.h"

#include "reinforce/base/log.h"
#include "worker/dtype/comparison.h"
#include "worker/model_open.h"

#define NO_IMAGES "no image of the first shard could be compared"

enum { ROWS_BYTES = 64 << 20, CAPTIONS_BYTES = 1 << 20 };

/* A model that is asked about: one of the two specs, and what is open of it now. */
struct subject {
    struct verdict_question question;
    const struct job_teacher *teacher_spec;
    const struct job_captioner *captioner_spec;
    struct teacher *teacher;
    struct captioner *captioner;
    enum matrix_form form; /* of what is open */
};

static bool is_open(const struct subject *subject)
{
    return subject->teacher != NULL || subject->captioner != NULL;
}

static void close_subject(struct subject *subject)
{
    teacher_close(&subject->teacher);
    captioner_close(&subject->captioner);
}

/* In place of the form that is open: two of a large model would not fit. */
static enum status open_as(const struct dtype_choice *choice, struct subject *subject,
                           enum matrix_form form, struct error *err)
{
    enum status st;

    if (is_open(subject) && subject->form == form)
        return ST_OK;
    close_subject(subject);
    st = subject->teacher_spec != NULL
             ? model_open_teacher(subject->teacher_spec, form, choice->stop, &subject->teacher, err)
             : model_open_captioner(subject->captioner_spec, form, choice->stop,
                                    &subject->captioner, err);
    subject->form = form;
    return st;
}

static enum matrix_form compared_form(const struct subject *subject)
{
    return subject->question.dtype == JOB_DTYPE_AUTO ? MATRIX_INT8
                                                     : (enum matrix_form)subject->question.dtype;
}

static enum status judge_teacher(const struct dtype_choice *choice, struct subject *subject,
                                 const struct comparison *comparison, struct verdict *verdict,
                                 struct error *err)
{
    struct fidelity_cosines images = {.n = 0}, texts = {.n = 0};
    struct comparison_rows reference, other;
    struct arena arena;
    enum status st;

    arena_init(&arena, ROWS_BYTES);
    st = open_as(choice, subject, MATRIX_FLOAT32, err);
    if (st == ST_OK)
        st = comparison_embed(comparison, subject->teacher, &arena, &reference, err);
    if (st == ST_OK)
        st = open_as(choice, subject, compared_form(subject), err);
    if (st == ST_OK)
        st = comparison_embed(comparison, subject->teacher, &arena, &other, err);
    if (st == ST_OK)
        st = comparison_of_rows(comparison, &reference, &other, &arena, &images, &texts, err);
    if (st == ST_OK)
        st = verdict_of_cosines(&subject->question, &images, &texts, NO_IMAGES, verdict, err);
    arena_release(&arena);
    return st;
}

static enum status judge_captioner(const struct dtype_choice *choice, struct subject *subject,
                                   const struct comparison *comparison, struct verdict *verdict,
                                   struct error *err)
{
    const struct caption_options *how = &subject->captioner_spec->how;
    struct comparison_captions reference = {.n_prompts = 0}, other = {.n_prompts = 0};
    struct fidelity_captions figures;
    struct arena arena;
    enum status st;

    arena_init(&arena, CAPTIONS_BYTES);
    st = open_as(choice, subject, MATRIX_FLOAT32, err);
    if (st == ST_OK)
        st = comparison_caption(comparison, subject->captioner, how, &arena, &reference, err);
    if (st == ST_OK)
        st = open_as(choice, subject, compared_form(subject), err);
    if (st == ST_OK)
        st = comparison_caption(comparison, subject->captioner, how, &arena, &other, err);
    if (st == ST_OK) {
        comparison_of_captions(comparison, &reference, &other, &figures);
        st = verdict_of_captions(&subject->question, &figures, NO_IMAGES, verdict, err);
    }
    comparison_captions_release(&other);
    comparison_captions_release(&reference);
    arena_release(&arena);
    return st;
}

/* Without a look at any image. */
static enum status judge_unseen(const struct subject *subject, struct verdict *verdict,
                                struct error *err)
{
    const struct fidelity_cosines nothing = {.n = 0};

    return verdict_of_cosines(&subject->question, &nothing, &nothing, NO_IMAGES, verdict, err);
}

static enum status judge(struct dtype_choice *choice, struct subject *subject,
                         struct verdict *verdict, struct error *err)
{
    const struct comparison comparison = {.job = choice->job,
                                          .first = &choice->first,
                                          .threads = choice->threads,
                                          .stop = choice->stop};
    enum status st = ST_OK;

    if (!choice->has_first) {
        st = first_images_read(choice->job, choice->place, choice->stop, &choice->first, err);
        choice->has_first = st == ST_OK;
    }
    if (st == ST_OK && choice->first.n == 0)
        return judge_unseen(subject, verdict, err);
    if (st != ST_OK)
        return st;
    return subject->teacher_spec != NULL
               ? judge_teacher(choice, subject, &comparison, verdict, err)
               : judge_captioner(choice, subject, &comparison, verdict, err);
}

static void report(const struct subject *subject, const struct verdict *verdict, bool is_new)
{
    const struct verdict_question *question = &subject->question;
    bool is_missed = question->dtype != JOB_DTYPE_AUTO && !verdict_is_kept(verdict->said);
    char text[VERDICT_TEXT_BYTES];

    verdict_describe(verdict->said, text);
    log_at(is_missed ? LOG_WARN : LOG_INFO, is_missed ? "fidelity_missed" : "dtype_chosen",
           "role=%s name=\"%s\" dtype=%s source=%s what=\"%s\"", question->role, question->name,
           verdict_form_name(verdict->form), is_new ? "measured" : "output", text);
}

/* The output's verdict; where there is none yet, ours becomes it, unless another is faster. */
static enum status find_verdict(struct dtype_choice *choice, struct subject *subject,
                                struct verdict *verdict, struct error *err)
{
    const struct verdict_question *question = &subject->question;
    struct object_store *output = choice->place->output;
    enum status st = verdict_read(output, question, verdict, err);
    bool is_new = st == ST_NOT_FOUND;

    if (is_new) {
        st = judge(choice, subject, verdict, err);
        if (st != ST_OK)
            error_add_context(err, "comparing it with float32");
        else
            st = verdict_keep(output, question, verdict, err);
    }
    if (st == ST_OK)
        report(subject, verdict, is_new);
    return st;
}

static enum status open_subject(struct dtype_choice *choice, struct subject *subject,
                                struct verdict *verdict, struct error *err)
{
    const struct verdict_question *question = &subject->question;
    enum status st = ST_OK;

    *verdict = (struct verdict){.form = (enum matrix_form)question->dtype};
    if (question->dtype == JOB_DTYPE_AUTO && choice->place == NULL)
        return error_set(err, ST_INVALID,
                         "`dtype: auto` is decided by a run of the job; name the one that it has "
                         "chosen");
    if (question->least > 0 && choice->place != NULL)
        st = find_verdict(choice, subject, verdict, err);
    return st == ST_OK ? open_as(choice, subject, verdict->form, err) : st;
}

/* What is open goes to the caller, or, on failure, nothing does. */
static enum status open_or_close(struct dtype_choice *choice, struct subject *subject,
                                 struct verdict *verdict, struct error *err)
{
    enum status st = open_subject(choice, subject, verdict, err);

    if (st != ST_OK) {
        close_subject(subject);
        verdict_release(verdict);
    }
    return st;
}

enum status dtype_choice_teacher(struct dtype_choice *choice, const struct job_teacher *spec,
                                 struct teacher **out, struct verdict *verdict, struct error *err)
{
    struct subject subject = {.question = {.role = "teacher",
                                           .index = (size_t)(spec - choice->job->teachers),
                                           .name = spec->name,
                                           .model = spec->model,
                                           .input = choice->job->input.url,
                                           .dtype = spec->dtype,
                                           .least = spec->fidelity},
                              .teacher_spec = spec};
    enum status st = open_or_close(choice, &subject, verdict, err);

    *out = subject.teacher;
    return st;
}

enum status dtype_choice_captioner(struct dtype_choice *choice, const struct job_captioner *spec,
                                   struct captioner **out, struct verdict *verdict,
                                   struct error *err)
{
    struct subject subject = {.question = {.role = "captioner",
                                           .index = (size_t)(spec - choice->job->captioners),
                                           .name = spec->name,
                                           .model = spec->model,
                                           .input = choice->job->input.url,
                                           .dtype = spec->dtype,
                                           .least = spec->fidelity},
                              .captioner_spec = spec};
    enum status st = open_or_close(choice, &subject, verdict, err);

    *out = subject.captioner;
    return st;
}

void dtype_choice_release(struct dtype_choice *choice)
{
    first_images_release(&choice->first);
    choice->has_first = false;
}
