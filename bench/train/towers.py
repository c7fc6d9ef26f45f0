"""The published architectures in plain PyTorch, small: parameters carry the published names, so that a state_dict is a
checkpoint. Works with torch 1.13 and later.

Clip, Coca: open_clip's layout. Siglip: transformers' SigLIP 2, fixed resolution. PaliGemma2: transformers' layout of the
hub's files (language_model.model., vision_tower.vision_model.).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def attend(q, k, v, n_heads, mask=None, cap=None, scale=None):
    """q [B, N, H*d], k and v [B, M, H*d]; mask bool broadcast to [B, H, N, M], True: seen."""
    q, k, v = (t.unflatten(-1, (n_heads, -1)).transpose(1, 2) for t in (q, k, v))
    scores = (q @ k.transpose(-1, -2)).float() * (scale or q.shape[-1] ** -0.5)
    if cap:
        scores = torch.tanh(scores / cap) * cap
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30)
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def causal(n, device=None):
    return torch.ones(n, n, dtype=torch.bool, device=device).tril()


def some(x, share):
    """A random share of each row's tokens: x [B, N, W] -> [B, share N, W]. Images are learned faster so (FLIP,
    arXiv:2212.00794)."""
    kept = torch.rand(x.shape[:2]).argsort(1)[:, :max(1, round(share * x.shape[1]))]
    return x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


# --- open_clip ---


class Attention(nn.Module):
    """torch's MultiheadAttention, with its names."""

    def __init__(self, width, n_heads, kv_width=None):
        super().__init__()
        self.n_heads = n_heads
        if kv_width is None:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
            nn.init.xavier_uniform_(self.in_proj_weight)
        else:
            for name, n_in in (("q", width), ("k", kv_width), ("v", kv_width)):
                weight = nn.Parameter(torch.empty(width, n_in))
                nn.init.xavier_uniform_(weight)
                self.register_parameter(f"{name}_proj_weight", weight)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, q, kv=None, mask=None):
        bias = self.in_proj_bias.chunk(3)
        if hasattr(self, "in_proj_weight"):
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        kv = q if kv is None else kv
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((q, kv, kv), weights, bias))
        return self.out_proj(attend(q, k, v, self.n_heads, mask))


class Mlp(nn.Module):
    def __init__(self, width, hidden, activation):
        super().__init__()
        self.c_fc, self.act, self.c_proj = nn.Linear(width, hidden), activation(), nn.Linear(hidden, width)

    def forward(self, x):
        return self.c_proj(self.act(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width, n_heads, activation=nn.GELU, cross=False):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        if cross:
            self.ln_1_kv = nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, n_heads), Mlp(width, 4 * width, activation)

    def forward(self, x, kv=None, mask=None):
        x = x + self.attn(self.ln_1(x), None if kv is None else self.ln_1_kv(kv), mask)
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, width, n_layers, n_heads, activation=nn.GELU):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, n_heads, activation) for _ in range(n_layers))

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask=mask)
        return x


class Pooler(nn.Module):
    """CoCa's attentional pooler."""

    def __init__(self, width, kv_width, n_heads, n_queries):
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_queries, width))
        self.attn = Attention(width, n_heads, kv_width if kv_width != width else None)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(kv_width)

    def forward(self, x):
        q = self.ln_q(self.query).expand(x.shape[0], -1, -1)
        return self.attn(q, self.ln_k(x))


