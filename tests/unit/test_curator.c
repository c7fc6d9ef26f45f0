/* Requests and their answers, without sockets. Numbers are those of the specification's checklist.
 */
#include "coordinator/curator/curator.h"
#include "reinforce/base/clock.h"
#include "tests/support/pairs.h"

#include <string.h>

enum { B = 200, D = 16, N_SELECTED = 60, BYTES = 64 << 20 };

#define THE_171ST "000000000000000000000000000000ab"

/* A request over pairs of tests/support/pairs.h, and references that know some of them. */
struct setting {
    struct pairs pairs;
    struct curator_request request;
    uint8_t ids[B][CURATOR_ID_BYTES];
    size_t n_known; /* ids up to this have references */
    struct curator_references references;
    struct curator *curator;
    struct curator_answer answer;
};

static bool row(const void *ctx, struct example_id id, void *image, void *text)
{
    const struct setting *setting = ctx;
    size_t i = (size_t)id.low - 1;

    if (i >= setting->n_known)
        return false;
    memcpy(image, setting->pairs.rows[1][PAIR_IMAGE] + i * D, D * sizeof(float));
    memcpy(text, setting->pairs.rows[1][PAIR_TEXT] + i * D, D * sizeof(float));
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
    struct curator_options options = {.n_threads = 2, .max_bytes = BYTES};
    struct error err = {0};

    memset(setting, 0, sizeof *setting);
    pairs_draw(&setting->pairs, B, D, D, 1);
    for (size_t i = 0; i < B; i++) {
        setting->ids[i][0] = (uint8_t)(i + 1);
        setting->ids[i][1] = (uint8_t)((i + 1) >> 8);
    }
    setting->n_known = B;
    setting->references = (struct curator_references){.D = D,
                                                      .dtype = TENSOR_F32,
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
    assert_ok(curator_create(&options, &setting->curator, &err));
}

static void end(struct setting *setting)
{
    curator_destroy(&setting->curator);
    curator_answer_release(&setting->answer);
    pairs_release(&setting->pairs);
}

static const struct curator_answer *ask_with(struct setting *setting, int64_t received_ns,
                                             struct curator_fallback fallback)
{
    struct error err = {0};

    assert_ok(curator_answer(setting->curator, &setting->request, received_ns, fallback,
                             &setting->answer, &err));
    return &setting->answer;
}

static const struct curator_answer *ask(struct setting *setting, int64_t received_ns)
{
    return ask_with(setting, received_ns, (struct curator_fallback){0});
}

static void read_reply(const struct curator_answer *answer, struct curator_reply *reply,
                       struct arena *arena)
{
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    struct error err = {0};

    for (size_t f = 0; f < answer->n_frames; f++)
        frames[f] = curator_answer_frame(answer, f);
    arena_init(arena, BYTES);
    assert_ok(curator_reply_decode(curator_answer_message(answer), frames, answer->n_frames, reply,
                                   arena, &err));
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

        begin(&setting, own != 0);
        if (!own)
            setting.request.reference = sent(&setting.pairs.batch.reference);
        setting.request.all_marginals = true;
        setting.request.batch_scores = true;
        read_reply(ask(&setting, clock_monotonic_ns()), &reply, &arena);
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
        struct arena arena, second;
        uint32_t first[N_SELECTED];

        begin(&setting, true);
        if (late)
            setting.request.deadline_ms = 1;
        else
            setting.n_known = B * 85 / 100;
        read_reply(ask(&setting, clock_monotonic_ns() - 1000000000), &reply, &arena);
        assert_int_equal(reply.status, CURATOR_FALLBACK_UNIFORM);
        assert_int_equal(reply.n_selected, N_SELECTED);
        assert_non_null(strstr(
            reply.reason,
            late ? "deadline" : "30 of 200 examples have no reference, the first is " THE_171ST));
        assert_int_equal(reply.statistics.n_without_reference, late ? 0 : 30);
        memcpy(first, reply.index.data, sizeof first);
        setting.request.super_batch++; /* the permutation is the seed's and the step's */
        setting.n_known = 0;
        read_reply(ask(&setting, clock_monotonic_ns() - 1000000000), &again, &second);

        assert_int_equal(again.status, CURATOR_FALLBACK_UNIFORM);
        assert_int_equal(again.index.len, sizeof first);
        assert_memory_equal(again.index.data, first, sizeof first);
        arena_release(&arena);
        arena_release(&second);
        end(&setting);
    }
}

