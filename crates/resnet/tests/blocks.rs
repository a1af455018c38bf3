//! How blocks and shortcuts are put together.

use std::collections::HashSet;

use residua_graph::{Graph, Op, TensorSpec, ValueId};
use residua_resnet::{Architecture, Block, BlockSpan, Family, Pool, Shape, Shortcut, StemKind};

fn small(name: &str) -> (Architecture, Graph) {
    let input = if name.starts_with("dense") { Shape::vector(2) } else { Shape::image(3, 32, 32) };
    let architecture = Architecture::named(name, input, 10).unwrap();
    let graph = architecture.to_graph().unwrap();
    (architecture, graph)
}

/// `name <- inputs` of the nodes of a block, values by the name of their node, `x` its input.
fn wiring(graph: &Graph, block: &BlockSpan) -> Vec<String> {
    let local = |name: &str| name.strip_prefix(&format!("{}.", block.name)).unwrap().to_owned();
    let value = |id: ValueId| match graph.nodes().iter().find(|node| node.output == id) {
        _ if id == block.input => "x".to_owned(),
        Some(node) => local(&node.name),
        None => "input".to_owned(),
    };
    let nodes = &graph.nodes()[block.nodes.clone()];
    let line = |node: &residua_graph::Node| {
        let inputs: Vec<_> = node.inputs.iter().map(|&id| value(id)).collect();
        format!("{} <- {}", local(&node.name), inputs.join(" "))
    };
    nodes.iter().map(line).collect()
}

fn block_named(name: &str, block: &str) -> Vec<String> {
    let (architecture, graph) = small(name);
    let blocks = architecture.blocks();
    wiring(&graph, blocks.iter().find(|span| span.name == block).unwrap())
}

#[test]
fn basic_blocks_end_in_add_and_relu() {
    let identity = [
        "conv1 <- x",
        "bn1 <- conv1",
        "relu1 <- bn1",
        "conv2 <- relu1",
        "bn2 <- conv2",
        "add <- bn2 x",
        "relu2 <- add",
    ];
    assert_eq!(block_named("resnet20", "layer1.0"), identity);
    assert_eq!(block_named("resnet20-projection", "layer2.1"), identity);
    let mut padded = identity.map(str::to_owned).to_vec();
    padded[5] = "add <- bn2 downsample".to_owned();
    padded.insert(5, "downsample <- x".to_owned());
    assert_eq!(block_named("resnet20", "layer2.0"), padded);
    let mut plain = identity.map(str::to_owned).to_vec();
    plain[6] = "relu2 <- bn2".to_owned();
    plain.remove(5);
    assert_eq!(block_named("plain20", "layer1.0"), plain);
    assert_eq!(block_named("plain20", "layer3.0"), plain);
}

#[test]
fn projections_are_convolution_and_batch_norm() {
    let tail = ["downsample.0 <- x", "downsample.1 <- downsample.0", "add <- bn3 downsample.1"];
    let projected = block_named("resnet50", "layer2.0");
    assert_eq!(projected[8..11], tail);
    assert_eq!(projected[11], "relu3 <- add");
    // The first stage of a bottleneck network changes the channels, of a basic one nothing.
    assert_eq!(block_named("resnet50", "layer1.0"), projected);
    assert!(!block_named("resnet34", "layer1.0").contains(&tail[0].to_owned()));
    // Option C has them everywhere.
    assert_eq!(block_named("resnet50-projection-all", "layer2.1"), projected);
}

