#include "worker/model_open.h"

#include "storage/hub/hub.h"
#include "worker/remote/remote.h"

enum status model_open_teacher(const struct job_teacher *spec, enum matrix_form form,
                               const atomic_bool *stop, struct teacher **out, struct error *err)
{
    const struct hub_options hub = {.stop = stop};
    char dir[PATH_MAX];
    const struct teacher_options options = {
        .model_dir = dir,
        .clean = spec->clean,
        .special_tokens_in_text = spec->special_tokens_in_text,
        .activation = spec->activation,
        .matrices = form,
    };
    enum status st;

    if (spec->remote.server != NULL)
        return remote_teacher_open(spec, stop, out, err);
    st = hub_resolve(&hub, spec->model, dir, err);
    return st == ST_OK ? teacher_open(&options, out, err) : st;
}

enum status model_open_captioner(const struct job_captioner *spec, enum matrix_form form,
                                 const atomic_bool *stop, struct captioner **out, struct error *err)
{
    const struct hub_options hub = {.stop = stop};
    char dir[PATH_MAX];
    const struct captioner_options options = {.model_dir = dir,
                                              .activation = spec->activation,
                                              .no_attention_cap = !spec->attention_cap,
                                              .final_cap = spec->final_cap,
                                              .sliding_window = spec->sliding_window,
                                              .matrices = form,
                                              .kv_type = spec->kv_cache};
    enum status st;

    if (spec->remote.server != NULL)
        return remote_captioner_open(spec, stop, out, err);
    st = hub_resolve(&hub, spec->model, dir, err);
    return st == ST_OK ? captioner_open(&options, out, err) : st;
}
