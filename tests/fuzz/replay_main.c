/* Runs a fuzz target over the saved files of a folder, with any compiler: the corpus stays a
 * regression test. */
#include "reinforce/base/file.h"

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    size_t n_files = 0;

    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        struct dirent *entry;

        if (dir == NULL) {
            (void)fprintf(stderr, "no corpus folder %s\n", argv[i]);
            return 1;
        }
        while ((entry = readdir(dir)) !=
               NULL) { /* NOLINT(concurrency-mt-unsafe): one thread, own handle */
            char path[PATH_MAX];
            struct byte_buf buf;
            struct error err;

            if (entry->d_name[0] == '.')
                continue;
            (void)snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            byte_buf_init(&buf, 64u << 20);
            if (file_read(path, &buf, &err) != ST_OK) {
                (void)fprintf(stderr, "%s: %s\n", path, err.message);
                return 1;
            }
            (void)LLVMFuzzerTestOneInput(buf.data, buf.len);
            byte_buf_release(&buf);
            n_files++;
        }
        (void)closedir(dir);
    }
    (void)printf("replayed %zu files\n", n_files);
    return n_files > 0 ? 0 : 1;
}
