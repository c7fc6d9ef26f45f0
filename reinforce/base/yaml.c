#include "reinforce/base/yaml.h"

#include "reinforce/base/utf8.h"

#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    const char *source;
    struct bytes_view text;
    struct arena *arena;
    size_t n_nodes;
};

enum status yaml_tree_locate(const struct yaml_tree *node, struct error *err)
{
    if (node->line > 0)
        error_add_context(err, "%s:%d:%d", node->source, node->line, node->column);
    else
        error_add_context(err, "%s", node->source);
    return err->code;
}

void yaml_tree_append(struct yaml_tree *parent, struct yaml_tree *child)
{
    child->next = NULL;
    if (parent->last == NULL)
        parent->first = child;
    else
        parent->last->next = child;
    parent->last = child;
    parent->n_children++;
}

struct yaml_tree *yaml_tree_find(const struct yaml_tree *map, const char *key)
{
    if (map->kind == YAML_TREE_MAP)
        for (struct yaml_tree *child = map->first; child != NULL; child = child->next)
            if (strcmp(child->key, key) == 0)
                return child;
    return NULL;
}

/* All that is wrong with a text is ST_INVALID.  libyaml counts from 0 and in size_t;
 * YAML_TREE_MAX_BYTES keeps both far below INT_MAX. */
static enum status fail_at(const struct reader *reader, yaml_mark_t mark, struct error *err)
{
    error_add_context(err, "%s:%d:%d", reader->source, (int)mark.line + 1, (int)mark.column + 1);
    return ST_INVALID;
}

/* For bytes that are not UTF-8 libyaml gives an offset only. Columns count code points, as its own
 * marks do. */
