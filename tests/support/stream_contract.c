#include "tests/support/stream_contract.h"

#include "reinforce/base/clock.h"
#include "tests/support/test.h"

#include <stdio.h>

enum { DEADLINE_MS = 60000, STEP_MS = 100, CONNECT_MS = 20000 };

struct stream_producer *stream_open_producer(const char *url)
{
    const struct stream_producer_options options = {
        .client = "test", .max_bytes = 16 << 20, .connect_ms = CONNECT_MS};
    struct stream_producer *p;
    struct error err = {0};

    assert_ok(stream_producer_open(url, &options, &p, &err));
    return p;
}

struct stream_consumer *stream_open_consumer(const char *url, const char *group, const char *topic)
{
    const struct stream_property properties[] = {{"session.timeout.ms", "6000"}};
    const struct stream_consumer_options options = {.group = group,
                                                    .client = "test",
                                                    .topics = &topic,
                                                    .n_topics = 1,
                                                    .max_bytes = 4 << 20,
                                                    .properties = properties,
                                                    .n_properties = ARRAY_LEN(properties),
                                                    .connect_ms = CONNECT_MS};
    struct stream_consumer *c;
    struct error err = {0};

    assert_ok(stream_consumer_open(url, &options, &c, &err));
    return c;
}

void stream_produce(struct stream_producer *p, const char *topic, int partition, int from, int to)
{
    struct error err = {0};

    for (int i = from; i < to; i++) {
        char text[16];
        struct stream_message message = {.topic = topic, .partition = partition};

        (void)snprintf(text, sizeof text, "%03d", i);
        message.key = message.value = bytes_of_string(text);
        assert_ok(stream_producer_send(p, &message, NULL, &err));
    }
    assert_ok(stream_producer_flush(p, DEADLINE_MS, &err));
}

static void poll_once(struct stream_consumer *c, struct stream_event *event)
{
    struct error err = {0};
    enum status st = stream_consumer_poll(c, STEP_MS, event, &err);

    if (st != ST_OK && !status_is_retryable(st))
        fail_msg("poll: %s: %s: %s", status_name(st), err.context, err.message);
}

void stream_wait(struct stream_consumer *c, enum stream_event_kind kind, struct stream_event *event)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;

    do {
        poll_once(c, event);
        if (event->kind != STREAM_NOTHING && event->kind != STREAM_MESSAGE &&
            event->kind != STREAM_CAUGHT_UP && event->kind != kind)
            fail_msg("event %d where %d was to come", (int)event->kind, (int)kind);
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("no event %d in a minute", (int)kind);
    } while (event->kind != kind);
}

/* Begins all partitions of the event at `offset`. */
static void answer(struct stream_consumer *c, const struct stream_event *event, int64_t offset)
{
    struct stream_partition at[64];
    struct error err = {0};

    assert_true(event->n_partitions <= ARRAY_LEN(at));
    for (size_t i = 0; i < event->n_partitions; i++) {
        at[i] = event->partitions[i];
        at[i].offset = offset;
    }
    assert_ok(stream_consumer_assign(c, at, event->n_partitions, &err));
}

void stream_join(struct stream_consumer *c, size_t n, int64_t offset)
{
    struct stream_event event;

    stream_wait(c, STREAM_ASSIGNED, &event);
    assert_int_equal(event.n_partitions, n);
    answer(c, &event, offset);
}

void stream_expect(struct stream_consumer *c, int64_t offset, int number)
{
    struct stream_event event;
    char text[16];

    stream_wait(c, STREAM_MESSAGE, &event);
    (void)snprintf(text, sizeof text, "%03d", number);
    assert_int_equal(event.message.offset, offset);
    assert_true(bytes_equal(event.message.value, bytes_of_string(text)));
}

/* No message for a while. */
static void expect_silence(struct stream_consumer *c)
{
    for (int i = 0; i < 8; i++) {
        struct stream_event event;

        poll_once(c, &event);
        assert_true(event.kind == STREAM_NOTHING || event.kind == STREAM_CAUGHT_UP);
    }
}

struct reports {
    int n_delivered, n_failed;
};

static void count_report(void *ctx, void *tag, const struct error *err)
{
    struct reports *reports = ctx;

    assert_ptr_equal(tag, ctx);
    reports->n_delivered += err == NULL;
    reports->n_failed += err != NULL;
}

