#include "worker/remote/teacher_oip.h"

#include "worker/remote/remote_teacher.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_PATH = 512 };

/* The tensor of that name in the metadata's `list`. *out NULL: the server lists none at all, which
 * it may. */
static enum status find_tensor(const json_t *metadata, const char *list, const char *name,
                               const json_t **out, struct error *err)
{
    const json_t *tensors = json_object_get(metadata, list);
    const char *other = NULL;

    *out = NULL;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i);

        other = json_string_value(json_object_get(tensor, "name"));
        if (other != NULL && strcmp(other, name) == 0) {
            *out = tensor;
            return ST_OK;
        }
    }
    if (other == NULL)
        return ST_OK;
    return error_set(err, ST_INVALID, "the model has no \"%s\" among its %s, but \"%s\"", name,
                     list, other);
}

static enum status check_type(const json_t *tensor, const char *type, struct error *err)
{
    const char *given = json_string_value(json_object_get(tensor, "datatype"));

    if (tensor == NULL || given == NULL || strcmp(given, type) == 0)
        return ST_OK;
    return error_set(err, ST_INVALID, "the model's \"%s\" is %s, and %s is what is sent",
                     json_string_value(json_object_get(tensor, "name")), given, type);
}

/* The last of a shape; -1: open. */
static json_int_t last_of(const json_t *tensor)
{
    const json_t *shape = json_object_get(tensor, "shape");
    size_t n = json_array_size(shape);

    return n > 0 ? json_integer_value(json_array_get(shape, n - 1)) : -1;
}

static enum status check_image_model(struct remote_teacher *own, const json_t *metadata,
                                     struct error *err)
{
    const struct job_teacher *spec = own->spec;
    int *size = &own->base.info.preprocess.size;
    const json_t *tensor;
    enum status st = find_tensor(metadata, "inputs", spec->image_tensor, &tensor, err);

    if (st == ST_OK)
        st = check_type(tensor, "FP32", err);
    if (st != ST_OK)
        return st;
    if (*size == 0 && last_of(tensor) > 0 && last_of(tensor) <= 4096)
        *size = (int)last_of(tensor);
    if (*size == 0)
        return error_set(err, ST_INVALID,
                         "the server does not say how large views are to be; set image_size");
    if (last_of(tensor) > 0 && last_of(tensor) != *size)
        return error_set(err, ST_INVALID, "the model takes views of %d pixels, image_size is %d",
                         (int)last_of(tensor), *size);
    return find_tensor(metadata, "outputs", spec->output_tensor, &tensor, err);
}

static enum status check_text_model(struct remote_teacher *own, const json_t *metadata,
                                    struct error *err)
{
    const json_t *tensor;
    enum status st = find_tensor(metadata, "inputs", own->spec->text_tensor, &tensor, err);

    if (st == ST_OK)
        st = check_type(tensor, "BYTES", err);
    own->texts_in_rows = json_array_size(json_object_get(tensor, "shape")) != 1;
    if (st == ST_OK)
        st = find_tensor(metadata, "outputs", own->spec->output_tensor, &tensor, err);
    return st;
}

static enum status get_metadata(const struct remote_teacher *own, const char *model, json_t **out,
                                struct error *err)
{
    char path[MAX_PATH];
    enum status st;

    *out = NULL;
    if (snprintf(path, sizeof path, "/v2/models/%s", model) >= (int)sizeof path)
        return error_set(err, ST_INVALID, "model \"%.60s\" is too long a name", model);
    st = remote_client_get(own->client, path, out, err);
    if (st != ST_OK)
        error_add_context(err, "model \"%.60s\"", model);
    return st;
}

static bool takes_binary(const struct remote_teacher *own)
{
    struct error ignored;
    bool found = false;
    json_t *server;

    if (remote_client_get(own->client, "/v2", &server, &ignored) != ST_OK)
        return false;
    for (size_t i = 0; i < json_array_size(json_object_get(server, "extensions")); i++) {
        const char *name =
            json_string_value(json_array_get(json_object_get(server, "extensions"), i));

        found = found || (name != NULL && strcmp(name, "binary_tensor_data") == 0);
    }
    json_decref(server);
    return found;
}

static enum status oip_find(struct remote_teacher *own, struct error *err)
{
    json_t *image = NULL, *text = NULL, *said;
    enum status st = get_metadata(own, own->spec->model, &image, err);

