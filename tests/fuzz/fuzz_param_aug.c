/* Parameters that are read survive writing and reading, and replay on an image or are refused. */
#include "reinforce/image/augment.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay(const struct augment_params *params)
{
    struct augment_config config;
    struct arena arena;
    struct image image, out;
    struct error err;

    augment_config_default(&config);
    config.size = 24;
    arena_init(&arena, 4 << 20);
    if (image_alloc(&image, 40, 30, 3, &arena, &err) == ST_OK) {
        enum status st;

        for (size_t i = 0; i < image_bytes(&image); i++)
            image.pixels[i] = (uint8_t)(i * 7);
        st = augment_apply(&config, params, &image, &arena, &out, &err);
        assert(st == ST_OK || st == ST_INVALID);
    }
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct augment_params params, again;
    struct byte_buf buf;
    struct error err;
    json_t *value, *written;

    if (size > 4096 || json_parse(bytes_view_of(data, size), &value, &err) != ST_OK)
        return 0;
    byte_buf_init(&buf, 1 << 16);
    if (augment_params_from_json(value, &params, &err) == ST_OK) {
        enum status st;

        written = augment_params_to_json(&params);
        assert(written != NULL);
        st = json_write(written, &buf, &err);
        assert(st == ST_OK);
        json_decref(written);
        st = json_parse(byte_buf_view(&buf), &written, &err);
        assert(st == ST_OK);
        st = augment_params_from_json(written, &again, &err);
        assert(st == ST_OK && memcmp(&params, &again, sizeof params) == 0);
        json_decref(written);
        replay(&params);
    }
    byte_buf_release(&buf);
    json_decref(value);
    return 0;
}
