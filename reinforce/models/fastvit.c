#include "reinforce/models/fastvit.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/ops.h"

#include <math.h>

enum { HEAD_DIM = 32, STEM_TAPS = 3 * 3 * 3 };

/* Pictures on their way through the tower, and room for what each step makes of them. */
struct pictures {
    size_t n, side, width; /* n times side * side pixels of `width` channels */
    float *x, *other;      /* what they are; where the next step puts them */
    float *wide, *codes;   /* an MLP's hidden units, or q, k and v; quantised rows */
    epilogue_fn *gelu;
    struct arena *scratch;
};

static void swap(struct pictures *p)
{
    float *x = p->x;

    p->x = p->other;
    p->other = x;
}

/* Of one of them. */
static size_t n_pixels(const struct pictures *p)
{
    return p->side * p->side;
}

static struct samples samples_of(const struct pictures *p)
{
    return (struct samples){p->n, n_pixels(p)};
}

static size_t n_rows(const struct pictures *p)
{
    return p->n * n_pixels(p);
}

/* A product over channels, with GELU behind it. */
static void mix(struct pictures *p, const struct block_linear *linear)
{
    block_linear_apply(linear, p->other, p->x, samples_of(p), p->codes,
                       (struct epilogue){.activation = p->gelu});
    p->width = linear->out;
    swap(p);
}

static void convolve(struct pictures *p, const struct conv_depthwise *conv)
{
    size_t side = conv_side(p->side, conv->stride);

    for (size_t i = 0; i < p->n; i++)
        conv_depthwise_run(conv, p->x + i * n_pixels(p) * p->width, p->side, p->side,
                           p->other + i * side * side * p->width);
    p->side = side;
    swap(p);
}

/* Channel c becomes channels 2c and 2c + 1: what a grouped convolution with two outputs sees. */
static void double_channels(struct pictures *p)
{
    for (size_t i = 0; i < n_rows(p) * p->width; i++)
        p->other[2 * i] = p->other[2 * i + 1] = p->x[i];
    p->width *= 2;
    swap(p);
}

static void mean_over_pixels(const struct pictures *p, const float *x, float *mean)
{
    memset(mean, 0, p->width * sizeof *mean);
    for (size_t i = 0; i < n_pixels(p); i++)
        ops_add(mean, x + i * p->width, p->width);
    for (size_t c = 0; c < p->width; c++)
        mean[c] /= (float)n_pixels(p);
}

static void squeeze_and_excite_one(const struct pictures *p, const struct squeeze_excite *se,
                                   float *x)
{
    float *mean = p->wide, *few = mean + p->width, *gate = few + se->reduce.out;

    mean_over_pixels(p, x, mean);
    ops_linear_rows(few, mean, se->reduce.w, se->reduce.b, 1, se->reduce.out, p->width);
    for (size_t i = 0; i < se->reduce.out; i++)
        few[i] = MAX(few[i], 0.0f);
    ops_linear_rows(gate, few, se->expand.w, se->expand.b, 1, p->width, se->reduce.out);
    for (size_t c = 0; c < p->width; c++)
        gate[c] = 1 / (1 + expf(-gate[c]));
    for (size_t i = 0; i < n_pixels(p); i++)
        for (size_t c = 0; c < p->width; c++)
            x[i * p->width + c] *= gate[c];
}

static void squeeze_and_excite(const struct pictures *p, const struct squeeze_excite *se)
{
    for (size_t i = 0; i < p->n && se->reduce.w != NULL; i++)
        squeeze_and_excite_one(p, se, p->x + i * n_pixels(p) * p->width);
}

/* Every picture attends to itself. */
static enum status attend_apart(const struct pictures *p, struct error *err)
{
    size_t C = p->width, T = n_pixels(p);
    struct arena mark = *p->scratch;
    enum status st = ST_OK;

    for (size_t i = 0; i < p->n && st == ST_OK; i++) {
        const struct attention attention =
            attention_of_qkv(p->wide + i * T * 3 * C, T, C, C / HEAD_DIM);

        st = attention_run(&attention, p->other + i * T * C, p->scratch, err);
        arena_rewind(p->scratch, &mark);
    }
    return st;
}

