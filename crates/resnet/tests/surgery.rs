//! Blocks in and out, shortcuts on and off: what becomes of names, shapes and values.

use residua_graph::{Graph, Weights};
use residua_resnet::{
    Architecture, BlockIndex, ChangedNetwork, InitOptions, Insertion, NewBlocks, Place, Shape,
    SurgeryError, add_shortcuts, init_weights, insert_blocks, remove_blocks, strip_shortcuts,
};

/// A network with weights that are all different.
fn network(name: &str) -> (Architecture, Weights) {
    let input = if name.starts_with("dense") { Shape::vector(6) } else { Shape::image(3, 32, 32) };
    let architecture = Architecture::named(name, input, 10).unwrap();
    let graph = architecture.to_graph().unwrap();
    let mut weights = init_weights(&architecture, &graph, &InitOptions::default());
    let values = weights.params.iter_mut().chain(&mut weights.buffers);
    values.enumerate().for_each(|(i, value)| *value = i as f32);
    (architecture, weights)
}

fn graph(architecture: &Architecture) -> Graph {
    architecture.to_graph().unwrap()
}

/// `(now, before)` of the tensors, by name, whose values were somewhere before.
fn origins(
    before: &(Architecture, Weights),
    now: &ChangedNetwork,
) -> Vec<(String, Option<String>)> {
    let [graph_before, graph_now] = [&before.0, &now.architecture].map(graph);
    let specs = |graph: &Graph| {
        let all: Vec<_> = graph.params().iter().chain(graph.buffers()).cloned().collect();
        all
    };
    let before_specs = specs(&graph_before);
    let find = |name: &str| {
        let values = now.weights.get(&graph_now, name).unwrap();
        let same = |old: &str| before.1.get(&graph_before, old).unwrap() == values;
        before_specs.iter().find(|old| same(&old.name)).map(|old| old.name.clone())
    };
    specs(&graph_now).into_iter().map(|spec| (spec.name.clone(), find(&spec.name))).collect()
}

fn block(text: &str) -> BlockIndex {
    text.parse().unwrap()
}

#[test]
fn new_blocks_stand_where_they_should_and_the_others_keep_their_weights() {
    let before = network("resnet20");
    for (place, first) in [(Place::Middle, 2), (Place::End, 3)] {
        let insertion = Insertion { place, ..Insertion::new(2, 2) };
        let deeper = insert_blocks(&before.0, &before.1, &insertion).unwrap();
        let mut num_new = 0;
        for (name, origin) in origins(&before, &deeper) {
            let parts: Vec<&str> = name.splitn(3, '.').collect();
            let index = parts.get(1).and_then(|index| index.parse::<usize>().ok());
            let expected = match (parts[0], index) {
                ("layer2", Some(index)) if index >= first + 2 => {
                    Some(format!("layer2.{}.{}", index - 2, parts[2]))
                }
                ("layer2", Some(index)) if index >= first => None,
                _ => Some(name.clone()),
            };
            num_new += usize::from(expected.is_none());
            assert_eq!(origin, expected, "{name}");
        }
        assert_eq!(num_new, 2 * 10, "two convolutions and two batch norms in each");
        let params: usize = deeper.kept.iter().map(|(from, _)| from.len()).sum();
        assert_eq!(params, before.1.params.len());
        for (from, to) in &deeper.kept {
            assert_eq!(before.1.params[from.clone()], deeper.weights.params[to.clone()]);
        }
    }
}

