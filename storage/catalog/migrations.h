/* The steps that bring a catalog from one version to the next; the texts are in
 * migrations/<kind>/. */
#ifndef REINFORCE_STORAGE_MIGRATIONS_H
#define REINFORCE_STORAGE_MIGRATIONS_H

extern const char *const sqlite_migrations[]; /* [i] leads from version i to i + 1 */
extern const int sqlite_n_migrations;
extern const char *const postgres_migrations[];
extern const int postgres_n_migrations;

#endif
