/*
 * Three servers hand out keys:
 *
 *   STS         GET /?Action=AssumeRoleWithWebIdentity&..., XML; the token of a service account
 *               proves who asks
 *   a container GET of a URL the environment names, JSON; ECS, EKS pod identity
 *   a machine   PUT /latest/api/token, then GET /latest/meta-data/iam/security-credentials/ROLE
 * with it, JSON; IMDSv2
 *
 * Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".
 */
#include "storage/object/aws_credentials.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "storage/http/http.h"
#include "storage/object/s3_answer.h"
#include "storage/object/s3_xml.h"
#include "storage/object/sigv4.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    MAX_ANSWER = 64 << 10,
    MAX_URL = 8192,
    EARLY_MS = 5 * 60 * 1000, /* a key is renewed so long before it expires */
};

struct aws_credentials {
    struct aws_key fixed; /* from environment or file; access_key "" says there is none */
    char *region;
    struct http *http;
    pthread_mutex_t lock; /* guards what follows; not held while a server is asked */
    pthread_cond_t fetched;
    bool fetching;
    struct aws_key fetched_key;
};

static bool take(struct aws_key *key, const char *access_key, const char *secret_key,
                 const char *token)
{
    if (access_key == NULL || secret_key == NULL || strlen(access_key) >= sizeof key->access_key ||
        strlen(secret_key) >= sizeof key->secret_key ||
        (token != NULL && strlen(token) >= sizeof key->token))
        return false;
    (void)snprintf(key->access_key, sizeof key->access_key, "%s", access_key);
    (void)snprintf(key->secret_key, sizeof key->secret_key, "%s", secret_key);
    (void)snprintf(key->token, sizeof key->token, "%s", token != NULL ? token : "");
    return true;
}

static bool take_environment(struct aws_key *key)
{
    return take(key, aws_environment("AWS_ACCESS_KEY_ID"), aws_environment("AWS_SECRET_ACCESS_KEY"),
                aws_environment("AWS_SESSION_TOKEN"));
}

static bool take_profile(struct aws_key *key, const struct aws_profile *profile)
{
    return take(key, aws_profile_get(profile, "aws_access_key_id"),
                aws_profile_get(profile, "aws_secret_access_key"),
                aws_profile_get(profile, "aws_session_token"));
}

static bool find_fixed(struct aws_key *key, const struct aws_profile *profile, bool profile_first)
{
    if (profile_first)
        return take_profile(key, profile) || take_environment(key);
    if (take_environment(key))
        return true;
    return aws_environment("AWS_WEB_IDENTITY_TOKEN_FILE") == NULL && take_profile(key, profile);
}

/* What a profile may say instead of a key, and nobody here can follow. */
static enum status check_profile(const struct aws_profile *profile, struct error *err)
{
    static const char *const unknown[] = {"sso_session", "sso_start_url", "credential_process",
                                          "role_arn"};

    for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
        if (aws_profile_get(profile, unknown[i]) != NULL)
            return error_set(err, ST_INVALID,
                             "profile \"%s\" has %s, which is not followed here; put a key into "
                             "the environment: aws configure export-credentials --profile %s "
                             "--format env",
                             profile->name, unknown[i], profile->name);
    return ST_OK;
}

