#include "storage/object/s3_config.h"

#include <stdio.h>
#include <strings.h>

enum { MAX_URL = 1024, MAX_REGION = 64 };

#define LETTERS "abcdefghijklmnopqrstuvwxyz"
#define DIGITS  "0123456789"

/* The job's own value; then profile and environment, the named one of them first. */
static const char *pick(const struct s3_config *config, const char *given, const char *profile,
                        const char *environment)
{
    if (given != NULL && given[0] != '\0')
        return given;
    if (config->profile_first)
        return profile != NULL ? profile : environment;
    return environment != NULL ? environment : profile;
}

static const char *either(const char *a, const char *b)
{
    return a != NULL ? a : b;
}

static enum status parse_bucket(const char *url, struct arena *arena, struct s3_config *out,
                                struct error *err)
{
    const char *bucket = url + 2, *prefix;
    size_t len, prefix_len;
    char *copy;
    enum status st;

    if (strncmp(url, "//", 2) != 0 || bucket[0] == '\0' || bucket[0] == '/')
        return error_set(err, ST_INVALID,
                         "\"s3:%.100s\" names no bucket; write s3://bucket or s3://bucket/prefix",
                         url);
    len = strcspn(bucket, "/");
    if (len < 3 || len > 255 || bucket[0] == '.' || bucket[len - 1] == '.' ||
        strspn(bucket, LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "._-") < len)
        return error_set(
            err, ST_INVALID,
            "\"%.*s\" cannot be a bucket; their names have 3 to 63 lower-case letters, "
            "digits, \"-\" and \".\"",
            (int)MIN(len, (size_t)100), bucket);
    st = arena_strndup(arena, bucket, len, &copy, err);
    if (st != ST_OK)
        return st;
    out->bucket = copy;
    prefix = bucket + len + (bucket[len] == '/');
    prefix_len = strlen(prefix);
    while (prefix_len > 0 && prefix[prefix_len - 1] == '/')
        prefix_len--;
    out->prefix = "";
    if (prefix_len == 0)
        return ST_OK;
    st = arena_alloc(arena, prefix_len + 2, &copy, err);
    if (st != ST_OK)
        return st;
    (void)snprintf(copy, prefix_len + 1, "%s", prefix);
    st = object_key_check(copy, err);
    copy[prefix_len] = '/';
    copy[prefix_len + 1] = '\0';
    out->prefix = copy;
    return st;
}

static enum status choose_region(const struct object_store_options *options, struct s3_config *out,
                                 struct error *err)
{
    out->region =
        pick(out, options->region, aws_profile_get(&out->profile, "region"),
             either(aws_environment("AWS_REGION"), aws_environment("AWS_DEFAULT_REGION")));
    out->region = either(out->region, "us-east-1");
    if (strlen(out->region) > MAX_REGION ||
        strspn(out->region, LETTERS DIGITS "-_ABCDEFGHIJKLMNOPQRSTUVWXYZ") < strlen(out->region))
        return error_set(err, ST_INVALID, "\"%.80s\" cannot be a region", out->region);
    return ST_OK;
}

/* NULL: AWS's own. */
static const char *choose_endpoint(const struct object_store_options *options,
                                   const struct s3_config *config)
{
    const char *ignore = aws_environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    const struct aws_profile *profile = &config->profile;

    if (ignore != NULL && strcasecmp(ignore, "true") == 0)
        return pick(config, options->endpoint, NULL, NULL);
    return pick(
        config, options->endpoint,
        either(aws_profile_get(profile, "s3.endpoint_url"),
               aws_profile_get(profile, "endpoint_url")),
        either(aws_environment("AWS_ENDPOINT_URL_S3"), aws_environment("AWS_ENDPOINT_URL")));
}

static enum status is_virtual(const struct object_store_options *options,
                              const struct s3_config *config, bool own_endpoint, bool *out,
                              struct error *err)
{
    const char *given = options->addressing, *style;

