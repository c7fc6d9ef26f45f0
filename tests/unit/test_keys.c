#include "proto/door.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <sys/stat.h>
#include <zmq.h>

enum { DEADLINE_MS = 20000 };

struct fixture {
    struct temp_folder folder;
    char path[512];
};

static const char *in(struct fixture *f, const char *name)
{
    (void)snprintf(f->path, sizeof f->path, "%s/%s", f->folder.path, name);
    return f->path;
}

static void make(struct fixture *f, const char *name, const char *server)
{
    struct error err = {0};
    char path[512];

    (void)snprintf(path, sizeof path, "%s/%s", f->folder.path, name);
    assert_ok(keys_create(path, server != NULL ? in(f, server) : NULL, &err));
}

static struct keys read_keys(struct fixture *f, const char *name)
{
    struct error err = {0};
    struct keys keys;

    assert_ok(keys_read(in(f, name), &keys, &err));
    return keys;
}

static void write_text(struct fixture *f, const char *name, const char *text)
{
    struct error err = {0};

    assert_ok(file_write_atomic(in(f, name), bytes_of_string(text), &err));
}

static void a_new_pair_is_the_owners_alone_and_never_overwritten(void **state)
{
    struct fixture f;
    struct keys coordinator, worker, again;
    struct stat info;
    struct error err = {0};

    (void)state;
    temp_folder_init(&f.folder);
    make(&f, "coordinator", NULL);
    make(&f, "worker", "coordinator.pub");
    coordinator = read_keys(&f, "coordinator.key");
    worker = read_keys(&f, "worker.key");
    assert_string_equal(coordinator.server_key, "");
    assert_string_equal(worker.server_key, coordinator.public_key);
    assert_string_not_equal(worker.public_key, coordinator.public_key);
    assert_int_equal(stat(in(&f, "worker.key"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_status(keys_create(in(&f, "worker"), NULL, &err), ST_CONFLICT);
    again = read_keys(&f, "worker.key");
    assert_memory_equal(&again, &worker, sizeof worker);
    assert_int_equal(chmod(in(&f, "worker.key"), 0640), 0);
    assert_status(keys_read(f.path, &again, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "chmod 600"));
    temp_folder_release(&f.folder);
}

static void a_fleet_begins_with_one_command_and_grows(void **state)
{
    struct fixture f;
    struct keys coordinator, worker, more;
    struct keys_allowed allowed;
    struct error err = {0};
    char dir[512];

    (void)state;
    temp_folder_init(&f.folder);
    (void)snprintf(dir, sizeof dir, "%s", in(&f, "fleet"));
    assert_ok(keys_create_fleet(dir, &err));
    coordinator = read_keys(&f, "fleet/coordinator.key");
    worker = read_keys(&f, "fleet/worker.key");
    assert_string_equal(worker.server_key, coordinator.public_key);
    assert_status(keys_create_fleet(dir, &err), ST_CONFLICT);
    assert_ok(keys_allowed_open(in(&f, "fleet/allow"), &allowed, &err));
    assert_true(keys_allowed_has(&allowed, worker.public_key));
    assert_false(keys_allowed_has(&allowed, coordinator.public_key));
    assert_ok(keys_add_worker(dir, "more", &err));
    more = read_keys(&f, "fleet/more.key");
    assert_string_equal(more.server_key, coordinator.public_key);
    assert_true(keys_allowed_has(&allowed, more.public_key));
    assert_true(keys_allowed_has(&allowed, worker.public_key));
    assert_status(keys_add_worker(dir, "more", &err), ST_CONFLICT);
    assert_status(keys_add_worker(dir, "../more", &err), ST_INVALID);
    keys_allowed_release(&allowed);
    temp_folder_release(&f.folder);
}

static void what_is_no_key_file_is_refused_by_line_and_never_shown(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } cases[] = {
        {"nothing", "", "no public and secret key"},
        {"a .pub file", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID worker\n", "not a line of"},
        {"a short key", "public abc\n", "not a line of"},
        {"a key twice",
         "public Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n"
         "public Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n",
         "not a line of"},
        {"another word", "password Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n", "not a line of"},
    };
    struct fixture f;
    struct keys keys;

    (void)state;
    temp_folder_init(&f.folder);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};

        write_text(&f, "x.key", cases[i].text);
        assert_int_equal(chmod(in(&f, "x.key"), 0600), 0);
        if (keys_read(f.path, &keys, &err) != ST_INVALID ||
            strstr(err.message, cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].name, err.message);
        assert_null(strstr(err.message, "Yne@"));
        assert_null(strstr(err.context, "Yne@"));
    }
    temp_folder_release(&f.folder);
}

static void an_allow_list_is_read_again_when_it_changes(void **state)
{
    struct fixture f;
    struct keys a, b;
    struct keys_allowed allowed;
    struct error err = {0};
    char text[256];

    (void)state;
    temp_folder_init(&f.folder);
    make(&f, "a", NULL);
    make(&f, "b", NULL);
    a = read_keys(&f, "a.key");
    b = read_keys(&f, "b.key");
    assert_status(keys_allowed_open(in(&f, "allow"), &allowed, &err), ST_NOT_FOUND);
    keys_allowed_release(&allowed);
    (void)snprintf(text, sizeof text, "# of site x\n\n%s a\n", a.public_key);
    write_text(&f, "allow", text);
    assert_ok(keys_allowed_open(in(&f, "allow"), &allowed, &err));
    assert_true(keys_allowed_has(&allowed, a.public_key));
    assert_false(keys_allowed_has(&allowed, b.public_key));
    (void)snprintf(text, sizeof text, "%s b\n", b.public_key);
    write_text(&f, "allow", text);
    assert_false(keys_allowed_has(&allowed, a.public_key));
    assert_true(keys_allowed_has(&allowed, b.public_key));
    write_text(&f, "allow", "rubbish\n"); /* as it was */
    assert_true(keys_allowed_has(&allowed, b.public_key));
    keys_allowed_release(&allowed);
    temp_folder_release(&f.folder);
}

/* Waits until `monitor` tells one of `events`. */
static uint16_t await(void *monitor, int events)
{
    for (;;) {
        zmq_pollitem_t item = {.socket = monitor, .events = ZMQ_POLLIN};
        uint8_t frame[6];
        char address[256];
        uint16_t event;

        assert_int_equal(zmq_poll(&item, 1, DEADLINE_MS), 1);
        assert_int_equal(zmq_recv(monitor, frame, sizeof frame, 0), (int)sizeof frame);
        assert_true(zmq_recv(monitor, address, sizeof address, 0) >= 0);
        memcpy(&event, frame, sizeof event);
        if ((event & events) != 0)
            return event;
    }
}

static void *watch(void *zmq, void *socket, const char *name)
{
    void *monitor = zmq_socket(zmq, ZMQ_PAIR);

    assert_non_null(monitor);
    assert_int_equal(zmq_socket_monitor(socket, name, ZMQ_EVENT_ALL), 0);
    assert_int_equal(zmq_connect(monitor, name), 0);
    return monitor;
}

/* A coordinator's door on loopback, with one worker on its list. */
struct doorway {
    struct fixture f;
    void *zmq, *router;
    struct door *door;
    struct keys coordinator, worker, stranger;
    char address[256];
};

static void doorway_open(struct doorway *d)
{
    struct error err = {0};
    char text[128];

    temp_folder_init(&d->f.folder);
    make(&d->f, "coordinator", NULL);
    make(&d->f, "worker", "coordinator.pub");
    make(&d->f, "stranger", "coordinator.pub");
    d->coordinator = read_keys(&d->f, "coordinator.key");
    d->worker = read_keys(&d->f, "worker.key");
    d->stranger = read_keys(&d->f, "stranger.key");
    (void)snprintf(text, sizeof text, "%s worker\n", d->worker.public_key);
    write_text(&d->f, "allow", text);
    d->zmq = zmq_ctx_new();
    assert_non_null(d->zmq);
    assert_ok(door_open(d->zmq, in(&d->f, "allow"), &d->door, &err));
    assert_ok(endpoint_bind(d->zmq, "tcp://127.0.0.1:*", &d->coordinator, NULL, &d->router, &err));
    assert_ok(endpoint_bound(d->router, d->address, &err));
    assert_int_equal(strncmp(d->address, "tcp://127.0.0.1:", 16), 0);
}

static void doorway_close(struct doorway *d)
{
    assert_int_equal(zmq_close(d->router), 0);
    door_close(&d->door);
    assert_int_equal(zmq_ctx_term(d->zmq), 0);
    temp_folder_release(&d->f.folder);
}

static void *knock(struct doorway *d, const struct keys *keys)
{
    const char *address = d->address;
    const struct endpoint_target target = {&address, 1, "w", keys};
    struct error err = {0};
    void *socket;

    assert_ok(endpoint_connect(d->zmq, &target, &socket, NULL, &err));
    return socket;
}

static void an_allowed_worker_is_heard_and_answered(void **state)
{
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST}, heard;
    struct doorway d;
    void *worker;
    struct error err = {0};
    zmq_pollitem_t item = {.events = ZMQ_POLLIN}, connected = {.events = ZMQ_POLLOUT};
    char id[256], body[256];
    int n;

    (void)state;
    doorway_open(&d);
    worker = knock(&d, &d.worker);
    connected.socket = worker;
    assert_status(endpoint_receive(worker, &heard, &err), ST_FULL);
    assert_int_equal(zmq_poll(&connected, 1, DEADLINE_MS), 1);
    assert_ok(endpoint_send(worker, &message, &err));
    item.socket = d.router;
    assert_int_equal(zmq_poll(&item, 1, DEADLINE_MS), 1);
    n = zmq_recv(d.router, id, sizeof id, 0);
    assert_int_equal(n, 1);
    assert_int_equal(id[0], 'w'); /* its name */
    n = zmq_recv(d.router, body, sizeof body, 0);
    assert_ok(wire_decode(bytes_view_of(body, (size_t)n), &heard, &err));
    assert_int_equal(heard.kind, WIRE_LEASE_REQUEST);
    assert_int_equal(zmq_send(d.router, id, 1, ZMQ_SNDMORE), 1);
    assert_int_equal(zmq_send(d.router, body, (size_t)n, 0), n);
    item.socket = worker;
    assert_int_equal(zmq_poll(&item, 1, DEADLINE_MS), 1);
    assert_ok(endpoint_receive(worker, &heard, &err));
    assert_int_equal(zmq_close(worker), 0);
    doorway_close(&d);
}

