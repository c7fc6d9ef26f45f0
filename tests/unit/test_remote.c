/* Served models against a server that says what a test has written down. */
#include "reinforce/base/clock.h"
#include "tests/support/http_fake.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"
#include "worker/remote/remote.h"
#include "worker/remote/remote_client.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ARENA_BYTES = 64 << 20, SIDE = 48, MAX_ANSWERS = 8 };

#define MODELS                                                                                     \
    {                                                                                              \
        .status = 200, .body = "{\"object\": \"list\", \"data\": [{\"id\": \"other\"}, "           \
                               "{\"id\": \"tiny\", \"created\": 7, \"root\": \"r\"}]}"             \
    }
#define SAYS(text)                                                                                 \
    {                                                                                              \
        .status = 200,                                                                             \
        .body = "{\"choices\": [{\"finish_reason\": \"stop\", \"message\": {\"role\": "            \
                "\"assistant\", \"content\": \"" text "\"}}], \"usage\": {\"completion_tokens\": " \
                "3}}"                                                                              \
    }
#define ROWS(data)                                                                                 \
    {                                                                                              \
        .status = 200, .body = "{\"object\": \"list\", \"data\": [" data "]}"                      \
    }
#define ROW "{\"index\": 0, \"embedding\": [3, 0, 4, 0]}"

/* A job of one served captioner or teacher, its server, and room for results. */
struct served {
    struct http_fake *fake;
    struct job *job;
    struct captioner *captioner;
    struct teacher *teacher;
    struct arena results, scratch;
    struct image image;
    atomic_bool stop;
};

static struct job *load(const char *list, const char *model, const char *url, const char *more)
{
    struct job *job = NULL;
    struct error err = {0};
    char text[1024];

    (void)snprintf(text, sizeof text,
                   "{name: j, seed: 9, input: {url: in}, output: {url: out}, %s: [{model: %s, "
                   "server: '%s', concurrency: 1, timeout: 300ms, max_tries: 2%s}]}",
                   list, model, url, more);
    assert_ok(job_load_text(bytes_of_string(text), "j.yaml", NULL, 0, &job, &err));
    return job;
}

static void begin(struct served *s, const struct http_fake_answer *answers, size_t n)
{
    struct error err = {0};

    memset(s, 0, sizeof *s);
    s->fake = http_fake_create(answers, n);
    arena_init(&s->results, ARENA_BYTES);
    arena_init(&s->scratch, ARENA_BYTES);
    assert_ok(image_alloc(&s->image, SIDE, SIDE / 2, 3, &s->results, &err));
    for (size_t i = 0; i < image_bytes(&s->image); i++)
        s->image.pixels[i] = (uint8_t)(i * 5);
}

static void end(struct served *s)
{
    captioner_close(&s->captioner);
    teacher_close(&s->teacher);
    job_destroy(&s->job);
    arena_release(&s->results);
    arena_release(&s->scratch);
    http_fake_destroy(&s->fake);
}

static enum status open_captioner(struct served *s, const char *more, struct error *err)
{
    char keys[512];

    (void)snprintf(keys, sizeof keys, ", protocol: openai%s", more);
    s->job = load("captioners", "tiny", http_fake_url(s->fake), keys);
    return remote_captioner_open(&s->job->captioners[0], &s->stop, &s->captioner, err);
}

static enum status open_teacher(struct served *s, const char *more, struct error *err)
{
    s->job = load("teachers", "tiny", http_fake_url(s->fake), more);
    return remote_teacher_open(&s->job->teachers[0], &s->stop, &s->teacher, err);
}

static enum status caption(struct served *s, struct caption *captions, struct error *err)
{
    const struct bytes_view uid = bytes_of_string("u1");
    size_t used = s->scratch.used_bytes;
    enum status st =
        captioner_caption_images(s->captioner, &s->image, &uid, 1, &s->job->captioners[0].how,
                                 &s->results, &s->scratch, captions, err);

    assert_int_equal(s->scratch.used_bytes, used);
    return st;
}

/* The JSON body of request `i`. */
static json_t *body_of(struct served *s, size_t i)
{
    const char *body = strstr(http_fake_request(s->fake, i), "\r\n\r\n");
    struct error err = {0};
    json_t *json;

    assert_non_null(body);
    assert_ok(json_parse(bytes_of_string(body + 4), &json, &err));
    return json;
}

static const json_t *part_of(const json_t *request, size_t i)
{
    const json_t *message = json_array_get(json_object_get(request, "messages"), 0);

    return json_array_get(json_object_get(message, "content"), i);
}

