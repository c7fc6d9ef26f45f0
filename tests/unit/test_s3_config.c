/* Where a bucket is and as whom it is asked: options, environment, ~/.aws, and the servers that
 * hand out keys. */
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "storage/object/aws_credentials.h"
#include "storage/object/s3_config.h"
#include "tests/support/http_fake.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

#define CONFIG                                                                                     \
    "# settings\n"                                                                                 \
    "[default]\n"                                                                                  \
    "region = eu-west-3 # Paris\n"                                                                 \
    "\n"                                                                                           \
    "[profile cluster]\r\n"                                                                        \
    "region=eu-central-1\r\n"                                                                      \
    "services = local\n"                                                                           \
    "s3 =\n"                                                                                       \
    "  addressing_style = virtual\n"                                                               \
    "endpoint_url = http://everything:1\n"                                                         \
    "[profile sso]\nsso_session = me\n"                                                            \
    "[services local]\n"                                                                           \
    "s3 =\n"                                                                                       \
    "  endpoint_url = http://store:9000/base/\n"                                                   \
    "dynamodb =\n"                                                                                 \
    "  endpoint_url = http://other:1\n"
#define KEYS                                                                                       \
    "[default]\naws_access_key_id = DEFAULTKEY\naws_secret_access_key = a/b+c=\n"                  \
    "[cluster]\naws_access_key_id=CLUSTERKEY\naws_secret_access_key=s\naws_session_token=t\n"

static const char *const variables[] = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_CA_BUNDLE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
};

static void set(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0); /* NOLINT(concurrency-mt-unsafe) */
}

static void write_file(const struct temp_folder *folder, const char *name, const char *text,
                       char path[256])
{
    struct error err = {0};

    temp_folder_name(folder, name, path, 256);
    assert_ok(file_write_atomic(path, bytes_of_string(text), &err));
}

/* An environment of a test's own: two files, and nothing set. */
static int begin(void **state)
{
    struct temp_folder *folder = malloc(sizeof *folder);
    char path[256];

    assert_non_null(folder);
    temp_folder_init(folder);
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        (void)unsetenv(variables[i]); /* NOLINT(concurrency-mt-unsafe) */
    write_file(folder, "config", CONFIG, path);
    set("AWS_CONFIG_FILE", path);
    write_file(folder, "credentials", KEYS, path);
    set("AWS_SHARED_CREDENTIALS_FILE", path);
    *state = folder;
    return 0;
}

static int end(void **state)
{
    temp_folder_release(*state);
    free(*state);
    return 0;
}

/* NAME=VALUE, up to three of them, set for one case. */
struct place {
    const char *environment[3];
    struct object_store_options options;
    const char *url;
    const char *origin, *path, *region, *prefix;
};

static void resolve(const struct place *place, size_t number)
{
    struct s3_config config;
    struct arena arena;
    struct error err = {0};

    for (size_t i = 0; i < 3 && place->environment[i] != NULL; i++) {
        char text[256], *equals;

        (void)snprintf(text, sizeof text, "%s", place->environment[i]);
        equals = strchr(text, '=');
        *equals = '\0';
        set(text, equals + 1);
    }
    arena_init(&arena, 1 << 20);
    if (s3_config_resolve(place->url, &place->options, &arena, &config, &err) != ST_OK)
        fail_msg("case %zu: %s", number, err.message);
    if (strcmp(config.origin, place->origin) != 0 || strcmp(config.path, place->path) != 0 ||
        strcmp(config.region, place->region) != 0 || strcmp(config.prefix, place->prefix) != 0)
        fail_msg("case %zu: %s %s %s \"%s\"", number, config.origin, config.path, config.region,
                 config.prefix);
    arena_release(&arena);
}