static void strangers_stay_outside(void **state)
{
    const int failed = ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST};
    struct doorway d;
    struct keys other_server;
    struct {
        const char *name;
        const struct keys *keys;
        enum endpoint_trouble trouble;
    } cases[] = {
        {"a key that is not on the list", &d.stranger, ENDPOINT_TROUBLE_OUR_KEY},
        {"one without keys", NULL, ENDPOINT_TROUBLE_KEYS},
        {"one that takes us for another", &other_server, ENDPOINT_TROUBLE_KEYS},
    };

    (void)state;
    doorway_open(&d);
    other_server = d.worker;
    memcpy(other_server.server_key, d.stranger.public_key, sizeof other_server.server_key);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *address = d.address;
        void *socket = NULL, *monitor, *watcher;
        enum endpoint_trouble trouble = ENDPOINT_TROUBLE_NONE;
        int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;
        struct error err = {0};
        char id[256], name[64];

        (void)snprintf(name, sizeof name, "inproc://monitor-%zu", i);
        monitor = watch(d.zmq, d.router, name);
        assert_ok(endpoint_connect(d.zmq,
                                   &(struct endpoint_target){&address, 1, "s", cases[i].keys},
                                   &socket, &watcher, &err));
        (void)await(monitor, failed);
        while (trouble == ENDPOINT_TROUBLE_NONE && clock_monotonic_ms() < deadline_ms)
            trouble = endpoint_trouble(watcher);
        if (trouble != cases[i].trouble)
            fail_msg("%s: trouble %d", cases[i].name, (int)trouble);
        if (endpoint_send(socket, &message, &err) != ST_FULL ||
            zmq_recv(d.router, id, sizeof id, ZMQ_DONTWAIT) >= 0)
            fail_msg("%s was let in", cases[i].name);
        assert_int_equal(zmq_socket_monitor(d.router, NULL, 0), 0);
        assert_int_equal(zmq_close(monitor), 0);
        assert_int_equal(zmq_close(socket), 0);
        assert_int_equal(zmq_close(watcher), 0);
    }
    doorway_close(&d);
}

