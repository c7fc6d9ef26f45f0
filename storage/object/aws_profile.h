/*
 * The files that AWS tools keep their settings in: ~/.aws/config and ~/.aws/credentials.
 *
 *   [default]                 # credentials: every profile by its name
 *   [profile cluster]         # config: "profile" in front of all but default
 *   region = eu-central-1
 *   services = local
 *   s3 =
 *     addressing_style = path # a setting of a group: "s3.addressing_style"
 *   [services local]
 *   s3 =
 *     endpoint_url = http://store:9000
 *
 * Source: "Configuration and credential file settings", AWS CLI User Guide.
 */
#ifndef REINFORCE_STORAGE_AWS_PROFILE_H
#define REINFORCE_STORAGE_AWS_PROFILE_H

#include "reinforce/base/arena.h"

/** A profile's settings, of both files; those of the credentials file win. In an arena. */
struct aws_profile {
    const char *name;
    bool found;
    struct aws_setting *settings;
};

/**
 * Reads profile `name` (NULL: $AWS_PROFILE, or "default") from $AWS_CONFIG_FILE and
 * $AWS_SHARED_CREDENTIALS_FILE, or their usual places. Files that are not there are empty ones.
 * ST_INVALID: a file that cannot be read, or a line that is none; ST_NOT_FOUND: no such profile,
 * unless it is "default".
 */
NODISCARD enum status aws_profile_read(const char *name, struct arena *arena,
                                       struct aws_profile *out, struct error *err);

/** Value of "region", "s3.addressing_style", ...; NULL: not set. Lives as long as the arena. */
const char *aws_profile_get(const struct aws_profile *profile, const char *key);

/** $name, or NULL when it is not set or empty. */
const char *aws_environment(const char *name);

#endif
