#!/usr/bin/env python3
"""Makes the captures in this folder: ffmpeg encodes a test picture, then packetizes it with its own RTP muxer.

Each NAME.rtp holds the RTP packets in order, each behind its length in 16 bits (RFC 4571); NAME.h264 or
NAME.h265 beside it is the same stream as ffmpeg writes it to a file (Annex B). Made with ffmpeg 5.1.
"""
import os
import socket
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

# name: encoder, its arguments, file format, bytes of an RTP packet
STREAMS = {
    "h264_plain": ("libx264", ["-bf", "0", "-x264-params", "repeat-headers=1:bframes=0:keyint=5"], "h264", 500),
    "h264_bframes_aud": ("libx264", ["-x264-params", "repeat-headers=1:bframes=2:b-adapt=0:keyint=6:aud=1"], "h264", 300),
    "h264_slices": ("libx264", ["-x264-params", "repeat-headers=1:bframes=0:keyint=5:slices=4"], "h264", 1400),
    "h265_plain": ("libx265", ["-x265-params", "repeat-headers=1:bframes=0:keyint=5:log-level=none"], "hevc", 300),
    "h265_bframes_aud": ("libx265", ["-x265-params", "repeat-headers=1:bframes=2:b-adapt=0:keyint=6:aud=1:log-level=none"], "hevc", 1400),
    "h265_slices": ("libx265", ["-x265-params", "repeat-headers=1:bframes=0:keyint=5:slices=3:log-level=none"], "hevc", 500),
}


def ffmpeg(*args):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *args], check=True)


def capture(source, packet_len, path):
    """The RTP muxer's packets, over a pair of loopback ports."""
    rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    rtp.bind(("127.0.0.1", 0))
    port = rtp.getsockname()[1]
    url = f"rtp://127.0.0.1:{port}?rtcpport={port}&pkt_size={packet_len}"
    ffmpeg("-i", source, "-c", "copy", "-seq", "65530", "-f", "rtp", url)
    rtp.settimeout(0.5)
    with open(path, "wb") as out:
        try:
            while True:
                packet = rtp.recv(65536)
                if packet[1] & 0x7F == 96:  # the rest is RTCP
                    out.write(struct.pack(">H", len(packet)) + packet)
        except TimeoutError:
            pass


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, (encoder, args, file_format, packet_len) in STREAMS.items():
            nut = os.path.join(folder, name + ".nut")
            ffmpeg("-f", "lavfi", "-i", "testsrc=size=178x100:rate=10:duration=1.2", "-pix_fmt", "yuv420p",
                   "-c:v", encoder, "-crf", "34", *args, nut)
            extension = {"h264": "h264", "hevc": "h265"}[file_format]
            ffmpeg("-i", nut, "-c", "copy", "-f", file_format, os.path.join(HERE, f"{name}.{extension}"))
            capture(nut, packet_len, os.path.join(HERE, name + ".rtp"))


sys.exit(main())
