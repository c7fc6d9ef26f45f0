#include "storage/object/object_store.h"
#include "tests/support/object_store_contract.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * System calls of the file store go through these (the linker's --wrap): the n-th from now on is
 * failed with an errno, or kills the process before it is made.
 */
enum fault_kind { FAULT_NONE, FAULT_ERRNO, FAULT_KILL, FAULT_SHORT };

static struct {
    enum fault_kind kind;
    int countdown, sys_errno;
    bool fired;
    void (*on_write)(void);
} fault;

static void fault_set(enum fault_kind kind, int nth, int sys_errno)
{
    fault.kind = kind;
    fault.countdown = nth;
    fault.sys_errno = sys_errno;
    fault.fired = false;
}

static bool must_fail(void)
{
    if ((fault.kind != FAULT_ERRNO && fault.kind != FAULT_KILL) || --fault.countdown != 0)
        return false;
    fault.fired = true;
    if (fault.kind == FAULT_KILL)
        (void)raise(SIGKILL);
    errno = fault.sys_errno;
    return true;
}

ssize_t __real_write(int fd, const void *data, size_t len);
int __real_fsync(int fd);
int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __real_mkdirat(int fd, const char *name, mode_t mode);
ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __real_pread(int fd, void *data, size_t len, off_t offset);
struct dirent *__real_readdir(DIR *dir);
ssize_t __wrap_write(int fd, const void *data, size_t len);
int __wrap_fsync(int fd);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_mkdirat(int fd, const char *name, mode_t mode);
ssize_t __wrap_read(int fd, void *data, size_t len);
ssize_t __wrap_pread(int fd, void *data, size_t len, off_t offset);
struct dirent *__wrap_readdir(DIR *dir);

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    if (must_fail())
        return -1;
    if (fault.on_write != NULL)
        fault.on_write();
    if (fault.kind == FAULT_SHORT && ++fault.countdown % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return __real_write(fd, data, fault.kind == FAULT_SHORT ? len / 2 + 1 : len);
}

int __wrap_fsync(int fd)
{
    return must_fail() ? -1 : __real_fsync(fd);
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return must_fail() ? -1 : __real_renameat(from_fd, from, to_fd, to);
}

int __wrap_mkdirat(int fd, const char *name, mode_t mode)
{
    return must_fail() ? -1 : __real_mkdirat(fd, name, mode);
}

ssize_t __wrap_read(int fd, void *data, size_t len)
{
    return must_fail() ? -1 : __real_read(fd, data, fault.kind == FAULT_SHORT ? len / 2 + 1 : len);
}

ssize_t __wrap_pread(int fd, void *data, size_t len, off_t offset)
{
    return must_fail()
               ? -1
               : __real_pread(fd, data, fault.kind == FAULT_SHORT ? len / 2 + 1 : len, offset);
}

struct dirent *__wrap_readdir(DIR *dir)
{
    return must_fail() ? NULL : __real_readdir(dir);
}

struct fixture {
    struct temp_folder folder;
    char root[128];
    struct object_store *store;
};

static void setup(struct fixture *f)
{
    struct error err = {0};

    fault_set(FAULT_NONE, 0, 0);
    fault.on_write = NULL;
    temp_folder_init(&f->folder);
    temp_folder_name(&f->folder, "root", f->root, sizeof f->root);
    assert_ok(object_store_open(f->root, &f->store, &err));
}

static void teardown(struct fixture *f)
{
    fault_set(FAULT_NONE, 0, 0);
    object_store_close(&f->store);
    temp_folder_release(&f->folder);
}

static void put(struct object_store *s, const char *key, const char *text)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(s, key, bytes_of_string(text), &written, &err));
}

static void expect(struct object_store *s, const char *key, const char *want)
{
    char got[256] = "";
    struct object_info info;
    struct error err = {0};

    assert_ok(object_store_head(s, key, &info, &err));
    assert_true(info.bytes < sizeof got);
    assert_ok(object_store_read_range(s, key, 0, (size_t)info.bytes, got, &err));
    assert_string_equal(got, want);
}

static enum status add_key(void *ctx, const struct object_info *info, struct error *err)
{
    char *keys = ctx;
    size_t len = strlen(keys);

