#include "reinforce/models/snapshot.h"

#include "reinforce/base/file.h"
#include "reinforce/models/fastvit.h"
#include "reinforce/models/snapshot_config.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_MAX_BYTES = 16 << 20 };

/* open_clip's search order first; then a torch checkpoint of any name, if it is the only one. */
static const char *const weight_names[] = {
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
};
static const char *const checkpoint_endings[] = {".bin", ".pt", ".pth", ".ckpt"};
static const char safetensors_ending[] = ".safetensors";
static const char *const tokenizer_names[] = {"tokenizer.json", "vocab.json", "merges.txt"};
static const char *const config_names[] = {"open_clip_config.json", "config.json",
                                           "preprocessor_config.json"};

const char *snapshot_activation_name(enum activation activation)
{
    switch (activation) {
    case ACTIVATION_GELU:
        return "gelu";
    case ACTIVATION_QUICK_GELU:
        return "quick_gelu";
    case ACTIVATION_GELU_TANH:
        return "gelu_tanh";
    }
    return "unknown";
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

static bool is_checkpoint(const char *name)
{
    const char *ending = strrchr(name, '.');

    for (size_t i = 0; i < ARRAY_LEN(checkpoint_endings) && ending != NULL; i++)
        if (strcmp(ending, checkpoint_endings[i]) == 0)
            return true;
    return false;
}

/* Fills s->weights_path with the one torch checkpoint of the folder, if there is one. */
static enum status find_checkpoint(struct snapshot *s, struct error *err)
{
    DIR *listing = opendir(s->dir);
    char path[PATH_MAX];
    enum status st = ST_OK;

    while (listing != NULL && st == ST_OK) {
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread, own handle */
        const struct dirent *entry = readdir(listing);

        if (entry == NULL)
            break;
        if (!is_checkpoint(entry->d_name) || !file_in(s->dir, entry->d_name, path))
            continue;
        if (s->weights_path[0] != '\0')
            st = error_set(err, ST_INVALID,
                           "\"%.120s\" holds several checkpoints, %.60s among them; keep one",
                           s->dir, entry->d_name);
        memcpy(s->weights_path, path, sizeof path);
    }
    if (listing != NULL)
        (void)closedir(listing);
    return st;
}

static enum status find_weights(struct snapshot *s, struct error *err)
{
    enum status st;

    for (size_t i = 0; i < ARRAY_LEN(weight_names); i++)
        if (file_in(s->dir, weight_names[i], s->weights_path))
            return ST_OK;
    s->weights_path[0] = '\0';
    st = find_checkpoint(s, err);
    if (st == ST_OK && s->weights_path[0] == '\0')
        st = error_set(err, ST_NOT_FOUND,
                       "\"%.120s\" holds no weights; expected open_clip_model.safetensors, "
                       "model.safetensors or a checkpoint (.pt, .bin)",
                       s->dir);
    return st;
}

bool snapshot_is_weights(const char *name)
{
    size_t len = strlen(name), n = strlen(safetensors_ending);

    return is_checkpoint(name) || (len > n && strcmp(name + len - n, safetensors_ending) == 0);
}

/* The weights that find_weights() would choose; n: none. */
static size_t choose_weights(const char *const *names, size_t n)
{
    for (size_t w = 0; w < ARRAY_LEN(weight_names); w++)
        for (size_t i = 0; i < n; i++)
            if (strcmp(names[i], weight_names[w]) == 0)
                return i;
    for (size_t i = 0; i < n; i++)
        if (is_checkpoint(names[i]))
            return i;
    return n;
}

/* "model-00001-of-00002.safetensors" beside "model.safetensors.index.json" */
static bool is_shard_of(const char *name, const char *index)
{
    const char *end = strstr(index, ".safetensors.index.json");
    size_t stem = end != NULL ? (size_t)(end - index) : 0;

    return end != NULL && strncmp(name, index, stem) == 0 && name[stem] == '-' &&
           snapshot_is_weights(name);
}

bool snapshot_is_part(const char *const *names, size_t n, size_t i)
{
    size_t weights = choose_weights(names, n);

    for (size_t k = 0; k < ARRAY_LEN(config_names); k++)
        if (strcmp(names[i], config_names[k]) == 0)
            return true;
    for (size_t k = 0; k < ARRAY_LEN(tokenizer_names); k++)
        if (strcmp(names[i], tokenizer_names[k]) == 0)
            return true;
    return i == weights || (weights < n && is_shard_of(names[i], names[weights]));
}

static void find_tokenizer(struct snapshot *s)
{
    if (file_in(s->dir, "tokenizer.json", s->tokenizer_path))
        return;
    if (!file_in(s->dir, "vocab.json", s->vocab_path) ||
        !file_in(s->dir, "merges.txt", s->merges_path))
        s->vocab_path[0] = s->merges_path[0] = '\0';
}

static enum status parse_activation(const char *text, enum activation *out, struct error *err)
{
    if (strcmp(text, "gelu") == 0)
        *out = ACTIVATION_GELU;
    else if (strcmp(text, "quick_gelu") == 0)
        *out = ACTIVATION_QUICK_GELU;
    else if (strcmp(text, "gelu_tanh") == 0)
        *out = ACTIVATION_GELU_TANH;
    else
        return error_set(err, ST_INVALID,
                         "activation \"%.60s\" is none of gelu, quick_gelu and gelu_tanh", text);
    return ST_OK;
}

static enum status infer(struct snapshot *s, const enum activation *activation, struct error *err)
{
    struct weights *weights = NULL;
    enum status st = weights_open(s->weights_path, &weights, err);

    if (st == ST_OK)
        st = snapshot_infer(weights, activation, s, err);
    weights_destroy(&weights);
    return st;
}

static enum status read_configs(struct snapshot *s, const enum activation *activation,
                                struct error *err)
{
    json_t *open_clip = NULL, *config = NULL, *processor = NULL;
    enum status st = read_json(s->dir, "open_clip_config.json", &open_clip, err);

    if (st == ST_OK)
        st = read_json(s->dir, "config.json", &config, err);
    if (st == ST_OK)
        st = read_json(s->dir, "preprocessor_config.json", &processor, err);
    if (open_clip == NULL &&
        (json_object_get(config, "embed_dim") != NULL || snapshot_is_apple_config(config))) {
        open_clip =
            config; /* a flat model_cfg under the other name, as Apple's snapshots have it */
        config = NULL;
    }
    if (st == ST_OK && open_clip != NULL)
        st = snapshot_config_open_clip(open_clip, s, err);
    else if (st == ST_OK && config != NULL)
        st = snapshot_config_transformers(config, processor, s, err);
    else if (st == ST_OK)
        st = infer(s, activation, err);
    json_decref(processor);
    json_decref(config);
    json_decref(open_clip);
    return st;
}

enum status snapshot_read(const char *dir, const char *activation, struct snapshot *out,
                          struct error *err)
{
    bool given = activation != NULL && activation[0] != '\0';
    enum activation value = ACTIVATION_GELU;
    struct stat info;
    enum status st = ST_OK;

    memset(out, 0, sizeof *out);
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(err, ST_NOT_FOUND, "model folder \"%.160s\" does not exist", dir);
    if (snprintf(out->dir, sizeof out->dir, "%s", dir) >= (int)sizeof out->dir)
        return error_set(err, ST_INVALID, "model folder \"%.160s\" has too long a name", dir);
    if (given)
        st = parse_activation(activation, &value, err);
    if (st == ST_OK)
        st = find_weights(out, err);
    if (st == ST_OK)
        st = read_configs(out, given ? &value : NULL, err);
    if (st == ST_OK && given)
        out->vision.shape.activation = out->text.shape.activation =
            out->multimodal.shape.activation = value;
    if (st == ST_OK)
        find_tokenizer(out);
    if (st != ST_OK)
        error_add_context(err, "model \"%s\"", dir);
    return st;
}

const char *snapshot_describe(const struct snapshot *s, char out[SNAPSHOT_DESCRIBE_LEN])
{
    const struct vision_config *v = &s->vision;
    char image[SNAPSHOT_DESCRIBE_LEN / 2];

    if (v->fastvit != NULL)
        (void)snprintf(image, sizeof image, "%s, %d px", v->fastvit->name, v->image_size);
    else
        (void)snprintf(image, sizeof image, "vit %zu x %zu, patch %d, %d px%s", v->shape.n_layers,
                       v->shape.width, v->patch_size, v->image_size,
                       v->naflex_patches != 0 ? " (NaFlex)" : "");
    if (s->family == SNAPSHOT_PALIGEMMA)
        (void)snprintf(out, SNAPSHOT_DESCRIBE_LEN, "%s; gemma %d, %zu x %zu", image,
                       s->decoder.generation, s->decoder.n_layers, s->decoder.width);
    else
        (void)snprintf(out, SNAPSHOT_DESCRIBE_LEN, "%s; text %zu x %zu%s", image,
                       s->text.shape.n_layers, s->text.shape.width,
                       s->text.mixers ? ", 2 mixers" : "");
    return out;
}

static enum status hash_piece(void *ctx, struct bytes_view piece, struct error *err)
{
    (void)err;
    sha256_update(ctx, piece.data, piece.len);
    return ST_OK;
}

static enum status hash_file(struct sha256 *hash, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');

    if (path[0] == '\0')
        return ST_OK;
    sha256_update(hash, slash + 1, strlen(slash + 1) + 1);
    return file_read_pieces(path, hash_piece, hash, err);
}

enum status snapshot_open_weights(const struct snapshot *s, struct weights **out,
                                  char digest[SHA256_HEX_LEN + 1], struct error *err)
{
    struct sha256 *hash = NULL;
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
    for (size_t i = 0; st == ST_OK && i < weights_n_files(*out); i++)
        st = hash_file(hash, weights_file_path(*out, i), err);
    if (st == ST_OK)
        sha256_hex(hash, digest);
    sha256_destroy(&hash);
    if (st != ST_OK) {
        weights_destroy(out);
        error_add_context(err, "model \"%s\"", s->dir);
    }
    return st;
}
