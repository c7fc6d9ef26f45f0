/* Inside of jpeg_baseline.c: bits of a baseline JPEG scan to quantised coefficients. */
#ifndef REINFORCE_IMAGE_JPEG_HUFFMAN_H
#define REINFORCE_IMAGE_JPEG_HUFFMAN_H

#include "reinforce/base/bytes.h"

enum {
    JPEG_LOOKUP_BITS = 11,
    JPEG_MCU_BLOCKS = 6,   /* of 4:2:0; this decoder takes no more */
    JPEG_PAD_BYTES = 2048, /* zeros behind a segment: more than the longest MCU */

    /* Four blocks lie side by side, int16 [8 rows][4 blocks][8 columns], and behind them is room
     * for what a look-up writes past a block's end. */
    JPEG_GROUP_BLOCKS = 4,
    JPEG_GROUP_ROW = 8 * JPEG_GROUP_BLOCKS,
    JPEG_GROUP_COEFFICIENTS = 8 * JPEG_GROUP_ROW,
    JPEG_GROUP_STRIDE = JPEG_GROUP_COEFFICIENTS + JPEG_GROUP_ROW,
};

/** One Huffman table: a look-up of up to two symbols at a time, and all codes for the rest. */
struct jpeg_codes {
    uint64_t pairs[1 << JPEG_LOOKUP_BITS]; /* drawn in jpeg_huffman.c */
    uint32_t limit[17];                    /* [length]: 16 bits from here on are a longer code */
    int32_t offset[17];                    /* [length]: place of a symbol less its code */
    uint8_t symbols[256];
};

/**
 * `counts` [17] has the number of codes by length, `symbols` [256] what they mean, as libjpeg keeps
 * them. False: libjpeg would refuse the table.
 */
NODISCARD bool jpeg_codes_init(struct jpeg_codes *codes, const uint8_t *counts,
                               const uint8_t *symbols, bool is_dc);

/** A segment without stuffing, JPEG_PAD_BYTES of zeros behind it. */
struct jpeg_bits {
    uint64_t buffer; /* the next bits, first on top */
    int n;           /* of them are valid */
    const uint8_t *next, *start, *end;
};

/**
 * Copies [*at, end) up to the next marker to `clean` (with room for end - *at + JPEG_PAD_BYTES),
 * moves *at behind the marker and gives its code; 0 when there is none or it has fill bytes.
 */
int jpeg_bits_init(struct jpeg_bits *bits, const uint8_t **at, const uint8_t *end, uint8_t *clean);

/** Whether more bits were taken than the segment has. */
bool jpeg_bits_overran(const struct jpeg_bits *bits);

/** Where a block goes, and how it is written. */
struct jpeg_block {
    int16_t *to; /* its first row in a group of zeros */
    const struct jpeg_codes *dc, *ac;
    int component;
};

/** Decodes n blocks. `dc` has the last DC of each component. False: an impossible code or value. */
NODISCARD bool jpeg_blocks_decode(struct jpeg_bits *bits, const struct jpeg_block *blocks, size_t n,
                                  int32_t dc[3]);

#endif
