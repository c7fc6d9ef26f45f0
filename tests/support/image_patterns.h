/* Images made by a formula, and short hashes of what becomes of them. */
#ifndef REINFORCE_TESTS_IMAGE_PATTERNS_H
#define REINFORCE_TESTS_IMAGE_PATTERNS_H

#include "reinforce/base/sha256.h"
#include "reinforce/image/image.h"
#include "tests/support/test.h"

/** G(width, height) of the augmentation vectors: R=(7x+13y)&255, G=((x*x+3*y*y)>>4)&255,
 * B=(5*(x^y)+40)&255. */
static inline void pattern_g(int width, int height, struct arena *arena, struct image *out)
{
    struct error err = {0};
    uint8_t *to;

    assert_ok(image_alloc(out, width, height, 3, arena, &err));
    to = out->pixels;
    for (unsigned y = 0; y < (unsigned)height; y++)
        for (unsigned x = 0; x < (unsigned)width; x++, to += 3) {
            to[0] = (uint8_t)(7 * x + 13 * y);
            to[1] = (uint8_t)((x * x + 3 * y * y) >> 4);
            to[2] = (uint8_t)(5 * (x ^ y) + 40);
        }
}

/** P(height, width) of the resampling vectors: (37x + 101y + 7xy + 59c) mod 256. */
static inline void pattern_p(int height, int width, int channels, struct arena *arena,
                             struct image *out)
{
    struct error err = {0};
    uint8_t *to;

    assert_ok(image_alloc(out, width, height, channels, arena, &err));
    to = out->pixels;
    for (unsigned y = 0; y < (unsigned)height; y++)
        for (unsigned x = 0; x < (unsigned)width; x++)
            for (unsigned c = 0; c < (unsigned)channels; c++)
                *to++ = (uint8_t)(37 * x + 101 * y + 7 * x * y + 59 * c);
}

/** Fails unless the SHA-256 of `len` bytes begins with the hex digits `want`. */
static inline void assert_digest_begins(const char *what, const void *data, size_t len,
                                        const char *want)
{
    char hex[SHA256_HEX_LEN + 1];

    sha256_of(bytes_view_of(data, len), hex);
    if (strncmp(hex, want, strlen(want)) != 0)
        fail_msg("%s: digest is %.32s, expected %s", what, hex, want);
}

#endif
