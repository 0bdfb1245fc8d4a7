"""Pictures with a clock in them that a test can read: Unix milliseconds as black and white blocks, and as digits.

The blocks are a picture's width / 32 wide and high, in two rows of 28 that start two blocks from the left and one from
the top: 48 bits of the time, the highest first, then 8 of `check`. `harness/burnt_in_clock.rs` reads them.
"""

import time

BLACK, GREY, WHITE = 16, 90, 235
BLOCKS_A_ROW = 28
TIME_BITS = 48
# Three by five dots.
GLYPHS = {
    "0": "111 101 101 101 111", "1": "010 110 010 010 111", "2": "111 001 111 100 111", "3": "111 001 111 001 111",
    "4": "101 101 111 001 001", "5": "111 100 111 001 111", "6": "111 100 111 101 111", "7": "111 001 001 001 001",
    "8": "111 101 111 101 111", "9": "111 101 111 001 111", "-": "000 000 111 000 000", ":": "000 010 000 010 000",
    ".": "000 000 000 000 010", " ": "000 000 000 000 000",
}


class ClockPicture:
    """Makes I420 pictures of one size."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.block = width // 32
        self.background = bytes([GREY]) * (width * height)
        self.chroma = bytes([128]) * (2 * ((width + 1) // 2) * ((height + 1) // 2))

    def now(self):
        """The picture of this moment."""
        unix_ms = time.time_ns() // 1_000_000
        luma = bytearray(self.background)
        for row in range(2):
            bits = bits_of(unix_ms)[row * BLOCKS_A_ROW : (row + 1) * BLOCKS_A_ROW]
            self.draw(luma, 2 * self.block, (1 + row) * self.block, [bits], self.block)
        self.draw_digits(luma, unix_ms)
        self.draw_sweep(luma, unix_ms)
        return bytes(luma) + self.chroma

    def draw(self, luma, left, top, rows, scale):
        """Rows of dots, each `scale` pixels wide and high."""
        for index, dots in enumerate(rows):
            line = b"".join(bytes([WHITE if dot else BLACK]) * scale for dot in dots)
            for y in range(top + index * scale, top + (index + 1) * scale):
                luma[y * self.width + left : y * self.width + left + len(line)] = line

    def draw_digits(self, luma, unix_ms):
        seconds, milliseconds = divmod(unix_ms, 1000)
        text = time.strftime(" %Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03} "
        glyphs = [GLYPHS[letter].split() for letter in text]
        rows = [[dot == "1" for glyph in glyphs for dot in glyph[row] + "0"] for row in range(5)]
        self.draw(luma, 2 * self.block, 6 * self.block, rows, self.width // 128)

    def draw_sweep(self, luma, unix_ms):
        """A block that crosses the picture every second, so that pictures look like a film."""
        left = (self.width - 2 * self.block) * (unix_ms % 1000) // 1000
        self.draw(luma, left, 11 * self.block, [[True, True]], self.block)


def bits_of(unix_ms):
    check = (sum(unix_ms.to_bytes(6, "big")) + 0x5A) & 0xFF
    number = unix_ms << 8 | check
    return [number >> shift & 1 for shift in range(TIME_BITS + 7, -1, -1)]
