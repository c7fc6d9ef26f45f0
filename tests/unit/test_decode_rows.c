/* Rows decoded together, by a model that says a number's worth of tokens. */
#include "reinforce/teach/decode_rows.h"
#include "tests/support/test.h"

#include <stdio.h>

enum { V = 8, START = 1, END = 2, WORD = 5, OTHER_END = 6, N_IMAGES = 1000, ROWS = 16 };

struct fake {
    size_t begun, steps, rows_stepped, full_steps, steps_with_waiting;
    size_t total;
    int redraws_seen;
    bool empty_at_first; /* a row's first draw ends at once */
    int32_t end;
    bool taken[ROWS];
};

/* Image i says i mod 37 words. */
static int words_of(size_t image)
{
    return (int)(image * 7 % 37);
}

static enum status begin(void *context, const struct decode_sequence *sequence, struct error *err)
{
    struct fake *fake = context;

    (void)err;
    assert_true(sequence->cache_row < ROWS);
    assert_int_equal(sequence->row.n_ids, 1);
    assert_int_equal(sequence->row.ids[0], START);
    fake->begun++;
    return ST_OK;
}

static enum status step(void *context, const struct decode_sequence *rows, size_t n, float *logits,
                        struct error *err)
{
    struct fake *fake = context;

    (void)err;
    fake->steps++;
    fake->rows_stepped += n;
    fake->full_steps += n == ROWS;
    fake->steps_with_waiting += fake->begun < fake->total;
    memset(fake->taken, 0, sizeof fake->taken);
    for (size_t i = 0; i < n; i++) {
        int said = rows[i].row.n_ids - 1;
        bool ends = said == words_of(rows[i].image) ||
                    (fake->empty_at_first && rows[i].redraw == 0 && said == 0);

        assert_false(fake->taken[rows[i].cache_row]); /* no two in one cache row */
        fake->taken[rows[i].cache_row] = true;
        for (int v = 0; v < V; v++)
            logits[i * V + (size_t)v] = v == (ends ? fake->end : WORD) ? 100.0f : 0.0f;
        fake->redraws_seen += rows[i].redraw > 0;
    }
    return ST_OK;
}

static enum status say(void *context, const int32_t *ids, int n_ids, struct arena *results,
                       char **said, size_t *len, struct error *err)
{
    char text[64];
    int words = 0, n;

    (void)context;
    for (int i = 1; i < n_ids; i++)
        words += ids[i] == WORD;
    n = words == 0 ? 0 : snprintf(text, sizeof text, "%d", words);
    *len = (size_t)n;
    return arena_strndup(results, text, (size_t)n, said, err);
}

static struct caption captions[2 * N_IMAGES];
static struct bytes_view uids[N_IMAGES];
static struct arena results, scratch;

static void decode(struct fake *fake, const struct caption_options *how, size_t B, size_t per_image)
{
    const struct decode_model model = {.context = fake,
                                       .vocab_size = V,
                                       .start = START,
                                       .end = END,
                                       .pad = OTHER_END,
                                       .begin = begin,
                                       .step = step,
                                       .say = say};
    struct error err = {0};

    fake->total = B * per_image;
    if (fake->end == 0)
        fake->end = END;
    arena_reset(&results);
    arena_reset(&scratch);
    assert_ok(
        decode_rows(&model, how, uids, B, per_image, ROWS, &results, &scratch, captions, &err));
}

static struct caption_options greedy(int n_captions)
{
    struct caption_options how;

    caption_options_default(&how);
    how.strategy = CAPTION_GREEDY;
    how.n_captions = n_captions;
    how.max_tokens = 40;
    how.min_tokens = 0;
    return how;
}

static void assert_says(const struct caption *caption, int words)
{
    char want[16];

    (void)snprintf(want, sizeof want, "%d", words);
    assert_string_equal(caption->text, words == 0 ? "" : want);
}

/* PALI 26 */
static void rows_stay_busy_until_none_waits_and_captions_keep_their_images(void **state)
{
    struct caption_options how = greedy(1);
    struct fake fake = {0};

    (void)state;
    decode(&fake, &how, N_IMAGES, 1);
    assert_int_equal(fake.begun, N_IMAGES);
    assert_true(fake.full_steps >= fake.steps_with_waiting); /* all rows, whenever one waits */
    assert_true((double)fake.rows_stepped > 0.9 * (double)(fake.steps_with_waiting * ROWS));
    for (size_t i = 0; i < N_IMAGES; i++)
        assert_says(&captions[i], words_of(i));
}

/* PALI 17: either of two ids ends a row, and neither is text */
static void another_end_ends_a_row_too(void **state)
{
    struct caption_options how = greedy(1);
    struct fake fake = {.end = OTHER_END};

    (void)state;
    decode(&fake, &how, 30, 1);
    for (size_t i = 0; i < 30; i++) {
        assert_says(&captions[i], words_of(i));
        assert_int_equal(captions[i].n_tokens, words_of(i) + 1);
    }
}

/* PALI 31: so many tokens, then the end, drawn or not */
static void a_length_limit_is_kept_exactly(void **state)
{
    static const int limits[] = {1, 5, 32};

    (void)state;
    for (size_t l = 0; l < ARRAY_LEN(limits); l++) {
        struct caption_options how = greedy(1);
        struct fake fake = {0};

        how.max_tokens = limits[l] + 2;
        decode(&fake, &how, 40, 1);
        for (size_t i = 0; i < 40; i++) {
            assert_says(&captions[i], MIN(words_of(i), limits[l]));
            assert_int_equal(captions[i].stop,
                             words_of(i) >= limits[l] ? CAPTION_STOP_LENGTH : CAPTION_STOP_END);
        }
    }
}

static void captions_of_an_image_are_repeated_in_order(void **state)
{
    struct caption_options how = greedy(2);
    struct fake fake = {0};

    (void)state;
    decode(&fake, &how, 20, 1);
    for (size_t i = 0; i < 40; i++)
        assert_says(&captions[i], words_of(i / 2));
    assert_int_equal(fake.begun, 20);
}

static void an_empty_caption_is_drawn_again_in_its_row(void **state)
{
    struct caption_options how = greedy(1);
    struct fake fake = {.empty_at_first = true};

    (void)state;
    how.strategy = CAPTION_SAMPLE;
    decode(&fake, &how, 20, 1);
    assert_int_equal(fake.begun, 20);
    assert_true(fake.redraws_seen > 0);
    for (size_t i = 0; i < 20; i++)
        assert_says(&captions[i], words_of(i));
}

static int init_arenas(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_IMAGES; i++)
        uids[i] = bytes_of_string("uid");
    arena_init(&results, 1 << 24);
    arena_init(&scratch, 1 << 24);
    return 0;
}

static int release_arenas(void **state)
{
    (void)state;
    arena_release(&results);
    arena_release(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_stay_busy_until_none_waits_and_captions_keep_their_images),
        cmocka_unit_test(another_end_ends_a_row_too),
        cmocka_unit_test(a_length_limit_is_kept_exactly),
        cmocka_unit_test(captions_of_an_image_are_repeated_in_order),
        cmocka_unit_test(an_empty_caption_is_drawn_again_in_its_row),
    };

    return cmocka_run_group_tests(tests, init_arenas, release_arenas);
}
