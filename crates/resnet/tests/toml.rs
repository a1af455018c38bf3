//! The TOML form: what it looks like, and what is refused.

use residua_resnet::{Architecture, Block, Family, Shape, Shortcut, StemKind};

const RESNET8: &str = r#"name = "resnet8"
family = "residual"
block = "basic"
shortcut = "zero-pad"
norm = true
classes = 10
input = [3, 32, 32]

[stem]
kind = "conv3x3"
width = 16

[[stages]]
blocks = 1
width = 16
stride = 1

[[stages]]
blocks = 1
width = 32
stride = 2

[[stages]]
blocks = 1
width = 64
stride = 2
"#;

#[test]
fn the_form_is_stable() {
    let architecture = Architecture::named("resnet8", Shape::image(3, 32, 32), 10).unwrap();
    assert_eq!(architecture.to_toml(), RESNET8);
    assert_eq!(Architecture::from_toml(RESNET8).unwrap(), architecture);
}

#[test]
fn names_builder_and_json_give_the_same_value() {
    let built = Architecture::builder(Shape::image(3, 32, 32), 10)
        .name("resnet8")
        .family(Family::Residual)
        .block(Block::Basic)
        .shortcut(Shortcut::ZeroPad)
        .norm(true)
        .stem(StemKind::Conv3x3, 16)
        .stage(1, 16, 1)
        .stage(1, 32, 2)
        .stage(1, 64, 2)
        .build()
        .unwrap();
    assert_eq!(built, Architecture::from_toml(RESNET8).unwrap());
    let json = serde_json::to_string(&built).unwrap();
    assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), built);
    // A form that is not valid is refused by any format.
    let wrong = json.replace("\"classes\":10", "\"classes\":1");
    let error = serde_json::from_str::<Architecture>(&wrong).unwrap_err().to_string();
    assert_eq!(error, "resnet8: classes is 1, expected 2 to 1048576");
}

#[test]
fn every_listed_name_survives_the_round_trip() {
    for listed in Architecture::names() {
        let input = match listed.name.contains("dense") {
            true => Shape::vector(5),
            false => Shape::image(3, 64, 64),
        };
        let architecture = Architecture::named(listed.name, input, 7).unwrap();
        let text = architecture.to_toml();
        assert_eq!(Architecture::from_toml(&text).unwrap(), architecture, "{text}");
    }
}

#[test]
fn only_name_norm_and_stride_may_be_left_out() {
    for line in RESNET8.lines().filter(|line| line.contains(" = ")) {
        let key = line.split(' ').next().unwrap();
        let without = RESNET8.replacen(&format!("{line}\n"), "", 1);
        let result = Architecture::from_toml(&without);
        match key {
            "name" => assert_eq!(result.unwrap().name(), "custom"),
            "norm" => assert!(result.unwrap().norm()),
            // The first one, of stage 1.
            "stride" => drop(result.unwrap()),
            _ => {
                let message = result.unwrap_err().to_string();
                assert!(message.contains(&format!("missing field `{key}`")), "{key}: {message}");
            }
        }
    }
}

/// Replaces the first occurrence and returns the error.
fn refusal(from: &str, to: &str) -> String {
    assert!(RESNET8.contains(from), "{from}");
    Architecture::from_toml(&RESNET8.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn unknown_keys_and_words_are_refused_with_their_line() {
    for (from, to, says) in [
        ("classes = 10", "classes = 10\ncolour = 1", "unknown field `colour`"),
        ("kind = \"conv3x3\"", "kind = \"conv3x3\"\ncolour = 1", "unknown field `colour`"),
        ("blocks = 1", "blocks = 1\ncolour = 1", "unknown field `colour`"),
        ("\"basic\"", "\"basics\"", "unknown variant `basics`, expected one of `basic`"),
        ("\"residual\"", "\"Residual\"", "unknown variant `Residual`"),
        ("\"conv3x3\"", "\"conv5x5\"", "unknown variant `conv5x5`"),
        ("[3, 32, 32]", "[3, 32]", "invalid length 2, expected [channels, rows, columns]"),
        ("[3, 32, 32]", "[3, -32, 32]", "invalid value"),
        ("classes = 10", "classes = 10.5", "invalid type: floating point"),
        ("norm = true", "norm = \"yes\"", "invalid type: string"),
        ("classes = 10", "classes = 10\nclasses = 10", "duplicate key"),
        ("classes = 10", "classes = ", "TOML parse error at line 6"),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(says), "{message}");
        assert!(message.contains("line "), "{message}");
    }
}

#[test]
fn what_can_not_be_is_refused() {
    for (from, to, says) in [
        ("\"residual\"", "\"plain\"", "shortcut is zero-pad, expected none in a plain network"),
        (
            "\"zero-pad\"",
            "\"none\"",
            "shortcut is none, expected zero-pad, projection or projection-all",
        ),
        ("\"basic\"", "\"dense\"", "stem is a convolution, expected linear before dense blocks"),
        (
            "\"conv3x3\"",
            "\"linear\"",
            "stem is linear, expected a convolution before convolutional blocks",
        ),
        ("name = \"resnet8\"", "name = \" \"", "name is \" \", expected 1 to 100 bytes"),
        ("blocks = 1", "blocks = 0", "number of blocks of stage 1 is 0, expected 1 to 4096"),
        ("blocks = 1", "blocks = 4096", "number of blocks is 4098, expected 0 to 4096"),
        ("stride = 2", "stride = 0", "stride of stage 2 is 0, expected 1 to 8"),
        ("width = 16\nstride", "width = 0\nstride", "width of stage 1 is 0, expected 1 to 16384"),
        ("[3, 32, 32]", "[3, 2, 32]", "input is 3x2x32, expected at least 3x3x3"),
        (
            "width = 32",
            "width = 8",
            "layer2.0.downsample: input has 16 channels, expected at most 8",
        ),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(says), "{message}");
    }
    let no_stage =
        RESNET8.split("[[stages]]").next().unwrap().replace("[stem]", "stages = []\n[stem]");
    let message = Architecture::from_toml(&no_stage).unwrap_err().to_string();
    assert_eq!(message, "resnet8: number of stages is 0, expected at least 1");
}

#[test]
fn a_network_too_large_for_memory_is_refused() {
    let large = RESNET8.replace("blocks = 1\nwidth = 64", "blocks = 4\nwidth = 16384");
    let message = Architecture::from_toml(&large).unwrap_err().to_string();
    assert!(message.starts_with("resnet8: number of parameters is 1"), "{message}");
    assert!(message.ends_with("expected at most 4294967296"), "{message}");
}
