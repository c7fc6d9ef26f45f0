/*
 * Where the examples of an input are, by id, in a file that is mapped: made once of what a job
 * would read. An example's place is its number in the order of ids.
 *
 *     0  "RCUREXI1"
 *     8  uint64 n | uint64 bytes of the list of shards | uint64 CRC-32 of all from byte 128 on
 *    32  key, 64 hex digits; zeros up to byte 128
 *   128  places  n times: id (low half, high half) | offset | end | shard, a uint64 each; ascending
 *        by the high half, then by the low
 *   ...  shards  "i" of the input or "p" of the lists beside it, format, NUL, key, NUL; in order
 *
 * All little endian. The key is a digest of the input's listing; with another one it is another
 * file.
 */
#ifndef REINFORCE_COORDINATOR_CURATOR_EXAMPLE_INDEX_H
#define REINFORCE_COORDINATOR_CURATOR_EXAMPLE_INDEX_H

#include "reinforce/base/sha256.h"
#include "reinforce/curate/super_batch.h"

struct example_index;

/** Where an example is read; strings live as long as the index. */
struct example_source {
    struct example_id id;
    bool is_listed; /* its shard is a list beside the input */
    const char *format, *key;
    uint64_t offset, end; /* as dataset_position */
};

/** Maps the index at `path`. ST_NOT_FOUND: there is none. ST_CORRUPT: it is none, or of another
 * input, or damaged. */
NODISCARD enum status example_index_open(const char *path, const char *key,
                                         struct example_index **out, struct error *err);
void example_index_close(struct example_index **index);

/** Examples. */
uint64_t example_index_count(const struct example_index *index);

/** The example's place, below example_index_count(); false: the input has none of that id. */
bool example_index_find(const struct example_index *index, struct example_id id, uint64_t *place);

/** What is at a place. */
struct example_source example_index_get(const struct example_index *index, uint64_t place);

/** An index while it is made. */
struct example_index_builder {
    struct byte_buf file, shards;
    uint64_t n, n_shards;
};

void example_index_builder_init(struct example_index_builder *builder);
void example_index_builder_release(struct example_index_builder *builder);

/** Examples that are added next are of this shard. */
NODISCARD enum status example_index_add_shard(struct example_index_builder *builder, bool is_listed,
                                              const char *format, const char *key,
                                              struct error *err);
NODISCARD enum status example_index_add(struct example_index_builder *builder, struct example_id id,
                                        uint64_t offset, uint64_t end, struct error *err);

/** Writes it; of an id that was added twice the first stays, and *n_twice counts the others. */
NODISCARD enum status example_index_write(struct example_index_builder *builder, const char *path,
                                          const char key[SHA256_HEX_LEN + 1], uint64_t *n_twice,
                                          struct error *err);

#endif
