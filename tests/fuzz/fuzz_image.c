/* Any bytes decode or are refused within the limits, at a fraction of their sides too; what decodes
 * survives PNG and back. */
#include "reinforce/image/encode.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct image_limits limits = {
        .max_bytes = 1 << 16, .max_pixels = 1 << 16, .max_side = 1 << 12};
    struct bytes_view encoded = bytes_view_of(data, size);
    struct arena arena;
    struct image_info info;
    struct image image, again, reduced;
    struct byte_buf png;
    struct error err;
    enum status st;

    arena_init(&arena, 8 << 20);
    byte_buf_init(&png, 8 << 20);
    st = image_decode(encoded, &limits, &arena, &image, &err);
    assert(st == ST_OK || st == ST_CORRUPT || st == ST_INVALID || st == ST_NO_MEMORY);
    if (st == ST_OK) {
        st = image_read_info(encoded, &limits, &info, &err);
        assert(st == ST_OK && info.width == image.width && info.height == image.height);
        assert(info.exif_orientation >= 1 && info.exif_orientation <= 8);
        for (int reduction = 2; reduction <= 4; reduction *= 2) {
            st = image_decode_reduced(encoded, &limits, reduction, &arena, &reduced, &err);
            assert(st == ST_OK || st == ST_NO_MEMORY);
            assert(st != ST_OK || (image_stored_width(&reduced) == image.width &&
                                   image_stored_height(&reduced) == image.height));
        }
        st = image_write_png(&image, &png, &err);
        assert(st == ST_OK);
        st = image_decode(byte_buf_view(&png), NULL, &arena, &again, &err);
        assert(st == ST_OK && image_bytes(&again) == image_bytes(&image));
        assert(memcmp(again.pixels, image.pixels, image_bytes(&image)) == 0);
    }
    byte_buf_release(&png);
    arena_release(&arena);
    return 0;
}
