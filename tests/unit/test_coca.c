/* CoCa against open_clip 2.31: tests/golden/make_coca.py. CLIP items 31-34, 36; DR items 26, 27. */
#include "reinforce/models/coca.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/captioner.h"
#include "reinforce/text/tokenizer.h"
#include "tests/support/coca_rows.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SMALL "tests/golden/models/coca_small"
#define FUSED "tests/golden/models/coca_fused"

enum { N_IMAGES = 50, SIDE = 48, ROW = 30, MAX_LOGITS = 1 << 16 };

/* One snapshot with its golden tensors. */
struct fixture {
    struct snapshot snapshot;
    struct weights *weights;
    struct coca coca;
    struct safetensors *golden;
    struct arena results, scratch;
};

static void open_fixture(struct fixture *f, const char *dir)
{
    char path[256], digest[SHA256_HEX_LEN + 1];
    struct error err = {0};

    memset(f, 0, sizeof *f);
    arena_init(&f->results, 1 << 30);
    arena_init(&f->scratch, 1 << 30);
    assert_ok(gemm_init(&err));
    assert_ok(snapshot_read(dir, NULL, &f->snapshot, &err));
    assert_int_equal(f->snapshot.family, SNAPSHOT_COCA);
    assert_ok(snapshot_open_weights(&f->snapshot, &f->weights, digest, &err));
    assert_ok(coca_load(&f->snapshot, f->weights, &f->coca, &err));
    (void)snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    assert_ok(safetensors_open(path, &f->golden, &err));
}

static void close_fixture(struct fixture *f)
{
    safetensors_close(&f->golden);
    coca_release(&f->coca);
    weights_destroy(&f->weights);
    arena_release(&f->scratch);
    arena_release(&f->results);
}

/* A golden tensor's bytes, aligned. */
static const void *golden(struct fixture *f, const char *name, size_t *count)
{
    const struct tensor *t = safetensors_peek(f->golden, name);
    struct error err = {0};
    void *copy;

    assert_non_null(t);
    assert_ok(arena_alloc(&f->results, t->data.len, &copy, &err));
    memcpy(copy, t->data.data, t->data.len);
    if (count != NULL)
        *count = tensor_count(t);
    return copy;
}

/* Image k of the goldens. */
static void pattern(int k, int side, struct arena *arena, struct image *out)
{
    struct error err = {0};

    assert_ok(image_alloc(out, side, side, 3, arena, &err));
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++)
                out->pixels[(y * side + x) * 3 + c] =
                    (uint8_t)((37 + 2 * k) * x + (101 + 6 * k) * y + (7 + k) * x * y + 59 * c +
                              29 * k);
}

static void encode(struct fixture *f, int k, int side, float *latent, struct coca_image *out)
{
    struct error err = {0};
    struct image image;
    float *pixels;

    pattern(k, side, &f->results, &image);
    assert_ok(arena_alloc(&f->results, image_bytes(&image) * sizeof *pixels, &pixels, &err));
    preprocess_tensor(&image, f->snapshot.preprocess.mean, f->snapshot.preprocess.std, pixels);
    assert_ok(
        coca_encode_image(&f->coca, pixels, true, &f->results, &f->scratch, latent, out, &err));
}

static void assert_near(const float *got, const float *want, size_t n, double tolerance,
                        const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance))
            fail_msg("%s: element %zu is %.7g, want %.7g", what, i, (double)got[i],
                     (double)want[i]);
}

