#include "worker/remote/teacher_openai.h"

#include "worker/remote/openai.h"
#include "worker/remote/remote_teacher.h"

#include <math.h>
#include <stdlib.h>

enum { TRIAL_QUALITY = 95 };

static enum status openai_find(struct remote_teacher *own, struct error *err)
{
    char *digest = own->base.info.weights_digest;
    const struct job_teacher *spec = own->spec;
    char both[2 * SHA256_HEX_LEN + 1];
    enum status st = openai_find_model(own->client, spec->model, digest, err);

    if (st != ST_OK || spec->text_model == NULL)
        return st;
    memcpy(both, digest, SHA256_HEX_LEN);
    st = openai_find_model(own->client, spec->text_model, both + SHA256_HEX_LEN, err);
    if (st == ST_OK)
        sha256_of(bytes_view_of(both, 2 * SHA256_HEX_LEN), digest);
    return st;
}

/* Rows come with their numbers, in any order. */
static enum status read_rows(const json_t *answer, size_t B, struct remote_rows *rows,
                             struct error *err)
{
    const json_t *data = json_object_get(answer, "data");
    size_t dim = json_array_size(json_object_get(json_array_get(data, 0), "embedding"));
    enum status st = ST_OK;

    if (json_array_size(data) != B)
        return error_set(err, ST_UNAVAILABLE, "the server gave %zu embeddings for %zu inputs",
                         json_array_size(data), B);
    st = remote_rows_alloc(rows, B, dim, err);
    for (size_t i = 0; i < B && st == ST_OK; i++) {
        const json_t *item = json_array_get(data, i), *index = json_object_get(item, "index");
        const json_t *row = json_object_get(item, "embedding");
        json_int_t b = index != NULL ? json_integer_value(index) : (json_int_t)i;
        size_t at;

        if (b < 0 || b >= (json_int_t)B || json_array_size(row) != dim ||
            json_is_array(json_array_get(row, 0)))
            return error_set(err, ST_UNAVAILABLE,
                             "the server's embedding %zu is not one row of %zu numbers", i, dim);
        at = (size_t)b * dim;
        st = remote_rows_read(rows, row, &at, err);
    }
    return st;
}

static enum status post(const struct remote_teacher *own, struct byte_buf *body, size_t B,
                        struct remote_rows *rows, struct error *err)
{
    json_t *answer;
    enum status st = byte_buf_append_string(body, ", \"encoding_format\": \"float\"}", err);

    if (st == ST_OK)
        st = remote_client_post(own->client, "/embeddings", byte_buf_view(body), body->len, &answer,
                                err);
    if (st == ST_OK) {
        st = read_rows(answer, B, rows, err);
        json_decref(answer);
    }
    return st;
}

static enum status begin(const char *model, struct byte_buf *body, struct error *err)
{
    enum status st = byte_buf_append_string(body, "{\"model\": ", err);

    return st == ST_OK ? json_write_string(bytes_of_string(model), body, err) : st;
}

static enum status openai_ask_texts(const struct remote_teacher *own,
                                    const struct bytes_view *text_b, size_t B,
                                    struct remote_rows *rows, struct error *err)
{
    struct byte_buf body;
    enum status st;

    byte_buf_init(&body, REMOTE_MAX_REQUEST);
    st = begin(remote_teacher_text_model(own), &body, err);
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        st = byte_buf_append_string(&body, b == 0 ? ", \"input\": [" : ", ", err);
        if (st == ST_OK)
            st = json_write_string(text_b[b], &body, err);
    }
    if (st == ST_OK)
        st = byte_buf_append_string(&body, "]", err);
    if (st == ST_OK)
        st = post(own, &body, B, rows, err);
    byte_buf_release(&body);
    return st;
}

