#include "reinforce/image/preprocess.h"

#include "reinforce/image/naflex.h"
#include "reinforce/image/resize_tensorflow.h"

#include <math.h>

/* Offset of a centred window; rint() is half to even, as Python's round(). */
static int centre(enum preprocess_crop crop, int margin)
{
    return crop == PREPROCESS_CROP_FLOOR ? margin / 2 : (int)rint(margin / 2.0);
}

bool preprocess_fits(const struct preprocess *pre, int width, int height)
{
    if (pre->mode != PREPROCESS_NAFLEX)
        return width == pre->size && height == pre->size;
    return width % pre->patch == 0 && height % pre->patch == 0 &&
           (width / pre->patch) * (height / pre->patch) <= pre->max_patches;
}

void preprocess_plan_of(const struct preprocess *pre, int width, int height,
                        struct preprocess_plan *plan)
{
    int size = pre->size;

    plan->height = plan->width = size;
    if (pre->mode == PREPROCESS_SHORTEST) {
        int shorter = MIN(width, height), longer = MAX(width, height);
        int resized = (int)((double)((int64_t)size * longer) / shorter);

        if (width <= height)
            plan->height = resized;
        else
            plan->width = resized;
    } else if (pre->mode == PREPROCESS_LONGEST) {
        double ratio = MAX((double)height / size, (double)width / size);

        plan->height = MAX((int)rint(height / ratio), 1);
        plan->width = MAX((int)rint(width / ratio), 1);
    }
    if (pre->mode == PREPROCESS_NAFLEX) {
        naflex_target(height, width, pre->patch, pre->max_patches, &plan->height, &plan->width);
        plan->window = (struct image_box){0, 0, plan->height, plan->width};
        plan->pad_top = plan->pad_left = 0;
        return;
    }
    plan->window.height = MIN(plan->height, size);
    plan->window.width = MIN(plan->width, size);
    plan->window.top = centre(pre->crop, plan->height - plan->window.height);
    plan->window.left = centre(pre->crop, plan->width - plan->window.width);
    plan->pad_top = (size - plan->window.height) / 2;
    plan->pad_left = (size - plan->window.width) / 2;
}

int preprocess_reduction(const struct preprocess *pre, int width, int height)
{
    struct preprocess_plan plan;

    if (pre->size == 0 || pre->tensorflow)
        return 1;
    preprocess_plan_of(pre, width, height, &plan);
    return resample_reduction(height, width, plan.height, plan.width, pre->filter);
}

static enum status pad(const struct preprocess *pre, const struct preprocess_plan *plan,
                       uint8_t fill, struct arena *arena, struct image *image, struct error *err)
{
    struct image padded;
    size_t channels = (size_t)image->channels;
    size_t row_bytes = (size_t)image->width * channels;
    enum status st = image_alloc(&padded, pre->size, pre->size, image->channels, arena, err);

    if (st != ST_OK)
        return st;
    memset(padded.pixels, fill, image_bytes(&padded));
    for (int y = 0; y < image->height; y++)
        memcpy(padded.pixels +
                   ((size_t)(plan->pad_top + y) * (size_t)padded.width + (size_t)plan->pad_left) *
                       channels,
               image->pixels + (size_t)y * row_bytes, row_bytes);
    *image = padded;
    return ST_OK;
}

/* Padding comes last, so that `finish` sees resized pixels only. */
static enum status resize(const struct preprocess *pre, enum resample_filter filter, uint8_t fill,
                          const struct image *src, void (*finish)(struct image *image),
                          struct arena *arena, struct image *out, struct error *err)
{
    struct image_box whole = {0, 0, image_stored_height(src), image_stored_width(src)};
    struct preprocess_plan plan;
    enum status st;

    preprocess_plan_of(pre, whole.width, whole.height, &plan);
    if (pre->tensorflow && pre->mode == PREPROCESS_SQUASH)
        return image_resize_tensorflow(src, plan.height, plan.width, arena, out, err);
    st = image_resize_window(src, &whole, plan.height, plan.width, &plan.window, filter, arena, out,
                             err);
    if (st == ST_OK && finish != NULL)
        finish(out);
    if (st == ST_OK && pre->mode == PREPROCESS_LONGEST &&
        (out->width < pre->size || out->height < pre->size))
        st = pad(pre, &plan, fill, arena, out, err);
    return st;
}

enum status preprocess_pixels(const struct preprocess *pre, const struct image *src,
                              struct arena *arena, struct image *out, struct error *err)
{
    return resize(pre, pre->filter, pre->fill, src, NULL, arena, out, err);
}

static uint8_t muldiv255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;

    return (uint8_t)(((t >> 8) + t) >> 8);
}

static void premultiply(struct image *image)
{
    size_t channels = (size_t)image->channels;

    for (size_t i = 0; i < image_bytes(image); i += channels)
        for (size_t c = 0; c < channels - 1; c++)
            image->pixels[i + c] = muldiv255(image->pixels[i + c], image->pixels[i + channels - 1]);
}

