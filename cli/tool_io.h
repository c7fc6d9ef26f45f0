/* What the small tools share: images and texts from files, arrays to .npz, answers to standard
 * output. */
#ifndef REINFORCE_CLI_TOOL_IO_H
#define REINFORCE_CLI_TOOL_IO_H

#include "reinforce/base/json.h"
#include "reinforce/image/preprocess.h"
#include "reinforce/record/record.h"

#include <limits.h>

enum { TOOL_ARENA_BYTES = 1 << 30 };
/* An address range, not an allocation: caches of a large model take what they need of it. */
#define TOOL_SCRATCH_BYTES ((size_t)16 << 30)

/** The folder of what --model names: a path, or hf://OWNER/NAME[@REV], pulled if need be. */
NODISCARD enum status tool_model_dir(const char *model, char dir[PATH_MAX], struct error *err);

/** Decodes an image file to RGB in `arena`, whose size is the only limit. Errors name the file. */
NODISCARD enum status tool_read_image(const char *path, struct arena *arena, struct image *out,
                                      struct error *err);

/** Another way to resize than the snapshot's: "bilinear", "bicubic", "tensorflow"; NULL changes
 * nothing. ST_INVALID: another name, or TensorFlow's for a model whose images are not squashed. */
NODISCARD enum status tool_resize_as(const char *name, struct preprocess *pre, struct error *err);

/** Lines of a text file, without their ends (LF or CR LF), in `arena`. What follows the last line's
 * end is a line only if it is not empty. Errors name the file. */
NODISCARD enum status tool_read_lines(const char *path, struct arena *arena,
                                      struct bytes_view **lines, size_t *n, struct error *err);

/** Writes arrays as an .npz file, whole or not at all. */
NODISCARD enum status tool_write_npz(const char *path, const struct record_embedding *arrays,
                                     size_t n, struct error *err);

/** Writes `value` and a newline as a file, whole or not at all. */
NODISCARD enum status tool_write_json(const char *path, const json_t *value, struct error *err);

/** Prints a JSON value and a newline. */
NODISCARD enum status tool_print_json(const json_t *value, struct error *err);

/** Text for a terminal or a table: control characters become \xNN. */
void tool_print_text(struct bytes_view text);

/** Text as a JSON string, with invalid UTF-8 replaced; a new reference. NULL: no memory. */
json_t *tool_json_text(struct bytes_view text);

/** Takes over `value`. ST_NO_MEMORY when it is NULL or does not fit. */
NODISCARD enum status tool_json_append(json_t *list, json_t *value, struct error *err);
NODISCARD enum status tool_json_set(json_t *object, const char *key, json_t *value,
                                    struct error *err);

#endif