static void only_loopback_counts_as_local(void **state)
{
    static const struct {
        const char *address;
        bool want;
    } cases[] = {
        {"tcp://127.0.0.1:7600", true},
        {"tcp://127.8.8.8:*", true},
        {"tcp://localhost:1", true},
        {"tcp://[::1]:7600", true},
        {"ipc:///run/r", true},
        {"inproc://x", true},
        {"tcp://0.0.0.0:7600", false},
        {"tcp://*:7600", false},
        {"tcp://[::]:7600", false},
        {"tcp://eth0:7600", false},
        {"tcp://10.1.2.3:1", false},
        {"tcp://localhost.evil:1", false},
        {"tcp://127.0.0.1.evil:1", false},
        {"tcp://127.evil:1", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (endpoint_is_local(cases[i].address) != cases[i].want)
            fail_msg("%s", cases[i].address);
}

static void a_key_that_names_no_coordinator_cannot_connect(void **state)
{
    const char *address = "tcp://127.0.0.1:1";
    struct fixture f;
    struct keys keys;
    struct endpoint_target target = {&address, 1, "w", &keys};
    struct error err = {0};
    void *zmq = zmq_ctx_new(), *socket;

    (void)state;
    temp_folder_init(&f.folder);
    make(&f, "lone", NULL);
    keys = read_keys(&f, "lone.key");
    assert_status(endpoint_connect(zmq, &target, &socket, NULL, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "keys add"));
    address = "nonsense";
    target.keys = NULL;
    assert_status(endpoint_connect(zmq, &target, &socket, NULL, &err), ST_INVALID);
    assert_status(endpoint_bind(zmq, address, NULL, NULL, &socket, &err), ST_INVALID);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    temp_folder_release(&f.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_pair_is_the_owners_alone_and_never_overwritten),
        cmocka_unit_test(a_fleet_begins_with_one_command_and_grows),
        cmocka_unit_test(what_is_no_key_file_is_refused_by_line_and_never_shown),
        cmocka_unit_test(an_allow_list_is_read_again_when_it_changes),
        cmocka_unit_test(an_allowed_worker_is_heard_and_answered),
        cmocka_unit_test(strangers_stay_outside),
        cmocka_unit_test(only_loopback_counts_as_local),
        cmocka_unit_test(a_key_that_names_no_coordinator_cannot_connect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
