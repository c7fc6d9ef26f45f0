/* Four MCUs at a time: their coefficients to groups of four blocks side by side, these to rows of
 * samples, which hold one row of MCUs and the row above it. What libjpeg tolerates but warns of is
 * left to libjpeg. */
#include "reinforce/image/jpeg_baseline.h"

#include "reinforce/image/jpeg_huffman.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jpeglib.h needs size_t and FILE. */
#include <jpeglib.h>

enum {
    COMPONENTS = 3,
    TABLES = 4,
    BATCH = JPEG_GROUP_BLOCKS,
    ROW_BYTES = JPEG_ROW_SLACK,
    RST0 = 0xd0,
    GREY = 128
};

struct component {
    int h, v;          /* blocks of an MCU */
    int side;          /* samples of a block: 8, 4 or 2 */
    int width, height; /* in samples */
    uint16_t quant[64];
    const struct jpeg_codes *dc, *ac;
    int16_t *groups; /* [v, h] */
    uint8_t *plane;  /* row 0 of the current MCUs; row -1 is the last one of those above */
    size_t stride;
};

struct scan {
    int n_components; /* 1: grey */
    struct component components[COMPONENTS];
    struct jpeg_codes dc_codes[TABLES], ac_codes[TABLES]; /* both chromas mostly share theirs */
    const struct jpeg_pixels *kernel;
    struct image *out;
    int chroma_h, chroma_v; /* samples of luma to one of chroma, along a row and down */
    int mcu_columns, mcu_rows;
    int16_t *groups;
    size_t n_groups;
    struct jpeg_block blocks[BATCH * JPEG_MCU_BLOCKS];
    size_t blocks_per_mcu;
    uint8_t *chroma[COMPONENTS]; /* a row of it, upsampled */

    struct jpeg_bits bits;
    uint8_t *clean;
    const uint8_t *at, *end; /* of the file, behind the current segment */
    int marker;              /* that ended the segment */
    unsigned interval;       /* MCUs from restart to restart, 0: none */
    unsigned until_restart;
    int next_restart;
    int32_t dc[COMPONENTS];
};

static bool is_our_kind(const struct jpeg_decompress_struct *decoder, int reduction)
{
    const jpeg_component_info *parts = decoder->comp_info;
    int n = decoder->num_components;

    if (decoder->progressive_mode || decoder->arith_code || decoder->data_precision != 8 ||
        decoder->comps_in_scan != n || decoder->Ss != 0 || decoder->Se != 63 || decoder->Ah != 0 ||
        decoder->Al != 0)
        return false;
    if (!(n == COMPONENTS && decoder->jpeg_color_space == JCS_YCbCr) &&
        !(n == 1 && decoder->jpeg_color_space == JCS_GRAYSCALE))
        return false;
    for (int c = 0; c < n; c++)
        if (decoder->cur_comp_info[c] != &parts[c] || parts[c].quant_tbl_no >= TABLES ||
            parts[c].dc_tbl_no >= TABLES || parts[c].ac_tbl_no >= TABLES ||
            decoder->quant_tbl_ptrs[parts[c].quant_tbl_no] == NULL ||
            decoder->dc_huff_tbl_ptrs[parts[c].dc_tbl_no] == NULL ||
            decoder->ac_huff_tbl_ptrs[parts[c].ac_tbl_no] == NULL ||
            (c > 0 && (parts[c].h_samp_factor != 1 || parts[c].v_samp_factor != 1)))
            return false;
    return n == 1 ||
           (parts[0].h_samp_factor <= 2 && parts[0].v_samp_factor <= parts[0].h_samp_factor &&
            /* libjpeg repeats samples of narrower images */
            (parts[0].h_samp_factor == 1 || decoder->image_width > 4 * (unsigned)reduction));
}

static bool read_codes(struct jpeg_codes codes[TABLES], JHUFF_TBL *const tables[TABLES],
                       unsigned used, bool is_dc)
{
    for (unsigned t = 0; t < TABLES; t++)
        if ((used >> t & 1) != 0 &&
            !jpeg_codes_init(&codes[t], tables[t]->bits, tables[t]->huffval, is_dc))
            return false;
    return true;
}

static bool read_tables(const struct jpeg_decompress_struct *decoder, struct scan *scan)
{
    unsigned dc = 0, ac = 0;

    scan->n_components = decoder->num_components;
    for (int c = 0; c < scan->n_components; c++) {
        struct component *to = &scan->components[c];
        const jpeg_component_info *from = &decoder->comp_info[c];

        /* of one component alone they say nothing */
        to->h = scan->n_components == 1 ? 1 : from->h_samp_factor;
        to->v = scan->n_components == 1 ? 1 : from->v_samp_factor;
        for (int i = 0; i < 64; i++)
            to->quant[i] = decoder->quant_tbl_ptrs[from->quant_tbl_no]->quantval[i];
        to->dc = &scan->dc_codes[from->dc_tbl_no];
        to->ac = &scan->ac_codes[from->ac_tbl_no];
        dc |= 1u << from->dc_tbl_no;
        ac |= 1u << from->ac_tbl_no;
    }
    return read_codes(scan->dc_codes, decoder->dc_huff_tbl_ptrs, dc, true) &&
           read_codes(scan->ac_codes, decoder->ac_huff_tbl_ptrs, ac, false);
}

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

