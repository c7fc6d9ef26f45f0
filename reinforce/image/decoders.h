/* Inside of decode.c: one decoder per format. */
#ifndef REINFORCE_IMAGE_DECODERS_H
#define REINFORCE_IMAGE_DECODERS_H

#include "reinforce/image/decode.h"

struct decode_request {
    struct bytes_view encoded;
    const struct image_limits *limits; /* may be NULL */
    struct arena *arena;               /* NULL: read the header only */
    bool keep_alpha;                   /* else RGBA may come as RGB, and LA as L */
    int reduction;                     /* 1, 2 or 4; what is not JPEG comes whole */
};

/**
 * Fills format, width, height and mode of `info`, checks the limits, and, with an arena, decodes to
 * `out`. Statuses as image_decode().
 */
typedef enum status image_decoder(const struct decode_request *request, struct image_info *info,
                                  struct image_stored *out, struct error *err);

image_decoder jpeg_decode, png_decode, webp_decode, gif_decode;

/** Sets sizes and mode, and checks them against the limits; every decoder calls it before it
 * allocates pixels. */
NODISCARD enum status decode_header(const struct decode_request *request, struct image_info *info,
                                    uint32_t width, uint32_t height, const char *mode,
                                    struct error *err);

#endif
