#include "storage/object/file_walk.h"

#include "reinforce/base/log.h"
#include "storage/object/file_root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { MAX_DEPTH = 128 };

/* One name of a folder; folders carry their slash, so that sorting names sorts whole keys. */
struct entry {
    char *name;
    bool is_folder;
};

/* What is done with a file: its key, the open folder it is in, its name there. */
struct walk {
    const char *root, *prefix;
    enum status (*visit)(struct walk *walk, const char *key, int folder_fd, const char *leaf,
                         struct error *err);
    bool temporaries; /* visit those, and nothing else */
    object_list_fn *each;
    void *ctx;
    size_t *n_removed;
    size_t n_skipped; /* no objects: links to folders or to the outside, pipes, devices */
    char first_skipped[OBJECT_KEY_PART_MAX + 1];
};

void file_walk_info(const struct stat *stat, struct object_info *info)
{
    info->bytes = (uint64_t)stat->st_size;
    (void)snprintf(info->etag, sizeof info->etag, "%lld-%lld.%09ld", (long long)stat->st_size,
                   (long long)stat->st_mtim.tv_sec, (long)stat->st_mtim.tv_nsec);
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void free_entries(struct entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(entries[i].name);
    free(entries);
}

static bool is_temporary(const char *name)
{
    return strncmp(name, OBJECT_TEMPORARY_PREFIX, sizeof OBJECT_TEMPORARY_PREFIX - 1) == 0;
}

/* What is passed over is said once a walk: a user who linked the images in must hear of it. */
static void skip(struct walk *walk, const char *name)
{
    if (walk->n_skipped++ == 0)
        (void)snprintf(walk->first_skipped, sizeof walk->first_skipped, "%s", name);
}

static enum status add_entry(struct walk *walk, int fd, const char *name, struct entry **entries,
                             size_t *n, struct error *err)
{
    struct stat info;
    struct entry *grown;
    size_t len = strlen(name);
    char *copy;

    if (fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return ST_OK; /* gone meanwhile */
    if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode)) {
        skip(walk, name);
        return ST_OK;
    }
    if ((*n & (*n - 1)) == 0) { /* full at every power of two */
        grown = realloc(*entries, MAX(*n * 2, (size_t)1) * sizeof *grown);
        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu names", *n * 2);
        *entries = grown;
    }
    copy = malloc(len + 2);
    if (copy == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a name");
    (void)snprintf(copy, len + 2, "%s%s", name, S_ISDIR(info.st_mode) ? "/" : "");
    (*entries)[(*n)++] = (struct entry){.name = copy, .is_folder = S_ISDIR(info.st_mode)};
    return ST_OK;
}

static enum status read_folder(struct walk *walk, int fd, const char *folder,
                               struct entry **entries, size_t *n, struct error *err)
{
    DIR *dir = fdopendir(fd); /* takes fd over */
    const struct dirent *found;
    enum status st = ST_OK;

    if (dir == NULL) {
        st = errno == ENOMEM
                 ? error_set(err, ST_NO_MEMORY, "could not allocate a folder stream")
                 : file_root_fail("could not read folder", walk->root, folder, errno, err);
        (void)close(fd);
        return st;
    }
    while (st == ST_OK) {
        errno = 0;
        found = readdir(dir); /* NOLINT(concurrency-mt-unsafe): own handle */
        if (found == NULL) {
            /* The end and a failure look alike but for errno; half a folder is no listing. */
            if (errno != 0)
                st = file_root_fail("could not read folder", walk->root, folder, errno, err);
            break;
        }
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0)
            st = add_entry(walk, dirfd(dir), found->d_name, entries, n, err);
    }
    (void)closedir(dir);
    if (st == ST_OK && *n > 0)
        qsort(*entries, *n, sizeof **entries, compare_entries);
    return st;
}

/* True if keys that begin with `key` (a folder with its slash, or an object) can begin with the
 * prefix. */
static bool may_match(const char *key, bool is_folder, const char *prefix)
{
    size_t key_len = strlen(key), prefix_len = strlen(prefix);

    if (key_len >= prefix_len)
        return strncmp(key, prefix, prefix_len) == 0;
    return is_folder && strncmp(key, prefix, key_len) == 0;
}

