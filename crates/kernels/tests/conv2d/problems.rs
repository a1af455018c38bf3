//! The convolutions that every kernel is tested on: sizes around the edges of vectors, tiles and
//! images rather than all combinations.

use residua_kernels::{Conv2dProblem, ZeroPadProblem};
use residua_testkit::Generator;

const CHANNELS: [usize; 15] = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65];
const KERNELS: [[usize; 2]; 8] = [[1, 1], [3, 3], [5, 5], [7, 7], [1, 3], [3, 1], [2, 2], [4, 3]];
const STRIDES: [[usize; 2]; 5] = [[1, 1], [2, 2], [3, 3], [1, 2], [2, 1]];

/// Layers of residual networks, at their image sizes or a little smaller, and odd ones out.
const NAMED: [&str; 40] = [
    "n2ic3ih32oc16kh3sh1ph1",
    "n2ic16ih32oc16kh3sh1ph1",
    "n2ic16ih32oc32kh3sh2ph1",
    "n1ic16ih32oc32kh1sh2ph0",
    "n2ic32ih16oc32kh3sh1ph1",
    "n1ic32ih16oc64kh3sh2ph1",
    "n2ic64ih8oc64kh3sh1ph1",
    "n1ic3ih40iw44oc64kh7sh2ph3",
    "n1ic64ih14oc256kh1sh1ph0",
    "n1ic256ih7oc64kh1sh1ph0",
    // More pixels than are taken at once.
    "n2ic5ih11iw13oc600kh1sh1ph0",
    "n3ic600ih10oc7kh1sh1ph0",
    // Channels whose pixels are laid out apart, with strides and zeros around.
    "n3ic256ih6oc40kh1sh1ph0",
    "n2ic256ih7iw9oc256kh1sh2ph0",
    "n2ic24ih5oc512kh1sh1ph1",
    // Winograd's tiles beyond the picture, paddings of its own, more tiles than are taken at once.
    "n3ic32ih5iw7oc48kh3sh1ph1",
    "n2ic48ih9iw6oc32kh3sh1ph0",
    "n1ic32ih7iw8oc32kh3sh1ph0pw1",
    "n5ic64ih10iw11oc32kh3sh1ph1",
    // Fewer pixels than a tile has rows.
    "n1ic64ih3iw4oc33kh1sh1ph0",
    "n2ic128ih7oc128kh3sh1ph1",
    "n1ic160ih8oc160kh3sh1ph1",
    "n1ic512ih2oc72kh3sh1ph1",
    "n1ic72ih9iw300oc8kh3sh1ph1",
    "n5ic3ih5iw7oc4kh3kw2sh1ph0",
    // Many small samples under a large weight, which are taken together.
    "n70ic8ih2oc128kh3sh1ph1",
    "n33ic24ih3iw2oc40kh3sh2ph1",
    "n9ic64ih1oc65kh3sh1ph1",
    // A kernel as large as its input, and images smaller than their padding.
    "n2ic5ih7oc6kh7sh1ph0",
    "n2ic17ih1oc33kh3sh1ph1",
    "n3ic3ih1iw2oc5kh7sh1ph3",
    "n2ic4ih2iw1oc3kh5sh3ph3",
    // A stride larger than the kernel, with rows and columns that nothing reads.
    "n2ic16ih8iw9oc16kh1sh3ph0",
    "n2ic6ih11oc7kh2sh5ph1",
    "n1ic16ih6oc16kh3sh2ph0",
    // Windows that see nothing but padding.
    "n2ic5ih1iw2oc6kh1sh1sw7ph1pw3",
    "n1ic3ih2oc4kh2sh3ph5",
    // Tall kernels, and one that is taller than what one tile call takes.
    "n2ic3ih70iw5oc17kh65kw2sh2ph3",
    "n1ic2ih36iw4oc5kh33kw1sh1ph16",
    "n1ic2ih140iw3oc5kh130kw1sh1ph2",
];

/// All of them.
pub(crate) fn all() -> Vec<Conv2dProblem> {
    let mut problems: Vec<Conv2dProblem> =
        NAMED.iter().map(|descriptor| descriptor.parse().expect("a valid descriptor")).collect();
    problems.extend(channel_edges());
    problems.extend(width_edges());
    problems.extend(kernels_strides_paddings());
    problems.extend(linear());
    problems.extend([0, 1, 2, 3, 7].map(|n| square(3).with_n(n)));
    problems
}