    if (st == ST_OK)
        st = get_metadata(own, remote_teacher_text_model(own), &text, err);
    if (st == ST_OK)
        st = check_image_model(own, image, err);
    if (st == ST_OK)
        st = check_text_model(own, text, err);
    if (st == ST_OK) {
        own->binary = takes_binary(own);
        said = json_pack("[O, O]", image, text);
        st = said != NULL ? remote_client_identity("oip", own->spec->model, said,
                                                   own->base.info.weights_digest, err)
                          : error_set(err, ST_NO_MEMORY, "could not allocate the model's identity");
        json_decref(said);
    }
    json_decref(image);
    json_decref(text);
    return st;
}

/* Rows of the output asked for; `data` may be nested. */
static enum status read_rows(const struct remote_teacher *own, const json_t *answer, size_t B,
                             struct remote_rows *rows, struct error *err)
{
    const char *name = own->spec->output_tensor;
    const json_t *outputs = json_object_get(answer, "outputs"), *output = NULL, *shape;
    size_t count = 1, at = 0;
    enum status st;

    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const char *its = json_string_value(json_object_get(json_array_get(outputs, i), "name"));

        if (its != NULL && strcmp(its, name) == 0)
            output = json_array_get(outputs, i);
    }
    if (output == NULL)
        return error_set(err, ST_UNAVAILABLE, "the server's answer has no output \"%.60s\"", name);
    shape = json_object_get(output, "shape");
    for (size_t i = 0; i < json_array_size(shape); i++) {
        json_int_t n = json_integer_value(json_array_get(shape, i));

        if (n < 1 || __builtin_mul_overflow(count, (size_t)n, &count) || count > INT_MAX)
            return error_set(err, ST_UNAVAILABLE, "the output's shape has a %" JSON_INTEGER_FORMAT,
                             n);
    }
    if (json_integer_value(json_array_get(shape, 0)) != (json_int_t)B)
        return error_set(err, ST_UNAVAILABLE,
                         "the server gave %" JSON_INTEGER_FORMAT " rows for %zu inputs",
                         json_integer_value(json_array_get(shape, 0)), B);
    st = remote_rows_alloc(rows, B, count / B, err);
    if (st == ST_OK)
        st = remote_rows_read(rows, json_object_get(output, "data"), &at, err);
    if (st == ST_OK && at != count)
        st = error_set(err, ST_UNAVAILABLE, "the server's rows hold %zu numbers, their shape %zu",
                       at, count);
    return st;
}

/* Closes the JSON, which stands in `body` up to the tensor's last key; `tail` is sent behind it. */
static enum status post(const struct remote_teacher *own, const char *model, struct byte_buf *body,
                        struct bytes_view tail, size_t B, struct remote_rows *rows,
                        struct error *err)
{
    char path[MAX_PATH];
    size_t json_len = 0;
    json_t *answer;
    enum status st = byte_buf_append_string(body, "}], \"outputs\": [{\"name\": ", err);

    (void)snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    if (st == ST_OK)
        st = json_write_string(bytes_of_string(own->spec->output_tensor), body, err);
    if (st == ST_OK && own->binary)
        st = byte_buf_append_string(body, ", \"parameters\": {\"binary_data\": false}", err);
    if (st == ST_OK)
        st = byte_buf_append_string(body, "}]}", err);
    json_len = body->len;
    if (st == ST_OK && tail.len > 0)
        st = byte_buf_append(body, tail.data, tail.len, err);
    if (st == ST_OK)
        st = remote_client_post(own->client, path, byte_buf_view(body), json_len, &answer, err);
    if (st == ST_OK) {
        st = read_rows(own, answer, B, rows, err);
        json_decref(answer);
    }
    return st;
}

static enum status begin(const char *tensor, struct byte_buf *body, struct error *err)
{
    enum status st = byte_buf_append_string(body, "{\"inputs\": [{\"name\": ", err);

    return st == ST_OK ? json_write_string(bytes_of_string(tensor), body, err) : st;
}

