#include "coordinator/peers.h"
#include "tests/support/test.h"

#include <stdio.h>

enum { MANY = 1000 };

static struct peer *add(struct peers *peers, const char *id, const char *name, int64_t now_ms)
{
    struct error err = {0};
    struct peer *peer;

    assert_ok(peers_add(peers, (const uint8_t *)id, strlen(id), name, now_ms, &peer, &err));
    return peer;
}

static struct peer *find(const struct peers *peers, const char *id)
{
    return peers_find(peers, (const uint8_t *)id, strlen(id));
}

static void only_who_has_said_hello_is_known(void **state)
{
    struct peers peers = {0};
    char id[16];

    (void)state;
    assert_null(find(&peers, "a"));
    for (int i = 0; i < MANY; i++) { /* in no order */
        (void)snprintf(id, sizeof id, "%d", i * 7919 % MANY);
        (void)add(&peers, id, id, i);
    }
    assert_int_equal(peers.n, MANY);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof id, "%d", i);
        assert_string_equal(find(&peers, id)->name, id);
    }
    assert_null(find(&peers, "1x"));
    peers_forget(&peers, MANY - 10);
    assert_int_equal(peers.n, 10);
    (void)snprintf(id, sizeof id, "%d", (MANY - 1) * 7919 % MANY);
    assert_non_null(find(&peers, id));
    (void)snprintf(id, sizeof id, "%d", 0);
    assert_null(find(&peers, id));
    peers_release(&peers);
}

/* The connection was lost, the worker is the same: what it was told stays known. */
static void a_second_hello_forgets_nothing_unless_it_is_anothers(void **state)
{
    struct peers peers = {0};
    struct peer *peer = add(&peers, "id", "w", 1);

    (void)state;
    peer->grant.kind = WIRE_LEASE_GRANT;
    peer_end(peer, 1, 2, 3);
    assert_ptr_equal(add(&peers, "id", "w", 5), peer);
    assert_int_equal(peer->heard_ms, 5);
    assert_int_equal(peer->grant.kind, WIRE_LEASE_GRANT);
    assert_true(peer_has_ended(peer, 1, 2, 3));
    (void)add(&peers, "id", "v", 6);
    assert_int_equal(peer->grant.kind, 0);
    assert_false(peer_has_ended(peer, 1, 2, 3));
    peers_release(&peers);
}

static void the_last_results_are_remembered(void **state)
{
    struct peers peers = {0};
    struct peer *peer = add(&peers, "id", "w", 1);

    (void)state;
    assert_false(peer_has_ended(peer, 0, 0, 0));
    peer->grant.kind = WIRE_LEASE_GRANT;
    peer->grant.u.lease_grant.job = 1;
    peer->grant.u.lease_grant.shard = 9;
    peer->grant.u.lease_grant.epoch = 1;
    for (int64_t shard = 0; shard <= PEER_MAX_ENDED; shard++) {
        assert_int_equal(peer->grant.kind, WIRE_LEASE_GRANT);
        peer_end(peer, 1, shard, 1);
        assert_true(peer_has_ended(peer, 1, shard, 1));
        assert_false(peer_has_ended(peer, 1, shard, 2));
        assert_false(peer_has_ended(peer, 2, shard, 1));
    }
    assert_false(peer_has_ended(peer, 1, 0, 1));
    assert_true(peer_has_ended(peer, 1, 1, 1));
    peer_end(peer, 1, 9, 1); /* granted, and ended: not said again */
    assert_int_equal(peer->grant.kind, 0);
    peers_release(&peers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_who_has_said_hello_is_known),
        cmocka_unit_test(a_second_hello_forgets_nothing_unless_it_is_anothers),
        cmocka_unit_test(the_last_results_are_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