static void a_caption_is_asked_for_as_the_protocol_wants(void **state)
{
    static const struct http_fake_answer answers[] = {MODELS, SAYS("grey"), SAYS(" a dog\\n")};
    struct caption captions[1];
    struct error err = {0};
    struct served s;
    const char *url;
    json_t *request;

    (void)state;
    assert_int_equal(setenv("REMOTE_TEST_TOKEN", "s3cret", 1), 0);
    begin(&s, answers, ARRAY_LEN(answers));
    assert_ok(open_captioner(&s,
                             ", token_env: REMOTE_TEST_TOKEN, top_k: 5, temperature: 0.5,"
                             " max_tokens: 40, image_side: 24",
                             &err));
    assert_ok(caption(&s, captions, &err));
    assert_string_equal(captions[0].text, " a dog\n"); /* exactly as it said */
    assert_int_equal(captions[0].text_len, 7);
    assert_int_equal(captions[0].n_tokens, 3);
    assert_int_equal(captions[0].stop, CAPTION_STOP_END);
    assert_true(
        bytes_equal(captions[0].prompt, bytes_of_string("Describe this image in one sentence.")));
    assert_null(captions[0].ids); /* what a server does not say is not made up */
    assert_true(isnan(captions[0].score) && isnan(captions[0].log_prob_sum));
    assert_non_null(strstr(http_fake_request(s.fake, 0), "GET /models HTTP"));
    assert_non_null(strstr(http_fake_request(s.fake, 2), "POST /chat/completions HTTP"));
    assert_non_null(strstr(http_fake_request(s.fake, 2), "Authorization: Bearer s3cret"));
    request = body_of(&s, 2);
    assert_string_equal(json_string_value(json_object_get(request, "model")), "tiny");
    url = json_string_value(
        json_object_get(json_object_get(part_of(request, 0), "image_url"), "url"));
    assert_int_equal(strncmp(url, "data:image/jpeg;base64,/9j/", 27), 0);
    assert_string_equal(json_string_value(json_object_get(part_of(request, 1), "text")),
                        "Describe this image in one sentence.");
    assert_int_equal(json_integer_value(json_object_get(request, "max_tokens")), 40);
    assert_int_equal(json_integer_value(json_object_get(request, "top_k")), 5);
    assert_null(json_object_get(request, "repetition_penalty")); /* not OpenAI's: only if asked */
    assert_true(json_number_value(json_object_get(request, "temperature")) == 0.5);
    assert_true(json_is_integer(json_object_get(request, "seed")));
    json_decref(request);
    end(&s);
}

static void a_caption_that_the_server_cut_is_marked(void **state)
{
    static const struct http_fake_answer answers[] = {
        MODELS,
        {.status = 200,
         .body = "{\"choices\": [{\"finish_reason\": \"length\", \"message\": {\"content\": "
                 "\"a dog on\"}}]}"}};
    struct caption captions[1];
    struct error err = {0};
    struct served s;

    (void)state;
    begin(&s, answers, ARRAY_LEN(answers));
    assert_ok(open_captioner(&s, "", &err));
    assert_ok(caption(&s, captions, &err));
    assert_int_equal(captions[0].stop, CAPTION_STOP_LENGTH);
    assert_int_equal(captions[0].n_tokens, 0); /* the server does not say */
    end(&s);
}

/* Whatever is drawn on the server follows from job seed, uid, captioner and caption. */
static void seeds_differ_by_caption_and_repeat(void **state)
{
    static const struct http_fake_answer answers[] = {MODELS, SAYS("x")};
    json_int_t seeds[2][3];

    (void)state;
    for (size_t run = 0; run < 2; run++) {
        struct caption captions[3];
        struct error err = {0};
        struct served s;

        begin(&s, answers, ARRAY_LEN(answers));
        assert_ok(open_captioner(&s, ", count: 3", &err));
        assert_ok(caption(&s, captions, &err));
        for (size_t i = 0; i < 3; i++) {
            json_t *request = body_of(&s, 2 + i);

            seeds[run][i] = json_integer_value(json_object_get(request, "seed"));
            assert_true(seeds[run][i] >= 0 && seeds[run][i] <= INT32_MAX);
            json_decref(request);
        }
        end(&s);
    }
    assert_memory_equal(seeds[0], seeds[1], sizeof seeds[0]);
    assert_true(seeds[0][0] != seeds[0][1] && seeds[0][1] != seeds[0][2]);
}

static void prompts_share_the_captions_and_greedy_asks_each_once(void **state)
{
    static const struct http_fake_answer answers[] = {MODELS, SAYS("grey"), SAYS("one"),
                                                      SAYS("two")};
    struct caption captions[4];
    struct error err = {0};
    struct served s;
    json_t *request;

    (void)state;
    begin(&s, answers, ARRAY_LEN(answers));
    assert_ok(open_captioner(
        &s, ", count: 4, strategy: greedy, prompt: \"first \\u00e9\\nsecond\\n\"", &err));
    assert_ok(caption(&s, captions, &err));
    assert_int_equal(http_fake_count(s.fake), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(captions[i].text, i < 2 ? "one" : "two");
        assert_true(
            bytes_equal(captions[i].prompt, bytes_of_string(i < 2 ? "first \xc3\xa9" : "second")));
    }
    request = body_of(&s, 2);
    assert_string_equal(json_string_value(json_object_get(part_of(request, 1), "text")),
                        "first \xc3\xa9");
    assert_true(json_number_value(json_object_get(request, "temperature")) == 0);
    json_decref(request);
    end(&s);
    begin(&s, answers, ARRAY_LEN(answers));
    assert_status(open_captioner(&s, ", prompt: \"a\\nb\"", &err), ST_INVALID);
    assert_non_null(strstr(err.message, "2 prompts share 1 captions"));
    end(&s);
}

