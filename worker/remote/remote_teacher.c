#include "worker/remote/remote_teacher.h"

#include "reinforce/nn/ops.h"

#include <stdlib.h>

enum { MAX_DIM = 1 << 16, PROBE_BYTES = 256 << 20 };

enum status remote_rows_alloc(struct remote_rows *rows, size_t n, size_t dim, struct error *err)
{
    if (dim == 0 || dim > MAX_DIM)
        return error_set(err, ST_UNAVAILABLE, "the server's rows have %zu columns", dim);
    rows->n = n;
    rows->dim = dim;
    rows->values = calloc(n * dim, sizeof *rows->values);
    return rows->values != NULL ? ST_OK
                                : error_set(err, ST_NO_MEMORY, "could not allocate %zu rows", n);
}

enum status remote_rows_read(struct remote_rows *rows, const json_t *list, size_t *at,
                             struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < json_array_size(list) && st == ST_OK; i++) {
        const json_t *item = json_array_get(list, i);

        if (json_is_array(item))
            st = remote_rows_read(rows, item, at, err);
        else if (!json_is_number(item))
            st = error_set(err, ST_CORRUPT, "the server's rows hold something that is no number");
        else if (*at == rows->n * rows->dim)
            st = error_set(err, ST_UNAVAILABLE,
                           "the server's rows hold more numbers than their shape of %zu x %zu",
                           rows->n, rows->dim);
        else
            rows->values[(*at)++] = (float)json_number_value(item);
    }
    return st;
}

const char *remote_teacher_text_model(const struct remote_teacher *own)
{
    return own->spec->text_model != NULL ? own->spec->text_model : own->spec->model;
}

/* One call, cut into requests. */
struct asking {
    const struct remote_teacher *own;
    const struct image *view_b; /* or */
    const struct bytes_view *text_b;
    size_t B, batch;
    float *emb;
};

static enum status keep_rows(const struct asking *a, size_t first, size_t n,
                             const struct remote_rows *rows, struct error *err)
{
    size_t D = a->own->base.info.dim;

    if (rows->n != n || rows->dim != D)
        return error_set(err, ST_UNAVAILABLE,
                         "the server gave rows of %zu x %zu where %zu x %zu were asked for: its "
                         "model is another one now",
                         rows->n, rows->dim, n, D);
    for (size_t i = 0; i < n; i++) {
        float *row = a->emb + (first + i) * D;

        memcpy(row, rows->values + i * D, D * sizeof *row);
        if (!ops_all_finite(row, D))
            return error_set(err, ST_CORRUPT, "the server's row %zu is not finite", first + i);
        if (!(ops_l2_normalize(row, D) > 0))
            return error_set(err, ST_CORRUPT, "the server's row %zu is all zero", first + i);
    }
    return ST_OK;
}

static enum status ask(void *ctx, size_t i, struct error *err)
{
    const struct asking *a = ctx;
    size_t first = i * a->batch, n = MIN(a->batch, a->B - first);
    struct remote_rows rows = {0};
    enum status st = a->view_b != NULL
                         ? a->own->protocol->ask_images(a->own, a->view_b + first, n, &rows, err)
                         : a->own->protocol->ask_texts(a->own, a->text_b + first, n, &rows, err);

    if (st == ST_OK)
        st = keep_rows(a, first, n, &rows, err);
    free(rows.values);
    return st;
}

static enum status ask_all(const struct teacher *teacher, const struct image *view_b,
                           const struct bytes_view *text_b, size_t B, float *emb, struct error *err)
{
    const struct remote_teacher *own = (const struct remote_teacher *)teacher;
    struct asking a = {.own = own,
                       .view_b = view_b,
                       .text_b = text_b,
                       .B = B,
                       .batch = (size_t)own->spec->batch,
                       .emb = emb};

    return remote_client_each(own->client, (B + a.batch - 1) / a.batch, ask, &a, err);
}