static enum status oip_ask_texts(const struct remote_teacher *own, const struct bytes_view *text_b,
                                 size_t B, struct remote_rows *rows, struct error *err)
{
    struct byte_buf body;
    enum status st;

    byte_buf_init(&body, REMOTE_MAX_REQUEST);
    st = begin(own->spec->text_tensor, &body, err);
    if (st == ST_OK)
        st = byte_buf_printf(&body, err,
                             ", \"shape\": [%zu%s], \"datatype\": \"BYTES\", \"data\": [", B,
                             own->texts_in_rows ? ", 1" : "");
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        st = byte_buf_append_string(&body, b > 0 ? ", " : "", err);
        if (st == ST_OK)
            st = json_write_string(text_b[b], &body, err);
    }
    if (st == ST_OK)
        st = byte_buf_append_string(&body, "]", err);
    if (st == ST_OK)
        st = post(own, remote_teacher_text_model(own), &body, (struct bytes_view){0}, B, rows, err);
    byte_buf_release(&body);
    return st;
}

/* As JSON. A pixel has 256 values a channel, so each text is made once. */
static enum status write_pixels(const struct preprocess *pre, const struct image *view_b, size_t B,
                                struct byte_buf *body, struct error *err)
{
    uint8_t ramp[256 * 3];
    const struct image all = {.width = 256, .height = 1, .channels = 3, .pixels = ramp};
    float values[3 * 256];
    char texts[3 * 256][24];
    size_t n = (size_t)pre->size * (size_t)pre->size;
    enum status st = byte_buf_append_string(body, ", \"data\": [", err);

    for (size_t i = 0; i < sizeof ramp; i++)
        ramp[i] = (uint8_t)(i / 3);
    preprocess_tensor(&all, pre->mean, pre->std, values);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        (void)snprintf(texts[i], sizeof texts[i], ",%.9g", (double)values[i]);
    for (size_t i = 0; i < B * 3 * n && st == ST_OK; i++) {
        size_t b = i / (3 * n), c = i / n % 3;
        const char *text = texts[256 * c + view_b[b].pixels[i % n * 3 + c]];

        text += i == 0; /* no comma in front */
        st = byte_buf_append(body, text, strlen(text), err);
    }
    return st == ST_OK ? byte_buf_append_string(body, "]", err) : st;
}

/* Raw, little endian as the machines are that we run on; *tail is the caller's to free. */
static enum status take_pixels(const struct preprocess *pre, const struct image *view_b, size_t B,
                               struct byte_buf *body, struct bytes_view *tail, struct error *err)
{
    size_t one = 3 * (size_t)pre->size * (size_t)pre->size, bytes = B * one * sizeof(float);
    float *pixels = malloc(bytes);

    if (pixels == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", bytes);
    for (size_t b = 0; b < B; b++)
        preprocess_tensor(&view_b[b], pre->mean, pre->std, pixels + b * one);
    *tail = bytes_view_of(pixels, bytes);
    return byte_buf_printf(body, err, ", \"parameters\": {\"binary_data_size\": %zu}", bytes);
}

static enum status oip_ask_images(const struct remote_teacher *own, const struct image *view_b,
                                  size_t B, struct remote_rows *rows, struct error *err)
{
    const struct preprocess *pre = &own->base.info.preprocess;
    struct bytes_view tail = {0};
    struct byte_buf body;
    enum status st;

    byte_buf_init(&body, REMOTE_MAX_REQUEST);
    st = begin(own->spec->image_tensor, &body, err);
    if (st == ST_OK)
        st = byte_buf_printf(&body, err, ", \"shape\": [%zu, 3, %d, %d], \"datatype\": \"FP32\"", B,
                             pre->size, pre->size);
    if (st == ST_OK)
        st = own->binary ? take_pixels(pre, view_b, B, &body, &tail, err)
                         : write_pixels(pre, view_b, B, &body, err);
    if (st == ST_OK)
        st = post(own, own->spec->model, &body, tail, B, rows, err);
    byte_buf_release(&body);
    free((void *)(uintptr_t)tail.data);
    return st;
}

static const struct remote_teacher_protocol oip = {
    .name = "oip",
    .find = oip_find,
    .ask_images = oip_ask_images,
    .ask_texts = oip_ask_texts,
};

enum status teacher_oip_open(const struct job_teacher *spec, const atomic_bool *stop,
                             struct teacher **out, struct error *err)
{
    return remote_teacher_create(spec, stop, &oip, out, err);
}
