#include "worker/dtype/verdict.h"

#include <inttypes.h>
#include <stdio.h>

#define PREFIX "_reinforce/fidelity/"

enum { MAX_BYTES = 64 << 10, KEY_BYTES = 128, DIGITS = 16 };

/* Stored. */
static const struct {
    enum job_dtype dtype;
    const char *name;
} dtypes[] = {{JOB_DTYPE_FLOAT32, "float32"},
              {JOB_DTYPE_INT8, "int8"},
              {JOB_DTYPE_BF16, "bf16"},
              {JOB_DTYPE_AUTO, "auto"}};

static const char *dtype_name(enum job_dtype dtype)
{
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return "";
}

const char *verdict_form_name(enum matrix_form form)
{
    return dtype_name((enum job_dtype)form);
}

static enum status no_memory(struct error *err)
{
    return error_set(err, ST_NO_MEMORY, "could not allocate a verdict");
}

/* Figures that are there, which are taken over. */
static enum status add(json_t *said, const char *what, size_t n, json_t *figures, struct error *err)
{
    if (n == 0) {
        json_decref(figures);
        return ST_OK;
    }
    return json_object_set_new(said, what, figures) == 0 ? ST_OK : no_memory(err);
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

bool verdict_is_kept(const json_t *said)
{
    static const char *const figures[][2] = {
        {"images", "cosine_mean"}, {"texts", "cosine_mean"}, {"captions", "same"}};
    double least = number(said, "least");
    bool is_kept = true, any = false;

    for (size_t i = 0; i < ARRAY_LEN(figures); i++) {
        const json_t *of = json_object_get(said, figures[i][0]);

        any |= of != NULL;
        is_kept &= of == NULL || number(of, figures[i][1]) >= least;
    }
    return any && is_kept;
}

/* With the figures in it. */
static enum status decide(const struct verdict_question *question, const char *why,
                          struct verdict *verdict, struct error *err)
{
    json_t *said = verdict->said;
    bool any = json_object_size(said) > 2;

    verdict->form = (enum matrix_form)question->dtype;
    if (question->dtype == JOB_DTYPE_AUTO)
        verdict->form = verdict_is_kept(said) ? MATRIX_INT8 : MATRIX_FLOAT32;
    if (json_object_set_new(said, "chosen", json_string(verdict_form_name(verdict->form))) != 0 ||
        (!any && json_object_set_new(said, "why", json_string(why)) != 0))
        return no_memory(err);
    return ST_OK;
}

static enum status begin(const struct verdict_question *question, struct verdict *verdict,
                         struct error *err)
{
    verdict->said =
        json_pack("{s:s, s:f}", "dtype", dtype_name(question->dtype), "least", question->least);
    return verdict->said != NULL ? ST_OK : no_memory(err);
}

enum status verdict_of_cosines(const struct verdict_question *question,
                               const struct fidelity_cosines *images,
                               const struct fidelity_cosines *texts, const char *why,
                               struct verdict *verdict, struct error *err)
{
    enum status st = begin(question, verdict, err);

    if (st == ST_OK)
        st = add(verdict->said, "images", images->n, fidelity_cosines_json(images), err);
    if (st == ST_OK)
        st = add(verdict->said, "texts", texts->n, fidelity_cosines_json(texts), err);
    if (st == ST_OK)
        st = decide(question, why, verdict, err);
    if (st != ST_OK)
        verdict_release(verdict);
    return st;
}

enum status verdict_of_captions(const struct verdict_question *question,
                                const struct fidelity_captions *captions, const char *why,
                                struct verdict *verdict, struct error *err)
{
    enum status st = begin(question, verdict, err);

    if (st == ST_OK)
        st = add(verdict->said, "captions", captions->n, fidelity_captions_json(captions), err);
    if (st == ST_OK)
        st = decide(question, why, verdict, err);
    if (st != ST_OK)
        verdict_release(verdict);
    return st;
}

/* "_reinforce/fidelity/teacher-0-0123456789abcdef.json": another question is another object. */
static enum status key_of(const struct verdict_question *question, char key[KEY_BYTES],
                          struct error *err)
{
    char digest[SHA256_HEX_LEN + 1];
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, MAX_BYTES);
    st = byte_buf_printf(&text, err, "%s\n%s\n%.17g\n%s", question->model,
                         dtype_name(question->dtype), question->least, question->input);
    if (st == ST_OK) {
        sha256_of(byte_buf_view(&text), digest);
        (void)snprintf(key, KEY_BYTES, PREFIX "%s-%zu-%.*s.json", question->role, question->index,
                       (int)DIGITS, digest);
    }
    byte_buf_release(&text);
    return st;
}

