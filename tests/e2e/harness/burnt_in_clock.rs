//! The clock that the pictures of `clock_picture.py` carry, read back from its black and white blocks.
//! How a viewer comes by a picture does not belong here.

/// The blocks' size in a picture: its width over this.
pub const BLOCKS_ACROSS: usize = 32;
const ROWS: usize = 2;
const BLOCKS_A_ROW: usize = 28;
/// Where the first one is, in blocks.
const LEFT: usize = 2;
const TOP: usize = 1;

/// Coders leave a block's middle near what it was; a picture half old, half new does not pass for one.
const BLACK_MAX: u8 = 80;
const WHITE_MIN: u8 = 170;

/// The middles of the blocks, the highest bit's first, in blocks from the picture's upper left corner.
pub fn middles() -> impl Iterator<Item = (f64, f64)> {
    let middle = |start: usize, index: usize| (start + index) as f64 + 0.5;
    (0..ROWS)
        .flat_map(move |row| (0..BLOCKS_A_ROW).map(move |column| (middle(LEFT, column), middle(TOP, row))))
}

/// Unix milliseconds of a picture's making, from the brightness of the blocks' [`middles`]; `None` when it has no
/// clock that can be read.
pub fn unix_ms(brightness: &[u8]) -> Option<u64> {
    if brightness.len() != ROWS * BLOCKS_A_ROW {
        return None;
    }
    let number = brightness.iter().try_fold(0_u64, |number, &block| Some(number << 1 | bit(block)?))?;
    let (time, check) = (number >> 8, number & 0xff);
    (check == check_of(time)).then_some(time)
}

fn bit(brightness: u8) -> Option<u64> {
    match brightness {
        ..=BLACK_MAX => Some(0),
        WHITE_MIN.. => Some(1),
        _ => None,
    }
}

/// All black and all white are no time.
fn check_of(time: u64) -> u64 {
    (time.to_be_bytes().iter().map(|&byte| u64::from(byte)).sum::<u64>() + 0x5a) & 0xff
}

mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_and_a_picture_without_one_is_not() {
        let time = 1_795_389_166_560;
        let mut blocks = blocks(time);
        assert_eq!(unix_ms(&blocks), Some(time));
        assert_eq!(unix_ms(&[0; 56]), None);
        assert_eq!(unix_ms(&[255; 56]), None);
        assert_eq!(unix_ms(&blocks[1..]), None);
        for index in 0..blocks.len() {
            let was = blocks[index];
            for other in [255 - was, 128] {
                blocks[index] = other;
                assert_eq!(unix_ms(&blocks), None, "block {index} is wrong");
            }
            blocks[index] = was;
        }
        assert_eq!(middles().count(), blocks.len());
    }

    fn blocks(time: u64) -> Vec<u8> {
        let number = time << 8 | check_of(time);
        (0..56).rev().map(|shift| if number >> shift & 1 == 1 { 230 } else { 20 }).collect()
    }
}
