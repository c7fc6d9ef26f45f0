#include "tests/support/temp_folder.h"

#include "tests/support/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void temp_folder_init(struct temp_folder *folder)
{
    (void)snprintf(folder->path, sizeof folder->path, "/tmp/reinforce-test-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

void temp_folder_name(const struct temp_folder *folder, const char *name, char *out,
                      size_t out_bytes)
{
    assert_true((size_t)snprintf(out, out_bytes, "%s/%s", folder->path, name) < out_bytes);
}

static void remove_content(int fd)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        struct stat info;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        assert_int_equal(fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW), 0);
        if (S_ISDIR(info.st_mode)) {
            int child = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

            assert_true(child >= 0);
            remove_content(child);
        }
        assert_int_equal(
            unlinkat(dirfd(dir), entry->d_name, S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0), 0);
    }
    (void)closedir(dir);
}

void temp_folder_release(struct temp_folder *folder)
{
    int fd = open(folder->path, O_RDONLY | O_DIRECTORY);

    assert_true(fd >= 0);
    remove_content(fd);
    assert_int_equal(rmdir(folder->path), 0);
}
