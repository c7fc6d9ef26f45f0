/* What every dataset format must do, whatever its bytes look like. */
#ifndef REINFORCE_TESTS_DATASET_CONTRACT_H
#define REINFORCE_TESTS_DATASET_CONTRACT_H

#include "storage/format/dataset.h"

/**
 * Fills a record that varies with `i`: image kinds, captions (UTF-8, empty), columns, views,
 * embeddings of every shape, members, unknown JSON fields. What it points at lives in `arena`;
 * release it.
 */
void dataset_contract_record(size_t i, struct arena *arena, struct record *record);

/** Fails the test where `got` differs from `want`; embeddings are compared as values, `want`'s
 * rounded to `dtype` first. */
void dataset_contract_equal(const struct record *want, const struct record *got,
                            enum record_dtype dtype);

/** Writes, reads, cuts, joins, resumes and slices; fails the test where the format does not keep
 * the contract. */
void dataset_contract(const struct dataset_format *format);

#endif
