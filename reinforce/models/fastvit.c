#include "reinforce/models/fastvit.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/ops.h"

#include <math.h>

enum { HEAD_DIM = 32, STEM_TAPS = 3 * 3 * 3 };

/* A picture on its way through the tower, and room for what each step makes of it. */
struct picture {
    size_t side, width; /* side * side pixels of `width` channels */
    float *x, *other;   /* what it is; where the next step puts it */
    float *wide;        /* an MLP's hidden units, or q, k and v */
    struct arena *scratch;
};

static void swap(struct picture *p)
{
    float *x = p->x;

    p->x = p->other;
    p->other = x;
}

static size_t n_pixels(const struct picture *p)
{
    return p->side * p->side;
}

/* A product over channels, with GELU behind it. */
static void mix(struct picture *p, const struct linear *linear)
{
    ops_linear(p->other, p->x, p->width, linear->w, linear->b, n_pixels(p), linear->out,
               linear->in);
    ops_gelu(p->other, n_pixels(p) * linear->out);
    p->width = linear->out;
    swap(p);
}

static void convolve(struct picture *p, const struct conv_depthwise *conv)
{
    conv_depthwise_run(conv, p->x, p->side, p->side, p->other);
    p->side = conv_side(p->side, conv->stride);
    swap(p);
}

/* Channel c becomes channels 2c and 2c + 1: what a grouped convolution with two outputs sees. */
static void double_channels(struct picture *p)
{
    for (size_t i = 0; i < n_pixels(p) * p->width; i++)
        p->other[2 * i] = p->other[2 * i + 1] = p->x[i];
    p->width *= 2;
    swap(p);
}

static void mean_over_pixels(const struct picture *p, float *mean)
{
    memset(mean, 0, p->width * sizeof *mean);
    for (size_t i = 0; i < n_pixels(p); i++)
        ops_add(mean, p->x + i * p->width, p->width);
    for (size_t c = 0; c < p->width; c++)
        mean[c] /= (float)n_pixels(p);
}

static void squeeze_and_excite(struct picture *p, const struct squeeze_excite *se)
{
    float *mean = p->wide, *few = mean + p->width, *gate = few + se->reduce.out;

    if (se->reduce.w == NULL)
        return;
    mean_over_pixels(p, mean);
    ops_linear_rows(few, mean, se->reduce.w, se->reduce.b, 1, se->reduce.out, p->width);
    for (size_t i = 0; i < se->reduce.out; i++)
        few[i] = MAX(few[i], 0.0f);
    ops_linear_rows(gate, few, se->expand.w, se->expand.b, 1, p->width, se->reduce.out);
    for (size_t c = 0; c < p->width; c++)
        gate[c] = 1 / (1 + expf(-gate[c]));
    for (size_t i = 0; i < n_pixels(p); i++)
        for (size_t c = 0; c < p->width; c++)
            p->x[i * p->width + c] *= gate[c];
}

/* x += attn_out(attention(qkv(norm(x)))) */
static enum status attend(struct picture *p, const struct fastvit_block *block, struct error *err)
{
    size_t C = p->width, T = n_pixels(p);
    struct arena mark = *p->scratch;
    const struct attention attention = {.q = p->wide,
                                        .k = p->wide + C,
                                        .v = p->wide + 2 * C,
                                        .q_stride = 3 * C,
                                        .kv_stride = 3 * C,
                                        .Tq = T,
                                        .Tk = T,
                                        .n_heads = C / HEAD_DIM,
                                        .head_dim = HEAD_DIM};
    const float *normed = p->x;
    enum status st;

    if (block->norm.w != NULL) {
        ops_layer_norm(p->other, p->x, block->norm.w, block->norm.b, 1e-5f, T, C);
        normed = p->other;
    }
    ops_linear(p->wide, normed, C, block->qkv.w, block->qkv.b, T, 3 * C, C);
    st = attention_run(&attention, p->other, p->scratch, err);
    arena_rewind(p->scratch, &mark);
    if (st == ST_OK) {
        ops_linear(p->wide, p->other, C, block->attn_out.w, block->attn_out.b, T, C, C);
        ops_add_scaled(p->x, p->wide, block->attn_scale, T, C);
    }
    return st;
}

static enum status run_block(struct picture *p, const struct fastvit_block *block,
                             struct error *err)
{
    enum status st = ST_OK;

