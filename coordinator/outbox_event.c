#include "coordinator/outbox_event.h"

#include "reinforce/base/json.h"
#include "reinforce/base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { ID_MAX_BYTES = 1 << 20 };

const char *outbox_event_kind_name(enum event_kind kind)
{
    switch (kind) {
    case EVENT_SHARD_DONE:
        return "shard_done";
    case EVENT_SAMPLE_DONE:
        return "sample_done";
    case EVENT_SAMPLE_QUARANTINED:
        return "sample_quarantined";
    case EVENT_SAMPLE_FILTERED:
        return "sample_filtered";
    }
    return NULL;
}

/* Of a sample that is in no shard: a reason stands in the place of captions and object. */
static bool has_reason(enum event_kind kind)
{
    return kind == EVENT_SAMPLE_QUARANTINED || kind == EVENT_SAMPLE_FILTERED;
}

/* Readers of either form may refuse what is not UTF-8. */
static enum status mend(struct arena *arena, struct bytes_view *text, struct error *err)
{
    uint8_t *out;
    size_t n = 0;
    enum status st;

    if (utf8_is_valid(*text))
        return ST_OK;
    st = arena_calloc(arena, text->len, 3, &out, err); /* a byte becomes U+FFFD at most */
    if (st != ST_OK)
        return st;
    for (size_t pos = 0; pos < text->len;)
        n += utf8_put(utf8_next(*text, &pos), out + n);
    *text = bytes_view_of(out, n);
    return ST_OK;
}

static enum status mend_string(struct arena *arena, const char **text, struct error *err)
{
    struct bytes_view view = bytes_of_string(*text != NULL ? *text : "");
    char *copy;
    enum status st = mend(arena, &view, err);

    if (st == ST_OK)
        st = arena_strndup(arena, (const char *)view.data, view.len, &copy, err);
    if (st == ST_OK)
        *text = copy;
    return st;
}

/* Scores stand beside their captions in the same order: by column, then index. */
static enum status add_scores(const struct catalog_sample *sample,
                              const struct catalog_caption *caption, struct arena *arena,
                              struct event_caption *out, struct error *err)
{
    struct event_score *scores;
    enum status st = arena_calloc(arena, sample->n_scores, sizeof *scores, &scores, err);

    if (st != ST_OK)
        return st;
    out->scores = scores;
    for (size_t i = 0; i < sample->n_scores; i++) {
        const struct catalog_score *score = &sample->scores[i];

        if (score->index == caption->index && strcmp(score->column, caption->column) == 0 &&
            !isnan(score->value))
            scores[out->n_scores++] =
                (struct event_score){.teacher = score->teacher, .cosine = score->value};
    }
    return ST_OK;
}

static enum status add_captions(const struct catalog_sample *sample, struct arena *arena,
                                struct event *out, struct error *err)
{
    struct event_caption *captions;
    enum status st = arena_calloc(arena, sample->n_captions, sizeof *captions, &captions, err);

    for (size_t i = 0; i < sample->n_captions && st == ST_OK; i++) {
        const struct catalog_caption *caption = &sample->captions[i];

        captions[i] = (struct event_caption){.column = caption->column,
                                             .index = caption->index,
                                             .text = caption->text,
                                             .log_probability = caption->score};
        st = mend(arena, &captions[i].text, err);
        if (st == ST_OK)
            st = add_scores(sample, caption, arena, &captions[i], err);
    }
    out->captions = captions;
    out->n_captions = st == ST_OK ? sample->n_captions : 0;
    return st;
}

static enum status add_sample(const struct catalog_outbox_row *row, struct arena *arena,
                              struct event *out, struct error *err)
{
    const struct catalog_sample *sample = &row->sample;
    enum status st;

    out->kind = sample->state == CATALOG_SAMPLE_DONE       ? EVENT_SAMPLE_DONE
                : sample->state == CATALOG_SAMPLE_FILTERED ? EVENT_SAMPLE_FILTERED
                                                           : EVENT_SAMPLE_QUARANTINED;
    out->uid = sample->uid;
    out->index = sample->index;
    out->width = sample->width;
    out->height = sample->height;
    st = mend(arena, &out->uid, err);
    if (st != ST_OK || out->kind == EVENT_SAMPLE_DONE)
        return st == ST_OK ? add_captions(sample, arena, out, err) : st;
    out->stage = sample->stage;
    out->reason = sample->reason;
    out->detail = sample->detail;
    st = mend_string(arena, &out->stage, err);
    if (st == ST_OK)
        st = mend_string(arena, &out->reason, err);
    return st == ST_OK ? mend_string(arena, &out->detail, err) : st;
}

/* Nothing of epochs, attempts or clocks: whoever does the work again tells the same. */
static enum status name(const struct outbox_source *source, struct event *event, struct error *err)
{
    struct byte_buf text;
    char hex[SHA256_HEX_LEN + 1];
    enum status st;

    byte_buf_init(&text, ID_MAX_BYTES);
    st = byte_buf_printf(&text, err, "%s\n%s\n%s\n%" PRId64 "\n%" PRId64 "\n%s\n",
                         outbox_event_kind_name(event->kind), source->job, source->output,
                         event->shard, event->index,
                         has_reason(event->kind) ? event->reason : event->sha256);
    if (st == ST_OK)
        st = byte_buf_append(&text, event->uid.data, event->uid.len, err);
    if (st == ST_OK) {
        sha256_of(byte_buf_view(&text), hex);
        (void)snprintf(event->id, sizeof event->id, "%.*s", (int)EVENT_ID_LEN, hex);
    }
    byte_buf_release(&text);
    return st;
}

