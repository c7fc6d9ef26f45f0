/* Captions from a server of OpenAI's chat completions: vLLM, SGLang, llama.cpp, transformers serve.
 */
#ifndef REINFORCE_WORKER_CAPTIONER_OPENAI_H
#define REINFORCE_WORKER_CAPTIONER_OPENAI_H

#include "reinforce/job/job.h"

#include <stdatomic.h>

/**
 * One request a caption, of one user message: the image, then the prompt. The seed that is sent is
 * drawn from (job seed, uid, captioner, caption), so a server that honours it repeats itself;
 * greedy asks once per prompt, at temperature 0. ids and log-probabilities are not known: servers
 * do not say. See remote.h.
 */
NODISCARD enum status captioner_openai_open(const struct job_captioner *spec,
                                            const atomic_bool *stop, struct captioner **out,
                                            struct error *err);

#endif
