/* Any bytes as a caption: cleaning ends, what a byte-level tokenizer encodes decodes to the text,
 * and so does what one with byte fallback encodes. */
#include "reinforce/base/json.h"
#include "reinforce/text/byte_level.h"
#include "reinforce/text/clean.h"
#include "reinforce/text/tokenizer.h"
#include "reinforce/text/unicode.h"

#include <assert.h>

enum { MAX_BYTES = 1 << 14 };

#define MUST(expr)                                                                                 \
    do {                                                                                           \
        if ((expr) != ST_OK) {                                                                     \
            (void)fprintf(stderr, "%s: %s: %s\n", #expr, err.context, err.message);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A vocabulary of 256 tokens and a few merges. */
static struct tokenizer *make(bool byte_level)
{
    struct tokenizer *tok;
    struct byte_buf json, name;
    struct error err = {0};

    byte_buf_init(&json, 1 << 16);
    byte_buf_init(&name, 64);
    MUST(byte_buf_append_string(
        &json,
        byte_level
            ? "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},"
              " \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": {"
            : "{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"},"
              " \"content\": \"\\u2581\"}, \"decoder\": {\"type\": \"Sequence\", \"decoders\":"
              " [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2581\"}, \"content\":"
              " \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]},"
              " \"model\": {\"byte_fallback\": true, \"vocab\": {\"\\u2581\": 259, ",
        &err));
    for (int i = 0; i < 256; i++) {
        byte_buf_reset(&name);
        if (byte_level)
            MUST(unicode_put(byte_level_char((uint8_t)i), &name, &err));
        else
            MUST(byte_buf_printf(&name, &err, "<0x%02X>", (unsigned)i));
        MUST(json_write_string(byte_buf_view(&name), &json, &err));
        MUST(byte_buf_printf(&json, &err, ": %d, ", i));
    }
    MUST(byte_buf_append_string(
        &json,
        byte_level ? "\"th\": 256, \"the\": 257}, \"merges\": [\"t h\", \"th e\"]}}"
                   : "\"t\": 256, \"h\": 257, \"th\": 258}, \"merges\": [\"t h\"]}}",
        &err));
    MUST(tokenizer_create(byte_buf_view(&json), &tok, &err));
    byte_buf_release(&json);
    byte_buf_release(&name);
    return tok;
}

static void round_trip(const struct tokenizer *tok, struct bytes_view text, struct arena *arena)
{
    static const struct tokenizer_encoding how = {true, true};
    struct error err = {0};
    size_t n_ids, len;
    int32_t *ids;
    char *decoded;

    MUST(tokenizer_encode(tok, text, &how, arena, &ids, &n_ids, &err));
    MUST(tokenizer_decode(tok, ids, n_ids, false, arena, &decoded, &len, &err));
    assert(bytes_equal(bytes_view_of(decoded, len), text));
}

static bool holds(struct bytes_view text, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= text.len; i++)
        if (memcmp(text.data + i, word, n) == 0)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *byte_level, *fallback; /* made once: they cost more than a text */
    struct bytes_view text, clean, again;
    struct byte_buf repaired;
    struct arena arena;
    struct error err = {0};
    bool suspect;

    if (size > MAX_BYTES)
        return 0;
    if (byte_level == NULL) {
        byte_level = make(true);
        fallback = make(false);
    }
    arena_init(&arena, 64u << 20);
    byte_buf_init(&repaired, 1 << 20);
    MUST(unicode_repair(bytes_view_of(data, size), &repaired, &text, &err));
    round_trip(byte_level, text, &arena);
    if (!holds(text, "\xe2\x96\x81")) /* it is how a space is written */
        round_trip(fallback, text, &arena);
    MUST(clean_open_clip(bytes_view_of(data, size), &arena, &clean, &suspect, &err));
    again = clean_trim(clean);
    assert(bytes_equal(again, clean)); /* nothing to trim is left */
    again = clean_first_sentence(bytes_view_of(data, size));
    assert(again.len <= size);
    round_trip(byte_level, clean, &arena);
    byte_buf_release(&repaired);
    arena_release(&arena);
    return 0;
}
