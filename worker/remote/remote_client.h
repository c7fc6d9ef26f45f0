/* JSON over HTTP with one model server: requests, whose fault a failure is, and many at once. */
#ifndef REINFORCE_WORKER_REMOTE_CLIENT_H
#define REINFORCE_WORKER_REMOTE_CLIENT_H

#include "reinforce/base/json.h"
#include "reinforce/job/job.h"
#include "storage/http/http.h"

#include <stdatomic.h>

/* Requests hold images in base64 or pixels as text; answers hold rows. */
enum { REMOTE_MAX_REQUEST = 1 << 30, REMOTE_MAX_ANSWER = 64 << 20 };

struct remote_client;

/** *out is the caller's; `spec` is read during the call. `stop` outlives the client, may be NULL:
 * once it is true, waits and requests end with ST_CANCELLED within a second. ST_INVALID: the
 * token's variable is not set; ST_NO_MEMORY. Any number of threads may use a client at once. */
NODISCARD enum status remote_client_open(const struct job_remote *spec, const atomic_bool *stop,
                                         struct remote_client **out, struct error *err);
void remote_client_close(struct remote_client **client);

/** GET of server + path. *out is the caller's. Errors as http_run() has them, and ST_CORRUPT. */
NODISCARD enum status remote_client_get(struct remote_client *client, const char *path,
                                        json_t **out, struct error *err);

/**
 * POST of JSON, or, with json_len below body.len, of JSON and bytes behind it (the Open Inference
 * Protocol's binary extension). *out is the caller's.
 *
 * ST_INVALID  the server finds this request wrong: 400, 413, 415, 422
 * ST_CORRUPT  an answer that is no UTF-8, or no JSON though it begins like it (NaN is none)
 * ST_CANCELLED  stopped
 * ST_UNAVAILABLE, ST_TIMEOUT  everything else
 */
NODISCARD enum status remote_client_post(struct remote_client *client, const char *path,
                                         struct bytes_view body, size_t json_len, json_t **out,
                                         struct error *err);

/** Task number `i`; called from several threads at once. */
typedef enum status remote_task_fn(void *ctx, size_t i, struct error *err);

/** Runs tasks 0..n-1, as many at once as the job allows. After a failure no new ones begin; the one
 * with the lowest number is what the caller hears of. */
NODISCARD enum status remote_client_each(struct remote_client *client, size_t n,
                                         remote_task_fn *task, void *ctx, struct error *err);

/** The digest for provenance: SHA-256 of {"model", "protocol", "said"} with sorted keys. `said` is
 * borrowed. ST_NO_MEMORY. */
NODISCARD enum status remote_client_identity(const char *protocol, const char *model, json_t *said,
                                             char digest[SHA256_HEX_LEN + 1], struct error *err);

#endif
