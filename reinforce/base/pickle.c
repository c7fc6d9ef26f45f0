#include "reinforce/base/pickle.h"

enum { MAX_OPCODES = 1 << 23, MAX_STACK = 4096, MAX_MEMO = 1 << 20, MAX_TEXT = 65536 };

struct machine {
    struct bytes_view in;
    size_t at;
    const struct pickle_global *globals;
    size_t n_globals;
    struct arena *arena;
    struct error *err;
    struct pickle_value *stack[MAX_STACK];
    size_t n_stack;
    size_t marks[MAX_STACK];
    size_t n_marks;
    struct pickle_value **memo;
    size_t n_memo, memo_capacity;
};

static enum status broken(struct machine *m, const char *what)
{
    return error_set(m->err, ST_CORRUPT, "pickle: %s at offset %zu", what, m->at);
}

static enum status take(struct machine *m, size_t n, const uint8_t **out)
{
    if (n > m->in.len - m->at)
        return broken(m, "cut short");
    *out = m->in.data + m->at;
    m->at += n;
    return ST_OK;
}

/* n bytes, little endian. */
static enum status take_number(struct machine *m, size_t n, uint64_t *out)
{
    const uint8_t *p = NULL;
    enum status st = take(m, n, &p);

    *out = 0;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        *out |= (uint64_t)p[i] << 8 * i;
    return st;
}

static enum status push(struct machine *m, struct pickle_value *value)
{
    if (m->n_stack == MAX_STACK)
        return broken(m, "stack is too deep");
    m->stack[m->n_stack++] = value;
    return ST_OK;
}

static enum status push_new(struct machine *m, enum pickle_kind kind, struct pickle_value **out)
{
    enum status st = arena_calloc(m->arena, 1, sizeof **out, out, m->err);

    if (st != ST_OK)
        return st;
    (*out)->kind = kind;
    return push(m, *out);
}

static enum status pop(struct machine *m, struct pickle_value **out)
{
    if (m->n_stack == 0 || (m->n_marks > 0 && m->marks[m->n_marks - 1] == m->n_stack))
        return broken(m, "stack is empty");
    *out = m->stack[--m->n_stack];
    return ST_OK;
}

static enum status append(struct machine *m, struct pickle_value *to, struct pickle_value *item)
{
    if (to->n_items == to->capacity) {
        size_t capacity = MAX(to->capacity * 2, (size_t)4);
        struct pickle_value **items;
        enum status st =
            arena_calloc(m->arena, capacity, sizeof(struct pickle_value *), &items, m->err);

        if (st != ST_OK)
            return st;
        if (to->n_items > 0)
            memcpy(items, to->items, to->n_items * sizeof(struct pickle_value *));
        to->items = items;
        to->capacity = capacity;
    }
    to->items[to->n_items++] = item;
    return ST_OK;
}

static enum status push_bytes(struct machine *m, enum pickle_kind kind, size_t length_bytes)
{
    struct pickle_value *value;
    uint64_t len;
    const uint8_t *p = NULL;
    enum status st = take_number(m, length_bytes, &len);

    if (st == ST_OK && (len > m->in.len || (kind == PICKLE_TEXT && len > MAX_TEXT)))
        st = broken(m, "a string is too long");
    if (st == ST_OK)
        st = take(m, (size_t)len, &p);
    if (st == ST_OK)
        st = push_new(m, kind, &value);
    if (st == ST_OK)
        value->bytes = bytes_view_of(p, (size_t)len);
    return st;
}

static enum status push_int(struct machine *m, size_t n, bool is_signed)
{
    struct pickle_value *value;
    uint64_t bits;
    enum status st = take_number(m, n, &bits);

    if (st == ST_OK && is_signed && n < 8 && n > 0 && (bits >> (8 * n - 1) & 1) != 0)
        bits |= UINT64_MAX << 8 * n;
    if (st == ST_OK)
        st = push_new(m, PICKLE_INT, &value);
    if (st == ST_OK)
        value->integer = (int64_t)bits;
    return st;
}