#[test]
fn pre_activation_blocks_start_with_batch_norm_and_end_with_the_sum() {
    let identity = [
        "bn1 <- x",
        "relu1 <- bn1",
        "conv1 <- relu1",
        "bn2 <- conv1",
        "relu2 <- bn2",
        "conv2 <- relu2",
        "add <- conv2 x",
    ];
    assert_eq!(block_named("preact-resnet20", "layer1.0"), identity);
    assert_eq!(block_named("preact-plain20", "layer1.0"), identity[..6]);
    // Without parameters the shortcut starts from the input, with them from the first ReLU.
    let padded = block_named("preact-resnet20", "layer2.0");
    assert_eq!(padded[6..], ["downsample <- x", "add <- conv2 downsample"]);
    let projected = block_named("wide-resnet16-4", "layer2.0");
    assert_eq!(projected[6..], ["downsample.0 <- relu1", "add <- conv2 downsample.0"]);
    let (_, graph) = small("preact-resnet20");
    let last: Vec<_> = graph.nodes().iter().rev().take(4).map(|node| node.name.as_str()).collect();
    assert_eq!(last, ["fc", "avgpool", "relu", "norm"]);
    assert_eq!(graph.nodes()[1].name, "layer1.0.bn1", "the stem is a bare convolution");
}

#[test]
fn dense_blocks_are_two_linear_layers_with_a_skip_around_both() {
    let with_norm = [
        "fc1 <- x",
        "bn1 <- fc1",
        "relu1 <- bn1",
        "fc2 <- relu1",
        "bn2 <- fc2",
        "add <- bn2 x",
        "relu2 <- add",
    ];
    assert_eq!(block_named("dense-resnet6", "layer1.1"), with_norm);
    let without = ["fc1 <- x", "relu1 <- fc1", "fc2 <- relu1", "add <- fc2 x", "relu2 <- add"];
    assert_eq!(block_named("dense-resnet6-no-norm", "layer1.0"), without);
    assert_eq!(block_named("dense-plain6-no-norm", "layer1.0")[3], "relu2 <- fc2");
}

#[test]
fn dense_blocks_change_width_with_either_shortcut() {
    let widening = |shortcut, norm| {
        let family = if shortcut == Shortcut::None { Family::Plain } else { Family::Residual };
        Architecture::builder(Shape::vector(20), 10)
            .family(family)
            .block(Block::Dense)
            .shortcut(shortcut)
            .norm(norm)
            .stem(StemKind::Linear, 128)
            .stage(1, 128, 1)
            .stage(1, 256, 1)
            .build()
            .unwrap()
    };
    let names = |architecture: &Architecture| -> Vec<(String, Vec<usize>)> {
        let graph = architecture.to_graph().unwrap();
        graph.params().iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect()
    };
    let padded = widening(Shortcut::ZeroPad, false);
    let graph = padded.to_graph().unwrap();
    let pad = graph.nodes().iter().find(|node| node.name == "layer2.0.downsample").unwrap();
    assert!(matches!(pad.op, Op::ZeroPad(pad) if (pad.pad_before, pad.pad_after) == (64, 64)));
    assert_eq!(names(&padded), names(&widening(Shortcut::None, false)));

    let ws = ("layer2.0.downsample.0.weight".to_owned(), vec![256, 128]);
    let projected = names(&widening(Shortcut::Projection, false));
    let learned: Vec<_> =
        projected.iter().filter(|(name, _)| name.contains("downsample")).collect();
    assert_eq!(learned, [&ws], "a matrix and nothing else");
    let with_norm = names(&widening(Shortcut::Projection, true));
    assert!(with_norm.contains(&ws));
    assert!(with_norm.contains(&("layer2.0.downsample.1.bias".to_owned(), vec![256])));
    let everywhere = names(&widening(Shortcut::ProjectionAll, false));
    assert!(everywhere.contains(&("layer1.0.downsample.0.weight".to_owned(), vec![128, 128])));
}

#[test]
fn biases_stand_where_no_batch_norm_follows() {
    let biases = |name| -> Vec<String> {
        let (_, graph) = small(name);
        let names = graph.params().iter().map(|spec| spec.name.clone());
        names.filter(|name| name.ends_with(".bias") && !name.contains("bn")).collect()
    };
    assert_eq!(biases("resnet8"), ["fc.bias"]);
    assert_eq!(biases("dense-resnet4"), ["fc.bias"]);
    let dense = ["fc1.bias", "layer1.0.fc1.bias", "layer1.0.fc2.bias", "fc.bias"];
    assert_eq!(biases("dense-resnet4-no-norm"), dense);
    let conv = biases("resnet8-projection-no-norm");
    assert_eq!(conv.len(), 8, "{conv:?}");
    assert_eq!(conv[0], "conv1.bias");
    assert!(!conv.iter().any(|name| name.contains("downsample")));
}

