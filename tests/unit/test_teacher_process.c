/* A curator's side of a worker's process: this program again, as a worker that misbehaves where it
 * is told to. */
#include "coordinator/curator/computed_references.h"
#include "coordinator/curator/input_index.h"
#include "coordinator/curator/teacher_process.h"
#include "reinforce/base/clock.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { N = 64, D = 8, WAIT_MS = 30000, N_THREADS = 4 };

static struct temp_folder folder;

/* -- the worker -- */

static void make_hello(struct teacher_hello *hello)
{
    *hello = (struct teacher_hello){
        .D = D, .n_threads = N_THREADS, .scale = 10, .bias = -5, .name = "fake"};
    sha256_of(bytes_of_string("input"), hello->index_key);
    sha256_of(bytes_of_string("rows"), hello->rows_key);
}

static struct example_id id_of(uint64_t i)
{
    return (struct example_id){.low = i};
}

/* It misbehaves at example `id` as `how` says: it dies, hangs, or finds it bad; "mute" ends at
 * once. */
static int run_worker(const char *cache, const char *how, uint64_t id)
{
    struct computed_references computed;
    struct teacher_hello hello;
    struct arena arena;
    struct error err = {0};
    uint64_t place;

    if (strcmp(how, "mute") == 0)
        return 2;
    make_hello(&hello);
    if (computed_references_open(&hello, cache, NULL, &computed, &err) != ST_OK ||
        send(STDIN_FILENO, &hello, sizeof hello, 0) != sizeof hello)
        return 1;
    arena_init(&arena, 1 << 16);
    while (recv(STDIN_FILENO, &place, sizeof place, 0) == sizeof place) {
        struct example_id own = example_index_get(computed.index, place).id;
        struct teacher_said said = {.place = place, .word = TEACHER_BEGINS};
        float row[D] = {(float)own.low};
        bool is_it = own.low == id, is_bad = is_it && strcmp(how, "bad") == 0;

        arena_reset(&arena);
        (void)send(STDIN_FILENO, &said, sizeof said, 0);
        if (is_it && strcmp(how, "fatal") == 0)
            (void)raise(SIGKILL);
        if (is_it && strcmp(how, "hangs") == 0)
            while (poll(&(struct pollfd){.fd = STDIN_FILENO}, 1, -1) <= 0)
                continue;
        said.word = is_bad ? TEACHER_CANNOT : TEACHER_HAS_WRITTEN;
        if (computed_rows_put(computed.rows, place, own, is_bad ? NULL : row, is_bad ? NULL : row,
                              &arena, &err) != ST_OK)
            return 1;
        (void)send(STDIN_FILENO, &said, sizeof said, 0);
    }
    arena_release(&arena);
    computed_references_close(&computed);
    return 0;
}

/* -- the tests -- */

static int make_input(void **state)
{
    struct example_index_builder builder;
    struct teacher_hello hello;
    struct error err = {0};
    char path[256];
    uint64_t n_twice;

    (void)state;
    temp_folder_init(&folder);
    make_hello(&hello);
    assert_ok(input_index_path(folder.path, hello.index_key, path, sizeof path, &err));
    example_index_builder_init(&builder);
    assert_ok(example_index_add_shard(&builder, false, "webdataset", "x.tar", &err));
    for (uint64_t i = 0; i < N; i++)
        assert_ok(example_index_add(&builder, id_of(i), i, i + 1, &err));
    assert_ok(example_index_write(&builder, path, hello.index_key, &n_twice, &err));
    example_index_builder_release(&builder);
    return 0;
}

static int remove_input(void **state)
{
    (void)state;
    temp_folder_release(&folder);
    return 0;
}

static struct teacher_process *open_with(const char *how, const char *id)
{
    static const char *argv[6]; /* a later worker is started with it, too */
    const struct teacher_process_options options = {.argv = argv, .cache = folder.path};
    struct teacher_process *process;
    struct error err = {0};

    memcpy(argv, (const char *[]){"test", "worker", folder.path, how, id, NULL}, sizeof argv);
    assert_ok(teacher_process_open(&options, &process, &err));
    return process;
}

static struct wanted *want(struct teacher_process *process, uint64_t first, uint64_t n)
{
    uint8_t *ids = calloc(n, CURATOR_ID_BYTES);
    struct wanted *wanted;

    assert_non_null(ids);
    for (uint64_t i = 0; i < n; i++)
        bytes_put_u64(ids + i * CURATOR_ID_BYTES, first + i);
    wanted = teacher_process_want(process, bytes_view_of(ids, n * CURATOR_ID_BYTES), n);
    free(ids);
    assert_non_null(wanted);
    return wanted;
}