/* Where each block of four MCUs goes. */
static void place_blocks(struct scan *scan)
{
    struct jpeg_block *block = scan->blocks;
    int16_t *groups = scan->groups;

    for (int c = 0; c < scan->n_components; c++) {
        scan->components[c].groups = groups;
        groups += scan->components[c].h * scan->components[c].v * JPEG_GROUP_STRIDE;
    }
    for (int m = 0; m < BATCH; m++)
        for (int c = 0; c < scan->n_components; c++) {
            const struct component *part = &scan->components[c];

            for (int y = 0; y < part->v; y++)
                for (int x = m * part->h; x < (m + 1) * part->h; x++)
                    *block++ = (struct jpeg_block){
                        part->groups + (y * part->h + x / JPEG_GROUP_BLOCKS) * JPEG_GROUP_STRIDE +
                            x % JPEG_GROUP_BLOCKS * 8,
                        part->dc, part->ac, c};
        }
    scan->blocks_per_mcu = (size_t)(block - scan->blocks) / BATCH;
}

static size_t round_up(size_t n)
{
    return (n + ROW_BYTES - 1) / ROW_BYTES * ROW_BYTES;
}

/* The next `bytes` of `memory`, if there is any; counts them in any case. */
static uint8_t *reserve(uint8_t *memory, size_t *used, size_t bytes)
{
    uint8_t *at = memory != NULL ? memory + *used : NULL;

    *used += bytes;
    return at;
}

/* Lays the scan's buffers out in `memory`, or, with NULL, only tells how many bytes they take. */
static size_t lay_out(struct scan *scan, uint8_t *memory)
{
    size_t used = 0;

    for (int c = 0; c < scan->n_components; c++) {
        struct component *part = &scan->components[c];

        part->plane = reserve(memory, &used, part->stride * (size_t)(part->side * part->v + 1));
        if (part->plane != NULL)
            part->plane += part->stride + ROW_BYTES;
    }
    for (int c = 1; c < COMPONENTS; c++)
        scan->chroma[c] = reserve(memory, &used, scan->components[0].stride);
    scan->groups = (int16_t *)(void *)reserve(
        memory, &used, round_up(scan->n_groups * JPEG_GROUP_STRIDE * sizeof *scan->groups));
    scan->clean = reserve(memory, &used, round_up((size_t)(scan->end - scan->at) + JPEG_PAD_BYTES));
    return used;
}

/* Chroma at half of luma's sides takes less of a reduction, and nothing is left to upsample. */
static void measure(struct scan *scan, int reduction)
{
    struct component *luma = &scan->components[0];
    int halves = reduction > 1 && luma->h == 2 && luma->v == 2 ? 2 : 1;

    scan->chroma_h = luma->h / halves;
    scan->chroma_v = luma->v / halves;
    luma->side = 8 / reduction;
    scan->mcu_columns = ceil_div(scan->out->width, luma->side * luma->h);
    scan->mcu_rows = ceil_div(scan->out->height, luma->side * luma->v);
    scan->n_groups = (size_t)(luma->h * luma->v + scan->n_components - 1);
    for (int c = 0; c < scan->n_components; c++) {
        struct component *part = &scan->components[c];
        int row_of_mcus, batches = ceil_div(scan->mcu_columns, BATCH);

        part->side = c == 0 ? luma->side : luma->side * halves;
        part->width = ceil_div(scan->out->width, c == 0 ? 1 : scan->chroma_h);
        part->height = ceil_div(scan->out->height, c == 0 ? 1 : scan->chroma_v);
        row_of_mcus = batches * BATCH * part->side * part->h;
        /* before the first sample and behind the last */
        part->stride = round_up((size_t)row_of_mcus) + 2 * ROW_BYTES;
    }
}

static void next_segment(struct scan *scan)
{
    scan->marker = jpeg_bits_init(&scan->bits, &scan->at, scan->end, scan->clean);
    scan->until_restart = scan->interval;
    memset(scan->dc, 0, sizeof scan->dc);
}

static bool restart(struct scan *scan)
{
    if (jpeg_bits_overran(&scan->bits) || scan->marker != RST0 + scan->next_restart)
        return false;
    scan->next_restart = (scan->next_restart + 1) % 8;
    next_segment(scan);
    return true;
}

static bool decode_mcus(struct scan *scan, int n)
{
    for (int m = 0; m < n; m++) {
        if (scan->interval > 0 && scan->until_restart == 0 && !restart(scan))
            return false;
        scan->until_restart--;
        if (!jpeg_blocks_decode(&scan->bits, scan->blocks + (size_t)m * scan->blocks_per_mcu,
                                scan->blocks_per_mcu, scan->dc) ||
            jpeg_bits_overran(&scan->bits))
            return false;
    }
    return true;
}