static yaml_mark_t mark_of_offset(struct bytes_view text, size_t offset)
{
    yaml_mark_t mark = {.index = offset};

    for (size_t i = 0; i < MIN(offset, text.len); i++) {
        if (text.data[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if ((text.data[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

static enum status next_event(struct reader *reader, yaml_event_t *event, struct error *err)
{
    yaml_parser_t *parser = &reader->parser;
    yaml_mark_t where;

    if (yaml_parser_parse(parser, event) == 1)
        return ST_OK;
    memset(event, 0, sizeof *event);
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set(err, ST_NO_MEMORY, "could not allocate memory to parse YAML");
    where = parser->error == YAML_READER_ERROR
                ? mark_of_offset(reader->text, parser->problem_offset)
                : parser->problem_mark;
    (void)error_set(err, ST_INVALID, "not YAML: %s%s%s",
                    parser->problem != NULL ? parser->problem : "unreadable",
                    parser->context != NULL ? " " : "",
                    parser->context != NULL ? parser->context : "");
    return fail_at(reader, where, err);
}

static bool is_null_word(const char *text)
{
    return strcmp(text, "") == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static enum status node_create(struct reader *reader, const yaml_event_t *event,
                               enum yaml_tree_kind kind, struct yaml_tree **out, struct error *err)
{
    enum status st;

    *out = NULL;
    if (++reader->n_nodes > YAML_TREE_MAX_NODES) {
        (void)error_set(err, ST_INVALID, "more than %d values", (int)YAML_TREE_MAX_NODES);
        return fail_at(reader, event->start_mark, err);
    }
    st = arena_calloc(reader->arena, 1, sizeof **out, out, err);
    if (st != ST_OK)
        return st;
    (*out)->kind = kind;
    (*out)->source = reader->source;
    (*out)->line = (int)event->start_mark.line + 1;
    (*out)->column = (int)event->start_mark.column + 1;
    return ST_OK;
}

static enum status read_scalar(struct reader *reader, const yaml_event_t *event,
                               struct yaml_tree **out, struct error *err)
{
    const char *value = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    enum status st = node_create(reader, event, YAML_TREE_SCALAR, out, err);
    char *text;

    if (st != ST_OK)
        return st;
    if (memchr(value, '\0', len) != NULL) {
        (void)error_set(err, ST_INVALID, "text with a NUL in it");
        return fail_at(reader, event->start_mark, err);
    }
    if (!utf8_is_valid(bytes_view_of(value, len))) { /* escapes can spell surrogates */
        (void)error_set(err, ST_INVALID, "text that is not valid Unicode");
        return fail_at(reader, event->start_mark, err);
    }
    st = arena_strndup(reader->arena, value, len, &text, err);
    if (st != ST_OK)
        return st;
    (*out)->text = text;
    (*out)->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!(*out)->quoted && is_null_word(text))
        (*out)->kind = YAML_TREE_NULL;
    return ST_OK;
}

static enum status refuse_extras(const struct reader *reader, const yaml_event_t *event,
                                 const yaml_char_t *anchor, const yaml_char_t *tag,
                                 struct error *err)
{
    if (anchor == NULL && tag == NULL)
        return ST_OK;
    (void)error_set(err, ST_INVALID, "%s \"%s\" is not supported: write the value itself",
                    anchor != NULL ? "anchor" : "tag", (const char *)(anchor ? anchor : tag));
    return fail_at(reader, event->start_mark, err);
}

static enum status read_value(struct reader *reader, const yaml_event_t *event, int depth,
                              struct yaml_tree **out, struct error *err);

static enum status read_list(struct reader *reader, struct yaml_tree *list, int depth,
                             struct error *err)
{
    for (;;) {
        struct yaml_tree *item;
        yaml_event_t event;
        enum status st = next_event(reader, &event, err);
        bool end = event.type == YAML_SEQUENCE_END_EVENT;

        if (st == ST_OK && !end)
            st = read_value(reader, &event, depth + 1, &item, err);
        yaml_event_delete(&event);
        if (st != ST_OK || end)
            return st;
        yaml_tree_append(list, item);
    }
}

/* The key's event to the new member's name; *at is the key's own node, for its place. */
static enum status read_key(struct reader *reader, const struct yaml_tree *map,
                            const yaml_event_t *event, struct yaml_tree **at, struct error *err)
{
    const struct yaml_tree *before;
    enum status st;

    if (event->type != YAML_SCALAR_EVENT) {
        (void)error_set(err, ST_INVALID, "a key must be a word");
        return fail_at(reader, event->start_mark, err);
    }
    st = refuse_extras(reader, event, event->data.scalar.anchor, event->data.scalar.tag, err);
    if (st == ST_OK)
        st = read_scalar(reader, event, at, err);
    if (st != ST_OK)
        return st;
    before = yaml_tree_find(map, (*at)->text);
    if (before == NULL)
        return ST_OK;
    (void)error_set(err, ST_INVALID, "key \"%.60s\" is given twice, first on line %d", (*at)->text,
                    before->line);
    (void)yaml_tree_locate(*at, err);
    return ST_INVALID;
}

static enum status read_map(struct reader *reader, struct yaml_tree *map, int depth,
                            struct error *err)
{
    for (;;) {
        struct yaml_tree *at = NULL, *value = NULL;
        yaml_event_t event;
        enum status st = next_event(reader, &event, err);
        bool end = event.type == YAML_MAPPING_END_EVENT;

        if (st == ST_OK && !end)
            st = read_key(reader, map, &event, &at, err);
        yaml_event_delete(&event);
        if (st != ST_OK || end)
            return st;
        st = next_event(reader, &event, err);
        if (st == ST_OK)
            st = read_value(reader, &event, depth + 1, &value, err);
        yaml_event_delete(&event);
        if (st != ST_OK)
            return st;
        value->key = at->text;
        value->line = at->line;
        value->column = at->column;
        yaml_tree_append(map, value);
    }
}

static enum status read_value(struct reader *reader, const yaml_event_t *event, int depth,
                              struct yaml_tree **out, struct error *err)
{
    enum status st;

    *out = NULL;
    if (depth > YAML_TREE_MAX_DEPTH) {
        (void)error_set(err, ST_INVALID, "nested deeper than %d levels", (int)YAML_TREE_MAX_DEPTH);
        return fail_at(reader, event->start_mark, err);
    }
    if (event->type == YAML_SCALAR_EVENT) {
        st = refuse_extras(reader, event, event->data.scalar.anchor, event->data.scalar.tag, err);
        return st == ST_OK ? read_scalar(reader, event, out, err) : st;
    }
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        st = refuse_extras(reader, event, event->data.sequence_start.anchor,
                           event->data.sequence_start.tag, err);
        if (st == ST_OK)
            st = node_create(reader, event, YAML_TREE_LIST, out, err);
        return st == ST_OK ? read_list(reader, *out, depth, err) : st;
    }
    if (event->type == YAML_MAPPING_START_EVENT) {
        st = refuse_extras(reader, event, event->data.mapping_start.anchor,
                           event->data.mapping_start.tag, err);
        if (st == ST_OK)
            st = node_create(reader, event, YAML_TREE_MAP, out, err);
        return st == ST_OK ? read_map(reader, *out, depth, err) : st;
    }
    (void)error_set(err, ST_INVALID, "aliases are not supported: write the value itself");
    return fail_at(reader, event->start_mark, err);
}

/* What comes between the events that say nothing: stream start, document start, document end. */
static enum status read_document(struct reader *reader, struct yaml_tree **out, struct error *err)
{
    enum status st = ST_OK;
    int n_documents = 0;

    for (bool end = false; st == ST_OK && !end;) {
        yaml_event_t event;

        st = next_event(reader, &event, err);
        if (st == ST_OK && event.type == YAML_DOCUMENT_START_EVENT && ++n_documents > 1) {
            (void)error_set(err, ST_INVALID, "a second document begins here; one is the limit");
            st = fail_at(reader, event.start_mark, err);
        } else if (st == ST_OK && event.type == YAML_STREAM_END_EVENT) {
            end = true;
        } else if (st == ST_OK && event.type != YAML_STREAM_START_EVENT &&
                   event.type != YAML_DOCUMENT_START_EVENT &&
                   event.type != YAML_DOCUMENT_END_EVENT) {
            st = read_value(reader, &event, 1, out, err);
        }
        yaml_event_delete(&event);
    }
    if (st == ST_OK && *out == NULL) {
        st = arena_calloc(reader->arena, 1, sizeof **out, out, err);
        if (st == ST_OK)
            **out = (struct yaml_tree){.source = reader->source, .line = 1, .column = 1};
    }
    return st;
}

enum status yaml_tree_parse(struct bytes_view text, const char *source, struct arena *arena,
                            struct yaml_tree **out, struct error *err)
{
    struct reader reader = {.source = source, .text = text, .arena = arena};
    enum status st;

    *out = NULL;
    if (text.len > YAML_TREE_MAX_BYTES) {
        (void)error_set(err, ST_INVALID, "%zu bytes long; the limit is %d", text.len,
                        (int)YAML_TREE_MAX_BYTES);
        error_add_context(err, "%s", source);
        return err->code;
    }
    if (yaml_parser_initialize(&reader.parser) != 1)
        return error_set(err, ST_NO_MEMORY, "could not allocate a YAML parser");
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, text.len > 0 ? text.data : (const uint8_t *)"",
                                 text.len);
    st = read_document(&reader, out, err);
    yaml_parser_delete(&reader.parser);
    if (st != ST_OK)
        *out = NULL;
    return st;
}
