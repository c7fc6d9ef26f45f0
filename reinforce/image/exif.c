#include "reinforce/image/exif.h"

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, IFD_ENTRY_BYTES = 12 };

static bool within(struct bytes_view bytes, size_t at, size_t len)
{
    return at <= bytes.len && len <= bytes.len - at;
}

static uint32_t get(struct bytes_view bytes, size_t at, size_t n_bytes, bool big_endian)
{
    uint32_t value = 0;

    for (size_t i = 0; i < n_bytes; i++)
        value |= (uint32_t)bytes.data[at + i] << 8 * (big_endian ? n_bytes - 1 - i : i);
    return value;
}

static struct bytes_view part(struct bytes_view bytes, size_t at, size_t len)
{
    return within(bytes, at, len) ? bytes_view_of(bytes.data + at, len) : bytes_view_of(NULL, 0);
}

/* The TIFF structure behind the marker: "II*\0" or "MM\0*", then where the first directory is. */
static int tiff_orientation(struct bytes_view tiff)
{
    bool big_endian;
    size_t at;
    uint32_t n_entries;

    if (!within(tiff, 0, 8))
        return 1;
    big_endian = tiff.data[0] == 'M';
    if (tiff.data[0] != tiff.data[1] || (!big_endian && tiff.data[0] != 'I') ||
        get(tiff, 2, 2, big_endian) != 42)
        return 1;
    at = get(tiff, 4, 4, big_endian);
    if (!within(tiff, at, 2))
        return 1;
    n_entries = get(tiff, at, 2, big_endian);
    for (at += 2; n_entries > 0 && within(tiff, at, IFD_ENTRY_BYTES);
         n_entries--, at += IFD_ENTRY_BYTES)
        if (get(tiff, at, 2, big_endian) == TAG_ORIENTATION &&
            get(tiff, at + 2, 2, big_endian) == TYPE_SHORT) {
            uint32_t value = get(tiff, at + 8, 2, big_endian);

            return value >= 1 && value <= 8 ? (int)value : 1;
        }
    return 1;
}

/* "Exif\0\0" stands before the TIFF structure in JPEG, and sometimes in WebP. */
static struct bytes_view without_prefix(struct bytes_view exif)
{
    if (within(exif, 0, 6) && memcmp(exif.data, "Exif\0\0", 6) == 0)
        return part(exif, 6, exif.len - 6);
    return exif;
}

static struct bytes_view find_in_jpeg(struct bytes_view jpeg)
{
    size_t at = 2;

    while (within(jpeg, at, 4) && jpeg.data[at] == 0xFF) {
        uint8_t marker = jpeg.data[at + 1];
        size_t len = get(jpeg, at + 2, 2, true); /* counts itself */

        if (marker == 0xFF) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0xDA || marker == 0xD9 || len < 2) /* pixels, or the end */
            break;
        if (marker == 0xE1 && within(jpeg, at + 4, 6) &&
            memcmp(jpeg.data + at + 4, "Exif\0\0", 6) == 0)
            return part(jpeg, at + 4, len - 2);
        at += 2 + len;
    }
    return bytes_view_of(NULL, 0);
}

static struct bytes_view find_in_png(struct bytes_view png)
{
    size_t at = 8;

    while (within(png, at, 8)) {
        size_t len = get(png, at, 4, true);

        if (memcmp(png.data + at + 4, "eXIf", 4) == 0)
            return part(png, at + 8, len);
        at += len + 12;
    }
    return bytes_view_of(NULL, 0);
}

static struct bytes_view find_in_webp(struct bytes_view webp)
{
    size_t at = 12;

    while (within(webp, at, 8)) {
        size_t len = get(webp, at + 4, 4, false);

        if (memcmp(webp.data + at, "EXIF", 4) == 0)
            return part(webp, at + 8, len);
        at += 8 + len + len % 2;
    }
    return bytes_view_of(NULL, 0);
}

int exif_orientation(struct bytes_view encoded, enum image_format format)
{
    switch (format) {
    case IMAGE_FORMAT_JPEG:
        return tiff_orientation(without_prefix(find_in_jpeg(encoded)));
    case IMAGE_FORMAT_PNG:
        return tiff_orientation(without_prefix(find_in_png(encoded)));
    case IMAGE_FORMAT_WEBP:
        return tiff_orientation(without_prefix(find_in_webp(encoded)));
    case IMAGE_FORMAT_GIF:
    case IMAGE_FORMAT_UNKNOWN:
        break;
    }
    return 1;
}

enum status image_apply_orientation(const struct image *src, int orientation, struct arena *arena,
                                    struct image *out, struct error *err)
{
    bool swaps = orientation >= 5; /* rows become columns */
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    size_t channels = (size_t)src->channels;
    enum status st;

    *out = *src;
    if (orientation < 2 || orientation > 8)
        return ST_OK;
    st = image_alloc(out, swaps ? src->height : src->width, swaps ? src->width : src->height,
                     src->channels, arena, err);
    for (int y = 0; y < out->height && st == ST_OK; y++)
        for (int x = 0; x < out->width; x++) {
            int from_x = swaps ? y : x, from_y = swaps ? x : y;

            if (from_right)
                from_x = src->width - 1 - from_x;
            if (from_bottom)
                from_y = src->height - 1 - from_y;
            memcpy(out->pixels + ((size_t)y * (size_t)out->width + (size_t)x) * channels,
                   src->pixels + ((size_t)from_y * (size_t)src->width + (size_t)from_x) * channels,
                   channels);
        }
    return st;
}