static void a_few_missing_references_are_a_few_invalid_examples(void **state)
{
    struct setting setting;
    struct curator_reply reply;
    struct arena arena;

    (void)state;
    begin(&setting, true);
    setting.n_known = B * 95 / 100;
    read_reply(ask(&setting, clock_monotonic_ns()), &reply, &arena);
    assert_int_equal(reply.status, CURATOR_OK_PARTIAL);
    assert_int_equal(reply.statistics.n_without_reference, 10);
    assert_int_equal(reply.statistics.n_invalid, 10);
    assert_non_null(strstr(reply.reason, "10 of 200 examples have no reference"));
    for (size_t i = 0; i < N_SELECTED; i++) {
        uint32_t index;

        memcpy(&index, reply.index.data + i * sizeof index, sizeof index);
        assert_true(index < setting.n_known);
    }
    arena_release(&arena);
    end(&setting);
}

/* CURATE 15, 20, 24 */
static void what_cannot_be_met_is_refused_with_a_reason(void **state)
{
    struct setting setting;
    struct curator_reply reply;
    struct arena arena;

    (void)state;
    begin(&setting, false);
    read_reply(ask(&setting, clock_monotonic_ns()), &reply, &arena);
    assert_int_equal(reply.status, CURATOR_REJECTED);
    assert_int_equal(reply.staleness, 3); /* step 12, weights of step 9 */
    assert_int_equal(reply.learner_step, 9);
    assert_non_null(strstr(reply.reason, "brings no reference"));
    arena_release(&arena);
    setting.request.super_batch++; /* the criterion that needs none is served */
    setting.request.criterion = SELECT_HARD_LEARNER;
    assert_int_equal(ask(&setting, clock_monotonic_ns())->status, CURATOR_OK);
    setting.request.super_batch++;
    setting.request.learner = (struct curator_model){0};
    read_reply(ask(&setting, clock_monotonic_ns()), &reply, &arena);
    assert_non_null(strstr(reply.reason, "reads the learner"));
    arena_release(&arena);
    setting.request.super_batch++;
    setting.request.n_selected = B + 1;
    assert_int_equal(ask(&setting, clock_monotonic_ns())->status, CURATOR_REJECTED);
    end(&setting);
}

static void who_has_no_time_or_room_gives_the_same_permutation(void **state)
{
    struct curator_options options = {.n_threads = 1};
    struct setting setting;
    uint32_t first[N_SELECTED];
    struct error err = {0};
    size_t n_without_room = 0;

    (void)state;
    begin(&setting, false);
    setting.request.criterion = SELECT_HARD_LEARNER;
    (void)ask_with(&setting, clock_monotonic_ns(),
                   (struct curator_fallback){ANSWER_BUSY, "too much to do"});
    assert_int_equal(setting.answer.status, CURATOR_FALLBACK_UNIFORM);
    assert_int_equal(setting.answer.cause, ANSWER_BUSY);
    memcpy(first, curator_answer_frame(&setting.answer, 0).data, sizeof first);
    for (options.max_bytes = 1 << 10; setting.answer.status != CURATOR_OK;
         options.max_bytes += 1 << 10) {
        curator_destroy(&setting.curator);
        assert_ok(curator_create(&options, &setting.curator, &err));
        if (curator_answer(setting.curator, &setting.request, clock_monotonic_ns(),
                           (struct curator_fallback){0}, &setting.answer, &err) != ST_OK ||
            setting.answer.status == CURATOR_OK)
            continue;
        n_without_room++;
        assert_int_equal(setting.answer.status, CURATOR_FALLBACK_UNIFORM);
        assert_int_equal(setting.answer.cause, ANSWER_BUSY);
        assert_memory_equal(curator_answer_frame(&setting.answer, 0).data, first, sizeof first);
    }
    assert_true(n_without_room > 0);
    end(&setting);
}

