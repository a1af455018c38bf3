/// What the markers of a JPEG say. The decoder fills a picture that is cut short with grey and
/// calls it decoded, and turns four components into RGB silently; this looks for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JpegMarkers {
    /// Components of the frame: 1 grey, 3 colour, 4 CMYK.
    pub(crate) components: u8,
    /// Whether the end-of-image marker is there.
    pub(crate) complete: bool,
}

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

impl JpegMarkers {
    /// Walks the segments; those hold lengths, so a thumbnail's end marker is not mistaken for the
    /// picture's.
    pub(crate) fn scan(bytes: &[u8]) -> Self {
        let mut markers = Self { components: 0, complete: false };
        let mut at = 2;
        while let Some((marker, start)) = next_marker(bytes, at) {
            at = start;
            match marker {
                END_OF_IMAGE => {
                    markers.complete = true;
                    break;
                }
                // Markers without a length: TEM, restarts, a second start of image.
                0x01 | 0xd0..=0xd8 => continue,
                // A start of frame: all of c0..=cf but the tables c4 and cc and the extension c8.
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    markers.components = bytes.get(start + 7).copied().unwrap_or(0);
                }
                _ => {}
            }
            let Some(length) = bytes.get(start..start + 2) else { break };
            at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            if marker == START_OF_SCAN {
                at = skip_entropy_coded(bytes, at);
            }
        }
        markers
    }
}

/// The marker at or after `at`, and where its segment starts.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = bytes.get(at..)?;
    let start = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xff))?;
    Some((rest[start + 1], at + start + 2))
}

/// Where the marker after a scan begins; `ff 00` is data and `ff d0..d7` are restarts.
fn skip_entropy_coded(bytes: &[u8], mut at: usize) -> usize {
    while let Some(rest) = bytes.get(at..) {
        let Some(found) = rest.iter().position(|&b| b == 0xff) else { break };
        match rest.get(found + 1) {
            Some(0x00 | 0xff | 0xd0..=0xd7) => at += found + 1,
            Some(_) => return at + found,
            None => break,
        }
    }
    bytes.len()
}
