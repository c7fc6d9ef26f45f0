#include "worker/sample_list.h"

#include "reinforce/base/json.h"
#include "storage/format/dataset_reject.h"

#include <inttypes.h>
#include <stdlib.h>

enum { VERSION = 1, LIST_MAX_BYTES = 256 << 20, SKIPPED_ARENA_BYTES_PER_BYTE = 4 };

struct list_reader {
    struct dataset_reader base;
    struct object_store *input, *output;
    struct dataset_read_options options; /* but for the slice, which is a source's */
    json_t *list;
    const json_t *sources;       /* of the list */
    size_t source, sample;       /* the next one: its source, its place among that one's samples */
    uint64_t index;              /* and its place in the list */
    struct dataset_reader *read; /* of the source; NULL: not open yet */
    uint64_t read_index;         /* of the sample that it gives next */
    bool ended;                  /* it has no more */
    struct arena skipped;        /* what lies between */
};

static enum status add_source(json_t *sources, const struct catalog_source *s, json_t **samples,
                              struct error *err)
{
    json_t *source = json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "from",
                               s->source.source == CATALOG_INPUT_PLAN ? "plan" : "input", "key",
                               s->source.input_key, "format", s->source.input_format, "begin",
                               (json_int_t)s->source.input_begin, "end",
                               (json_int_t)s->source.input_end, "samples", json_array());

    *samples = json_object_get(source, "samples");
    return json_array_append_new(sources, source) == 0
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate a list of samples");
}

enum status sample_list_write(const struct catalog_source *sources, size_t n, struct byte_buf *out,
                              struct error *err)
{
    json_t *list = json_pack("{s:i, s:o}", "version", (int)VERSION, "sources", json_array());
    json_t *samples = NULL;
    enum status st =
        list != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "could not allocate a list of samples");

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (i == 0 || sources[i].source_shard != sources[i - 1].source_shard)
            st = add_source(json_object_get(list, "sources"), &sources[i], &samples, err);
        if (st == ST_OK &&
            json_array_append_new(samples, json_integer((json_int_t)sources[i].source_index)) != 0)
            st = error_set(err, ST_NO_MEMORY, "could not allocate a list of samples");
    }
    if (st == ST_OK)
        st = json_write(list, out, err);
    json_decref(list);
    return st;
}

static const json_t *source_at(const struct list_reader *r, size_t i)
{
    return json_array_get(r->sources, i);
}

