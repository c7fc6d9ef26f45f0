/* What `reinforce curator` is made of: its words, and how they are told where references are. */
#ifndef REINFORCE_CLI_CURATOR_ARGS_H
#define REINFORCE_CLI_CURATOR_ARGS_H

#include "cli/command.h"
#include "cli/store_args.h"
#include "coordinator/curator/dataset_references.h"
#include "coordinator/curator/teacher_process.h"

#include <limits.h>

#define CURATOR_ADDRESS "tcp://127.0.0.1:7700"

enum { CURATOR_MAX_THREADS = 64, CURATOR_MAX_SETS = 256 };

/** One for each processor, of one selection. */
size_t curator_threads(void);

/** argv[0] is the word; each returns an exit_code. */
int curator_serve(int argc, char **argv);
int curator_replay(int argc, char **argv);
int curator_status(int argc, char **argv);
int curator_teacher(int argc, char **argv);

/** For a table of long options. */
#define CURATOR_DATASET_OPTIONS                                                                    \
    {"dataset", required_argument, NULL, 'D'}, {"teacher", required_argument, NULL, 'T'},          \
        {"column", required_argument, NULL, 'C'}, {"cache", required_argument, NULL, 'F'},         \
        {"scale", required_argument, NULL, 'S'}, {"bias", required_argument, NULL, 'B'},           \
        {"compute", required_argument, NULL, 'J'}, {"set", required_argument, NULL, 'O'},          \
        STORE_ARGS_OPTIONS

/** A dataset's references, and those that are computed, as the command line names them; zeros:
 * none. */
struct curator_dataset {
    struct dataset_references_options options;
    struct object_store_options store;
    const char *scale, *bias;
    const char *compute; /* the job that is computed as; NULL: nothing is */
    const char *sets[CURATOR_MAX_SETS];
    size_t n_sets;
    bool verbose; /* the teacher's process, too */
    char default_cache[PATH_MAX];
    const char *argv[10 + 2 * CURATOR_MAX_SETS]; /* of the teacher's process */
    struct reference_cache *cache;
    struct teacher_process *teacher; /* NULL: none */
    struct curator_references references;
    char version[128];
};

/** Takes option `c` with its argument; false when it is none of these. */
bool curator_dataset_take(int c, const char *argument, struct curator_dataset *dataset);

/** *references: NULL without any; lives until closed. */
NODISCARD enum status curator_dataset_open(struct curator_dataset *dataset, const atomic_bool *stop,
                                           const struct curator_references **references,
                                           struct error *err);
void curator_dataset_close(struct curator_dataset *dataset);

#endif
