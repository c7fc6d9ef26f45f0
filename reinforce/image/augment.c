#include "reinforce/image/augment.h"

#include "reinforce/base/philox.h"
#include "reinforce/image/augment_ops.h"

#include <math.h>

enum { CROP_TRIES = 10 };

void augment_config_default(struct augment_config *config)
{
    *config = (struct augment_config){
        .size = 224,
        .filter = RESAMPLE_BICUBIC,
        .scale_min = 0.08,
        .scale_max = 1.0,
        .ratio_min = 3.0 / 4.0,
        .ratio_max = 4.0 / 3.0,
        .rand_augment = true,
        .rand_augment_p = 1.0,
        .n_ops = 2,
        .magnitude = 9,
        .n_bins = 31,
    };
}

/* torch.linspace(start, end, n)[i] in float32: it counts from the nearer end, and its loop is
 * compiled with fused multiply-add. */
static double linspace(double start, double end, int n, int i)
{
    float from = (float)start, to = (float)end;
    float step = n > 1 ? (to - from) / (float)(n - 1) : 0.0f;

    return i < n / 2 || n == 1 ? fmaf(step, (float)i, from) : fmaf(-step, (float)(n - 1 - i), to);
}

double augment_magnitude(const struct augment_config *config, enum augment_op op, bool *is_signed)
{
    int bin = config->magnitude, n = config->n_bins;
    bool has_sign = false;
    double magnitude = 0.0;

    switch (op) {
    case AUGMENT_SHEAR_X:
    case AUGMENT_SHEAR_Y:
        has_sign = true;
        magnitude = linspace(0.0, 0.3, n, bin);
        break;
    case AUGMENT_TRANSLATE_X:
    case AUGMENT_TRANSLATE_Y:
        has_sign = true;
        magnitude = linspace(0.0, 150.0 / 331.0 * config->size, n, bin);
        break;
    case AUGMENT_ROTATE:
        has_sign = true;
        magnitude = linspace(0.0, 30.0, n, bin);
        break;
    case AUGMENT_BRIGHTNESS:
    case AUGMENT_COLOR:
    case AUGMENT_CONTRAST:
    case AUGMENT_SHARPNESS:
        has_sign = true;
        magnitude = linspace(0.0, 0.9, n, bin);
        break;
    case AUGMENT_POSTERIZE:
        magnitude = n > 1 ? 8.0 - rintf((float)bin / (float)((n - 1) / 4.0)) : 8.0;
        break;
    case AUGMENT_SOLARIZE:
        magnitude = linspace(255.0, 0.0, n, bin);
        break;
    case AUGMENT_IDENTITY:
    case AUGMENT_AUTO_CONTRAST:
    case AUGMENT_EQUALIZE:
    case AUGMENT_OP_COUNT:
        break;
    }
    if (is_signed != NULL)
        *is_signed = has_sign;
    return magnitude;
}

/* Where the numbers come from: Philox in project mode, torch's generator in compatibility mode. */
struct draws {
    struct philox philox;
    struct torch_rng *torch; /* NULL in project mode */
};

static double draw_uniform(struct draws *draws, double low, double high)
{
    if (draws->torch != NULL)
        return torch_rng_uniform(draws->torch, (float)low, (float)high);
    return low + (double)philox_f32(&draws->philox) * (high - low);
}

static uint32_t draw_below(struct draws *draws, int n)
{
    return draws->torch != NULL ? torch_rng_below(draws->torch, (uint32_t)n)
                                : philox_below(&draws->philox, (uint32_t)n);
}

/* torch rounds the exponential to float32. */
static double draw_ratio(struct draws *draws, const struct augment_config *config)
{
    double log_ratio = draw_uniform(draws, log(config->ratio_min), log(config->ratio_max));
    double ratio = exp(log_ratio);

    return draws->torch != NULL ? (double)(float)ratio : ratio;
}

/* After ten misses: the largest centred box with an allowed ratio. */
static void fallback_box(const struct augment_config *config, int width, int height,
                         struct augment_params *out)
{
    double ratio = (double)width / height;

    out->width = width;
    out->height = height;
    if (ratio < config->ratio_min)
        out->height = (int32_t)rint(width / config->ratio_min);
    else if (ratio > config->ratio_max)
        out->width = (int32_t)rint(height * config->ratio_max);
    out->height = MIN(MAX(out->height, 1), height);
    out->width = MIN(MAX(out->width, 1), width);
    out->top = (height - out->height) / 2;
    out->left = (width - out->width) / 2;
}

