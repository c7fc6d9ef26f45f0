#include "proto/event.h"

#include "proto/event.pb-c.h"

#include <math.h>

/* protobuf-c takes char * for strings that it only reads, and its initialisers do the same */
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wmissing-braces"

static ProtobufCBinaryData data_of(struct bytes_view bytes)
{
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)bytes.data};
}

static ProtobufCBinaryData data_of_string(const char *text)
{
    return data_of(bytes_of_string(text != NULL ? text : ""));
}

static enum status fill_scores(const struct event_caption *from, struct arena *scratch,
                               Reinforce__Events__Caption *to, struct error *err)
{
    Reinforce__Events__Score *scores;
    enum status st = arena_calloc(scratch, from->n_scores, sizeof *scores, &scores, err);

    if (st == ST_OK)
        st = arena_calloc(scratch, from->n_scores, sizeof(Reinforce__Events__Score *), &to->scores,
                          err);
    if (st != ST_OK)
        return st;
    to->n_scores = from->n_scores;
    for (size_t i = 0; i < from->n_scores; i++) {
        reinforce__events__score__init(&scores[i]);
        scores[i].teacher = data_of_string(from->scores[i].teacher);
        scores[i].cosine = from->scores[i].cosine;
        to->scores[i] = &scores[i];
    }
    return ST_OK;
}

static enum status fill_captions(const struct event *from, struct arena *scratch,
                                 Reinforce__Events__Event *to, struct error *err)
{
    Reinforce__Events__Caption *captions;
    enum status st = arena_calloc(scratch, from->n_captions, sizeof *captions, &captions, err);

    if (st == ST_OK)
        st = arena_calloc(scratch, from->n_captions, sizeof(Reinforce__Events__Caption *),
                          &to->captions, err);
    for (size_t i = 0; i < from->n_captions && st == ST_OK; i++) {
        const struct event_caption *caption = &from->captions[i];

        reinforce__events__caption__init(&captions[i]);
        captions[i].column = data_of_string(caption->column);
        captions[i].index = (uint32_t)caption->index;
        captions[i].text = data_of(caption->text);
        if (!isnan(caption->log_probability)) {
            captions[i].known_case = REINFORCE__EVENTS__CAPTION__KNOWN_LOG_PROBABILITY;
            captions[i].log_probability = caption->log_probability;
        }
        st = fill_scores(caption, scratch, &captions[i], err);
        to->captions[i] = &captions[i];
    }
    to->n_captions = st == ST_OK ? from->n_captions : 0;
    return st;
}

enum status event_encode(const struct event *event, struct arena *scratch, struct byte_buf *out,
                         struct error *err)
{
    Reinforce__Events__Event message = REINFORCE__EVENTS__EVENT__INIT;
    uint8_t *to;
    enum status st = fill_captions(event, scratch, &message, err);

    if (st != ST_OK)
        return st;
    message.version = EVENT_VERSION;
    message.id = data_of_string(event->id);
    message.kind = (Reinforce__Events__Kind)event->kind;
    message.job = data_of_string(event->job);
    message.shard = (uint64_t)event->shard;
    message.time_ms = (uint64_t)event->time_ms;
    message.object = data_of_string(event->object);
    message.sha256 = data_of_string(event->sha256);
    message.bytes = event->bytes;
    message.samples_done = (uint64_t)event->samples_done;
    message.samples_quarantined = (uint64_t)event->samples_quarantined;
    message.samples_filtered = (uint64_t)event->samples_filtered;
    message.uid = data_of(event->uid);
    message.index = (uint64_t)event->index;
    message.width = (uint32_t)event->width;
    message.height = (uint32_t)event->height;
    message.stage = data_of_string(event->stage);
    message.reason = data_of_string(event->reason);
    message.detail = data_of_string(event->detail);
    st = byte_buf_extend(out, reinforce__events__event__get_packed_size(&message), &to, err);
    if (st == ST_OK)
        (void)reinforce__events__event__pack(&message, to);
    return st;
}
