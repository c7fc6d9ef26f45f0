/* Baseline JPEG as most files are, faster than libjpeg and with its pixels. */
#ifndef REINFORCE_IMAGE_JPEG_BASELINE_H
#define REINFORCE_IMAGE_JPEG_BASELINE_H

#include "reinforce/image/image.h"
#include "reinforce/image/jpeg_pixels.h"

struct jpeg_decompress_struct;

/**
 * Decodes the scan whose header `decoder` has just read from memory to `out`, RGB of the image's
 * size, or a half or quarter of its sides, rounded up, for `reduction` 1, 2 or 4; what libjpeg
 * would give with accurate integer DCT, fancy upsampling and that scale, byte for byte. False: not
 * a kind that is done here (8-bit, one Huffman coded scan, grey or YCbCr in 4:4:4, 4:2:2 or 4:2:0),
 * damaged in any way, or out of memory; `out`, which the caller has allocated, has anything then.
 * Never changes `decoder`, so that libjpeg can go on and decide. Takes memory for the scan and
 * about 30 rows, and gives it back.
 */
NODISCARD bool jpeg_baseline_decode(const struct jpeg_decompress_struct *decoder,
                                    const struct jpeg_pixels *kernel, int reduction,
                                    struct image *out);

#endif
