/* AWS's published vectors: the Signature Version 4 test suite (service "service") and the examples
 * of "Authenticating requests: using the Authorization header" in the S3 API reference. */
#include "storage/object/sigv4.h"
#include "tests/support/test.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SUITE_HOST                                                                                 \
    {"Host", "example.amazonaws.com"},                                                             \
    {                                                                                              \
        "X-Amz-Date", "20150830T123600Z"                                                           \
    }
#define S3_HOST                                                                                    \
    {"Host", "examplebucket.s3.amazonaws.com"},                                                    \
    {                                                                                              \
        "x-amz-date", "20130524T000000Z"                                                           \
    }
#define ALPHABET "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

struct vector {
    const char *name, *method, *path;
    struct http_header query[3], headers[6];
    const char *body_sha256;
    const char *signed_headers, *signature;
};

static const struct vector suite[] = {
    {"get-vanilla",
     "GET",
     "/",
     {{0}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"post-vanilla",
     "POST",
     "/",
     {{0}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"get-unreserved",
     "GET",
     "/" ALPHABET,
     {{0}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
    {"get-utf8",
     "GET",
     "/\xe1\x88\xb4",
     {{0}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"get-header-value-trim",
     "GET",
     "/",
     {{0}},
     {SUITE_HOST, {"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\" "}},
     EMPTY,
     "host;my-header1;my-header2;x-amz-date",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"post-header-value-case",
     "POST",
     "/",
     {{0}},
     {SUITE_HOST, {"My-Header1", "VALUE1"}},
     EMPTY,
     "host;my-header1;x-amz-date",
     "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
    {"get-vanilla-query-order-key-case",
     "GET",
     "/",
     {{"Param2", "value2"}, {"Param1", "value1"}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-query-order-value",
     "GET",
     "/",
     {{"Param1", "value2"}, {"Param1", "value1"}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
    {"get-vanilla-query-order-key",
     "GET",
     "/",
     {{"Param1", "value2"}, {"Param1", "Value1"}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
    {"get-vanilla-query-unreserved",
     "GET",
     "/",
     {{ALPHABET, ALPHABET}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
    {"get-vanilla-utf8-query",
     "GET",
     "/",
     {{"\xe1\x88\xb4", "bar"}},
     {SUITE_HOST},
     EMPTY,
     "host;x-amz-date",
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
    {"post-x-www-form-urlencoded",
     "POST",
     "/",
     {{0}},
     {SUITE_HOST, {"Content-Type", "application/x-www-form-urlencoded"}},
     "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
     "content-type;host;x-amz-date",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

static const struct vector s3_examples[] = {
    {"GET object",
     "GET",
     "/test.txt",
     {{0}},
     {S3_HOST, {"Range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY}},
     EMPTY,
     "host;range;x-amz-content-sha256;x-amz-date",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {"PUT object",
     "PUT",
     "/test$file.text",
     {{0}},
     {S3_HOST,
      {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
      {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
      {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}},
     "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {"GET bucket lifecycle",
     "GET",
     "/",
     {{"lifecycle", ""}},
     {S3_HOST, {"x-amz-content-sha256", EMPTY}},
     EMPTY,
     "host;x-amz-content-sha256;x-amz-date",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {"GET bucket (list objects)",
     "GET",
     "/",
     {{"max-keys", "2"}, {"prefix", "J"}},
     {S3_HOST, {"x-amz-content-sha256", EMPTY}},
     EMPTY,
     "host;x-amz-content-sha256;x-amz-date",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static size_t count(const struct http_header *pairs, size_t max)
{
    size_t n = 0;

    while (n < max && pairs[n].name != NULL)
        n++;
    return n;
}

static void check(const struct sigv4_scope *scope, const char *date, const struct vector *vector)
{
    const struct sigv4_request request = {.method = vector->method,
                                          .path = vector->path,
                                          .query = vector->query,
                                          .n_query = count(vector->query, 3),
                                          .headers = vector->headers,
                                          .n_headers = count(vector->headers, 6),
                                          .body_sha256 = vector->body_sha256,
                                          .date = date};
    struct byte_buf got;
    char want[512];
    struct error err = {0};

    (void)snprintf(want, sizeof want,
                   "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, "
                   "SignedHeaders=%s, Signature=%s",
                   scope->access_key, date, scope->service, vector->signed_headers,
                   vector->signature);
    byte_buf_init(&got, 4096);
    assert_ok(sigv4_sign(scope, &request, &got, &err));
    if (!bytes_equal(byte_buf_view(&got), bytes_of_string(want)))
        fail_msg("%s gave\n%.*s\nwant\n%s", vector->name, (int)got.len, (const char *)got.data,
                 want);
    byte_buf_release(&got);
}

static void signatures_are_those_of_the_published_suite(void **state)
{
    static const struct sigv4_scope scope = {
        "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(suite); i++)
        check(&scope, "20150830T123600Z", &suite[i]);
}

static void signatures_are_those_of_the_s3_reference(void **state)
{
    static const struct sigv4_scope scope = {
        "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(s3_examples); i++)
        check(&scope, "20130524T000000Z", &s3_examples[i]);
}

static void what_is_encoded_sorts_as_it_is_sent(void **state)
{
    static const struct http_header query[] = {
        {"b", "x"}, {"a~", ""}, {"a/", "1 +&="}, {"a", "\xff"}, {"a-", "%"}};
    struct byte_buf got;
    char date[SIGV4_DATE_LEN + 1];
    struct error err = {0};

    (void)state;
    byte_buf_init(&got, 4096);
    assert_ok(sigv4_query(query, ARRAY_LEN(query), &got, &err));
    if (!bytes_equal(byte_buf_view(&got),
                     bytes_of_string("a=%FF&a%2F=1%20%2B%26%3D&a-=%25&a~=&b=x")))
        fail_msg("%.*s", (int)got.len, (const char *)got.data);
    byte_buf_reset(&got);
    assert_ok(sigv4_encode("/a b/\n(+)", true, &got, &err));
    assert_true(bytes_equal(byte_buf_view(&got), bytes_of_string("/a%20b/%0A%28%2B%29")));
    byte_buf_release(&got);
    sigv4_date(1369353600999, date);
    assert_string_equal(date, "20130524T000000Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_are_those_of_the_published_suite),
        cmocka_unit_test(signatures_are_those_of_the_s3_reference),
        cmocka_unit_test(what_is_encoded_sorts_as_it_is_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