/* Whose fault it is decides whether a sample is quarantined or a lease tried again. */
static void answers_are_the_samples_fault_or_the_servers(void **state)
{
    static const struct {
        struct http_fake_answer answers[2];
        size_t n;
        enum status want;
        size_t requests;
        const char *reason;
    } cases[] = {
        {{{.status = 429, .headers = "Retry-After: 0\r\n"}, SAYS("ok")}, 2, ST_OK, 2, ""},
        {{{.status = 500, .body = "crash"}, SAYS("ok")}, 2, ST_OK, 2, ""},
        {{{.status = 200, .body = "{\"choices\"", .cut_at = 4}, SAYS("ok")}, 2, ST_OK, 2, ""},
        {{{.status = 400, .body = "bad image"}}, 1, ST_INVALID, 1, "400, bad image"},
        {{{.status = 413, .body = "too large"}}, 1, ST_INVALID, 1, "413"},
        {{{.status = 422, .body = "no"}}, 1, ST_INVALID, 1, "422"},
        {{{.status = 401, .body = "who?"}}, 1, ST_UNAVAILABLE, 1, "401"},
        {{{.status = 404, .body = "gone"}}, 1, ST_UNAVAILABLE, 1, "404"},
        {{{.status = 429}}, 1, ST_UNAVAILABLE, 2, "429"},
        {{{.status = 503}}, 1, ST_UNAVAILABLE, 2, "503"},
        {{{.status = 0}}, 1, ST_UNAVAILABLE, 2, ""},
        {{{.status = 200, .body = "slow", .delay_ms = 500}}, 1, ST_TIMEOUT, 2, ""},
        {{{.status = 200, .body = "<html>proxy</html>"}}, 1, ST_UNAVAILABLE, 1, "<html>proxy"},
        {{{.status = 200, .body = " "}}, 1, ST_UNAVAILABLE, 1, "no JSON"},
        {{{.status = 200, .body = "{\"choices\": [{"}}, 1, ST_CORRUPT, 1, ""},
        {{{.status = 200, .body = "{\"a\": \"\xff\"}"}}, 1, ST_CORRUPT, 1, "not UTF-8"},
        {{{.status = 200, .body = "{}"}}, 1, ST_UNAVAILABLE, 1, "`choices`"},
        {{{.status = 200,
           .body = "{\"choices\": [{\"finish_reason\": \"content_filter\", \"message\": "
                   "{\"content\": null}}]}"}},
         1,
         ST_CORRUPT,
         1,
         "content_filter"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_fake_answer answers[4] = {MODELS, SAYS("grey"), cases[i].answers[0],
                                              cases[i].answers[1]};
        struct caption captions[1];
        struct error err = {0};
        struct served s;
        enum status st;
        size_t before;

        begin(&s, answers, 2 + cases[i].n);
        assert_ok(open_captioner(&s, "", &err));
        before = http_fake_count(s.fake);
        st = caption(&s, captions, &err);
        if (st != cases[i].want || http_fake_count(s.fake) - before != cases[i].requests ||
            (st != ST_OK && strstr(err.message, cases[i].reason) == NULL))
            fail_msg("case %zu: %s after %zu requests: %s", i, status_name(st),
                     http_fake_count(s.fake) - before, err.message);
        end(&s);
    }
}

static void what_cannot_work_is_refused_before_any_sample(void **state)
{
    static const struct {
        struct http_fake_answer answers[2];
        const char *keys;
        enum status want;
        const char *reason;
    } cases[] = {
        {{{.status = 200, .body = "{\"data\": [{\"id\": \"a\"}, {\"id\": \"b/c\"}]}"}},
         "",
         ST_INVALID,
         "no model \"tiny\"; it has \"a\", \"b/c\""},
        {{{.status = 200, .body = "{\"data\": []}"}}, "", ST_INVALID, "it has none"},
        {{{.status = 200, .body = "{}"}}, "", ST_UNAVAILABLE, "no list `data`"},
        {{{.status = 401, .body = "no token"}}, "", ST_INVALID, "401, no token"},
        {{{.status = 404, .body = "what?"}}, "", ST_NOT_FOUND, "404"},
        {{{.status = 0}}, "", ST_UNAVAILABLE, ""},
        {{MODELS, {.status = 400, .body = "tiny is not a multimodal model"}},
         "",
         ST_INVALID,
         "not a multimodal model"},
        {{MODELS}, ", token_env: REMOTE_TEST_UNSET", ST_INVALID, "REMOTE_TEST_UNSET"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct served s;
        enum status st;

        begin(&s, cases[i].answers, cases[i].answers[1].status != 0 ? 2 : 1);
        st = open_captioner(&s, cases[i].keys, &err);
        if (st != cases[i].want || strstr(err.message, cases[i].reason) == NULL ||
            s.captioner != NULL || strstr(err.context, "server http://127.0.0.1") == NULL)
            fail_msg("case %zu: %s: %s: %s", i, status_name(st), err.context, err.message);
        end(&s);
    }
}

/* Not where it is and when it was asked, but what it is. */
static void a_model_is_identified_by_what_its_server_says_of_it(void **state)
{
    static const struct http_fake_answer models[] = {
        MODELS,
        {.status = 200,
         .body = "{\"data\": [{\"root\": \"r\", \"id\": \"tiny\", \"created\": 8, "
                 "\"max_model_len\": 9, \"meta\": {\"n_ctx\": 5}}]}"},
        {.status = 200, .body = "{\"data\": [{\"id\": \"tiny\", \"root\": \"another\"}]}"},
        {.status = 200,
         .body = "{\"data\": [{\"id\": \"tiny\", \"root\": \"r\", \"meta\": {\"size\": 5}}]}"},
    };
    char digests[ARRAY_LEN(models)][SHA256_HEX_LEN + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct http_fake_answer answers[] = {models[i], SAYS("x")};
        struct error err = {0};
        struct served s;

        begin(&s, answers, 2);
        assert_ok(open_captioner(&s, "", &err));
        memcpy(digests[i], captioner_info(s.captioner)->weights_digest, sizeof digests[i]);
        assert_int_equal(strlen(digests[i]), SHA256_HEX_LEN);
        end(&s);
    }
    assert_string_equal(digests[0], digests[1]);
    assert_string_not_equal(digests[0], digests[2]);
    assert_string_not_equal(digests[0], digests[3]);
}

static void assert_row(const float *row, float a, float b, float c, float d)
{
    const float want[] = {a, b, c, d};

    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_true(fabs((double)row[i] - (double)want[i]) < 1e-6);
}

#define OPENAI_TEACHER ", protocol: openai, image_size: 32, batch: 2"

static void an_openai_teachers_rows_are_put_in_order_and_to_unit_length(void **state)
{
    static const struct http_fake_answer answers[] = {
        MODELS,
        ROWS(ROW),
        ROWS(ROW),
        ROWS(ROW),
        ROWS(ROW),
        ROWS("{\"index\": 1, \"embedding\": [0, 2, 0, 0]}, {\"index\": 0, \"embedding\": [3, 0, 4, "
             "0]}"),
        ROWS("{\"index\": 0, \"embedding\": [0, 0, 0, -5e-1]}")};
    const struct bytes_view texts[] = {bytes_of_string("a \"cat\""), bytes_of_string(""),
                                       bytes_of_string("dog")};
    struct error err = {0};
    struct served s;
    json_t *request;
    float emb[12];

    (void)state;
    begin(&s, answers, ARRAY_LEN(answers));
    assert_ok(open_teacher(&s, OPENAI_TEACHER ", dim: 4, mean: '0.5 0.5 0.5'", &err));
    assert_int_equal(teacher_info(s.teacher)->dim, 4);
    assert_int_equal(teacher_info(s.teacher)->preprocess.size, 32);
    assert_true(teacher_info(s.teacher)->preprocess.mean[1] == 0.5F);
    assert_ok(teacher_embed_texts(s.teacher, texts, 3, &s.scratch, emb, &err));
    assert_row(emb, 0.6F, 0, 0.8F, 0);
    assert_row(emb + 4, 0, 1, 0, 0);
    assert_row(emb + 8, 0, 0, 0, -1);
    request = body_of(&s, 5);
    assert_string_equal(json_string_value(json_object_get(request, "model")), "tiny");
    assert_int_equal(json_array_size(json_object_get(request, "input")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(request, "input"), 0)),
                        "a \"cat\"");
    json_decref(request);
    end(&s);
}

static void each_image_form_stands_in_the_request_as_its_servers_want(void **state)
{
    static const struct http_fake_answer answers[] = {MODELS, ROWS(ROW)};
    static const struct {
        const char *form, *want;
    } cases[] = {
        {"data_url", "\"modality\": \"image\", \"input\": [\"data:image/png;base64,iVBOR"},
        {"object", "\"input\": [{\"image\": \"data:image/png;base64,iVBOR"},
        {"messages",
         "\"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:image/png;"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct served s;
        struct image views[2];
        float emb[8];
        char keys[128];
        size_t last;

        begin(&s, answers, ARRAY_LEN(answers));
        (void)snprintf(keys, sizeof keys, ", protocol: openai, image_size: 24, image_form: %s",
                       cases[i].form);
        assert_ok(open_teacher(&s, keys, &err));
        s.image.width = s.image.height = 24;
        views[0] = views[1] = s.image;
        assert_ok(teacher_embed_images(s.teacher, views, 1, &s.scratch, emb, &err));
        last = http_fake_count(s.fake) - 1;
        if (strstr(http_fake_request(s.fake, last), cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].form, http_fake_request(s.fake, last));
        if (strcmp(cases[i].form, "messages") == 0) { /* one a request */
            assert_ok(teacher_embed_images(s.teacher, views, 2, &s.scratch, emb, &err));
            assert_int_equal(http_fake_count(s.fake) - 1 - last, 2);
            assert_row(emb + 4, 0.6F, 0, 0.8F, 0);
        }
        end(&s);
    }
}

static void an_openai_server_that_embeds_no_images_is_refused(void **state)
{
    static const struct http_fake_answer refuses[] = {
        MODELS, ROWS(ROW), {.status = 400, .body = "input must be text"}};
    static const struct http_fake_answer reads[] = {
        MODELS, ROWS(ROW), ROWS(ROW), ROWS(ROW),
        ROWS("{\"index\": 0, \"embedding\": [0, 5, 0, 0]}")};
    static const struct http_fake_answer other[] = {MODELS, ROWS(ROW),
                                                    ROWS("{\"index\": 0, \"embedding\": [1, 2]}")};
    struct error err = {0};
    struct served s;

    (void)state;
    begin(&s, refuses, ARRAY_LEN(refuses));
    assert_status(open_teacher(&s, OPENAI_TEACHER, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "input must be text"));
    assert_non_null(strstr(err.context, "a trial image"));
    end(&s);
    begin(&s, reads, ARRAY_LEN(reads));
    assert_status(open_teacher(&s, OPENAI_TEACHER, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "reads the data URL as a text"));
    end(&s);
    begin(&s, other, ARRAY_LEN(other));
    assert_status(open_teacher(&s, OPENAI_TEACHER, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "texts in 4 dimensions and images in 2"));
    end(&s);
    begin(&s, reads, 4);
    assert_status(open_teacher(&s, OPENAI_TEACHER ", dim: 5", &err), ST_INVALID);
    assert_non_null(strstr(err.message, "have 4 dimensions, the job says dim 5"));
    end(&s);
}

static void openai_rows_that_are_no_good_are_named(void **state)
{
    static const struct {
        struct http_fake_answer answer;
        enum status want;
        const char *reason;
    } cases[] = {
        {ROWS("{\"embedding\": [1, 0, 0]}"), ST_UNAVAILABLE, "rows of 1 x 3 where 1 x 4"},
        {ROWS("{\"embedding\": [1, NaN, 0, 0]}"), ST_CORRUPT, ""},
        {ROWS("{\"embedding\": [1, null, 0, 0]}"), ST_CORRUPT, "no number"},
        {ROWS("{\"embedding\": [1e99, 0, 0, 0]}"), ST_CORRUPT, "not finite"},
        {ROWS("{\"embedding\": [0, 0, 0, 0]}"), ST_CORRUPT, "all zero"},
        {ROWS("{\"embedding\": [[1, 0, 0, 0]]}"), ST_UNAVAILABLE, "not one row"},
        {ROWS("{\"embedding\": \"AAAA\"}"), ST_UNAVAILABLE, "0 columns"},
        {ROWS("{\"index\": 1, \"embedding\": [1, 0, 0, 0]}"), ST_UNAVAILABLE, "embedding 0"},
        {ROWS(""), ST_UNAVAILABLE, "0 embeddings for 1 inputs"},
        {{.status = 400, .body = "too long"}, ST_INVALID, "too long"},
    };
    const struct bytes_view text = bytes_of_string("a cat");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_fake_answer answers[] = {MODELS,    ROWS(ROW), ROWS(ROW),
                                             ROWS(ROW), ROWS(ROW), cases[i].answer};
        struct error err = {0};
        struct served s;
        enum status st;
        float emb[4];

        begin(&s, answers, ARRAY_LEN(answers));
        assert_ok(open_teacher(&s, OPENAI_TEACHER, &err));
        st = teacher_embed_texts(s.teacher, &text, 1, &s.scratch, emb, &err);
        if (st != cases[i].want || strstr(err.message, cases[i].reason) == NULL)
            fail_msg("case %zu: %s: %s", i, status_name(st), err.message);
        end(&s);
    }
}

#define METADATA(size)                                                                             \
    {                                                                                              \
        .status = 200,                                                                             \
        .body =                                                                                    \
            "{\"name\": \"tiny\", \"versions\": [\"1\"], \"platform\": \"onnx\", \"inputs\": ["    \
            "{\"name\": \"image\", \"datatype\": \"FP32\", \"shape\": [-1, 3, " size ", " size     \
            "]}, {\"name\": \"text\", \"datatype\": \"BYTES\", \"shape\": [-1, 1]}], "             \
            "\"outputs\": [{\"name\": \"embedding\", \"datatype\": \"FP32\", \"shape\": [-1, "     \
            "4]}]}"                                                                                \
    }
#define SERVER(extensions)                                                                         \
    {                                                                                              \
        .status = 200, .body = "{\"name\": \"s\", \"extensions\": [" extensions "]}"               \
    }
#define OUTPUT(shape, data)                                                                        \
    {                                                                                              \
        .status = 200, .body = "{\"model_name\": \"tiny\", \"outputs\": [{\"name\": \"other\"}, "  \
                               "{\"name\": \"embedding\", \"datatype\": \"FP32\", \"shape\": "     \
                               "[" shape "], \"data\": [" data "]}]}"                              \
    }
#define OIP_TEACHER ", protocol: oip, mean: '0.5,0.5,0.5', std: '0.5,0.5,0.5'"

static void an_oip_teacher_sends_normalised_pixels_and_texts(void **state)
{
    static const struct http_fake_answer answers[] = {METADATA("2"),
                                                      METADATA("2"),
                                                      SERVER(""),
                                                      OUTPUT("1, 4", "3,0,4,0"),
                                                      OUTPUT("1, 4", "3,0,4,0"),
                                                      OUTPUT("2, 4", "[3, 0, 4, 0], [0, 0, 0, 9]")};
    uint8_t pixels[12] = {0, 255, 51, 0, 255, 51, 0, 255, 51, 0, 255, 51};
    struct image views[2] = {{.width = 2, .height = 2, .channels = 3, .pixels = pixels}};
    struct error err = {0};
    struct served s;
    json_t *request;
    const json_t *tensor, *data;
    float emb[8];

    (void)state;
    views[1] = views[0];
    begin(&s, answers, ARRAY_LEN(answers));
    assert_ok(open_teacher(&s, OIP_TEACHER, &err));
    assert_int_equal(teacher_info(s.teacher)->dim, 4);
    assert_int_equal(teacher_info(s.teacher)->preprocess.size, 2); /* as the server says */
    assert_ok(teacher_embed_images(s.teacher, views, 2, &s.scratch, emb, &err));
    assert_row(emb, 0.6F, 0, 0.8F, 0);
    assert_row(emb + 4, 0, 0, 0, 1);
    assert_non_null(strstr(http_fake_request(s.fake, 0), "GET /v2/models/tiny HTTP"));
    assert_non_null(strstr(http_fake_request(s.fake, 5), "POST /v2/models/tiny/infer HTTP"));
    request = body_of(&s, 3); /* the trial text */
    tensor = json_array_get(json_object_get(request, "inputs"), 0);
    assert_string_equal(json_string_value(json_object_get(tensor, "datatype")), "BYTES");
    assert_int_equal(json_array_size(json_object_get(tensor, "shape")), 2);
    json_decref(request);
    request = body_of(&s, 5);
    tensor = json_array_get(json_object_get(request, "inputs"), 0);
    data = json_object_get(tensor, "data");
    assert_string_equal(json_string_value(json_object_get(tensor, "name")), "image");
    assert_int_equal(json_array_size(data), 24);
    assert_true(json_number_value(json_array_get(data, 0)) == -1);              /* red, then */
    assert_true(json_number_value(json_array_get(data, 4)) == 1);               /* green, then */
    assert_true(fabs(json_number_value(json_array_get(data, 8)) + 0.6) < 1e-6); /* blue */
    json_decref(request);
    end(&s);
}

static void an_oip_server_with_the_binary_extension_gets_raw_pixels(void **state)
{
    static const struct http_fake_answer answers[] = {
        METADATA("-1"), METADATA("-1"), SERVER("\"classification\", \"binary_tensor_data\""),
        OUTPUT("1, 4", "3,0,4,0")};
    struct error err = {0};
    struct served s;
    const char *request, *length;
    size_t json_len;

    (void)state;
    begin(&s, answers, ARRAY_LEN(answers));
    assert_ok(open_teacher(&s, OIP_TEACHER ", image_size: 2", &err));
    request = http_fake_request(s.fake, 4);
    length = strstr(request, "Inference-Header-Content-Length: ");
    assert_non_null(length);
    json_len = (size_t)strtoul(length + 33, NULL, 10);
    assert_non_null(strstr(request, "\"parameters\": {\"binary_data_size\": 48}"));
    assert_non_null(strstr(request, "\"parameters\": {\"binary_data\": false}"));
    request = strstr(request, "\r\n\r\n") + 4;
    assert_int_equal(request[json_len - 1], '}');
    for (size_t i = 0; i < 12; i++) {
        float value;

        memcpy(&value, request + json_len + 4 * i, sizeof value);
        assert_true(fabs((double)value - (128 / 255.0 - 0.5) / 0.5) < 1e-6);
    }
    end(&s);
}

static void oip_models_and_rows_that_do_not_fit_are_named(void **state)
{
    static const struct {
        struct http_fake_answer answers[MAX_ANSWERS];
        size_t n;
        const char *keys;
        enum status want;
        const char *reason;
    } cases[] = {
        {{{.status = 404, .body = "Model tiny not found"}}, 1, "", ST_NOT_FOUND, "tiny not found"},
        {{{.status = 400, .body = "unknown model"}}, 1, "", ST_INVALID, "unknown model"},
        {{METADATA("2")},
         1,
         ", image_tensor: pixels",
         ST_INVALID,
         "no \"pixels\" among its inputs"},
        {{METADATA("2")}, 1, ", image_tensor: text", ST_INVALID, "is BYTES, and FP32"},
        {{METADATA("2")}, 1, ", text_tensor: image", ST_INVALID, "is FP32, and BYTES"},
        {{METADATA("2")}, 1, ", output_tensor: y", ST_INVALID, "no \"y\" among its outputs"},
        {{METADATA("2")}, 1, ", image_size: 4", ST_INVALID, "views of 2 pixels, image_size is 4"},
        {{METADATA("-1")}, 1, "", ST_INVALID, "set image_size"},
        {{METADATA("2"), METADATA("2"), SERVER(""), OUTPUT("1, 4", "1,0,0")},
         4,
         "",
         ST_UNAVAILABLE,
         "hold 3 numbers, their shape 4"},
        {{METADATA("2"), METADATA("2"), SERVER(""), OUTPUT("1, 4", "1,0,0,0,0")},
         4,
         "",
         ST_UNAVAILABLE,
         "more numbers than their shape"},
        {{METADATA("2"), METADATA("2"), SERVER(""), OUTPUT("2, 4", "1,0,0,0")},
         4,
         "",
         ST_UNAVAILABLE,
         "2 rows for 1 inputs"},
        {{METADATA("2"), METADATA("2"), SERVER(""), OUTPUT("1, -4", "1,0,0,0")},
         4,
         "",
         ST_UNAVAILABLE,
         "shape has a -4"},
        {{METADATA("2"), METADATA("2"), SERVER(""), {.status = 200, .body = "{\"outputs\": []}"}},
         4,
         "",
         ST_UNAVAILABLE,
         "no output \"embedding\""},
        {{METADATA("2"), METADATA("2"), SERVER(""), OUTPUT("1, 4", "1,0,0,0")},
         4,
         ", dim: 8",
         ST_INVALID,
         "4 dimensions, the job says dim 8"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char keys[256];
        struct error err = {0};
        struct served s;
        enum status st;

        begin(&s, cases[i].answers, cases[i].n);
        (void)snprintf(keys, sizeof keys, OIP_TEACHER "%s", cases[i].keys);
        st = open_teacher(&s, keys, &err);
        if (st != cases[i].want || strstr(err.message, cases[i].reason) == NULL)
            fail_msg("case %zu: %s: %s: %s", i, status_name(st), err.context, err.message);
        assert_null(s.teacher);
        end(&s);
    }
}

/* Tasks in flight at once, and the first failure. */
struct tasks {
    atomic_int now, most, run;
    size_t fails_at;
};

static enum status task(void *ctx, size_t i, struct error *err)
{
    struct tasks *t = ctx;
    int now = atomic_fetch_add(&t->now, 1) + 1, most = atomic_load(&t->most);

    while (now > most && !atomic_compare_exchange_weak(&t->most, &most, now))
        continue;
    (void)atomic_fetch_add(&t->run, 1);
    (void)atomic_fetch_sub(&t->now, 1);
    return i >= t->fails_at ? error_set(err, ST_INVALID, "task %zu", i) : ST_OK;
}

static void tasks_keep_the_limit_and_the_first_failure_counts(void **state)
{
    const struct job_remote spec = {
        .server = "http://127.0.0.1:1/", .concurrency = 3, .timeout_ms = 100, .max_tries = 1};
    struct tasks all = {.fails_at = 1000}, some = {.fails_at = 5};
    struct remote_client *client;
    struct error err = {0};

    (void)state;
    assert_ok(remote_client_open(&spec, NULL, &client, &err));
    assert_ok(remote_client_each(client, 0, task, &all, &err));
    assert_ok(remote_client_each(client, 100, task, &all, &err));
    assert_int_equal(all.run, 100);
    assert_true(all.most >= 1 && all.most <= 3);
    assert_status(remote_client_each(client, 100, task, &some, &err), ST_INVALID);
    assert_string_equal(err.message, "task 5");
    assert_true(some.run >= 6 && some.run < 100);
    remote_client_close(&client);
    assert_null(client);
    remote_client_close(&client);
}

/* Sets `stop` when so many requests have come. */
static void *stop_at(void *arg)
{
    struct served *s = arg;

    while (http_fake_count(s->fake) < 3) {
        const struct timespec slice = {.tv_nsec = 1000000};

        (void)nanosleep(&slice, NULL);
    }
    atomic_store(&s->stop, true);
    return NULL;
}

/* A drain: no wait for a server that asks for patience, nor for one that thinks; then no request.
 */
static void a_stop_ends_waits_and_requests(void **state)
{
    static const struct http_fake_answer cases[] = {
        {.status = 503, .headers = "Retry-After: 50\r\n"},
        {.status = 200, .body = "late", .delay_ms = 4000},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct http_fake_answer answers[] = {MODELS, SAYS("grey"), cases[i]};
        struct caption captions[1];
        struct error err = {0};
        struct served s;
        pthread_t thread;
        int64_t begun = clock_monotonic_ms();

        begin(&s, answers, ARRAY_LEN(answers));
        s.job = load("captioners", "tiny", http_fake_url(s.fake), ", protocol: openai");
        s.job->captioners[0].remote.timeout_ms = 60000;
        assert_ok(remote_captioner_open(&s.job->captioners[0], &s.stop, &s.captioner, &err));
        assert_int_equal(pthread_create(&thread, NULL, stop_at, &s), 0);
        assert_status(caption(&s, captions, &err), ST_CANCELLED);
        assert_true(clock_monotonic_ms() - begun < 3500);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_status(caption(&s, captions, &err), ST_CANCELLED);
        assert_int_equal(http_fake_count(s.fake), 3);
        end(&s);
    }
}

/* Nothing leaks and nothing is taken for an answer, whichever allocation fails; the server's own
 * count too, and then it hangs up. */
static void every_allocation_may_fail_once(void **state)
{
    static const struct http_fake_answer says[] = {MODELS, SAYS("x")};
    static const struct http_fake_answer rows[] = {METADATA("48"), METADATA("48"), SERVER(""),
                                                   OUTPUT("1, 4", "3,0,4,0")};
    const struct bytes_view uid = bytes_of_string("u1");

    (void)state;
    for (unsigned n = 1;; n++) {
        struct error err = {0};
        struct caption captions[1];
        struct served s, t;
        float emb[4];
        enum status st;

        begin(&s, says, ARRAY_LEN(says));
        begin(&t, rows, ARRAY_LEN(rows));
        s.job = load("captioners", "tiny", http_fake_url(s.fake), ", protocol: openai");
        t.job = load("teachers", "tiny", http_fake_url(t.fake), OIP_TEACHER);
        oom_fail_at(n);
        st = remote_captioner_open(&s.job->captioners[0], NULL, &s.captioner, &err);
        if (st == ST_OK)
            st = captioner_caption_images(s.captioner, &t.image, &uid, 1, &s.job->captioners[0].how,
                                          &s.results, &s.scratch, captions, &err);
        if (st == ST_OK)
            st = remote_teacher_open(&t.job->teachers[0], NULL, &t.teacher, &err);
        if (st == ST_OK)
            st = teacher_embed_texts(t.teacher, &uid, 1, &t.scratch, emb, &err);
        if (st == ST_OK)
            assert_row(emb, 0.6F, 0, 0.8F, 0);
        else if (st != ST_NO_MEMORY && st != ST_UNAVAILABLE)
            fail_msg("allocation %u: %s: %s", n, status_name(st), err.message);
        n = oom_fired() ? n : 0;
        oom_fail_at(0);
        end(&s);
        end(&t);
        if (n == 0)
            return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caption_is_asked_for_as_the_protocol_wants),
        cmocka_unit_test(a_caption_that_the_server_cut_is_marked),
        cmocka_unit_test(seeds_differ_by_caption_and_repeat),
        cmocka_unit_test(prompts_share_the_captions_and_greedy_asks_each_once),
        cmocka_unit_test(answers_are_the_samples_fault_or_the_servers),
        cmocka_unit_test(what_cannot_work_is_refused_before_any_sample),
        cmocka_unit_test(a_model_is_identified_by_what_its_server_says_of_it),
        cmocka_unit_test(an_openai_teachers_rows_are_put_in_order_and_to_unit_length),
        cmocka_unit_test(each_image_form_stands_in_the_request_as_its_servers_want),
        cmocka_unit_test(an_openai_server_that_embeds_no_images_is_refused),
        cmocka_unit_test(openai_rows_that_are_no_good_are_named),
        cmocka_unit_test(an_oip_teacher_sends_normalised_pixels_and_texts),
        cmocka_unit_test(an_oip_server_with_the_binary_extension_gets_raw_pixels),
        cmocka_unit_test(oip_models_and_rows_that_do_not_fit_are_named),
        cmocka_unit_test(tasks_keep_the_limit_and_the_first_failure_counts),
        cmocka_unit_test(a_stop_ends_waits_and_requests),
        cmocka_unit_test(every_allocation_may_fail_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
