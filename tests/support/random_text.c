#include "tests/support/random_text.h"

#include "reinforce/base/file.h"
#include "reinforce/base/utf8.h"

uint64_t random_text_below(uint64_t *state, uint64_t n)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return ((z ^ z >> 31) >> 11) % n;
}

uint32_t random_text_sum(struct bytes_view data)
{
    uint32_t h = 0x811C9DC5u;

    for (size_t i = 0; i < data.len; i++)
        h = (h ^ data.data[i]) * 0x01000193u;
    return h;
}

static enum status split_words(struct random_text *source, struct error *err)
{
    const json_t *sentences = json_object_get(source->parts, "sentences");

    source->words = json_array();
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        const char *word = json_string_value(json_array_get(sentences, i)), *space;

        for (; word != NULL; word = space != NULL ? space + 1 : NULL) {
            size_t len =
                (space = strchr(word, ' ')) != NULL ? (size_t)(space - word) : strlen(word);

            if (json_array_append_new(source->words, json_stringn(word, len)) != 0)
                return error_set(err, ST_NO_MEMORY, "could not store words");
        }
    }
    return ST_OK;
}

enum status random_text_init(struct random_text *source, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    memset(source, 0, sizeof *source);
    byte_buf_init(&buf, 1 << 20);
    st = file_read("tests/golden/text_parts.json", &buf, err);
    if (st == ST_OK)
        st = json_parse(byte_buf_view(&buf), &source->parts, err);
    if (st == ST_OK)
        st = split_words(source, err);
    byte_buf_release(&buf);
    return st;
}

void random_text_release(struct random_text *source)
{
    json_decref(source->parts);
    json_decref(source->words);
}

static struct bytes_view pick(const json_t *list, uint64_t *rng)
{
    const json_t *item = json_array_get(list, random_text_below(rng, json_array_size(list)));

    return bytes_view_of(json_string_value(item), json_string_length(item));
}

static struct bytes_view pick_from(const struct random_text *source, const char *key, uint64_t *rng)
{
    return pick(json_object_get(source->parts, key), rng);
}

static enum status put_bytes(struct byte_buf *out, uint64_t *rng, uint64_t first, uint64_t count,
                             uint64_t n, struct error *err)
{
    enum status st = ST_OK;

    for (uint64_t i = 0; i < n && st == ST_OK; i++)
        st = byte_buf_append(out, &(uint8_t){(uint8_t)(first + random_text_below(rng, count))}, 1,
                             err);
    return st;
}

static enum status put_code_point(const struct random_text *source, struct byte_buf *out,
                                  uint64_t *rng, struct error *err)
{
    const json_t *ranges = json_object_get(source->parts, "ranges");
    const json_t *range = json_array_get(ranges, random_text_below(rng, json_array_size(ranges)));
    uint64_t low = (uint64_t)json_integer_value(json_array_get(range, 0));
    uint64_t high = (uint64_t)json_integer_value(json_array_get(range, 1));
    uint8_t bytes[4];
    size_t n = utf8_put((uint32_t)(low + random_text_below(rng, high - low + 1)), bytes);

    return byte_buf_append(out, bytes, n, err);
}

static enum status put_part(const struct random_text *source, struct byte_buf *out, uint64_t *rng,
                            struct error *err)
{
    static const char *const lists[] = {"symbols", NULL, "contractions", "spaces", "specials"};
    uint64_t kind = random_text_below(rng, 16);
    struct bytes_view text;
    size_t before = out->len;
    enum status st;

    if (kind == 9)
        return put_bytes(out, rng, 33, 32, 1 + random_text_below(rng, 6), err);
    if (kind == 13)
        return put_code_point(source, out, rng, err);
    if (kind == 14)
        return put_bytes(out, rng, 128, 128, 1 + random_text_below(rng, 4), err);
    text = kind >= 8 && kind <= 12 ? pick_from(source, lists[kind - 8], rng)
                                   : pick(source->words, rng);
    if (kind == 15)
        text.len = 1 + random_text_below(rng, text.len);
    st = byte_buf_append(out, text.data, text.len, err);
    for (size_t i = before; kind == 7 && i < out->len; i++)
        if (out->data[i] >= 'a' && out->data[i] <= 'z')
            out->data[i] = (uint8_t)(out->data[i] - 32);
    return st;
}

enum status random_text_make(const struct random_text *source, uint64_t index, struct byte_buf *out,
                             struct error *err)
{
    uint64_t rng = index, n = 1 + random_text_below(&rng, 10);
    enum status st = ST_OK;

    for (uint64_t i = 0; i < n && st == ST_OK; i++) {
        st = put_part(source, out, &rng, err);
        if (st == ST_OK && random_text_below(&rng, 4) > 0)
            st = byte_buf_append(out, " ", 1, err);
    }
    return st;
}
