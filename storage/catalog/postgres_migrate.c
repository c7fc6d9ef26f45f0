#include "storage/catalog/postgres_migrate.h"

#include "storage/catalog/migrations.h"

/* The key under which migrations wait for each other: "reinforc" as a number. */
#define MIGRATION_LOCK "select pg_advisory_xact_lock(8243108387513152099)"

static enum status read_version(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct catalog_schema *schema = ctx;
    PGresult *result;
    bool exists;
    enum status st = postgres_db_query(
        db, &result, err, "select to_regclass('reinforce.schema_version') is not null", "");

    (void)repeated;
    *schema = (struct catalog_schema){.newest = postgres_n_migrations};
    if (st != ST_OK)
        return st;
    exists = PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    if (!exists)
        return ST_OK;
    st = postgres_db_query(db, &result, err,
                           "select coalesce(max(version), 0) from reinforce.schema_version", "");
    if (st == ST_OK)
        schema->stored = (int)postgres_db_int(result, 0, 0);
    PQclear(result);
    return st;
}

enum status postgres_migrate_read(struct postgres_db *db, struct catalog_schema *schema,
                                  struct error *err)
{
    return postgres_db_transact(db, "begin read only", read_version, schema, err);
}

static enum status refuse_newer(const struct postgres_db *db, const struct catalog_schema *schema,
                                struct error *err)
{
    return error_set(err, ST_INVALID,
                     "catalog \"%s\" has schema version %d, this program knows up to %d; use a "
                     "newer release",
                     db->name, schema->stored, schema->newest);
}

static enum status migrate(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct catalog_schema *before = ctx;
    const char *encoding = PQparameterStatus(db->conn, "server_encoding");
    enum status st = postgres_db_execute(db, MIGRATION_LOCK, err);

    if (st == ST_OK && encoding != NULL && strcmp(encoding, "UTF8") != 0)
        st = error_set(err, ST_INVALID,
                       "database of catalog \"%s\" has encoding %s; create it with UTF8", db->name,
                       encoding);
    if (st == ST_OK)
        st = read_version(db, before, repeated, err);
    if (st == ST_OK && before->stored > before->newest)
        st = refuse_newer(db, before, err);
    if (st == ST_OK && before->stored == 0)
        st = postgres_db_execute(
            db,
            "create schema if not exists reinforce;"
            "create table reinforce.schema_version "
            "(version integer primary key, applied timestamptz not null default now())",
            err);
    for (int i = before->stored; i < before->newest && st == ST_OK; i++) {
        st = postgres_db_execute(db, postgres_migrations[i], err);
        if (st == ST_OK)
            st = postgres_db_query(db, NULL, err,
                                   "insert into reinforce.schema_version (version) values ($1)",
                                   "i", (int64_t)i + 1);
    }
    return st;
}

enum status postgres_migrate_run(struct postgres_db *db, struct catalog_schema *before,
                                 struct error *err)
{
    return postgres_db_transact(db, "begin", migrate, before, err);
}

enum status postgres_migrate_check(struct postgres_db *db, struct error *err)
{
    struct catalog_schema schema;
    enum status st = postgres_migrate_read(db, &schema, err);

    if (st == ST_OK && schema.stored > schema.newest)
        st = refuse_newer(db, &schema, err);
    if (st == ST_OK && schema.stored < schema.newest)
        st = error_set(err, ST_INVALID,
                       "catalog \"%s\" has schema version %d, this program needs %d; run "
                       "`reinforce db migrate --catalog URL`",
                       db->name, schema.stored, schema.newest);
    return st;
}
