/* The first images of a job, which its models are compared on. */
#ifndef REINFORCE_WORKER_FIRST_IMAGES_H
#define REINFORCE_WORKER_FIRST_IMAGES_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "storage/object/object_store.h"

#include <stdatomic.h>

enum { FIRST_IMAGES = 32, FIRST_IMAGES_BYTES = 256 << 20 };

/** Where a job's images come from and its findings go to; borrowed. */
struct job_place {
    struct object_store *input, *output;
    const char *catalog_url;
    int64_t job_id; /* in that catalog */
};

/** One of them, encoded. */
struct first_image {
    struct bytes_view uid, file;
    struct bytes_view text; /* the first real caption; NULL: there is none */
};

struct first_images {
    struct arena arena;
    size_t n;
    struct first_image images[FIRST_IMAGES];
};

/**
 * The first FIRST_IMAGES samples of the job's first shard that the job would take and whose images
 * can be decoded; fewer if the shard has no more, or they are more than FIRST_IMAGES_BYTES. A
 * function of job and input. `stop` may be NULL. ST_UNAVAILABLE: the catalog has no shard of the
 * job yet; else what the catalog and the stores say.
 */
NODISCARD enum status first_images_read(const struct job *job, const struct job_place *place,
                                        const atomic_bool *stop, struct first_images *first,
                                        struct error *err);
/** Safe on a zeroed one. */
void first_images_release(struct first_images *first);

#endif