#[test]
fn new_blocks_are_silent_and_can_learn() {
    for (name, silent) in [
        ("resnet20", ["bn2.weight", "bn2.bias"].as_slice()),
        ("resnet20-no-norm", &["conv2.weight", "conv2.bias"]),
        ("preact-resnet20", &["conv2.weight"]),
        ("resnet50", &["bn3.weight", "bn3.bias"]),
        ("dense-resnet8", &["bn2.weight", "bn2.bias"]),
        ("dense-resnet8-no-norm", &["fc2.weight", "fc2.bias"]),
    ] {
        let (architecture, weights) = network(name);
        let stage = architecture.stages().len();
        let deeper = insert_blocks(&architecture, &weights, &Insertion::new(stage, 1)).unwrap();
        let graph = graph(&deeper.architecture);
        let new = format!("layer{stage}.{}.", architecture.stages()[stage - 1].blocks);
        let new =
            graph.params().iter().filter_map(|spec| Some((spec.name.strip_prefix(&new)?, spec)));
        // Biases are 0 at the start everywhere.
        let found: Vec<&str> = new
            .filter(|(name, _)| name.ends_with("weight") || silent.contains(name))
            .filter(|(_, spec)| {
                deeper.weights.params[spec.range()].iter().all(|&value| value == 0.0)
            })
            .map(|(name, _)| name)
            .collect();
        assert_eq!(found, silent, "{name}");
    }
}

#[test]
fn names_follow_the_blocks() {
    let name = |from: &str, blocks: &[usize]| {
        network(from).0.with_blocks(blocks).map(|architecture| architecture.name().to_owned())
    };
    assert_eq!(name("resnet20", &[5, 5, 5]).unwrap(), "resnet32");
    assert_eq!(name("resnet20", &[3, 3, 5]).unwrap(), "resnet20-blocks-3-3-5");
    assert_eq!(name("plain20", &[9, 9, 9]).unwrap(), "plain56");
    assert_eq!(name("resnet18", &[3, 4, 6, 3]).unwrap(), "resnet34");
    assert_eq!(name("dense-resnet8-w32", &[5]).unwrap(), "dense-resnet12-w32");
    let odd = network("resnet32").0.with_blocks(&[5, 5, 6]).unwrap();
    assert_eq!(odd.name(), "resnet32-blocks-5-5-6");
    assert_eq!(odd.with_blocks(&[3, 3, 3]).unwrap().name(), "resnet20");
    let error = name("resnet20", &[3, 3]).unwrap_err().to_string();
    assert!(error.contains("number of stages is 2, expected 3"), "{error}");
}

#[test]
fn what_can_not_be_the_identity_is_refused() {
    let refusal = |name: &str, insertion: &Insertion| {
        let (architecture, weights) = network(name);
        insert_blocks(&architecture, &weights, insertion).unwrap_err()
    };
    let one = Insertion::new(1, 1);
    for name in ["plain20", "preact-plain20", "resnet20-projection-all", "dense-plain8"] {
        let error = refusal(name, &one);
        assert!(matches!(error, SurgeryError::NoIdentity { .. }), "{name}: {error}");
    }
    let error = refusal("resnet20", &Insertion { start: NewBlocks::Random, ..one });
    assert_eq!(error.to_string(), "resnet20 has shortcuts: its new blocks start as the identity");
    for stage in [0, 4] {
        let error = refusal("resnet20", &Insertion::new(stage, 1));
        let expected = format!("resnet20 has 3 stages, there is no stage {stage}");
        assert_eq!(error.to_string(), expected);
    }
    let error = refusal("resnet20", &Insertion::new(1, usize::MAX));
    assert!(error.to_string().contains("number of blocks of stage 1"), "{error}");
    let (architecture, _) = network("resnet20");
    let error = insert_blocks(&architecture, &Weights::default(), &one).unwrap_err();
    assert!(matches!(error, SurgeryError::OtherWeights { got: 0, .. }), "{error}");
}

#[test]
fn removed_blocks_leave_the_others_as_they_are() {
    let before = network("resnet20");
    let removed = [block("layer1.0"), block("layer3.1"), block("layer3.1")];
    let shallower = remove_blocks(&before.0, &before.1, &removed).unwrap();
    assert_eq!(shallower.architecture.name(), "resnet20-blocks-2-3-2");
    for (name, origin) in origins(&before, &shallower) {
        let expected = name
            .replace("layer1.1.", "layer1.2.")
            .replace("layer1.0.", "layer1.1.")
            .replace("layer3.1.", "layer3.2.");
        assert_eq!(origin, Some(expected), "{name}");
    }
    // Out again what was put in: the network before.
    let insertion = Insertion { place: Place::Middle, ..Insertion::new(3, 2) };
    let deeper = insert_blocks(&before.0, &before.1, &insertion).unwrap();
    let new = [block("layer3.2"), block("layer3.3")];
    let back = remove_blocks(&deeper.architecture, &deeper.weights, &new).unwrap();
    assert_eq!((back.architecture, back.weights), before);
}

