/* The steps that bring a catalog file from one version to the next; the texts are in
 * migrations/sqlite/. */
#ifndef REINFORCE_STORAGE_SQLITE_MIGRATIONS_H
#define REINFORCE_STORAGE_SQLITE_MIGRATIONS_H

extern const char *const sqlite_migrations[]; /* [i] leads from version i to i + 1 */
extern const int sqlite_n_migrations;

#endif
