//! What names mean, and what is said of those that are none.

use residua_resnet::{
    Architecture, ArchitectureOptions, Block, Family, Shape, Shortcut, StemKind, summary,
};

const CIFAR: Shape = Shape::image(3, 32, 32);
const PHOTOGRAPH: Shape = Shape::image(3, 224, 224);

fn named(name: &str) -> Architecture {
    let input = if name.starts_with("dense") { Shape::vector(2) } else { CIFAR };
    Architecture::named(name, input, 10).unwrap()
}

fn refusal(name: &str, options: &ArchitectureOptions) -> String {
    Architecture::named_with(name, CIFAR, 10, options).unwrap_err().to_string()
}

/// Numbers of parameters with 10 classes; those of He et al. are the ones of
/// github.com/akamaster/pytorch_resnet_cifar10, the others round to those of the papers.
#[test]
fn small_image_networks_have_the_known_sizes() {
    for (name, parameters, paper) in [
        ("resnet20", 269_722, "0.27 M"),
        ("resnet32", 464_154, "0.46 M"),
        ("resnet44", 658_586, "0.66 M"),
        ("resnet56", 853_018, "0.85 M"),
        ("resnet110", 1_727_962, "1.73 M"),
        ("resnet1202", 19_421_274, "19.42 M"),
        ("preact-resnet164", 1_703_258, "1.70 M"),
        ("preact-resnet1001", 10_327_706, "10.33 M"),
        ("wide-resnet16-8", 10_961_370, "10.96 M"),
        ("wide-resnet28-10", 36_479_194, "36.48 M"),
        ("wide-resnet40-4", 8_949_210, "8.95 M"),
    ] {
        let summary = summary(&named(name));
        assert_eq!(summary.parameters, parameters, "{name}");
        assert_eq!(format!("{:.2} M", parameters as f64 / 1e6), paper, "{name}");
        assert_eq!(summary.name, name);
    }
    assert_eq!(summary(&named("resnet20")).macs, 40_551_040);
}

#[test]
fn every_listed_name_is_one_and_keeps_its_spelling() {
    for listed in Architecture::names() {
        let architecture = match listed.name.contains("dense") {
            true => Architecture::named(listed.name, Shape::vector(2), 3),
            false => Architecture::named(listed.name, PHOTOGRAPH, 3),
        };
        let architecture = architecture.unwrap();
        assert!(architecture.name().starts_with(listed.name), "{}", listed.name);
        assert!(!listed.about.is_empty());
        // What it calls itself is a name of the same architecture.
        let again = Architecture::named(architecture.name(), architecture.input(), 3);
        assert_eq!(again.unwrap(), architecture);
    }
}

#[test]
fn ambiguous_depths_follow_the_documented_rule() {
    for (name, stem, block, blocks) in [
        ("resnet18", StemKind::Conv7x7Pool, Block::Basic, 8),
        // 50 is 6·8+2 and 152 is 6·25+2; torchvision's networks win.
        ("resnet50", StemKind::Conv7x7Pool, Block::Bottleneck, 16),
        ("resnet152", StemKind::Conv7x7Pool, Block::Bottleneck, 50),
        // 110 is 6·18+2 and 9·12+2; basic wins.
        ("resnet110", StemKind::Conv3x3, Block::Basic, 54),
        ("resnet110-bottleneck", StemKind::Conv3x3, Block::Bottleneck, 36),
        // 164 is 6·27+2 and 9·18+2; the paper's wins.
        ("resnet164", StemKind::Conv3x3, Block::Bottleneck, 54),
        ("resnet164-basic", StemKind::Conv3x3, Block::Basic, 81),
        // 1001 and 29 are 9n+2 only.
        ("preact-resnet1001", StemKind::Conv3x3, Block::Bottleneck, 333),
        ("resnet29", StemKind::Conv3x3, Block::Bottleneck, 9),
        ("preact-resnet18", StemKind::Conv7x7Pool, Block::Basic, 8),
    ] {
        let architecture = named(name);
        assert_eq!(architecture.stem().kind, stem, "{name}");
        assert_eq!(architecture.block(), block, "{name}");
        assert_eq!(architecture.num_blocks(), blocks, "{name}");
        assert_eq!(architecture.name(), name);
    }
}