    (void)err;
    (void)snprintf(keys + len, 512 - len, "%s ", info->key);
    return ST_OK;
}

static void expect_list(struct object_store *s, const char *prefix, const char *want)
{
    char keys[512] = "";
    struct error err = {0};

    assert_ok(object_store_list(s, prefix, add_key, keys, &err));
    assert_string_equal(keys, want);
}

/* Files in `root`'s folder of any kind, as the system sees them. */
static size_t count_temporaries(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(dir);
    while ((entry = __real_readdir(dir)) != NULL)
        n += strncmp(entry->d_name, OBJECT_TEMPORARY_PREFIX, sizeof OBJECT_TEMPORARY_PREFIX - 1) ==
             0;
    (void)closedir(dir);
    return n;
}

static void a_folder_keeps_the_contract(void **state)
{
    struct fixture f;
    char url[160];

    (void)state;
    setup(&f);
    assert_int_equal(mkdir(f.root, 0777), 0);
    object_store_contract(f.root);
    (void)snprintf(url, sizeof url, "file://%s/", f.root);
    object_store_contract(url);
    teardown(&f);
}

static void memory_keeps_the_contract(void **state)
{
    struct object_store *held;
    struct error err = {0};

    (void)state;
    assert_ok(object_store_open("mem:contract", &held, &err));
    object_store_contract("mem:contract");
    object_store_close(&held);
}

static void memory_of_another_name_is_another_store(void **state)
{
    struct object_store *a, *b;
    struct object_info info;
    struct error err = {0};

    (void)state;
    assert_ok(object_store_open("mem:a", &a, &err));
    assert_ok(object_store_open("mem:b", &b, &err));
    put(a, "k", "a");
    assert_status(object_store_head(b, "k", &info, &err), ST_NOT_FOUND);
    object_store_close(&a);
    assert_ok(object_store_open("mem:a", &a, &err)); /* the last handle took it along */
    assert_status(object_store_head(a, "k", &info, &err), ST_NOT_FOUND);
    object_store_close(&a);
    object_store_close(&b);
}

static void a_url_of_no_known_kind_is_named(void **state)
{
    static const char *const urls[] = {"s3:bucket/x",   "gs://bucket", "ftp://h/x",
                                       "file://host/x", "file:",       ""};
    struct object_store *s;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        assert_status(object_store_open(urls[i], &s, &err), ST_INVALID);
        assert_null(s);
    }
    assert_status(object_store_open("gs://bucket", &s, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "\"gs\""));
    assert_non_null(strstr(err.message, "file:"));
}

static void opening_makes_nothing_and_a_missing_folder_is_not_found(void **state)
{
    struct fixture f;
    struct object_info info;
    char keys[512] = "", file_url[256];
    struct object_store *s;
    size_t n = 0;
    struct error err = {0};

    (void)state;
    setup(&f);
    assert_int_equal(access(f.root, F_OK), -1);
    assert_status(object_store_list(f.store, "", add_key, keys, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, f.root));
    assert_status(object_store_list(f.store, "a/b/", add_key, keys, &err), ST_NOT_FOUND);
    assert_status(object_store_head(f.store, "x", &info, &err), ST_NOT_FOUND);
    assert_ok(object_store_remove(f.store, "x", &err));
    assert_ok(object_store_sweep(f.store, "", &n, &err));
    put(f.store, "deep/er/x", "made on the way");
    expect(f.store, "deep/er/x", "made on the way");
    /* A file is no store. */
    (void)snprintf(file_url, sizeof file_url, "%s/deep/er/x", f.root);
    assert_ok(object_store_open(file_url, &s, &err));
    assert_status(object_store_list(s, "", add_key, keys, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "not a folder"));
    object_store_close(&s);
    teardown(&f);
}

static void a_relative_folder_stays_where_it_was(void **state)
{
    struct fixture f;
    char here[512];
    struct object_store *s;
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "x", "here");
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(f.folder.path), 0);
    assert_ok(object_store_open("root", &s, &err));
    assert_int_equal(chdir("/"), 0);
    expect(s, "x", "here");
    assert_int_equal(chdir(here), 0);
    object_store_close(&s);
    teardown(&f);
}

