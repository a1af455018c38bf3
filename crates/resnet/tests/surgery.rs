//! Blocks in and out, shortcuts on and off: what becomes of names, shapes and values.

use residua_graph::{Graph, Weights};
use residua_resnet::{
    Architecture, BlockIndex, ChangedNetwork, InitOptions, Insertion, NewBlocks, Place, Shape,
    SurgeryError, add_shortcuts, init_weights, insert_blocks, layers_in_blocks, pass_through,
    remove_blocks, silence_block, strip_shortcuts, swap_blocks, swap_layers, swappable_blocks,
    swappable_layers,
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
        let expected = format!("resnet20 has no stage {stage}, expected 1 to 3");
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

#[test]
fn shortcuts_are_not_added_twice_or_stripped_of_nothing() {
    for (name, shortcut) in [("resnet20", "zero-pad"), ("resnet20-projection", "projection")] {
        let (architecture, weights) = network(name);
        assert_eq!(architecture.shortcut().as_str(), shortcut);
        let error = add_shortcuts(&architecture, &weights).unwrap_err().to_string();
        let expected = format!("{name} has shortcuts: they are added to a network without any");
        assert_eq!(error, expected);
    }
    for name in ["plain20", "preact-plain20", "dense-plain8"] {
        let (architecture, weights) = network(name);
        let error = strip_shortcuts(&architecture, &weights).unwrap_err().to_string();
        let expected = format!("{name} has no shortcuts, expected a network with shortcuts");
        assert_eq!(error, expected);
    }
}

#[test]
fn silencing_a_block_changes_its_last_layer_alone() {
    for (name, of, silent) in [
        ("resnet20", "layer2.0", ["bn2.weight", "bn2.bias"].as_slice()),
        ("resnet20-projection", "layer2.0", &["bn2.weight", "bn2.bias"]),
        ("resnet20-no-norm", "layer1.1", &["conv2.weight", "conv2.bias"]),
        ("preact-resnet20", "layer3.2", &["conv2.weight"]),
        ("dense-resnet8", "layer1.0", &["bn2.weight", "bn2.bias"]),
    ] {
        let (architecture, weights) = network(name);
        let graph = graph(&architecture);
        let silenced = silence_block(&architecture, &weights, block(of)).unwrap();
        assert_eq!(silenced.buffers, weights.buffers, "{name}");
        for spec in graph.params() {
            let (before, after) = (&weights.params[spec.range()], &silenced.params[spec.range()]);
            match spec.name.strip_prefix(&format!("{of}.")) {
                Some(rest) if silent.contains(&rest) => {
                    assert!(after.iter().all(|&value| value == 0.0), "{name}: {}", spec.name);
                }
                _ => assert_eq!(before, after, "{name}: {}", spec.name),
            }
        }
    }
    let (architecture, weights) = network("plain20");
    let error = silence_block(&architecture, &weights, block("layer1.0")).unwrap_err();
    assert!(matches!(error, SurgeryError::NoShortcuts { .. }), "{error}");
    let (architecture, weights) = network("resnet20");
    let error = silence_block(&architecture, &weights, block("layer1.3")).unwrap_err();
    assert_eq!(error.to_string(), "resnet20 has no block layer1.3");
}

#[test]
fn swapped_twice_is_as_before() {
    for name in
        ["resnet20", "plain20", "preact-resnet20", "resnet29-bottleneck", "dense-resnet8-no-norm"]
    {
        let before = network(name);
        let pairs = swappable_blocks(&before.0);
        assert!(!pairs.is_empty(), "{name}");
        for [a, b] in pairs {
            let weights = swap_blocks(&before.0, &before.1, a, b).unwrap();
            let (architecture, kept) = (before.0.clone(), Vec::new());
            let swapped = ChangedNetwork { architecture, weights, kept };
            for (name, origin) in origins(&before, &swapped) {
                let [a, b] = [a, b].map(|block| format!("{block}."));
                let expected = match () {
                    () if name.starts_with(&a) => name.replace(&a, &b),
                    () if name.starts_with(&b) => name.replace(&b, &a),
                    () => name.clone(),
                };
                assert_eq!(origin, Some(expected), "{name}");
            }
            let back = swap_blocks(&before.0, &swapped.weights, b, a).unwrap();
            assert_eq!(back, before.1, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn blocks_of_other_shapes_are_not_swapped() {
    let (architecture, weights) = network("resnet20");
    let refusal = |a: &str, b: &str| {
        swap_blocks(&architecture, &weights, block(a), block(b)).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("layer2.0", "layer2.1"),
        "resnet20: tensors of block layer2.0 have other shapes than those of block layer2.1"
    );
    assert!(refusal("layer1.1", "layer2.1").contains("have other shapes"));
    assert_eq!(refusal("layer1.1", "layer1.3"), "resnet20 has no block layer1.3");
    let names = |name| -> Vec<String> {
        let pairs = swappable_blocks(&network(name).0).into_iter();
        pairs.map(|[a, b]| format!("{a} {b}")).collect()
    };
    let within =
        ["layer1.0 layer1.1", "layer1.1 layer1.2", "layer2.1 layer2.2", "layer3.1 layer3.2"];
    assert_eq!(names("resnet20"), within);
    assert_eq!(names("resnet20-projection"), within);
}

#[test]
fn layers_swapped_twice_are_as_before() {
    for name in ["plain20", "plain20-no-norm", "dense-plain8"] {
        let before = network(name);
        let pairs = swappable_layers(&before.0);
        assert!(!pairs.is_empty(), "{name}");
        for [a, b] in pairs {
            let weights = swap_layers(&before.0, &before.1, &a, &b).unwrap();
            let (architecture, kept) = (before.0.clone(), Vec::new());
            let swapped = ChangedNetwork { architecture, weights, kept };
            // A layer's tensors and its batch norm's: `layer1.0.conv2.`, `layer1.0.bn2.`
            let prefixes = |layer: &str| {
                let end = layer.rfind(|c: char| !c.is_ascii_digit()).unwrap() + 1;
                let block = &layer[..layer.rfind('.').unwrap()];
                [format!("{layer}."), format!("{block}.bn{}.", &layer[end..])]
            };
            let mut num_moved = 0;
            for (tensor, origin) in origins(&before, &swapped) {
                let moved = |from: &str, to: &str| {
                    let mut pairs = prefixes(from).into_iter().zip(prefixes(to));
                    let found = pairs.find(|(from, _)| tensor.starts_with(from));
                    found.map(|(from, to)| tensor.replace(&from, &to))
                };
                let expected = moved(&a, &b).or_else(|| moved(&b, &a));
                num_moved += usize::from(expected.is_some());
                assert_eq!(origin, Some(expected.unwrap_or(tensor)), "{name}: {a} and {b}");
            }
            let graph = graph(&before.0);
            let has_norm = !graph.buffers().is_empty();
            assert_eq!(num_moved, if has_norm { 10 } else { 4 }, "{name}: {a} and {b}");
            let back = swap_layers(&before.0, &swapped.weights, &b, &a).unwrap();
            assert_eq!(back, before.1, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn layers_of_other_shapes_are_not_swapped() {
    let (architecture, weights) = network("plain20");
    let refusal =
        |a: &str, b: &str| swap_layers(&architecture, &weights, a, b).unwrap_err().to_string();
    assert_eq!(
        refusal("layer2.0.conv1", "layer2.0.conv2"),
        "plain20: tensors of layer layer2.0.conv1 have other shapes than those of layer layer2.0.conv2"
    );
    assert_eq!(refusal("layer1.0.conv1", "conv1"), "plain20 has no layer conv1 in its blocks");
    let pairs = swappable_layers(&architecture);
    assert_eq!(pairs.len(), 5 + 4 + 4);
    assert_eq!(pairs[0], ["layer1.0.conv1", "layer1.0.conv2"]);
    assert_eq!(pairs[5], ["layer2.0.conv2", "layer2.1.conv1"]);
}

#[test]
fn a_layer_that_passes_its_input_on_keeps_all_other_tensors() {
    let (architecture, mut weights) = network("plain20");
    // As running variances are: not negative.
    weights.buffers.iter_mut().for_each(|value| *value = value.rem_euclid(7.0));
    let graph = graph(&architecture);
    let passed = pass_through(&architecture, &weights, "layer1.1.conv2").unwrap();
    assert_eq!(passed.buffers, weights.buffers);
    let get = |weights: &Weights, name: &str| weights.get(&graph, name).unwrap().to_vec();
    for (i, value) in get(&passed, "layer1.1.conv2.weight").into_iter().enumerate() {
        let (oc, ic, at) = (i / 9 / 16, i / 9 % 16, i % 9);
        assert_eq!(value, f32::from(u8::from(oc == ic && at == 4)), "{oc} {ic} {at}");
    }
    assert_eq!(get(&passed, "layer1.1.bn2.bias"), get(&weights, "layer1.1.bn2.running_mean"));
    let roots = get(&passed, "layer1.1.bn2.weight");
    for (root, var) in roots.into_iter().zip(get(&weights, "layer1.1.bn2.running_var")) {
        let exact = (f64::from(var) + f64::from(1e-5f32)).sqrt();
        assert!((f64::from(root) - exact).abs() <= exact * f64::from(f32::EPSILON) / 2.0);
    }
    for spec in graph.params().iter().filter(|spec| {
        !["layer1.1.conv2", "layer1.1.bn2"].iter().any(|layer| spec.name.starts_with(layer))
    }) {
        assert_eq!(passed.params[spec.range()], weights.params[spec.range()], "{}", spec.name);
    }
}

#[test]
fn layers_that_change_shapes_or_stand_beside_shortcuts_do_not_pass_their_input_on() {
    let refusal = |name: &str, layer: &str| {
        let (architecture, weights) = network(name);
        pass_through(&architecture, &weights, layer).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("plain20", "layer2.0.conv1"),
        "plain20: layer layer2.0.conv1 can't let its input through: its output has another shape than \
         its input"
    );
    assert!(refusal("resnet20", "layer1.0.conv1").contains("by blocks"));
    assert!(refusal("preact-plain20", "layer1.0.conv1").contains("may be negative"));
    for layer in ["conv1", "fc", "layer1.0.bn1", "layer1.0", "layer4.0.conv1"] {
        let expected = format!("plain20 has no layer {layer} in its blocks");
        assert_eq!(refusal("plain20", layer), expected);
    }
    let layers = layers_in_blocks(&network("plain20").0);
    let stay: Vec<_> =
        layers.iter().filter(|(_, why)| why.is_some()).map(|(name, _)| name).collect();
    assert_eq!(layers.len(), 18);
    assert_eq!(stay, ["layer2.0.conv1", "layer3.0.conv1"]);
}
