#include "worker/remote/captioner_openai.h"

#include "reinforce/base/parse.h"
#include "reinforce/base/philox.h"
#include "worker/remote/openai.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { PROBE_SIDE = 224, PROBE_BYTES = 64 << 20, CONTEXT_LENGTH = 1 << 20 };

static const char default_prompt[] = "Describe this image in one sentence.";

struct openai_captioner {
    struct captioner base;
    const struct job_captioner *spec;
    struct remote_client *client;
};

/* One call. An image's captions are divided among the prompts in order; greedy has one answer a
 * prompt, the others one a caption. */
struct asking {
    const struct openai_captioner *own;
    const struct caption_options *how;
    const struct bytes_view *uid_b;
    struct bytes_view prompts[CAPTION_MAX_PROMPTS];
    size_t n_prompts, per_image; /* answers per image */
    struct byte_buf *images;     /* [B]: data URLs in quotes */
    json_t **answers;            /* [B, per_image] */
};

/* Scaled down to what the job allows, as a data URL. */
static enum status write_image(const struct job_captioner *spec, const struct image *image,
                               struct arena *scratch, struct byte_buf *out, struct error *err)
{
    bool png = strcmp(spec->image_format, "png") == 0;
    int height = image_stored_height(image), width = image_stored_width(image);
    int longer = MAX(width, height), side = spec->image_side;
    struct arena mark = *scratch;
    struct image sent = *image;
    enum status st = ST_OK;

    if (side > 0 && longer > side)
        st = image_resize(image, 0, 0, height, width,
                          MAX((int)(((int64_t)height * side + longer / 2) / longer), 1),
                          MAX((int)(((int64_t)width * side + longer / 2) / longer), 1),
                          RESAMPLE_BICUBIC, scratch, &sent, err);
    if (st == ST_OK)
        st = openai_write_image(&sent, png ? 0 : spec->image_quality, out, err);
    arena_rewind(scratch, &mark);
    return st;
}

/* Keys beyond OpenAI's own (top_k, repetition_penalty) only where the job asks for them. */
static enum status write_sampling(const struct caption_options *how, struct bytes_view uid,
                                  size_t caption, struct byte_buf *out, struct error *err)
{
    bool greedy = how->strategy == CAPTION_GREEDY;
    uint32_t index = how->stream << 16 | (uint32_t)(caption & 0xffff);
    char temperature[32], top_p[32], penalty[32];
    struct philox rng;
    enum status st;

    philox_init(&rng, how->seed, uid, PHILOX_STAGE_CAPTION, index);
    format_f64(greedy ? 0 : how->temperature, temperature);
    format_f64(greedy ? 1 : how->top_p, top_p);
    format_f64(how->repetition_penalty, penalty);
    st = byte_buf_printf(
        out, err, ", \"max_tokens\": %d, \"temperature\": %s, \"top_p\": %s, \"seed\": %" PRIu32,
        how->max_tokens, temperature, top_p, philox_u32(&rng) >> 1); /* 31 bits fit everywhere */
    if (st == ST_OK && !greedy && how->top_k > 0)
        st = byte_buf_printf(out, err, ", \"top_k\": %d", how->top_k);
    if (st == ST_OK && (how->repetition_penalty < 1 || how->repetition_penalty > 1))
        st = byte_buf_printf(out, err, ", \"repetition_penalty\": %s", penalty);
    return st;
}

static enum status write_request(const struct asking *a, size_t b, size_t k, struct byte_buf *out,
                                 struct error *err)
{
    size_t prompt = k * a->n_prompts / a->per_image;
    enum status st = byte_buf_append_string(out, "{\"model\": ", err);

    if (st == ST_OK)
        st = json_write_string(bytes_of_string(a->own->spec->model), out, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out,
                                    ", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\""
                                    ": \"image_url\", \"image_url\": {\"url\": ",
                                    err);
    if (st == ST_OK)
        st = byte_buf_append(out, a->images[b].data, a->images[b].len, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "}}, {\"type\": \"text\", \"text\": ", err);
    if (st == ST_OK)
        st = json_write_string(a->prompts[prompt], out, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "}]}]", err);
    if (st == ST_OK)
        st = write_sampling(a->how, a->uid_b[b], k, out, err);
    return st == ST_OK ? byte_buf_append_string(out, "}", err) : st;
}

static enum status ask(void *ctx, size_t i, struct error *err)
{
    struct asking *a = ctx;
    struct byte_buf body;
    enum status st;

    byte_buf_init(&body, REMOTE_MAX_REQUEST);
    st = write_request(a, i / a->per_image, i % a->per_image, &body, err);
    if (st == ST_OK)
        st = remote_client_post(a->own->client, "/chat/completions", byte_buf_view(&body), body.len,
                                &a->answers[i], err);
    byte_buf_release(&body);
    return st;
}

/* A model's own end and a stop string are both "stop"; what else ends an answer is no end of it. */
static enum caption_stop stop_of(const char *finish_reason)
{
    if (finish_reason != NULL && strcmp(finish_reason, "stop") == 0)
        return CAPTION_STOP_END;
    if (finish_reason != NULL && strcmp(finish_reason, "length") == 0)
        return CAPTION_STOP_LENGTH;
    return CAPTION_STOP_UNKNOWN;
}

static enum status read_answer(const json_t *answer, struct arena *results, struct caption *out,
                               struct error *err)
{
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *said = json_object_get(json_object_get(choice, "message"), "content");
    const json_t *n = json_object_get(json_object_get(answer, "usage"), "completion_tokens");
    const char *why = json_string_value(json_object_get(choice, "finish_reason"));
    enum status st;
    char *text;

