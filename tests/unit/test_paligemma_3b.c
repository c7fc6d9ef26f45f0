/* PaliGemma 2 3B at full size, random weights in bfloat16: 6 GB, which is why it is a slow test
 * (ctest -C slow -R slow.paligemma2_3b). Loads, runs, stays within the estimate of its memory. */
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/models/paligemma.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_TENSORS = 1024,
    MAX_NAME = 120,
    TABLE = 1 << 20,
    ROWS = 4,
    CAPACITY = 300,
    STEPS = 6,
    PREFIX_TEXT = 4,
};

/* As google/paligemma2-3b-pt-224 has it. */
static const char config[] =
    "{\"architectures\": [\"PaliGemmaForConditionalGeneration\"], \"bos_token_id\": 2, "
    "\"eos_token_id\": 1, \"image_token_index\": 257152, \"model_type\": \"paligemma\", "
    "\"text_config\": {\"architectures\": [\"Gemma2ForCausalLM\"], \"hidden_act\": "
    "\"gelu_pytorch_tanh\", \"hidden_size\": 2304, \"intermediate_size\": 9216, \"model_type\": "
    "\"gemma2\", \"num_attention_heads\": 8, \"num_hidden_layers\": 26, \"num_image_tokens\": 256, "
    "\"num_key_value_heads\": 4, \"query_pre_attn_scalar\": 256, \"sliding_window\": 4096, "
    "\"vocab_size\": 257216}, \"vision_config\": {\"hidden_size\": 1152, \"intermediate_size\": "
    "4304, \"model_type\": \"siglip_vision_model\", \"num_attention_heads\": 16, "
    "\"num_hidden_layers\": 27, \"num_image_tokens\": 256, \"patch_size\": 14, "
    "\"vision_use_head\": "
    "false}}";

struct model {
    struct tensor tensors[MAX_TENSORS];
    char names[MAX_TENSORS][MAX_NAME];
    uint16_t table[TABLE];
    size_t n, parameters;
    uint32_t seed;
};

/* Uniform with variance 1 / fan-in; pieces of one table, as drawing six gigabytes takes longer than
 * the test. */
static void add(struct model *m, const char *prefix, const char *name, size_t rank, size_t rows,
                size_t columns, size_t height)
{
    struct tensor *t = &m->tensors[m->n];
    float scale = rank == 1 ? 0.1f : sqrtf(3.0f / (float)(columns * height * height));
    size_t count;
    uint16_t *data;

    assert_true(m->n < MAX_TENSORS);
    (void)snprintf(m->names[m->n], MAX_NAME, "%s%s", prefix, name);
    *t = (struct tensor){.name = m->names[m->n++], .dtype = TENSOR_BF16, .rank = rank};
    t->shape[0] = rows;
    t->shape[1] = columns;
    t->shape[2] = t->shape[3] = height;
    for (size_t i = 0; i < TABLE; i++) {
        float value;
        uint32_t bits;

        m->seed = 1664525u * m->seed + 1013904223u;
        value = scale * ((float)(m->seed >> 8) * 0x1p-23f - 1);
        memcpy(&bits, &value, sizeof bits);
        m->table[i] = (uint16_t)(bits >> 16);
    }
    count = tensor_count(t);
    m->parameters += count;
    data = malloc(count * sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < count; i += TABLE)
        memcpy(data + i, m->table, MIN(count - i, (size_t)TABLE) * sizeof *data);
    t->data = bytes_view_of(data, count * sizeof *data);
}

static void add_vector(struct model *m, const char *prefix, const char *name, size_t n)
{
    add(m, prefix, name, 1, n, 1, 1);
}

static void add_linear(struct model *m, const char *prefix, const char *name, size_t out, size_t in)
{
    char full[MAX_NAME];

    (void)snprintf(full, sizeof full, "%s.weight", name);
    add(m, prefix, full, 2, out, in, 1);
    (void)snprintf(full, sizeof full, "%s.bias", name);
    add_vector(m, prefix, full, out);
}