#[test]
fn names_set_family_shortcut_and_norm() {
    for (name, family, shortcut, norm) in [
        ("resnet20", Family::Residual, Shortcut::ZeroPad, true),
        ("resnet20-projection", Family::Residual, Shortcut::Projection, true),
        ("resnet20-projection-all-no-norm", Family::Residual, Shortcut::ProjectionAll, false),
        ("resnet164", Family::Residual, Shortcut::Projection, true),
        ("resnet34", Family::Residual, Shortcut::Projection, true),
        ("resnet34-zero-pad", Family::Residual, Shortcut::ZeroPad, true),
        ("plain34", Family::Plain, Shortcut::None, true),
        ("plain20-no-norm", Family::Plain, Shortcut::None, false),
        ("preact-resnet20", Family::Preact, Shortcut::ZeroPad, true),
        ("preact-plain20", Family::Preact, Shortcut::None, true),
        ("wide-resnet16-4", Family::Preact, Shortcut::Projection, true),
        ("wide-plain16-4", Family::Preact, Shortcut::None, true),
        ("dense-resnet20", Family::Residual, Shortcut::ZeroPad, true),
        ("dense-resnet2", Family::Residual, Shortcut::ZeroPad, true),
        ("dense-plain8-w32-no-norm", Family::Plain, Shortcut::None, false),
    ] {
        let architecture = named(name);
        assert_eq!(architecture.family(), family, "{name}");
        assert_eq!(architecture.shortcut(), shortcut, "{name}");
        assert_eq!(architecture.norm(), norm, "{name}");
        assert_eq!(architecture.name(), name);
    }
}

#[test]
fn a_dense_network_of_two_layers_has_no_blocks() {
    let shallow = named("dense-resnet2-w8");
    assert_eq!((shallow.depth(), shallow.stages().len(), shallow.blocks().len()), (2, 0, 0));
    let graph = shallow.to_graph().unwrap();
    let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["fc1", "bn1", "relu", "fc"]);
    assert_eq!(shallow.plain_twin().to_graph().unwrap().nodes(), graph.nodes());
    let toml = shallow.to_toml();
    assert_eq!(Architecture::from_toml(&toml).unwrap(), shallow);
}

#[test]
fn defaults_are_left_out_of_the_name() {
    for (name, shortest) in [
        ("dense-resnet", "dense-resnet20"),
        ("dense-resnet20-w64-zero-pad", "dense-resnet20"),
        ("resnet20-w16-basic-zero-pad", "resnet20"),
        ("resnet164-bottleneck-projection", "resnet164"),
        ("wide-resnet28-10-projection", "wide-resnet28-10"),
    ] {
        assert_eq!(named(name).name(), shortest);
        assert_eq!(named(name), named(shortest));
    }
}

#[test]
fn options_are_as_good_as_names() {
    let none = ArchitectureOptions::default();
    let depth = |depth| ArchitectureOptions { depth: Some(depth), ..none };
    let width = |width| ArchitectureOptions { width: Some(width), ..none };
    let shortcut = |shortcut| ArchitectureOptions { shortcut: Some(shortcut), ..none };
    let norm = |norm| ArchitectureOptions { norm: Some(norm), ..none };
    for (name, options, expected) in [
        ("resnet", depth(56), "resnet56"),
        ("resnet56", depth(56), "resnet56"),
        ("resnet20", width(8), "resnet20-w8"),
        ("resnet50", width(32), "resnet50-w32"),
        ("wide-resnet16", width(4), "wide-resnet16-4"),
        ("wide-resnet", ArchitectureOptions { width: Some(4), ..depth(16) }, "wide-resnet16-4"),
        ("resnet20", shortcut(Shortcut::Projection), "resnet20-projection"),
        ("resnet20", shortcut(Shortcut::ZeroPad), "resnet20"),
        ("resnet20", shortcut(Shortcut::None), "plain20"),
        ("plain20", shortcut(Shortcut::None), "plain20"),
        ("resnet20", norm(false), "resnet20-no-norm"),
        ("resnet20", norm(true), "resnet20"),
    ] {
        let got = Architecture::named_with(name, CIFAR, 10, &options).unwrap();
        assert_eq!(got, named(expected), "{name} with {options:?}");
    }
    for (name, options, expected) in [
        ("resnet20", depth(56), "resnet20: depth is 56, expected 20, as the name says"),
        ("resnet20-w8", width(16), "resnet20-w8: width is 16, expected 8, as the name says"),
        (
            "wide-resnet16-4",
            width(8),
            "wide-resnet16-4: width factor is 8, expected 4, as the name says",
        ),
        (
            "plain20",
            shortcut(Shortcut::ZeroPad),
            "plain20: shortcut is zero-pad, expected none in a plain network",
        ),
        (
            "resnet20-projection",
            shortcut(Shortcut::None),
            "resnet20-projection: shortcut is none, expected projection, as the name says",
        ),
        (
            "resnet20-no-norm",
            norm(true),
            "resnet20-no-norm: norm is true, expected false, as the name says",
        ),
    ] {
        assert_eq!(refusal(name, &options), expected);
    }
}