static bool transform(const struct scan *scan, int first_mcu)
{
    for (int c = 0; c < scan->n_components; c++) {
        const struct component *part = &scan->components[c];
        bool (*idct)(const int16_t *group, const uint16_t *quant, uint8_t *to, size_t stride) =
            part->side == 8   ? scan->kernel->idct
            : part->side == 4 ? scan->kernel->idct_4
                              : scan->kernel->idct_2;

        for (int g = 0; g < part->h * part->v; g++) {
            int x = part->side * (first_mcu * part->h + g % part->h * JPEG_GROUP_BLOCKS);
            int y = part->side * (g / part->h);

            if (!idct(part->groups + g * JPEG_GROUP_STRIDE, part->quant,
                      part->plane + (size_t)y * part->stride + x, part->stride))
                return false;
        }
    }
    return true;
}

static uint8_t *row_of(const struct component *part, int y)
{
    return part->plane + (ptrdiff_t)y * (ptrdiff_t)part->stride;
}

/* Columns beyond the image equal the last ones inside. */
static void extend_rows(const struct component *part)
{
    for (int y = 0; y < part->side * part->v; y++) {
        uint8_t *row = row_of(part, y);

        row[-1] = row[0];
        row[part->width] = row[part->width - 1];
    }
}

/* Chroma of the image's row y, as wide as luma. */
static const uint8_t *chroma_row(const struct scan *scan, int c, int mcu_row, int y)
{
    const struct component *part = &scan->components[c];
    int near = y / scan->chroma_v, far = y % 2 == 0 ? near - 1 : near + 1;
    int first; /* of chroma, of which an MCU has one block */

    if (scan->n_components == 1)
        return scan->chroma[c];
    first = mcu_row * part->side;
    if (scan->chroma_h == 1)
        return row_of(part, y - first);
    if (scan->chroma_v == 1) {
        scan->kernel->upsample_2x1(row_of(part, y - first), (size_t)part->width, scan->chroma[c]);
    } else {
        far = MIN(MAX(far, 0), part->height - 1);
        scan->kernel->upsample_2x2(row_of(part, near - first), row_of(part, far - first),
                                   (size_t)part->width, scan->chroma[c]);
    }
    return scan->chroma[c];
}

/* Rows of the image that are known with this row of MCUs. The last one needs chroma of the next
 * where chroma is upsampled down. */
static void write_rows(const struct scan *scan, int mcu_row)
{
    const struct component *luma = &scan->components[0];
    int rows = luma->side * luma->v, first = mcu_row * rows, late = scan->chroma_v - 1;
    int begin = mcu_row == 0 ? 0 : first - late;
    int end = mcu_row == scan->mcu_rows - 1 ? scan->out->height : first + rows - late;

    for (int c = 1; c < scan->n_components; c++)
        extend_rows(&scan->components[c]);
    for (int y = begin; y < end; y++)
        scan->kernel->to_rgb(row_of(luma, y - first), chroma_row(scan, 1, mcu_row, y),
                             chroma_row(scan, 2, mcu_row, y), (size_t)scan->out->width,
                             scan->out->pixels + (size_t)y * (size_t)scan->out->width * 3);
    for (int c = 0; c < scan->n_components; c++) {
        const struct component *part = &scan->components[c];

        memcpy(row_of(part, -1) - 1, row_of(part, part->side * part->v - 1) - 1,
               (size_t)part->width + 2);
    }
}

static bool decode_scan(struct scan *scan)
{
    next_segment(scan);
    for (int y = 0; y < scan->mcu_rows; y++) {
        for (int x = 0; x < scan->mcu_columns; x += BATCH) {
            memset(scan->groups, 0, scan->n_groups * JPEG_GROUP_STRIDE * sizeof *scan->groups);
            if (!decode_mcus(scan, MIN(BATCH, scan->mcu_columns - x)) || !transform(scan, x))
                return false;
        }
        write_rows(scan, y);
    }
    return scan->marker != 0; /* at the end of a file libjpeg may want more bytes than we */
}

bool jpeg_baseline_decode(const struct jpeg_decompress_struct *decoder,
                          const struct jpeg_pixels *kernel, int reduction, struct image *out)
{
    size_t n_pixels = (size_t)decoder->image_width * decoder->image_height;
    struct scan *scan;
    uint8_t *memory = NULL;
    bool ok = false;

    if (!is_our_kind(decoder, reduction) || decoder->src->bytes_in_buffer > 3 * n_pixels)
        return false;
    scan = malloc(sizeof *scan);
    if (scan == NULL || !read_tables(decoder, scan))
        goto out;
    scan->kernel = kernel;
    scan->out = out;
    scan->interval = decoder->restart_interval;
    scan->next_restart = 0;
    scan->at = decoder->src->next_input_byte;
    scan->end = scan->at + decoder->src->bytes_in_buffer;
    measure(scan, reduction);
    memory = malloc(lay_out(scan, NULL));
    if (memory == NULL)
        goto out;
    (void)lay_out(scan, memory);
    for (int c = 1; c < COMPONENTS; c++)
        memset(scan->chroma[c], GREY, scan->components[0].stride);
    place_blocks(scan);
    ok = decode_scan(scan);
out:
    free(memory);
    free(scan);
    return ok;
}
