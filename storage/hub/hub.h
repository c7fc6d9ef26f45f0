/*
 * Snapshots of models from a Hugging Face compatible hub, kept on this machine.
 *
 *   <cache>/OWNER--NAME/refs/main         the commit that "main" was when it was pulled
 *   <cache>/OWNER--NAME/<commit>/...      the files; snapshot_read() reads this folder
 *   <cache>/OWNER--NAME/<commit>/pulled.json  {"model", "commit", "files": {name: {"bytes",
 * "sha256"}}}, written last: without it the folder is not whole
 *
 * Source: the hub's HTTP interface: /api/models/ID/revision/REV?blobs=true, /ID/resolve/REV/FILE.
 */
#ifndef REINFORCE_STORAGE_HUB_H
#define REINFORCE_STORAGE_HUB_H

#include "reinforce/base/bytes.h"

#include <limits.h>
#include <stdatomic.h>

#define HUB_SCHEME "hf://"

/** Called as a file comes in. */
typedef void hub_progress_fn(void *ctx, const char *file, uint64_t done, uint64_t total);

/** Strings are borrowed. Zeroed is all defaults. */
struct hub_options {
    const char *endpoint; /* NULL: $HF_ENDPOINT, or https://huggingface.co */
    const char *token;    /* NULL: $HF_TOKEN; never logged, sent to the endpoint's host alone */
    const char *cache; /* NULL: $REINFORCE_MODELS, or $XDG_CACHE_HOME/reinforce/models, or the same
                          under ~/.cache */
    hub_progress_fn *progress;
    void *progress_ctx;
    const atomic_bool *stop; /* may be NULL */
};

/**
 * Fetches what snapshot_read() would read of `model`, "OWNER/NAME" or "OWNER/NAME@REV" (a branch, a
 * tag or a commit; default "main"): goes on where an earlier pull stopped, and checks length and
 * digest of every file. dir out: the folder. A commit that is here already costs no request.
 *
 * ST_INVALID: no such form of name, or a server that refuses the token; ST_NOT_FOUND: no such
 * model, revision, or no weights there; ST_CORRUPT: a file that is not what the hub says;
 * ST_UNAVAILABLE.
 */
NODISCARD enum status hub_pull(const struct hub_options *options, const char *model,
                               char dir[PATH_MAX], struct error *err);

/**
 * Hashes the files of a pulled folder again and compares with what pulled.json says. *n_files 0:
 * the folder was not pulled. ST_CORRUPT, ST_NOT_FOUND name the file.
 */
NODISCARD enum status hub_verify(const char *dir, size_t *n_files, struct error *err);

/**
 * The folder for what a job or command calls a model: a path stays itself; "hf://OWNER/NAME@REV" is
 * the folder it was pulled to, pulled now if it is not there.
 */
NODISCARD enum status hub_resolve(const struct hub_options *options, const char *model,
                                  char dir[PATH_MAX], struct error *err);

#endif
