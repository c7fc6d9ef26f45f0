/* Logs of selections, and selecting again from them. */
#include "coordinator/curator/replay.h"
#include "coordinator/curator/task.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "tests/support/pairs.h"
#include "tests/support/temp_folder.h"

#include <stdio.h>
#include <string.h>

enum { B = 100, D = 8, N_SELECTED = 30, BYTES = 64 << 20 };

/* A request and its answer, as the service has them; and the log. */
struct setting {
    struct temp_folder folder;
    char path[128];
    struct pairs pairs;
    uint8_t ids[B][CURATOR_ID_BYTES];
    struct task task;
    struct byte_buf message;
    struct curator *curator;
    struct selection_log *log;
};

static struct curator_model sent(const struct pair_model *model)
{
    return (struct curator_model){.D = model->D,
                                  .dtype = CURATOR_F32,
                                  .scale = model->scale,
                                  .bias = model->bias,
                                  .image = model->rows[PAIR_IMAGE],
                                  .text = model->rows[PAIR_TEXT]};
}

static bool row(const void *ctx, struct example_id id, void *image, void *text)
{
    const struct setting *setting = ctx;
    size_t i = (size_t)id.low - 1;

    memcpy(image, setting->pairs.rows[1][PAIR_IMAGE] + i * D, D * sizeof(float));
    memcpy(text, setting->pairs.rows[1][PAIR_TEXT] + i * D, D * sizeof(float));
    return true;
}

static struct curator_references references_of(const struct setting *setting, const char *version)
{
    return (struct curator_references){.D = D,
                                       .dtype = TENSOR_F32,
                                       .scale = 30,
                                       .bias = -15,
                                       .version = version,
                                       .ctx = setting,
                                       .row = row};
}

static void open_log(struct setting *setting, bool with_inputs)
{
    struct error err = {0};

    assert_ok(selection_log_open(setting->path, with_inputs, &setting->log, &err));
}

static void begin(struct setting *setting, bool with_inputs,
                  const struct curator_references *references)
{
    const struct curator_options options = {
        .references = references, .n_threads = 1, .max_bytes = BYTES};
    struct error err = {0};

    memset(setting, 0, sizeof *setting);
    temp_folder_init(&setting->folder);
    temp_folder_name(&setting->folder, "log", setting->path, sizeof setting->path);
    pairs_draw(&setting->pairs, B, D, D, 1);
    for (size_t i = 0; i < B; i++)
        bytes_put_u64(setting->ids[i], i + 1);
    setting->task.request.select = (struct curator_request){
        .job = "b16",
        .step = 3,
        .seed = 9,
        .B = B,
        .n_selected = N_SELECTED,
        .n_chunks = 3,
        .criterion = SELECT_LEARNABILITY,
        .loss = PAIR_SIGMOID,
        .gain = 1,
        .learner = sent(&setting->pairs.batch.learner),
        .ids = bytes_view_of(setting->ids, sizeof setting->ids),
    };
    if (references == NULL)
        setting->task.request.select.reference = sent(&setting->pairs.batch.reference);
    byte_buf_init(&setting->message, 1 << 16);
    assert_ok(curator_create(&options, &setting->curator, &err));
    open_log(setting, with_inputs);
}

static void end(struct setting *setting)
{
    selection_log_close(&setting->log);
    curator_destroy(&setting->curator);
    curator_answer_release(&setting->task.answer);
    byte_buf_release(&setting->message);
    pairs_release(&setting->pairs);
    temp_folder_release(&setting->folder);
}

/* Selects and logs the next super-batch. */
static void select_next(struct setting *setting, struct curator_fallback fallback)
{
    struct task *task = &setting->task;
    struct error err = {0};

    task->request.select.super_batch++;
    byte_buf_reset(&setting->message);
    assert_ok(curator_request_encode(&task->request.select, &setting->message, task->frames,
                                     &task->n_frames, &err));
    task->message = byte_buf_view(&setting->message);
    assert_ok(curator_answer(setting->curator, &task->request.select, clock_monotonic_ns(),
                             fallback, &task->answer, &err));
    selection_log_write(setting->log, task);
}

static void select_some(struct setting *setting)
{
    uint64_t n, n_not;

    select_next(setting, (struct curator_fallback){0});
    select_next(setting, (struct curator_fallback){ANSWER_LATE, "late"});
    select_next(setting, (struct curator_fallback){0});
    selection_log_count(setting->log, &n, &n_not);
    assert_int_equal(n, 3);
    assert_int_equal(n_not, 0);
}

struct told {
    size_t n;
    char last[256];
};

static void take_told(void *ctx, const struct logged_selection *logged, enum replay_outcome outcome,
                      const char *detail)
{
    struct told *told = ctx;

    (void)outcome;
    told->n++;
    assert_int_equal(logged->request.super_batch, told->n);
    assert_int_equal(logged->reply.super_batch, told->n);
    if (detail[0] != '\0')
        (void)snprintf(told->last, sizeof told->last, "%s", detail);
}

static enum status replay(struct setting *setting, const struct curator_references *references,
                          uint64_t counts[REPLAY_OUTCOMES], struct told *told, struct error *err)
{
    static const atomic_bool never;
    const struct replay_options options = {.path = setting->path,
                                           .references = references,
                                           .n_threads = 2,
                                           .max_bytes = BYTES,
                                           .stop = &never,
                                           .told = take_told,
                                           .told_ctx = told};

    *told = (struct told){0};
    return replay_log(&options, counts, err);
}

