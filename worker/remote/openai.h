/* What both roles need of the OpenAI protocol: the list of models, and images as data URLs. */
#ifndef REINFORCE_WORKER_OPENAI_H
#define REINFORCE_WORKER_OPENAI_H

#include "reinforce/image/image.h"
#include "worker/remote/remote_client.h"

/** GET /models: ST_INVALID names the models there are when `model` is not among them. `digest` gets
 * the identity; times and permissions, which change from answer to answer, do not count. */
NODISCARD enum status openai_find_model(struct remote_client *client, const char *model,
                                        char digest[SHA256_HEX_LEN + 1], struct error *err);

/** Appends `"data:image/png;base64,..."`, quotes included. quality 1..100: as JPEG; 0: as PNG. */
NODISCARD enum status openai_write_image(const struct image *image, int quality,
                                         struct byte_buf *out, struct error *err);

#endif
