//! Whatever architecture: a graph that fits, a TOML form that reads back, a twin.

use proptest::prelude::*;
use residua_graph::{Shape, Weights};
use residua_resnet::{
    Architecture, ArchitectureBuilder, Block, Family, InitOptions, Shortcut, StemKind,
    init_weights, summary,
};

/// Descriptions, most of them valid.
fn descriptions() -> impl Strategy<Value = ArchitectureBuilder> {
    let family = prop::sample::select(vec![Family::Plain, Family::Residual, Family::Preact]);
    let block = prop::sample::select(vec![Block::Basic, Block::Bottleneck, Block::Dense]);
    let shortcut = prop::sample::select(Shortcut::ALL.to_vec());
    let stem = prop::sample::select(vec![StemKind::Conv3x3, StemKind::Conv7x7Pool]);
    // A stride of 0 stands for a transition.
    let stages = prop::collection::vec((1..4usize, 1..20usize, 0..4usize), 1..5);
    let input = (1..5usize, 1..80usize, 1..80usize);
    (family, block, shortcut, stem, stages, input, any::<bool>(), "[ -~]{1,12}", 2..20usize)
        .prop_map(|(family, block, shortcut, stem, stages, (c, h, w), norm, name, classes)| {
            let shortcut = match family {
                Family::Plain => Shortcut::None,
                _ => shortcut,
            };
            let stem = if block == Block::Dense { StemKind::Linear } else { stem };
            let mut builder = Architecture::builder(Shape::image(c, h, w), classes)
                .name(&name)
                .family(family)
                .block(block)
                .shortcut(shortcut)
                .norm(norm)
                .stem(stem, stages[0].1);
            for (blocks, width, stride) in stages {
                builder = match (block, stride) {
                    (Block::Dense, _) => builder.stage(blocks, width, 1),
                    (_, 0) => builder.pooled_stage(blocks, width),
                    _ => builder.stage(blocks, width, stride),
                };
            }
            builder
        })
}

fn architectures() -> impl Strategy<Value = Architecture> {
    descriptions().prop_filter_map("not valid", |description| description.build().ok())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        max_global_rejects: 100_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_architecture_has_a_graph_that_ends_in_its_classes(architecture in architectures()) {
        let graph = architecture.to_graph().unwrap();
        prop_assert_eq!(graph.shape(graph.input()).len(), architecture.input().len());
        prop_assert_eq!(graph.shape(graph.output()), Shape::vector(architecture.classes()));
        prop_assert_eq!(architecture.blocks().len(), architecture.num_blocks());
        let summary = summary(&architecture);
        prop_assert_eq!(summary.rows.iter().map(|row| row.parameters).sum::<u64>(), summary.parameters);
        prop_assert_eq!(summary.rows.iter().map(|row| row.macs).sum::<u64>(), summary.macs);
    }

    #[test]
    fn toml_and_json_read_back(architecture in architectures()) {
        let text = architecture.to_toml();
        prop_assert_eq!(&Architecture::from_toml(&text).unwrap(), &architecture, "{}", text);
        let json = serde_json::to_string(&architecture).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Architecture>(&json).unwrap(), &architecture);
    }

    #[test]
    fn twins_share_their_tensors(architecture in architectures()) {
        let plain = architecture.plain_twin();
        prop_assert_eq!(plain.shortcut(), Shortcut::None);
        let Ok(residual) = plain.residual_twin() else { return Ok(()) };
        let (plain_graph, graph) = (plain.to_graph().unwrap(), residual.to_graph().unwrap());
        prop_assert_eq!(plain_graph.params(), graph.params());
        prop_assert_eq!(plain_graph.buffers(), graph.buffers());
        let start = |architecture: &Architecture| -> Weights {
            init_weights(architecture, &graph, &InitOptions::default())
        };
        prop_assert!(start(&residual).params.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn no_description_panics(description in descriptions(), text in "[ -~\n]{0,60}") {
        if let Err(error) = description.build() {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = Architecture::from_toml(&text);
    }

    #[test]
    fn no_name_panics(name in "(preact-|wide-|dense-)?(plain|resnet)[0-9]{0,10}[-a-z0-9]{0,12}") {
        if let Ok(architecture) = Architecture::named(&name, Shape::image(3, 40, 40), 10) {
            let again = Architecture::named(architecture.name(), Shape::image(3, 40, 40), 10);
            prop_assert_eq!(again.unwrap(), architecture);
        }
    }
}
