#include "tests/support/paligemma_distance.h"

#include "tests/support/test.h"

#include <math.h>

enum { PREFIX_TEXT = 4 };

float *paligemma_forced_logits(const struct snapshot *snapshot, struct weights *weights,
                               size_t n_steps, struct arena *arena)
{
    static const int32_t text[PREFIX_TEXT] = {2, 1995, 657, 108};
    size_t side = (size_t)snapshot->vision.image_size, V = snapshot->decoder.vocab_size;
    size_t D = snapshot->decoder.width, row = 0, S;
    struct gemma_decoder decoder;
    struct paligemma model;
    struct arena mark;
    struct error err = {0};
    float *logits, *pixels, *tokens, *x;

    assert_ok(arena_alloc(arena, n_steps * V * sizeof *logits, &logits, &err));
    mark = *arena;
    assert_ok(paligemma_load(snapshot, weights, &model, &err));
    S = model.n_image_tokens + PREFIX_TEXT;
    assert_ok(arena_alloc(arena, 3 * side * side * sizeof *pixels, &pixels, &err));
    assert_ok(arena_alloc(arena, model.n_image_tokens * D * sizeof *tokens, &tokens, &err));
    assert_ok(arena_alloc(arena, S * D * sizeof *x, &x, &err));
    for (size_t i = 0; i < 3 * side * side; i++)
        pixels[i] = (float)(i * 7919 % 255) / 127.5f - 1;
    assert_ok(paligemma_encode_image(&model, pixels, arena, tokens, &err));
    assert_ok(paligemma_prefix(&model, tokens, text, PREFIX_TEXT, x, &err));
    assert_ok(gemma_decoder_init(&decoder, &model.gemma, 1, S + n_steps, arena, &err));
    assert_ok(gemma_prefill(&model.gemma, x, S, S, &decoder.cache, 0, false, arena, &err));
    for (size_t i = 0; i < n_steps; i++) {
        size_t position = S - 1 + i;
        int32_t token =
            i == 0 ? text[PREFIX_TEXT - 1] : (int32_t)(4 + (i * 104729 + i * i * 31) % (V - 4));

        gemma_decoder_step(&decoder, 1, &row, &position, &token, logits + i * V);
    }
    paligemma_release(&model);
    arena_rewind(arena, &mark);
    return logits;
}

void paligemma_distance_add(struct paligemma_distance *d, const float *want, const float *got,
                            size_t n_steps, size_t V)
{
    for (size_t i = 0; i < n_steps; i++, want += V, got += V) {
        double mean = 0, variance = 0;
        size_t best = 0, chosen = 0;
        float second = -INFINITY;

        for (size_t v = 0; v < V; v++) {
            mean += (double)want[v] / (double)V;
            best = want[v] > want[best] ? v : best;
            chosen = got[v] > got[chosen] ? v : chosen;
        }
        for (size_t v = 0; v < V; v++) {
            d->error += fabs((double)got[v] - (double)want[v]);
            variance += ((double)want[v] - mean) * ((double)want[v] - mean);
            if (v != best)
                second = fmaxf(second, want[v]);
        }
        d->variance += variance;
        d->n += V;
        if ((double)(want[best] - second) > 0.1 * sqrt(variance / (double)V)) {
            d->clear++;
            d->same += best == chosen;
        }
    }
}

double paligemma_distance_error(const struct paligemma_distance *d)
{
    double n = (double)d->n;

    return d->error / n / sqrt(d->variance / n);
}
