#!/usr/bin/python3
"""An RTSP camera by GStreamer's RTSP server, independent of ours, for the end-to-end tests.

Prints `port N` when it listens. Mount point: /cam. While it runs it reads commands from standard
input: `size WxH` changes the picture's size without a reconnect; `ssrc` makes the payloader take another
SSRC, as after a collision, while sequence numbers and timestamps run on. It ends when standard input closes,
so it never outlives the test that started it.

With `--tls FOLDER` it speaks RTSPS and nothing else, by the folder's `certificate.pem` and `key.pem`, which
it makes where they are missing (needs `openssl`, and GLib's TLS: glib-networking). Before `port N` it prints
`certificate PATH`: a PEM that is its own authority, for 127.0.0.1, ::1 and localhost, or for another name by
`--tls-name`.
"""

import argparse
import os
import subprocess
import sys

import gi

# Nothing is left in the source tree.
sys.dont_write_bytecode = True
from clock_picture import ClockPicture  # noqa: E402

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, GObject, Gst, GstRtsp, GstRtspServer  # noqa: E402

TRANSPORTS = {
    "tcp": GstRtsp.RTSPLowerTrans.TCP,
    "udp": GstRtsp.RTSPLowerTrans.UDP,
    "both": GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP,
}

AGGREGATE_H264 = {"none": "none", "zero-latency": "zero-latency", "max": "max-stap"}


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--codec", choices=["h264", "h265", "mjpeg", "audio"], default="h264")
    parser.add_argument("--transport", choices=TRANSPORTS, default="both")
    parser.add_argument("--digest", metavar="USER:PASSWORD")
    parser.add_argument("--basic", metavar="USER:PASSWORD")
    parser.add_argument("--key-interval", type=int, default=15, help="frames between keyframes")
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--bitrate-kbps", type=int, default=500)
    parser.add_argument("--b-frames", type=int, default=0)
    parser.add_argument("--no-sprop", action="store_true", help="parameter sets only in-band")
    parser.add_argument("--sprop-only", action="store_true", help="H.264's parameter sets only in the description")
    parser.add_argument(
        "--aggregate", choices=["none", "zero-latency", "max"], default="none", help="NAL units in one packet"
    )
    parser.add_argument("--with-audio", action="store_true", help="a second track beside the video")
    parser.add_argument("--pattern", default="smpte")
    parser.add_argument("--clock", action="store_true", help="the time of day in the picture, see clock_picture.py")
    parser.add_argument("--tls", metavar="FOLDER", help="RTSPS only; see above")
    parser.add_argument("--tls-name", metavar="NAME", help="the certificate is for this name and no other")
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args()


def caps(size, fps):
    width, height = size.split("x")
    return f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"


def picture(args):
    if args.clock:
        # Small and leaky: what cannot be encoded in time is not shown late.
        live = "is-live=true format=time do-timestamp=true max-buffers=2 leaky-type=downstream"
        return f"appsrc name=clock {live} caps={caps(args.size, args.fps)}"
    # A moving ball over the pattern where the clock overlay is not installed: pictures must differ.
    overlay = "timeoverlay ! " if Gst.ElementFactory.find("timeoverlay") else ""
    return (
        f"videotestsrc is-live=true pattern={args.pattern} horizontal-speed=2 ! {overlay}"
        f"videoscale ! capsfilter name=size caps={caps(args.size, args.fps)}"
    )


def video_h264(args):
    encoder = (
        f"x264enc speed-preset=ultrafast bitrate={args.bitrate_kbps} key-int-max={args.key_interval}"
        f" bframes={args.b_frames} sliced-threads=false threads=1 rc-lookahead=0"
        f" option-string=scenecut=0{':repeat-headers=0' if args.sprop_only else ''}"
    )
    payloader = f"rtph264pay name=pay0 pt=96 aggregate-mode={AGGREGATE_H264[args.aggregate]}"
    if args.sprop_only:
        # Length-prefixed NAL units: the encoder gives its parameter sets beside the stream, not in it.
        return f"{encoder} byte-stream=false ! video/x-h264,profile=main,stream-format=avc ! {payloader} config-interval=0"
    # config-interval: parameter sets before every IDR, or never in-band but at the start.
    return (
        f"{encoder} byte-stream=true ! video/x-h264,profile=main"
        f" ! h264parse config-interval=-1 ! {payloader} config-interval=-1"
    )


def video_h265(args):
    return (
        f"x265enc speed-preset=ultrafast tune=zerolatency bitrate={args.bitrate_kbps}"
        f" key-int-max={args.key_interval}"
        f" option-string=scenecut=0:open-gop=0:pools=1:frame-threads=1"
        f" ! h265parse config-interval=-1"
        f" ! rtph265pay name=pay0 pt=96 config-interval=-1 aggregate-mode={args.aggregate}"
    )


def launch_line(args):
    if args.codec == "audio":
        return "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8 )"
    if args.codec == "mjpeg":
        return f"( {picture(args)} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
    video = {"h264": video_h264, "h265": video_h265}[args.codec](args)
    audio = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8" if args.with_audio else ""
    return f"( {picture(args)} ! {video} {audio} )"