class Vision(nn.Module):
    def __init__(self, image_size, patch_size, width, layers, head_width, embed_dim, activation=nn.GELU, pooler=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width ** -0.5)
        self.positional_embedding = nn.Parameter(torch.randn((image_size // patch_size) ** 2 + 1, width) * width ** -0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Blocks(width, layers, width // head_width, activation)
        out = width
        if pooler:
            self.attn_pool = Pooler(embed_dim, width, pooler["heads"], pooler["queries"])
            out = embed_dim
        self.ln_post = nn.LayerNorm(out)
        self.proj = nn.Parameter(torch.randn(out, embed_dim) * out ** -0.5)
        self.share = 1.0

    def forward(self, images):
        """[B, 3, S, S] -> latent [B, E] and, with a pooler, tokens [B, queries - 1, E]."""
        x = self.conv1(images).flatten(2).transpose(1, 2) + self.positional_embedding[1:]
        if self.share < 1:
            x = some(x, self.share)
        first = (self.class_embedding + self.positional_embedding[0]).expand(x.shape[0], 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([first.to(x.dtype), x], 1)))
        if hasattr(self, "attn_pool"):
            x = self.ln_post(self.attn_pool(x).float())
            return x[:, 0] @ self.proj, x[:, 1:]
        return self.ln_post(x[:, 0]) @ self.proj


class Clip(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        v, t = cfg["vision_cfg"], cfg["text_cfg"]
        activation = QuickGELU if cfg.get("quick_gelu") else nn.GELU
        self.visual = Vision(v["image_size"], v["patch_size"], v["width"], v["layers"], v["head_width"],
                             cfg["embed_dim"], activation)
        self.token_embedding = nn.Embedding(t["vocab_size"], t["width"])
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(torch.randn(t["context_length"], t["width"]) * 0.01)
        self.transformer = Blocks(t["width"], t["layers"], t["heads"], activation)
        self.ln_final = nn.LayerNorm(t["width"])
        self.text_projection = nn.Parameter(torch.randn(t["width"], cfg["embed_dim"]) * t["width"] ** -0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images):
        return self.visual(images)

    def encode_text(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding[:ids.shape[1]]
        x = self.ln_final(self.transformer(x, causal(ids.shape[1], ids.device)))
        return x[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection


class CocaText(nn.Module):
    """CoCa's text tower. The class token behind the text sees a token if the one before it is no padding: open_clip's mask
    is one place off, and the published weights were trained with it."""

    def __init__(self, t, embed_dim):
        super().__init__()
        self.token_embedding = nn.Embedding(t["vocab_size"], t["width"])
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(torch.randn(t["context_length"] + 1, t["width"]) * 0.01)
        self.cls_emb = nn.Parameter(torch.randn(t["width"]) * 0.01)
        self.transformer = Blocks(t["width"], t["layers"], t["heads"])
        self.ln_final = nn.LayerNorm(t["width"])
        self.text_projection = nn.Parameter(torch.randn(t["width"], embed_dim) * t["width"] ** -0.5)

    def forward(self, ids):
        """[B, N] -> latent [B, E], tokens [B, N, W]."""
        n = ids.shape[1]
        x = torch.cat([self.token_embedding(ids), self.cls_emb.expand(len(ids), 1, -1)], 1)
        x = x + self.positional_embedding[:n + 1]
        mask = causal(n + 1, ids.device).repeat(len(ids), 1, 1)
        mask[:, n, 1:] &= ids != 0
        x = self.transformer(x, mask[:, None])
        return self.ln_final(x[:, n]) @ self.text_projection, x[:, :n]


class CocaDecoder(nn.Module):
    def __init__(self, t, embed_dim):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(t["width"], t["heads"]) for _ in range(t["layers"]))
        self.cross_attn = nn.ModuleList(Block(t["width"], t["heads"], cross=True) for _ in range(t["layers"]))
        self.ln_final = nn.LayerNorm(t["width"])
        self.text_projection = nn.Parameter(torch.randn(t["width"], t["vocab_size"]) * t["width"] ** -0.5)

    def forward(self, image_tokens, x):
        mask = causal(x.shape[1], x.device)
        for block, cross in zip(self.resblocks, self.cross_attn):
            x = cross(block(x, mask=mask), image_tokens)
        return self.ln_final(x) @ self.text_projection


class Coca(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        v = cfg["vision_cfg"]
        self.visual = Vision(v["image_size"], v["patch_size"], v["width"], v["layers"], v["head_width"], cfg["embed_dim"],
                             pooler={"heads": v["attn_pooler_heads"], "queries": v["attn_pooler_queries"]})
        self.text = CocaText(cfg["text_cfg"], cfg["embed_dim"])
        self.text_decoder = CocaDecoder(cfg["multimodal_cfg"], cfg["embed_dim"])
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images, ids):
        """ids [B, context]: latents of image and text, logits of each token but the first."""
        image, image_tokens = self.visual(images)
        text, tokens = self.text(ids)
        return image, text, self.text_decoder(image_tokens, tokens[:, :-1])

    def encode_image(self, images):
        return self.visual(images)[0]

    def encode_text(self, ids):
        return self.text(ids)[0]


# --- transformers: SigLIP and PaliGemma 2 ---


class SelfAttention(nn.Module):
    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        return self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.n_heads))


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class SiglipLayer(nn.Module):
    def __init__(self, width, hidden, n_heads):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.self_attn, self.mlp = SelfAttention(width, n_heads), FeedForward(width, hidden)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.ModuleList(SiglipLayer(cfg["hidden_size"], cfg["intermediate_size"], cfg["num_attention_heads"])
                                    for _ in range(cfg["num_hidden_layers"]))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class MapHead(nn.Module):
    """Multi-head attention pooling: one learned query over the tokens."""

    def __init__(self, width, hidden, n_heads):
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, width) * width ** -0.5)
        self.attention = Attention(width, n_heads)
        self.layernorm, self.mlp = nn.LayerNorm(width, 1e-6), FeedForward(width, hidden)

    def forward(self, x):
        y = self.attention(self.probe.expand(len(x), -1, -1).to(x.dtype), x)
        y = y.float()
        return (y + self.mlp(self.layernorm(y)))[:, 0]


