// The npm package rtsp-streaming-server, for the end-to-end tests: it hands on what publishers send, here ffmpeg.
//
// Usage: node server.js PUBLISHERS_PORT VIEWERS_PORT FIRST_UDP_PORT UDP_PORTS
// Prints `listening`. It ends when standard input closes, so it never outlives its test.

const { RtspServer } = require('rtsp-streaming-server');

const [serverPort, clientPort, rtpPortStart, rtpPortCount] = process.argv.slice(2).map(Number);
const server = new RtspServer({ serverPort, clientPort, rtpPortStart, rtpPortCount });
server.start().then(
  () => console.log('listening'),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
process.stdin.on('end', () => process.exit(0)).resume();
