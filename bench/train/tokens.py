"""Byte-pair vocabularies learned from the corpus's texts, in the two published forms.

ClipTokens: CLIP's kind: lower case, words end in </w>, start and end tokens are the last two ids.
GemmaTokens: Gemma's kind: spaces are pieces (U+2581), unknown characters fall back to bytes, <pad> <eos> <bos> <unk> are
ids 0 to 3, and PaliGemma's places and image token follow the words.

encode() agrees with the tokenizer.json that json() gives.
"""

import collections
import heapq
import json
import re

PLACES = [f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)] + ["<image>"]


def learn(words, n_merges):
    """words: {tuple of symbols: count}. The most frequent pair first, ties by text."""
    words = [(list(w), n) for w, n in sorted(words.items())]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (word, n) in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += n
            where[pair].add(i)
    heap = [(-n, pair) for pair, n in pairs.items()]
    heapq.heapify(heap)
    merges, made = [], set()
    while heap and len(merges) < n_merges:
        n, pair = heapq.heappop(heap)
        if pairs[pair] != -n:
            continue
        if n > -2:
            break
        if pair[0] + pair[1] not in made:  # one piece, one way to make it
            merges.append(pair)
            made.add(pair[0] + pair[1])
        changed = set()
        for i in where.pop(pair):
            word, count = words[i]
            for old in zip(word, word[1:]):
                pairs[old] -= count
                changed.add(old)
            word[:] = merge(word, pair)
            for new in zip(word, word[1:]):
                pairs[new] += count
                where[new].add(i)
                changed.add(new)
        for p in changed:
            if pairs[p] > 0:
                heapq.heappush(heap, (-pairs[p], p))
    return merges


def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def read_bpe(path):
    """Bpe and {piece: id} of a tokenizer.json that json() made."""
    with open(path, encoding="utf-8") as f:
        model = json.load(f)["model"]
    return Bpe([tuple(pair.split(" ")) for pair in model["merges"]]), model["vocab"]


class Bpe:
    """Merges by rank over one word at a time, remembered."""

    def __init__(self, merges):
        self.merges = merges
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.known = {}

    def pieces(self, symbols):
        if symbols not in self.known:
            word = list(symbols)
            while len(word) > 1:
                pair = min(zip(word, word[1:]), key=lambda p: self.ranks.get(p, len(self.ranks)))
                if pair not in self.ranks:
                    break
                word = merge(word, pair)
            self.known[symbols] = word
        return self.known[symbols]


def bytes_to_unicode():
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in kept]
    return dict(zip(kept + rest, [chr(b) for b in kept] + [chr(256 + i) for i in range(len(rest))]))


class ClipTokens:
    SPLIT = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
    WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|[^\s\w]+|_+")
    BYTES = bytes_to_unicode()

    def __init__(self, texts, size):
        words = collections.Counter(symbols for text in texts for symbols in self.words(text))
        alphabet = list(self.BYTES.values())
        self.bpe = Bpe(learn(words, size - 2 * len(alphabet) - 2))
        pieces = alphabet + [s + "</w>" for s in alphabet] + [a + b for a, b in self.bpe.merges]
        self.ids = {p: i for i, p in enumerate(pieces + ["<|startoftext|>", "<|endoftext|>"])}
        assert len(self.ids) == len(pieces) + 2
        self.start, self.end = len(self.ids) - 2, len(self.ids) - 1

    def read(self, path):
        """The vocabulary of a snapshot, of this one's size."""
        self.bpe, self.ids = read_bpe(path)
        assert max(self.ids.values()) == self.end

    def words(self, text):
        for word in self.WORD.findall(" ".join(text.lower().split())):
            symbols = [self.BYTES[b] for b in word.encode()]
            yield (*symbols[:-1], symbols[-1] + "</w>")

    def encode(self, text, context):
        """Start, text, end, then zeros; a long text loses its tail, not its end."""
        ids = [self.ids[p] for symbols in self.words(text) for p in self.bpe.pieces(symbols)]
        ids = [self.start] + ids[:context - 2] + [self.end]
        return ids + [0] * (context - len(ids))

    def decode(self, ids):
        back = {c: b for b, c in self.BYTES.items()}
        names = {i: p for p, i in self.ids.items()}
        text = "".join(names[i] for i in ids if i < self.start).replace("</w>", chr(288))
        return bytes(back[c] for c in text).decode(errors="replace").strip()

    def json(self):
        special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        return {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": self.start, "content": "<|startoftext|>", **special},
                             {"id": self.end, "content": "<|endoftext|>", **special}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": self.SPLIT}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
            "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", self.end],
                               "cls": ["<|startoftext|>", self.start], "trim_offsets": False, "add_prefix_space": False},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                      "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": self.ids, "merges": [" ".join(pair) for pair in self.bpe.merges]}}


class GemmaTokens:
    ADDED = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\u2581\u2581"]
    PAD, EOS, BOS = 0, 1, 2

    def __init__(self, texts, size, places):
        words = collections.Counter(word for text in texts for word in self.words(text))
        characters = sorted({c for word in words for c in word} | {"\u2581"} | {chr(c) for c in range(33, 127)})
        pieces = self.ADDED + [f"<0x{b:02X}>" for b in range(256)] + characters
        self.bpe = Bpe([pair for pair in learn(words, size - len(pieces)) if pair != ("\u2581", "\u2581")])
        pieces += [a + b for a, b in self.bpe.merges]
        self.places = len(pieces)
        self.ids = {p: i for i, p in enumerate(pieces)}
        assert len(self.ids) == len(pieces)
        self.added = self.ADDED + (PLACES if places else [])
        self.added_ids = {p: self.ids.get(p, self.places + i - len(self.ADDED)) for i, p in enumerate(self.added)}
        self.image = self.added_ids.get("<image>")
        self.size = len({**self.ids, **self.added_ids})

    def read(self, path):
        """The vocabulary of a snapshot, of this one's size."""
        n_words = len(self.ids)
        self.bpe, self.ids = read_bpe(path)
        assert len(self.ids) == n_words

    @staticmethod
    def words(text):
        """Words with the space before them; no merge reaches over a space."""
        return [tuple(w) for w in re.findall("\u2581?[^\u2581]+|\u2581", " ".join(text.split()).replace(" ", "\u2581"))]

    def encode(self, text):
        ids = []
        for word in self.words(text):
            for piece in self.bpe.pieces(word):
                ids += [self.ids[piece]] if piece in self.ids else [self.ids[f"<0x{b:02X}>"] for b in piece.encode()]
        return ids

    def decode(self, ids):
        names = {i: p for p, i in self.ids.items()}
        return "".join(names.get(i, "") for i in ids if i > 9).replace("\u2581", " ").strip()

    def json(self):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        special = [p for p in self.added[:7]] + ["<image>"]
        return {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": p, **flags, "special": p in special} for p, i in self.added_ids.items()],
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
            "post_processor": {"type": "TemplateProcessing",
                               "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}},
                                          {"Sequence": {"id": "A", "type_id": 0}}],
                               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                               "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": self.ids, "merges": [" ".join(pair) for pair in self.bpe.merges]}}
