#!/usr/bin/env bash
# Makes a folder of real images with captions for the quickstart. Usage: sample_images.sh FOLDER
#
# The images are the emoji of Noto Color Emoji (OFL 1.1, package fonts-noto-color-emoji), every other one, with their
# names from Unicode CLDR (Unicode-3.0, package unicode-cldr-core). The packages are unpacked, not installed. The images
# become JPEG, PNG and WebP in turn, on white, with the name in a .txt beside each. No sample model has seen this design.
# Six broken images are added, since real corpora have them.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
out=$(realpath -m "$1")
[ ! -e "$out/.complete" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

unpack() { # package, pattern of the file wanted
    (cd "$work" && apt-get -qq download "$1" 2>/dev/null) ||
        { echo "could not download $1; is a Debian or Ubuntu mirror configured?" >&2; exit 1; }
    dpkg-deb --fsys-tarfile "$work/$1"_*.deb | tar -x -C "$work" --wildcards "$2"
}

unpack fonts-noto-color-emoji '*/NotoColorEmoji.ttf'
unpack unicode-cldr-core '*/common/annotations/en.xml'
mkdir "$work/png"
"$here/emoji_images.pl" "$work/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf" \
    "$work/usr/share/unicode/cldr/common/annotations/en.xml" "$work/png"

rm -rf "$out"
mkdir -p "$out"
n=0
while read -r png; do
    n=$((n + 1))
    [ $((n % 2)) = 0 ] || continue
    name=$(basename "$png" .png)
    case $((n % 6)) in
        0) gm convert "$png" -background white -flatten -quality 90 "$out/$name.jpg" ;;
        2) gm convert "$png" -background white -flatten "$out/$name.png" ;;
        4) gm convert "$png" -background white -flatten -quality 85 "$out/$name.webp" ;;
    esac
    cp "${png%.png}.txt" "$out/$name.txt"
done < <(find "$work/png" -name '*.png' | LC_ALL=C sort)

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
echo "$((n / 2)) images with captions and 6 broken ones in $out" >&2
