#include "tests/support/coca_rows.h"

#include "tests/support/test.h"

#include <string.h>

enum { MEMORY_BYTES = 1 << 30 };

int coca_sample_row(const struct coca *coca, const struct coca_image *image,
                    const struct sampler_config *config, int32_t start, const struct philox *rng,
                    int32_t *ids)
{
    const struct philox unused = {0};
    struct sampler_scratch scratch;
    struct coca_decoder decoder;
    struct sampler_row row;
    struct arena memory;
    struct error err = {0};
    float *logits;

    arena_init(&memory, MEMORY_BYTES);
    assert_ok(sampler_config_check(config, coca->vocab_size, &err));
    assert_ok(sampler_scratch_init(&scratch, coca->vocab_size, &memory, &err));
    assert_ok(coca_decoder_init(&decoder, coca, 1, (size_t)config->max_tokens, &memory, &err));
    assert_ok(arena_calloc(&memory, coca->vocab_size, sizeof *logits, &logits, &err));
    sampler_row_init(&row, ids, start, rng != NULL ? rng : &unused);
    while (!row.ended) {
        size_t position = (size_t)row.n_ids - 1;

        if (sampler_row_is_forced(config, &row)) {
            sampler_row_force_end(config, &row);
            break;
        }
        coca_decoder_step(&decoder, 1, &(size_t){0}, &position, &ids[position], &image, logits);
        assert_ok(sampler_row_step(config, &row, logits, &scratch, &err));
    }
    arena_release(&memory);
    return row.n_ids;
}

int coca_beam_row(const struct coca *coca, const struct coca_image *image,
                  const struct beam_config *config, int32_t *ids)
{
    struct beam_hypothesis best;
    struct arena memory;
    struct error err = {0};
    int n;

    arena_init(&memory, MEMORY_BYTES);
    assert_ok(beam_config_check(config, coca->vocab_size, &err));
    assert_ok(coca_beam_search(coca, image, config, 1, &memory, &best, &n, &err));
    assert_int_equal(n, 1);
    n = best.n_ids;
    memcpy(ids, best.ids, (size_t)n * sizeof *ids);
    arena_release(&memory);
    return n;
}
