#include "tests/support/paligemma_golden.h"

#include "reinforce/base/file.h"
#include "reinforce/nn/gemm.h"
#include "tests/support/test.h"

#include <stdio.h>

const char *const paligemma_golden_dirs[3] = {"tests/golden/models/paligemma_small",
                                              "tests/golden/models/paligemma2_small",
                                              "tests/golden/models/paligemma2_odd"};

void paligemma_golden_open(struct paligemma_golden *g, const char *dir)
{
    char path[256], digest[SHA256_HEX_LEN + 1];
    struct byte_buf text;
    struct error err = {0};

    memset(g, 0, sizeof *g);
    arena_init(&g->arena, 1 << 28);
    arena_init(&g->scratch, 1 << 28);
    byte_buf_init(&text, 1 << 20);
    assert_ok(gemm_init(&err));
    assert_ok(snapshot_read(dir, NULL, &g->snapshot, &err));
    assert_int_equal(g->snapshot.family, SNAPSHOT_PALIGEMMA);
    assert_ok(snapshot_open_weights(&g->snapshot, &g->weights, digest, &err));
    assert_ok(paligemma_load(&g->snapshot, g->weights, &g->model, &err));
    (void)snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    assert_ok(safetensors_open(path, &g->tensors, &err));
    (void)snprintf(path, sizeof path, "%s/golden.json", dir);
    assert_ok(file_read(path, &text, &err));
    assert_ok(json_parse(byte_buf_view(&text), &g->words, &err));
    byte_buf_release(&text);
}

void paligemma_golden_close(struct paligemma_golden *g)
{
    json_decref(g->words);
    safetensors_close(&g->tensors);
    paligemma_release(&g->model);
    weights_destroy(&g->weights);
    arena_release(&g->arena);
    arena_release(&g->scratch);
}

const void *paligemma_golden_get(struct paligemma_golden *g, const char *name, size_t *count)
{
    const struct tensor *t = safetensors_peek(g->tensors, name);
    struct error err = {0};
    void *copy;

    *count = 0;
    if (t == NULL)
        return NULL;
    assert_ok(arena_alloc(&g->arena, t->data.len, &copy, &err));
    memcpy(copy, t->data.data, t->data.len);
    *count = tensor_count(t);
    return copy;
}

size_t paligemma_golden_prompt(const struct paligemma_golden *g, size_t prompt, int32_t ids[64])
{
    const json_t *list = json_array_get(json_object_get(g->words, "prompt_ids"), prompt);
    size_t n = json_array_size(list);

    assert_true(n >= 2 && n <= 64);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

void paligemma_golden_pattern(int k, int height, int width, struct arena *arena, struct image *out)
{
    struct error err = {0};

    assert_ok(image_alloc(out, width, height, 3, arena, &err));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                out->pixels[(y * width + x) * 3 + c] =
                    (uint8_t)((37 + 2 * k) * x + (101 + 6 * k) * y + (7 + k) * x * y + 59 * c +
                              29 * k);
}

void paligemma_golden_picture(int k, struct arena *arena, struct image *out)
{
    paligemma_golden_pattern(k, 20 + 3 * k, 64 - k, arena, out);
}

const float *paligemma_golden_tokens(struct paligemma_golden *g, const struct paligemma *model,
                                     int k)
{
    const struct preprocess *pre = &g->snapshot.preprocess;
    size_t n = (size_t)pre->size * (size_t)pre->size * 3;
    struct image picture, square;
    struct error err = {0};
    float *pixels, *tokens;

    paligemma_golden_picture(k, &g->arena, &picture);
    assert_ok(preprocess_pixels(pre, &picture, &g->arena, &square, &err));
    assert_ok(arena_alloc(&g->arena, n * sizeof *pixels, &pixels, &err));
    assert_ok(arena_alloc(&g->arena,
                          model->n_image_tokens * model->gemma.config.width * sizeof *tokens,
                          &tokens, &err));
    preprocess_tensor(&square, pre->mean, pre->std, pixels);
    assert_ok(paligemma_encode_image(model, pixels, &g->scratch, tokens, &err));
    return tokens;
}
