/* A curator and its trainers over real sockets. Numbers are those of the specification's checklist.
 */
#include "coordinator/curator/service.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "tests/support/pairs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

enum { B = 64, D = 8, N_SELECTED = 16, WAIT_MS = 60000 };

/* About two seconds; a sanitizer leaves only the plain kernels. */
#if defined(REINFORCE_SANITIZED)
enum { LONG_B = 1536, LONG_CHUNKS = 384 };
#else
enum { LONG_B = 4096, LONG_CHUNKS = 1024 };
#endif

struct running {
    struct curator_service_options options;
    atomic_bool stop;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the address */
    pthread_cond_t told;
    char address[256];
    enum status status;
};

static void hear_address(void *ctx, const char *address)
{
    struct running *running = ctx;

    (void)pthread_mutex_lock(&running->lock);
    (void)snprintf(running->address, sizeof running->address, "%s", address);
    (void)pthread_cond_signal(&running->told);
    (void)pthread_mutex_unlock(&running->lock);
}

static void *serve(void *ctx)
{
    struct running *running = ctx;
    struct error err = {0};

    running->status = curator_service_run(&running->options, &err);
    return NULL;
}

static void start_with(struct running *running, size_t max_waiting_bytes)
{
    *running =
        (struct running){.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};
    running->options = (struct curator_service_options){.address = "tcp://127.0.0.1:*",
                                                        .n_selectors = 1,
                                                        .n_threads = 1,
                                                        .max_request_bytes = 64 << 20,
                                                        .max_waiting_bytes = max_waiting_bytes,
                                                        .max_selection_bytes = 256 << 20,
                                                        .version = "test",
                                                        .stop = &running->stop,
                                                        .told = hear_address,
                                                        .told_ctx = running};
    assert_int_equal(pthread_create(&running->thread, NULL, serve, running), 0);
    (void)pthread_mutex_lock(&running->lock);
    while (running->address[0] == '\0')
        (void)pthread_cond_wait(&running->told, &running->lock);
    (void)pthread_mutex_unlock(&running->lock);
}

static void start(struct running *running)
{
    start_with(running, 64 << 20);
}

static void stop(struct running *running)
{
    atomic_store(&running->stop, true);
    assert_int_equal(pthread_join(running->thread, NULL), 0);
    assert_int_equal(running->status, ST_OK);
}

