#include "storage/object/aws_profile.h"

#include "reinforce/base/bytes.h"
#include "reinforce/base/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 20, MAX_NAME = 256 };

struct aws_setting {
    struct aws_setting *next;
    const char *key, *value;
};

/* One section of one file. */
struct section {
    const char *path;
    const char *name; /* between the brackets: "default", "profile x", "services x" */
    struct arena *arena;
    struct aws_profile *out;
};

const char *aws_environment(const char *name)
{
    const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody sets it */

    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *aws_profile_get(const struct aws_profile *profile, const char *key)
{
    for (const struct aws_setting *at = profile->settings; at != NULL; at = at->next)
        if (strcmp(at->key, key) == 0)
            return at->value;
    return NULL;
}

/* The newest stands first and hides earlier ones. */
static enum status add(struct section *section, const char *group, const char *key, size_t key_len,
                       const char *value, size_t value_len, struct error *err)
{
    char name[MAX_NAME], *key_copy, *value_copy;
    struct aws_setting *setting;
    int len = snprintf(name, sizeof name, "%s%s%.*s", group, group[0] != '\0' ? "." : "",
                       (int)key_len, key);
    enum status st;

    if (len < 0 || (size_t)len >= sizeof name)
        return error_set(err, ST_INVALID, "\"%s\" has a key that is too long", section->path);
    st = arena_alloc(section->arena, sizeof *setting, &setting, err);
    if (st == ST_OK)
        st = arena_strndup(section->arena, name, (size_t)len, &key_copy, err);
    if (st == ST_OK)
        st = arena_strndup(section->arena, value, value_len, &value_copy, err);
    if (st != ST_OK)
        return st;
    *setting = (struct aws_setting){section->out->settings, key_copy, value_copy};
    section->out->settings = setting;
    return ST_OK;
}

/* Length without what ends a line: blanks, and a comment behind one. */
static size_t trimmed(const char *text, size_t len)
{
    for (size_t i = 1; i < len; i++)
        if ((text[i] == '#' || text[i] == ';') && (text[i - 1] == ' ' || text[i - 1] == '\t'))
            len = i;
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t' || text[len - 1] == '\r'))
        len--;
    return len;
}

/* "key = value"; indented ones belong to the group that a key without a value has opened. */
static enum status read_setting(struct section *section, const char *line, size_t len,
                                size_t number, char group[MAX_NAME], struct error *err)
{
    bool indented = line[0] == ' ' || line[0] == '\t';
    const char *equals, *value;
    size_t key_len, value_len;

    while (len > 0 && (line[0] == ' ' || line[0] == '\t')) {
        line++;
        len--;
    }
    equals = memchr(line, '=', len);
    if (equals == NULL)
        return error_set(err, ST_INVALID, "\"%s\", line %zu: not \"key = value\"", section->path,
                         number);
    key_len = trimmed(line, (size_t)(equals - line));
    value = equals + 1;
    value_len = len - (size_t)(value - line);
    while (value_len > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        value_len--;
    }
    value_len = trimmed(value, value_len);
    if (!indented) {
        group[0] = '\0';
        if (value_len == 0)
            (void)snprintf(group, MAX_NAME, "%.*s", (int)key_len, line);
    }
    return add(section, indented ? group : "", line, key_len, value, value_len, err);
}

static enum status read_text(struct section *section, struct bytes_view text, struct error *err)
{
    char group[MAX_NAME] = "";
    bool inside = false;
    enum status st = ST_OK;

    for (size_t at = 0, number = 1; at < text.len && st == ST_OK; number++) {
        const char *line = (const char *)text.data + at;
        const char *end = memchr(line, '\n', text.len - at);
        size_t whole = end != NULL ? (size_t)(end - line) : text.len - at;
        size_t len = trimmed(line, whole);

        at += whole + 1;
        if (len == 0 || line[0] == '#' || line[0] == ';')
            continue;
        if (line[0] == '[') {
            const char *name = line + 1, *close = memchr(line, ']', len);
            size_t n = close != NULL ? (size_t)(close - name) : 0;

            inside = n == strlen(section->name) && memcmp(name, section->name, n) == 0;
            section->out->found |= inside;
        } else if (inside) {
            st = read_setting(section, line, len, number, group, err);
        }
    }
    return st;
}

static enum status read_section(struct section *section, struct error *err)
{
    struct byte_buf text;
    enum status st;

    if (strcmp(section->path, "/dev/null") == 0) /* how one says: no such file */
        return ST_OK;
    byte_buf_init(&text, MAX_FILE);
    st = file_read(section->path, &text, err);
    if (st == ST_OK)
        st = read_text(section, byte_buf_view(&text), err);
    byte_buf_release(&text);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    return st == ST_UNAVAILABLE ? error_set(err, ST_INVALID, "cannot read \"%s\"", section->path)
                                : st;
}

static void path_of(const char *variable, const char *usual, char path[PATH_MAX])
{
    const char *set = aws_environment(variable), *home = aws_environment("HOME");

    if (set != NULL)
        (void)snprintf(path, PATH_MAX, "%s", set);
    else
        (void)snprintf(path, PATH_MAX, "%s/.aws/%s", home != NULL ? home : ".", usual);
}

enum status aws_profile_read(const char *name, struct arena *arena, struct aws_profile *out,
                             struct error *err)
{
    char config[PATH_MAX], credentials[PATH_MAX], titled[MAX_NAME], services[MAX_NAME];
    struct section section = {.path = config, .name = titled, .arena = arena, .out = out};
    bool is_default;
    enum status st;

    if (name == NULL)
        name = aws_environment("AWS_PROFILE");
    if (name == NULL)
        name = "default";
    *out = (struct aws_profile){.name = name};
    is_default = strcmp(name, "default") == 0;
    if (strlen(name) > MAX_NAME - sizeof "services ")
        return error_set(err, ST_INVALID, "the name of profile \"%.40s...\" is too long", name);
    path_of("AWS_CONFIG_FILE", "config", config);
    path_of("AWS_SHARED_CREDENTIALS_FILE", "credentials", credentials);
    (void)snprintf(titled, sizeof titled, "%s%s", is_default ? "" : "profile ", name);
    st = read_section(&section, err);
    if (st == ST_OK && aws_profile_get(out, "services") != NULL) {
        bool found = out->found;

        /* Its "s3" group has other keys than that of the profile, so both fit in one list. */
        (void)snprintf(services, sizeof services, "services %s", aws_profile_get(out, "services"));
        section.name = services;
        st = read_section(&section, err);
        out->found = found;
    }
    section.path = credentials;
    section.name = name;
    if (st == ST_OK)
        st = read_section(&section, err);
    if (st == ST_OK && !out->found && !is_default)
        st = error_set(err, ST_NOT_FOUND, "profile \"%s\" is neither in \"%s\" nor in \"%s\"", name,
                       config, credentials);
    return st;
}