static void messages_arrive_as_they_were_sent(const struct stream_target *t)
{
    struct reports reports = {0};
    const struct stream_producer_options options = {.client = "test",
                                                    .max_bytes = 1 << 20,
                                                    .connect_ms = CONNECT_MS,
                                                    .delivered = count_report,
                                                    .ctx = &reports};
    const struct stream_header headers[] = {{"a", bytes_view_of("1\0002", 3)}, {"b", {0}}};
    struct stream_message message = {.topic = "whole", .partition = 0};
    struct stream_producer *p;
    struct stream_consumer *c;
    struct stream_event event;
    struct error err = {0};

    t->create_topic(t->ctx, "whole", 1);
    assert_ok(stream_producer_open(t->url, &options, &p, &err));
    message.key = bytes_of_string("k");
    message.value = bytes_view_of("x\0y", 3);
    message.headers = headers;
    message.n_headers = ARRAY_LEN(headers);
    assert_ok(stream_producer_send(p, &message, &reports, &err));
    message = (struct stream_message){.topic = "whole", .partition = 0}; /* neither key nor value */
    assert_ok(stream_producer_send(p, &message, &reports, &err));
    message.value = bytes_view_of("", 0);
    assert_ok(stream_producer_send(p, &message, &reports, &err));
    assert_ok(stream_producer_flush(p, DEADLINE_MS, &err));
    assert_int_equal(reports.n_delivered, 3);
    assert_int_equal(reports.n_failed, 0);
    stream_producer_close(&p);

    c = stream_open_consumer(t->url, "whole", "whole");
    stream_join(c, 1, STREAM_OFFSET_BEGINNING);
    stream_wait(c, STREAM_MESSAGE, &event);
    assert_string_equal(event.message.topic, "whole");
    assert_int_equal(event.message.partition, 0);
    assert_int_equal(event.message.offset, 0);
    assert_true(event.message.timestamp_ms > 0);
    assert_true(bytes_equal(event.message.key, bytes_of_string("k")));
    assert_true(bytes_equal(event.message.value, bytes_view_of("x\0y", 3)));
    assert_int_equal(event.message.n_headers, 2);
    assert_string_equal(event.message.headers[0].name, "a");
    assert_true(bytes_equal(event.message.headers[0].value, headers[0].value));
    stream_wait(c, STREAM_MESSAGE, &event);
    assert_null(event.message.key.data);
    assert_null(event.message.value.data);
    assert_int_equal(event.message.n_headers, 0);
    stream_wait(c, STREAM_MESSAGE, &event);
    assert_int_equal(event.message.value.len, 0);
    stream_consumer_close(&c);
}

static void reading_begins_where_the_caller_says(const struct stream_target *t)
{
    struct stream_partition at = {.topic = "begin", .offset = 2};
    struct stream_producer *p;
    struct stream_consumer *c;
    struct stream_event event;
    struct error err = {0};

    t->create_topic(t->ctx, "begin", 1);
    p = stream_open_producer(t->url);
    stream_produce(p, "begin", 0, 0, 6);
    c = stream_open_consumer(t->url, "begin", "begin");
    stream_join(c, 1, 3);
    for (int i = 3; i < 6; i++)
        stream_expect(c, i, i);
    stream_wait(c, STREAM_CAUGHT_UP, &event);
    assert_int_equal(event.n_partitions, 1);
    assert_string_equal(event.partitions[0].topic, "begin");
    assert_int_equal(event.end, 6);
    at.offset = 6; /* told to the group, which does not decide */
    assert_ok(stream_consumer_commit(c, &at, 1, &err));
    at.offset = 2;
    assert_ok(stream_consumer_assign(c, &at, 1, &err)); /* moved back */
    for (int i = 2; i < 6; i++)
        stream_expect(c, i, i);
    stream_produce(p, "begin", 0, 6, 8);
    stream_expect(c, 6, 6);
    stream_expect(c, 7, 7);
    stream_consumer_close(&c);
    c = stream_open_consumer(t->url, "begin", "begin");
    stream_join(c, 1, 1);
    stream_expect(c, 1, 1);
    stream_consumer_close(&c);
    stream_producer_close(&p);
}

static void extents_are_read_by_name_and_by_pattern(const struct stream_target *t)
{
    static const char *const by_name[] = {"reach-a"}, *const by_pattern[] = {"^reach-.*"},
                             *const missing[] = {"reach-c"};
    struct stream_consumer_options options = {
        .client = "test", .topics = by_name, .n_topics = 1, .connect_ms = CONNECT_MS};
    struct stream_producer *p = stream_open_producer(t->url);
    struct stream_extent *extents;
    struct arena arena;
    struct error err = {0};
    size_t n, n_messages = 0;

    t->create_topic(t->ctx, "reach-a", 2);
    t->create_topic(t->ctx, "reach-b", 1);
    stream_produce(p, "reach-a", 1, 0, 4);
    stream_produce(p, "reach-b", 0, 0, 3);
    stream_producer_close(&p);
    arena_init(&arena, 1 << 20);
    assert_ok(stream_read_extents(t->url, &options, &arena, &extents, &n, &err));
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(extents[i].topic, "reach-a");
        assert_int_equal(extents[i].begin, 0);
        assert_int_equal(extents[i].end, extents[i].partition == 1 ? 4 : 0);
    }
    options.topics = by_pattern;
    assert_ok(stream_read_extents(t->url, &options, &arena, &extents, &n, &err));
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        n_messages += (size_t)(extents[i].end - extents[i].begin);
    assert_int_equal(n_messages, 7);
    options.topics = missing;
    assert_status(stream_read_extents(t->url, &options, &arena, &extents, &n, &err), ST_NOT_FOUND);
    arena_release(&arena);
}

