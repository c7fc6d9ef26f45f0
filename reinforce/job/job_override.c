#include "reinforce/job/job_override.h"

#include "reinforce/base/parse.h"
#include "reinforce/base/utf8.h"

enum { MAX_OVERRIDE_BYTES = 8192, MAX_WORD = 64 };

/* One step of a path: a key, or the index of a list. */
struct step {
    bool is_index;
    char key[MAX_WORD + 1];
    int64_t index;
};

struct walk {
    const char *source; /* "--set PATH=VALUE" */
    const char *rest;   /* of the path */
    struct arena *arena;
};

static enum status read_index(struct walk *walk, struct step *step, struct error *err)
{
    size_t len = strspn(walk->rest + 1, "0123456789");
    char digits[8];

    if (len == 0 || len >= sizeof digits || walk->rest[1 + len] != ']')
        return error_set(err, ST_INVALID, "\"%.40s\" is not an index such as [0]", walk->rest);
    memcpy(digits, walk->rest + 1, len);
    digits[len] = '\0';
    step->is_index = true;
    walk->rest += len + 2;
    return parse_i64(digits, 0, 9999999, &step->index, err);
}

static enum status read_key(struct walk *walk, struct step *step, struct error *err)
{
    size_t len = strcspn(walk->rest, ".[=");

    if (len == 0 || len > MAX_WORD)
        return error_set(err, ST_INVALID, "\"%.40s\" does not begin with a key", walk->rest);
    memcpy(step->key, walk->rest, len);
    step->key[len] = '\0';
    step->is_index = false;
    walk->rest += len;
    return ST_OK;
}

static enum status read_step(struct walk *walk, struct step *step, struct error *err)
{
    enum status st = walk->rest[0] == '[' ? read_index(walk, step, err) : read_key(walk, step, err);

    if (st != ST_OK)
        return st;
    if (walk->rest[0] == '.')
        walk->rest++;
    else if (walk->rest[0] != '[' && walk->rest[0] != '=')
        return error_set(err, ST_INVALID, "\"%.40s\": \".\", \"[\" or \"=\" is expected here",
                         walk->rest);
    return ST_OK;
}

/* A node that was not given becomes the list or map that the next step needs. */
static enum status become(const struct walk *walk, struct yaml_tree *node, bool list,
                          struct error *err)
{
    enum yaml_tree_kind want = list ? YAML_TREE_LIST : YAML_TREE_MAP;

    if (node->kind == YAML_TREE_NULL) {
        node->kind = want;
        node->source = walk->source;
        node->line = node->column = 0;
    }
    if (node->kind != want)
        return error_set(err, ST_INVALID, "%s is a %s in the job file, not a %s",
                         node->key != NULL ? node->key : "this place",
                         node->kind == YAML_TREE_SCALAR ? "single value"
                         : node->kind == YAML_TREE_LIST ? "list"
                                                        : "map",
                         list ? "list" : "map");
    return ST_OK;
}

static enum status append_null(const struct walk *walk, struct yaml_tree *parent, const char *key,
                               struct yaml_tree **out, struct error *err)
{
    enum status st = arena_calloc(walk->arena, 1, sizeof **out, out, err);
    char *copy = NULL;

    if (st == ST_OK && key != NULL)
        st = arena_strndup(walk->arena, key, strlen(key), &copy, err);
    if (st != ST_OK)
        return st;
    (*out)->source = walk->source;
    (*out)->key = copy;
    yaml_tree_append(parent, *out);
    return ST_OK;
}

static enum status descend(const struct walk *walk, struct yaml_tree *node, const struct step *step,
                           struct yaml_tree **out, struct error *err)
{
    enum status st = become(walk, node, step->is_index, err);
    struct yaml_tree *child;

    *out = node;
    if (st != ST_OK)
        return st;
    if (!step->is_index) {
        child = yaml_tree_find(node, step->key);
        if (child == NULL)
            return append_null(walk, node, step->key, out, err);
        *out = child;
        return ST_OK;
    }
    if ((uint64_t)step->index > node->n_children)
        return error_set(err, ST_INVALID, "index %lld is past the end: the list has %zu elements",
                         (long long)step->index, node->n_children);
    if ((uint64_t)step->index == node->n_children)
        return append_null(walk, node, NULL, out, err);
    child = node->first;
    for (int64_t i = 0; i < step->index; i++)
        child = child->next;
    *out = child;
    return ST_OK;
}

/* Keeps the node's place among its siblings and takes kind, text and children from the value. */
static enum status replace(const struct walk *walk, struct yaml_tree *node, const char *value,
                           struct error *err)
{
    struct yaml_tree *parsed;
    enum status st;
    char *copy;

    node->source = walk->source;
    node->line = node->column = 0;
    node->first = node->last = NULL;
    node->n_children = 0;
    node->quoted = false;
    node->text = NULL;
    if (value[0] == '[' || value[0] == '{') {
        st = yaml_tree_parse(bytes_of_string(value), walk->source, walk->arena, &parsed, err);
        if (st != ST_OK)
            return st;
        node->kind = parsed->kind;
        node->first = parsed->first;
        node->last = parsed->last;
        node->n_children = parsed->n_children;
        return ST_OK;
    }
    st = arena_strndup(walk->arena, value, strlen(value), &copy, err);
    if (st != ST_OK)
        return st;
    node->text = copy;
    node->kind = copy[0] == '\0' || strcmp(copy, "null") == 0 || strcmp(copy, "~") == 0
                     ? YAML_TREE_NULL
                     : YAML_TREE_SCALAR;
    return ST_OK;
}

enum status job_override_apply(struct yaml_tree *root, const struct job_override *override,
                               struct arena *arena, struct error *err)
{
    size_t len = strnlen(override->text, MAX_OVERRIDE_BYTES + 1);
    struct walk walk = {.rest = override->text, .arena = arena};
    struct yaml_tree *node = root;
    enum status st = ST_OK;
    char *source;

    if (len > MAX_OVERRIDE_BYTES)
        return error_set(err, ST_INVALID, "--set of more than %d bytes", (int)MAX_OVERRIDE_BYTES);
    st = arena_alloc(arena, len + sizeof "--set ", &source, err);
    if (st != ST_OK)
        return st;
    (void)snprintf(source, len + sizeof "--set ", "--set %s", override->text);
    walk.source = source;
    if (!utf8_is_valid(bytes_view_of(override->text, len)))
        st = error_set(err, ST_INVALID, "is not valid UTF-8");
    else if (strchr(override->text, '=') == NULL)
        st = error_set(err, ST_INVALID, "has no \"=\"; write PATH=VALUE, as in workers.count=4");
    while (st == ST_OK && walk.rest[0] != '=') {
        struct step step = {0};

        st = read_step(&walk, &step, err);
        if (st == ST_OK)
            st = descend(&walk, node, &step, &node, err);
    }
    if (st == ST_OK && node == root)
        st = error_set(err, ST_INVALID, "has no key before \"=\"");
    if (st == ST_OK)
        st = replace(&walk, node, walk.rest + 1, err);
    if (st != ST_OK)
        error_add_context(err, "%.120s", source);
    return st;
}