/// A few small ones, on which the checkers themselves are tested.
pub(crate) fn few() -> Vec<Conv2dProblem> {
    let uneven = Conv2dProblem { oc: 5, sh: 2, sw: 1, ph: 2, ..square(3) };
    vec![square(3), uneven, Conv2dProblem { ic: 17, oc: 17, kh: 1, kw: 1, ..square(3) }]
}

/// Distinct sizes wherever they can differ.
fn square(kernel_size: usize) -> Conv2dProblem {
    let (kh, kw, ph, pw) = (kernel_size, kernel_size, kernel_size / 2, kernel_size / 2);
    Conv2dProblem { n: 2, ic: 3, ih: 5, iw: 7, oc: 4, kh, kw, sh: 1, sw: 1, ph, pw }
}

/// Every number of input channels with three numbers of output channels, which cover theirs too.
fn channel_edges() -> impl Iterator<Item = Conv2dProblem> {
    let pairs = (0..CHANNELS.len() * 3).map(|i| {
        let ic_i = i / 3;
        (i, CHANNELS[ic_i], CHANNELS[(ic_i * 4 + i % 3 * 6) % CHANNELS.len()])
    });
    pairs.map(|(i, ic, oc)| {
        let kernel_size = [3, 1, 3][i % 3];
        let (n, ih, iw) = (1 + i % 2, 3 + i % 4, [5, 16, 9, 3, 17][i % 5]);
        Conv2dProblem { n, ic, oc, ih, iw, ..square(kernel_size) }
    })
}

/// Every width to past two 14-pixel tiles and two vectors, in both strides.
fn width_edges() -> impl Iterator<Item = Conv2dProblem> {
    (1..=35).map(|iw| {
        let channels = [[16, 16], [3, 16], [16, 32], [32, 64], [64, 17]];
        let [ic, oc] = channels[iw % channels.len()];
        let stride = 1 + iw / 2 % 2;
        Conv2dProblem { n: 1, ic, oc, ih: 3, iw, sh: stride, sw: stride, ..square(3) }
    })
}

/// Every kernel size with every stride, and with paddings, channels and widths at random.
fn kernels_strides_paddings() -> impl Iterator<Item = Conv2dProblem> {
    let mut generator = Generator::new(17);
    let pairs =
        KERNELS.iter().flat_map(|kernel| STRIDES.iter().map(move |stride| (kernel, stride)));
    let three = pairs.flat_map(|pair| [pair; 3]).enumerate();
    let problems = three.map(move |(i, (&[kh, kw], &[sh, sw]))| {
        let mut pick = |items: &[usize]| generator.pick(items);
        let (ic, oc) = (pick(&CHANNELS[..12]), pick(&CHANNELS[..12]));
        let (ih, iw) = (pick(&[1, 4, 7, 8, 9]), pick(&[1, 6, 8, 11, 15, 18]));
        let (ph, pw) = ([0, kh / 2, pick(&[1, 2, 3])][i % 3], [0, kw / 2, pick(&[0, 1, 3])][i % 3]);
        Conv2dProblem { n: pick(&[1, 2, 3]), ic, ih, iw, oc, kh, kw, sh, sw, ph, pw }
    });
    problems.filter_map(|p| p.validate().ok())
}

/// Linear layers over `iw` samples.
fn linear() -> impl Iterator<Item = Conv2dProblem> {
    let sizes = [(1, 10, 64), (2, 256, 128), (3, 10, 65), (13, 100, 33), (33, 2, 2), (128, 10, 64)];
    sizes.into_iter().map(|(samples, oc, ic)| Conv2dProblem {
        n: 1,
        ic,
        oc,
        ih: 1,
        iw: samples,
        ..square(1)
    })
}

/// A zero-padding shortcut of stride 2 whose output is as large as a convolution's input.
pub(crate) fn shortcut(p: &Conv2dProblem) -> ZeroPadProblem {
    let (ic, ih, iw) = (p.ic.div_ceil(2), 2 * p.ih - 1, 2 * p.iw);
    let pad_before = (p.ic - ic) / 2;
    let pad_after = p.ic - ic - pad_before;
    ZeroPadProblem { n: p.n, ic, ih, iw, stride: 2, pad_before, pad_after }
}
