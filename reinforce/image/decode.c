#include "reinforce/image/decode.h"

#include "reinforce/image/decoders.h"
#include "reinforce/image/exif.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

static const struct {
    enum image_format format;
    const char *extension;
    image_decoder *decode;
} kinds[] = {
    {IMAGE_FORMAT_JPEG, "jpg", jpeg_decode},
    {IMAGE_FORMAT_PNG, "png", png_decode},
    {IMAGE_FORMAT_WEBP, "webp", webp_decode},
    {IMAGE_FORMAT_GIF, "gif", gif_decode},
};

static bool has_at(struct bytes_view bytes, size_t at, const char *magic, size_t len)
{
    return bytes.len >= at + len && memcmp(bytes.data + at, magic, len) == 0;
}

enum image_format image_sniff(struct bytes_view encoded)
{
    if (has_at(encoded, 0, "\xff\xd8\xff", 3))
        return IMAGE_FORMAT_JPEG;
    if (has_at(encoded, 0, "\x89PNG\r\n\x1a\n", 8))
        return IMAGE_FORMAT_PNG;
    if (has_at(encoded, 0, "RIFF", 4) && has_at(encoded, 8, "WEBP", 4))
        return IMAGE_FORMAT_WEBP;
    if (has_at(encoded, 0, "GIF87a", 6) || has_at(encoded, 0, "GIF89a", 6))
        return IMAGE_FORMAT_GIF;
    return IMAGE_FORMAT_UNKNOWN;
}

const char *image_format_extension(enum image_format format)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].format == format)
            return kinds[i].extension;
    return NULL;
}

enum status decode_header(const struct decode_request *request, struct image_info *info,
                          uint32_t width, uint32_t height, const char *mode, struct error *err)
{
    const struct image_limits *limits = request->limits;
    uint32_t longer = MAX(width, height), shorter = MIN(width, height);

    if (shorter == 0 || longer > INT_MAX)
        return error_set(err, ST_CORRUPT, "image size %" PRIu32 " x %" PRIu32 " is impossible",
                         width, height);
    info->width = (int)width;
    info->height = (int)height;
    (void)snprintf(info->mode, sizeof info->mode, "%s", mode);
    if (limits == NULL)
        return ST_OK;
    if (limits->max_pixels > 0 && (uint64_t)width * height > limits->max_pixels)
        return error_set(err, ST_INVALID,
                         "image of %" PRIu32 " x %" PRIu32 " has %" PRIu64
                         " pixels, the limit is %zu",
                         width, height, (uint64_t)width * height, limits->max_pixels);
    if (limits->max_side > 0 && longer > (uint32_t)limits->max_side)
        return error_set(err, ST_INVALID, "longer side is %" PRIu32 " pixels, the limit is %d",
                         longer, limits->max_side);
    if (limits->max_ratio > 0 && longer > (uint64_t)limits->max_ratio * shorter)
        return error_set(err, ST_INVALID,
                         "aspect ratio of %" PRIu32 " x %" PRIu32 " is beyond %d to 1", width,
                         height, limits->max_ratio);
    if (limits->min_side > 0 && shorter < (uint32_t)limits->min_side)
        return error_set(err, ST_INVALID, "shorter side is %" PRIu32 " pixels, the minimum is %d",
                         shorter, limits->min_side);
    return ST_OK;
}

static enum status run(const struct decode_request *request, struct image_info *info,
                       struct image_stored *out, struct error *err)
{
    const struct image_limits *limits = request->limits;

    memset(info, 0, sizeof *info);
    info->format = image_sniff(request->encoded);
    info->exif_orientation = 1;
    if (request->encoded.len == 0)
        return error_set(err, ST_CORRUPT, "image is empty: 0 bytes");
    if (limits != NULL && limits->max_bytes > 0 && request->encoded.len > limits->max_bytes)
        return error_set(err, ST_INVALID, "encoded image has %zu bytes, the limit is %zu",
                         request->encoded.len, limits->max_bytes);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].format == info->format)
            return kinds[i].decode(request, info, out, err);
    return error_set(err, ST_CORRUPT,
                     "format is unknown: %zu bytes that are not JPEG, PNG, WebP or GIF",
                     request->encoded.len);
}

enum status image_read_info(struct bytes_view encoded, const struct image_limits *limits,
                            struct image_info *info, struct error *err)
{
    struct decode_request request = {.encoded = encoded, .limits = limits};
    enum status st = run(&request, info, NULL, err);

    if (st == ST_OK)
        info->exif_orientation = exif_orientation(encoded, info->format);
    return st;
}

enum status image_decode(struct bytes_view encoded, const struct image_limits *limits,
                         struct arena *arena, struct image *out, struct error *err)
{
    return image_decode_reduced(encoded, limits, 1, arena, out, err);
}

enum status image_decode_reduced(struct bytes_view encoded, const struct image_limits *limits,
                                 int reduction, struct arena *arena, struct image *out,
                                 struct error *err)
{
    struct decode_request request = {
        .encoded = encoded, .limits = limits, .arena = arena, .reduction = reduction};
    struct image_info info;
    struct image_stored stored;
    enum status st = run(&request, &info, &stored, err);

    return st == ST_OK ? image_stored_to_rgb(&stored, arena, out, err) : st;
}

enum status image_decode_stored(struct bytes_view encoded, const struct image_limits *limits,
                                struct arena *arena, struct image_stored *out, struct error *err)
{
    struct decode_request request = {
        .encoded = encoded, .limits = limits, .arena = arena, .keep_alpha = true, .reduction = 1};
    struct image_info info;

    return run(&request, &info, out, err);
}

static uint8_t muldiv255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;

    return (uint8_t)(((t >> 8) + t) >> 8);
}

/* In place: RGB is never longer than what it replaces here. */
static void shrink_to_rgb(struct image_stored *stored)
{
    struct image *image = &stored->image;
    size_t n_pixels = (size_t)image->width * (size_t)image->height;
    uint8_t *to = image->pixels;

    for (size_t i = 0; i < n_pixels; i++, to += 3) {
        const uint8_t *from = image->pixels + i * 4;
        unsigned light = 255u - from[3];

        for (int c = 0; c < 3; c++)
            to[c] = stored->mode == IMAGE_MODE_CMYK ? (uint8_t)(light - muldiv255(from[c], light))
                                                    : from[c];
    }
    image->channels = 3;
    stored->mode = IMAGE_MODE_RGB;
}

enum status image_stored_to_rgb(struct image_stored *stored, struct arena *arena, struct image *out,
                                struct error *err)
{
    const struct image *image = &stored->image;
    size_t n_pixels = (size_t)image->width * (size_t)image->height;
    size_t channels = (size_t)image->channels;
    enum status st;

    if (channels == 4)
        shrink_to_rgb(stored);
    if (stored->mode == IMAGE_MODE_RGB) {
        *out = stored->image;
        return ST_OK;
    }
    st = image_alloc(out, image->width, image->height, 3, arena, err);
    if (st != ST_OK)
        return st;
    if (stored->mode == IMAGE_MODE_INDEXED) {
        for (size_t i = 0; i < n_pixels; i++)
            memcpy(out->pixels + i * 3, stored->palette[image->pixels[i]], 3);
        return ST_OK;
    }
    for (size_t i = 0; i < n_pixels; i++)
        memset(out->pixels + i * 3, image->pixels[i * channels], 3);
    return ST_OK;
}