/// Names and shapes of all tensors.
fn tensors(graph: &Graph) -> (&[TensorSpec], &[TensorSpec]) {
    (graph.params(), graph.buffers())
}

#[test]
fn plain_twins_have_the_same_tensors() {
    for (residual, plain) in [
        ("resnet20", "plain20"),
        ("resnet56", "plain56"),
        ("resnet164-zero-pad", "plain164"),
        ("resnet34-zero-pad", "plain34"),
        ("resnet50-zero-pad", "plain50"),
        ("preact-resnet20", "preact-plain20"),
        ("wide-resnet16-2-zero-pad", "wide-plain16-2"),
        ("resnet20-no-norm", "plain20-no-norm"),
        ("dense-resnet10-w32", "dense-plain10-w32"),
        ("dense-resnet-no-norm", "dense-plain-no-norm"),
    ] {
        let (residual, residual_graph) = small(residual);
        let (plain, plain_graph) = small(plain);
        assert_eq!(tensors(&residual_graph), tensors(&plain_graph), "{}", residual.name());
        assert_eq!(residual.plain_twin(), plain);
        let twin = plain.residual_twin().unwrap();
        assert_eq!(twin, residual);
        assert!(!plain_graph.nodes().iter().any(|node| node.op == Op::Add));
        let adds = residual_graph.nodes().iter().filter(|node| node.op == Op::Add).count();
        assert_eq!(adds, residual.num_blocks());
    }
    // The comparison sees learned shortcuts.
    let ((_, projected), (_, plain)) = (small("resnet20-projection"), small("plain20"));
    assert_ne!(tensors(&projected), tensors(&plain));
}

#[test]
fn twins_keep_their_names_in_order() {
    let custom = |name| {
        let builder = Architecture::builder(Shape::image(3, 32, 32), 10);
        builder.name(name).stage(2, 16, 1).build().unwrap()
    };
    let mine = custom("mine");
    let plain = mine.plain_twin();
    assert_eq!((plain.name(), plain.family()), ("mine-plain", Family::Plain));
    assert_eq!(plain.plain_twin(), plain);
    let projected = plain.with_shortcut(Shortcut::ProjectionAll).unwrap();
    assert_eq!(projected.name(), "mine-projection-all");
    assert_eq!(projected.residual_twin().unwrap().name(), "mine-zero-pad");
    let long = custom(&"é".repeat(50)).plain_twin().residual_twin().unwrap();
    assert_eq!(long.name(), "é".repeat(45) + "-zero-pad");
    assert_eq!(small("resnet50").0.plain_twin().name(), "plain50");
    assert_eq!(small("resnet20-projection").0.residual_twin().unwrap().name(), "resnet20");
    let preact = small("preact-resnet20").0.plain_twin();
    assert_eq!(preact.family(), Family::Preact);
    // A plain network that narrows has no parameter-free shortcut.
    let narrowing = Architecture::builder(Shape::vector(8), 3)
        .name("narrowing")
        .family(Family::Plain)
        .block(Block::Dense)
        .stem(StemKind::Linear, 32)
        .stage(1, 16, 1)
        .build()
        .unwrap();
    assert_eq!(
        narrowing.residual_twin().unwrap_err().to_string(),
        "narrowing-zero-pad: layer1.0.downsample: input has 32 channels, expected at most 16"
    );
    assert!(narrowing.with_shortcut(Shortcut::Projection).is_ok());
}

