/* How a score is spread over a pool, as text for a terminal and as a picture. */
#ifndef REINFORCE_CURATE_HISTOGRAM_H
#define REINFORCE_CURATE_HISTOGRAM_H

#include "reinforce/base/bytes.h"

enum { HISTOGRAM_BINS = 24, HISTOGRAM_MAX_BOUNDS = 16 };

/** Counts of a score in bins of equal width from low on; plain data. */
struct histogram {
    const char *name; /* borrowed */
    double low, high; /* the smallest and the largest score; 0 and 0 when there is none */
    double width;     /* of a bin; a whole number when all scores are */
    size_t n_bins;    /* up to HISTOGRAM_BINS; 1 when all scores are equal */
    size_t kept[HISTOGRAM_BINS], dropped[HISTOGRAM_BINS];
    size_t n_missing;                   /* samples without the score */
    float bounds[HISTOGRAM_MAX_BOUNDS]; /* thresholds of rules, to be marked */
    size_t n_bounds;
};

/** Counts scores [n]; NaNs are missing. The upper end of a bin belongs to the next one, that of the
 * last to itself. */
void histogram_fill(struct histogram *histogram, const char *name, const float *scores,
                    const bool *kept, size_t n);

/** Marks a threshold; what is not finite, is marked already, or does not fit, is left out. */
void histogram_mark(struct histogram *histogram, float bound);

/** Appends a line per bin: where it begins, a bar ("#" kept, "." dropped), both counts, and "<"
 * before the thresholds in it. */
NODISCARD enum status histogram_write_text(const struct histogram *histogram, struct byte_buf *out,
                                           struct error *err);

/** Appends one SVG picture with a panel for each of n >= 1 histograms. */
NODISCARD enum status histogram_write_svg(const struct histogram *histograms, size_t n,
                                          struct byte_buf *out, struct error *err);

#endif
