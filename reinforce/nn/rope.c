#include "reinforce/nn/rope.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum status rope_init(struct rope *rope, size_t n_positions, size_t head_dim, double base,
                      struct error *err)
{
    size_t half = head_dim / 2;

    *rope = (struct rope){.n_positions = n_positions, .head_dim = head_dim};
    rope->cos = calloc(n_positions * half + 1, sizeof *rope->cos);
    rope->sin = calloc(n_positions * half + 1, sizeof *rope->sin);
    if (rope->cos == NULL || rope->sin == NULL) {
        rope_release(rope);
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu rotary positions", n_positions);
    }
    for (size_t i = 0; i < half; i++) {
        double step = pow(base, -2.0 * (double)i / (double)head_dim);

        for (size_t t = 0; t < n_positions; t++) {
            rope->cos[t * half + i] = (float)cos((double)t * step);
            rope->sin[t * half + i] = (float)sin((double)t * step);
        }
    }
    return ST_OK;
}

void rope_release(struct rope *rope)
{
    free(rope->cos);
    free(rope->sin);
    *rope = (struct rope){0};
}

void rope_turn(const struct rope *rope, float *x, size_t n_heads, size_t position)
{
    size_t half = rope->head_dim / 2;
    const float *c = rope->cos + position * half, *s = rope->sin + position * half;

    assert(position < rope->n_positions);
    for (size_t h = 0; h < n_heads; h++, x += rope->head_dim)
        for (size_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];

            x[i] = a * c[i] - b * s[i];
            x[i + half] = b * c[i] + a * s[i];
        }
}

void rope_turn_ref(float *x, size_t n_heads, size_t head_dim, double base, size_t position)
{
    size_t half = head_dim / 2;

    for (size_t h = 0; h < n_heads; h++)
        for (size_t i = 0; i < half; i++) {
            double angle = (double)position * pow(base, -2.0 * (double)i / (double)head_dim);
            double a = (double)x[h * head_dim + i], b = (double)x[h * head_dim + i + half];

            x[h * head_dim + i] = (float)(a * cos(angle) - b * sin(angle));
            x[h * head_dim + i + half] = (float)(b * cos(angle) + a * sin(angle));
        }
}