enum status outbox_event_make(const struct catalog_outbox_row *row,
                              const struct outbox_source *source, struct arena *arena,
                              struct event *out, struct error *err)
{
    const struct catalog_output *output = &row->output;
    size_t len = strlen(source->output);
    char *object;
    enum status st = ST_OK;

    *out = (struct event){.kind = EVENT_SHARD_DONE,
                          .job = source->job,
                          .shard = row->shard,
                          .time_ms = row->committed_ms};
    if (row->is_sample) {
        st = add_sample(row, arena, out, err);
    } else {
        out->bytes = output->bytes;
        out->samples_done = output->n_done;
        out->samples_quarantined = output->n_quarantined;
        out->samples_filtered = output->n_filtered;
    }
    if (st == ST_OK && !has_reason(out->kind)) {
        st = arena_alloc(arena, len + strlen(output->object_key) + 2, &object, err);
        if (st == ST_OK) {
            (void)snprintf(object, len + strlen(output->object_key) + 2, "%s%s%s", source->output,
                           len > 0 && source->output[len - 1] == '/' ? "" : "/",
                           output->object_key);
            out->object = object;
            out->sha256 = output->sha256;
        }
    }
    return st == ST_OK ? name(source, out, err) : st;
}

enum status outbox_event_key(const struct event *event, struct arena *arena, struct bytes_view *out,
                             struct error *err)
{
    size_t len = strlen(event->job) + 64;
    bool is_sample = event->kind != EVENT_SHARD_DONE;
    char *text;
    enum status st;

    *out = event->uid;
    if (is_sample && event->uid.len > 0)
        return ST_OK;
    st = arena_alloc(arena, len, &text, err);
    if (st != ST_OK)
        return st;
    if (is_sample) /* it had none */
        (void)snprintf(text, len, "%s/%08" PRId64 "/%" PRId64, event->job, event->shard,
                       event->index);
    else
        (void)snprintf(text, len, "%s/%08" PRId64, event->job, event->shard);
    *out = bytes_of_string(text);
    return ST_OK;
}

/* A member of an object that is being made; false stays false. */
static void put(json_t *object, const char *key, json_t *value, bool *is_made)
{
    *is_made = json_object_set_new(object, key, value) == 0 && *is_made;
}

static json_t *text_of(struct bytes_view text)
{
    return json_stringn((const char *)text.data, text.len);
}

static json_t *caption_of(const struct event_caption *caption, bool *is_made)
{
    json_t *object = json_object(), *scores = json_object();

    put(object, "column", json_string(caption->column), is_made);
    put(object, "index", json_integer(caption->index), is_made);
    put(object, "text", text_of(caption->text), is_made);
    if (!isnan(caption->log_probability))
        put(object, "log_probability", json_real(caption->log_probability), is_made);
    for (size_t i = 0; i < caption->n_scores; i++)
        put(scores, caption->scores[i].teacher, json_real(caption->scores[i].cosine), is_made);
    put(object, "scores", scores, is_made);
    return object;
}

static void put_sample(json_t *object, const struct event *event, bool *is_made)
{
    json_t *captions;

    put(object, "uid", text_of(event->uid), is_made);
    put(object, "index", json_integer(event->index), is_made);
    put(object, "width", json_integer(event->width), is_made);
    put(object, "height", json_integer(event->height), is_made);
    if (has_reason(event->kind)) {
        put(object, "stage", json_string(event->stage), is_made);
        put(object, "reason", json_string(event->reason), is_made);
        put(object, "detail", json_string(event->detail), is_made);
        return;
    }
    captions = json_array();
    for (size_t i = 0; i < event->n_captions; i++)
        *is_made = json_array_append_new(captions, caption_of(&event->captions[i], is_made)) == 0 &&
                   *is_made;
    put(object, "captions", captions, is_made);
}

enum status outbox_event_write_json(const struct event *event, struct byte_buf *out,
                                    struct error *err)
{
    json_t *object = json_object();
    bool is_made = true;
    enum status st;

    put(object, "event_version", json_integer(EVENT_VERSION), &is_made);
    put(object, "id", json_string(event->id), &is_made);
    put(object, "kind", json_string(outbox_event_kind_name(event->kind)), &is_made);
    put(object, "job", json_string(event->job), &is_made);
    put(object, "shard", json_integer(event->shard), &is_made);
    put(object, "time_ms", json_integer(event->time_ms), &is_made);
    if (event->object != NULL) {
        put(object, "object", json_string(event->object), &is_made);
        put(object, "sha256", json_string(event->sha256), &is_made);
    }
    if (event->kind == EVENT_SHARD_DONE) {
        put(object, "bytes", json_integer((json_int_t)event->bytes), &is_made);
        put(object, "samples_done", json_integer(event->samples_done), &is_made);
        put(object, "samples_quarantined", json_integer(event->samples_quarantined), &is_made);
        put(object, "samples_filtered", json_integer(event->samples_filtered), &is_made);
    } else {
        put_sample(object, event, &is_made);
    }
    st = is_made ? json_write(object, out, err)
                 : error_set(err, ST_NO_MEMORY, "could not allocate an event");
    json_decref(object);
    return st;
}