static void wait_until_ready(struct teacher_process *process, struct wanted **wanted)
{
    int64_t end = clock_monotonic_ms() + WAIT_MS;

    while (!wanted_is_ready(*wanted)) {
        struct pollfd item = {.fd = teacher_process_fd(process), .events = POLLIN};

        assert_true(clock_monotonic_ms() < end);
        (void)poll(&item, 1, 100);
        teacher_process_heard(process);
    }
    wanted_release(wanted);
}

static size_t count_there(const struct teacher_process *process)
{
    const struct curator_references *references = teacher_process_references(process);
    size_t n = 0;

    for (uint64_t i = 0; i < N; i++) {
        uint16_t image[D], text[D];

        n += references->row(references->ctx, id_of(i), image, text);
    }
    return n;
}

static void what_is_wanted_is_computed_and_stays(void **state)
{
    struct teacher_process *process = open_with("bad", "5");
    struct wanted *wanted = want(process, 0, N + 10);
    struct teacher_counts counts;

    (void)state;
    assert_int_equal(teacher_process_references(process)->D, D);
    assert_memory_equal(teacher_process_references(process)->version, "fake@", 5);
    wait_until_ready(process, &wanted);
    assert_int_equal(count_there(process), N - 1);
    counts = teacher_process_count(process);
    assert_int_equal(counts.n_examples, N);
    assert_int_equal(counts.n_found, 0);
    assert_int_equal(counts.n_unknown, 10);
    assert_int_equal(counts.n_computed, N - 1);
    assert_int_equal(counts.n_bad, 1);
    assert_int_equal(counts.n_deaths, 0);
    teacher_process_close(&process);
    process = open_with("bad", "5"); /* another day */
    wanted = want(process, 0, N);
    wait_until_ready(process, &wanted);
    counts = teacher_process_count(process);
    assert_int_equal(counts.n_found, N - 1);
    assert_int_equal(counts.n_unknown, 1);
    assert_int_equal(counts.n_computed, 0);
    teacher_process_close(&process);
}

/* CURATE 22: a worker that dies keeps nobody waiting, and what kills it is found and left out. */
static void what_kills_workers_is_left_out(void **state)
{
    struct teacher_process *process = open_with("fatal", "7");
    int64_t begun = clock_monotonic_ms();

    (void)state;
    for (int round = 0; count_there(process) < N - 1 || round < 3; round++) {
        struct wanted *wanted = want(process, 0, N);

        wait_until_ready(process, &wanted);
        assert_true(clock_monotonic_ms() - begun < WAIT_MS);
        if (teacher_process_count(process).n_wanted > 0 || count_there(process) < N - 1)
            (void)poll(NULL, 0, 50); /* until there is another worker */
    }
    assert_int_equal(count_there(process), N - 1);
    assert_int_equal(teacher_process_count(process).n_deaths, 2);
    teacher_process_close(&process);
}

static void who_waits_no_longer_leaves_the_work_to_be_done(void **state)
{
    struct teacher_process *process = open_with("none", "0");
    struct wanted *first = want(process, 0, N), *second;

    (void)state;
    wanted_release(&first);
    second = want(process, 3, 1);
    wait_until_ready(process, &second);
    while (count_there(process) < N)
        (void)poll(NULL, 0, 1);
    teacher_process_close(&process);
}

static void a_worker_that_hangs_is_ended_with_the_curator(void **state)
{
    struct teacher_process *process = open_with("hangs", "1");
    struct wanted *wanted = want(process, 0, N);

    (void)state;
    (void)poll(NULL, 0, 20);
    assert_false(wanted_is_ready(wanted));
    teacher_process_close(&process);
    wanted_release(&wanted);
}

static void a_worker_that_cannot_begin_is_an_error(void **state)
{
    const char *argv[] = {"test", "worker", folder.path, "mute", "0", NULL};
    const struct teacher_process_options options = {.argv = argv, .cache = folder.path};
    struct teacher_process *process;
    struct error err = {0};

    (void)state;
    assert_status(teacher_process_open(&options, &process, &err), ST_INVALID);
    assert_null(process);
    assert_non_null(strstr(err.message, "said why"));
}

int main(int argc, char **argv)
{
#define WITH_INPUT(test) cmocka_unit_test_setup_teardown(test, make_input, remove_input)
    const struct CMUnitTest tests[] = {
        WITH_INPUT(what_is_wanted_is_computed_and_stays),
        WITH_INPUT(what_kills_workers_is_left_out),
        WITH_INPUT(who_waits_no_longer_leaves_the_work_to_be_done),
        WITH_INPUT(a_worker_that_hangs_is_ended_with_the_curator),
        WITH_INPUT(a_worker_that_cannot_begin_is_an_error),
    };

    if (argc > 1) /* or a mistake in a worker's arguments would run the tests again, and again */
        return argc == 5 ? run_worker(argv[2], argv[3], strtoull(argv[4], NULL, 10)) : 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