#[test]
fn blocks_cover_all_between_stem_and_head() {
    for name in ["resnet20", "plain20", "resnet50", "preact-resnet164", "dense-resnet10", "plain34"]
    {
        let (architecture, graph) = small(name);
        let blocks = architecture.blocks();
        assert_eq!(blocks.len(), architecture.num_blocks());
        let starts = blocks.windows(2).map(|pair| (pair[0].nodes.end, pair[1].nodes.start));
        assert!(starts.clone().all(|(end, start)| end == start), "{name}");
        for pair in blocks.windows(2) {
            assert_eq!(pair[0].output, pair[1].input, "{name}");
        }
        for block in &blocks {
            assert_eq!(block.name, format!("layer{}.{}", block.stage + 1, block.index));
            let nodes = &graph.nodes()[block.nodes.clone()];
            let mut known = HashSet::from([block.input]);
            for node in nodes {
                assert!(node.name.starts_with(&format!("{}.", block.name)));
                assert!(node.inputs.iter().all(|input| known.contains(input)), "{}", node.name);
                known.insert(node.output);
            }
            assert!(known.contains(&block.branch));
            assert_eq!(nodes.last().unwrap().output, block.output);
            let add = nodes.iter().find(|node| node.op == Op::Add);
            let expected = block.shortcut.map(|shortcut| vec![block.branch, shortcut]);
            assert_eq!(add.map(|node| node.inputs.clone()), expected);
        }
        let stem = &graph.nodes()[..blocks[0].nodes.start];
        let head = &graph.nodes()[blocks.last().unwrap().nodes.end..];
        assert!(!stem.iter().chain(head).any(|node| node.name.starts_with("layer")));
    }
}

#[test]
fn identity_shortcuts_are_told_from_others() {
    let identities = |name| {
        let (architecture, _) = small(name);
        architecture.blocks().iter().filter(|block| block.has_identity_shortcut()).count()
    };
    assert_eq!(identities("resnet20"), 7);
    assert_eq!(identities("resnet20-projection"), 7);
    assert_eq!(identities("resnet20-projection-all"), 0);
    assert_eq!(identities("plain20"), 0);
    assert_eq!(identities("resnet50"), 12);
    assert_eq!(identities("dense-resnet10"), 4);
}

#[test]
fn module_names_are_unique() {
    for name in ["resnet20", "resnet50-projection-all", "preact-resnet20", "dense-resnet-no-norm"] {
        let (_, graph) = small(name);
        let names: HashSet<_> = graph.nodes().iter().map(|node| &node.name).collect();
        assert_eq!(names.len(), graph.nodes().len(), "{name}");
    }
}

/// `name <- inputs` of the nodes between two blocks.
fn between(family: Family, block: Block) -> (Vec<String>, Architecture) {
    let architecture = Architecture::builder(Shape::image(3, 8, 8), 10)
        .family(family)
        .block(block)
        .stage(1, 16, 1)
        .pooled_stage(2, 24)
        .build()
        .unwrap();
    let graph = architecture.to_graph().unwrap();
    let blocks = architecture.blocks();
    let nodes = &graph.nodes()[blocks[0].nodes.end..blocks[1].nodes.start];
    assert_eq!(nodes[0].inputs, [blocks[0].output]);
    assert!(nodes.windows(2).all(|pair| pair[1].inputs == [pair[0].output]));
    assert_eq!(blocks[1].input, nodes.last().unwrap().output);
    assert!(blocks[1].has_identity_shortcut() && blocks[2].has_identity_shortcut());
    assert_eq!(graph.shape(blocks[1].input), Shape::image(24 * block.expansion(), 4, 4));
    (nodes.iter().map(|node| node.name.clone()).collect(), architecture)
}

#[test]
fn a_transition_changes_width_and_size_before_the_blocks() {
    let name = |part: &&str| format!("layer2.transition.{part}");
    for block in [Block::Basic, Block::Bottleneck] {
        let (nodes, architecture) = between(Family::Residual, block);
        assert_eq!(nodes, ["conv", "maxpool", "bn", "relu"].iter().map(name).collect::<Vec<_>>());
        assert_eq!(architecture.depth(), 2 + 1 + 3 * block.depth());
        let (nodes, _) = between(Family::Preact, block);
        assert_eq!(nodes, ["bn", "relu", "conv", "maxpool"].iter().map(name).collect::<Vec<_>>());
    }
}