static void draw_box(struct draws *draws, const struct augment_config *config, int width,
                     int height, struct augment_params *out)
{
    double area = (double)width * height;

    for (int i = 0; i < CROP_TRIES; i++) {
        double target = area * draw_uniform(draws, config->scale_min, config->scale_max);
        double ratio = draw_ratio(draws, config);
        double w = rint(sqrt(target * ratio)), h = rint(sqrt(target / ratio));

        if (w > 0.0 && w <= width && h > 0.0 && h <= height) {
            out->width = (int32_t)w;
            out->height = (int32_t)h;
            out->top = (int32_t)draw_below(draws, height - out->height + 1);
            out->left = (int32_t)draw_below(draws, width - out->width + 1);
            return;
        }
    }
    fallback_box(config, width, height, out);
}

static void draw_ops(struct draws *draws, const struct augment_config *config,
                     struct augment_params *out)
{
    if (!config->rand_augment) {
        out->n_ops = AUGMENT_OPS_ABSENT;
        return;
    }
    if (draw_uniform(draws, 0.0, 1.0) > config->rand_augment_p) {
        out->n_ops = AUGMENT_OPS_SKIPPED;
        return;
    }
    out->n_ops = config->n_ops;
    for (int i = 0; i < config->n_ops; i++) {
        bool is_signed;

        out->ops[i].op = (enum augment_op)draw_below(draws, AUGMENT_OP_COUNT);
        out->ops[i].magnitude = augment_magnitude(config, out->ops[i].op, &is_signed);
        if (is_signed && draw_below(draws, 2) == 1)
            out->ops[i].magnitude = -out->ops[i].magnitude;
    }
}

static void draw(struct draws *draws, const struct augment_config *config, int width, int height,
                 struct augment_params *out)
{
    memset(out, 0, sizeof *out);
    draw_box(draws, config, width, height, out);
    draw_ops(draws, config, out);
}

void augment_sample(const struct augment_config *config, uint64_t seed, struct bytes_view uid,
                    uint32_t view, int width, int height, struct augment_params *out)
{
    struct draws draws = {.torch = NULL};

    philox_init(&draws.philox, seed, uid, PHILOX_STAGE_AUGMENT, view);
    draw(&draws, config, width, height, out);
}

void augment_sample_torch(const struct augment_config *config, struct torch_rng *rng, int width,
                          int height, struct augment_params *out)
{
    struct draws draws = {.torch = rng};

    draw(&draws, config, width, height, out);
}

int augment_reduction(const struct augment_config *config, const struct augment_params *params)
{
    return resample_reduction(params->height, params->width, config->size, config->size,
                              config->filter);
}

enum status augment_apply(const struct augment_config *config, const struct augment_params *params,
                          const struct image *src, struct arena *arena, struct image *out,
                          struct error *err)
{
    struct image spare = {0};
    enum status st = ST_OK;

    if (src->channels != 3)
        st = error_set(err, ST_INVALID, "augmentation needs RGB, not %d channels", src->channels);
    for (int i = 0; i < params->n_ops && st == ST_OK; i++)
        st = augment_op_check(params->ops[i].op, params->ops[i].magnitude, err);
    if (st == ST_OK)
        st = image_resize(src, params->top, params->left, params->height, params->width,
                          config->size, config->size, config->filter, arena, out, err);
    for (int i = 0; i < params->n_ops && st == ST_OK; i++) {
        enum augment_op op = params->ops[i].op;

        if (augment_op_is_pointwise(op)) {
            augment_op_run(op, params->ops[i].magnitude, out, out->pixels);
            continue;
        }
        if (spare.pixels == NULL)
            st = image_alloc(&spare, out->width, out->height, out->channels, arena, err);
        if (st == ST_OK) {
            struct image used = *out;

            augment_op_run(op, params->ops[i].magnitude, out, spare.pixels);
            *out = spare;
            spare = used;
        }
    }
    return st;
}

enum status augment_apply_op(enum augment_op op, double magnitude, const struct image *src,
                             struct arena *arena, struct image *out, struct error *err)
{
    enum status st = augment_op_check(op, magnitude, err);

    if (st == ST_OK && src->channels != 3)
        st = error_set(err, ST_INVALID, "augmentation needs RGB, not %d channels", src->channels);
    if (st == ST_OK)
        st = image_alloc(out, src->width, src->height, src->channels, arena, err);
    if (st == ST_OK)
        augment_op_run(op, magnitude, src, out->pixels);
    return st;
}