static void check_latents_and_logits(const char *dir, int side, int n_images)
{
    struct fixture f;
    struct coca_image image = {0}, first = {0};
    struct error err = {0};
    const float *latents, *tokens, *want;
    const int32_t *ids;
    float *latent, *logits, *stepped;
    struct coca_decoder decoder;
    size_t n, n_tokens, V;

    open_fixture(&f, dir);
    V = f.coca.vocab_size;
    latents = golden(&f, "image_latent", NULL);
    tokens = golden(&f, "image_tokens_0", &n_tokens);
    ids = golden(&f, "logits_ids", &n);
    want = golden(&f, "logits", NULL);
    assert_ok(arena_calloc(&f.results, f.coca.embed_dim, sizeof *latent, &latent, &err));
    for (int k = 0; k < n_images; k++) {
        encode(&f, k, side, latent, &image);
        assert_near(latent, latents + (size_t)k * f.coca.embed_dim, f.coca.embed_dim, 1e-5,
                    "image latent");
        if (k == 0)
            first = image;
    }
    assert_int_equal(n_tokens, f.coca.n_image_tokens * f.coca.embed_dim);
    assert_near(first.tokens, tokens, n_tokens, 1e-4, "image tokens");

    assert_ok(arena_calloc(&f.results, n * V, sizeof *logits, &logits, &err));
    assert_ok(arena_calloc(&f.results, V, sizeof *stepped, &stepped, &err));
    assert_ok(coca_logits(&f.coca, &first, ids, n, &f.scratch, logits, &err));
    assert_near(logits, want, n * V, 1e-3, "logits");

    /* CLIP 32: token by token over cached keys, the same up to the context's end */
    assert_ok(coca_decoder_init(&decoder, &f.coca, 1, n, &f.results, &err));
    for (size_t t = 0; t < n; t++) {
        const struct coca_image *of = &first;

        coca_decoder_step(&decoder, 1, &(size_t){0}, &t, &ids[t], &of, stepped);
        assert_near(stepped, logits + t * V, V, 1e-5, "cached logits");
    }
    close_fixture(&f);
}

/* CLIP 31, 32 */
static void latents_tokens_and_logits_equal_open_clip(void **state)
{
    struct fixture f;

    (void)state;
    open_fixture(&f, SMALL);
    assert_int_equal(f.coca.n_image_tokens, 255);
    close_fixture(&f);
    check_latents_and_logits(SMALL, SIDE, N_IMAGES);
}

static void a_fused_pooler_and_a_context_of_128_equal_open_clip(void **state)
{
    (void)state;
    check_latents_and_logits(FUSED, 24, 6);
}

/* CLIP 31: unpadded, padded, full rows and an interior id 0, in both mask modes. */
static void text_latents_equal_open_clip(void **state)
{
    static const char *const dirs[] = {SMALL, FUSED};
    int n_apart = 0;

    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(dirs); d++) {
        struct fixture f;
        struct error err = {0};
        const float *want_2x, *want_3x;
        const int32_t *rows;
        float *latent;
        size_t n_rows, width, D;

        open_fixture(&f, dirs[d]);
        D = f.coca.embed_dim;
        n_rows = safetensors_peek(f.golden, "text_ids")->shape[0];
        width = safetensors_peek(f.golden, "text_ids")->shape[1];
        rows = golden(&f, "text_ids", NULL);
        want_2x = golden(&f, "text_latent_2x", NULL);
        want_3x = golden(&f, "text_latent_3x", NULL);
        assert_ok(arena_calloc(&f.results, D, sizeof *latent, &latent, &err));
        for (size_t r = 0; r < n_rows; r++) {
            size_t n = 0;

            while (n < width && rows[r * width + n] >= 0)
                n++;
            assert_ok(coca_embed_text(&f.coca, rows + r * width, n, 0, COCA_PAD_MASK_CLASS,
                                      &f.scratch, latent, &err));
            assert_near(latent, want_2x + r * D, D, 1e-5, "text latent, 2.x mask");
            assert_ok(coca_embed_text(&f.coca, rows + r * width, n, 0, COCA_PAD_MASK_ALL,
                                      &f.scratch, latent, &err));
            assert_near(latent, want_3x + r * D, D, 1e-5, "text latent, 3.x mask");
            n_apart += fabs((double)(want_2x[r * D] - want_3x[r * D])) > 1e-3;
        }
        close_fixture(&f);
    }
    assert_true(n_apart > 0); /* an interior pad tells the modes apart */
}

