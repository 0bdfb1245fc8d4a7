#!/bin/sh
# Makes the built-in clips with ffmpeg (libx264, libx265, drawtext). Their bytes are committed, so nobody needs to.
#
# picture.*   640x360, 25 fps, 10 s, an IDR every 2 s: what a camera shows unless told otherwise.
# long.*      640x360, 25 fps, 30 s, one IDR only: cut to any GOP length up to 30 s.
# small.*     320x180, 25 fps, 4 s, an IDR every 2 s: what --change-resolution-every switches to.
set -eu
cd "$(dirname "$0")"
font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf

text() { # fontsize, label
    echo "drawtext=fontfile=$font:fontsize=$1:fontcolor=white:box=1:boxcolor=black:boxborderw=6:x=(w-tw)/2:y=h*0.72:text='$2  %{pts\\:hms}  %{frame_num}'"
}
h264() { # source, filter, profile, bitrate, gop, out
    ffmpeg -v error -y -f lavfi -i "$1" -vf "$2,format=yuv420p" -c:v libx264 -profile:v "$3" -preset veryslow -bf 0 -refs 1 \
        -g "$5" -keyint_min "$5" -sc_threshold 0 -b:v "$4" -maxrate "$4" -bufsize "$4" -x264-params "slices=1:weightp=0" \
        -bsf:v filter_units=remove_types=6 -f h264 "$6"
}
h265() { # source, filter, bitrate, gop, out
    ffmpeg -v error -y -f lavfi -i "$1" -vf "$2,format=yuv420p" -c:v libx265 -preset slow -b:v "$3" -maxrate "$3" -bufsize "$3" \
        -x265-params "bframes=0:keyint=$4:min-keyint=$4:scenecut=0:open-gop=0:info=0:hrd=0:log-level=error" \
        -bsf:v filter_units=remove_types=39 -f hevc "$5"
}

picture="testsrc2=size=640x360:rate=25:duration=10"
long="smptehdbars=size=640x360:rate=25:duration=30"
small="testsrc2=size=320x180:rate=25:duration=4"

h264 "$picture" "$(text 28 'H.264')" baseline 400k 50 picture.h264
h265 "$picture" "$(text 28 'H.265')" 400k 50 picture.h265
h264 "$long" "$(text 28 'H.264')" high 100k 1500 long.h264
h265 "$long" "$(text 28 'H.265')" 100k 1500 long.h265
h264 "$small" "$(text 14 'H.264 small')" baseline 120k 50 small.h264
h265 "$small" "$(text 14 'H.265 small')" 120k 50 small.h265
ls -l ./*.h26?