def viewer_token():
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    return token


def require_password(auth, given, method):
    user, password = given.split(":", 1)
    auth.set_supported_methods(method)
    if method == GstRtsp.RTSPAuthMethod.DIGEST:
        auth.add_digest(user, password, viewer_token())
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), viewer_token())


def protect(server, factory, auth):
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def speak_tls(auth, folder, name):
    """Gives the path of the certificate."""
    certificate, key = os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem")
    if not os.path.exists(certificate):
        make_certificate(folder, name, certificate, key)
    auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(certificate, key))
    return certificate


def make_certificate(folder, name, certificate, key):
    names = f"DNS:{name}" if name else "DNS:localhost,IP:127.0.0.1,IP:::1"
    settings = os.path.join(folder, "openssl.cnf")
    with open(settings, "w") as file:
        # Not an authority for others: TLS libraries take an authority's certificate for no server.
        file.write(
            "[req]\nprompt=no\ndistinguished_name=name\nx509_extensions=extensions\n[name]\nCN=camera\n"
            f"[extensions]\nsubjectAltName={names}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n"
        )
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-config", settings]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


class Clock:
    """Feeds a media's `appsrc` with a picture of the moment, `fps` times a second."""

    def __init__(self, args):
        self.picture = ClockPicture(*map(int, args.size.split("x")))
        self.source = None
        GLib.timeout_add(1000 // args.fps, self.tick)

    def configure(self, _, media):
        self.source = media.get_element().get_by_name("clock")

    def tick(self):
        if self.source and self.source.get_state(0).state == Gst.State.PLAYING:
            self.source.emit("push-buffer", Gst.Buffer.new_wrapped(self.picture.now()))
        return True


class NoSpropFactory(GstRtspServer.RTSPMediaFactory):
    """Takes the sprop-* out of the payloader's caps, so that the SDP does not have them."""

    def do_configure(self, media):
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)
        pad = media.get_element().get_by_name("pay0").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, drop_sprop)


def drop_sprop(pad, info):
    event = info.get_event()
    if event.type != Gst.EventType.CAPS:
        return Gst.PadProbeReturn.OK
    structure = event.parse_caps().get_structure(0).copy()
    fields = [f for f in ("sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps") if structure.has_field(f)]
    if not fields:
        return Gst.PadProbeReturn.OK
    for field in fields:
        structure.remove_field(field)
    stripped = Gst.Caps.new_empty()
    stripped.append_structure(structure)
    pad.get_peer().send_event(Gst.Event.new_caps(stripped))
    return Gst.PadProbeReturn.DROP


def change_ssrc(payloader):
    """What GStreamer's own RTP session tells a payloader when somebody else uses its SSRC."""
    before = payloader.get_property("stats").get_uint("ssrc")[1]
    collision = Gst.Structure.new_empty("GstRTPCollision")
    collision.set_value("ssrc", GObject.Value(GObject.TYPE_UINT, before))
    payloader.get_static_pad("src").send_event(Gst.Event.new_custom(Gst.EventType.CUSTOM_UPSTREAM, collision))
    return before


def main():
    args = parse_arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    factory = NoSpropFactory() if args.no_sprop else GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch_line(args))
    factory.set_shared(True)
    factory.set_protocols(TRANSPORTS[args.transport])
    auth = GstRtspServer.RTSPAuth()
    if args.digest:
        require_password(auth, args.digest, GstRtsp.RTSPAuthMethod.DIGEST)
    elif args.basic:
        require_password(auth, args.basic, GstRtsp.RTSPAuthMethod.BASIC)
    else:
        auth.set_default_token(viewer_token())
    if args.tls:
        print(f"certificate {speak_tls(auth, args.tls, args.tls_name)}", flush=True)
    if args.tls or args.digest or args.basic:
        protect(server, factory, auth)
    if args.clock:
        factory.connect("media-configure", Clock(args).configure)
    sizes, payloaders = [], []
    factory.connect("media-configure", lambda _, media: sizes.append(media.get_element().get_by_name("size")))
    factory.connect("media-configure", lambda _, media: payloaders.append(media.get_element().get_by_name("pay0")))
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        sys.exit("cannot listen")
    print(f"port {server.get_bound_port()}", flush=True)

    loop = GLib.MainLoop()

    def command(channel, condition):
        line = sys.stdin.readline()
        if not line:
            loop.quit()
            return False
        verb, _, value = line.strip().partition(" ")
        if verb == "size" and sizes:
            sizes[-1].set_property("caps", Gst.Caps.from_string(caps(value, args.fps)))
            print(f"size {value}", flush=True)
        if verb == "ssrc" and payloaders:
            print(f"ssrc {change_ssrc(payloaders[-1])}", flush=True)
        return True

    GLib.io_add_watch(GLib.IOChannel.unix_new(0), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, command)
    loop.run()


main()
