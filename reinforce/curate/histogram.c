#include "reinforce/curate/histogram.h"

#include <math.h>
#include <string.h>

enum { BAR_CHARACTERS = 40 };

/* Of the picture, in its own units. */
enum {
    PANEL_WIDTH = 720,
    PANEL_HEIGHT = 200,
    LEFT = 60,
    RIGHT = 20,
    TOP = 34,
    BOTTOM = 30,
    PLOT_WIDTH = PANEL_WIDTH - LEFT - RIGHT,
    PLOT_HEIGHT = PANEL_HEIGHT - TOP - BOTTOM
};

static size_t bin_of(const struct histogram *h, double score)
{
    double at = h->width > 0 ? floor((score - h->low) / h->width) : 0;

    return MIN((size_t)MAX(at, 0.0), h->n_bins - 1);
}

/* Whole numbers get bins of whole numbers, or some would hold two of them and others one. */
static void choose_bins(struct histogram *h, bool whole)
{
    double range = h->high - h->low;

    if (whole) {
        h->width = MAX(ceil((range + 1) / HISTOGRAM_BINS), 1.0);
        h->n_bins = (size_t)floor(range / h->width) + 1;
    } else {
        h->width = range / HISTOGRAM_BINS;
        h->n_bins = range > 0 ? HISTOGRAM_BINS : 1;
    }
}

void histogram_fill(struct histogram *histogram, const char *name, const float *scores,
                    const bool *kept, size_t n)
{
    bool any = false, whole = true;

    memset(histogram, 0, sizeof *histogram);
    histogram->name = name;
    for (size_t i = 0; i < n; i++) {
        double score = (double)scores[i];

        if (!isfinite(score))
            continue;
        histogram->low = any ? fmin(histogram->low, score) : score;
        histogram->high = any ? fmax(histogram->high, score) : score;
        any = true;
        whole = whole && score == floor(score);
    }
    choose_bins(histogram, whole);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(scores[i]))
            histogram->n_missing++;
        else if (kept[i])
            histogram->kept[bin_of(histogram, (double)scores[i])]++;
        else
            histogram->dropped[bin_of(histogram, (double)scores[i])]++;
    }
}

void histogram_mark(struct histogram *histogram, float bound)
{
    if (!isfinite(bound) || histogram->n_bounds == HISTOGRAM_MAX_BOUNDS)
        return;
    for (size_t i = 0; i < histogram->n_bounds; i++)
        if (histogram->bounds[i] == bound)
            return;
    histogram->bounds[histogram->n_bounds++] = bound;
}

static size_t highest(const struct histogram *h)
{
    size_t most = 1;

    for (size_t b = 0; b < HISTOGRAM_BINS; b++)
        most = MAX(most, h->kept[b] + h->dropped[b]);
    return most;
}

static double begin_of(const struct histogram *h, size_t bin)
{
    return h->low + h->width * (double)bin;
}

static enum status write_bin(const struct histogram *h, size_t b, size_t most, struct byte_buf *out,
                             struct error *err)
{
    size_t all = h->kept[b] + h->dropped[b];
    /* Whatever there is at all is one character. */
    size_t bar = (all * BAR_CHARACTERS + most - 1) / most;
    size_t kept = all > 0 ? (h->kept[b] * bar + all / 2) / all : 0;
    enum status st = byte_buf_printf(out, err, "  %10.5g |", begin_of(h, b));

    for (size_t i = 0; i < BAR_CHARACTERS && st == ST_OK; i++)
        st = byte_buf_append(out, i < kept ? "#" : i < bar ? "." : " ", 1, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, " %10zu %10zu", h->kept[b], h->dropped[b]);
    for (size_t i = 0; i < h->n_bounds && st == ST_OK; i++) {
        double bound = (double)h->bounds[i];

        if (bound >= h->low && bound <= h->high && bin_of(h, bound) == b)
            st = byte_buf_printf(out, err, " < %.6g", bound);
    }
    return st == ST_OK ? byte_buf_append_string(out, "\n", err) : st;
}

enum status histogram_write_text(const struct histogram *histogram, struct byte_buf *out,
                                 struct error *err)
{
    size_t most = highest(histogram);
    enum status st = byte_buf_printf(out, err, "%s\n  %10s  %-*s %10s %10s\n", histogram->name,
                                     "from", BAR_CHARACTERS, "", "kept", "dropped");

