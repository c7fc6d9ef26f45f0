#include "reinforce/base/yaml.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <stdlib.h>

static enum status parse(const char *text, struct arena *arena, struct yaml_tree **out,
                         struct error *err)
{
    memset(err, 0, sizeof *err);
    return yaml_tree_parse(bytes_of_string(text), "x.yaml", arena, out, err);
}

static void nodes_know_their_key_kind_and_place(void **state)
{
    static const char text[] = "# a comment\n"
                               "seed: 7\n"
                               "input:\n"
                               "  url: 'a b'\n"
                               "teachers:\n"
                               "  - name: one\n"
                               "    model: /m\n"
                               "  - {name: two}\n"
                               "empty:\n"
                               "tilde: ~\n"
                               "word: null\n"
                               "quoted: \"null\"\n";
    struct yaml_tree *root, *node;
    struct arena arena;
    struct error err;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(parse(text, &arena, &root, &err));
    assert_int_equal(root->kind, YAML_TREE_MAP);
    assert_int_equal(root->n_children, 7);

    node = yaml_tree_find(root, "seed");
    assert_string_equal(node->text, "7");
    assert_false(node->quoted);
    assert_int_equal(node->line, 2);
    assert_int_equal(node->column, 1);

    node = yaml_tree_find(yaml_tree_find(root, "input"), "url");
    assert_string_equal(node->text, "a b");
    assert_true(node->quoted);
    assert_int_equal(node->line, 4);
    assert_int_equal(node->column, 3);

    node = yaml_tree_find(root, "teachers");
    assert_int_equal(node->kind, YAML_TREE_LIST);
    assert_int_equal(node->n_children, 2);
    assert_int_equal(node->first->line, 6);
    assert_string_equal(yaml_tree_find(node->first->next, "name")->text, "two");
    assert_null(node->first->next->next);

    assert_int_equal(yaml_tree_find(root, "empty")->kind, YAML_TREE_NULL);
    assert_int_equal(yaml_tree_find(root, "tilde")->kind, YAML_TREE_NULL);
    assert_int_equal(yaml_tree_find(root, "word")->kind, YAML_TREE_NULL);
    assert_int_equal(yaml_tree_find(root, "quoted")->kind, YAML_TREE_SCALAR);
    assert_null(yaml_tree_find(root, "see"));
    arena_release(&arena);
}

static void an_empty_document_is_null(void **state)
{
    static const char *const texts[] = {"", "# nothing\n", "---\n", "\n\n", "\xef\xbb\xbf"};
    struct yaml_tree *root;
    struct arena arena;
    struct error err;

    (void)state;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_ok(parse(texts[i], &arena, &root, &err));
        assert_int_equal(root->kind, YAML_TREE_NULL);
        assert_string_equal(root->source, "x.yaml");
    }
    arena_release(&arena);
}

static void what_a_job_file_does_not_need_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *name, *text, *at, *reason;
    } cases[] = {
        {"anchors expand without bound", "a: &x 1\nb: 2\n", "x.yaml:1:4", "anchor \"x\""},
        {"aliases", "a: 1\nb: *a\n", "x.yaml:2:4", "aliases"},
        {"tags", "a: !!int 1\n", "x.yaml:1:4", "tag"},
        {"an anchor on a map", "a: &x\n  b: 1\n", "x.yaml:1:4", "anchor"},
        {"a tagged list", "a: !t [1]\n", "x.yaml:1:4", "tag"},
        {"a tagged key", "!t a: 1\n", "x.yaml:1:1", "tag"},
        {"repeated keys", "a: 1\nb: 2\na: 3\n", "x.yaml:3:1", "twice, first on line 1"},
        {"a list as key", "? [1]\n: 2\n", "x.yaml:1:3", "a key must be a word"},
        {"a second document", "a: 1\n---\nb: 2\n", "x.yaml:2:1", "second document"},
        {"bad indentation", "a:\n  b: 1\n c: 2\n", "x.yaml:3:2", "not YAML"},
        {"a tab", "a:\n\tb: 1\n", "x.yaml:2:1", "not YAML"},
        {"an open list", "a: [1, 2\n", "x.yaml:2:1", "not YAML"},
        {"an open quote", "a: 'b\n", "x.yaml:2:1", "not YAML"},
        {"invalid UTF-8", "a: 1\nb: \xc3\xa9\xff\n", "x.yaml:2:5", "not YAML"},
        {"NUL spelt out", "a: \"b\\0c\"\n", "x.yaml:1:4", "NUL"},
        {"a lone surrogate spelt out", "a: \"\\ud800\"\n", "x.yaml:1:7", "not YAML"},
    };
    struct yaml_tree *root;
    struct arena arena;
    struct error err;

    (void)state;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum status st = parse(cases[i].text, &arena, &root, &err);

        if (st != ST_INVALID || strcmp(err.context, cases[i].at) != 0 ||
            strstr(err.message, cases[i].reason) == NULL)
            fail_msg("%s: got %s: %s: %s", cases[i].name, status_name(st), err.context,
                     err.message);
        assert_null(root);
    }
    arena_release(&arena);
}

static void depth_size_and_number_of_values_are_limited(void **state)
{
    struct yaml_tree *root;
    struct arena arena;
    struct error err;
    char deep[2 * YAML_TREE_MAX_DEPTH + 4] = "";
    size_t many = 2 * (YAML_TREE_MAX_NODES + 2), huge = YAML_TREE_MAX_BYTES + 1;
    char *text = malloc(huge);

    (void)state;
    assert_non_null(text);
    arena_init(&arena, 16 << 20);
    memset(deep, '[', YAML_TREE_MAX_DEPTH);
    memset(deep + YAML_TREE_MAX_DEPTH, ']', YAML_TREE_MAX_DEPTH);
    assert_ok(parse(deep, &arena, &root, &err));
    memset(deep, '[', YAML_TREE_MAX_DEPTH + 1);
    memset(deep + YAML_TREE_MAX_DEPTH + 1, ']', YAML_TREE_MAX_DEPTH + 1);
    assert_status(parse(deep, &arena, &root, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "deeper"));

    for (size_t i = 0; i < many; i++)
        text[i] = ",1"[i % 2];
    text[0] = '[';
    text[many - 1] = ']';
    assert_status(yaml_tree_parse(bytes_view_of(text, many), "x.yaml", &arena, &root, &err),
                  ST_INVALID);
    assert_non_null(strstr(err.message, "more than"));

    memset(text, ' ', huge);
    assert_ok(yaml_tree_parse(bytes_view_of(text, huge - 1), "x.yaml", &arena, &root, &err));
    assert_status(yaml_tree_parse(bytes_view_of(text, huge), "x.yaml", &arena, &root, &err),
                  ST_INVALID);
    free(text);
    arena_release(&arena);
}

static void every_allocation_may_fail_once(void **state)
{
    static const char text[] = "a: [1, {b: 'c'}]\nd: |\n  text\n  more\n";
    unsigned n = 1;

    (void)state;
    for (;; n++) {
        struct yaml_tree *root;
        struct arena arena;
        struct error err;
        enum status st;

        arena_init(&arena, 1 << 20);
        oom_fail_at(n);
        st = parse(text, &arena, &root, &err);
        oom_fail_at(0);
        arena_release(&arena);
        if (st == ST_OK)
            break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
    assert_true(n > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_know_their_key_kind_and_place),
        cmocka_unit_test(an_empty_document_is_null),
        cmocka_unit_test(what_a_job_file_does_not_need_is_refused_with_its_place),
        cmocka_unit_test(depth_size_and_number_of_values_are_limited),
        cmocka_unit_test(every_allocation_may_fail_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
