#!/usr/bin/env perl
# Writes the drawings of an emoji font as PNG files and their names as captions: emoji_images.pl FONT ANNOTATIONS OUT
#
# FONT        a colour bitmap font (tables CBDT and CBLC), such as NotoColorEmoji.ttf
# ANNOTATIONS a file of Unicode CLDR, common/annotations/en.xml: names by code point
#
# One emoji is NAME.png and NAME.txt. Only emoji of one code point are taken, and no skin tones.
use strict;
use warnings;

my ($path, $annotations, $out) = @ARGV;
open my $file, '<:raw', $path or die "$path: $!\n";
my $font = do { local $/; <$file> };

my %table;
for my $i (0 .. unpack('n', substr $font, 4, 2) - 1) {
    my ($tag, undef, $offset) = unpack 'a4 N2', substr $font, 12 + 16 * $i, 16;
    $table{$tag} = $offset;
}
exists $table{$_} or die "$path: no table $_: not a colour bitmap font\n" for qw(cmap CBLC CBDT);

my %glyph; # by code point: cmap format 12
for my $i (0 .. unpack('n', substr $font, $table{cmap} + 2, 2) - 1) {
    my $at = $table{cmap} + unpack 'N', substr $font, $table{cmap} + 8 + 8 * $i, 4;
    next unless unpack('n', substr $font, $at, 2) == 12;
    for my $group (0 .. unpack('N', substr $font, $at + 12, 4) - 1) {
        my ($first, $last, $id) = unpack 'N3', substr $font, $at + 16 + 12 * $group, 12;
        $glyph{$_} = $id + $_ - $first for $first .. $last;
    }
}

my %bitmap; # by glyph: where in the file; index format 1, image format 17, of the first size
my ($array, undef, $count) = unpack 'N3', substr $font, $table{CBLC} + 8, 12;
$array += $table{CBLC};
for my $i (0 .. $count - 1) {
    my ($first, $last, $more) = unpack 'n2 N', substr $font, $array + 8 * $i, 8;
    my ($index, $image, $data) = unpack 'n2 N', substr $font, $array + $more, 8;
    die "$path: bitmaps of format $index/$image are not read here\n" unless $index == 1 && $image == 17;
    my @offsets = unpack 'N*', substr $font, $array + $more + 8, 4 * ($last - $first + 2);
    $bitmap{$first + $_} = $table{CBDT} + $data + $offsets[$_]
        for grep { $offsets[$_] < $offsets[$_ + 1] } 0 .. $last - $first;
}

sub put {
    my ($name, $body) = @_;
    open my $to, '>:raw', "$out/$name" or die "$out/$name: $!\n";
    print $to $body;
    close $to or die "$out/$name: $!\n";
}

open my $names, '<:encoding(UTF-8)', $annotations or die "$annotations: $!\n";
while (<$names>) {
    my ($emoji, $caption) = /<annotation cp="(.)\x{FE0F}?" type="tts">([^<&]+)</ or next;
    next if $caption =~ /skin tone|hair$/;
    my $at = $bitmap{$glyph{ord $emoji} // -1} // next;
    (my $name = lc $caption) =~ s/[^a-z0-9]+/-/g;
    $name =~ s/-$//;
    utf8::encode($caption);
    put("$name.png", substr $font, $at + 9, unpack 'N', substr $font, $at + 5, 4);
    put("$name.txt", $caption);
}
