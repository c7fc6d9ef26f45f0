/* The Postgres catalog on a real server, which tests/support/postgres.sh runs this beside. */
#include "reinforce/base/clock.h"
#include "storage/catalog/catalog_outbox.h"
#include "storage/catalog/migrations.h"
#include "storage/catalog/postgres_db.h"
#include "tests/support/catalog_contract.h"
#include "tests/support/test.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* A database of its own for a test. */
struct fixture {
    char url[160], pooler_url[160];
    PGconn *conn; /* another program's hand in it */
};

static void execute(struct fixture *f, const char *sql)
{
    PGresult *result = PQexec(f->conn, sql);
    ExecStatusType kind = PQresultStatus(result);

    if (kind != PGRES_COMMAND_OK && kind != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(f->conn));
    PQclear(result);
}

static void setup(struct fixture *f, const char *name, bool migrated)
{
    const char *server = getenv("POSTGRES_URL"), *pooler = getenv("POOLER_URL");
    struct catalog_schema before;
    struct error err = {0};
    char text[200];

    if (server == NULL || pooler == NULL)
        fail_msg("run by tests/support/postgres.sh");
    (void)snprintf(text, sizeof text, "%s/postgres", server);
    f->conn = PQconnectdb(text);
    (void)snprintf(text, sizeof text, "create database %s", name);
    execute(f, text);
    PQfinish(f->conn);
    (void)snprintf(f->url, sizeof f->url, "%s/%s", server, name);
    (void)snprintf(f->pooler_url, sizeof f->pooler_url, "%s/%s", pooler, name);
    f->conn = PQconnectdb(f->url);
    if (migrated)
        assert_ok(catalog_migrate(f->url, &before, &err));
}

static void teardown(struct fixture *f)
{
    PQfinish(f->conn);
}

static void pass_time(void *ctx, int64_t ms)
{
    char sql[160];

    (void)snprintf(sql, sizeof sql,
                   "update reinforce.shards set lease_expires = lease_expires - interval '%lld ms'",
                   (long long)ms);
    execute(ctx, sql);
}

static void the_contract_is_kept(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, "contract", true);
    catalog_contract(&(struct catalog_target){.url = f.url, .pass_time = pass_time, .ctx = &f});
    catalog_leases_contract(
        &(struct catalog_target){.url = f.url, .pass_time = pass_time, .ctx = &f});
    catalog_accounts_contract(
        &(struct catalog_target){.url = f.url, .pass_time = pass_time, .ctx = &f});
    catalog_filtered_contract(
        &(struct catalog_target){.url = f.url, .pass_time = pass_time, .ctx = &f});
    catalog_ingest_contract(&(struct catalog_target){.url = f.url});
    catalog_outbox_contract(&(struct catalog_target){.url = f.url});
    teardown(&f);
}

static void the_contract_is_kept_behind_a_pooler_in_transaction_mode(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, "pooled", true);
    catalog_contract(
        &(struct catalog_target){.url = f.pooler_url, .pass_time = pass_time, .ctx = &f});
    catalog_leases_contract(
        &(struct catalog_target){.url = f.pooler_url, .pass_time = pass_time, .ctx = &f});
    catalog_accounts_contract(
        &(struct catalog_target){.url = f.pooler_url, .pass_time = pass_time, .ctx = &f});
    catalog_filtered_contract(
        &(struct catalog_target){.url = f.pooler_url, .pass_time = pass_time, .ctx = &f});
    catalog_ingest_contract(&(struct catalog_target){.url = f.pooler_url});
    catalog_outbox_contract(&(struct catalog_target){.url = f.pooler_url});
    teardown(&f);
}

static const struct catalog_terms terms = {
    .lease_ms = 600000, .max_attempts = 3, .part_samples = 4, .samples_at_work = 8};

/* A catalog with a planned job of one shard, which is leased. */
struct leased {
    struct catalog *catalog;
    struct arena arena;
    struct catalog_job job;
    struct catalog_lease lease;
};