    for (size_t b = 0; b < histogram->n_bins && st == ST_OK; b++)
        st = write_bin(histogram, b, most, out, err);
    if (st == ST_OK && histogram->n_missing > 0)
        st = byte_buf_printf(out, err, "  %zu samples have none\n", histogram->n_missing);
    return st;
}

/* Text between tags. */
static enum status write_escaped(const char *text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (; *text != '\0' && st == ST_OK; text++)
        st = *text == '<'   ? byte_buf_append_string(out, "&lt;", err)
             : *text == '&' ? byte_buf_append_string(out, "&amp;", err)
                            : byte_buf_append(out, text, 1, err);
    return st;
}

static enum status write_bar(double x, double width, double from, double height, const char *colour,
                             struct byte_buf *out, struct error *err)
{
    return height > 0
               ? byte_buf_printf(out, err,
                                 "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                                 "fill=\"%s\"/>\n",
                                 x, TOP + PLOT_HEIGHT - from - height, width, height, colour)
               : ST_OK;
}

static enum status write_plot(const struct histogram *h, struct byte_buf *out, struct error *err)
{
    double most = (double)highest(h), width = (double)PLOT_WIDTH / (double)h->n_bins;
    enum status st = ST_OK;

    for (size_t b = 0; b < h->n_bins && st == ST_OK; b++) {
        double kept = (double)h->kept[b] / most * PLOT_HEIGHT;
        double dropped = (double)h->dropped[b] / most * PLOT_HEIGHT;
        double x = LEFT + width * (double)b;

        st = write_bar(x, width - 1, 0, kept, "#2a78c2", out, err);
        if (st == ST_OK)
            st = write_bar(x, width - 1, kept, dropped, "#c9ccd1", out, err);
    }
    for (size_t i = 0; i < h->n_bounds && st == ST_OK; i++) {
        double bound = (double)h->bounds[i];

        if (h->high > h->low && bound >= h->low && bound <= h->high)
            st = byte_buf_printf(
                out, err,
                "<path d=\"M%.1f %d v%d\" stroke=\"#c0392b\" stroke-dasharray=\"4 3\"/>\n",
                LEFT + (bound - h->low) / h->width * width, TOP, PLOT_HEIGHT);
    }
    return st;
}

static enum status write_panel(const struct histogram *h, size_t i, struct byte_buf *out,
                               struct error *err)
{
    enum status st = byte_buf_printf(out, err,
                                     "<g transform=\"translate(0 %zu)\">\n"
                                     "<text x=\"%d\" y=\"20\" font-weight=\"bold\">",
                                     i * PANEL_HEIGHT, LEFT);

    if (st == ST_OK)
        st = write_escaped(h->name, out, err);
    if (st == ST_OK)
        st = byte_buf_append_string(out, "</text>\n", err);
    if (st == ST_OK)
        st = write_plot(h, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err,
                             "<path d=\"M%d %d h%d\" stroke=\"#333\"/>\n"
                             "<text x=\"%d\" y=\"%d\">%.6g</text>\n"
                             "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.6g</text>\n"
                             "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%zu</text>\n"
                             "</g>\n",
                             LEFT, TOP + PLOT_HEIGHT, PLOT_WIDTH, LEFT, PANEL_HEIGHT - 12, h->low,
                             LEFT + PLOT_WIDTH, PANEL_HEIGHT - 12, h->high, LEFT - 6, TOP + 10,
                             highest(h));
    return st;
}

enum status histogram_write_svg(const struct histogram *histograms, size_t n, struct byte_buf *out,
                                struct error *err)
{
    enum status st =
        byte_buf_printf(out, err,
                        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
                        "font-family=\"sans-serif\" font-size=\"12\">\n"
                        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                        PANEL_WIDTH, n * PANEL_HEIGHT + BOTTOM);

    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = write_panel(&histograms[i], i, out, err);
    if (st == ST_OK)
        st = byte_buf_printf(out, err,
                             "<text x=\"%d\" y=\"%zu\"><tspan fill=\"#2a78c2\">kept</tspan> "
                             "<tspan fill=\"#888\">dropped</tspan> "
                             "<tspan fill=\"#c0392b\">threshold</tspan></text>\n</svg>\n",
                             LEFT, n * PANEL_HEIGHT + 16);
    return st;
}