static void a_paused_partition_is_silent_and_loses_nothing(const struct stream_target *t)
{
    const struct stream_partition at = {.topic = "pause"};
    struct stream_producer *p;
    struct stream_consumer *c;
    struct error err = {0};

    t->create_topic(t->ctx, "pause", 1);
    p = stream_open_producer(t->url);
    stream_produce(p, "pause", 0, 0, 10);
    c = stream_open_consumer(t->url, "pause", "pause");
    stream_join(c, 1, STREAM_OFFSET_BEGINNING);
    stream_expect(c, 0, 0);
    assert_ok(stream_consumer_pause(c, &at, 1, true, &err));
    expect_silence(c);
    assert_ok(stream_consumer_pause(c, &at, 1, false, &err));
    for (int i = 1; i < 10; i++)
        stream_expect(c, i, i);
    stream_consumer_close(&c);
    stream_producer_close(&p);
}

static void an_offset_that_is_gone_is_an_event(const struct stream_target *t)
{
    struct stream_producer *p;
    struct stream_consumer *c;
    struct stream_event event;

    t->create_topic(t->ctx, "gone", 1);
    p = stream_open_producer(t->url);
    stream_produce(p, "gone", 0, 0, 3);
    c = stream_open_consumer(t->url, "gone", "gone");
    stream_join(c, 1, 1000);
    stream_wait(c, STREAM_GONE, &event);
    assert_int_equal(event.n_partitions, 1);
    assert_string_equal(event.partitions[0].topic, "gone");
    assert_int_equal(event.first, 0);
    assert_int_equal(event.end, 3);
    answer(c, &event, STREAM_OFFSET_BEGINNING);
    for (int i = 0; i < 3; i++)
        stream_expect(c, i, i);
    stream_consumer_close(&c);
    stream_producer_close(&p);
}

/* One round over both members of a group: answers what comes, counts what arrives. */
static void serve(struct stream_consumer *c, int *n_assigned, int seen[4], int64_t next[4])
{
    struct stream_event event;
    struct error err = {0};

    poll_once(c, &event);
    if (event.kind == STREAM_ASSIGNED) {
        struct stream_partition at[4];

        for (size_t i = 0; i < event.n_partitions; i++) {
            at[i] = event.partitions[i];
            at[i].offset = next[at[i].partition];
        }
        assert_ok(stream_consumer_assign(c, at, event.n_partitions, &err));
        *n_assigned += (int)event.n_partitions;
    } else if (event.kind == STREAM_REVOKED) {
        assert_ok(stream_consumer_unassign(c, event.partitions, event.n_partitions, &err));
        *n_assigned -= (int)event.n_partitions;
    } else if (event.kind == STREAM_MESSAGE) {
        assert_int_equal(event.message.offset, next[event.message.partition]);
        next[event.message.partition]++;
        seen[event.message.partition]++;
    }
}

static void two_members_share_and_hand_over_without_a_gap(const struct stream_target *t)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS, next[4] = {0};
    int n_first = 0, n_second = 0, seen[4] = {0};
    struct stream_consumer *first, *second;
    struct stream_producer *p;

    t->create_topic(t->ctx, "share", 4);
    p = stream_open_producer(t->url);
    first = stream_open_consumer(t->url, "share", "share");
    while (n_first < 4 && clock_monotonic_ms() < deadline_ms)
        serve(first, &n_first, seen, next);
    for (int i = 0; i < 4; i++)
        stream_produce(p, "share", i, 0, 50);
    second = stream_open_consumer(t->url, "share", "share");
    while ((n_first != 2 || n_second != 2) && clock_monotonic_ms() < deadline_ms) {
        serve(first, &n_first, seen, next);
        serve(second, &n_second, seen, next);
    }
    assert_int_equal(n_first, 2);
    assert_int_equal(n_second, 2);
    for (int i = 0; i < 4; i++)
        stream_produce(p, "share", i, 50, 60);
    while (seen[0] + seen[1] + seen[2] + seen[3] < 240 && clock_monotonic_ms() < deadline_ms) {
        serve(first, &n_first, seen, next);
        serve(second, &n_second, seen, next);
    }
    stream_consumer_close(&first); /* the other goes on for it */
    for (int i = 0; i < 4; i++)
        stream_produce(p, "share", i, 60, 70);
    while (seen[0] + seen[1] + seen[2] + seen[3] < 280 && clock_monotonic_ms() < deadline_ms)
        serve(second, &n_second, seen, next);
    for (int i = 0; i < 4; i++)
        assert_int_equal(seen[i], 70);
    stream_consumer_close(&second);
    stream_producer_close(&p);
}