static void begin_job(struct leased *l, const char *url)
{
    static const struct catalog_shard_plan plan = {
        .source = CATALOG_INPUT_JOB, .input_key = "a.tar", .input_format = "webdataset"};
    struct error err = {0};
    const char *config;
    int64_t wait;

    arena_init(&l->arena, 1 << 20);
    assert_ok(catalog_open(url, &l->catalog, &err));
    assert_ok(catalog_job_begin(l->catalog, "j", "d", "{}", 0, &l->arena, &l->job, &config, &err));
    assert_ok(catalog_plan_commit(l->catalog, &l->job, &plan, 1, true, &err));
    assert_ok(catalog_lease_take(l->catalog, l->job.job, "w", 0, &terms, &l->arena, &l->lease,
                                 &wait, &err));
}

static void end_job(struct leased *l)
{
    catalog_close(&l->catalog);
    arena_release(&l->arena);
}

/* Commits a part of one sample with one caption. */
static enum status commit_caption(struct leased *l, const char *uid, struct bytes_view text,
                                  const char *detail, struct error *err)
{
    const struct catalog_caption caption = {.column = "syn_text", .text = text, .score = -1};
    const struct catalog_sample sample = {.uid = bytes_of_string(uid),
                                          .index = l->lease.n_parts,
                                          .state = CATALOG_SAMPLE_DONE,
                                          .detail = detail,
                                          .n_captions = 1,
                                          .captions = &caption};
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.sha256 = "s"},
                                      .next_index = (uint64_t)l->lease.n_parts + 1,
                                      .n_samples = 1,
                                      .samples = &sample};
    enum status st = catalog_part_commit(l->catalog, &l->lease, &part, err);

    l->lease.n_parts += st == ST_OK;
    return st;
}

static enum status see_caption(void *ctx, int64_t shard, const struct catalog_sample *sample,
                               struct error *err)
{
    const struct bytes_view *want = ctx;

    (void)shard;
    (void)err;
    assert_int_equal(sample->n_captions, 1);
    assert_true(bytes_equal(sample->captions[0].text, *want));
    return ST_OK;
}

static void a_job_has_one_publisher_and_then_another(void **state)
{
    struct fixture f;
    struct catalog *first, *second, *other, *lock;
    struct error err = {0};

    (void)state;
    setup(&f, "publishers", true);
    assert_ok(catalog_open(f.pooler_url, &first, &err));
    assert_ok(catalog_open(f.url, &second, &err));
    assert_ok(catalog_open(f.url, &other, &err));
    assert_ok(catalog_open(f.url, &lock, &err));
    assert_ok(catalog_coordinate(lock, &err));
    assert_ok(catalog_outbox_claim(first, 1, &err));
    assert_ok(catalog_outbox_claim(other, 2, &err));
    assert_status(catalog_outbox_claim(second, 1, &err), ST_CONFLICT);
    assert_non_null(strstr(err.message, "publisher"));
    assert_ok(catalog_outbox_claim(first, 1, &err));
    catalog_close(&first);
    for (int tries = 0; catalog_outbox_claim(second, 1, &err) != ST_OK; tries++) {
        assert_true(tries < 600); /* the server is still ending the other's session */
        clock_sleep_ms(50, NULL);
    }
    catalog_close(&second);
    catalog_close(&other);
    catalog_close(&lock);
    teardown(&f);
}