static void the_last_object_takes_its_folders_along(void **state)
{
    struct fixture f;
    char path[160];
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "a/b/c/x", "x");
    put(f.store, "a/y", "y");
    assert_ok(object_store_remove(f.store, "a/b/c/x", &err));
    (void)snprintf(path, sizeof path, "%s/a/b", f.root);
    assert_int_equal(access(path, F_OK), -1);
    expect(f.store, "a/y", "y");
    assert_ok(object_store_remove(f.store, "a/y", &err));
    assert_int_equal(access(f.root, F_OK), 0); /* the root is the user's */
    expect_list(f.store, "", "");
    teardown(&f);
}

static void files_and_folders_in_each_others_way_say_so(void **state)
{
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "a", "a file");
    put(f.store, "b/x", "in a folder");
    assert_status(object_store_put(f.store, "a/x", bytes_of_string("x"), &written, &err),
                  ST_CONFLICT);
    assert_non_null(strstr(err.message, "not a folder"));
    assert_status(object_store_put(f.store, "b", bytes_of_string("x"), &written, &err),
                  ST_CONFLICT);
    assert_int_equal(count_temporaries(f.root), 0);
    teardown(&f);
}

static void links_are_followed_inside_and_never_outside(void **state)
{
    static const char *const refused[] = {"out-file", "out-folder/secret", "up/secret", "loop",
                                          "pipe"};
    struct fixture f;
    struct object_store *outside;
    struct object_written written;
    char path[256], out[256], byte;
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "in/file", "inside");
    temp_folder_name(&f.folder, "outside", out, sizeof out);
    assert_ok(object_store_open(out, &outside, &err));
    put(outside, "secret", "do not tell");

#define LINK(to, name)                                                                             \
    do {                                                                                           \
        (void)snprintf(path, sizeof path, "%s/%s", f.root, name);                                  \
        assert_int_equal(symlink(to, path), 0);                                                    \
    } while (0)
    LINK("in/file", "link");
    LINK("link", "link-to-link");
    LINK("in", "folder");
    LINK("../folder", "in/back");
    LINK("../outside/secret", "out-file");
    LINK(out, "out-folder");
    LINK("in/../../outside", "up");
    LINK("loop", "loop");
    LINK("nowhere", "dangling");
    (void)snprintf(path, sizeof path, "%s/pipe", f.root);
    assert_int_equal(mkfifo(path, 0600), 0);

    expect(f.store, "link", "inside");
    expect(f.store, "link-to-link", "inside");
    expect(f.store, "folder/file", "inside");
    expect(f.store, "folder/back/back/file", "inside");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (object_store_read_range(f.store, refused[i], 0, 1, &byte, &err) != ST_INVALID)
            fail_msg("\"%s\" is let through", refused[i]);
    assert_status(object_store_read_range(f.store, "out-file", 0, 1, &byte, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "outside of the store"));
    assert_status(object_store_read_range(f.store, "dangling", 0, 1, &byte, &err), ST_NOT_FOUND);
    /* Each object once, links to folders not entered. */
    expect_list(f.store, "", "in/file link link-to-link ");

    put(f.store, "folder/new/x", "written through a link");
    expect(f.store, "in/new/x", "written through a link");
    assert_status(object_store_put(f.store, "out-folder/x", bytes_of_string("x"), &written, &err),
                  ST_INVALID);
    assert_status(object_store_put(f.store, "up/y/x", bytes_of_string("x"), &written, &err),
                  ST_INVALID);
    assert_status(object_store_remove(f.store, "out-folder/secret", &err), ST_INVALID);
    expect_list(outside, "", "secret ");
    /* A link is replaced, what it leads to is not. */
    put(f.store, "out-file", "mine");
    expect(outside, "secret", "do not tell");
    assert_ok(object_store_remove(f.store, "link", &err));
    expect(f.store, "in/file", "inside");
    object_store_close(&outside);
    teardown(&f);
}

static void short_writes_reads_and_signals_lose_nothing(void **state)
{
    static const char *const parts[] = {"p", "p"};
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    setup(&f);
    fault_set(FAULT_SHORT, 0, 0);
    put(f.store, "p", "0123456789abcdef");
    assert_ok(object_store_join(f.store, parts, 2, bytes_of_string("!"), "j", &written, &err));
    assert_int_equal(written.bytes, 33);
    expect(f.store, "j", "0123456789abcdef0123456789abcdef!");
    teardown(&f);
}

