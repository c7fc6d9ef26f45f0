/* Requests and their answers, without sockets. Numbers are those of the specification's checklist.
 */
#include "coordinator/curator/curator.h"
#include "reinforce/base/clock.h"
#include "tests/support/pairs.h"

#include <string.h>

enum { B = 200, D = 16, N_SELECTED = 60, BYTES = 64 << 20 };

/* A request over pairs of tests/support/pairs.h, and references that know some of them. */
struct setting {
    struct pairs pairs;
    struct curator_request request;
    uint8_t ids[B][CURATOR_ID_BYTES];
    size_t n_known; /* ids up to this have references */
    struct curator_references references;
    struct curator *curator;
    struct byte_buf message;
};

static bool row(void *ctx, const uint8_t id[CURATOR_ID_BYTES], float *image, float *text)
{
    const struct setting *setting = ctx;
    size_t i = (size_t)(id[0] | id[1] << 8) - 1;

    if (i >= setting->n_known)
        return false;
    memcpy(image, setting->pairs.rows[1][PAIR_IMAGE] + i * D, D * sizeof *image);
    memcpy(text, setting->pairs.rows[1][PAIR_TEXT] + i * D, D * sizeof *text);
    return true;
}

static struct curator_model sent(const struct pair_model *model)
{
    return (struct curator_model){.D = model->D,
                                  .dtype = CURATOR_F32,
                                  .scale = model->scale,
                                  .bias = model->bias,
                                  .image = model->rows[PAIR_IMAGE],
                                  .text = model->rows[PAIR_TEXT]};
}

static void begin(struct setting *setting, bool with_references)
{
    struct curator_options options = {.n_threads = 2, .max_bytes = BYTES, .n_remembered = 2};
    struct error err = {0};

    memset(setting, 0, sizeof *setting);
    pairs_draw(&setting->pairs, B, D, D, 1);
    for (size_t i = 0; i < B; i++) {
        setting->ids[i][0] = (uint8_t)(i + 1);
        setting->ids[i][1] = (uint8_t)((i + 1) >> 8);
    }
    setting->n_known = B;
    setting->references = (struct curator_references){.D = D,
                                                      .scale = setting->pairs.batch.reference.scale,
                                                      .bias = setting->pairs.batch.reference.bias,
                                                      .version = "so400m@1",
                                                      .ctx = setting,
                                                      .row = row};
    setting->request = (struct curator_request){
        .job = "b16",
        .super_batch = 4,
        .step = 12,
        .learner_step = 9,
        .seed = 3,
        .B = B,
        .n_selected = N_SELECTED,
        .n_chunks = 4,
        .criterion = SELECT_LEARNABILITY,
        .loss = PAIR_SIGMOID,
        .gain = 1,
        .learner = sent(&setting->pairs.batch.learner),
        .ids = bytes_view_of(setting->ids, sizeof setting->ids),
    };
    options.references = with_references ? &setting->references : NULL;
    byte_buf_init(&setting->message, 1 << 16);
    assert_ok(curator_create(&options, &setting->curator, &err));
}

static void end(struct setting *setting)
{
    curator_destroy(&setting->curator);
    byte_buf_release(&setting->message);
    pairs_release(&setting->pairs);
}

static struct curator_answer ask(struct setting *setting, int64_t received_ns)
{
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    struct curator_answer answer;
    struct error err = {0};
    size_t n_frames;

    byte_buf_reset(&setting->message);
    assert_ok(
        curator_request_encode(&setting->request, &setting->message, frames, &n_frames, &err));
    assert_ok(curator_answer(setting->curator, byte_buf_view(&setting->message), frames, n_frames,
                             received_ns, &answer, &err));
    return answer;
}

static void read_reply(const struct curator_answer *answer, struct curator_reply *reply,
                       struct arena *arena)
{
    struct error err = {0};

    arena_init(arena, BYTES);
    assert_ok(curator_reply_decode(answer->message, answer->frames, answer->n_frames, reply, arena,
                                   &err));
}

static void the_answer_is_the_librarys_selection(void **state)
{
    struct selection_options options;
    struct selection want;
    struct setting setting;
    struct error err = {0};

    (void)state;
    for (int own = 0; own < 2; own++) {
        struct arena arena, expected;
        struct curator_reply reply;
        struct curator_answer answer;

        begin(&setting, own != 0);
        if (!own)
            setting.request.reference = sent(&setting.pairs.batch.reference);
        setting.request.all_marginals = true;
        setting.request.batch_scores = true;
        answer = ask(&setting, clock_monotonic_ns());
        read_reply(&answer, &reply, &arena);
        arena_init(&expected, BYTES);
        selection_options_default(&options);
        options.n_selected = N_SELECTED;
        options.n_chunks = 4;
        options.seed = 3;
        options.step = 12;
        options.batch_scores = true;
        assert_ok(selection_run(&setting.pairs.batch, &options, &want, &expected, &err));
        assert_int_equal(reply.status, CURATOR_OK);
        assert_int_equal(reply.n_selected, N_SELECTED);
        assert_memory_equal(reply.index.data, want.index, reply.index.len);
        assert_memory_equal(reply.chunk.data, want.chunk, reply.chunk.len);
        assert_memory_equal(reply.marginal.data, want.marginal, reply.marginal.len);
        assert_memory_equal(reply.conditional.data, want.conditional, reply.conditional.len);
        assert_memory_equal(reply.marginals.data, want.marginals, B * sizeof(float));
        assert_true(reply.statistics.batch_score == want.stats.batch_score);
        assert_string_equal(reply.reference_version, own ? "so400m@1" : "");
        arena_release(&arena);
        arena_release(&expected);
        end(&setting);
    }
}

