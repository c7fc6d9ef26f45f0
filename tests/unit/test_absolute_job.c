#include "coordinator/absolute_job.h"
#include "tests/support/test.h"

static void a_path_becomes_absolute_and_a_url_stays(void **state)
{
    static const struct {
        const char *scheme, *url, *want;
    } cases[] = {
        {"file:", "data/images", "/home/u/data/images"},
        {"file:", "./x", "/home/u/x"},
        {"file:", "/data", "/data"},
        {"file:", "file:data", "file:/home/u/data"},
        {"file:", "file:///data", "file:///data"},
        {"file:", "s3://bucket/key", "s3://bucket/key"},
        {"file:", "hf://a/b@main", "hf://a/b@main"},
        {"file:", "{a,b}.tar", "/home/u/{a,b}.tar"},
        {"file:", "odd:name/x", "odd:name/x"},
        {"sqlite:", "sqlite:c.db", "sqlite:/home/u/c.db"},
        {"sqlite:", "sqlite:/c.db", "sqlite:/c.db"},
        {"sqlite:", "postgres://u@h/d", "postgres://u@h/d"},
        {"sqlite:", "", ""},
    };
    struct arena arena;
    struct error err = {0};
    const char *got;

    (void)state;
    arena_init(&arena, 1 << 16);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(absolute_job_url(cases[i].url, cases[i].scheme, "/home/u", &arena, &got, &err));
        assert_string_equal(got, cases[i].want);
    }
    arena_release(&arena);
}

static void the_job_is_the_same_but_for_its_paths(void **state)
{
    static const char text[] =
        "name: j\nseed: 3\ninput: {url: 'a/x.tar::/b/y.tar::s3://c/z.tar'}\noutput: {url: out}\n"
        "catalog: {url: 'sqlite:c.db'}\n"
        "captioners:\n- {name: c, model: models/coca}\n"
        "teachers:\n- {name: t, model: /models/clip}\n- {name: h, model: 'hf://a/b'}\n"
        "- {name: s, model: clip, protocol: openai, server: 'http://h:1', image_size: 64}\n"
        "curate:\n  keep:\n  - {score: words, min: 1}\n  - any:\n    - not: {score: tokens, "
        "tokenizer: "
        "models/coca, min: 77}\n    - all: [{score: tokens, tokenizer: /m, max: 5}]\n";
    struct job *job, *absolute, *again;
    struct error err = {0};

    (void)state;
    assert_ok(job_load_text(bytes_of_string(text), "j.yaml", NULL, 0, &job, &err));
    assert_ok(absolute_job_create(job, "/home/u", &absolute, &err));
    assert_string_equal(absolute->input.url, "/home/u/a/x.tar::/b/y.tar::s3://c/z.tar");
    assert_string_equal(absolute->output.url, "/home/u/out");
    assert_string_equal(absolute->catalog.url, "sqlite:/home/u/c.db");
    assert_string_equal(absolute->captioners[0].model, "/home/u/models/coca");
    assert_string_equal(absolute->teachers[0].model, "/models/clip");
    assert_string_equal(absolute->teachers[1].model, "hf://a/b");
    assert_string_equal(absolute->teachers[2].model, "clip");
    assert_int_equal(absolute->seed, 3);
    assert_int_equal(absolute->curate.n_scores, 3);
    assert_string_equal(absolute->curate.scores[1].tokenizer, "/home/u/models/coca");
    assert_string_equal(absolute->curate.scores[2].tokenizer, "/m");
    assert_ok(absolute_job_create(absolute, "/elsewhere", &again, &err));
    assert_string_equal(again->effective_json, absolute->effective_json);
    job_destroy(&again);
    job_destroy(&absolute);
    job_destroy(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_becomes_absolute_and_a_url_stays),
        cmocka_unit_test(the_job_is_the_same_but_for_its_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
