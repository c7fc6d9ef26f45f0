#!/bin/sh
# Puts the CLIP vocabulary into DIR/clip: vocab.json, merges.txt, and tokenizer.json with merges as strings and as
# pairs (tokenizer_pairs.json). It comes from the wheel of open_clip_torch (MIT); nothing of it is kept in the repository.
set -eu

version=2.31.0
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
out=$1/clip
[ -s "$out/tokenizer_pairs.json" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

if ! python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "open_clip_torch==$version" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    echo "$0: cannot fetch open_clip_torch $version from the Python package index: the CLIP tokenizer tests need it." >&2
    echo "$0: check the network or the proxy (PIP_INDEX_URL), or put vocab.json, merges.txt, tokenizer.json and" \
        "tokenizer_pairs.json into $out" >&2
    exit 1
fi

python3 - "$work" "$out" <<'EOF'
import gzip, json, pathlib, sys, zipfile

work, out = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
packed = wheel.read("open_clip/bpe_simple_vocab_16e6.txt.gz")
merges = gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
alphabet = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
tokens = alphabet + [t + "</w>" for t in alphabet] + [m.replace(" ", "") for m in merges]
tokens += ["<|startoftext|>", "<|endoftext|>"]
vocab = {t: i for i, t in enumerate(tokens)}
assert len(vocab) == 49408 and len(merges) == 48894, "the vocabulary is not CLIP's"


def special(token, normalized):
    return {"id": vocab[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": normalized, "special": True}


words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
tokenizer = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [special("<|startoftext|>", True), special("<|endoftext|>", False)],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}]},
    "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 49407], "cls": ["<|startoftext|>", 49406],
                       "trim_offsets": False, "add_prefix_space": False},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
              "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": vocab, "merges": merges},
}
(out / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
(out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
(out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
tokenizer["model"]["merges"] = [m.split(" ") for m in merges]
(out / "tokenizer_pairs.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
EOF