static enum status walk_folder(struct walk *walk, const char *folder, int depth, struct error *err)
{
    struct file_root_path path = {.text = ""};
    struct entry *entries = NULL;
    size_t n = 0, len = strlen(folder);
    int fd, again;
    enum status st;

    if (depth > MAX_DEPTH || len >= sizeof path.text)
        return error_set(err, ST_INVALID, "folder \"%.100s\" lies too deep", folder);
    memcpy(path.text, folder, len > 0 ? len - 1 : 0);
    path.text[len > 0 ? len - 1 : 0] = '\0';
    st = file_root_open_folder(walk->root, &path, false, &fd, err);
    if (st != ST_OK)
        return st == ST_NOT_FOUND && depth > 0 ? ST_OK : st;
    again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (again < 0) {
        (void)close(fd);
        return error_set_errno(err, ST_UNAVAILABLE, "could not read folder \"%s\"", folder);
    }
    st = read_folder(walk, again, folder, &entries, &n, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        char key[OBJECT_KEY_MAX + 1];

        if (snprintf(key, sizeof key, "%s%s", folder, entries[i].name) >= (int)sizeof key) {
            st = error_set(err, ST_INVALID,
                           "\"%s/%.60s...\" holds a path of more than %d bytes, which no key can "
                           "name: move it further up",
                           walk->root, folder, OBJECT_KEY_MAX);
            break;
        }
        if (entries[i].is_folder && may_match(key, true, walk->prefix))
            st = walk_folder(walk, key, depth + 1, err);
        else if (!entries[i].is_folder && is_temporary(entries[i].name) == walk->temporaries &&
                 (walk->temporaries || may_match(key, false, walk->prefix)))
            st = walk->visit(walk, key, fd, entries[i].name, err);
    }
    free_entries(entries, n);
    (void)close(fd);
    return st;
}

static enum status list_object(struct walk *walk, const char *key, int folder_fd, const char *leaf,
                               struct error *err)
{
    struct object_info info = {.key = key};
    struct stat stat;
    int fd;

    if (fstatat(folder_fd, leaf, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return ST_OK;
    if (S_ISLNK(stat.st_mode)) { /* only what it leads to can be an object, and only inside */
        struct error ignored;

        if (file_root_open_object(walk->root, key, &fd, &stat, &ignored) != ST_OK) {
            skip(walk, leaf);
            return ST_OK;
        }
        (void)close(fd);
    }
    file_walk_info(&stat, &info);
    return walk->each(walk->ctx, &info, err);
}

enum status file_walk_list(const char *root, const char *prefix, object_list_fn *each, void *ctx,
                           struct error *err)
{
    struct walk walk = {
        .root = root, .prefix = prefix, .visit = list_object, .each = each, .ctx = ctx};
    enum status st = walk_folder(&walk, "", 0, err);

    if (walk.n_skipped > 0)
        log_at(LOG_WARN, "files_skipped",
               "folder=\"%s\" n=%zu first=\"%s\" why=\"neither a file, nor a link to one inside "
               "the folder\"",
               root, walk.n_skipped, walk.first_skipped);
    return st;
}

/* A living writer holds a lock on its file. */
static enum status sweep_file(struct walk *walk, const char *key, int folder_fd, const char *leaf,
                              struct error *err)
{
    int fd = openat(folder_fd, leaf, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    (void)key;
    (void)err;
    if (fd < 0)
        return ST_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(folder_fd, leaf, 0) == 0)
        (*walk->n_removed)++;
    (void)close(fd);
    return ST_OK;
}

enum status file_walk_sweep(const char *root, const char *prefix, size_t *n_removed,
                            struct error *err)
{
    struct walk walk = {.root = root,
                        .prefix = prefix,
                        .visit = sweep_file,
                        .temporaries = true,
                        .n_removed = n_removed};
    enum status st = walk_folder(&walk, "", 0, err);

    return st == ST_NOT_FOUND ? ST_OK : st; /* a store not made yet has no leftovers */
}
