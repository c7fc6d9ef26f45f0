/* A folder of a test's own, gone with everything in it when the test is over. */
#ifndef REINFORCE_TESTS_TEMP_FOLDER_H
#define REINFORCE_TESTS_TEMP_FOLDER_H

#include <stddef.h>

struct temp_folder {
    char path[64];
};

/** Fails the test when there is no room for it. */
void temp_folder_init(struct temp_folder *folder);

/** "<path>/<name>" in `out`. */
void temp_folder_name(const struct temp_folder *folder, const char *name, char *out,
                      size_t out_bytes);

/** Removes it; links are removed, not followed. */
void temp_folder_release(struct temp_folder *folder);

#endif