static void a_place_is_what_job_environment_and_profile_say(void **state)
{
    static const struct place places[] = {
        {{NULL},
         {.endpoint = NULL},
         "//bucket/a/b/",
         "https://bucket.s3.eu-west-3.amazonaws.com",
         "",
         "eu-west-3",
         "a/b/"},
        {{NULL},
         {.endpoint = NULL},
         "//dotted.bucket",
         "https://s3.eu-west-3.amazonaws.com",
         "/dotted.bucket",
         "eu-west-3",
         ""},
        {{NULL},
         {.addressing = "path", .region = "cn-north-1"},
         "//bucket",
         "https://s3.cn-north-1.amazonaws.com.cn",
         "/bucket",
         "cn-north-1",
         ""},
        {{NULL},
         {.endpoint = "http://h:80/"},
         "//bucket/p",
         "http://h",
         "/bucket",
         "eu-west-3",
         "p/"},
        {{NULL},
         {.endpoint = "https://[::1]:443"},
         "//bucket/p",
         "https://[::1]",
         "/bucket",
         "eu-west-3",
         "p/"},
        {{NULL},
         {.endpoint = "https://h:8443", .addressing = "virtual"},
         "//bucket",
         "https://bucket.h:8443",
         "",
         "eu-west-3",
         ""},
        {{"AWS_REGION=us-west-2", "AWS_ENDPOINT_URL=http://e:1"},
         {.endpoint = NULL},
         "//bucket",
         "http://e:1",
         "/bucket",
         "us-west-2",
         ""},
        {{"AWS_ENDPOINT_URL_S3=http://s:2"},
         {.endpoint = NULL},
         "//bucket",
         "http://s:2",
         "/bucket",
         "us-west-2",
         ""},
        {{NULL},
         {.endpoint = "http://job:3", .region = "r"},
         "//bucket",
         "http://job:3",
         "/bucket",
         "r",
         ""},
        /* a profile the job names goes before the environment */
        {{NULL},
         {.profile = "cluster", .addressing = "auto"},
         "//bucket",
         "http://bucket.store:9000",
         "/base",
         "eu-central-1",
         ""},
        /* one the environment names goes behind it */
        {{"AWS_PROFILE=cluster"},
         {.addressing = "path"},
         "//bucket",
         "http://s:2",
         "/bucket",
         "us-west-2",
         ""},
        {{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"},
         {.addressing = "path"},
         "//bucket",
         "https://s3.us-west-2.amazonaws.com",
         "/bucket",
         "us-west-2",
         ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        resolve(&places[i], i);
}

static void what_cannot_be_a_place_is_refused(void **state)
{
    static const struct {
        const char *url;
        struct object_store_options options;
        enum status want;
        const char *story;
    } cases[] = {
        {"bucket/x", {.endpoint = NULL}, ST_INVALID, "names no bucket"},
        {"//", {.endpoint = NULL}, ST_INVALID, "names no bucket"},
        {"///x", {.endpoint = NULL}, ST_INVALID, "names no bucket"},
        {"//ab", {.endpoint = NULL}, ST_INVALID, "\"ab\" cannot be a bucket"},
        {"//key:secret@bucket", {.endpoint = NULL}, ST_INVALID, "cannot be a bucket"},
        {"//bucket/a//b", {.endpoint = NULL}, ST_INVALID, "empty part"},
        {"//bucket/../b", {.endpoint = NULL}, ST_INVALID, "\"..\" part"},
        {"//bucket", {.endpoint = "store:9000"}, ST_INVALID, "no endpoint of a store"},
        {"//bucket", {.endpoint = "http://u:p@store"}, ST_INVALID, "no endpoint of a store"},
        {"//bucket", {.endpoint = "http://"}, ST_INVALID, "no endpoint of a store"},
        {"//bucket", {.region = "eu west"}, ST_INVALID, "\"eu west\" cannot be a region"},
        {"//bucket", {.addressing = "host"}, ST_INVALID, "neither path, virtual nor auto"},
        {"//bucket", {.profile = "nobody"}, ST_NOT_FOUND, "profile \"nobody\" is neither in"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct s3_config config;
        struct arena arena;
        struct error err = {0};
        enum status st;

        arena_init(&arena, 1 << 20);
        st = s3_config_resolve(cases[i].url, &cases[i].options, &arena, &config, &err);
        if (st != cases[i].want || strstr(err.message, cases[i].story) == NULL)
            fail_msg("case %zu: %s: %s", i, status_name(st), err.message);
        arena_release(&arena);
    }
}

static enum status get_key(const char *profile_name, bool first, struct aws_key *key,
                           struct error *err)
{
    struct aws_credentials *credentials;
    struct aws_profile profile;
    struct arena arena;
    enum status st;

    arena_init(&arena, 1 << 20);
    st = aws_profile_read(profile_name, &arena, &profile, err);
    if (st == ST_OK)
        st = aws_credentials_create(&profile, first, "eu-west-3", NULL, &credentials, err);
    arena_release(&arena);
    if (st != ST_OK)
        return st;
    st = aws_credentials_get(credentials, key, err);
    aws_credentials_destroy(&credentials);
    return st;
}

static void expect_key(const char *profile, bool first, const char *access_key, const char *secret,
                       const char *token)
{
    struct aws_key key;
    struct error err = {0};

    assert_ok(get_key(profile, first, &key, &err));
    assert_string_equal(key.access_key, access_key);
    assert_string_equal(key.secret_key, secret);
    assert_string_equal(key.token, token);
}

static void keys_come_from_environment_and_files(void **state)
{
    struct aws_key key;
    struct error err = {0};

    (void)state;
    expect_key(NULL, false, "DEFAULTKEY", "a/b+c=", "");
    set("AWS_PROFILE", "cluster");
    expect_key(NULL, false, "CLUSTERKEY", "s", "t");
    set("AWS_ACCESS_KEY_ID", "ENVKEY");
    set("AWS_SECRET_ACCESS_KEY", "e");
    expect_key(NULL, false, "ENVKEY", "e", "");
    set("AWS_SESSION_TOKEN", "session");
    expect_key(NULL, false, "ENVKEY", "e", "session");
    expect_key("cluster", true, "CLUSTERKEY", "s", "t");
    set("AWS_ACCESS_KEY_ID", "");
    assert_status(get_key("sso", true, &key, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "aws configure export-credentials --profile sso"));
}

static void the_machines_identity_is_asked_for_and_kept(void **state)
{
    char body[256], later[CLOCK_TEXT_LEN + 1];
    const struct http_fake_answer answers[] = {
        {.status = 200, .body = "imds-token"},
        {.status = 200, .body = "a-role\n"},
        {.status = 200, .body = body},
        {.status = 500},
    };
    struct http_fake *fake = http_fake_create(answers, ARRAY_LEN(answers));
    struct aws_credentials *credentials;
    struct aws_profile profile = {.name = "default"};
    struct aws_key key;
    struct error err = {0};

    (void)state;
    clock_text(clock_wall_ms() + 3600 * 1000, later);
    (void)snprintf(body, sizeof body,
                   "{\"Code\": \"Success\", \"AccessKeyId\": \"MACHINE\", \"SecretAccessKey\": "
                   "\"m\", \"Token\": \"mt\", \"Expiration\": \"%s\"}",
                   later);
    set("AWS_EC2_METADATA_SERVICE_ENDPOINT", http_fake_url(fake));
    assert_ok(aws_credentials_create(&profile, false, "r", NULL, &credentials, &err));
    for (int i = 0; i < 3; i++) {
        assert_ok(aws_credentials_get(credentials, &key, &err));
        assert_string_equal(key.access_key, "MACHINE");
        assert_string_equal(key.token, "mt");
    }
    assert_int_equal(http_fake_count(fake), 3);
    assert_non_null(strstr(http_fake_request(fake, 0), "PUT /latest/api/token HTTP"));
    assert_non_null(strstr(http_fake_request(fake, 0), "X-aws-ec2-metadata-token-ttl-seconds: "));
    assert_non_null(strstr(http_fake_request(fake, 2),
                           "GET /latest/meta-data/iam/security-credentials/a-role HTTP"));
    assert_non_null(strstr(http_fake_request(fake, 2), "X-aws-ec2-metadata-token: imds-token"));
    aws_credentials_forget(credentials, &key);
    assert_status(aws_credentials_get(credentials, &key, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "set AWS_ACCESS_KEY_ID"));
    aws_credentials_destroy(&credentials);
    http_fake_destroy(&fake);
}

static void a_containers_identity_is_asked_for_with_its_token(void **state)
{
    static const struct http_fake_answer answer = {
        .status = 200,
        .body = "{\"AccessKeyId\": \"POD\", \"SecretAccessKey\": \"p\", \"Token\": \"pt\"}"};
    struct http_fake *fake = http_fake_create(&answer, 1);
    char path[256];

    write_file(*state, "token", "pod-token\n", path);
    set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", http_fake_url(fake));
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path);
    expect_key(NULL, false, "POD", "p", "pt");
    assert_non_null(strstr(http_fake_request(fake, 0), "Authorization: pod-token\r\n"));
    http_fake_destroy(&fake);
}

static void a_web_identity_is_changed_for_a_key(void **state)
{
    static const struct http_fake_answer answer = {
        .status = 200,
        .body = "<AssumeRoleWithWebIdentityResponse "
                "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
                "<AssumeRoleWithWebIdentityResult><Credentials><SessionToken>wt</SessionToken>"
                "<SecretAccessKey>w</SecretAccessKey><Expiration>2100-01-01T00:00:00Z</Expiration>"
                "<AccessKeyId>WEB</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>"
                "</AssumeRoleWithWebIdentityResponse>"};
    struct http_fake *fake = http_fake_create(&answer, 1);
    char path[256];

    write_file(*state, "token", "ey.j+w/t", path);
    set("AWS_ENDPOINT_URL_STS", http_fake_url(fake));
    set("AWS_WEB_IDENTITY_TOKEN_FILE", path);
    set("AWS_ROLE_ARN", "arn:aws:iam::1:role/x");
    expect_key(NULL, false, "WEB", "w", "wt"); /* before the default profile's */
    assert_non_null(strstr(http_fake_request(fake, 0),
                           "GET /?Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3"
                           "Arole%2Fx&RoleSessionName=reinforce&Version=2011-06-15&"
                           "WebIdentityToken=ey.j%2Bw%2Ft HTTP"));
    http_fake_destroy(&fake);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_place_is_what_job_environment_and_profile_say),
        TEST(what_cannot_be_a_place_is_refused),
        TEST(keys_come_from_environment_and_files),
        TEST(the_machines_identity_is_asked_for_and_kept),
        TEST(a_containers_identity_is_asked_for_with_its_token),
        TEST(a_web_identity_is_changed_for_a_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
