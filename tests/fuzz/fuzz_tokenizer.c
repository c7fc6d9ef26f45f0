/* Bytes of a tokenizer.json: refused with a reason, or a tokenizer that encodes, and decodes what
 * it encoded. */
#include "reinforce/text/tokenizer.h"

#include <assert.h>

enum { MAX_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct tokenizer_encoding how = {true, true};
    struct tokenizer *tok;
    struct arena arena;
    struct error err = {0};
    int32_t *ids;
    size_t n_ids, len;
    char *text;

    if (size > MAX_BYTES)
        return 0;
    if (tokenizer_create(bytes_view_of(data, size), &tok, &err) != ST_OK) {
        assert(tok == NULL && err.message[0] != '\0');
        return 0;
    }
    arena_init(&arena, 16u << 20);
    if (tokenizer_encode(tok, bytes_of_string("A caf\xc3\xa9  abc-cab's <0x41>\xff ab"), &how,
                         &arena, &ids, &n_ids, &err) == ST_OK) {
        for (size_t i = 0; i < n_ids; i++)
            assert(ids[i] >= 0 && (size_t)ids[i] < tokenizer_vocab_size(tok));
        /* too long a text is the one reason left */
        if (tokenizer_decode(tok, ids, n_ids, false, &arena, &text, &len, &err) != ST_OK)
            assert(err.code == ST_NO_MEMORY || err.code == ST_INVALID);
    }
    arena_release(&arena);
    tokenizer_destroy(&tok);
    return 0;
}