/* Golden rows of `width` ids, -1 behind each. */
static void assert_row(const char *what, int k, const int32_t *want, int width, const int32_t *got,
                       int n)
{
    int n_want = 0;

    while (n_want < width && want[n_want] >= 0)
        n_want++;
    if (n != n_want)
        fail_msg("%s %d: %d ids, want %d", what, k, n, n_want);
    for (int i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s %d: id %d is %d, want %d", what, k, i, (int)got[i], (int)want[i]);
}

/* CLIP 33: rows padded to a fixed length, hypotheses that finish, groups and no groups. */
static void an_end_that_comes_early_is_handled_as_in_open_clip(void **state)
{
    struct fixture f;
    const int32_t *end, *fixed, *beam, *one_group;
    int32_t ids[ROW], start;

    (void)state;
    open_fixture(&f, SMALL);
    start = (int32_t)f.coca.vocab_size - 2;
    end = golden(&f, "other_end", NULL);
    fixed = golden(&f, "fixed_other_end", NULL);
    beam = golden(&f, "beam_other_end", NULL);
    one_group = golden(&f, "beam_one_group_other_end", NULL);
    for (int k = 0; k < 10; k++) {
        const struct sampler_config greedy = {.greedy = true,
                                              .temperature = 1,
                                              .repetition_penalty = 1,
                                              .min_tokens = 5,
                                              .max_tokens = ROW,
                                              .end = *end};
        struct beam_config search = {.n_beams = 6,
                                     .n_groups = 3,
                                     .raw_logits = true,
                                     .length_penalty = 1,
                                     .repetition_penalty = 1,
                                     .min_tokens = 5,
                                     .max_tokens = ROW,
                                     .start = start,
                                     .end = *end};
        struct sampler_row row = {.ids = ids};
        struct coca_image image;

        encode(&f, k, SIDE, NULL, &image);
        row.n_ids = coca_sample_row(&f.coca, &image, &greedy, start, NULL, ids);
        sampler_row_pad(&greedy, &row);
        assert_row("fixed length", k, fixed + k * ROW, ROW, ids, row.n_ids);
        assert_row("beam", k, beam + k * ROW, ROW, ids,
                   coca_beam_row(&f.coca, &image, &search, ids));
        search.n_groups = 1;
        assert_row("beam, one group", k, one_group + k * ROW, ROW, ids,
                   coca_beam_row(&f.coca, &image, &search, ids));
    }
    close_fixture(&f);
}

/* CLIP 36: the positional table says how long rows may be, here 129 rows. */
static void rows_reach_the_context_and_no_further(void **state)
{
    enum { CONTEXT = 128, START = 62, END = 63, PAD = 61 };
    const struct sampler_config greedy = {.greedy = true,
                                          .temperature = 1,
                                          .repetition_penalty = 1,
                                          .min_tokens = CONTEXT - 1,
                                          .max_tokens = CONTEXT,
                                          .end = END,
                                          .pad = PAD};
    struct fixture f;
    struct coca_decoder decoder;
    struct error err = {0};
    const int32_t *rows;
    int32_t ids[CONTEXT + 1];
    int longest = 0;

    (void)state;
    open_fixture(&f, FUSED);
    assert_int_equal(f.coca.context_length, CONTEXT);
    rows = golden(&f, "greedy", NULL);
    for (int k = 0; k < 6; k++) {
        struct coca_image image;
        int n;

        encode(&f, k, 24, NULL, &image);
        n = coca_sample_row(&f.coca, &image, &greedy, START, NULL, ids);
        assert_row("row", k, rows + k * CONTEXT, CONTEXT, ids, n);
        longest = MAX(longest, n);
    }
    assert_int_equal(longest, CONTEXT);
    assert_status(coca_decoder_init(&decoder, &f.coca, 1, CONTEXT + 1, &f.results, &err),
                  ST_INVALID);
    assert_non_null(strstr(err.message, "128"));
    close_fixture(&f);
}

/* CLIP 36: the same weights under a table of 257 rows; the config's own context is not asked. */
static void a_longer_table_gives_longer_rows(void **state)
{
    enum { CONTEXT = 256, WIDTH = 32 };
    static float table[(CONTEXT + 1) * WIDTH];
    const struct sampler_config greedy = {.greedy = true,
                                          .temperature = 1,
                                          .repetition_penalty = 1,
                                          .min_tokens = CONTEXT - 1,
                                          .max_tokens = CONTEXT,
                                          .end = 63,
                                          .pad = 61,
                                          .mask_pad = true};
    struct fixture f;
    struct weights *weights = NULL;
    struct tensor tensors[256];
    const struct tensor *stored;
    struct coca longer;
    struct coca_image image;
    struct error err = {0};
    int32_t ids[CONTEXT + 1] = {0};
    float *logits;
    size_t n;

    (void)state;
    open_fixture(&f, FUSED);
    stored = weights_view(f.weights, &n);
    assert_true(n <= ARRAY_LEN(tensors));
    memcpy(tensors, stored, n * sizeof *tensors);
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        table[i] = (float)(i * 7 % 11) / 22.0f - 0.25f;
    for (size_t i = 0; i < n; i++)
        if (strcmp(tensors[i].name, "text.positional_embedding") == 0) {
            tensors[i].dtype = TENSOR_F32;
            tensors[i].shape[0] = CONTEXT + 1;
            tensors[i].data = bytes_view_of(table, sizeof table);
        }
    assert_ok(weights_create(tensors, n, &weights, &err));
    assert_ok(coca_load(&f.snapshot, weights, &longer, &err));
    assert_int_equal(longer.context_length, CONTEXT);
    encode(&f, 0, 24, NULL, &image);
    assert_int_equal(coca_sample_row(&longer, &image, &greedy, 62, NULL, ids), CONTEXT);
    assert_ok(
        arena_calloc(&f.results, (CONTEXT + 1) * longer.vocab_size, sizeof *logits, &logits, &err));
    assert_ok(coca_logits(&longer, &image, ids, CONTEXT, &f.scratch, logits, &err));
    assert_status(coca_logits(&longer, &image, ids, CONTEXT + 1, &f.scratch, logits, &err),
                  ST_INVALID);
    assert_status(coca_embed_text(&longer, ids, CONTEXT + 1, 0, COCA_PAD_MASK_CLASS, &f.scratch,
                                  logits, &err),
                  ST_INVALID);
    coca_release(&longer);
    weights_destroy(&weights);
    close_fixture(&f);
}

/* Captions of the golden images through the captioner, `batch` images to a call. */
static void caption_all(const struct caption_options *how, int n, size_t batch,
                        struct arena *results, struct caption *out)
{
    const struct captioner_options options = {.model_dir = SMALL};
    struct captioner *captioner;
    struct error err = {0};
    struct arena scratch;

    arena_init(&scratch, 1 << 30);
    assert_ok(captioner_open(&options, &captioner, &err));
    for (size_t k = 0; k < (size_t)n; k += batch) {
        size_t B = MIN(batch, (size_t)n - k);
        struct image images[N_IMAGES];
        struct bytes_view uids[N_IMAGES];

        for (size_t b = 0; b < B; b++) {
            char name[16], *uid;

            (void)snprintf(name, sizeof name, "image%zu", k + b);
            pattern((int)(k + b), SIDE, results, &images[b]);
            assert_ok(arena_strndup(results, name, strlen(name), &uid, &err));
            uids[b] = bytes_of_string(uid);
        }
        assert_ok(captioner_caption_images(captioner, images, uids, B, how, results, &scratch,
                                           out + k * (size_t)how->n_captions, &err));
    }
    captioner_close(&captioner);
    arena_release(&scratch);
}

static void a_small_cache_is_for_paligemma(void **state)
{
    const struct captioner_options options = {.model_dir = SMALL, .kv_type = KV_BFLOAT16};
    struct captioner *captioner = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(captioner_open(&options, &captioner, &err), ST_INVALID);
    assert_null(captioner);
    assert_non_null(strstr(err.message, "a kv_cache that is not float32 is for PaliGemma"));
}

/* Fifty captions, word by word. */
static void greedy_captions_equal_open_clip(void **state)
{
    struct caption captions[N_IMAGES];
    struct caption_options how;
    struct arena results;
    struct fixture f;
    const char *texts;
    size_t len, at = 0;

    (void)state;
    arena_init(&results, 1 << 30);
    open_fixture(&f, SMALL);
    texts = golden(&f, "greedy_texts", &len);
    caption_options_default(&how);
    how.strategy = CAPTION_GREEDY;
    how.mask_pad = false;
    caption_all(&how, N_IMAGES, 7, &results, captions);
    for (int k = 0; k < N_IMAGES; k++) {
        const char *end = memchr(texts + at, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - (texts + at)) : len - at;

        if (captions[k].text_len != n || memcmp(captions[k].text, texts + at, n) != 0)
            fail_msg("image %d: \"%s\", want \"%.*s\"", k, captions[k].text, (int)n, texts + at);
        at += n + 1;
    }
    close_fixture(&f);
    arena_release(&results);
}

/* DR 26: nucleus samples depend on seed and uid, not on how many images share a call. */
static void samples_do_not_depend_on_the_batch(void **state)
{
    enum { N = 12, EACH = 3 };
    struct caption one[N * EACH], many[N * EACH], other[N * EACH];
    struct caption_options how;
    struct arena results;
    int n_differ = 0;

    (void)state;
    arena_init(&results, 1 << 30);
    caption_options_default(&how);
    how.n_captions = EACH;
    how.seed = 7;
    caption_all(&how, N, 1, &results, one);
    caption_all(&how, N, 12, &results, many);
    how.seed = 8;
    caption_all(&how, N, 12, &results, other);
    for (int i = 0; i < N * EACH; i++) {
        assert_string_equal(one[i].text, many[i].text);
        assert_true(one[i].score == many[i].score);
        assert_true(one[i].text_len > 0 && one[i].n_tokens <= ROW);
        n_differ += strcmp(one[i].text, other[i].text) != 0;
    }
    assert_true(n_differ > N);
    arena_release(&results);
}

/* Golden rows [n * each, 30] of ids, -1 behind each, against captions [n, n_captions] from `first`
 * on. */
static void assert_says(const char *name, const struct caption_options *how, int n, int first,
                        int each)
{
    static struct caption captions[N_IMAGES * 4];
    struct tokenizer *tokenizer;
    struct arena results;
    struct error err = {0};
    struct fixture f;
    const int32_t *rows;
    int32_t end;

    arena_init(&results, 1 << 30);
    open_fixture(&f, SMALL);
    rows = golden(&f, name, NULL);
    assert_ok(tokenizer_open(SMALL, TOKENIZER_RULES_OPEN_CLIP, &tokenizer, &err));
    end = tokenizer_token_id(tokenizer, "<|endoftext|>");
    caption_all(how, n, 4, &results, captions);
    for (int i = 0; i < n * each; i++) {
        const struct caption *got = &captions[i / each * how->n_captions + first + i % each];
        size_t n_ids = 0, len;
        char *want;

        while (n_ids < ROW && rows[i * ROW + (int)n_ids] >= 0 && rows[i * ROW + (int)n_ids] != end)
            n_ids++;
        assert_ok(
            tokenizer_decode(tokenizer, rows + i * ROW, n_ids, true, &results, &want, &len, &err));
        if (got->text_len != len || memcmp(got->text, want, len) != 0)
            fail_msg("%s, row %d: \"%s\", want \"%s\"", name, i, got->text, want);
    }
    tokenizer_destroy(&tokenizer);
    close_fixture(&f);
    arena_release(&results);
}

/* CLIP 34: open_clip's nucleus, with torch.multinomial inverting the distribution at our variates.
 */
static void samples_at_given_variates_equal_open_clip(void **state)
{
    struct caption_options how;

    (void)state;
    caption_options_default(&how);
    how.mask_pad = false;
    how.n_captions = 2;
    how.seed = 7;
    how.stream = 3;
    assert_says("top_p", &how, 20, 1, 1);
}

/* CLIP 33 */
static void penalties_and_beams_equal_the_references(void **state)
{
    struct caption_options how;

    (void)state;
    caption_options_default(&how);
    how.mask_pad = false;
    how.strategy = CAPTION_GREEDY;
    how.repetition_penalty = 1.5;
    assert_says("penalty", &how, 10, 0, 1);
    how.repetition_penalty = 1;
    how.strategy = CAPTION_BEAM_OPEN_CLIP;
    assert_says("beam", &how, 10, 0, 1);
    how.strategy = CAPTION_BEAM;
    how.n_beams = 5;
    how.length_penalty = 1.5;
    how.n_captions = 3;
    assert_says("log_beam", &how, 10, 0, 3);
}

static void beam_strategies_give_captions(void **state)
{
    static const enum caption_strategy strategies[] = {CAPTION_BEAM, CAPTION_BEAM_OPEN_CLIP};

    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(strategies); s++) {
        struct caption captions[8];
        struct caption_options how;
        struct arena results;

        arena_init(&results, 1 << 30);
        caption_options_default(&how);
        how.strategy = strategies[s];
        how.n_captions = 2;
        caption_all(&how, 4, 2, &results, captions);
        for (int i = 0; i < 8; i++)
            assert_true(captions[i].text_len > 0 && isfinite(captions[i].score));
        arena_release(&results);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_tokens_and_logits_equal_open_clip),
        cmocka_unit_test(a_fused_pooler_and_a_context_of_128_equal_open_clip),
        cmocka_unit_test(text_latents_equal_open_clip),
        cmocka_unit_test(an_end_that_comes_early_is_handled_as_in_open_clip),
        cmocka_unit_test(rows_reach_the_context_and_no_further),
        cmocka_unit_test(a_longer_table_gives_longer_rows),
        cmocka_unit_test(a_small_cache_is_for_paligemma),
        cmocka_unit_test(greedy_captions_equal_open_clip),
        cmocka_unit_test(samples_do_not_depend_on_the_batch),
        cmocka_unit_test(samples_at_given_variates_equal_open_clip),
        cmocka_unit_test(penalties_and_beams_equal_the_references),
        cmocka_unit_test(beam_strategies_give_captions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
