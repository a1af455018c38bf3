//! Files that no encoder at hand writes.

/// A baseline JPEG of one 8×8 block per component, each of one value: only DC coefficients.
pub(crate) struct FlatJpeg<'a> {
    /// The stored value of each component.
    pub(crate) components: &'a [u8],
    /// The transform of an Adobe marker: 0 for RGB or CMYK, 2 for YCCK.
    pub(crate) adobe: Option<u8>,
}

impl FlatJpeg<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let count = self.components.len() as u8;
        let mut jpeg = vec![0xff, 0xd8];
        if let Some(transform) = self.adobe {
            let mut adobe = b"Adobe\0\x64\0\0\0\0".to_vec();
            adobe.push(transform);
            segment(&mut jpeg, 0xee, &adobe);
        }
        let mut quantisation = vec![0];
        quantisation.extend([1; 64]);
        segment(&mut jpeg, 0xdb, &quantisation);
        let ids = 1..=count;
        let mut frame = vec![8, 0, 8, 0, 8, count];
        frame.extend(ids.clone().flat_map(|id| [id, 0x11, 0]));
        segment(&mut jpeg, 0xc0, &frame);
        // DC: the categories 0 to 11 as 4-bit codes in order. AC: end of block as the code `0`.
        let mut dc = vec![0x00, 0, 0, 0, 12];
        dc.extend([0; 12]);
        dc.extend(0..12);
        segment(&mut jpeg, 0xc4, &dc);
        let mut ac = vec![0x10, 1];
        ac.extend([0; 15]);
        ac.push(0);
        segment(&mut jpeg, 0xc4, &ac);
        let mut scan = vec![count];
        scan.extend(ids.flat_map(|id| [id, 0]));
        scan.extend([0, 63, 0]);
        segment(&mut jpeg, 0xda, &scan);
        jpeg.extend(self.entropy_coded());
        jpeg.extend([0xff, 0xd9]);
        jpeg
    }

    fn entropy_coded(&self) -> Vec<u8> {
        let mut bits = String::new();
        for &value in self.components {
            let dc = 8 * (i32::from(value) - 128);
            let category = 32 - dc.unsigned_abs().leading_zeros();
            bits += &format!("{category:04b}");
            if category > 0 {
                let offset = if dc < 0 { (1 << category) - 1 } else { 0 };
                bits += &format!("{:0width$b}", dc + offset, width = category as usize);
            }
            bits.push('0');
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let bytes = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |value, &bit| value << 1 | (bit - b'0')));
        bytes.flat_map(|byte| if byte == 0xff { vec![0xff, 0] } else { vec![byte] }).collect()
    }
}

/// Adds an EXIF segment that holds nothing but an orientation.
pub(crate) fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    exif.extend([0; 4]);
    let mut with = jpeg[..2].to_vec();
    segment(&mut with, 0xe1, &exif);
    with.extend_from_slice(&jpeg[2..]);
    with
}

fn segment(jpeg: &mut Vec<u8>, marker: u8, content: &[u8]) {
    jpeg.extend([0xff, marker]);
    jpeg.extend((content.len() as u16 + 2).to_be_bytes());
    jpeg.extend(content);
}