/* CURATE 22 */
static void late_or_without_references_the_answer_is_uniform(void **state)
{
    struct setting setting;

    (void)state;
    for (int late = 0; late < 2; late++) {
        struct curator_reply reply, again;
        struct curator_answer answer;
        struct arena arena, second;

        begin(&setting, true);
        if (late)
            setting.request.deadline_ms = 1;
        else
            setting.n_known = B * 85 / 100;
        answer = ask(&setting, clock_monotonic_ns() - 1000000000);
        read_reply(&answer, &reply, &arena);
        assert_int_equal(reply.status, CURATOR_FALLBACK_UNIFORM);
        assert_int_equal(reply.n_selected, N_SELECTED);
        assert_non_null(strstr(reply.reason, late ? "deadline" : "30 of 200 examples"));
        assert_int_equal(reply.statistics.n_without_reference, late ? 0 : 30);
        setting.request.super_batch++; /* the permutation is the seed's and the step's */
        setting.n_known = 0;
        answer = ask(&setting, clock_monotonic_ns() - 1000000000);
        read_reply(&answer, &again, &second);

        assert_int_equal(again.status, CURATOR_FALLBACK_UNIFORM);
        assert_memory_equal(again.index.data, reply.index.data, reply.index.len);
        arena_release(&arena);
        arena_release(&second);
        end(&setting);
    }
}

static void a_few_missing_references_are_a_few_invalid_examples(void **state)
{
    struct setting setting;
    struct curator_reply reply;
    struct curator_answer answer;
    struct arena arena;

    (void)state;
    begin(&setting, true);
    setting.n_known = B * 95 / 100;
    answer = ask(&setting, clock_monotonic_ns());
    read_reply(&answer, &reply, &arena);
    assert_int_equal(reply.status, CURATOR_OK_PARTIAL);
    assert_int_equal(reply.statistics.n_without_reference, 10);
    assert_int_equal(reply.statistics.n_invalid, 10);
    for (size_t i = 0; i < N_SELECTED; i++) {
        uint32_t index;

        memcpy(&index, reply.index.data + i * sizeof index, sizeof index);
        assert_true(index < setting.n_known);
    }
    arena_release(&arena);
    end(&setting);
}

/* CURATE 23 */
static void a_repeated_request_gets_the_same_bytes(void **state)
{
    struct bytes_view copies[CURATOR_MAX_FRAMES + 1];
    struct setting setting;
    struct curator_answer answer;
    struct byte_buf first;
    struct error err = {0};

    (void)state;
    begin(&setting, true);
    byte_buf_init(&first, BYTES);
    answer = ask(&setting, clock_monotonic_ns());
    copies[0] = answer.message;
    memcpy(copies + 1, answer.frames, answer.n_frames * sizeof *copies);
    for (size_t f = 0; f <= answer.n_frames; f++)
        assert_ok(byte_buf_append(&first, copies[f].data, copies[f].len, &err));
    setting.request.super_batch++; /* another one between */
    (void)ask(&setting, clock_monotonic_ns());
    setting.request.super_batch--;
    setting.n_known = 0; /* it is remembered, not selected again */
    for (int round = 0; round < 2; round++) {
        size_t at = answer.message.len;

        answer = ask(&setting, clock_monotonic_ns());
        assert_memory_equal(answer.message.data, first.data, answer.message.len);
        for (size_t f = 0; f < answer.n_frames; f++) {
            assert_memory_equal(answer.frames[f].data, first.data + at, answer.frames[f].len);
            at += answer.frames[f].len;
        }
        assert_int_equal(at, first.len);
    }
    byte_buf_release(&first);
    end(&setting);
}

/* CURATE 15, 20, 24 */
static void what_cannot_be_met_is_refused_with_a_reason(void **state)
{
    struct setting setting;
    struct curator_reply reply;
    struct curator_answer answer;
    struct arena arena;

    (void)state;
    begin(&setting, false);
    answer = ask(&setting, clock_monotonic_ns());
    read_reply(&answer, &reply, &arena);
    assert_int_equal(reply.status, CURATOR_REJECTED);
    assert_int_equal(reply.staleness, 3); /* step 12, weights of step 9 */
    assert_int_equal(reply.learner_step, 9);
    assert_non_null(strstr(reply.reason, "brings no reference"));
    arena_release(&arena);
    setting.request.super_batch++; /* the criterion that needs none is served */
    setting.request.criterion = SELECT_HARD_LEARNER;
    answer = ask(&setting, clock_monotonic_ns());
    assert_int_equal(answer.status, CURATOR_OK);
    setting.request.super_batch++;
    setting.request.learner = (struct curator_model){0};
    answer = ask(&setting, clock_monotonic_ns());
    read_reply(&answer, &reply, &arena);
    assert_non_null(strstr(reply.reason, "reads the learner"));
    arena_release(&arena);
    setting.request.super_batch++;
    setting.request.n_selected = B + 1;
    answer = ask(&setting, clock_monotonic_ns());
    assert_int_equal(answer.status, CURATOR_REJECTED);
    end(&setting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_the_librarys_selection),
        cmocka_unit_test(late_or_without_references_the_answer_is_uniform),
        cmocka_unit_test(a_few_missing_references_are_a_few_invalid_examples),
        cmocka_unit_test(a_repeated_request_gets_the_same_bytes),
        cmocka_unit_test(what_cannot_be_met_is_refused_with_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
