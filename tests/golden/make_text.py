#!/usr/bin/env python3
"""Golden files of the tokenizers and of caption cleaning. Run by hand when a case is added.

Needs pip packages: tokenizers 0.21, ftfy 6.3, open_clip_torch 2.31 (for its cleaning functions).

Reads  text_parts.json       what random texts are made of
Writes text_clip.json        a small tokenizer.json in the shape of CLIP's
       text_gemma.json       one in the shape of Gemma's
       text_clip.sums        per random text two little-endian uint32: FNV-1a of the ids (int32,
       text_gemma.sums       little-endian), FNV-1a of the decoded UTF-8
       text_kinds.jsonl      one-line tokenizers of every kind of part, with texts, ids and decoded text
       text_clean.jsonl      [bytes in hex, cleaned] by open_clip and ftfy, mojibake repair off

With --real DIR, where tests/integration/fetch_*.sh have put the published vocabularies (and transformers 4.49):
Writes text_real.jsonl       texts with ids by open_clip, transformers' CLIP and the two Gemma tokenizers

Training breaks ties anew each time, so tokenizers and sums are always written together.
A failing text of the sums is shown by:  make_text.py --show INDEX
"""
import base64
import html
import html.entities
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
PARTS = json.loads((HERE / "text_parts.json").read_text())
WORDS = [w for s in PARTS["sentences"] for w in s.split(" ")]
N_TEXTS = 20000


class SplitMix64:
    """Steele et al. 2014; tests/unit/test_tokenizer.c has the same."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) % n


def random_part(rng: SplitMix64) -> bytes:
    kind = rng.below(16)
    if kind <= 6:
        return WORDS[rng.below(len(WORDS))].encode()
    if kind == 7:
        return bytes(b - 32 if 97 <= b <= 122 else b for b in WORDS[rng.below(len(WORDS))].encode())
    if kind == 8:
        return PARTS["symbols"][rng.below(len(PARTS["symbols"]))].encode()
    if kind == 9:
        return bytes(33 + rng.below(32) for _ in range(1 + rng.below(6)))
    if kind == 10:
        return PARTS["contractions"][rng.below(len(PARTS["contractions"]))].encode()
    if kind == 11:
        return PARTS["spaces"][rng.below(len(PARTS["spaces"]))].encode()
    if kind == 12:
        return PARTS["specials"][rng.below(len(PARTS["specials"]))].encode()
    if kind == 13:
        low, high = PARTS["ranges"][rng.below(len(PARTS["ranges"]))]
        return chr(low + rng.below(high - low + 1)).encode()
    if kind == 14:
        return bytes(128 + rng.below(128) for _ in range(1 + rng.below(4)))
    word = WORDS[rng.below(len(WORDS))].encode()
    return word[: 1 + rng.below(len(word))]


def random_text(index: int) -> bytes:
    rng = SplitMix64(index)
    text = b""
    for _ in range(1 + rng.below(10)):
        text += random_part(rng)
        if rng.below(4) > 0:
            text += b" "
    return text


def fnv1a(data: bytes) -> int:
    h = 0x811C9DC5
    for b in data:
        h = ((h ^ b) * 0x01000193) & 0xFFFFFFFF
    return h


def save(name: str, tokenizer: dict) -> None:
    (HERE / name).write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")


def training_text() -> list:
    return [s for s in PARTS["sentences"] for _ in range(3)] + [
        random_text(10**6 + i).decode("utf-8", "replace") for i in range(3000)]


def make_clip() -> dict:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tok = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tok.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=2000, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>", show_progress=False))
    made = json.loads(tok.to_str())
    # CLIP's numbering: bytes, bytes at a word's end, merges, the two special tokens
    alphabet = [chr(b) for b in range(256) if chr(b) in made["model"]["vocab"]]
    alphabet += sorted(c for c in pre_tokenizers.ByteLevel.alphabet() if ord(c) > 255)
    vocab = {t: i for i, t in enumerate(alphabet + [t + "</w>" for t in alphabet])}
    for a, b in made["model"]["merges"]:
        vocab[a + b] = len(vocab)
    start, end = len(vocab), len(vocab) + 1
    vocab["<|startoftext|>"], vocab["<|endoftext|>"] = start, end
    made["model"]["vocab"] = vocab
    made["added_tokens"] = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": n, "special": True}
        for i, t, n in ((start, "<|startoftext|>", True), (end, "<|endoftext|>", False))]
    made["post_processor"] = {"type": "RobertaProcessing", "sep": ["<|endoftext|>", end],
                              "cls": ["<|startoftext|>", start], "trim_offsets": False, "add_prefix_space": False}
    return made


def make_gemma() -> dict:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # only to train on words
    tok.train_from_iterator(PARTS["sentences"] * 3, trainers.BpeTrainer(vocab_size=1400, show_progress=False))
    trained = json.loads(tok.to_str())["model"]
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    more = ["<h1>", "</h1>", "<loc0042>", "\n", "\n\n", "\t", "▁▁", "▁▁▁"]
    vocab = {t: i for i, t in enumerate(specials + more + [f"<0x{b:02X}>" for b in range(256)])}
    for token in sorted(trained["vocab"], key=trained["vocab"].get):
        vocab.setdefault(token, len(vocab))
    added = [{"id": vocab[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": t in specials} for t in specials + more]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": trained["merges"]}}


def make_sums(name: str, word_end: str) -> None:
    from tokenizers import Tokenizer

    tok = Tokenizer.from_file(str(HERE / f"{name}.json"))
    out = b""
    for i in range(N_TEXTS):
        tok.encode_special_tokens = i % 2 == 1  # odd ones: special tokens in the text are text
        ids = tok.encode(random_text(i).decode("utf-8", "replace")).ids
        text = tok.decode(ids, skip_special_tokens=True)
        if word_end:
            text = text.replace(word_end, " ")
        out += struct.pack("<II", fnv1a(struct.pack(f"<{len(ids)}i", *ids)), fnv1a(text.encode()))
    (HERE / f"{name}.sums").write_bytes(out)


def compile_charsmap(rules: dict) -> str:
    """A double array over the rules' bytes, as SentencePiece compiles them (darts-clone), and the replacements."""
    texts, positions = b"", {}
    for key in sorted(rules):
        positions[key.encode()] = len(texts)
        texts += rules[key].encode() + b"\0"
    units, taken = {0: 0}, {0}

    def place(index: int, prefix: bytes) -> None:
        leaf = prefix in positions
        labels = sorted({k[len(prefix)] for k in positions if k.startswith(prefix) and len(k) > len(prefix)})
        offset = next(o for o in range(1, 1 << 21) if all((index ^ o ^ c) not in taken for c in labels + [0] * leaf))
        units[index] |= offset << 10 | leaf << 8
        children = [index ^ offset ^ c for c in labels]
        taken.update(children)
        if leaf:
            taken.add(index ^ offset)
            units[index ^ offset] = 1 << 31 | positions[prefix]
        for child, label in zip(children, labels):
            units[child] = label
        for child, label in zip(children, labels):
            place(child, prefix + bytes([label]))

    place(0, b"")
    n = (max(units) | 255) + 1
    array = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(n))
    return base64.b64encode(struct.pack("<I", len(array)) + array + texts).decode()


