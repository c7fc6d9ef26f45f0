#include "worker/remote/openai.h"

#include "reinforce/image/encode.h"
#include "storage/format/base64.h"

#include <stdio.h>

/* What vLLM, SGLang, llama.cpp and OpenAI say of a model that is the model's and not the server's:
 * no times, no permissions, no context length that someone set. */
static const char *const identity_keys[] = {"id", "object", "owned_by", "root", "parent"};
static const char *const meta_keys[] = {"vocab_type", "n_vocab", "n_ctx_train", "n_embd",
                                        "n_params",   "size",    "ftype"};

static enum status refuse(const json_t *models, const char *model, struct error *err)
{
    char known[160] = "";
    size_t len = 0;

    for (size_t i = 0; i < json_array_size(models) && len < sizeof known; i++) {
        const char *id = json_string_value(json_object_get(json_array_get(models, i), "id"));
        int n = snprintf(known + len, sizeof known - len, "%s\"%s\"", i > 0 ? ", " : "",
                         id != NULL ? id : "?");

        len += n > 0 ? (size_t)n : 0;
    }
    return error_set(err, ST_INVALID, "the server has no model \"%.60s\"; it has %s", model,
                     known[0] != '\0' ? known : "none");
}

static enum status take_keys(const json_t *from, const char *const *keys, size_t n, json_t *to,
                             struct error *err)
{
    for (size_t k = 0; k < n; k++) {
        json_t *value = json_object_get(from, keys[k]);

        if (value != NULL && json_object_set(to, keys[k], value) != 0)
            return error_set(err, ST_NO_MEMORY, "could not allocate the model's identity");
    }
    return ST_OK;
}

static enum status identify(const json_t *found, const char *model, char *digest, struct error *err)
{
    json_t *said = json_object();
    enum status st = take_keys(found, identity_keys, ARRAY_LEN(identity_keys), said, err);

    if (st == ST_OK)
        st = take_keys(json_object_get(found, "meta"), meta_keys, ARRAY_LEN(meta_keys), said, err);
    if (st == ST_OK)
        st = remote_client_identity("openai", model, said, digest, err);
    json_decref(said);
    return st;
}

enum status openai_find_model(struct remote_client *client, const char *model,
                              char digest[SHA256_HEX_LEN + 1], struct error *err)
{
    const json_t *models, *found = NULL;
    json_t *answer;
    enum status st = remote_client_get(client, "/models", &answer, err);

    if (st != ST_OK)
        return st;
    models = json_object_get(answer, "data");
    for (size_t i = 0; i < json_array_size(models) && found == NULL; i++) {
        const json_t *one = json_array_get(models, i);
        const char *id = json_string_value(json_object_get(one, "id"));

        if (id != NULL && strcmp(id, model) == 0)
            found = one;
    }
    if (!json_is_array(models))
        st = error_set(err, ST_UNAVAILABLE, "the server's answer to /models has no list `data`");
    else
        st = found != NULL ? identify(found, model, digest, err) : refuse(models, model, err);
    json_decref(answer);
    return st;
}

enum status openai_write_image(const struct image *image, int quality, struct byte_buf *out,
                               struct error *err)
{
    struct byte_buf file;
    enum status st;

    byte_buf_init(&file, REMOTE_MAX_REQUEST);
    st = quality > 0 ? image_write_jpeg(image, quality, &file, err)
                     : image_write_png(image, &file, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, "\"data:image/%s;base64,", quality > 0 ? "jpeg" : "png");
    if (st == ST_OK)
        st = base64_encode(byte_buf_view(&file), out, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "\"", err);
    byte_buf_release(&file);
    return st;
}