enum status aws_credentials_create(const struct aws_profile *profile, bool profile_first,
                                   const char *region, const atomic_bool *stop,
                                   struct aws_credentials **out, struct error *err)
{
    struct aws_credentials *c = calloc(1, sizeof *c);
    struct http_options options;
    bool web_identity = aws_environment("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL;
    enum status st = ST_OK;

    *out = NULL;
    if (c == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate credentials");
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_cond_init(&c->fetched, NULL);
    if (!find_fixed(&c->fixed, profile, profile_first))
        st = check_profile(profile, err);
    c->region = strdup(region);
    if (st == ST_OK && c->region == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate credentials");
    http_options_default(&options);
    options.connect_timeout_ms = 1000; /* a machine without such a server is soon known */
    options.timeout_ms = 5000;
    options.max_tries = 3;
    options.max_connections = 1;
    options.ca_file = aws_environment("AWS_CA_BUNDLE");
    options.direct = !web_identity; /* link-local servers are behind no proxy */
    options.stop = stop;
    if (st == ST_OK)
        st = http_open(&options, &c->http, err);
    if (st != ST_OK)
        aws_credentials_destroy(&c);
    *out = c;
    return st;
}

void aws_credentials_destroy(struct aws_credentials **credentials)
{
    struct aws_credentials *c = *credentials;

    if (c == NULL)
        return;
    http_close(&c->http);
    (void)pthread_cond_destroy(&c->fetched);
    (void)pthread_mutex_destroy(&c->lock);
    free(c->region);
    free(c);
    *credentials = NULL;
}

/* {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}: of containers and machines alike. */
static enum status read_json_key(struct bytes_view text, struct aws_key *key, struct error *err)
{
    json_t *root = NULL;
    const char *expires;
    enum status st = json_parse(text, &root, err);

    if (st != ST_OK)
        return st;
    expires = json_string_value(json_object_get(root, "Expiration"));
    if (!take(key, json_string_value(json_object_get(root, "AccessKeyId")),
              json_string_value(json_object_get(root, "SecretAccessKey")),
              json_string_value(json_object_get(root, "Token"))))
        st = error_set(err, ST_CORRUPT, "the answer holds no key");
    else if (expires != NULL)
        st = s3_answer_time(expires, &key->expires_ms, err);
    json_decref(root);
    return st;
}

static enum status ask(struct http *http, const char *method, const char *url,
                       const struct http_header *header, struct byte_buf *out, struct error *err)
{
    const struct http_request request = {
        .method = method, .url = url, .headers = header, .n_headers = header != NULL};
    struct http_response response;
    enum status st = http_run(http, &request, MAX_ANSWER, NULL, NULL, &response, err);

    byte_buf_reset(out);
    if (st == ST_OK)
        st = byte_buf_append(out, response.body.data, response.body.len, err);
    http_response_release(&response);
    return st;
}

/* A machine's key, by IMDSv2. */
static enum status ask_machine(struct aws_credentials *c, struct aws_key *key, struct error *err)
{
    static const struct http_header lifetime = {"X-aws-ec2-metadata-token-ttl-seconds", "300"};
    const char *endpoint = aws_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    struct http_header token = {"X-aws-ec2-metadata-token", NULL};
    char url[MAX_URL], role[256];
    struct byte_buf answer, token_text;
    size_t len;
    enum status st;

    if (endpoint == NULL)
        endpoint = "http://169.254.169.254";
    len = strlen(endpoint);
    len -= len > 0 && endpoint[len - 1] == '/';
    byte_buf_init(&answer, MAX_ANSWER);
    byte_buf_init(&token_text, MAX_ANSWER);
    (void)snprintf(url, sizeof url, "%.*s/latest/api/token", (int)len, endpoint);
    st = ask(c->http, "PUT", url, &lifetime, &token_text, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&token_text, &token.value, err);
    (void)snprintf(url, sizeof url, "%.*s/latest/meta-data/iam/security-credentials/", (int)len,
                   endpoint);
    if (st == ST_OK)
        st = ask(c->http, "GET", url, &token, &answer, err);
    if (st == ST_OK) {
        (void)snprintf(role, sizeof role, "%.*s", (int)answer.len, (const char *)answer.data);
        role[strcspn(role, "\r\n")] = '\0';
        (void)snprintf(url, sizeof url, "%.*s/latest/meta-data/iam/security-credentials/%s",
                       (int)len, endpoint, role);
        st = ask(c->http, "GET", url, &token, &answer, err);
    }
    if (st == ST_OK)
        st = read_json_key(byte_buf_view(&answer), key, err);
    byte_buf_release(&token_text);
    byte_buf_release(&answer);
    if (st != ST_OK)
        error_add_context(err, "this machine's identity");
    return st;
}

static enum status read_token_file(const char *path, struct byte_buf *out, const char **text,
                                   struct error *err)
{
    enum status st = file_read(path, out, err);

    while (out->len > 0 && (out->data[out->len - 1] == '\n' || out->data[out->len - 1] == '\r'))
        out->len--;
    return st == ST_OK ? byte_buf_c_str(out, text, err) : st;
}

static enum status ask_container(struct aws_credentials *c, const char *relative, const char *full,
                                 struct aws_key *key, struct error *err)
{
    const char *token_file = aws_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    struct http_header token = {"Authorization",
                                aws_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN")};
    struct byte_buf answer, token_text;
    char url[MAX_URL];
    enum status st = ST_OK;

    byte_buf_init(&answer, MAX_ANSWER);
    byte_buf_init(&token_text, MAX_ANSWER);
    if (token_file != NULL)
        st = read_token_file(token_file, &token_text, &token.value, err);
    if (relative != NULL)
        (void)snprintf(url, sizeof url, "http://169.254.170.2%s", relative);
    else
        (void)snprintf(url, sizeof url, "%s", full);
    if (st == ST_OK)
        st = ask(c->http, "GET", url, token.value != NULL ? &token : NULL, &answer, err);
    if (st == ST_OK)
        st = read_json_key(byte_buf_view(&answer), key, err);
    byte_buf_release(&token_text);
    byte_buf_release(&answer);
    if (st != ST_OK)
        error_add_context(err, "this container's identity");
    return st;
}

/* What STS answers. */
struct sts_answer {
    char access_key[160], secret_key[160], token[4096], expires[40];
};

static enum status each_sts(void *ctx, const char *path, const char *text, struct error *err)
{
    struct sts_answer *answer = ctx;
    const char *name = strrchr(path, '/');

    (void)err;
    if (name == NULL || strstr(path, "/Credentials/") == NULL)
        return ST_OK;
    if (strcmp(name, "/AccessKeyId") == 0)
        (void)snprintf(answer->access_key, sizeof answer->access_key, "%s", text);
    else if (strcmp(name, "/SecretAccessKey") == 0)
        (void)snprintf(answer->secret_key, sizeof answer->secret_key, "%s", text);
    else if (strcmp(name, "/SessionToken") == 0)
        (void)snprintf(answer->token, sizeof answer->token, "%s", text);
    else if (strcmp(name, "/Expiration") == 0)
        (void)snprintf(answer->expires, sizeof answer->expires, "%s", text);
    return ST_OK;
}

static enum status ask_sts(struct aws_credentials *c, const char *token_file, struct aws_key *key,
                           struct error *err)
{
    const char *role = aws_environment("AWS_ROLE_ARN"), *text, *url_text;
    const char *session = aws_environment("AWS_ROLE_SESSION_NAME");
    const char *endpoint = aws_environment("AWS_ENDPOINT_URL_STS");
    struct http_header query[] = {{"Action", "AssumeRoleWithWebIdentity"},
                                  {"RoleArn", role},
                                  {"RoleSessionName", session != NULL ? session : "reinforce"},
                                  {"Version", "2011-06-15"},
                                  {"WebIdentityToken", NULL}};
    struct sts_answer answer = {.token = ""};
    struct byte_buf token, url, body;
    enum status st = ST_OK;

    byte_buf_init(&token, MAX_ANSWER);
    byte_buf_init(&url, 4 * MAX_ANSWER);
    byte_buf_init(&body, MAX_ANSWER);
    if (role == NULL)
        st = error_set(err, ST_INVALID,
                       "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not");
    if (st == ST_OK)
        st = read_token_file(token_file, &token, &text, err);
    if (st == ST_OK) {
        query[4].value = text;
        st = endpoint != NULL
                 ? byte_buf_printf(&url, err, "%s/?", endpoint)
                 : byte_buf_printf(&url, err, "https://sts.%s.amazonaws.com/?", c->region);
    }
    if (st == ST_OK)
        st = sigv4_query(query, ARRAY_LEN(query), &url, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&url, &url_text, err);
    if (st == ST_OK)
        st = ask(c->http, "GET", url_text, NULL, &body, err);
    if (st == ST_OK)
        st = s3_xml_read(byte_buf_view(&body), each_sts, &answer, err);
    if (st == ST_OK && (answer.access_key[0] == '\0' ||
                        !take(key, answer.access_key, answer.secret_key, answer.token)))
        st = error_set(err, ST_CORRUPT, "the answer holds no key");
    if (st == ST_OK)
        st = s3_answer_time(answer.expires, &key->expires_ms, err);
    byte_buf_release(&body);
    byte_buf_release(&url);
    byte_buf_release(&token);
    if (st != ST_OK)
        error_add_context(err, "the web identity of AWS_WEB_IDENTITY_TOKEN_FILE");
    return st;
}

static enum status fetch(struct aws_credentials *c, struct aws_key *key, struct error *err)
{
    const char *web_identity = aws_environment("AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *relative = aws_environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = aws_environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *disabled = aws_environment("AWS_EC2_METADATA_DISABLED");
    enum status st;

    memset(key, 0, sizeof *key);
    if (web_identity != NULL)
        return ask_sts(c, web_identity, key, err);
    if (relative != NULL || full != NULL)
        return ask_container(c, relative, full, key, err);
    if (disabled == NULL || strcasecmp(disabled, "true") != 0) {
        st = ask_machine(c, key, err);
        if (st == ST_OK || st == ST_CANCELLED || st == ST_NO_MEMORY)
            return st;
    }
    return error_set(
        err, ST_INVALID,
        "no key to sign with: neither AWS_ACCESS_KEY_ID, a profile, a web identity nor "
        "a machine's identity has one; set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or input.anonymous");
}

static bool is_good_for(const struct aws_key *key, int64_t ms)
{
    return key->access_key[0] != '\0' &&
           (key->expires_ms == 0 || key->expires_ms - clock_wall_ms() > ms);
}

enum status aws_credentials_get(struct aws_credentials *c, struct aws_key *out, struct error *err)
{
    struct aws_key fresh;
    bool asks = false, good;
    enum status st;

    if (c->fixed.access_key[0] != '\0') {
        *out = c->fixed;
        return ST_OK;
    }
    (void)pthread_mutex_lock(&c->lock);
    while (c->fetching && !is_good_for(&c->fetched_key, 0))
        (void)pthread_cond_wait(&c->fetched, &c->lock);
    good = is_good_for(&c->fetched_key, c->fetching ? 0 : EARLY_MS);
    if (good)
        *out = c->fetched_key;
    else
        asks = c->fetching = true;
    (void)pthread_mutex_unlock(&c->lock);
    if (!asks)
        return ST_OK;
    st = fetch(c, &fresh, err);
    (void)pthread_mutex_lock(&c->lock);
    c->fetching = false;
    if (st == ST_OK)
        c->fetched_key = fresh;
    else if (is_good_for(&c->fetched_key, 0)) /* the old one does for now */
        st = ST_OK;
    *out = c->fetched_key;
    (void)pthread_cond_broadcast(&c->fetched);
    (void)pthread_mutex_unlock(&c->lock);
    return st;
}

void aws_credentials_forget(struct aws_credentials *c, const struct aws_key *key)
{
    (void)pthread_mutex_lock(&c->lock);
    if (strcmp(c->fetched_key.access_key, key->access_key) == 0)
        memset(&c->fetched_key, 0, sizeof c->fetched_key);
    (void)pthread_mutex_unlock(&c->lock);
}
