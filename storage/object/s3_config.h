/* Where a bucket is and how it is addressed: from a job's options, the environment, a profile. */
#ifndef REINFORCE_STORAGE_S3_CONFIG_H
#define REINFORCE_STORAGE_S3_CONFIG_H

#include "storage/object/aws_profile.h"
#include "storage/object/object_store.h"

/** All strings live in the arena they were made in. */
struct s3_config {
    const char *bucket;
    const char *prefix; /* "a/b/", or "" */
    const char *origin; /* "http://127.0.0.1:9000", what URLs begin with */
    const char *host;   /* of the Host header: "127.0.0.1:9000" */
    const char *path;   /* in front of "/key": "/bucket", or "" when the host names the bucket */
    const char *region;
    const char *ca_file; /* NULL: the system's */
    struct aws_profile profile;
    bool profile_first; /* the user has named the profile: it goes before the environment */
};

/**
 * `url` without "s3:". The environment: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION,
 * AWS_DEFAULT_REGION, AWS_PROFILE, AWS_CA_BUNDLE, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS. ST_INVALID:
 * a bucket, prefix, endpoint or region that cannot be one; ST_NOT_FOUND: no such profile.
 */
NODISCARD enum status s3_config_resolve(const char *url, const struct object_store_options *options,
                                        struct arena *arena, struct s3_config *out,
                                        struct error *err);

#endif