/* How images stand in a request; the protocol itself has none. */
static const struct form {
    const char *name, *begin, *before, *after, *end;
    bool alone; /* one image a request */
} forms[] = {
    {"data_url", ", \"modality\": \"image\", \"input\": [", "", "", "]", false},
    {"object", ", \"input\": [", "{\"image\": ", "}", "]", false},
    {"messages", ", \"messages\": [{\"role\": \"user\", \"content\": [",
     "{\"type\": \"image_url\", \"image_url\": {\"url\": ", "}}", "]}]", true},
};

static const struct form *form_of(const struct remote_teacher *own)
{
    const struct form *form = forms;

    while (strcmp(form->name, own->spec->image_form) != 0)
        form++; /* the job file knows these alone */
    return form;
}

static enum status ask_form(const struct remote_teacher *own, const struct form *form,
                            const struct image *view_b, size_t B, int quality,
                            struct remote_rows *rows, struct error *err)
{
    struct byte_buf body;
    enum status st;

    byte_buf_init(&body, REMOTE_MAX_REQUEST);
    st = begin(own->spec->model, &body, err);
    if (st == ST_OK)
        st = byte_buf_append_string(&body, form->begin, err);
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        st = byte_buf_printf(&body, err, "%s%s", b > 0 ? ", " : "", form->before);
        if (st == ST_OK)
            st = openai_write_image(&view_b[b], quality, &body, err);
        if (st == ST_OK)
            st = byte_buf_append_string(&body, form->after, err);
    }
    if (st == ST_OK)
        st = byte_buf_append_string(&body, form->end, err);
    if (st == ST_OK)
        st = post(own, &body, B, rows, err);
    byte_buf_release(&body);
    return st;
}

static enum status openai_ask_images(const struct remote_teacher *own, const struct image *view_b,
                                     size_t B, struct remote_rows *rows, struct error *err)
{
    const struct form *form = form_of(own);
    enum status st = ST_OK;

    if (!form->alone || B == 1)
        return ask_form(own, form, view_b, B, 0, rows, err);
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        struct remote_rows one = {0};

        st = ask_form(own, form, &view_b[b], 1, 0, &one, err);
        if (st == ST_OK && b == 0)
            st = remote_rows_alloc(rows, B, one.dim, err);
        if (st == ST_OK && one.dim != rows->dim)
            st = error_set(err, ST_UNAVAILABLE, "the server's rows have %zu and %zu columns",
                           rows->dim, one.dim);
        if (st == ST_OK)
            memcpy(rows->values + b * rows->dim, one.values, one.dim * sizeof *one.values);
        free(one.values);
    }
    return st;
}

/* A server that knows no images may embed the text of a data URL and say nothing. Grey is the same
 * picture as PNG and as JPEG, but not the same text. */
static enum status openai_check(const struct remote_teacher *own, const struct image *view,
                                struct error *err)
{
    struct remote_rows png = {0}, jpeg = {0};
    double apart = 0, length = 0;
    enum status st = ask_form(own, form_of(own), view, 1, 0, &png, err);

    if (st == ST_OK)
        st = ask_form(own, form_of(own), view, 1, TRIAL_QUALITY, &jpeg, err);
    for (size_t d = 0; st == ST_OK && d < MIN(png.dim, jpeg.dim); d++) {
        apart += pow((double)png.values[d] - (double)jpeg.values[d], 2);
        length += pow((double)png.values[d], 2);
    }
    if (st == ST_OK && !(apart <= 1e-4 * length))
        st =
            error_set(err, ST_INVALID,
                      "one picture as PNG and as JPEG has two embeddings, so the server reads the "
                      "data URL as a text; try another image_form, or a server that embeds images");
    free(png.values);
    free(jpeg.values);
    return st;
}

static const struct remote_teacher_protocol openai = {
    .name = "openai",
    .find = openai_find,
    .ask_images = openai_ask_images,
    .ask_texts = openai_ask_texts,
    .check = openai_check,
};

enum status teacher_openai_open(const struct job_teacher *spec, const atomic_bool *stop,
                                struct teacher **out, struct error *err)
{
    return remote_teacher_create(spec, stop, &openai, out, err);
}