struct trainer {
    void *zmq, *socket;
    struct pairs pairs;
    struct curator_request request;
    uint8_t *ids;
    zmq_msg_t parts[2 + CURATOR_MAX_FRAMES];
    size_t n_parts;
    struct arena arena;
    struct curator_reply reply;
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

static void trainer_begin(struct trainer *trainer, const struct running *running, const char *job,
                          size_t n, uint32_t stream)
{
    memset(trainer, 0, sizeof *trainer);
    trainer->zmq = zmq_ctx_new();
    trainer->socket = zmq_socket(trainer->zmq, ZMQ_DEALER);
    assert_int_equal(zmq_setsockopt(trainer->socket, ZMQ_LINGER, &(int){0}, sizeof(int)), 0);
    assert_int_equal(zmq_connect(trainer->socket, running->address), 0);
    pairs_draw(&trainer->pairs, n, D, D, stream);
    trainer->ids = calloc(n, CURATOR_ID_BYTES);
    assert_non_null(trainer->ids);
    for (size_t i = 0; i < n; i++)
        bytes_put_u64(trainer->ids + i * CURATOR_ID_BYTES, i + 1);
    trainer->request = (struct curator_request){
        .super_batch = 1,
        .step = 3,
        .seed = 9,
        .B = n,
        .n_selected = N_SELECTED,
        .n_chunks = 4,
        .criterion = SELECT_LEARNABILITY,
        .loss = PAIR_SIGMOID,
        .gain = 1,
        .learner = sent(&trainer->pairs.batch.learner),
        .reference = sent(&trainer->pairs.batch.reference),
        .ids = bytes_view_of(trainer->ids, n * CURATOR_ID_BYTES),
    };
    (void)snprintf(trainer->request.job, sizeof trainer->request.job, "%s", job);
    arena_init(&trainer->arena, 1 << 20);
}

static void drop_parts(struct trainer *trainer)
{
    for (size_t p = 0; p < trainer->n_parts; p++)
        (void)zmq_msg_close(&trainer->parts[p]);
    trainer->n_parts = 0;
}

static void trainer_end(struct trainer *trainer)
{
    drop_parts(trainer);
    (void)zmq_close(trainer->socket);
    (void)zmq_ctx_term(trainer->zmq);
    pairs_release(&trainer->pairs);
    free(trainer->ids);
    arena_release(&trainer->arena);
}

static void ask(struct trainer *trainer)
{
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    struct byte_buf message;
    struct error err = {0};
    size_t n;

    byte_buf_init(&message, 1 << 16);
    assert_ok(curator_request_encode(&trainer->request, &message, frames, &n, &err));
    assert_true(zmq_send(trainer->socket, "select", 6, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(trainer->socket, message.data, message.len, ZMQ_SNDMORE) >= 0);
    for (size_t f = 0; f < n; f++)
        assert_true(zmq_send(trainer->socket, frames[f].data, frames[f].len,
                             f + 1 < n ? ZMQ_SNDMORE : 0) >= 0);
    byte_buf_release(&message);
}

static struct bytes_view part(struct trainer *trainer, size_t p)
{
    return bytes_view_of(zmq_msg_data(&trainer->parts[p]), zmq_msg_size(&trainer->parts[p]));
}

static void hear(struct trainer *trainer, const char *kind)
{
    zmq_pollitem_t item = {.socket = trainer->socket, .events = ZMQ_POLLIN};
    int more = 1;
    size_t len = sizeof more;

    drop_parts(trainer);
    assert_int_equal(zmq_poll(&item, 1, WAIT_MS), 1);
    while (more != 0) {
        (void)zmq_msg_init(&trainer->parts[trainer->n_parts]);
        assert_true(zmq_msg_recv(&trainer->parts[trainer->n_parts++], trainer->socket, 0) >= 0);
        assert_int_equal(zmq_getsockopt(trainer->socket, ZMQ_RCVMORE, &more, &len), 0);
    }
    assert_true(bytes_equal(part(trainer, 0), bytes_of_string(kind)));
}

static void hear_selection(struct trainer *trainer)
{
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    struct error err = {0};

    hear(trainer, "select");
    for (size_t p = 2; p < trainer->n_parts; p++)
        frames[p - 2] = part(trainer, p);
    assert_ok(curator_reply_decode(part(trainer, 1), frames, trainer->n_parts - 2, &trainer->reply,
                                   &trainer->arena, &err));
    assert_string_equal(trainer->reply.job, trainer->request.job);
    assert_int_equal(trainer->reply.super_batch, trainer->request.super_batch);
}

static void assert_selected_alone(const struct trainer *trainer)
{
    struct selection_options options;
    struct selection want;
    struct arena arena;
    struct error err = {0};

    arena_init(&arena, 64 << 20);
    selection_options_default(&options);
    options.n_selected = trainer->request.n_selected;
    options.n_chunks = trainer->request.n_chunks;
    options.seed = trainer->request.seed;
    options.step = (uint32_t)trainer->request.step;
    assert_ok(selection_run(&trainer->pairs.batch, &options, &want, &arena, &err));
    assert_int_equal(trainer->reply.status, CURATOR_OK);
    assert_memory_equal(trainer->reply.index.data, want.index, trainer->reply.index.len);
    arena_release(&arena);
}

static struct curator_status_reply status_of(struct trainer *trainer)
{
    struct curator_status_reply status;
    struct byte_buf message;
    struct error err = {0};

    byte_buf_init(&message, 1 << 10);
    assert_ok(curator_status_request_encode(&message, &err));
    assert_true(zmq_send(trainer->socket, "status", 6, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(trainer->socket, message.data, message.len, 0) >= 0);
    byte_buf_release(&message);
    hear(trainer, "status");
    assert_ok(curator_status_reply_decode(part(trainer, 1), &status, &err));
    return status;
}

static void two_trainers_and_a_dead_one_are_served(void **state)
{
    struct trainer trainers[2], dead;
    struct running running;

    (void)state;
    start(&running);
    trainer_begin(&dead, &running, "dead", B, 20);
    ask(&dead);
    trainer_end(&dead); /* asked, and gone */
    for (uint32_t t = 0; t < 2; t++)
        trainer_begin(&trainers[t], &running, t == 0 ? "a" : "b", B, t + 1);
    for (uint64_t step = 0; step < 3; step++) {
        for (int t = 0; t < 2; t++) {
            trainers[t].request.super_batch = trainers[t].request.step = step;
            ask(&trainers[t]);
        }
        for (int t = 1; t >= 0; t--) {
            hear_selection(&trainers[t]);
            assert_selected_alone(&trainers[t]);
        }
    }
    for (int t = 0; t < 2; t++)
        trainer_end(&trainers[t]);
    stop(&running);
}

/* CURATE 23 */
static void a_repeated_request_gets_the_same_bytes(void **state)
{
    struct trainer trainer, other;
    struct running running;
    uint8_t first[4096];
    size_t len;

    (void)state;
    start(&running);
    trainer_begin(&trainer, &running, "b16", B, 1);
    ask(&trainer);
    hear_selection(&trainer);
    len = part(&trainer, 1).len;
    assert_true(len <= sizeof first);
    memcpy(first, part(&trainer, 1).data, len);
    trainer.request.super_batch++; /* another one between, and from another place */
    ask(&trainer);
    hear_selection(&trainer);
    trainer_begin(&other, &running, "b16", B, 1);
    ask(&other);
    hear_selection(&other);
    assert_int_equal(part(&other, 1).len, len);
    assert_memory_equal(part(&other, 1).data, first, len);
    assert_int_equal(status_of(&other).n_repeated, 1);
    trainer_end(&trainer);
    trainer_end(&other);
    stop(&running);
}

/* CURATE 22: what waits behind a long selection is answered when its deadline is there, and those
 * that ask for the same meanwhile get the same. */
static void who_waits_is_answered_at_the_deadline(void **state)
{
    struct trainer slow, quick, twin;
    struct curator_status_reply status;
    struct running running;
    int64_t began_ms, took_ms;

    (void)state;
    start(&running);
    trainer_begin(&slow, &running, "slow", LONG_B, 1);
    slow.request.n_selected = LONG_B / 2;
    slow.request.n_chunks = LONG_CHUNKS;
    trainer_begin(&quick, &running, "quick", B, 5);
    trainer_begin(&twin, &running, "quick", B, 5);
    ask(&slow);
    while (status_of(&quick).n_running == 0)
        ;
    quick.request.deadline_ms = 100; /* whoever of the two comes first */
    began_ms = clock_monotonic_ms();
    ask(&quick);
    ask(&twin);
    hear_selection(&quick);
    took_ms = clock_monotonic_ms() - began_ms;
    assert_int_equal(quick.reply.status, CURATOR_FALLBACK_UNIFORM);
    assert_non_null(strstr(quick.reply.reason, "deadline"));
    assert_true(took_ms >= 100);
    assert_true(took_ms < 100 + 10 + 1000); /* 10 %, and a busy machine */
    hear_selection(&twin);
    assert_memory_equal(twin.reply.index.data, quick.reply.index.data, quick.reply.index.len);
    status = status_of(&quick);
    assert_int_equal(status.n_fallback_deadline, 1);
    assert_int_equal(status.n_repeated, 1);
    atomic_store(&running.stop, true); /* what is under way is finished */
    hear_selection(&slow);
    assert_int_equal(slow.reply.status, CURATOR_OK);
    trainer_end(&slow);
    trainer_end(&quick);
    trainer_end(&twin);
    stop(&running);
}

static void what_makes_no_sense_is_refused_with_a_reason(void **state)
{
    static const char *const messages[][3] = {{"select", "\xff\xff", "not a request"},
                                              {"probe", "\xff\xff", "not a probe"},
                                              {"status", "\xff\xff", "not a question"},
                                              {"elect", "", "none of select, probe, status"},
                                              {"select", "", "protocol is 0"}};
    struct trainer trainer;
    struct running running;

    (void)state;
    start(&running);
    trainer_begin(&trainer, &running, "b16", B, 1);
    for (size_t m = 0; m < ARRAY_LEN(messages); m++) {
        (void)zmq_send(trainer.socket, messages[m][0], strlen(messages[m][0]), ZMQ_SNDMORE);
        (void)zmq_send(trainer.socket, messages[m][1], strlen(messages[m][1]), 0);
        hear(&trainer, "refused");
        assert_non_null(strstr((const char *)part(&trainer, 1).data + 4, messages[m][2]));
    }
    (void)zmq_send(trainer.socket, "alone", 5, 0);
    hear(&trainer, "refused");
    for (int p = 0; p < 40; p++)
        (void)zmq_send(trainer.socket, "many", 4, p < 39 ? ZMQ_SNDMORE : 0);
    hear(&trainer, "refused");
    trainer.request.ids.len--;
    ask(&trainer);
    hear(&trainer, "refused");
    trainer.request.ids.len++;
    assert_int_equal(status_of(&trainer).n_refused, ARRAY_LEN(messages) + 3);
    ask(&trainer); /* and it is served on */
    hear_selection(&trainer);
    assert_selected_alone(&trainer);
    trainer_end(&trainer);
    stop(&running);
}

/* Answers are dropped for who does not read, not for who asks faster than the socket counts. */
static void a_hundred_questions_at_once_have_a_hundred_answers(void **state)
{
    struct trainer trainer;
    struct running running;
    struct byte_buf message;
    struct error err = {0};

    (void)state;
    start(&running);
    trainer_begin(&trainer, &running, "b16", B, 1);
    byte_buf_init(&message, 1 << 10);
    assert_ok(curator_status_request_encode(&message, &err));
    for (int round = 0; round < 20; round++) {
        for (int n = 0; n < 100; n++) {
            assert_true(zmq_send(trainer.socket, "status", 6, ZMQ_SNDMORE) >= 0);
            assert_true(zmq_send(trainer.socket, message.data, message.len, 0) >= 0);
        }
        for (int n = 0; n < 100; n++)
            hear(&trainer, "status");
    }
    byte_buf_release(&message);
    trainer_end(&trainer);
    stop(&running);
}

static void what_is_too_much_is_answered_at_once(void **state)
{
    struct trainer slow, quick;
    struct running running;

    (void)state;
    start_with(&running, 0);
    trainer_begin(&slow, &running, "slow", LONG_B, 1);
    slow.request.n_selected = LONG_B / 2;
    slow.request.n_chunks = LONG_CHUNKS;
    trainer_begin(&quick, &running, "quick", B, 5);
    ask(&slow);
    while (status_of(&quick).n_running == 0)
        ;
    ask(&quick);
    hear_selection(&quick);
    assert_int_equal(quick.reply.status, CURATOR_FALLBACK_UNIFORM);
    assert_non_null(strstr(quick.reply.reason, "waiting"));
    assert_int_equal(status_of(&quick).n_fallback_busy, 1);
    trainer_end(&slow);
    trainer_end(&quick);
    stop(&running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_trainers_and_a_dead_one_are_served),
        cmocka_unit_test(a_repeated_request_gets_the_same_bytes),
        cmocka_unit_test(who_waits_is_answered_at_the_deadline),
        cmocka_unit_test(what_makes_no_sense_is_refused_with_a_reason),
        cmocka_unit_test(a_hundred_questions_at_once_have_a_hundred_answers),
        cmocka_unit_test(what_is_too_much_is_answered_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
