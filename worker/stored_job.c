#include "worker/stored_job.h"

enum { ARENA_BYTES = 64 << 20 };

enum status stored_job_load(struct catalog *catalog, const char *name, struct catalog_job *row,
                            struct job **job, struct error *err)
{
    struct arena arena;
    const char *config;
    enum status st;

    *job = NULL;
    arena_init(&arena, ARENA_BYTES);
    st = catalog_job_find(catalog, name, &arena, row, &config, err);
    if (st == ST_OK)
        st = job_load_text(bytes_of_string(config), name, NULL, 0, job, err);
    arena_release(&arena);
    return st;
}
