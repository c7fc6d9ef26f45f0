#include "reinforce/models/mci_stem.h"

#include "reinforce/models/conv_fold.h"
#include "reinforce/nn/ops.h"

#define FOLD_BYTES ((size_t)1 << 30)

static const struct conv_fold_names timm_parts = {.norm = "bn."}, apple_parts = {.norm = "norm."};

static enum status load_one(struct conv_fold *fold, const char *at, bool norm, size_t out_width,
                            size_t in, size_t side, struct linear *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    enum status st = conv_fold_begin(fold, &k, out_width, in, side, side);

    if (st == ST_OK)
        st =
            norm ? conv_fold_add_conv(fold, &k, side, side, at) : conv_fold_add_plain(fold, &k, at);
    if (st == ST_OK)
        st = conv_fold_to_linear(fold, &k, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

enum status mci_stem_load(struct weights *weights, enum naming naming, size_t D,
                          struct arena *arena, struct mci_stem *out, struct error *err)
{
    bool apple = naming == NAMING_APPLE;
    struct conv_fold fold = {.weights = weights,
                             .names = apple ? &apple_parts : &timm_parts,
                             .prefix = apple ? "image_encoder.model.patch_emb."
                                             : "visual.trunk.patch_embed.backbone.",
                             .arena = arena,
                             .err = err};
    enum status st;

    out->padding = apple ? 1 : 0;
    arena_init(&fold.scratch, FOLD_BYTES);
    st = load_one(&fold, apple ? "0.block." : "0.", true, D / 4, 3, 4, &out->first);
    if (st == ST_OK)
        st = load_one(&fold, apple ? "1.block." : "1.", true, D / 4, D / 4, 2, &out->second);
    if (st == ST_OK)
        st = load_one(&fold, apple ? "2.block.conv." : "2.conv.", false, D, D / 4, 2, &out->embed);
    arena_release(&fold.scratch);
    return st;
}

enum status mci_stem_run(const struct mci_stem *stem, const float *pixels, size_t S,
                         struct arena *scratch, float *patches, struct error *err)
{
    size_t quarter = S / 4, eighth = S / 8, C = stem->first.out, n = quarter * quarter;
    struct arena mark = *scratch;
    float *rows, *cut, *x;
    enum status st = arena_alloc(scratch, S * S * 3 * sizeof *rows, &rows, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, n * MAX(stem->first.in, C) * sizeof *cut, &cut, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * C * sizeof *x, &x, err);
    if (st == ST_OK) {
        conv_rows_from_planes(pixels, S * S, 3, rows);
        conv_cut(rows, S, S, 3, 4, stem->padding, cut);
        ops_linear(x, cut, stem->first.in, stem->first.w, stem->first.b, n, C, stem->first.in);
        ops_gelu(x, n * C);
        conv_cut(x, quarter, quarter, C, 2, 0, cut);
        n = eighth * eighth;
        ops_linear(x, cut, stem->second.in, stem->second.w, stem->second.b, n, C, stem->second.in);
        ops_gelu(x, n * C);
        conv_cut(x, eighth, eighth, C, 2, 0, patches);
    }
    arena_rewind(scratch, &mark);
    return st;
}