/* x += attn_out(attention(qkv(norm(x)))) */
static enum status attend(struct pictures *p, const struct fastvit_block *block, struct error *err)
{
    const struct prologue norm = {block->norm.w, block->norm.b, 1e-5f, p->other};
    enum status st;

    if (norm.w != NULL)
        block_linear_run_normed(&block->qkv, &norm, p->wide, p->x, samples_of(p), p->codes);
    else
        block_linear_run(&block->qkv, p->wide, p->x, samples_of(p), p->codes);
    st = attend_apart(p, err);
    if (st == ST_OK)
        block_linear_apply(&block->attn_out, p->x, p->other, samples_of(p), p->codes,
                           (struct epilogue){.add = true});
    return st;
}

static enum status run_block(struct pictures *p, const struct fastvit_block *block,
                             struct error *err)
{
    enum status st = ST_OK;

    if (block->mix.mixer.w != NULL)
        convolve(p, &block->mix.mixer);
    else
        st = attend(p, block, err);
    if (st == ST_OK)
        conv_mlp_run(&block->mix.mlp, p->x, p->n, p->side, p->side, p->other, p->codes, p->wide);
    return st;
}

static enum status run_stage(struct pictures *p, const struct fastvit_stage *stage,
                             struct error *err)
{
    enum status st = ST_OK;

    if (stage->down.w != NULL) {
        double_channels(p);
        convolve(p, &stage->down);
        squeeze_and_excite(p, &stage->squeeze);
        p->gelu(p->x, n_rows(p) * p->width);
        mix(p, &stage->down_mix);
    }
    if (stage->position.w != NULL)
        convolve(p, &stage->position);
    for (size_t i = 0; i < stage->n_blocks && st == ST_OK; i++)
        st = run_block(p, &stage->blocks[i], err);
    return st;
}

/* Pixels from planes to rows, then three convolutions to a quarter of the side. */
static void run_stem(const struct fastvit *f, const float *pixels, struct pictures *p)
{
    size_t S = f->image_size;

    conv_rows_from_planes(pixels, S * S, 3, p->other);
    p->side = conv_side(S, 2);
    conv_gather(p->other, S, S, 3, 3, 2, p->wide);
    block_linear_apply(&f->stem, p->x, p->wide, (struct samples){1, n_pixels(p)}, p->codes,
                       (struct epilogue){.activation = p->gelu});
    p->width = f->stem.out;
    convolve(p, &f->stem_depthwise);
    p->gelu(p->x, n_pixels(p) * p->width);
    mix(p, &f->stem_mix);
}

/* The most floats of anything at any step: of one picture while they go alone, and of each while
 * they go together. */
struct room {
    size_t alone, together; /* x, or other */
    size_t wide, codes;
};

static void room_for_matrix(struct room *room, const struct block_linear *l, size_t rows)
{
    room->codes = MAX(room->codes, block_linear_codes_floats(l, rows));
}

static void room_for_stage(struct room *room, const struct fastvit_stage *stage, size_t n,
                           size_t side)
{
    size_t rows = n * side * side, few = MIN(rows, (size_t)CONV_MLP_PIXELS);

    for (size_t i = 0; i < stage->n_blocks; i++) {
        const struct fastvit_block *block = &stage->blocks[i];
        const struct block_mlp *mlp = &block->mix.mlp.mlp;

        room_for_matrix(room, &mlp->fc, few);
        room->wide = MAX(room->wide, block_mlp_wide_floats(mlp, few));
        if (block->mix.mixer.w == NULL) {
            room_for_matrix(room, &block->qkv, rows);
            room_for_matrix(room, &block->attn_out, rows);
            room->wide = MAX(room->wide, rows * block->qkv.out);
        }
    }
}

static struct room find_room(const struct fastvit *f, size_t n)
{
    size_t side = conv_side(f->image_size, 2);
    struct room room = {.alone = MAX(f->image_size * f->image_size * 3, side * side * f->stem.out),
                        .wide = side * side * STEM_TAPS};

    side = conv_side(side, 2);
    for (size_t s = 0; s < f->n_stages; s++) {
        const struct fastvit_stage *stage = &f->stages[s];
        size_t *narrow = s < f->n_alone ? &room.alone : &room.together;

        /* channels are doubled before the side is halved */
        *narrow = MAX(*narrow, side * side * stage->width);
        side = stage->down.w != NULL ? conv_side(side, 2) : side;
        room_for_stage(&room, stage, s < f->n_alone ? 1 : n, side);
    }
    room.together = MAX(room.together, side * side * f->final_conv.C);
    room.wide = MAX(room.wide, 3 * f->final_conv.C);
    return room;
}