    if (block->mix.mixer.w != NULL)
        convolve(p, &block->mix.mixer);
    else
        st = attend(p, block, err);
    if (st == ST_OK)
        conv_mlp_run(&block->mix.mlp, p->x, p->side, p->side, p->other, p->wide);
    return st;
}

static enum status run_stage(struct picture *p, const struct fastvit_stage *stage,
                             struct error *err)
{
    enum status st = ST_OK;

    if (stage->down.w != NULL) {
        double_channels(p);
        convolve(p, &stage->down);
        squeeze_and_excite(p, &stage->squeeze);
        ops_gelu(p->x, n_pixels(p) * p->width);
        mix(p, &stage->down_mix);
    }
    if (stage->position.w != NULL)
        convolve(p, &stage->position);
    for (size_t i = 0; i < stage->n_blocks && st == ST_OK; i++)
        st = run_block(p, &stage->blocks[i], err);
    return st;
}

/* Pixels from planes to rows, then three convolutions to a quarter of the side. */
static void run_stem(const struct fastvit *f, const float *pixels, struct picture *p)
{
    size_t S = f->image_size, width = f->stem.out;

    conv_rows_from_planes(pixels, S * S, 3, p->other);
    p->side = conv_side(S, 2);
    conv_gather(p->other, S, S, 3, 3, 2, p->wide);
    ops_linear(p->x, p->wide, STEM_TAPS, f->stem.w, f->stem.b, n_pixels(p), width, STEM_TAPS);
    p->width = width;
    ops_gelu(p->x, n_pixels(p) * width);
    convolve(p, &f->stem_depthwise);
    ops_gelu(p->x, n_pixels(p) * width);
    mix(p, &f->stem_mix);
}

/* Most floats that x or other, and wide, hold at any step. */
static void find_room(const struct fastvit *f, size_t *narrow, size_t *wide)
{
    size_t side = conv_side(f->image_size, 2);

    *narrow = MAX(f->image_size * f->image_size * 3, side * side * f->stem.out);
    *wide = side * side * STEM_TAPS;
    side = conv_side(side, 2);
    for (size_t s = 0; s < f->n_stages; s++) {
        const struct fastvit_stage *stage = &f->stages[s];

        /* channels are doubled before the side is halved */
        *narrow = MAX(*narrow, side * side * stage->width);
        side = stage->down.w != NULL ? conv_side(side, 2) : side;
        for (size_t i = 0; i < stage->n_blocks; i++)
            *wide =
                MAX(*wide, side * side * MAX(stage->blocks[i].mix.mlp.fc.out, 3 * stage->width));
    }
    *narrow = MAX(*narrow, side * side * f->final_conv.C);
    *wide = MAX(*wide, 3 * f->final_conv.C);
}

size_t fastvit_scratch_floats(const struct fastvit *f)
{
    size_t narrow, wide, last = f->image_size / 4;

    find_room(f, &narrow, &wide);
    for (size_t s = 0; s < f->n_stages; s++)
        last = f->stages[s].blocks[0].mix.mixer.w != NULL ? last / 2 : last;
    return 2 * narrow + wide + (size_t)ATTENTION_TILE * last * last * 4;
}

enum status fastvit_run(const struct fastvit *f, const float *pixels, struct arena *scratch,
                        float *out, struct error *err)
{
    struct arena mark = *scratch;
    struct picture p = {.scratch = scratch};
    size_t narrow, wide;
    enum status st;

    find_room(f, &narrow, &wide);
    st = arena_alloc(scratch, narrow * sizeof *p.x, &p.x, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, narrow * sizeof *p.other, &p.other, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, wide * sizeof *p.wide, &p.wide, err);
    if (st == ST_OK)
        run_stem(f, pixels, &p);
    for (size_t s = 0; s < f->n_stages && st == ST_OK; s++)
        st = run_stage(&p, &f->stages[s], err);
    if (st == ST_OK) {
        double_channels(&p);
        convolve(&p, &f->final_conv);
        squeeze_and_excite(&p, &f->final_squeeze);
        ops_gelu(p.x, n_pixels(&p) * p.width);
        mean_over_pixels(&p, p.wide);
        ops_linear_rows(out, p.wide, f->head.w, f->head.b, 1, f->dim, p.width);
    }
    arena_rewind(scratch, &mark);
    return st;
}

void fastvit_release(struct fastvit *f)
{
    arena_release(&f->arena);
}