static void what_was_selected_is_selected_again(void **state)
{
    uint64_t counts[REPLAY_OUTCOMES];
    struct setting setting;
    struct told told;
    struct error err = {0};

    (void)state;
    for (int own = 0; own < 2; own++) {
        struct curator_references references = references_of(&setting, "clip@1"),
                                  other = references_of(&setting, "clip@2");

        begin(&setting, true, own ? &references : NULL);
        select_some(&setting);
        assert_ok(replay(&setting, own ? &references : NULL, counts, &told, &err));
        assert_int_equal(counts[REPLAY_SAME], 3);
        assert_int_equal(told.n, 3);
        if (own) { /* but the fallback, which has read none */
            assert_ok(replay(&setting, &other, counts, &told, &err));
            assert_int_equal(counts[REPLAY_OTHER_REFERENCE], 2);
            assert_int_equal(counts[REPLAY_SAME], 1);
            assert_non_null(strstr(told.last, "clip@1"));
        }
        end(&setting);
    }
}

static void what_has_no_inputs_is_told(void **state)
{
    uint64_t counts[REPLAY_OUTCOMES];
    struct setting setting;
    struct byte_buf body;
    struct told told;
    struct error err = {0};

    (void)state;
    begin(&setting, false, NULL);
    select_some(&setting);
    assert_ok(replay(&setting, NULL, counts, &told, &err));
    assert_int_equal(counts[REPLAY_NO_INPUTS], 3);
    byte_buf_init(&body, 1 << 20);
    assert_ok(file_read(setting.path, &body, &err));
    assert_true(body.len < 3 * (N_SELECTED * 2 + 600)); /* two bytes an index, and what was asked */
    byte_buf_release(&body);
    end(&setting);
}

/* Writes the log's records again, its second one's first index changed. */
static void another_index_is_a_difference(void **state)
{
    struct selection_record record;
    uint64_t counts[REPLAY_OUTCOMES];
    struct setting setting;
    struct byte_buf body, changed;
    struct told told;
    struct error err = {0};
    uint8_t indices[N_SELECTED * 2];
    size_t at = 0;
    bool is_cut;

    (void)state;
    begin(&setting, true, NULL);
    select_some(&setting);
    byte_buf_init(&body, 1 << 20);
    byte_buf_init(&changed, 1 << 20);
    assert_ok(file_read(setting.path, &body, &err));
    assert_ok(byte_buf_append(&changed, body.data, 8, &err));
    for (int r = 0; selection_log_next(byte_buf_view(&body), &at, &record, &is_cut, &err) == ST_OK;
         r++) {
        memcpy(indices, record.parts[2].data, sizeof indices);
        indices[0] ^= r == 1;
        record.parts[2] = bytes_view_of(indices, sizeof indices);
        assert_ok(selection_record_head(&record, &changed, &err));
        for (size_t p = 0; p < record.n_parts; p++)
            assert_ok(byte_buf_append(&changed, record.parts[p].data, record.parts[p].len, &err));
    }
    assert_int_equal(changed.len, body.len);
    assert_ok(file_write_atomic(setting.path, byte_buf_view(&changed), &err));
    assert_ok(replay(&setting, NULL, counts, &told, &err));
    assert_int_equal(counts[REPLAY_DIFFERENT], 1);
    assert_int_equal(counts[REPLAY_SAME], 2);
    assert_non_null(strstr(told.last, "at place 0 of 30"));
    byte_buf_release(&body);
    byte_buf_release(&changed);
    end(&setting);
}

static void a_cut_record_is_cut_off_and_the_log_goes_on(void **state)
{
    uint64_t counts[REPLAY_OUTCOMES];
    struct setting setting;
    struct byte_buf body;
    struct told told;
    struct error err = {0};

    (void)state;
    begin(&setting, true, NULL);
    select_some(&setting);
    selection_log_close(&setting.log);
    byte_buf_init(&body, 1 << 20);
    assert_ok(file_read(setting.path, &body, &err));
    for (size_t missing = 1; missing < 8000; missing += 371) {
        assert_ok(
            file_write_atomic(setting.path, bytes_view_of(body.data, body.len - missing), &err));
        assert_status(replay(&setting, NULL, counts, &told, &err), ST_CORRUPT);
        assert_non_null(strstr(err.message, "is cut"));
        assert_true(told.n < 3);
        open_log(&setting, true);
        setting.task.request.select.super_batch = told.n;
        select_next(&setting, (struct curator_fallback){0});
        selection_log_close(&setting.log);
        assert_ok(replay(&setting, NULL, counts, &told, &err));
        assert_int_equal(counts[REPLAY_SAME], told.n);
    }
    byte_buf_release(&body);
    end(&setting);
}

static void a_damaged_log_is_left_as_it_is(void **state)
{
    uint64_t counts[REPLAY_OUTCOMES];
    struct selection_log *log;
    struct setting setting;
    struct byte_buf body;
    struct told told;
    struct error err = {0};

    (void)state;
    begin(&setting, false, NULL);
    select_some(&setting);
    selection_log_close(&setting.log);
    byte_buf_init(&body, 1 << 20);
    assert_ok(file_read(setting.path, &body, &err));
    for (size_t at = 0; at < body.len; at += 7) {
        body.data[at] ^= 0x40;
        assert_ok(file_write_atomic(setting.path, byte_buf_view(&body), &err));
        assert_status(selection_log_open(setting.path, false, &log, &err), ST_CORRUPT);
        assert_status(replay(&setting, NULL, counts, &told, &err), ST_CORRUPT);
        body.data[at] ^= 0x40;
    }
    byte_buf_release(&body);
    end(&setting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_selected_is_selected_again),
        cmocka_unit_test(what_has_no_inputs_is_told),
        cmocka_unit_test(another_index_is_a_difference),
        cmocka_unit_test(a_cut_record_is_cut_off_and_the_log_goes_on),
        cmocka_unit_test(a_damaged_log_is_left_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