    if (choice == NULL)
        return error_set(err, ST_UNAVAILABLE, "the server's answer holds no `choices`");
    if (!json_is_string(said))
        return error_set(err, ST_CORRUPT, "the server gave no text, finish_reason \"%.40s\"",
                         why != NULL ? why : "");
    st = arena_strndup(results, json_string_value(said), json_string_length(said), &text, err);
    *out = (struct caption){.text = text,
                            .text_len = json_string_length(said),
                            .n_tokens = (int)MIN(json_integer_value(n), (json_int_t)INT32_MAX),
                            .log_prob_sum = (double)NAN, /* servers do not say */
                            .score = (double)NAN,
                            .stop = stop_of(why)};
    return st;
}

static enum status openai_caption(const struct captioner *captioner, const struct image *image_b,
                                  const struct bytes_view *uid_b, size_t B,
                                  const struct caption_options *how, struct arena *results,
                                  struct arena *scratch, struct caption *captions,
                                  struct error *err)
{
    const struct openai_captioner *own = (const struct openai_captioner *)captioner;
    struct asking a = {.own = own, .how = how, .uid_b = uid_b};
    struct arena mark = *scratch;
    size_t N = (size_t)how->n_captions;
    enum status st = caption_prompts(how, default_prompt, a.prompts, &a.n_prompts, err);

    if (st != ST_OK)
        return st;
    a.per_image = how->strategy == CAPTION_GREEDY ? a.n_prompts : N;
    st = arena_calloc(scratch, B, sizeof *a.images, &a.images, err);
    if (st == ST_OK)
        st = arena_calloc(scratch, B * a.per_image, sizeof(json_t *), &a.answers, err);
    if (st != ST_OK)
        return st;
    for (size_t b = 0; b < B; b++) {
        byte_buf_init(&a.images[b], REMOTE_MAX_REQUEST);
        if (st == ST_OK)
            st = write_image(own->spec, &image_b[b], scratch, &a.images[b], err);
    }
    if (st == ST_OK)
        st = remote_client_each(own->client, B * a.per_image, ask, &a, err);
    for (size_t i = 0; i < B * N && st == ST_OK; i++) {
        st = read_answer(a.answers[i / N * a.per_image + i % N * a.per_image / N], results,
                         &captions[i], err);
        captions[i].prompt = a.prompts[caption_prompt_of(how, a.n_prompts, i % N)];
    }
    for (size_t b = 0; b < B; b++)
        byte_buf_release(&a.images[b]);
    for (size_t i = 0; i < B * a.per_image; i++)
        json_decref(a.answers[i]);
    arena_rewind(scratch, &mark);
    return st;
}

static void openai_close(struct captioner *captioner)
{
    struct openai_captioner *own = CONTAINER_OF(captioner, struct openai_captioner, base);

    remote_client_close(&own->client);
    free(own);
}

/* Opened by a job, not from a folder. */
static const struct captioner_ops captioner_openai = {
    .kind = "openai",
    .caption_images = openai_caption,
    .close = openai_close,
};

/* A server that takes no images says so now, not once per sample. */
static enum status probe(const struct openai_captioner *own, struct error *err)
{
    const struct bytes_view uid = bytes_of_string("probe");
    struct caption_options how = own->spec->how;
    struct caption caption;
    struct arena arena;
    struct image image;
    enum status st;

    how.n_captions = 1;
    how.prompt = NULL;
    arena_init(&arena, PROBE_BYTES);
    st = image_alloc(&image, PROBE_SIDE, PROBE_SIDE, 3, &arena, err);
    if (st == ST_OK) {
        memset(image.pixels, 0x80, image_bytes(&image));
        st = openai_caption(&own->base, &image, &uid, 1, &how, &arena, &arena, &caption, err);
    }
    arena_release(&arena);
    if (st == ST_CORRUPT) /* it has nothing to say of a grey image */
        return ST_OK;
    if (st != ST_OK)
        error_add_context(err, "a trial caption of a grey image");
    return st;
}

enum status captioner_openai_open(const struct job_captioner *spec, const atomic_bool *stop,
                                  struct captioner **out, struct error *err)
{
    struct openai_captioner *own = calloc(1, sizeof *own);
    struct captioner_info *info;
    struct bytes_view prompts[CAPTION_MAX_PROMPTS];
    size_t n_prompts;
    enum status st;

    *out = NULL;
    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a captioner");
    own->base.ops = &captioner_openai;
    own->spec = spec;
    info = &own->base.info;
    memcpy(info->family, "openai", sizeof "openai");
    info->context_length = CONTEXT_LENGTH; /* the server knows */
    info->takes_prompt = true;
    info->preprocess = (struct preprocess){
        .size = spec->image_side, .mode = PREPROCESS_LONGEST, .filter = RESAMPLE_BICUBIC};
    st = caption_prompts(&spec->how, default_prompt, prompts, &n_prompts, err);
    if (st == ST_OK)
        st = remote_client_open(&spec->remote, stop, &own->client, err);
    if (st == ST_OK)
        st = openai_find_model(own->client, spec->model, info->weights_digest, err);
    if (st == ST_OK)
        st = probe(own, err);
    if (st != ST_OK) {
        error_add_context(err, "server %.80s", spec->remote.server);
        openai_close(&own->base);
        return st;
    }
    *out = &own->base;
    return ST_OK;
}