static void a_pattern_takes_every_topic_it_matches(const struct stream_target *t)
{
    struct stream_producer *p;
    struct stream_consumer *c;
    struct stream_event event;
    int n[2] = {0};

    t->create_topic(t->ctx, "pattern.a", 1);
    t->create_topic(t->ctx, "pattern.b", 1);
    p = stream_open_producer(t->url);
    stream_produce(p, "pattern.a", 0, 0, 5);
    stream_produce(p, "pattern.b", 0, 0, 5);
    c = stream_open_consumer(t->url, "pattern", "^pattern\\.[ab]$");
    stream_join(c, 2, STREAM_OFFSET_BEGINNING);
    while (n[0] + n[1] < 10) {
        stream_wait(c, STREAM_MESSAGE, &event);
        n[event.message.topic[8] - 'a']++;
    }
    assert_int_equal(n[0], 5);
    stream_consumer_close(&c);
    stream_producer_close(&p);
}

struct stream_producer *stream_open_transactions(const char *url, const char *name)
{
    const struct stream_producer_options options = {
        .client = "test", .max_bytes = 1 << 20, .transaction = name};
    struct stream_producer *p;
    struct error err = {0};

    assert_ok(stream_producer_open(url, &options, &p, &err));
    assert_ok(stream_producer_begin(p, CONNECT_MS, &err));
    return p;
}

void stream_expect_values(struct stream_consumer *c, int n)
{
    for (int i = 0; i < n; i++) {
        struct stream_event event;
        char text[16];

        stream_wait(c, STREAM_MESSAGE, &event);
        (void)snprintf(text, sizeof text, "%03d", i);
        assert_true(bytes_equal(event.message.value, bytes_of_string(text)));
    }
}

static void what_transactions_commit_is_seen(const struct stream_target *t)
{
    struct stream_producer *p;
    struct stream_consumer *c;
    struct error err = {0};

    t->create_topic(t->ctx, "transactions", 1);
    p = stream_open_transactions(t->url, "contract");
    stream_produce(p, "transactions", 0, 0, 2);
    assert_ok(stream_producer_commit(p, CONNECT_MS, &err));
    assert_ok(stream_producer_begin(p, CONNECT_MS, &err));
    stream_produce(p, "transactions", 0, 2, 4);
    assert_ok(stream_producer_commit(p, CONNECT_MS, &err));
    stream_producer_close(&p);
    c = stream_open_consumer(t->url, "transactions", "transactions");
    stream_join(c, 1, STREAM_OFFSET_BEGINNING);
    stream_expect_values(c, 4);
    stream_consumer_close(&c);
}

static void what_cannot_be_opened_says_why(const struct stream_target *t)
{
    static const char *const no_topics[] = {"never-made"};
    struct stream_consumer_options options = {.group = "g",
                                              .client = "test",
                                              .topics = no_topics,
                                              .n_topics = 1,
                                              .connect_ms = CONNECT_MS};
    struct stream_consumer *c;
    struct error err = {0};

    assert_status(stream_consumer_open(t->url, &options, &c, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "never-made"));
    assert_null(c);
    options.connect_ms = 1500;
    assert_status(stream_consumer_open("kafka://127.0.0.1:1", &options, &c, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.context, "127.0.0.1:1"));
    assert_status(stream_consumer_open("amqp://127.0.0.1:1", &options, &c, &err), ST_INVALID);
}

void stream_contract(const struct stream_target *t)
{
    messages_arrive_as_they_were_sent(t);
    reading_begins_where_the_caller_says(t);
    extents_are_read_by_name_and_by_pattern(t);
    a_paused_partition_is_silent_and_loses_nothing(t);
    an_offset_that_is_gone_is_an_event(t);
    a_pattern_takes_every_topic_it_matches(t);
    two_members_share_and_hand_over_without_a_gap(t);
    what_transactions_commit_is_seen(t);
    what_cannot_be_opened_says_why(t);
}
