#!/usr/bin/python3
"""A WebRTC viewer by aiortc, independent of ours, for the end-to-end tests.

Offers to receive video by WHEP, decodes, and prints one line of JSON when it has the pictures it wants:
frames, width, height, keyframes, codec, seconds to the first picture. Exits with 1 and a line on what is
missing otherwise. It ends by itself.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.parse
import urllib.request

import aioice.ice
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

listed = aioice.ice.get_host_addresses
# aioice leaves loopback out; on a machine with no other interface there would be no candidate.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: listed(use_ipv4, False) + ["127.0.0.1"]


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="where to POST the offer")
    parser.add_argument("--frames", type=int, default=60, help="pictures to decode")
    parser.add_argument("--seconds", type=float, default=25, help="time for all of it")
    return parser.parse_args()


def post(url, offer):
    request = urllib.request.Request(url, offer.encode(), {"content-type": "application/sdp"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode(), urllib.parse.urljoin(url, response.headers["location"])


def delete(url):
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()


async def decode(track, wanted, seen, started):
    while seen["frames"] < wanted:
        frame = await track.recv()
        if seen["frames"] == 0:
            seen["first_picture_seconds"] = round(time.monotonic() - started, 3)
        seen["frames"] += 1
        seen["keyframes"] += frame.key_frame
        seen["width"], seen["height"] = frame.width, frame.height


async def watch(arguments):
    pc = RTCPeerConnection()
    receiver = pc.addTransceiver("video", direction="recvonly").receiver
    await pc.setLocalDescription(await pc.createOffer())
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    answer, session = await loop.run_in_executor(None, post, arguments.url, pc.localDescription.sdp)
    seen = {"frames": 0, "keyframes": 0}
    try:
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await asyncio.wait_for(decode(receiver.track, arguments.frames, seen, started), arguments.seconds)
    except (asyncio.TimeoutError, MediaStreamError) as error:
        sys.exit(f"{type(error).__name__} after {seen}; connection {pc.connectionState}, ICE {pc.iceConnectionState}")
    finally:
        await loop.run_in_executor(None, delete, session)
        await pc.close()
    seen["codec"] = codec_of(answer)
    print(json.dumps(seen), flush=True)


def codec_of(sdp):
    """The codec of the first payload type of the video section."""
    lines = sdp.splitlines()
    first = next(line for line in lines if line.startswith("m=video")).split()[3]
    return next(line for line in lines if line.startswith(f"a=rtpmap:{first} ")).split()[1].split("/")[0]


asyncio.run(watch(parse_arguments()))