size_t fastvit_scratch_floats(const struct fastvit *f)
{
    const struct room room = find_room(f, FASTVIT_IMAGES_AT_ONCE);
    size_t last = f->image_size / 4;

    for (size_t s = 0; s < f->n_stages; s++)
        last = f->stages[s].blocks[0].mix.mixer.w != NULL ? last / 2 : last;
    return 2 * room.alone + 2 * FASTVIT_IMAGES_AT_ONCE * room.together + room.wide + room.codes +
           (size_t)ATTENTION_TILE * last * last * 4;
}

/* What comes behind the last stage. */
static void run_head(const struct fastvit *f, struct pictures *p, float *out)
{
    double_channels(p);
    convolve(p, &f->final_conv);
    squeeze_and_excite(p, &f->final_squeeze);
    p->gelu(p->x, n_rows(p) * p->width);
    for (size_t i = 0; i < p->n; i++) {
        mean_over_pixels(p, p->x + i * n_pixels(p) * p->width, p->wide);
        ops_linear_rows(out + i * f->dim, p->wide, f->head.w, f->head.b, 1, f->dim, p->width);
    }
}

/* The first stages of one image. */
static enum status run_alone(const struct fastvit *f, const float *pixels, struct pictures *p,
                             struct error *err)
{
    enum status st = ST_OK;

    run_stem(f, pixels, p);
    for (size_t s = 0; s < f->n_alone && st == ST_OK; s++)
        st = run_stage(p, &f->stages[s], err);
    return st;
}

/* Room for n pictures of `narrow` floats at most. */
static enum status pictures_init(struct pictures *p, const struct fastvit *f, size_t n,
                                 size_t narrow, struct arena *scratch, struct error *err)
{
    enum status st = arena_alloc(scratch, n * narrow * sizeof *p->x, &p->x, err);

    p->n = n;
    p->gelu = f->gelu;
    p->scratch = scratch;
    return st == ST_OK ? arena_alloc(scratch, n * narrow * sizeof *p->other, &p->other, err) : st;
}

/* The last stages of all, whose pictures are in p->x. */
static enum status run_together(const struct fastvit *f, struct pictures *p, float *out,
                                struct error *err)
{
    enum status st = ST_OK;

    for (size_t s = f->n_alone; s < f->n_stages && st == ST_OK; s++)
        st = run_stage(p, &f->stages[s], err);
    if (st == ST_OK)
        run_head(f, p, out);
    return st;
}

static enum status run_some(const struct fastvit *f, const float *pixels, size_t n,
                            struct arena *scratch, float *out, struct error *err)
{
    const struct room room = find_room(f, n);
    struct arena mark = *scratch;
    struct pictures alone = {0}, all = {0};
    enum status st = pictures_init(&alone, f, 1, room.alone, scratch, err);

    if (st == ST_OK)
        st = pictures_init(&all, f, n, room.together, scratch, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, room.wide * sizeof(float), &alone.wide, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, room.codes * sizeof(float), &alone.codes, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = run_alone(f, pixels + i * 3 * f->image_size * f->image_size, &alone, err);
        if (st == ST_OK)
            memcpy(all.x + i * n_pixels(&alone) * alone.width, alone.x,
                   n_pixels(&alone) * alone.width * sizeof *all.x);
    }
    all.side = alone.side;
    all.width = alone.width;
    all.wide = alone.wide;
    all.codes = alone.codes;
    if (st == ST_OK)
        st = run_together(f, &all, out, err);
    arena_rewind(scratch, &mark);
    return st;
}

enum status fastvit_run(const struct fastvit *f, const float *pixels, size_t n,
                        struct arena *scratch, float *out, struct error *err)
{
    size_t image = 3 * f->image_size * f->image_size;
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i += FASTVIT_IMAGES_AT_ONCE)
        st = run_some(f, pixels + i * image, MIN(n - i, (size_t)FASTVIT_IMAGES_AT_ONCE), scratch,
                      out + i * f->dim, err);
    return st;
}

void fastvit_release(struct fastvit *f)
{
    arena_release(&f->arena);
}