static enum status remote_embed_images(const struct teacher *teacher, const struct image *view_b,
                                       size_t B, struct arena *scratch, float *emb,
                                       struct error *err)
{
    (void)scratch;
    return B > 0 ? ask_all(teacher, view_b, NULL, B, emb, err) : ST_OK;
}

static enum status remote_embed_texts(const struct teacher *teacher,
                                      const struct bytes_view *text_b, size_t B,
                                      struct arena *scratch, float *emb, struct error *err)
{
    (void)scratch;
    return B > 0 ? ask_all(teacher, NULL, text_b, B, emb, err) : ST_OK;
}

static void remote_close(struct teacher *teacher)
{
    struct remote_teacher *own = CONTAINER_OF(teacher, struct remote_teacher, base);

    remote_client_close(&own->client);
    free(own);
}

/* Opened by a job, not from a folder. */
static const struct teacher_ops teacher_remote = {
    .kind = "remote",
    .embed_images = remote_embed_images,
    .embed_texts = remote_embed_texts,
    .close = remote_close,
};

/* One row each of a text and of a grey view: they say D, and that the server takes both. */
static enum status probe(struct remote_teacher *own, struct error *err)
{
    const struct bytes_view text = bytes_of_string("a photo");
    struct teacher_info *info = &own->base.info;
    struct remote_rows of_text = {0}, of_view = {0};
    struct arena arena;
    struct image view;
    enum status st;

    arena_init(&arena, PROBE_BYTES);
    st = image_alloc(&view, info->preprocess.size, info->preprocess.size, 3, &arena, err);
    if (st == ST_OK) {
        memset(view.pixels, 0x80, image_bytes(&view));
        st = own->protocol->ask_texts(own, &text, 1, &of_text, err);
        if (st != ST_OK)
            error_add_context(err, "a trial text");
    }
    if (st == ST_OK) {
        st = own->protocol->ask_images(own, &view, 1, &of_view, err);
        if (st == ST_OK && own->protocol->check != NULL)
            st = own->protocol->check(own, &view, err);
        if (st != ST_OK)
            error_add_context(err, "a trial image");
    }
    info->dim = of_view.dim;
    if (st == ST_OK && of_text.dim != of_view.dim)
        st = error_set(err, ST_INVALID,
                       "the server embeds texts in %zu dimensions and images in %zu: these are not "
                       "two sides of one model",
                       of_text.dim, of_view.dim);
    else if (st == ST_OK && own->spec->dim > 0 && (size_t)own->spec->dim != info->dim)
        st = error_set(err, ST_INVALID,
                       "the server's embeddings have %zu dimensions, the job says "
                       "dim %d",
                       info->dim, own->spec->dim);
    free(of_text.values);
    free(of_view.values);
    arena_release(&arena);
    return st;
}

enum status remote_teacher_create(const struct job_teacher *spec, const atomic_bool *stop,
                                  const struct remote_teacher_protocol *protocol,
                                  struct teacher **out, struct error *err)
{
    struct remote_teacher *own = calloc(1, sizeof *own);
    struct teacher_info *info;
    enum status st;

    *out = NULL;
    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a teacher");
    own->base.ops = &teacher_remote;
    own->protocol = protocol;
    own->spec = spec;
    info = &own->base.info;
    (void)snprintf(info->family, sizeof info->family, "%s", protocol->name);
    info->logit_scale = 1; /* servers do not say */
    info->preprocess = (struct preprocess){.size = spec->image_size, .filter = RESAMPLE_BICUBIC};
    st = job_parse_triple(spec->mean, info->preprocess.mean, err);
    if (st == ST_OK)
        st = job_parse_triple(spec->std, info->preprocess.std, err);
    if (st == ST_OK)
        st = remote_client_open(&spec->remote, stop, &own->client, err);
    if (st == ST_OK)
        st = protocol->find(own, err);
    if (st == ST_OK)
        st = probe(own, err);
    if (st != ST_OK) {
        error_add_context(err, "server %.80s", spec->remote.server);
        remote_close(&own->base);
        return st;
    }
    *out = &own->base;
    return ST_OK;
}
