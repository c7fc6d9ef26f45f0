/* The index of what a job would read: planned, gone through once, and kept. */
#ifndef REINFORCE_COORDINATOR_CURATOR_INPUT_INDEX_H
#define REINFORCE_COORDINATOR_CURATOR_INPUT_INDEX_H

#include "coordinator/curator/example_index.h"
#include "reinforce/job/job.h"
#include "worker/input.h"

/** A job's input with its index. */
struct input_index {
    struct arena arena; /* of the input's keys */
    struct input input;
    struct object_store *lists; /* where lists of a folder's images are */
    char key[SHA256_HEX_LEN + 1];
    struct example_index *index;
};

/** Where the index of that key is kept. ST_INVALID: the path is too long. */
NODISCARD enum status input_index_path(const char *cache, const char *key, char *path, size_t size,
                                       struct error *err);

/**
 * Maps the index of the job's input in the folder `cache`, which may be new, and makes it when
 * there is none: every shard is read once, images that it only refers to are not. Ids are
 * example_id_of_uid(); of a uid that is there twice the first stays. The key digests the listing:
 * names, lengths, etags. ST_INVALID: a stream. On failure it is released.
 */
NODISCARD enum status input_index_open(const struct job *job, const char *cache,
                                       struct input_index *out, struct error *err);
/** Safe on a zeroed one. */
void input_index_close(struct input_index *in);

#endif