class SiglipVision(nn.Module):
    def __init__(self, cfg, head=True):
        super().__init__()
        width, patch = cfg["hidden_size"], cfg["patch_size"]
        self.embeddings = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, width, patch, patch)
        self.embeddings.position_embedding = nn.Embedding((cfg["image_size"] // patch) ** 2, width)
        nn.init.normal_(self.embeddings.position_embedding.weight, std=width ** -0.5)
        self.encoder = Encoder(cfg)
        self.post_layernorm = nn.LayerNorm(width, 1e-6)
        self.head = MapHead(width, cfg["intermediate_size"], cfg["num_attention_heads"]) if head else None
        self.share = 1.0

    def forward(self, images):
        x = self.embeddings.patch_embedding(images).flatten(2).transpose(1, 2) + self.embeddings.position_embedding.weight
        if self.share < 1:
            x = some(x, self.share)
        x = self.post_layernorm(self.encoder(x))
        return self.head(x) if self.head else x


class SiglipText(nn.Module):
    """No mask at all: padding is text to it. The last position is the text's."""

    def __init__(self, cfg):
        super().__init__()
        width = cfg["hidden_size"]
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(cfg["vocab_size"], width)
        self.embeddings.position_embedding = nn.Embedding(cfg["max_position_embeddings"], width)
        nn.init.normal_(self.embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(self.embeddings.position_embedding.weight, std=0.02)
        self.encoder = Encoder(cfg)
        self.final_layer_norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, cfg["projection_size"])

    def forward(self, ids):
        x = self.embeddings.token_embedding(ids) + self.embeddings.position_embedding.weight
        return self.head(self.final_layer_norm(self.encoder(x))[:, -1])


class Siglip(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.vision_model, self.text_model = SiglipVision(cfg["vision_config"]), SiglipText(cfg["text_config"])
        self.logit_scale = nn.Parameter(torch.tensor([math.log(10.)]))
        self.logit_bias = nn.Parameter(torch.tensor([-10.]))

    def encode_image(self, images):
        return self.vision_model(images)

    def encode_text(self, ids):
        return self.text_model(ids)


class GemmaNorm(nn.Module):
    """RMSNorm with gain 1 + weight."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


def rotate(x, n_heads, base=10000.):
    """Rotary positions 0.. over pairs (i, i + d/2)."""
    x = x.unflatten(-1, (n_heads, -1))
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[1])[:, None] * base ** (-torch.arange(half) / half)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).flatten(2)


class GemmaLayer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        width, hidden, d = cfg["hidden_size"], cfg["intermediate_size"], cfg["head_dim"]
        self.n_heads, self.n_kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        self.cap, self.scale = cfg["attn_logit_softcapping"], cfg["query_pre_attn_scalar"] ** -0.5
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            setattr(self, f"{norm}_layernorm", GemmaNorm(width))
        self.self_attn = nn.Module()
        self.self_attn.q_proj = nn.Linear(width, self.n_heads * d, bias=False)
        self.self_attn.k_proj = nn.Linear(width, self.n_kv * d, bias=False)
        self.self_attn.v_proj = nn.Linear(width, self.n_kv * d, bias=False)
        self.self_attn.o_proj = nn.Linear(self.n_heads * d, width, bias=False)
        self.mlp = nn.Module()
        self.mlp.gate_proj = nn.Linear(width, hidden, bias=False)
        self.mlp.up_proj = nn.Linear(width, hidden, bias=False)
        self.mlp.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x, mask):
        h, a = self.input_layernorm(x), self.self_attn
        q, k = rotate(a.q_proj(h), self.n_heads), rotate(a.k_proj(h), self.n_kv)
        shared = self.n_heads // self.n_kv
        k, v = (t.unflatten(-1, (self.n_kv, -1)).repeat_interleave(shared, 2).flatten(2) for t in (k, a.v_proj(h)))
        x = x + self.post_attention_layernorm(a.o_proj(attend(q, k.to(q.dtype), v, self.n_heads, mask, self.cap, self.scale)))
        h, m = self.pre_feedforward_layernorm(x), self.mlp
        return x + self.post_feedforward_layernorm(m.down_proj(F.gelu(m.gate_proj(h), approximate="tanh") * m.up_proj(h)))


class PaliGemma2(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        t = cfg["text_config"]
        self.cap = t["final_logit_softcapping"]
        self.vision_tower = nn.Module()
        self.vision_tower.vision_model = SiglipVision(cfg["vision_config"], head=False)
        self.multi_modal_projector = nn.Module()
        self.multi_modal_projector.linear = nn.Linear(cfg["vision_config"]["hidden_size"], t["hidden_size"])
        self.language_model = nn.Module()
        self.language_model.model = nn.Module()
        self.language_model.model.embed_tokens = nn.Embedding(t["vocab_size"], t["hidden_size"])
        nn.init.normal_(self.language_model.model.embed_tokens.weight, std=0.02)
        self.language_model.model.layers = nn.ModuleList(GemmaLayer(t) for _ in range(t["num_hidden_layers"]))
        self.language_model.model.norm = GemmaNorm(t["hidden_size"])

    def forward(self, tokens, ids, n_prefix):
        """tokens [B, T, W]: the image tower's; ids [B, N]: prompt (n_prefix[b] tokens), then the answer. Returns the last
        layer's [B, N, D] of the ids, for logits()."""
        m = self.language_model.model
        rows = self.multi_modal_projector.linear(tokens)
        x = torch.cat([rows.float(), m.embed_tokens(ids).float() * m.embed_tokens.weight.shape[1] ** 0.5], 1)
        n = x.shape[1]
        seen = torch.arange(n)[None] < (rows.shape[1] + n_prefix)[:, None]
        mask = (causal(n)[None] | seen[:, None, :])[:, None]
        for layer in m.layers:
            x = layer(x, mask)
        return x[:, rows.shape[1]:]

    def logits(self, x):
        """[..., D] -> [..., vocabulary]: of the next token."""
        m = self.language_model.model
        return torch.tanh(m.norm(x) @ m.embed_tokens.weight.T / self.cap) * self.cap
