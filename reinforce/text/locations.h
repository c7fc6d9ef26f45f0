/* The places that PaliGemma names in its answers to `detect` and `segment`: boxes and mask codes.
 *
 *   <loc0100><loc0200><loc0300><loc0400> cat ; <loc...>x4<seg000>x16 dog
 *
 * Four of <loc0000>..<loc1023>: top, left, bottom, right in 1024ths of the image; for `segment`
 * sixteen of <seg000>..<seg127> behind them: indices into the mask decoder's codebook; then the
 * name. Source: PaliGemma, section 3.2.5.
 */
#ifndef REINFORCE_TEXT_LOCATIONS_H
#define REINFORCE_TEXT_LOCATIONS_H

#include "reinforce/base/arena.h"
#include "reinforce/base/json.h"

#include <stdint.h>

enum { LOCATION_BINS = 1024, LOCATION_MASK_CODES = 16, LOCATION_CODES = 128 };

struct location {
    uint16_t top, left, bottom, right; /* in 1024ths of height and width, as said */
    bool has_mask;
    uint8_t mask[LOCATION_MASK_CODES]; /* < LOCATION_CODES */
    struct bytes_view label;           /* trimmed; within the text; may be empty */
};

/**
 * The places of `text` in their order; *out [*n] in `arena`, labels borrow from `text`. What is no
 * place is passed over: a model may say anything. A text without places gives none.
 */
NODISCARD enum status locations_parse(struct bytes_view text, struct arena *arena,
                                      struct location **out, size_t *n, struct error *err);

/**
 * The same as [{"box": [top, left, bottom, right], "label": "cat", "mask": [...]}, ...], mask only
 * where there is one. *out is the caller's; NULL: the text names no place. ST_NO_MEMORY; labels
 * that are not UTF-8 are ST_INVALID.
 */
NODISCARD enum status locations_json(struct bytes_view text, struct arena *arena, json_t **out,
                                     struct error *err);

#endif