static bool is_place(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static enum status check_source(const json_t *source, struct error *err)
{
    const char *from = json_string_value(json_object_get(source, "from"));
    const char *key = json_string_value(json_object_get(source, "key"));
    const char *format = json_string_value(json_object_get(source, "format"));
    const json_t *samples = json_object_get(source, "samples");
    json_int_t last = -1;

    if (from == NULL || (strcmp(from, "input") != 0 && strcmp(from, "plan") != 0))
        return error_set(err, ST_CORRUPT, "\"from\" is neither \"input\" nor \"plan\"");
    if (key == NULL || format == NULL || dataset_format_by_name(format) == NULL)
        return error_set(err, ST_CORRUPT, "\"key\" or \"format\" is missing or unknown");
    if (!is_place(json_object_get(source, "begin")) || !is_place(json_object_get(source, "end")))
        return error_set(err, ST_CORRUPT, "\"begin\" or \"end\" is no offset");
    if (!json_is_array(samples) || json_array_size(samples) == 0)
        return error_set(err, ST_CORRUPT, "\"samples\" are missing");
    for (size_t i = 0; i < json_array_size(samples); i++) {
        json_t *sample = json_array_get(samples, i);

        if (!json_is_integer(sample) || json_integer_value(sample) <= last)
            return error_set(err, ST_CORRUPT, "\"samples\" are not ascending places");
        last = json_integer_value(sample);
    }
    return object_key_check(key, err);
}

static enum status load(struct list_reader *r, const char *key, struct error *err)
{
    struct arena arena;
    struct bytes_view body;
    const json_t *version;
    enum status st;

    arena_init(&arena, 2 * (size_t)LIST_MAX_BYTES);
    st = object_store_get(r->output, key, LIST_MAX_BYTES, &arena, &body, err);
    if (st == ST_OK)
        st = json_parse(body, &r->list, err);
    arena_release(&arena);
    if (st != ST_OK)
        return st;
    version = json_object_get(r->list, "version");
    r->sources = json_object_get(r->list, "sources");
    if (!json_is_integer(version) || json_integer_value(version) != VERSION ||
        !json_is_array(r->sources))
        return error_set(err, ST_CORRUPT, "no list of samples that this release knows");
    for (size_t i = 0; i < json_array_size(r->sources) && st == ST_OK; i++) {
        st = check_source(source_at(r, i), err);
        if (st != ST_OK)
            error_add_context(err, "source %zu", i);
    }
    return st;
}

/* To place `index` of the list. */
static void go_to(struct list_reader *r, uint64_t index)
{
    uint64_t left = index;

    r->index = index;
    for (; r->source < json_array_size(r->sources); r->source++) {
        size_t n = json_array_size(json_object_get(source_at(r, r->source), "samples"));

        if (left < n)
            break;
        left -= n;
    }
    r->sample = (size_t)left;
}

static enum status open_source(struct list_reader *r, struct error *err)
{
    const json_t *source = source_at(r, r->source);
    bool from_input = strcmp(json_string_value(json_object_get(source, "from")), "input") == 0;
    const char *format = json_string_value(json_object_get(source, "format"));
    const char *key = json_string_value(json_object_get(source, "key"));
    struct dataset_read_options options = r->options;
    struct dataset_position from = {0};
    enum status st;

    options.begin_offset = (uint64_t)json_integer_value(json_object_get(source, "begin"));
    options.end_offset = (uint64_t)json_integer_value(json_object_get(source, "end"));
    from.offset = options.begin_offset;
    r->read_index = 0;
    r->ended = false;
    st = dataset_reader_open(dataset_format_by_name(format), from_input ? r->input : r->output, key,
                             &options, &from, &r->read, err);
    if (st != ST_OK)
        error_add_context(err, "input \"%s\"", key);
    return st;
}

static void close_source(struct list_reader *r)
{
    if (r->read != NULL)
        dataset_reader_close(&r->read);
}

/* Over the samples in front of place `wanted`. */
static enum status skip_to(struct list_reader *r, uint64_t wanted, struct error *err)
{
    while (!r->ended && r->read_index < wanted) {
        struct record record = {0};
        struct dataset_reject reject;
        enum status st;

        arena_reset(&r->skipped);
        st = dataset_reader_next(r->read, &r->skipped, &record, &reject, err);
        record_release(&record);
        if (st != ST_OK && st != ST_CORRUPT && st != ST_END)
            return st;
        r->ended = st == ST_END;
        r->read_index += !r->ended;
    }
    return ST_OK;
}

/* To the next place of the list. */
static void pass(struct list_reader *r)
{
    r->index++;
    if (++r->sample == json_array_size(json_object_get(source_at(r, r->source), "samples"))) {
        close_source(r);
        r->source++;
        r->sample = 0;
    }
}

static enum status list_next(struct dataset_reader *reader, struct arena *arena,
                             struct record *record, struct dataset_reject *reject,
                             struct error *err)
{
    struct list_reader *r = CONTAINER_OF(reader, struct list_reader, base);
    const json_t *samples;
    uint64_t wanted;
    char uid[64];
    enum status st = ST_OK;

    if (r->source == json_array_size(r->sources))
        return ST_END;
    samples = json_object_get(source_at(r, r->source), "samples");
    wanted = (uint64_t)json_integer_value(json_array_get(samples, r->sample));
    if (r->read == NULL)
        st = open_source(r, err);
    if (st == ST_OK)
        st = skip_to(r, wanted, err);
    if (st != ST_OK)
        return st;
    if (!r->ended)
        st = dataset_reader_next(r->read, arena, record, reject, err);
    if (st != ST_OK && st != ST_CORRUPT && st != ST_END)
        return st;
    if (r->ended || st == ST_END) {
        r->ended = true;
        (void)snprintf(uid, sizeof uid, "sample %" PRIu64, wanted);
        st = dataset_reject_set(reject, bytes_of_string(uid), ST_NOT_FOUND, "missing_sample",
                                "the input has %" PRIu64 " samples now", r->read_index);
    } else {
        r->read_index++;
    }
    pass(r);
    return st;
}

static enum status list_skip(struct dataset_reader *reader, struct error *err)
{
    struct list_reader *r = CONTAINER_OF(reader, struct list_reader, base);

    (void)err;
    if (r->source == json_array_size(r->sources))
        return ST_END;
    pass(r);
    return ST_OK;
}

static uint64_t list_end(const struct dataset_reader *reader)
{
    (void)reader;
    return 0;
}

static void list_tell(const struct dataset_reader *reader, struct dataset_position *position)
{
    const struct list_reader *r = (const struct list_reader *)reader; /* base is its first member */

    *position = (struct dataset_position){.index = r->index};
}

static void list_close(struct dataset_reader *reader)
{
    struct list_reader *r = CONTAINER_OF(reader, struct list_reader, base);

    close_source(r);
    json_decref(r->list);
    arena_release(&r->skipped);
    free(r);
}

static const struct dataset_reader_ops ops = {
    .next = list_next, .skip = list_skip, .end = list_end, .tell = list_tell, .close = list_close};

enum status sample_list_open(struct object_store *input, struct object_store *output,
                             const char *key, const struct dataset_read_options *options,
                             const struct dataset_position *from, struct dataset_reader **out,
                             struct error *err)
{
    struct list_reader *r = calloc(1, sizeof *r);
    enum status st;

    *out = NULL;
    if (r == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a reader");
    r->base.ops = &ops;
    r->input = input;
    r->output = output;
    r->options = *options;
    arena_init(&r->skipped, SKIPPED_ARENA_BYTES_PER_BYTE * options->max_sample_bytes);
    st = load(r, key, err);
    if (st != ST_OK) {
        error_add_context(err, "list \"%s\"", key);
        list_close(&r->base);
        return st;
    }
    go_to(r, from->index);
    *out = &r->base;
    return ST_OK;
}
