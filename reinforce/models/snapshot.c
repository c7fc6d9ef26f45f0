#include "reinforce/models/snapshot.h"

#include "reinforce/base/file.h"
#include "reinforce/models/snapshot_config.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_MAX_BYTES = 16 << 20 };

/* open_clip's search order first; PyTorch archives are looked for only to say what to do about
 * them. */
static const char *const weight_names[] = {
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
};
static const char *const archive_names[] = {
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "mobileclip2_coca.pt",
};
static const char *const config_names[] = {"open_clip_config.json", "config.json",
                                           "preprocessor_config.json"};

const char *snapshot_family_name(enum snapshot_family family)
{
    return family == SNAPSHOT_COCA ? "coca" : "clip";
}

const char *snapshot_activation_name(enum activation activation)
{
    return activation == ACTIVATION_QUICK_GELU ? "quick_gelu" : "gelu";
}

static bool file_in(const char *dir, const char *name, char path[PATH_MAX])
{
    struct stat info;

    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX && stat(path, &info) == 0 &&
        S_ISREG(info.st_mode))
        return true;
    path[0] = '\0';
    return false;
}

static enum status read_json(const char *dir, const char *name, json_t **out, struct error *err)
{
    struct byte_buf buf;
    char path[PATH_MAX];
    enum status st = ST_OK;

    *out = NULL;
    if (!file_in(dir, name, path))
        return ST_OK;
    byte_buf_init(&buf, CONFIG_MAX_BYTES);
    st = file_read(path, &buf, err);
    if (st == ST_OK)
        st = json_parse(byte_buf_view(&buf), out, err);
    if (st == ST_OK && !json_is_object(*out))
        st = error_set(err, ST_CORRUPT, "is not a JSON object");
    if (st != ST_OK) {
        error_add_context(err, "%s", path);
        json_decref(*out);
        *out = NULL;
    }
    byte_buf_release(&buf);
    return st;
}

static enum status find_weights(struct snapshot *s, struct error *err)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(weight_names); i++)
        if (file_in(s->dir, weight_names[i], s->weights_path))
            return ST_OK;
    for (size_t i = 0; i < ARRAY_LEN(archive_names); i++)
        if (file_in(s->dir, archive_names[i], path))
            return error_set(err, ST_INVALID,
                             "\"%s\" is a PyTorch archive; convert it to safetensors "
                             "(open_clip_model.safetensors) first",
                             path);
    return error_set(err, ST_NOT_FOUND,
                     "\"%s\" holds no weights; expected open_clip_model.safetensors or "
                     "model.safetensors",
                     s->dir);
}

static void find_tokenizer(struct snapshot *s)
{
    if (file_in(s->dir, "tokenizer.json", s->tokenizer_path))
        return;
    if (!file_in(s->dir, "vocab.json", s->vocab_path) ||
        !file_in(s->dir, "merges.txt", s->merges_path))
        s->vocab_path[0] = s->merges_path[0] = '\0';
}

static enum status override_activation(struct snapshot *s, const char *activation,
                                       struct error *err)
{
    enum activation value;

    if (activation == NULL || activation[0] == '\0')
        return ST_OK;
    if (strcmp(activation, "gelu") == 0)
        value = ACTIVATION_GELU;
    else if (strcmp(activation, "quick_gelu") == 0)
        value = ACTIVATION_QUICK_GELU;
    else
        return error_set(err, ST_INVALID, "activation \"%s\" is neither gelu nor quick_gelu",
                         activation);
    s->vision.shape.activation = s->text.shape.activation = s->multimodal.shape.activation = value;
    return ST_OK;
}

enum status snapshot_read(const char *dir, const char *activation, struct snapshot *out,
                          struct error *err)
{
    json_t *open_clip = NULL, *flat = NULL, *processor = NULL;
    struct stat info;
    enum status st = ST_OK;

    memset(out, 0, sizeof *out);
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(err, ST_NOT_FOUND, "model folder \"%s\" does not exist", dir);
    if (snprintf(out->dir, sizeof out->dir, "%s", dir) >= (int)sizeof out->dir)
        return error_set(err, ST_INVALID, "model folder \"%s\" has too long a name", dir);
    st = read_json(dir, "open_clip_config.json", &open_clip, err);
    if (st == ST_OK)
        st = read_json(dir, "config.json", &flat, err);
    if (st == ST_OK)
        st = read_json(dir, "preprocessor_config.json", &processor, err);
    if (st == ST_OK && open_clip == NULL && flat != NULL &&
        json_object_get(flat, "embed_dim") != NULL) {
        open_clip =
            flat; /* a flat model_cfg under the other name, as apple's CoCa snapshots have it */
        flat = NULL;
    }
    if (st == ST_OK && open_clip != NULL) {
        st = snapshot_config_open_clip(open_clip, out, err);
    } else if (st == ST_OK && flat != NULL) {
        st = snapshot_config_transformers(flat, processor, out, err);
    } else if (st == ST_OK) {
        st = error_set(err, ST_NOT_FOUND,
                       "\"%s\" has neither open_clip_config.json nor config.json; add the one that "
                       "the model was "
                       "published with",
                       dir);
    }
    json_decref(processor);
    json_decref(flat);
    json_decref(open_clip);
    if (st == ST_OK)
        st = override_activation(out, activation, err);
    if (st == ST_OK)
        st = find_weights(out, err);
    if (st == ST_OK)
        find_tokenizer(out);
    if (st != ST_OK)
        error_add_context(err, "model \"%s\"", dir);
    return st;
}

static enum status hash_file(struct sha256 *hash, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    struct file_map map;
    enum status st;

    if (path[0] == '\0')
        return ST_OK;
    st = file_map_open(path, &map, err);
    if (st != ST_OK)
        return st;
    sha256_update(hash, slash + 1, strlen(slash + 1) + 1);
    sha256_update(hash, map.bytes.data, map.bytes.len);
    file_map_close(&map);
    return ST_OK;
}

enum status snapshot_open_weights(const struct snapshot *s, struct weights **out,
                                  char digest[SHA256_HEX_LEN + 1], struct error *err)
{
    struct sha256 *hash = NULL;
    const struct safetensors *file;
    char path[PATH_MAX];
    enum status st = weights_open(s->weights_path, out, err);

    digest[0] = '\0';
    if (st == ST_OK)
        st = sha256_create(&hash, err);
    for (size_t i = 0; i < ARRAY_LEN(config_names) && st == ST_OK; i++)
        if (file_in(s->dir, config_names[i], path))
            st = hash_file(hash, path, err);
    if (st == ST_OK)
        st = hash_file(hash, s->tokenizer_path, err);
    if (st == ST_OK)
        st = hash_file(hash, s->vocab_path, err);
    if (st == ST_OK)
        st = hash_file(hash, s->merges_path, err);
    file = st == ST_OK ? weights_file(*out) : NULL;
    for (size_t i = 0; file != NULL && i < safetensors_n_files(file) && st == ST_OK; i++)
        st = hash_file(hash, safetensors_file_path(file, i), err);
    if (st == ST_OK)
        sha256_hex(hash, digest);
    sha256_destroy(&hash);
    if (st != ST_OK) {
        weights_destroy(out);
        error_add_context(err, "model \"%s\"", s->dir);
    }
    return st;
}
