"""PaliGemma 2 3B of transformers in bfloat16, of the shapes and with the measures of bench_paligemma.

    python3 bench/bench_paligemma.py [--rounds 3] [--threads 2] [--steps 4]

Random weights, 7 GB; packages: torch, transformers. Prints the median seconds for one image (tower
and prefill of 260 tokens) and for a caption's share of 30 steps of 8 rows, on the clock and of
processor time divided by the threads. Run bench_paligemma before and after it: both at once would
take 13 GB and each other's processors.
"""
import argparse
import statistics
import time

import torch
from transformers import DynamicCache, PaliGemmaConfig, PaliGemmaForConditionalGeneration

TOKENS, BATCH, PREFIX = 30, 8, 260


def make_model():
    config = PaliGemmaConfig(
        vision_config={"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                       "num_attention_heads": 16, "patch_size": 14, "image_size": 224,
                       "projection_dim": 2304, "model_type": "siglip_vision_model",
                       "vision_use_head": False, "num_image_tokens": 256},
        text_config={"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216,
                     "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
                     "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096,
                     "vocab_size": 257216, "num_image_tokens": 256},
        image_token_index=257152, projection_dim=2304, hidden_size=2304, vocab_size=257216)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.03, 0.03)
        for module in model.modules():  # what to_empty() leaves undefined
            if hasattr(module, "position_ids"):
                module.position_ids = torch.arange(module.position_ids.shape[-1])[None]
            if hasattr(module, "inv_freq"):
                dim = module.inv_freq.shape[0] * 2
                module.inv_freq = 1 / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    return model.eval()


def timed(work):
    clock, processor = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - clock, (time.process_time() - processor) / torch.get_num_threads()


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = make_model()
    ids = torch.tensor([[257152] * 256 + [2, 16995, 657, 108]])
    pixels = torch.rand(1, 3, 224, 224, dtype=torch.bfloat16) * 2 - 1
    mask = torch.ones_like(ids)

    def image():
        model(input_ids=ids, pixel_values=pixels, attention_mask=mask, use_cache=True,
              past_key_values=DynamicCache(), logits_to_keep=1,
              cache_position=torch.arange(PREFIX))

    def decode():
        cache = DynamicCache()
        for layer in range(26):
            shape = (BATCH, 4, PREFIX, 256)
            cache.update(torch.rand(shape) - 0.5, torch.rand(shape) - 0.5, layer)
        for step in range(args.steps):
            model.language_model(input_ids=torch.full((BATCH, 1), 500 + step),
                                 past_key_values=cache, use_cache=True,
                                 cache_position=torch.tensor([PREFIX + step]),
                                 position_ids=torch.full((BATCH, 1), PREFIX + step))

    images, steps = [], []
    for _ in range(args.rounds):
        images.append(timed(image))
        steps.append(timed(decode))
    for i, what in enumerate(("clock", "processor")):
        each = statistics.median(t[i] for t in images)
        decoding = statistics.median(t[i] for t in steps) / args.steps * TOKENS / BATCH
        print(f"torch  {what:9} image {each:.2f} s, decoding {decoding:.2f}, "
              f"a caption {each + decoding:.2f}")


if __name__ == "__main__":
    main()