static void add_vision(struct model *m, const struct vision_config *v)
{
    static const char *const projections[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    static const char tower[] = "vision_tower.vision_model.";
    size_t D = v->shape.width, p = (size_t)v->patch_size, grid = (size_t)v->image_size / p;
    char prefix[MAX_NAME], name[MAX_NAME];

    add(m, tower, "embeddings.patch_embedding.weight", 4, D, 3, p);
    add_vector(m, tower, "embeddings.patch_embedding.bias", D);
    add(m, tower, "embeddings.position_embedding.weight", 2, grid * grid, D, 1);
    add_vector(m, tower, "post_layernorm.weight", D);
    add_vector(m, tower, "post_layernorm.bias", D);
    for (size_t i = 0; i < v->shape.n_layers; i++) {
        (void)snprintf(prefix, sizeof prefix, "%sencoder.layers.%zu.", tower, i);
        for (size_t j = 0; j < ARRAY_LEN(projections); j++) {
            (void)snprintf(name, sizeof name, "self_attn.%s", projections[j]);
            add_linear(m, prefix, name, D, D);
        }
        add_linear(m, prefix, "mlp.fc1", v->shape.mlp_width, D);
        add_linear(m, prefix, "mlp.fc2", D, v->shape.mlp_width);
        add_vector(m, prefix, "layer_norm1.weight", D);
        add_vector(m, prefix, "layer_norm1.bias", D);
        add_vector(m, prefix, "layer_norm2.weight", D);
        add_vector(m, prefix, "layer_norm2.bias", D);
    }
}

static void add_decoder(struct model *m, const struct gemma_config *c)
{
    static const char *const norms[] = {"input_layernorm.weight", "post_attention_layernorm.weight",
                                        "pre_feedforward_layernorm.weight",
                                        "post_feedforward_layernorm.weight"};
    size_t D = c->width, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    char prefix[MAX_NAME];

    add(m, "language_model.model.", "embed_tokens.weight", 2, 257216, D, 1);
    add_vector(m, "language_model.model.", "norm.weight", D);
    for (size_t i = 0; i < c->n_layers; i++) {
        (void)snprintf(prefix, sizeof prefix, "language_model.model.layers.%zu.", i);
        add(m, prefix, "self_attn.q_proj.weight", 2, q, D, 1);
        add(m, prefix, "self_attn.k_proj.weight", 2, kv, D, 1);
        add(m, prefix, "self_attn.v_proj.weight", 2, kv, D, 1);
        add(m, prefix, "self_attn.o_proj.weight", 2, D, q, 1);
        add(m, prefix, "mlp.gate_proj.weight", 2, c->mlp_width, D, 1);
        add(m, prefix, "mlp.up_proj.weight", 2, c->mlp_width, D, 1);
        add(m, prefix, "mlp.down_proj.weight", 2, D, c->mlp_width, 1);
        for (size_t j = 0; j < ARRAY_LEN(norms); j++)
            add_vector(m, prefix, norms[j], D);
    }
}

/* The folder as published, weights aside: those stay in memory. */
static void read_config(struct snapshot *snapshot)
{
    struct temp_folder folder;
    struct error err = {0};
    char path[128];

    temp_folder_init(&folder);
    temp_folder_name(&folder, "config.json", path, sizeof path);
    assert_ok(file_write_atomic(path, bytes_of_string(config), &err));
    temp_folder_name(&folder, "model.safetensors", path, sizeof path);
    assert_ok(file_write_atomic(path, bytes_of_string("not read"), &err));
    assert_ok(snapshot_read(folder.path, NULL, snapshot, &err));
    temp_folder_release(&folder);
}

/* The largest resident size so far. */
static size_t peak_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    size_t bytes = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        uintmax_t kib;

        if (sscanf(line, "VmHWM: %" SCNuMAX, &kib) == 1)
            bytes = (size_t)kib * 1024;
    }
    (void)fclose(file);
    return bytes;
}

static double seconds_since(int64_t begin)
{
    return (double)(clock_monotonic_ns() - begin) * 1e-9;
}

