#include "reinforce/models/rep_mixer.h"

#include "reinforce/models/conv_fold.h"

#include <stdio.h>

enum status conv_mlp_load(struct conv_fold *fold, const char *at, const char *scale, size_t C,
                          size_t hidden, size_t rows, size_t columns, struct conv_mlp *out)
{
    const struct conv_fold_names *names = fold->names;
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    const float *gamma;
    char name[CONV_FOLD_MAX_NAME];
    enum status st = conv_fold_begin(fold, &k, C, 1, rows, columns);

    out->mlp.activation = ACTIVATION_GELU;
    (void)snprintf(name, sizeof name, "%s%sconv.", at, names->mlp);
    if (st == ST_OK)
        st = conv_fold_add_conv(fold, &k, rows, columns, name);
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 1, &out->conv);
    arena_rewind(&fold->scratch, &mark);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(C, 1, 1), &gamma, "%s%s%s", at, scale, names->gamma);
    (void)snprintf(name, sizeof name, "%s%sfc1.", at, names->mlp);
    if (st == ST_OK)
        st = conv_fold_load_matrix(fold, name, C, hidden, NULL, &out->mlp.fc);
    (void)snprintf(name, sizeof name, "%s%sfc2.", at, names->mlp);
    return st == ST_OK ? conv_fold_load_matrix(fold, name, hidden, C, gamma, &out->mlp.proj) : st;
}

void conv_mlp_run(const struct conv_mlp *mlp, float *x, size_t n, size_t H, size_t W, float *other,
                  float *codes, float *wide)
{
    size_t C = mlp->conv.C, pixels = H * W, image = pixels * C;
    size_t together = MAX(CONV_MLP_PIXELS / pixels, (size_t)1), cut;

    for (size_t i = 0; i < n; i++)
        conv_depthwise_run(&mlp->conv, x + i * image, H, W, other + i * image);
    for (size_t i = 0; i < n; i += together)
        for (size_t first = 0; first < pixels; first += cut) {
            size_t at = i * image + first * C;

            cut = MIN(pixels - first, (size_t)CONV_MLP_PIXELS);
            block_mlp_run(&mlp->mlp, x + at, other + at,
                          (struct samples){MIN(n - i, together), cut}, true, codes, wide);
        }
}

/* identity + gamma * (mixer - norm) */
static enum status fold_mixer(struct conv_fold *fold, const char *at, struct conv_kernel *k)
{
    size_t taps = k->rows * k->columns;
    const float *gamma;
    char name[CONV_FOLD_MAX_NAME];
    enum status st;

    (void)snprintf(name, sizeof name, "%stoken_mixer.mixer.", at);
    st = conv_fold_add_mobile_one(fold, k, name);
    (void)snprintf(name, sizeof name, "%stoken_mixer.norm.%s", at, fold->names->identity);
    if (st == ST_OK)
        st = conv_fold_add_identity(fold, k, name, -1);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(k->out, 1, 1), &gamma, "%stoken_mixer.layer_scale%s",
                           at, fold->names->gamma);
    for (size_t c = 0; c < k->out && st == ST_OK; c++) {
        for (size_t t = 0; t < taps; t++)
            k->w[c * taps + t] *= (double)gamma[c];
        k->w[c * taps + taps / 2] += 1;
        k->b[c] *= (double)gamma[c];
    }
    return st;
}

enum status rep_mixer_load(struct conv_fold *fold, const char *at, size_t C, size_t rows,
                           size_t columns, struct conv_depthwise *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    char name[CONV_FOLD_MAX_NAME];
    enum status st = conv_fold_begin(fold, &k, C, 1, rows, columns);

    (void)snprintf(name, sizeof name, "%stoken_mixer.reparam_conv.", at);
    if (st == ST_OK)
        st = conv_fold_has(fold, "%sweight", name) ? conv_fold_add_plain(fold, &k, name)
                                                   : fold_mixer(fold, at, &k);
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 1, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}