/* Standard deviation of what two learners' scores differ by, in plain double. */
static double sigma_of(const struct pairs *used, const struct pairs *fresh)
{
    double sum = 0, square = 0;

    for (size_t i = 0; i < B; i++) {
        double d = pair_softplus(-pairs_logit(&fresh->batch.learner, i, i)) -
                   pair_softplus(-pairs_logit(&used->batch.learner, i, i));

        sum += d / B;
        square += d * d / B;
    }
    return sqrt(square - sum * sum);
}

/* CURATE 24 */
static void a_probe_tells_how_far_a_stale_learner_is_off(void **state)
{
    struct curator_probe_request request = {
        .job = "b16", .step = 12, .learner_step = 9, .n = B, .n_top = N_SELECTED};
    struct curator_probe_reply reply;
    struct setting setting;
    struct pairs fresh;
    struct error err = {0};
    double sigma;

    (void)state;
    begin(&setting, true);
    pairs_draw(&fresh, B, D, D, 50);
    for (size_t e = 0; e < (size_t)B * D; e++)
        for (int s = 0; s < PAIR_SIDES; s++)
            fresh.rows[0][s][e] = setting.pairs.rows[0][s][e] + fresh.rows[0][s][e] * 0.05f;
    for (size_t i = 0; i < B; i++)
        for (int s = 0; s < PAIR_SIDES; s++)
            (void)ops_l2_normalize(fresh.rows[0][s] + i * D, D);
    sigma = sigma_of(&setting.pairs, &fresh);
    request.criterion = SELECT_LEARNABILITY;
    request.loss = PAIR_SIGMOID;
    request.ids = setting.request.ids;
    request.used = sent(&setting.pairs.batch.learner);
    request.fresh = sent(&fresh.batch.learner);
    for (int above = 0; above < 2; above++) {
        request.gain = (above ? 0.31 : 0.29) / sigma;
        assert_ok(curator_probe(setting.curator, &request, &reply, &err));
        assert_true(fabs(reply.sigma - sigma) < 1e-5 * sigma);
        assert_int_equal(reply.alarm, above);
    }
    assert_int_equal(reply.staleness, 3);
    assert_int_equal(reply.n_compared, B);
    assert_true(reply.spearman > 0.5 && reply.spearman < 1);
    assert_true(reply.overlap > 0.5 && reply.overlap < 1);
    setting.n_known = B - 20; /* the others are left out */
    assert_ok(curator_probe(setting.curator, &request, &reply, &err));
    assert_int_equal(reply.n_compared, B - 20);
    request.fresh = request.used;
    assert_ok(curator_probe(setting.curator, &request, &reply, &err));
    assert_true(reply.sigma == 0 && reply.spearman == 1 && reply.overlap == 1 && !reply.alarm);
    request.criterion = SELECT_EASY_REFERENCE;
    assert_status(curator_probe(setting.curator, &request, &reply, &err), ST_INVALID);
    pairs_release(&fresh);
    end(&setting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_the_librarys_selection),
        cmocka_unit_test(late_or_without_references_the_answer_is_uniform),
        cmocka_unit_test(a_few_missing_references_are_a_few_invalid_examples),
        cmocka_unit_test(who_has_no_time_or_room_gives_the_same_permutation),
        cmocka_unit_test(a_probe_tells_how_far_a_stale_learner_is_off),
        cmocka_unit_test(what_cannot_be_met_is_refused_with_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
