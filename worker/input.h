/* Input: the store a job reads from, and the objects its URL names in there. */
#ifndef REINFORCE_WORKER_INPUT_H
#define REINFORCE_WORKER_INPUT_H

#include "storage/object/object_store.h"

struct input {
    struct object_store *store;
    const char *const *keys; /* [n_keys] in byte order, each once; n_keys 0: all that is there */
    size_t n_keys;
};

/**
 * What `url` may be:
 *   data/images                         a folder, or a prefix of a bucket: all it holds
 *   data/x.tar, data/y.jsonl.zst        one object
 *   data/{00000..00012}.tar, {a,b}.tar  a brace pattern: numbers keep the width of their ends
 *   a/x.tar::b/y.tar                    a list of any of the above that name objects
 *   data/manifest.jsonl, data/info.json what an earlier job has written: its shards
 *
 * The objects of a list share one store, which is opened at the folder they have in common. Keys
 * live in `arena`, the store is the caller's: input_close(). ST_INVALID: a pattern or manifest that
 * cannot be read, an object named twice, a name whose format we do not know. `options` of the store
 * may be NULL. ST_NOT_FOUND and
 * ST_CORRUPT of a manifest, with its line. Whether the objects are there is the planner's to see.
 */
NODISCARD enum status input_open(const char *url, const struct object_store_options *options,
                                 struct arena *arena, struct input *out, struct error *err);
void input_close(struct input *input);

/** The dataset format that a name's suffix says: "webdataset", "jsonl", ...; NULL: not a shard.
 * Manifests, though JSONL, are none. */
const char *input_format(const char *key);

#endif