/* Prefix of one image into row 0, from there to the others, and some tokens in all. */
static void run(const struct paligemma *p, struct gemma_decoder *decoder, struct arena *scratch)
{
    static const int32_t text[PREFIX_TEXT] = {2, 16995, 657, 108};
    size_t D = p->gemma.config.width, V = p->gemma.config.vocab_size, n = p->n_image_tokens;
    size_t S = n + PREFIX_TEXT, row[ROWS], position[ROWS];
    float *pixels, *tokens, *x, *logits;
    int32_t token[ROWS];
    struct error err = {0};
    int64_t begin = clock_monotonic_ns();

    assert_ok(arena_alloc(scratch, 3 * 224 * 224 * sizeof *pixels, &pixels, &err));
    assert_ok(arena_alloc(scratch, n * D * sizeof *tokens, &tokens, &err));
    assert_ok(arena_alloc(scratch, S * D * sizeof *x, &x, &err));
    assert_ok(arena_alloc(scratch, ROWS * V * sizeof *logits, &logits, &err));
    for (size_t i = 0; i < 3 * 224 * 224; i++)
        pixels[i] = (float)(i * 7919 % 255) / 127.5f - 1;
    assert_ok(paligemma_encode_image(p, pixels, scratch, tokens, &err));
    print_message("image tower: %.2f s\n", seconds_since(begin));
    assert_ok(paligemma_prefix(p, tokens, text, PREFIX_TEXT, x, &err));
    begin = clock_monotonic_ns();
    assert_ok(gemma_prefill(&p->gemma, x, S, S, &decoder->cache, 0, false, scratch, &err));
    print_message("prefill of %zu tokens: %.2f s\n", S, seconds_since(begin));
    for (size_t i = 0; i < ROWS; i++) {
        row[i] = 1 + i;
        token[i] = 108 + (int32_t)i;
        kv_cache_copy_row(&decoder->cache, 0, row[i], 0, S - 1);
    }
    begin = clock_monotonic_ns();
    for (size_t step = 0; step < STEPS; step++) {
        for (size_t i = 0; i < ROWS; i++)
            position[i] = S - 1 + step;
        gemma_decoder_step(decoder, ROWS, row, position, token, logits);
        assert_true(ops_all_finite(logits, ROWS * V));
        for (size_t i = 0; i < ROWS; i++) {
            token[i] = 0;
            for (size_t v = 1; v < V; v++)
                if (logits[i * V + v] > logits[i * V + (size_t)token[i]])
                    token[i] = (int32_t)v;
        }
    }
    print_message("step of %d rows: %.2f s\n", (int)ROWS, seconds_since(begin) / STEPS);
    for (size_t i = 1; i < ROWS; i++)
        assert_true(token[i] >= 0 && (size_t)token[i] < V);
}

/* PALI 1, 29 and section 13 at full size */
static void paligemma_2_3b_runs_within_the_memory_it_is_said_to_need(void **state)
{
    struct model *m = calloc(1, sizeof *m);
    struct weights *weights = NULL;
    struct snapshot snapshot;
    struct paligemma p;
    struct paligemma_memory memory;
    struct gemma_decoder decoder;
    struct arena arena, scratch;
    struct error err = {0};
    size_t before, used, estimate;
    int64_t begin = clock_monotonic_ns();

    (void)state;
    assert_non_null(m);
    assert_ok(gemm_init(&err));
    read_config(&snapshot);
    m->seed = 7;
    memset(m->table, 0, sizeof m->table);
    before = peak_bytes();
    add_vision(m, &snapshot.vision);
    add_decoder(m, &snapshot.decoder);
    add_linear(m, "", "multi_modal_projector.linear", snapshot.decoder.width,
               snapshot.vision.shape.width);
    print_message("%zu parameters made: %.1f s\n", m->parameters, seconds_since(begin));
    assert_int_equal(m->parameters - (257216 - 257152) * snapshot.decoder.width, 3032094960);
    assert_int_equal(paligemma_n_parameters(&snapshot), 3032094960);
    begin = clock_monotonic_ns();
    assert_ok(weights_create(m->tensors, m->n, &weights, &err));
    assert_ok(paligemma_load(&snapshot, weights, &p, &err));
    print_message("loaded: %.1f s\n", seconds_since(begin));
    paligemma_memory(&snapshot, weights, 1 + ROWS, CAPACITY, &memory);
    estimate = memory.weights + memory.cache + memory.activations;
    arena_init(&arena, memory.cache + (1 << 20));
    arena_init(&scratch, (size_t)4 << 30);
    assert_ok(gemma_decoder_init(&decoder, &p.gemma, 1 + ROWS, CAPACITY, &arena, &err));
    run(&p, &decoder, &scratch);
    used = peak_bytes() - before;
    print_message("memory: %.2f GB, estimated %.2f (weights %.2f, cache %.2f, activations %.2f)\n",
                  (double)used / 1e9, (double)estimate / 1e9, (double)memory.weights / 1e9,
                  (double)memory.cache / 1e9, (double)memory.activations / 1e9);
    assert_true((double)used < 1.1 * (double)estimate && (double)used > 0.9 * (double)estimate);
    arena_release(&arena);
    arena_release(&scratch);
    paligemma_release(&p);
    weights_destroy(&weights);
    for (size_t i = 0; i < m->n; i++) {
        union {
            const uint8_t *in;
            void *out;
        } cast = {.in = m->tensors[i].data.data};

        free(cast.out);
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paligemma_2_3b_runs_within_the_memory_it_is_said_to_need),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