static void a_full_disk_is_told_with_what_to_do(void **state)
{
    static const int codes[] = {ENOSPC, EDQUOT, EFBIG};
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "k", "old");
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        fault_set(FAULT_ERRNO, 1, codes[i]);
        assert_status(object_store_put(f.store, "k", bytes_of_string("new"), &written, &err),
                      ST_FULL);
        assert_non_null(strstr(err.message, "\"k\""));
        assert_non_null(strstr(err.message, f.root));
        if (codes[i] != EFBIG)
            assert_non_null(strstr(err.message, "free space"));
        expect(f.store, "k", "old");
        assert_int_equal(count_temporaries(f.root), 0);
    }
    fault_set(FAULT_ERRNO, 1, ENOSPC); /* the first call of a put into a new folder makes it */
    assert_status(object_store_put(f.store, "new/k", bytes_of_string("new"), &written, &err),
                  ST_FULL);
    teardown(&f);
}

/* One write of each sort over an object that holds "old". */
static enum status write_new(struct object_store *s, bool join, struct error *err)
{
    static const char *const parts[] = {"part"};
    struct object_written written;

    return join ? object_store_join(s, parts, 1, bytes_of_string("w"), "new/k", &written, err)
                : object_store_put(s, "new/k", bytes_of_string("new"), &written, err);
}

static void every_call_that_fails_leaves_old_or_new(void **state)
{
    (void)state;
    for (int join = 0; join < 2; join++) {
        bool fired = true;

        for (int nth = 1; fired; nth++) {
            struct fixture f;
            struct object_info info;
            char path[160];
            struct error err = {0};
            enum status st;

            setup(&f);
            put(f.store, "part", "ne");
            fault_set(FAULT_ERRNO, nth, EIO);
            st = write_new(f.store, join != 0, &err);
            fired = fault.fired;
            fault_set(FAULT_NONE, 0, 0);
            if (st != (fired ? ST_UNAVAILABLE : ST_OK))
                fail_msg("call %d: %s: %s", nth, status_name(st), err.message);
            if (object_store_head(f.store, "new/k", &info, &err) == ST_OK)
                expect(f.store, "new/k", "new");
            else
                assert_true(fired);
            (void)snprintf(path, sizeof path, "%s/new", f.root);
            if (access(path, F_OK) == 0)
                assert_int_equal(count_temporaries(path), 0);
            assert_true(nth < 40);
            teardown(&f);
        }
    }
}

static void a_read_that_fails_is_no_short_object(void **state)
{
    struct fixture f;
    char keys[512] = "", byte[3];
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "a/k", "old");
    put(f.store, "b", "old");
    fault_set(FAULT_ERRNO, 1, EIO);
    assert_status(object_store_read_range(f.store, "b", 0, 3, byte, &err), ST_UNAVAILABLE);
    for (int nth = 1;; nth++) { /* half a folder must not pass for the whole */
        enum status st;

        fault_set(FAULT_ERRNO, nth, EIO);
        keys[0] = '\0';
        st = object_store_list(f.store, "", add_key, keys, &err);
        if (!fault.fired) {
            assert_int_equal(st, ST_OK);
            assert_string_equal(keys, "a/k b ");
            break;
        }
        assert_status(st, ST_UNAVAILABLE);
    }
    teardown(&f);
}