def kinds() -> list:
    """(what, changes to a tokenizer.json) for every kind of part that the reader knows."""
    def one(key, value):
        return {key: value}

    def split(pattern, behavior, invert=False):
        return one("pre_tokenizer", {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert})

    def added(**how):
        token = {"id": None, "content": "ab", "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": True, "special": False}
        token.update(how)
        return token

    def chain(*steps):
        return {"type": "Sequence", "decoders": list(steps)}

    out = [("plain", {})]
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        out.append((f"normalizer {form}", one("normalizer", {"type": form})))
    for left, right in ((True, False), (False, True), (True, True)):
        out.append((f"strip {left} {right}", one("normalizer", {"type": "Strip", "strip_left": left, "strip_right": right})))
    out += [
        ("prepend", one("normalizer", {"type": "Prepend", "prepend": "▁"})),
        ("replace string", one("normalizer", {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"})),
        ("replace by nothing", one("normalizer", {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": ""})),
        ("replace empty matches", one("normalizer", {"type": "Replace", "pattern": {"Regex": "b*"}, "content": "_"})),
        ("normalizer sequence", one("normalizer", {"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "NFD"},
            {"type": "Replace", "pattern": {"Regex": r"\p{Mn}"}, "content": ""}, {"type": "Lowercase"},
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})),
    ]
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            out.append((f"split - {behavior} {invert}", split({"String": "-"}, behavior, invert)))
            out.append((f"split \\s {behavior} {invert}", split({"Regex": r"\s"}, behavior, invert)))
            out.append((f"split words {behavior} {invert}", split({"Regex": r"\p{L}+|\p{N}"}, behavior, invert)))
    for pattern in (r"\w+", r"\W+", r"\d+", r"\D", r"\s+", r"\S+", r"[^\s\w]+", r"\bab", r"b\B", r"\h+", r"\p{Lu}+", r"\p{^L}",
                    r"\P{L}+", r"(?i)ab", r"(?i:AB)c", r"^a", r"b$", r"a.", r"(?m:a.)", r"(?=b)", r"a(?!b)", r"(?<=a)b", r"a{1,2}",
                    r"a{,2}b", r"\p{Han}+", r"\p{Letter}+", r"\p{Alpha}", r"[\x41-\x5A]+", r"\x{65E5}", r"(?>a+)b",
                    r"a++", r"\R", r"[]a]", r"\u0041", r"\p{Greek}+", r"\p{Hiragana}"):
        out.append((f"regex {pattern}", split({"Regex": pattern}, "Isolated")))
    for prefix in (True, False):
        for use in (True, False):
            out.append((f"byte level {prefix} {use}", {
                "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use},
                "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}))
    for scheme in ("always", "first", "never"):
        for do_split in (True, False):
            space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": do_split}
            out.append((f"metaspace {scheme} {do_split}", {"pre_tokenizer": space, "decoder": space}))
    out += [
        ("metaspace first, added", {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
                                    "added_tokens": [added(content="-")]}),
        ("whitespace", one("pre_tokenizer", {"type": "Whitespace"})),
        ("pre-tokenizer sequence", one("pre_tokenizer", {"type": "Sequence", "pretokenizers": [
            {"type": "Whitespace"}, {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]})),
        ("fuse_unk", one("model", {"fuse_unk": True})),
        ("no unk", one("model", {"unk_token": None})),
        ("byte fallback", one("model", {"byte_fallback": True})),
        ("byte fallback of part", one("model", {"byte_fallback": True, "without": ["<0xC3>"]})),
        ("byte fallback of part, fused", one("model", {"byte_fallback": True, "fuse_unk": True, "without": ["<0xC3>"]})),
        ("ignore_merges", one("model", {"ignore_merges": True, "merges": []})),
        ("suffix", one("model", {"end_of_word_suffix": "</w>"})),
        ("prefix", one("model", {"continuing_subword_prefix": "##"})),
        ("string merges", one("model", {"string_merges": True})),
        ("added", one("added_tokens", [added()])),
        ("added special", one("added_tokens", [added(special=True)])),
        ("added raw", {"normalizer": {"type": "Lowercase"}, "added_tokens": [added(content="AB", normalized=False)]}),
        ("added normalized", {"normalizer": {"type": "Lowercase"}, "added_tokens": [added(content="AB")]}),
        ("added word", one("added_tokens", [added(single_word=True)])),
        ("added lstrip", one("added_tokens", [added(lstrip=True)])),
        ("added rstrip", one("added_tokens", [added(rstrip=True)])),
        ("added both strip", one("added_tokens", [added(lstrip=True, rstrip=True, special=True)])),
        ("added longest", one("added_tokens", [added(), added(content="abc"), added(content="a", special=True), added(content="b c", normalized=False)])),
        ("roberta", one("post_processor", {"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 0], "trim_offsets": True, "add_prefix_space": True})),
        ("template", one("post_processor", {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "X", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "Y", "type_id": 1}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"X": {"id": "X", "ids": [1, 2], "tokens": ["b", "c"]}, "Y": {"id": "Y", "ids": [0], "tokens": ["a"]}}})),
        ("post-processor sequence", one("post_processor", {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            {"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 0], "trim_offsets": True, "add_prefix_space": True},
            {"type": "RobertaProcessing", "sep": ["d", 3], "cls": ["c", 2], "trim_offsets": True, "add_prefix_space": True}]})),
        ("bpe decoder", {"model": {"end_of_word_suffix": "</w>"}, "decoder": {"type": "BPEDecoder", "suffix": "</w>"}}),
        ("decoder chain", {"model": {"byte_fallback": True}, "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                           "decoder": chain({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                                            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})}),
        ("decoder strip", one("decoder", chain({"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 2, "stop": 0}))),
        ("decoder replace regex", one("decoder", {"type": "Replace", "pattern": {"Regex": "[ab]+"}, "content": "x"})),
        *unigrams(),
        ("fallback without chain", {"model": {"byte_fallback": True}, "decoder": {"type": "ByteFallback"}}),
    ]
    return out


def unigrams() -> list:
    pieces = ["<pad>", "</s>", "<unk>", "▁", "a", "b", "c", "ab", "abc", "▁a", "▁ab", "bab", "ca", "cab", "aa", "aaaa", "aaa", "é",
              "日本", "x", "▁x", "-", "1", "22", "A", "▁AB"]
    scores = [0, 0, 0] + [-1 - (7 * i) % 5 - 0.25 * len(p) - i / 64 for i, p in enumerate(pieces[3:])]
    vocab = [[p, s] for p, s in zip(pieces, scores)]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    rules = {"A": "a", "B": "b", "ﬁ": "fi", "é": "e", "e\u0301": "é", "\u3000": " ", "\t": " ", "日": "x", "\u200b": "", "α": "β",
             "👩‍": "woman", "ẞ": "ss"}
    strip = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": compile_charsmap(rules)},
                                                 {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}

    def model(**more):
        return {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False, **more}

    fallback = vocab + [[f"<0x{b:02X}>", 0.0] for b in range(256)]
    split = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]}
    return [("unigram", {"whole_model": model()}), ("unigram metaspace", {"whole_model": model(), "pre_tokenizer": space, "decoder": space}),
            ("unigram bytes", {"whole_model": model(vocab=fallback, byte_fallback=True), "pre_tokenizer": space}),
            ("unigram bytes of part", {"whole_model": model(vocab=fallback[:-50], byte_fallback=True)}),
            ("unigram as T5", {"whole_model": model(), "normalizer": strip, "pre_tokenizer": split, "decoder": space,
                               "added_tokens": [{"id": 2, "content": "<unk>", "single_word": False, "lstrip": False,
                                                 "rstrip": False, "normalized": False, "special": True}]}),
            ("precompiled", {"normalizer": strip}),
            ("whitespace split", {"pre_tokenizer": {"type": "WhitespaceSplit"}})]


KIND_TEXTS = ["", "a", " ", "  ", "abc", "ab ab  ab", " abc-cab--b ", "-", "a-b", "AB aB Ab abAB", "xabx x ab, ab.", "a1b22c333", "äöü éà",
              "e\u0301 a\u0308", "ﬁ Å İ ẞ Σ", "日本 に ほん カタ", "\ta\nb\r\n\n c\u00a0\u3000d\u2028e", "a\nab\nb", "αβγ ΑΒ", "'s it's we'll ''", "\U0001f600ab\U0001f600",
              "aaaabbbb", "babab cabab", "<0x41>▁▁a ", "\u180eab\u180e \u200bab", "a_b ab_ _ab", "abcabc" * 5, "]a[ .*", "<unk>", "<unk>é<unk>日", "abcabaaaaaéé日本xx", "👩‍👩‍👧 ẞ e\u0301\u0301\u0301 ａ日本"]


def kind_tokenizer(changes: dict) -> dict:
    how = dict(changes.get("model", {}))
    suffix, prefix = how.get("end_of_word_suffix"), how.get("continuing_subword_prefix")
    characters = list("abcdefx-AB1'▁ _<>") + ["é", "Ġ", "Ã", "©", "日"]
    tokens = list(characters)
    merges = [["a", "b"], ["ab", "c"], ["c", "ab"], ["▁", "ab"], ["a", "a"], ["aa", "aa"], ["b", "b"], ["Ġ", "ab"], ["A", "B"], ["-", "-"], ["b", "ab"]]
    if suffix:
        tokens += [c + suffix for c in characters]
        merges = [["a", "b" + suffix], ["a", "b"], ["ab", "c" + suffix], ["b", "a"]]
    if prefix:
        tokens += [prefix + c for c in characters]
        merges = [["a", prefix + "b"], ["ab", prefix + "c"], [prefix + "a", prefix + "b"], [prefix + "-", prefix + "-"]]
    merges = how.get("merges", merges)
    for a, b in merges:
        joined = a + (b[len(prefix):] if prefix else b)
        if joined not in tokens:
            tokens.append(joined)
    tokens += ["<unk>"] + [f"<0x{b:02X}>" for b in range(256)] * bool(how.get("byte_fallback"))
    if "merges" in how:
        tokens += ["abc", "▁ab"]
    tokens = [t for t in tokens if t not in how.get("without", [])]
    vocab = {t: i for i, t in enumerate(tokens)}
    added = [dict(t) for t in changes.get("added_tokens", [])]
    fresh = len(vocab)
    for token in added:
        if token["content"] in vocab:
            token["id"] = vocab[token["content"]]
        else:
            token["id"], fresh = fresh, fresh + 1
    model = {"type": "BPE", "dropout": None, "unk_token": how.get("unk_token", "<unk>"), "continuing_subword_prefix": prefix,
             "end_of_word_suffix": suffix, "fuse_unk": how.get("fuse_unk", False), "byte_fallback": how.get("byte_fallback", False),
             "ignore_merges": how.get("ignore_merges", False), "vocab": vocab,
             "merges": [" ".join(m) for m in merges] if how.get("string_merges") else merges}
    if "whole_model" in changes:
        model, added = changes["whole_model"], changes.get("added_tokens", [])
    made = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}
    made.update({k: v for k, v in changes.items() if k not in ("model", "whole_model", "added_tokens")})
    return made


def make_kinds() -> None:
    from tokenizers import Tokenizer

    lines = []
    for name, changes in kinds():
        made = kind_tokenizer(changes)
        tok = Tokenizer.from_str(json.dumps(made))
        cases = []
        for text in KIND_TEXTS:
            ids = tok.encode(text).ids
            # BPEDecoder of the reference fails on no tokens at all
            decoded = tok.decode(ids, skip_special_tokens=False) if ids else ""
            if made["model"].get("end_of_word_suffix") and made["decoder"] and made["decoder"]["type"] == "ByteLevel":
                decoded = decoded.replace(made["model"]["end_of_word_suffix"], " ")
            cases.append([text, ids, decoded])
        lines.append(json.dumps({"name": name, "tokenizer": made, "cases": cases}, ensure_ascii=False, separators=(",", ":")))
    (HERE / "text_kinds.jsonl").write_text("\n".join(lines) + "\n")


def clean_texts() -> list:
    named = sorted(html.entities.html5)
    texts = [b"", b" ", b"  A  Photo\tof\n a CAT  ", b"&amp;lt;b&amp;gt;", b"&amp;amp;amp;amp;", b"a &lt; b &LT b <b>&eacute;</b>\n&eacute; &hellip;",
             b"&eacute;\n<i>\n&EACUTE; P&EACUTE;REZ &SZLIG; &nTILDE;", b"&notit; &not &ampamp &am &#38;amp; &#x26;lt; &#0; &#x80; &#150; &#xD800; &#x110000; &#11; &#65533",
             b"&#9999999999999999999999; &#x; &#; &; &a; &# 1;", b"AT&T &c. R&D &copy 2020 &copyright;", b"\x1b[31mred\x1b[0m \x1b[1;2zx \x1b[;a \x1b[",
             b"nul\x00 bell\x07 tab\t vt\x0b ff\x0c del\x7f", b"a\r\nb\rc\xe2\x80\xa8d\xe2\x80\xa9e\xc2\x85f", b"\xff\xfe\xc3 \xe2\x82 \xf0\x9f\x98 ok \xed\xa0\x80"]
    texts += [t.encode() for t in (
        "“Curly” ‘quotes’ ‚low’ „low” ʼn ʻ ‛ ‟", "ﬁne ﬂow oﬃce aﬄict ﬀ ﬅ ﬆ Ĳ ĳ ŉ Ǆ ǅ ǆ Ǉ ǈ ǉ Ǌ ǋ ǌ Ǳ ǲ ǳ æ œ", "ＦＵＬＬ　ＷＩＤＴＨ １２３ ｶﾀｶﾅ ﾊﾟ ￠￡￢￣￤￥￦ ￨￩",
        "e\u0301 A\u030a ﾊ\uff9f 각 a\u0323\u0307 \u1e9b\u0323", "İSTANBUL Iı ΟΔΥΣΣΕΥΣ ΑΣ Α.Σ. Σ ΣΑ ẞ Ǆ Kelvin K Å", "\ufeffbom \u206aold\u206f \ufff9a\ufffcb zero\u200bwidth\u200d \u00adshy",
        "a\u00a0b\u1680c\u2003d\u202fe\u205ff\u3000g\u001ch\u001fi \u180e", "🏳️‍🌈 👩‍👩‍👧‍👦 🇩🇪 #️⃣", "Привет, Мир! ΓΕΙΆ ΣΟΥ שלום مرحبا नमस्ते สวัสดี", "&#x93;quoted&#x94; &ldquo;q&rdquo; &fflig; &nvlt; &bne; &THORN; &AMP;amp;",
        "&CounterClockwiseContourIntegral; &CounterClockwiseContourIntegralx; &" + "a" * 24 + "; &" + "a" * 40 + ";", "&zwnj;&nbsp;&shy;&ZeroWidthSpace;x")]
    for i in range(0, len(named), 40):
        texts.append(" ".join("&" + n for n in named[i:i + 40]).encode())
        texts.append(" ".join("x&" + n.rstrip(";") + ("y" if k % 3 else ";;") for k, n in enumerate(named[i:i + 40])).encode())
    for i in range(400):
        texts.append(random_text(5 * 10**6 + i))
    return texts


def make_clean() -> None:
    import ftfy
    from open_clip.tokenizer import whitespace_clean

    lines = []
    for raw in clean_texts():
        # open_clip's basic_clean, without the one repair that the product leaves out
        text = ftfy.fix_text(raw.decode("utf-8", "replace"), fix_encoding=False)
        text = html.unescape(html.unescape(text)).strip()
        lines.append(json.dumps([raw.hex(), whitespace_clean(text).lower()]))
    (HERE / "text_clean.jsonl").write_text("\n".join(lines) + "\n")


def real_texts() -> list:
    texts = ["", "a photo of a cat", "A  Photo\tof TWO dogs!!", "don't DON'T it's it''s I'll we'VE 'tis", "3.14 10,000 1/2 \u00bd",
             "&amp;lt;b&amp;gt; &amp;amp; &eacute;", "\u201ccurly\u201d \u2018quotes\u2019 it\u2019s", "\uff26\uff35\uff2c\uff2c \uff57\uff49\uff44\uff54\uff48",
             "the\u00a0cat\u3000sat", "<start_of_text>hi<end_of_text>", "<|startoftext|>hi<|endoftext|>", "!<start_of_text>", "'\u017f \u212a\u0130",
             "e\u0301 \u00e9 \ufb01", "<bos>hi<eos><pad>", "<h1>Title</h1>\n\n\n  indented\t\tcode", "Hi  Hello   there", " leading", "trailing ",
             "\u751f\u6d3b\u7684\u771f\u8c1b\u662f", "\u30a2\u30ab\u30ab\u30f3\u30ac\u30eb\u30fc", "<0x41><0xE9> \u2581\u2581x", "word " * 200, "a" * 3000,
             "\u0001\u0007\ue000\U0010fffd", "def f(x):\n    return x ** 2  # 123456"]
    return texts + PARTS["sentences"] + [random_text(7 * 10**6 + i).decode("utf-8", "replace") for i in range(160)]


def make_real(data: pathlib.Path) -> None:
    import ftfy
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizerFast

    open_clip = SimpleTokenizer()
    clip = Tokenizer.from_file(str(data / "clip" / "tokenizer.json"))
    fast = CLIPTokenizerFast(str(data / "clip" / "vocab.json"), str(data / "clip" / "merges.txt"))
    gemma = [Tokenizer.from_file(str(data / "gemma" / f"{name}.json")) for name in ("gemma2", "gemma3")]
    lines = []
    for text in real_texts():
        # the fetched tokenizer.json is what transformers makes, but for how it finds special tokens in a text
        assert "|>" in text.lower() or fast(text)["input_ids"] == clip.encode(text).ids
        repaired = ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False)
        lines.append(json.dumps({
            "text": text, "open_clip": None if repaired else open_clip.encode(text), "clip": clip.encode(text).ids,
            "clip_text": open_clip.decode(open_clip.encode(text)),
            **{f"gemma{i + 2}": tok.encode(text).ids for i, tok in enumerate(gemma)},
            **{f"gemma{i + 2}_text": tok.decode(tok.encode(text).ids) for i, tok in enumerate(gemma)}}, separators=(",", ":")))
    (HERE / "text_real.jsonl").write_text("\n".join(lines) + "\n")


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--show":
        text = random_text(int(sys.argv[2]))
        print(text, text.decode("utf-8", "replace"), sep="\n")
        return
    if len(sys.argv) == 3 and sys.argv[1] == "--real":
        make_real(pathlib.Path(sys.argv[2]))
        return
    save("text_clip.json", make_clip())
    save("text_gemma.json", make_gemma())
    make_sums("text_clip", "</w>")
    make_sums("text_gemma", "")
    make_kinds()
    make_clean()


if __name__ == "__main__":
    main()