#[test]
fn a_transition_has_the_stride_and_a_picture() {
    let refusal = |text: &str| Architecture::from_toml(text).unwrap_err().to_string();
    let text = |block: &str, stem: &str, input: &str, stage: &str| {
        format!(
            "family = 'residual'\nblock = '{block}'\nshortcut = 'zero-pad'\nclasses = 10\n\
             input = {input}\nstem = {{ kind = '{stem}', width = 8 }}\n\
             stages = [{{ blocks = 1, width = 8, transition = 'conv3x3-pool'{stage} }}]"
        )
    };
    let fine = Architecture::from_toml(&text("basic", "conv3x3", "[3, 8, 8]", "")).unwrap();
    assert_eq!(Architecture::from_toml(&fine.to_toml()).unwrap(), fine);
    let error = refusal(&text("basic", "conv3x3", "[3, 8, 8]", ", stride = 2"));
    assert!(error.contains("stride of stage 1 is 2, expected 1 after a transition"), "{error}");
    let error = refusal(&text("dense", "linear", "[8, 1, 1]", ""));
    assert!(error.contains("transition of stage 1 is conv3x3-pool, expected none"), "{error}");
}

#[test]
fn each_pool_needs_two_rows() {
    let build = |side| {
        let builder = Architecture::builder(Shape::image(3, side, side), 10);
        builder.pooled_stage(1, 8).stage(1, 8, 2).pooled_stage(1, 8).build()
    };
    // 6 rows become 3, 2 and 1; 5 would become 2, 1 and none.
    let architecture = build(6).unwrap();
    let last = architecture.blocks().pop().unwrap();
    assert_eq!(architecture.to_graph().unwrap().shape(last.output), Shape::image(8, 1, 1));
    let error = build(5).unwrap_err().to_string();
    assert!(error.contains("expected at least 3x6x6"), "{error}");
}

/// The last nodes but the linear layer, of a last stage of this size.
fn head(pool: Pool, input: Shape, block: Block) -> Result<Vec<String>, String> {
    let stem = if block == Block::Dense { StemKind::Linear } else { StemKind::Conv3x3 };
    let architecture = Architecture::builder(input, 10)
        .block(block)
        .stem(stem, 8)
        .stage(1, 8, 1)
        .pool(pool)
        .build()
        .map_err(|error| error.to_string())?;
    assert_eq!(Architecture::from_toml(&architecture.to_toml()).unwrap(), architecture);
    let graph = architecture.to_graph().unwrap();
    let (fc, nodes) = graph.nodes().split_last().unwrap();
    assert_eq!(graph.shape(fc.inputs[0]), Shape::vector(8));
    let first = architecture.blocks().pop().unwrap().nodes.end;
    Ok(nodes[first..].iter().map(|node| node.name.clone()).collect())
}

#[test]
fn the_head_takes_the_mean_or_the_maximum() {
    let square = Shape::image(3, 15, 15);
    assert_eq!(head(Pool::Avg, square, Block::Basic).unwrap(), ["avgpool"]);
    assert_eq!(head(Pool::Max, square, Block::Basic).unwrap(), ["maxpool_head", "flatten"]);
    for (input, block, got) in [
        (Shape::image(3, 16, 16), Block::Basic, "16x16"),
        (Shape::image(3, 8, 9), Block::Basic, "8x9"),
        (Shape::image(3, 9, 8), Block::Basic, "9x8"),
        (Shape::vector(8), Block::Dense, "1x1"),
    ] {
        let error = head(Pool::Max, input, block).unwrap_err();
        let expected = format!("pool is max of {got} positions, expected a square of up to 15x15");
        assert!(error.contains(&expected), "{error}, not {expected}");
    }
}