static void unpremultiply(struct image *image)
{
    size_t channels = (size_t)image->channels;

    for (size_t i = 0; i < image_bytes(image); i += channels) {
        unsigned alpha = image->pixels[i + channels - 1];

        for (size_t c = 0; c < channels - 1 && alpha != 0 && alpha != 255; c++)
            image->pixels[i + c] = (uint8_t)MIN(255u * image->pixels[i + c] / alpha, 255u);
    }
}

enum status preprocess_pixels_stored(const struct preprocess *pre, struct image_stored *src,
                                     struct arena *arena, struct image *out, struct error *err)
{
    struct image_stored resized = *src;
    bool is_discrete = src->mode == IMAGE_MODE_INDEXED || src->mode == IMAGE_MODE_BILEVEL;
    bool has_alpha = src->mode == IMAGE_MODE_LA || src->mode == IMAGE_MODE_RGBA;
    enum resample_filter filter = is_discrete ? RESAMPLE_NEAREST : pre->filter;
    uint8_t fill = src->mode == IMAGE_MODE_BILEVEL && pre->fill != 0 ? 255 : pre->fill;
    struct preprocess_plan plan;
    enum status st;

    preprocess_plan_of(pre, src->image.width, src->image.height, &plan);
    if (filter == RESAMPLE_NEAREST ||
        (plan.width == src->image.width && plan.height == src->image.height))
        has_alpha = false; /* Pillow copies these as they are */
    if (has_alpha)
        premultiply(&src->image);
    st = resize(pre, filter, fill, &src->image, has_alpha ? unpremultiply : NULL, arena,
                &resized.image, err);
    return st == ST_OK ? image_stored_to_rgb(&resized, arena, out, err) : st;
}

KERNEL_CLONES static void normalise(const uint8_t *restrict from, size_t n,
                                    const float *restrict mean, const float *restrict std,
                                    float *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = ((float)from[3 * i] / 255.0f - mean[0]) / std[0];
        out[n + i] = ((float)from[3 * i + 1] / 255.0f - mean[1]) / std[1];
        out[2 * n + i] = ((float)from[3 * i + 2] / 255.0f - mean[2]) / std[2];
    }
}

/* ((level / 255) - mean) / std, each quotient by the rounded inverse and one correction, which is
 * nearly always the rounded quotient. */
static ALWAYS_INLINE float by_inverse(int level, float mean, float std, float inverse)
{
    const float inverse_255 = 1.0f / 255.0f;
    float unit = (float)level * inverse_255, quotient;

    unit = fmaf(fmaf(-unit, 255.0f, (float)level), inverse_255, unit) - mean;
    quotient = unit * inverse;
    return fmaf(fmaf(-quotient, std, unit), inverse, quotient);
}

typedef void normaliser(const uint8_t *restrict from, size_t n, const float *restrict mean,
                        const float *restrict std, float *restrict out);

#if defined(KERNEL_TARGET)
static ALWAYS_INLINE void by_inverses(const uint8_t *restrict from, size_t n,
                                      const float *restrict mean, const float *restrict std,
                                      float *restrict out)
{
    const float inverse[3] = {1 / std[0], 1 / std[1], 1 / std[2]};

    for (size_t i = 0; i < n; i++) {
        out[i] = by_inverse(from[3 * i], mean[0], std[0], inverse[0]);
        out[n + i] = by_inverse(from[3 * i + 1], mean[1], std[1], inverse[1]);
        out[2 * n + i] = by_inverse(from[3 * i + 2], mean[2], std[2], inverse[2]);
    }
}

KERNEL_TARGET("avx512f,avx512bw")
static void avx512_by_inverses(const uint8_t *restrict from, size_t n, const float *restrict mean,
                               const float *restrict std, float *restrict out)
{
    by_inverses(from, n, mean, std, out);
}

KERNEL_TARGET("avx2,fma")
static void avx2_by_inverses(const uint8_t *restrict from, size_t n, const float *restrict mean,
                             const float *restrict std, float *restrict out)
{
    by_inverses(from, n, mean, std, out);
}
#endif

/* NULL without fused multiply-add, where fmaf() is slow. */
static normaliser *without_divisions(void)
{
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx512bw"))
        return avx512_by_inverses;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return avx2_by_inverses;
#endif
    return NULL;
}

/* Whether all levels come out the same to the bit, which depends on mean and std. */
static bool agrees(normaliser *fast, const float mean[3], const float std[3])
{
    enum { LEVELS = 256 };
    uint8_t ramp[3 * LEVELS];
    union {
        float values[3 * LEVELS];
        uint32_t bits[3 * LEVELS];
    } got, want;

    for (int i = 0; i < 3 * LEVELS; i++)
        ramp[i] = (uint8_t)(i / 3);
    fast(ramp, LEVELS, mean, std, got.values);
    normalise(ramp, LEVELS, mean, std, want.values);
    return memcmp(got.bits, want.bits, sizeof want) == 0;
}

void preprocess_tensor(const struct image *src, const float mean[3], const float std[3], float *out)
{
    enum { FEW_PIXELS = 4096 };
    size_t n = (size_t)src->width * (size_t)src->height;
    normaliser *fast = n > FEW_PIXELS ? without_divisions() : NULL;

    if (fast != NULL && agrees(fast, mean, std))
        fast(src->pixels, n, mean, std, out);
    else
        normalise(src->pixels, n, mean, std, out);
}