#[test]
fn refusals_say_what_is_wrong_and_what_would_be_right() {
    for (name, expected) in [
        ("resnet-20", "no architecture is called `resnet-20`; did you mean `resnet20`?"),
        ("Resnet20", "no architecture is called `Resnet20`; did you mean `resnet20`?"),
        ("resnet020x", "no architecture is called `resnet020x`; did you mean `resnet20`?"),
        ("resnet21", "resnet21: depth is 21, expected 6n+2 or 9n+2, such as 20 or 26"),
        ("resnet51", "resnet51: depth is 51, expected 6n+2 or 9n+2, such as 50 or 56"),
        ("resnet3", "resnet3: depth is 3, expected 6n+2 or 9n+2, such as 8"),
        (
            "resnet30-basic",
            "resnet30-basic: depth is 30, expected 6n+2 with n of at least 1, such as 26 or 32",
        ),
        ("resnet", "resnet: depth is not given, expected one as in resnet20"),
        ("preact-plain", "preact-plain: depth is not given, expected one as in preact-plain20"),
        (
            "wide-resnet28",
            "wide-resnet28: width factor is not given, expected one as in wide-resnet28-10",
        ),
        (
            "wide-resnet27-2",
            "wide-resnet27-2: depth is 27, expected 6n+4 with n of at least 1, such as 22 or 28",
        ),
        (
            "dense-resnet21",
            "dense-resnet21: depth is 21, expected 2n+2 with n of at least 1, such as 20 or 22",
        ),
        (
            "plain20-zero-pad",
            "plain20-zero-pad: shortcut is zero-pad, expected none in a plain network",
        ),
        (
            "resnet50-basic",
            "resnet50-basic: block is given, expected none, as the network for photographs of this \
             depth has its own",
        ),
        ("resnet20-w0", "resnet20-w0: stem width is 0, expected 1 to 16384"),
        ("wide-resnet28-0", "wide-resnet28-0: width of stage 1 is 0, expected 1 to 16384"),
        (
            "resnet4294967295",
            "resnet4294967295: depth is 4294967295, expected 6n+2 or 9n+2, such as 4294967294 or 4294967300",
        ),
        (
            "resnet4294967294",
            "resnet4294967294: number of blocks of stage 1 is 715827882, expected 1 to 4096",
        ),
    ] {
        let got = Architecture::named(name, PHOTOGRAPH, 10).map(|_| ()).unwrap_err();
        assert_eq!(got.to_string(), expected);
    }
    for name in ["", "vgg16", "resnet20 ", "resnet20-no-norm-no-norm", "resnet99999999999999999999"]
    {
        let message = refusal(name, &ArchitectureOptions::default());
        assert!(message.starts_with(&format!("no architecture is called `{name}`")), "{message}");
    }
}

#[test]
fn networks_adapt_to_their_input() {
    for (name, input, classes) in [
        ("resnet20", Shape::image(1, 28, 28), 10),
        ("resnet18", Shape::image(1, 28, 28), 10),
        ("resnet18", Shape::image(3, 64, 48), 200),
        ("resnet18", Shape::image(3, 17, 17), 2),
        ("resnet20", Shape::image(3, 3, 3), 2),
        ("dense-resnet", Shape::vector(784), 10),
        ("dense-resnet", Shape::image(3, 32, 32), 10),
    ] {
        let architecture = Architecture::named(name, input, classes).unwrap();
        let graph = architecture.to_graph().unwrap();
        assert_eq!(architecture.input(), input);
        assert_eq!(graph.shape(graph.input()).len(), input.len());
        assert_eq!(graph.shape(graph.output()), Shape::vector(classes));
    }
}

#[test]
fn inputs_and_classes_out_of_range_are_refused() {
    let refusal =
        |name, input, classes| Architecture::named(name, input, classes).unwrap_err().to_string();
    assert_eq!(
        refusal("resnet18", Shape::image(3, 16, 32), 10),
        "resnet18: input is 3x16x32, expected at least 3x17x17, so that no stride skips all there is"
    );
    assert_eq!(
        refusal("resnet20", Shape::vector(2), 10),
        "resnet20: input is 2, expected an image of at least 3x3 (fully connected networks take \
         vectors)"
    );
    assert_eq!(
        refusal("resnet20", Shape::image(0, 32, 32), 10),
        "resnet20: number of input channels is 0, expected 1 to 16384"
    );
    assert_eq!(
        refusal("dense-plain", Shape::vector(0), 10),
        "dense-plain20: number of input features is 0, expected 1 to 67108864"
    );
    assert_eq!(refusal("resnet20", CIFAR, 1), "resnet20: classes is 1, expected 2 to 1048576");
    assert_eq!(
        refusal("resnet20", Shape::image(3, usize::MAX, 32), 10),
        format!("resnet20: input height is {}, expected 1 to 8192", usize::MAX)
    );
}
