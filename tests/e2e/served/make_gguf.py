"""Tiny random models as llama.cpp's server reads them: a LLaVA (language model and image projector) and a text embedder.

Needs the packages gguf and numpy. Usage: make_gguf.py FOLDER -> FOLDER/{language,vision,embedder}.gguf
"""
import pathlib
import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN = 64, 2, 4, 128
IMAGE, PATCH = 56, 14
WORDS = "a the cat dog sits runs on grass photo of red blue small large house tree and in near".split()


def vocabulary():
    """SentencePiece style: special tokens, bytes, words and letters with their space."""
    tokens = [("<unk>", 0.0, gguf.TokenType.UNKNOWN), ("<s>", 0.0, gguf.TokenType.CONTROL), ("</s>", 0.0, gguf.TokenType.CONTROL)]
    tokens += [(f"<0x{i:02X}>", 0.0, gguf.TokenType.BYTE) for i in range(256)]
    pieces = ["\u2581" + w for w in WORDS] + ["\u2581"] + [chr(c) for c in range(33, 127)]
    return tokens + [(p, -float(i), gguf.TokenType.NORMAL) for i, p in enumerate(pieces)]


def write_language(path, seed, embeds):
    rng = np.random.default_rng(seed)
    tokens = vocabulary()
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("tiny")
    w.add_context_length(1024)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(HIDDEN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    if embeds:
        w.add_pooling_type(gguf.PoolingType.MEAN)
    w.add_tokenizer_model("llama")
    w.add_token_list([t[0] for t in tokens])
    w.add_token_scores([t[1] for t in tokens])
    w.add_token_types([t[2] for t in tokens])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_chat_template("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:")

    def add(name, *shape):
        scale = 1.0 if len(shape) == 1 else 1.5 / shape[-1] ** 0.5
        values = np.ones(shape) if len(shape) == 1 else rng.normal(0, scale, shape)
        w.add_tensor(name + ".weight", values.astype(np.float32))

    add("token_embd", len(tokens), WIDTH)
    add("output_norm", WIDTH)
    # Words are likelier than the control tokens and the bytes, so that captions are text and have some length.
    output = rng.normal(0, 1.5 / WIDTH**0.5, (len(tokens), WIDTH))
    output[: 3 + 256] *= 0.05
    w.add_tensor("output.weight", output.astype(np.float32))
    for i in range(LAYERS):
        add(f"blk.{i}.attn_norm", WIDTH)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{i}.{name}", WIDTH, WIDTH)
        add(f"blk.{i}.ffn_norm", WIDTH)
        add(f"blk.{i}.ffn_gate", HIDDEN, WIDTH)
        add(f"blk.{i}.ffn_up", HIDDEN, WIDTH)
        add(f"blk.{i}.ffn_down", WIDTH, HIDDEN)
    finish(w)


def write_vision(path, seed):
    rng = np.random.default_rng(seed)
    w = gguf.GGUFWriter(path, "clip")
    w.add_clip_has_vision_encoder(True)
    w.add_clip_projector_type("mlp")
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_vision_image_size(IMAGE)
    w.add_vision_patch_size(PATCH)
    w.add_vision_embedding_length(WIDTH)
    w.add_vision_feed_forward_length(HIDDEN)
    w.add_vision_block_count(LAYERS)
    w.add_vision_head_count(HEADS)
    w.add_vision_projection_dim(WIDTH)
    w.add_vision_attention_layernorm_eps(1e-5)
    w.add_vision_image_mean([0.48145466, 0.4578275, 0.40821073])
    w.add_vision_image_std([0.26862954, 0.26130258, 0.27577711])
    w.add_vision_use_gelu(True)

    def add(name, *shape):
        w.add_tensor(name, rng.normal(0, 1.5 / shape[-1] ** 0.5, shape).astype(np.float32))

    def layer(name, rows, columns):
        add(name + ".weight", rows, columns)
        w.add_tensor(name + ".bias", np.zeros(rows, np.float32))

    def norm(name):
        w.add_tensor(name + ".weight", np.ones(WIDTH, np.float32))
        w.add_tensor(name + ".bias", np.zeros(WIDTH, np.float32))

    w.add_tensor("v.patch_embd.weight", rng.normal(0, 0.05, (WIDTH, 3, PATCH, PATCH)).astype(np.float32))
    w.add_tensor("v.class_embd", rng.normal(0, 1, WIDTH).astype(np.float32))
    add("v.position_embd.weight", (IMAGE // PATCH) ** 2 + 1, WIDTH)
    norm("v.pre_ln")
    norm("v.post_ln")
    for i in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            layer(f"v.blk.{i}.{name}", WIDTH, WIDTH)
        norm(f"v.blk.{i}.ln1")
        norm(f"v.blk.{i}.ln2")
        layer(f"v.blk.{i}.ffn_up", HIDDEN, WIDTH)
        layer(f"v.blk.{i}.ffn_down", WIDTH, HIDDEN)
    layer("mm.0", WIDTH, WIDTH)
    layer("mm.2", WIDTH, WIDTH)
    finish(w)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_language(folder / "language.gguf", 1, embeds=False)
    write_vision(folder / "vision.gguf", 2)
    write_language(folder / "embedder.gguf", 3, embeds=True)


if __name__ == "__main__":
    main()