static void texts_come_back_as_they_were_and_impossible_ones_are_refused_by_name(void **state)
{
    enum { LONG = 1 << 20 };
    static const char awkward[] = "tab\t newline\n \\N \\. quote' \"x\" {a,b} \xf0\x9f\x90\x88";
    struct fixture f;
    struct leased l;
    struct bytes_view text = bytes_of_string(awkward);
    struct catalog_progress progress;
    struct error err = {0};
    char *large = malloc(LONG);

    (void)state;
    assert_non_null(large);
    memset(large, 'x', LONG);
    setup(&f, "texts", true);
    begin_job(&l, f.pooler_url);
    assert_ok(commit_caption(&l, "awkward \"uid\" \\", text, NULL, &err));
    assert_ok(catalog_sample_find(l.catalog, l.job.job, bytes_of_string("awkward \"uid\" \\"),
                                  see_caption, &text, &err));
    text = bytes_view_of(large, LONG);
    assert_ok(commit_caption(&l, "large", text, NULL, &err));
    assert_ok(catalog_sample_find(l.catalog, l.job.job, bytes_of_string("large"), see_caption,
                                  &text, &err));
    text = bytes_view_of("", 0);
    assert_ok(commit_caption(&l, "empty", text, NULL, &err));
    assert_ok(catalog_sample_find(l.catalog, l.job.job, bytes_of_string("empty"), see_caption,
                                  &text, &err));

    assert_status(commit_caption(&l, "cat", bytes_view_of("a\0b", 3), NULL, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "caption syn_text[0] of sample \"cat\""));
    assert_non_null(strstr(err.message, "NUL"));
    assert_status(commit_caption(&l, "dog", bytes_of_string("\xc3("), NULL, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "caption syn_text[0] of sample \"dog\""));
    assert_non_null(strstr(err.message, "UTF-8"));
    assert_ok(catalog_read_progress(l.catalog, l.job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 3);
    /* Words about a failure may be cut in mid-character. */
    assert_ok(commit_caption(&l, "cat", bytes_of_string("a cat"), "bad byte \xe2\x82", &err));
    end_job(&l);
    teardown(&f);
    free(large);
}

static void a_lost_connection_is_made_anew(void **state)
{
    struct fixture f;
    struct leased l;
    struct error err = {0};

    (void)state;
    setup(&f, "lost", true);
    for (int pooled = 0; pooled < 2; pooled++) {
        execute(&f, "delete from reinforce.jobs");
        begin_job(&l, pooled ? f.pooler_url : f.url);
        for (int i = 0; i < 3; i++) {
            char uid[16];

            execute(&f, "select pg_terminate_backend(pid) from pg_stat_activity where "
                        "pid <> pg_backend_pid() and datname = current_database()");
            (void)snprintf(uid, sizeof uid, "s%d", i);
            assert_ok(commit_caption(&l, uid, bytes_of_string("a cat"), NULL, &err));
        }
        end_job(&l);
    }
    teardown(&f);
}

struct killer {
    struct fixture *f;
    pthread_t thread;
    atomic_bool stop;
    int n_killed;
};

/* Ends connections of others in the middle of a transaction, wherever they are. */
static enum status add(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    PGresult *row;
    enum status st =
        postgres_db_query(db, &row, err, "select $1::bigint + 1", "i", *(int64_t *)ctx);

    (void)repeated;
    if (st == ST_OK)
        *(int64_t *)ctx = postgres_db_int(row, 0, 0);
    PQclear(row);
    return st;
}

static void statements_stay_prepared_where_no_pooler_stands_between(void **state)
{
    struct fixture f;
    struct postgres_db db;
    struct error err = {0};
    int64_t value = 0;

    (void)state;
    setup(&f, "prepared", false);
    assert_ok(postgres_db_open(strchr(f.pooler_url, ':') + 1, &db, &err));
    assert_ok(postgres_db_transact(&db, "begin", add, &value, &err));
    assert_int_equal(db.n_prepared, 0);
    postgres_db_close(&db);

    assert_ok(postgres_db_open(strchr(f.url, ':') + 1, &db, &err));
    for (int i = 0; i < 3; i++)
        assert_ok(postgres_db_transact(&db, "begin", add, &value, &err));
    assert_int_equal(db.n_prepared, 1);
    /* As what changes sessions unseen would have it. */
    assert_ok(postgres_db_execute(&db, "deallocate all", &err));
    assert_ok(postgres_db_transact(&db, "begin", add, &value, &err));
    assert_int_equal(value, 5);
    postgres_db_close(&db);
    teardown(&f);
}

static void *kill_backends(void *arg)
{
    struct killer *killer = arg;
    struct fixture *f = killer->f;

    while (!atomic_load(&killer->stop) && killer->n_killed < 12) {
        PGresult *result =
            PQexec(f->conn, "select count(pg_terminate_backend(pid)) from pg_stat_activity where "
                            "pid <> pg_backend_pid() and datname = current_database() and "
                            "xact_start is not null and query like 'copy%'");

        if (PQresultStatus(result) == PGRES_TUPLES_OK)
            killer->n_killed += (int)strtol(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
    }
    return NULL;
}

static void backends_killed_in_mid_transaction_lose_nothing_and_double_nothing(void **state)
{
    enum { N_PARTS = 60, LONG = 1 << 20 };
    struct fixture f;
    struct leased l;
    struct killer killer = {.f = &f};
    struct catalog_progress progress;
    const struct object_written written = {.bytes = 1, .sha256 = "s"};
    struct catalog_part_row *rows;
    struct error err = {0};
    char *large = malloc(LONG);
    size_t n;

    (void)state;
    assert_non_null(large);
    memset(large, 'x', LONG);
    setup(&f, "killed", true);
    begin_job(&l, f.url);
    assert_int_equal(pthread_create(&killer.thread, NULL, kill_backends, &killer), 0);
    for (int i = 0; i < N_PARTS; i++) {
        char uid[16];

        (void)snprintf(uid, sizeof uid, "s%d", i);
        assert_ok(commit_caption(&l, uid, bytes_view_of(large, LONG), NULL, &err));
    }
    atomic_store(&killer.stop, true);
    assert_int_equal(pthread_join(killer.thread, NULL), 0);
    print_message("%d backends were killed at work\n", killer.n_killed);
    assert_true(killer.n_killed > 0);
    assert_ok(catalog_shard_commit(l.catalog, &l.lease, "o", &written, &err));
    assert_ok(catalog_parts(l.catalog, l.job.job, 0, &l.arena, &rows, &n, &err));
    assert_int_equal(n, N_PARTS);
    assert_ok(catalog_read_progress(l.catalog, l.job.job, &progress, &err));
    assert_int_equal(progress.samples_done, N_PARTS);
    assert_int_equal(progress.shards_done, 1);
    end_job(&l);
    teardown(&f);
    free(large);
}

struct migration {
    const char *url;
    pthread_t thread;
    enum status status;
    struct catalog_schema before;
    struct error err;
};

static void *migrate(void *arg)
{
    struct migration *m = arg;

    m->status = catalog_migrate(m->url, &m->before, &m->err);
    return NULL;
}

static void two_may_migrate_at_once_and_again(void **state)
{
    enum { N = 4 };
    struct fixture f;
    struct migration m[N];
    struct catalog_schema schema;
    struct catalog *catalog;
    struct error err = {0};
    int n_from_nothing = 0;

    (void)state;
    setup(&f, "migrations", false);
    assert_ok(catalog_read_schema(f.url, &schema, &err));
    assert_int_equal(schema.stored, 0);
    assert_status(catalog_open(f.url, &catalog, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "reinforce db migrate"));
    memset(m, 0, sizeof m);
    for (int i = 0; i < N; i++) {
        m[i].url = i % 2 == 0 ? f.url : f.pooler_url;
        assert_int_equal(pthread_create(&m[i].thread, NULL, migrate, &m[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(pthread_join(m[i].thread, NULL), 0);
        err = m[i].err;
        assert_ok(m[i].status);
        n_from_nothing += m[i].before.stored == 0;
    }
    assert_int_equal(n_from_nothing, 1);
    assert_ok(catalog_read_schema(f.url, &schema, &err));
    assert_int_equal(schema.stored, schema.newest);
    execute(&f, "insert into reinforce.schema_version (version) values (1000)");
    assert_status(catalog_open(f.url, &catalog, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "1000"));
    assert_non_null(strstr(err.message, "newer release"));
    assert_status(catalog_migrate(f.url, &schema, &err), ST_INVALID);
    teardown(&f);
}

static enum status see_account(void *ctx, const struct catalog_account *account, struct error *err)
{
    (void)err;
    assert_int_equal(account->read, account->samples);
    *(int64_t *)ctx += account->samples;
    return ST_OK;
}

static void jobs_of_an_earlier_release_go_on(void **state)
{
    struct fixture f;
    struct leased l;
    struct catalog_schema before;
    const struct catalog_shard_plan plan = {
        .shard = 1, .source = CATALOG_INPUT_LIST, .input_key = "list", .input_format = "list"};
    const struct catalog_retry retry = {.shard = 1, .old_index = 1, .source_index = 1};
    const char *config;
    struct error err = {0};
    int64_t n = 0, wait;

    (void)state;
    setup(&f, "earlier", false);
    execute(&f, "create schema reinforce");
    execute(&f, "create table reinforce.schema_version (version integer primary key)");
    execute(&f, postgres_migrations[0]);
    execute(&f, "insert into reinforce.schema_version values (1)");
    execute(&f,
            "insert into reinforce.jobs (name, state, config_digest, config, created_ms) values "
            "('j', 4, 'd', '{}', 0)");
    execute(&f, "select reinforce.create_partitions(1)");
    execute(&f, "insert into reinforce.shards (job, shard, state, input_source, input_key, "
                "input_format, input_begin, input_end, input_etag, next_index) values "
                "(1, 0, 3, 1, 'a.tar', 'webdataset', 0, 0, '', 2)");
    execute(&f, "insert into reinforce.samples values (1, 0, 0, 'a', 1, null, null, null, 1, 1), "
                "(1, 0, 1, 'b', 2, 'decode', 'bad', null, 0, 0)");
    execute(&f, "insert into reinforce.outputs values (1, 0, 'o', 1, 's', 1, 1)");
    assert_ok(catalog_migrate(f.url, &before, &err));
    assert_int_equal(before.stored, 1);
    arena_init(&l.arena, 1 << 20);
    assert_ok(catalog_open(f.url, &l.catalog, &err));
    assert_ok(catalog_job_find(l.catalog, "j", &l.arena, &l.job, &config, &err));
    assert_ok(catalog_accounts(l.catalog, l.job.job, see_account, &n, &err));
    assert_int_equal(n, 2);
    assert_ok(catalog_retry_commit(l.catalog, l.job.job, &plan, 1, &retry, 1, &err));
    assert_ok(
        catalog_lease_take(l.catalog, l.job.job, "w", 0, &terms, &l.arena, &l.lease, &wait, &err));
    l.lease.n_parts = 0;
    assert_ok(commit_caption(&l, "b", bytes_of_string("a bee"), NULL, &err));
    end_job(&l);
    teardown(&f);
}

static void a_password_in_the_url_is_refused_and_never_repeated(void **state)
{
    static const char *const urls[] = {
        "postgres://test:hunter2@127.0.0.1:1/x",
        "postgresql://test@127.0.0.1:1/x?password=hunter2",
        "postgres://test:hunter2@[127.0.0.1:1/x",
        "postgres//test:hunter2@127.0.0.1",
    };
    struct catalog *catalog;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        assert_status(catalog_open(urls[i], &catalog, &err), ST_INVALID);
        assert_null(strstr(err.message, "hunter2"));
        assert_null(strstr(err.context, "hunter2"));
    }
    assert_status(catalog_open("postgres://test@127.0.0.1:1/x", &catalog, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.message, "127.0.0.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_contract_is_kept),
        cmocka_unit_test(the_contract_is_kept_behind_a_pooler_in_transaction_mode),
        cmocka_unit_test(a_job_has_one_publisher_and_then_another),
        cmocka_unit_test(texts_come_back_as_they_were_and_impossible_ones_are_refused_by_name),
        cmocka_unit_test(a_lost_connection_is_made_anew),
        cmocka_unit_test(statements_stay_prepared_where_no_pooler_stands_between),
        cmocka_unit_test(backends_killed_in_mid_transaction_lose_nothing_and_double_nothing),
        cmocka_unit_test(two_may_migrate_at_once_and_again),
        cmocka_unit_test(jobs_of_an_earlier_release_go_on),
        cmocka_unit_test(a_password_in_the_url_is_refused_and_never_repeated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
