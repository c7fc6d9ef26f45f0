/* The XML that S3 answers in, read with expat: elements by path, without attributes. */
#ifndef REINFORCE_STORAGE_S3_XML_H
#define REINFORCE_STORAGE_S3_XML_H

#include "reinforce/base/bytes.h"

/** Called at the end of every element. `path` is of local names, "ListBucketResult/Contents/Key";
 * `text` what stands in it directly, without markup. Both until return. Anything but ST_OK ends the
 * reading with that status. */
typedef enum status s3_xml_fn(void *ctx, const char *path, const char *text, struct error *err);

/** ST_CORRUPT: not well-formed, deeper or longer than anything S3 says, or with a document type
 * (entities are a way to blow up a reader). ST_NO_MEMORY. */
NODISCARD enum status s3_xml_read(struct bytes_view xml, s3_xml_fn *each, void *ctx,
                                  struct error *err);

#endif