static enum status push_long(struct machine *m)
{
    uint64_t n;
    enum status st = take_number(m, 1, &n);

    if (st == ST_OK && n > 8)
        st = broken(m, "an integer is too large");
    return st == ST_OK ? push_int(m, (size_t)n, true) : st;
}

static enum status push_float(struct machine *m)
{
    struct pickle_value *value;
    const uint8_t *p = NULL;
    uint64_t bits = 0;
    enum status st = take(m, 8, &p);

    for (int i = 0; i < 8 && st == ST_OK; i++)
        bits = bits << 8 | p[i];
    if (st == ST_OK)
        st = push_new(m, PICKLE_FLOAT, &value);
    if (st == ST_OK)
        memcpy(&value->real, &bits, sizeof bits);
    return st;
}

static enum status push_bool(struct machine *m, bool truth)
{
    struct pickle_value *value;
    enum status st = push_new(m, PICKLE_BOOL, &value);

    if (st == ST_OK)
        value->integer = truth;
    return st;
}

static enum status push_global(struct machine *m, struct bytes_view module, struct bytes_view name)
{
    struct pickle_value *value;
    enum status st;

    for (size_t i = 0; i < m->n_globals; i++) {
        if (!bytes_equal(module, bytes_of_string(m->globals[i].module)) ||
            !bytes_equal(name, bytes_of_string(m->globals[i].name)))
            continue;
        st = push_new(m, PICKLE_GLOBAL, &value);
        if (st == ST_OK)
            value->integer = (int64_t)i;
        return st;
    }
    return error_set(m->err, ST_CORRUPT,
                     "pickle: global \"%.*s.%.*s\" at offset %zu is not on the list of symbols",
                     (int)MIN(module.len, (size_t)60), (const char *)module.data,
                     (int)MIN(name.len, (size_t)60), (const char *)name.data, m->at);
}

static enum status take_line(struct machine *m, struct bytes_view *out)
{
    const uint8_t *from = m->in.data + m->at, *end = memchr(from, '\n', m->in.len - m->at);

    if (end == NULL || end - from > 256)
        return broken(m, "a global has no name");
    *out = bytes_view_of(from, (size_t)(end - from));
    m->at += out->len + 1;
    return ST_OK;
}

static enum status global_from_lines(struct machine *m)
{
    struct bytes_view module, name;
    enum status st = take_line(m, &module);

    if (st == ST_OK)
        st = take_line(m, &name);
    return st == ST_OK ? push_global(m, module, name) : st;
}

static enum status global_from_stack(struct machine *m)
{
    struct pickle_value *module, *name;
    enum status st = pop(m, &name);

    if (st == ST_OK)
        st = pop(m, &module);
    if (st == ST_OK && (module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT))
        st = broken(m, "a global has no name");
    return st == ST_OK ? push_global(m, module->bytes, name->bytes) : st;
}

static enum status make_tuple(struct machine *m, size_t n)
{
    struct pickle_value *items[3], *tuple;
    enum status st = ST_OK;

    for (size_t i = n; i-- > 0 && st == ST_OK;)
        st = pop(m, &items[i]);
    if (st == ST_OK)
        st = push_new(m, PICKLE_TUPLE, &tuple);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = append(m, tuple, items[i]);
    return st;
}

/* Takes what stands above the last mark into `to`, or into a new tuple. */
static enum status collect(struct machine *m, enum pickle_kind into)
{
    struct pickle_value *to;
    size_t first, last = m->n_stack;
    enum status st;

