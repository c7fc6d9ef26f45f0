/* Encoded bytes to 8-bit RGB, by the rules of Pillow's Image.open(...).convert("RGB"). */
#ifndef REINFORCE_IMAGE_DECODE_H
#define REINFORCE_IMAGE_DECODE_H

#include "reinforce/base/bytes.h"
#include "reinforce/image/image.h"

/** Checked from the header, before anything is allocated. All are inclusive upper bounds; 0 means
 * no limit. */
struct image_limits {
    size_t max_bytes;  /* encoded */
    size_t max_pixels; /* width * height */
    int max_side;      /* longer side, pixels */
    int max_ratio;     /* longer side / shorter side */
    int min_side;      /* shorter side must be at least this */
};

enum image_format {
    IMAGE_FORMAT_UNKNOWN = 0,
    IMAGE_FORMAT_JPEG = 1,
    IMAGE_FORMAT_PNG = 2,
    IMAGE_FORMAT_WEBP = 3,
    IMAGE_FORMAT_GIF = 4,
};

/** What the header says. `mode` is Pillow's name: "1", "L", "LA", "P", "RGB", "RGBA", "CMYK",
 * "I;16". */
struct image_info {
    enum image_format format;
    int width, height;
    char mode[8];
    int exif_orientation; /* 1 when absent */
};

/** By magic bytes. */
enum image_format image_sniff(struct bytes_view encoded);

/** File extension that WebDataset readers expect, without the dot: "jpg", "png", "webp", "gif";
 * NULL if unknown. */
const char *image_format_extension(enum image_format format);

/** Reads the header only. ST_CORRUPT: empty, unknown or broken; ST_INVALID: past a limit (the
 * message says which). `limits` may be NULL. */
NODISCARD enum status image_read_info(struct bytes_view encoded, const struct image_limits *limits,
                                      struct image_info *info, struct error *err);

/**
 * Decodes to RGB [H, W, 3] in `arena`. EXIF orientation and colour profiles are ignored, as the
 * trainers do. ST_CORRUPT: undecodable or truncated; ST_INVALID: past a limit; ST_NO_MEMORY: the
 * arena is too small. `limits` may be NULL.
 */
NODISCARD enum status image_decode(struct bytes_view encoded, const struct image_limits *limits,
                                   struct arena *arena, struct image *out, struct error *err);

/**
 * As image_decode(), but a JPEG comes at 1/reduction of its sides, rounded up: 1, 2 or 4. Pixels
 * are those that libjpeg-turbo has at that scale, and Pillow after draft(). Other formats come
 * whole.
 */
NODISCARD enum status image_decode_reduced(struct bytes_view encoded,
                                           const struct image_limits *limits, int reduction,
                                           struct arena *arena, struct image *out,
                                           struct error *err);

/** What the channels of a stored image mean. */
enum image_mode {
    IMAGE_MODE_L,       /* [H, W, 1]; also 16-bit grey, clipped to 255 as Pillow does */
    IMAGE_MODE_BILEVEL, /* [H, W, 1], 0 or 255; Pillow's "1" */
    IMAGE_MODE_INDEXED, /* [H, W, 1], indices into `palette`; Pillow's "P" */
    IMAGE_MODE_LA,      /* [H, W, 2] */
    IMAGE_MODE_RGB,     /* [H, W, 3] */
    IMAGE_MODE_RGBA,    /* [H, W, 4] */
    IMAGE_MODE_CMYK,    /* [H, W, 4], 255 is full ink */
};

/** An image in the mode its file has, for transforms that come before the conversion to RGB. */
struct image_stored {
    struct image image;
    enum image_mode mode;
    uint8_t palette[256][3];
};

/** As image_decode(), without the conversion. Grey JPEG comes as RGB, which changes no result. */
NODISCARD enum status image_decode_stored(struct bytes_view encoded,
                                          const struct image_limits *limits, struct arena *arena,
                                          struct image_stored *out, struct error *err);

/**
 * Pillow's convert("RGB"): grey is replicated, palettes are looked up, alpha is dropped, ink
 * becomes light. `stored` is used up: out may share its pixels.
 */
NODISCARD enum status image_stored_to_rgb(struct image_stored *stored, struct arena *arena,
                                          struct image *out, struct error *err);

#endif