/* Forks a writer that is killed before its n-th call; true if it was. */
static bool write_and_die(struct fixture *f, bool join, int nth)
{
    pid_t child = fork();
    int how;

    assert_true(child >= 0);
    if (child == 0) {
        struct error err;

        fault_set(FAULT_KILL, nth, 0);
        _exit(write_new(f->store, join, &err) == ST_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    if (WIFSIGNALED(how))
        return true;
    assert_int_equal(WEXITSTATUS(how), 0);
    return false;
}

static void a_writer_killed_at_any_step_leaves_old_or_new_and_is_swept(void **state)
{
    (void)state;
    for (int join = 0; join < 2; join++) {
        size_t n_left = 0;
        bool killed = true;

        for (int nth = 1; killed; nth++) {
            struct fixture f;
            struct object_info info;
            size_t n_removed;
            char path[160];
            struct error err = {0};

            setup(&f);
            put(f.store, "part", "ne");
            if (nth % 2 == 0)
                put(f.store, "new/k", "old");
            killed = write_and_die(&f, join != 0, nth);
            if (object_store_head(f.store, "new/k", &info, &err) == ST_OK) {
                char got[4] = "";

                assert_int_equal(info.bytes, 3);
                assert_ok(object_store_read_range(f.store, "new/k", 0, 3, got, &err));
                assert_true(strcmp(got, "new") == 0 || (nth % 2 == 0 && strcmp(got, "old") == 0));
                expect_list(f.store, "", "new/k part ");
            } else {
                assert_true(killed && nth % 2 != 0);
                expect_list(f.store, "", "part ");
            }
            assert_ok(object_store_sweep(f.store, "", &n_removed, &err));
            n_left += n_removed;
            (void)snprintf(path, sizeof path, "%s/new", f.root);
            if (access(path, F_OK) == 0)
                assert_int_equal(count_temporaries(path), 0);
            assert_ok(object_store_sweep(f.store, "", &n_removed, &err));
            assert_int_equal(n_removed, 0);
            assert_true(nth < 40);
            teardown(&f);
        }
        assert_true(n_left >= 2); /* before and after the write, at least */
    }
}

static const char *sweeping_root;
static int n_sweeps;

static void sweep_now(void)
{
    struct object_store *s;
    size_t n_removed;
    struct error err = {0};

    assert_ok(object_store_open(sweeping_root, &s, &err));
    assert_ok(object_store_sweep(s, "", &n_removed, &err));
    assert_int_equal(n_removed, 0);
    assert_int_equal(count_temporaries(sweeping_root), 1);
    object_store_close(&s);
    n_sweeps++;
}

static void a_sweep_spares_a_write_under_way(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    sweeping_root = f.root;
    n_sweeps = 0;
    fault.on_write = sweep_now;
    put(f.store, "k", "slow");
    fault.on_write = NULL;
    assert_int_equal(n_sweeps, 1);
    expect(f.store, "k", "slow");
    teardown(&f);
}

static void a_path_too_long_for_a_key_is_not_left_out_silently(void **state)
{
    struct fixture f;
    char name[201], keys[512] = "";
    int fd, next;
    struct error err = {0};

    (void)state;
    setup(&f);
    put(f.store, "k", "x");
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    fd = open(f.root, O_RDONLY | O_DIRECTORY);
    for (int depth = 0; depth < 6; depth++) {
        assert_int_equal(__real_mkdirat(fd, name, 0777), 0);
        next = openat(fd, name, O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        (void)close(fd);
        fd = next;
    }
    (void)close(fd);
    assert_status(object_store_list(f.store, "", add_key, keys, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "1024"));
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_keeps_the_contract),
        cmocka_unit_test(memory_keeps_the_contract),
        cmocka_unit_test(memory_of_another_name_is_another_store),
        cmocka_unit_test(a_url_of_no_known_kind_is_named),
        cmocka_unit_test(opening_makes_nothing_and_a_missing_folder_is_not_found),
        cmocka_unit_test(a_relative_folder_stays_where_it_was),
        cmocka_unit_test(the_last_object_takes_its_folders_along),
        cmocka_unit_test(files_and_folders_in_each_others_way_say_so),
        cmocka_unit_test(links_are_followed_inside_and_never_outside),
        cmocka_unit_test(short_writes_reads_and_signals_lose_nothing),
        cmocka_unit_test(a_full_disk_is_told_with_what_to_do),
        cmocka_unit_test(every_call_that_fails_leaves_old_or_new),
        cmocka_unit_test(a_read_that_fails_is_no_short_object),
        cmocka_unit_test(a_writer_killed_at_any_step_leaves_old_or_new_and_is_swept),
        cmocka_unit_test(a_sweep_spares_a_write_under_way),
        cmocka_unit_test(a_path_too_long_for_a_key_is_not_left_out_silently),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