    if (m->n_marks == 0)
        return broken(m, "there is no mark");
    first = m->marks[--m->n_marks];
    m->n_stack = first;
    if (into == PICKLE_TUPLE) {
        st = arena_calloc(m->arena, 1, sizeof *to, &to, m->err);
        if (st != ST_OK)
            return st;
        to->kind = PICKLE_TUPLE;
    } else {
        if (first == 0 || (m->n_marks > 0 && m->marks[m->n_marks - 1] == first))
            return broken(m, "stack is empty");
        to = m->stack[first - 1];
        if (into == PICKLE_LIST ? to->kind != PICKLE_LIST
                                : (to->kind != PICKLE_DICT && to->kind != PICKLE_CALL))
            return broken(m, "items for something that holds none");
        if (into == PICKLE_DICT && (last - first) % 2 != 0)
            return broken(m, "a key without a value");
    }
    st = ST_OK;
    for (size_t i = first; i < last && st == ST_OK; i++)
        st = append(m, to, m->stack[i]);
    return st == ST_OK && into == PICKLE_TUPLE ? push(m, to) : st;
}

static enum status add_one(struct machine *m, enum pickle_kind into)
{
    struct pickle_value *value, *key = NULL, *to;
    enum status st = pop(m, &value);

    if (st == ST_OK && into == PICKLE_DICT)
        st = pop(m, &key);
    if (st == ST_OK)
        st = pop(m, &to);
    if (st == ST_OK && (into == PICKLE_LIST ? to->kind != PICKLE_LIST
                                            : (to->kind != PICKLE_DICT && to->kind != PICKLE_CALL)))
        st = broken(m, "items for something that holds none");
    if (st == ST_OK && key != NULL)
        st = append(m, to, key);
    if (st == ST_OK)
        st = append(m, to, value);
    return st == ST_OK ? push(m, to) : st;
}

static enum status reduce(struct machine *m)
{
    struct pickle_value *args, *callee, *call;
    enum status st = pop(m, &args);

    if (st == ST_OK)
        st = pop(m, &callee);
    if (st == ST_OK && (callee->kind != PICKLE_GLOBAL || args->kind != PICKLE_TUPLE))
        st = broken(m, "REDUCE of something that is no symbol");
    if (st == ST_OK)
        st = push_new(m, PICKLE_CALL, &call);
    if (st == ST_OK) {
        call->integer = callee->integer;
        st = append(m, call, args);
    }
    return st;
}

static enum status build(struct machine *m)
{
    struct pickle_value *state, *object;
    enum status st = pop(m, &state);

    if (st == ST_OK)
        st = pop(m, &object);
    if (st == ST_OK && object->kind != PICKLE_CALL && object->kind != PICKLE_DICT)
        st = broken(m, "BUILD of something that has no state");
    if (st == ST_OK) {
        object->state = state;
        st = push(m, object);
    }
    return st;
}

static enum status persistent(struct machine *m)
{
    struct pickle_value *id, *ref;
    enum status st = pop(m, &id);

    if (st == ST_OK)
        st = push_new(m, PICKLE_REF, &ref);
    return st == ST_OK ? append(m, ref, id) : st;
}

static enum status memo_put(struct machine *m, uint64_t i)
{
    if (m->n_stack == 0 || i >= MAX_MEMO)
        return broken(m, "memo entry is out of range");
    if (i >= m->memo_capacity) {
        size_t capacity = MAX((size_t)i + 1, MAX(m->memo_capacity * 2, (size_t)64));
        struct pickle_value **memo;
        enum status st =
            arena_calloc(m->arena, capacity, sizeof(struct pickle_value *), &memo, m->err);

        if (st != ST_OK)
            return st;
        if (m->n_memo > 0)
            memcpy(memo, m->memo, m->n_memo * sizeof(struct pickle_value *));
        m->memo = memo;
        m->memo_capacity = capacity;
    }
    m->memo[i] = m->stack[m->n_stack - 1];
    m->n_memo = MAX(m->n_memo, (size_t)i + 1);
    return ST_OK;
}

static enum status memo_get(struct machine *m, uint64_t i)
{
    if (i >= m->n_memo || m->memo[i] == NULL)
        return broken(m, "memo entry was never set");
    return push(m, m->memo[i]);
}

static enum status memo_op(struct machine *m, size_t n, bool put)
{
    uint64_t i;
    enum status st = take_number(m, n, &i);

