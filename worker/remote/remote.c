#include "worker/remote/remote.h"

#include "worker/remote/captioner_openai.h"
#include "worker/remote/teacher_oip.h"
#include "worker/remote/teacher_openai.h"

static const struct {
    const char *protocol;
    enum status (*open_captioner)(const struct job_captioner *spec, const atomic_bool *stop,
                                  struct captioner **out,
                                  struct error *err); /* NULL: the protocol has none */
    enum status (*open_teacher)(const struct job_teacher *spec, const atomic_bool *stop,
                                struct teacher **out, struct error *err);
} protocols[] = {
    {"openai", captioner_openai_open, teacher_openai_open},
    {"oip", NULL, teacher_oip_open},
};

enum status remote_captioner_open(const struct job_captioner *spec, const atomic_bool *stop,
                                  struct captioner **out, struct error *err)
{
    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
        if (strcmp(protocols[i].protocol, spec->remote.protocol) == 0 &&
            protocols[i].open_captioner != NULL)
            return protocols[i].open_captioner(spec, stop, out, err);
    return error_set(err, ST_INVALID, "no captioner speaks \"%s\"", spec->remote.protocol);
}

enum status remote_teacher_open(const struct job_teacher *spec, const atomic_bool *stop,
                                struct teacher **out, struct error *err)
{
    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
        if (strcmp(protocols[i].protocol, spec->remote.protocol) == 0)
            return protocols[i].open_teacher(spec, stop, out, err);
    return error_set(err, ST_INVALID, "no teacher speaks \"%s\"", spec->remote.protocol);
}
