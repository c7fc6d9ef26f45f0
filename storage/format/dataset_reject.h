/* How format readers say that one sample is bad, and the parts of a sample that formats share. */
#ifndef REINFORCE_STORAGE_DATASET_REJECT_H
#define REINFORCE_STORAGE_DATASET_REJECT_H

#include "storage/format/dataset.h"

/** Fills the reject: `uid` cut to fit and made printable, the detail from a format. Returns
 * ST_CORRUPT, so that `return dataset_reject_set(...)` reads well. */
enum status dataset_reject_set(struct dataset_reject *reject, struct bytes_view uid,
                               enum status code, const char *reason, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

/** The same when a decoder failed: its code, context and message become the detail. What is not
 * the sample's fault (memory, peers) is not a reject: its status comes back as it is. */
enum status dataset_reject_error(struct dataset_reject *reject, struct bytes_view uid,
                                 const char *reason, const struct error *err);

/** True for "jpg", "jpeg", "png", "webp", "gif", in any case. */
bool dataset_is_image_ext(const char *ext);

/** Copies `text` to lower case (ASCII), cut at `size` - 1 bytes, and ends it with a NUL. */
void dataset_lower(const char *text, char *out, size_t size);

#endif
