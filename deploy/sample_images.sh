#!/usr/bin/env bash
# Makes a folder of real images with captions for the quickstart. Usage: sample_images.sh FOLDER
#
# The images are Tux Paint's stamps (GPL-2, package tuxpaint-stamps-default): cut-out photographs and drawings, each
# with one sentence. The package is unpacked, not installed. They become JPEG, PNG and WebP in turn, on white, with the
# sentence in a .txt beside each. Six broken ones are added, since real corpora have them.
set -euo pipefail

out=$(realpath -m "$1")
[ ! -e "$out/.complete" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && apt-get -qq download tuxpaint-stamps-default 2>/dev/null) ||
    { echo "could not download tuxpaint-stamps-default; is a Debian or Ubuntu mirror configured?" >&2; exit 1; }
mkdir "$work/x"
dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work/x" --wildcards '*.png' '*.txt'

rm -rf "$out"
mkdir -p "$out"
cd "$work/x/usr/share/tuxpaint/stamps"
n=0
# Letters, coins and signs are left out: their sentences say little of the picture.
while read -r png; do
    txt=${png%.png}.txt
    [ -s "$txt" ] || continue
    name=${png#./}
    name=${name%.png}
    name=${name//\//-}
    case $((n % 3)) in
        0) gm convert "$png" +profile '*' -background white -flatten -quality 90 "$out/$name.jpg" ;;
        1) gm convert "$png" +profile '*' -background white -flatten "$out/$name.png" ;;
        2) gm convert "$png" +profile '*' -background white -flatten -quality 85 "$out/$name.webp" ;;
    esac
    head -n 1 "$txt" | tr -d '\r\n' >"$out/$name.txt"
    n=$((n + 1))
done < <(find . -name '*.png' -not -path './symbols/*' | LC_ALL=C sort)

first=$(find "$out" -name '*.jpg' | LC_ALL=C sort | sed -n 1p)
head -c 700 "$first" >"$out/broken-truncated.jpg"
: >"$out/broken-empty.png"
echo 'this is not an image' >"$out/broken-text.jpg"
head -c 64 /dev/zero >"$out/broken-zeros.webp"
# A header that promises 60000 x 60000 pixels.
printf '\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0\x8a\x4f\x0f\x9c' >"$out/broken-huge.png"
for name in truncated empty text zeros huge; do echo "A broken image." >"$out/broken-$name.txt"; done
cp "$first" "$out/broken-no-caption.jpg"

touch "$out/.complete"
echo "$n images with captions and 6 broken ones in $out" >&2