static enum status take(struct bytes_view body, struct verdict *verdict, struct error *err)
{
    const char *chosen;
    enum status st = json_parse(body, &verdict->said, err);

    if (st != ST_OK)
        return st;
    chosen = json_string_value(json_object_get(verdict->said, "chosen"));
    for (size_t i = 0; chosen != NULL && i < ARRAY_LEN(dtypes); i++) {
        if (dtypes[i].dtype == JOB_DTYPE_AUTO || strcmp(dtypes[i].name, chosen) != 0)
            continue;
        verdict->form = (enum matrix_form)dtypes[i].dtype;
        return ST_OK;
    }
    verdict_release(verdict);
    return error_set(err, ST_CORRUPT, "\"chosen\" is no dtype");
}

enum status verdict_read(struct object_store *output, const struct verdict_question *question,
                         struct verdict *verdict, struct error *err)
{
    char key[KEY_BYTES];
    struct arena arena;
    struct bytes_view body;
    enum status st = key_of(question, key, err);

    *verdict = (struct verdict){.said = NULL};
    if (st != ST_OK)
        return st;
    arena_init(&arena, 2 * MAX_BYTES);
    st = object_store_get(output, key, MAX_BYTES, &arena, &body, err);
    if (st == ST_OK)
        st = take(body, verdict, err);
    if (st != ST_OK)
        error_add_context(err, "%s", key);
    arena_release(&arena);
    return st;
}

enum status verdict_keep(struct object_store *output, const struct verdict_question *question,
                         struct verdict *verdict, struct error *err)
{
    struct object_written written;
    struct byte_buf text;
    char key[KEY_BYTES];
    enum status st = key_of(question, key, err);

    if (st != ST_OK)
        return st;
    byte_buf_init(&text, MAX_BYTES);
    st = json_write(verdict->said, &text, err);
    if (st == ST_OK)
        st = object_store_put_new(output, key, byte_buf_view(&text), &written, err);
    byte_buf_release(&text);
    if (st == ST_CONFLICT) {
        verdict_release(verdict);
        return verdict_read(output, question, verdict, err);
    }
    if (st != ST_OK)
        error_add_context(err, "%s", key);
    return st;
}

/* Appends to what fits. */
static void say(char text[VERDICT_TEXT_BYTES], const char *format, ...) PRINTF_LIKE(2, 3);
static void say(char text[VERDICT_TEXT_BYTES], const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text + used, VERDICT_TEXT_BYTES - used, format, args);
    va_end(args);
}

static void say_cosines(const json_t *said, const char *what, char text[VERDICT_TEXT_BYTES])
{
    const json_t *of = json_object_get(said, what);

    if (of != NULL)
        say(text, ", mean cosine %.5f (first percentile %.5f) of %" JSON_INTEGER_FORMAT " %s",
            number(of, "cosine_mean"), number(of, "cosine_p01"),
            json_integer_value(json_object_get(of, "n")), what);
}

void verdict_describe(const json_t *said, char text[VERDICT_TEXT_BYTES])
{
    const json_t *captions = json_object_get(said, "captions");
    const char *dtype = json_string_value(json_object_get(said, "dtype"));
    const char *chosen = json_string_value(json_object_get(said, "chosen"));
    const char *why = json_string_value(json_object_get(said, "why"));

    text[0] = '\0';
    if (dtype == NULL || chosen == NULL)
        return;
    say(text, "%s%s", strcmp(dtype, chosen) != 0 ? "auto: " : "", chosen);
    say_cosines(said, "images", text);
    say_cosines(said, "texts", text);
    if (captions != NULL)
        say(text, ", %.1f %% of %" JSON_INTEGER_FORMAT " greedy captions the same",
            100 * number(captions, "same"), json_integer_value(json_object_get(captions, "n")));
    if (why != NULL)
        say(text, ", %s", why);
    else
        say(text, "; %g is asked for%s", number(said, "least"),
            verdict_is_kept(said) ? "" : " and not kept");
}

void verdict_release(struct verdict *verdict)
{
    json_decref(verdict->said);
    *verdict = (struct verdict){.said = NULL};
}