#[test]
fn blocks_that_a_network_needs_stay() {
    let (architecture, weights) = network("resnet20");
    let refusal = |blocks: &[&str]| {
        let blocks: Vec<BlockIndex> = blocks.iter().map(|text| block(text)).collect();
        remove_blocks(&architecture, &weights, &blocks).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(&["layer2.0"]),
        "resnet20: block layer2.0 can't be removed: its output has another shape than its input"
    );
    assert_eq!(
        refusal(&["layer1.0", "layer1.1", "layer1.2"]),
        "resnet20: block layer1.0 can't be removed: a stage keeps at least one block"
    );
    assert_eq!(refusal(&["layer4.0"]), "resnet20 has no block layer4.0");
    assert_eq!(refusal(&["layer1.3"]), "resnet20 has no block layer1.3");
    for text in ["layer0.1", "layer1", "layer1.0.conv1", "conv1", "layer1.x"] {
        assert!(text.parse::<BlockIndex>().is_err(), "{text}");
    }
}

#[test]
fn shortcuts_come_and_go_with_the_weights_unchanged() {
    let plain = network("plain20");
    let residual = add_shortcuts(&plain.0, &plain.1).unwrap();
    assert_eq!(residual.architecture.name(), "resnet20");
    assert_eq!(residual.weights, plain.1);
    let back = strip_shortcuts(&residual.architecture, &residual.weights).unwrap();
    assert_eq!((back.architecture, back.weights), plain);

    let learned = network("resnet20-projection");
    let stripped = strip_shortcuts(&learned.0, &learned.1).unwrap();
    assert_eq!(stripped.architecture.name(), "plain20");
    assert!(origins(&learned, &stripped).iter().all(|(name, from)| from.as_ref() == Some(name)));
}

#[test]
fn new_blocks_are_known_and_old_ones_found_again() {
    let before = network("resnet20");
    let insertion = Insertion { place: Place::Middle, ..Insertion::new(2, 2) };
    let deeper = insert_blocks(&before.0, &before.1, &insertion).unwrap();
    let names =
        |blocks: Vec<BlockIndex>| blocks.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(deeper.new_blocks()), ["layer2.2", "layer2.3"]);
    let now = |name: &str| deeper.block_now(&before.0, name.parse().unwrap());
    for (then, there) in
        [("layer1.2", "layer1.2"), ("layer2.1", "layer2.1"), ("layer2.2", "layer2.4")]
    {
        assert_eq!(now(then).map(|block| block.to_string()).as_deref(), Some(there), "{then}");
    }
    assert_eq!(now("layer2.3"), None);

    // Velocities go where their parameters went.
    let carried = deeper.carry(&before.1.params);
    let kept: Vec<f32> =
        deeper.kept.iter().flat_map(|(_, to)| carried[to.clone()].to_vec()).collect();
    let weights: Vec<f32> =
        deeper.kept.iter().flat_map(|(_, to)| deeper.weights.params[to.clone()].to_vec()).collect();
    assert_eq!(kept, weights);
    // The least parameter is 0, and is the value of one of those before.
    assert_eq!(carried.iter().filter(|&&v| v != 0.0).count(), before.1.params.len() - 1);
    let shallower = remove_blocks(&deeper.architecture, &deeper.weights, &deeper.new_blocks());
    let shallower = shallower.unwrap();
    assert_eq!((&shallower.weights, shallower.new_blocks()), (&before.1, vec![]));
    assert_eq!(shallower.carry(&carried), before.1.params);
}