    if (st != ST_OK)
        return st;
    return put ? memo_put(m, i) : memo_get(m, i);
}

static enum status push_empty(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *value;

    return push_new(m, kind, &value);
}

static enum status skip(struct machine *m, size_t n)
{
    const uint8_t *ignored;

    return take(m, n, &ignored);
}

static enum status check_protocol(struct machine *m)
{
    uint64_t protocol;
    enum status st = take_number(m, 1, &protocol);

    if (st == ST_OK && (protocol < 2 || protocol > 5))
        st = error_set(m->err, ST_CORRUPT, "pickle: protocol %u at offset %zu, 2 to 5 are read",
                       (unsigned)protocol, m->at - 1);
    return st;
}

static enum status step(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 0x80:
        return check_protocol(m);
    case 0x95: /* FRAME: its length is advice */
        return skip(m, 8);
    case '(':
        if (m->n_marks == MAX_STACK)
            return broken(m, "stack is too deep");
        m->marks[m->n_marks++] = m->n_stack;
        return ST_OK;
    case 'N':
        return push_empty(m, PICKLE_NONE);
    case 0x88:
        return push_bool(m, true);
    case 0x89:
        return push_bool(m, false);
    case 'J':
        return push_int(m, 4, true);
    case 'K':
        return push_int(m, 1, false);
    case 'M':
        return push_int(m, 2, false);
    case 0x8a:
        return push_long(m);
    case 'G':
        return push_float(m);
    case 'X':
        return push_bytes(m, PICKLE_TEXT, 4);
    case 0x8c:
        return push_bytes(m, PICKLE_TEXT, 1);
    case 'C':
        return push_bytes(m, PICKLE_BYTES, 1);
    case 'B':
        return push_bytes(m, PICKLE_BYTES, 4);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return push_bytes(m, PICKLE_BYTES, 8);
    case ')':
        return push_empty(m, PICKLE_TUPLE);
    case 0x85:
    case 0x86:
    case 0x87:
        return make_tuple(m, (size_t)opcode - 0x84);
    case 't':
        return collect(m, PICKLE_TUPLE);
    case ']':
        return push_empty(m, PICKLE_LIST);
    case 'a':
        return add_one(m, PICKLE_LIST);
    case 'e':
        return collect(m, PICKLE_LIST);
    case '}':
        return push_empty(m, PICKLE_DICT);
    case 's':
        return add_one(m, PICKLE_DICT);
    case 'u':
        return collect(m, PICKLE_DICT);
    case 'c':
        return global_from_lines(m);
    case 0x93:
        return global_from_stack(m);
    case 'R':
        return reduce(m);
    case 'b':
        return build(m);
    case 'Q':
        return persistent(m);
    case 'q':
        return memo_op(m, 1, true);
    case 'r':
        return memo_op(m, 4, true);
    case 0x94:
        return memo_put(m, m->n_memo);
    case 'h':
        return memo_op(m, 1, false);
    case 'j':
        return memo_op(m, 4, false);
    default:
        return error_set(m->err, ST_CORRUPT,
                         "pickle: opcode 0x%02x at offset %zu is not on the list", opcode,
                         m->at - 1);
    }
}

enum status pickle_read(struct bytes_view bytes, const struct pickle_global *globals,
                        size_t n_globals, struct arena *arena, struct pickle_value **out,
                        struct error *err)
{
    struct machine *m;
    enum status st = arena_calloc(arena, 1, sizeof *m, &m, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    m->in = bytes;
    m->globals = globals;
    m->n_globals = n_globals;
    m->arena = arena;
    m->err = err;
    for (size_t n = 0; st == ST_OK; n++) {
        const uint8_t *opcode = NULL;

        if (n == MAX_OPCODES)
            return broken(m, "too many opcodes");
        st = take(m, 1, &opcode);
        if (st == ST_OK && *opcode == '.')
            break;
        if (st == ST_OK)
            st = step(m, *opcode);
    }
    return st == ST_OK ? pop(m, out) : st;
}