    if (given != NULL && strcmp(given, "auto") == 0) /* a profile may know better */
        given = NULL;
    style = pick(config, given, aws_profile_get(&config->profile, "s3.addressing_style"), NULL);
    if (style == NULL || strcmp(style, "auto") == 0) {
        /* AWS's certificate names one label, and path style is what every other store has. */
        *out = !own_endpoint && strchr(config->bucket, '.') == NULL &&
               strspn(config->bucket, LETTERS DIGITS "-") == strlen(config->bucket);
        return ST_OK;
    }
    *out = strcmp(style, "virtual") == 0;
    if (!*out && strcmp(style, "path") != 0)
        return error_set(err, ST_INVALID, "addressing \"%.40s\" is neither path, virtual nor auto",
                         style);
    return ST_OK;
}

/* "https://host:port/base" in its pieces; the scheme's own port is left out, as in a Host header.
 */
static enum status split_endpoint(const char *endpoint, const char **scheme, char host[MAX_URL],
                                  char base[MAX_URL], struct error *err)
{
    bool secure = strncmp(endpoint, "https://", 8) == 0;
    const char *from = endpoint + (secure ? 8 : 7), *usual = secure ? ":443" : ":80";
    size_t len, base_len, usual_len = strlen(usual);

    if ((!secure && strncmp(endpoint, "http://", 7) != 0) || strlen(endpoint) >= MAX_URL ||
        from[strcspn(from, "@?# ")] != '\0' || from[0] == '\0' || from[0] == '/')
        return error_set(err, ST_INVALID,
                         "\"%.100s\" is no endpoint of a store; write https://HOST or "
                         "http://HOST:PORT",
                         endpoint);
    len = strcspn(from, "/");
    base_len = strlen(from + len);
    while (base_len > 0 && from[len + base_len - 1] == '/')
        base_len--;
    (void)snprintf(base, MAX_URL, "%.*s", (int)base_len, from + len);
    if (len > usual_len && strncmp(from + len - usual_len, usual, usual_len) == 0)
        len -= usual_len;
    (void)snprintf(host, MAX_URL, "%.*s", (int)len, from);
    *scheme = secure ? "https" : "http";
    return ST_OK;
}

static enum status keep(struct arena *arena, const char **out, struct error *err, const char *a,
                        const char *b, const char *c)
{
    size_t bytes = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text;
    enum status st = arena_alloc(arena, bytes, &text, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(text, bytes, "%s%s%s", a, b, c);
    *out = text;
    return ST_OK;
}

static enum status address(const struct object_store_options *options, struct arena *arena,
                           struct s3_config *out, struct error *err)
{
    const char *endpoint = choose_endpoint(options, out), *scheme = "https";
    char host[MAX_URL], base[MAX_URL] = "";
    bool by_host = false;
    enum status st = is_virtual(options, out, endpoint != NULL, &by_host, err);

    if (st == ST_OK && endpoint != NULL)
        st = split_endpoint(endpoint, &scheme, host, base, err);
    else
        (void)snprintf(host, sizeof host, "s3.%s.amazonaws.com%s", out->region,
                       strncmp(out->region, "cn-", 3) == 0 ? ".cn" : "");
    if (st == ST_OK)
        st = keep(arena, &out->host, err, by_host ? out->bucket : "", by_host ? "." : "", host);
    if (st == ST_OK)
        st = keep(arena, &out->origin, err, scheme, "://", out->host);
    if (st == ST_OK)
        st = keep(arena, &out->path, err, base, by_host ? "" : "/", by_host ? "" : out->bucket);
    return st;
}

enum status s3_config_resolve(const char *url, const struct object_store_options *options,
                              struct arena *arena, struct s3_config *out, struct error *err)
{
    enum status st;

    *out = (struct s3_config){.profile_first =
                                  options->profile != NULL && options->profile[0] != '\0'};
    st = parse_bucket(url, arena, out, err);
    if (st == ST_OK)
        st = aws_profile_read(out->profile_first ? options->profile : NULL, arena, &out->profile,
                              err);
    if (st == ST_OK)
        st = choose_region(options, out, err);
    if (st == ST_OK)
        st = address(options, arena, out, err);
    out->ca_file = pick(out, NULL, aws_profile_get(&out->profile, "ca_bundle"),
                        aws_environment("AWS_CA_BUNDLE"));
    return st;
}
