#include "reinforce/image/image.h"

enum status image_alloc(struct image *image, int width, int height, int channels,
                        struct arena *arena, struct error *err)
{
    size_t bytes;

    if (__builtin_mul_overflow((size_t)width, (size_t)height, &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)channels, &bytes))
        return error_set(err, ST_NO_MEMORY, "an image of %d x %d x %d bytes does not fit in memory",
                         width, height, channels);
    *image = (struct image){.width = width, .height = height, .channels = channels};
    return arena_alloc(arena, bytes, &image->pixels, err);
}
