#!/usr/bin/python3
"""A WebRTC viewer by GStreamer's webrtcbin, independent of ours, for the end-to-end tests.

Offers to receive H.264 or H.265 by WHEP, decodes, and prints one line of JSON when it has the pictures it
wants: frames, width, height, codec, seconds to the first picture. Exits with 1 and a line on what is missing
otherwise. It ends by itself.
"""

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

FORMATS = {
    "h264": "encoding-name=H264,packetization-mode=(string)1,profile-level-id=(string)42e01f",
    "h265": "encoding-name=H265",
}
DECODERS = {
    "h264": "rtph264depay ! h264parse ! avdec_h264",
    "h265": "rtph265depay ! h265parse ! avdec_h265",
}


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="where to POST the offer")
    parser.add_argument("--codec", choices=FORMATS, default="h264")
    parser.add_argument("--frames", type=int, default=60, help="pictures to decode")
    parser.add_argument("--seconds", type=float, default=25, help="time for all of it")
    return parser.parse_args()


class Viewer:
    def __init__(self, arguments):
        self.arguments = arguments
        self.loop = GLib.MainLoop()
        self.session = None
        self.problem = None
        self.seen = {"frames": 0, "codec": arguments.codec}
        self.pipeline = Gst.Pipeline()
        self.webrtc = Gst.ElementFactory.make("webrtcbin")
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        self.webrtc.connect("pad-added", self.decode)
        self.webrtc.connect("notify::ice-gathering-state", self.gathered)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.stop(message.parse_error()[0].message))

    def watch(self):
        # The transceiver is made before the pipeline runs, so that its first offer has it.
        caps = f"application/x-rtp,media=video,clock-rate=90000,payload=96,{FORMATS[self.arguments.codec]}"
        caps += ",rtcp-fb-nack=true,rtcp-fb-nack-pli=true,rtcp-fb-ccm-fir=true"
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        transceiver = self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
        transceiver.set_property("do-nack", True)
        self.pipeline.set_state(Gst.State.PLAYING)
        # libnice leaves loopback out; on a machine with no other interface there would be no candidate.
        # The agent is kept: webrtcbin of 1.22 holds it by a floating reference, which Python takes over.
        self.agent = self.webrtc.get_property("ice-agent")
        self.agent.emit("add-local-ip-address", "127.0.0.1")
        self.webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered))
        GLib.timeout_add(int(self.arguments.seconds * 1000), self.stop, "too late")
        self.loop.run()
        if self.session:
            urllib.request.urlopen(urllib.request.Request(self.session, method="DELETE"), timeout=10).close()
        self.pipeline.set_state(Gst.State.NULL)
        if self.problem:
            state = self.webrtc.get_property("connection-state").value_nick
            sys.exit(f"{self.problem} after {self.seen}; connection {state}")
        print(json.dumps(self.seen), flush=True)

    def offered(self, promise):
        # What a reply or a description holds lives as long as it does.
        reply = promise.get_reply()
        self.webrtc.emit("set-local-description", reply.get_value("offer"), None)

    def gathered(self, *_):
        if self.webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self.signal)

    def signal(self):
        description = self.webrtc.get_property("local-description")
        offer = description.sdp.as_text()
        self.started = time.monotonic()
        try:
            answer = self.post(offer)
        except OSError as error:
            return self.stop(f"no answer: {error}")
        _, sdp = GstSdp.SDPMessage.new_from_text(answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.webrtc.emit("set-remote-description", description, None)
        return False

    def post(self, offer):
        request = urllib.request.Request(self.arguments.url, offer.encode(), {"content-type": "application/sdp"})
        with urllib.request.urlopen(request, timeout=10) as response:
            self.session = urllib.parse.urljoin(self.arguments.url, response.headers["location"])
            return response.read().decode()

    def decode(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        chain = f"queue ! {DECODERS[self.arguments.codec]} ! fakesink name=pictures sync=false signal-handoffs=true"
        sink = Gst.parse_bin_from_description(chain, True)
        sink.get_by_name("pictures").connect("handoff", self.picture)
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def picture(self, sink, _, pad):
        """On the streaming thread."""
        if self.seen["frames"] == 0:
            self.seen["first_picture_seconds"] = round(time.monotonic() - self.started, 3)
            size = pad.get_current_caps().get_structure(0)
            self.seen["width"], self.seen["height"] = size.get_int("width")[1], size.get_int("height")[1]
        self.seen["frames"] += 1
        if self.seen["frames"] == self.arguments.frames:
            GLib.idle_add(self.loop.quit)

    def stop(self, problem):
        self.problem = problem
        self.loop.quit()
        return False


Gst.init(None)
Viewer(parse_arguments()).watch()
