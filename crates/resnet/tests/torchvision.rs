//! Names, shapes, order and totals of the photographs' networks against torchvision's.
//!
//! `golden/torchvision_names.txt` is made by `tools/golden/torchvision_names.py`.

use residua_graph::Graph;
use residua_resnet::{Architecture, Shape, summary};

const GOLDEN: &str = include_str!("golden/torchvision_names.txt");

/// `name dims` of each tensor.
type Tensors = Vec<(String, Vec<usize>)>;

struct Golden {
    name: String,
    parameters: u64,
    macs: u64,
    params: Tensors,
    buffers: Tensors,
}

fn golden() -> Vec<Golden> {
    let mut networks: Vec<Golden> = Vec::new();
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["=", name, "parameters", parameters, "macs", macs] = words[..] {
            networks.push(Golden {
                name: name.to_owned(),
                parameters: parameters.parse().unwrap(),
                macs: macs.parse().unwrap(),
                params: Vec::new(),
                buffers: Vec::new(),
            });
            continue;
        }
        let network = networks.last_mut().unwrap();
        match words[..] {
            [module, "bn", channels] => {
                let shape = vec![channels.parse().unwrap()];
                let tensor = |name: &str| (format!("{module}.{name}"), shape.clone());
                network.params.extend([tensor("weight"), tensor("bias")]);
                network.buffers.extend([tensor("running_mean"), tensor("running_var")]);
            }
            [tensor, dims] => {
                let shape = dims.split(',').map(|dim| dim.parse().unwrap()).collect();
                network.params.push((tensor.to_owned(), shape));
            }
            _ => panic!("golden file: {line}"),
        }
    }
    networks
}

/// What differs first, if anything does.
fn difference(golden: &Golden, graph: &Graph) -> Option<String> {
    let specs = [graph.params(), graph.buffers()];
    for (expected, specs) in [&golden.params, &golden.buffers].into_iter().zip(specs) {
        let got = specs.iter().map(|spec| (spec.name.clone(), spec.shape.clone()));
        for (got, expected) in got.zip(expected) {
            if got != *expected {
                return Some(format!("{got:?}, expected {expected:?}"));
            }
        }
        if specs.len() != expected.len() {
            return Some(format!("{} tensors, expected {}", specs.len(), expected.len()));
        }
    }
    let (got, expected) = (graph.total_macs(), golden.macs);
    (got != expected).then(|| format!("{got} multiply-adds, expected {expected}"))
}

fn photograph_network(name: &str) -> Architecture {
    Architecture::named(name, Shape::image(3, 224, 224), 1000).unwrap()
}

#[test]
fn networks_for_photographs_are_torchvisions() {
    let networks = golden();
    assert_eq!(networks.len(), 5);
    for golden in networks {
        let architecture = photograph_network(&golden.name);
        let difference = difference(&golden, &architecture.to_graph().unwrap());
        assert_eq!(difference, None, "{}", golden.name);
        let summary = summary(&architecture);
        assert_eq!((summary.parameters, summary.macs), (golden.parameters, golden.macs));
    }
}

#[test]
fn the_comparison_rejects_other_networks() {
    let networks = golden();
    let resnet50 = networks.iter().find(|network| network.name == "resnet50").unwrap();
    let input = Shape::image(3, 224, 224);
    for (mutant, architecture) in [
        ("zero-padding shortcuts", photograph_network("resnet50-zero-pad")),
        ("projections everywhere", photograph_network("resnet50-projection-all")),
        ("no batch norm", photograph_network("resnet50-no-norm")),
        ("no shortcuts", photograph_network("plain50")),
        ("pre-activation", photograph_network("preact-resnet50")),
        ("another width", photograph_network("resnet50-w32")),
        ("another depth", photograph_network("resnet101")),
        ("other classes", Architecture::named("resnet50", input, 10).unwrap()),
        ("another size", Architecture::named("resnet50", Shape::image(3, 192, 192), 1000).unwrap()),
    ] {
        let graph = architecture.to_graph().unwrap();
        assert!(difference(resnet50, &graph).is_some(), "{mutant} passes for resnet50");
    }
}

/// The stride on the first 1×1 convolution, as in the paper, changes no name and no shape.
#[test]
fn the_comparison_rejects_strides_in_another_place() {
    let mut networks = golden();
    let resnet50 = networks.iter_mut().find(|network| network.name == "resnet50").unwrap();
    let architecture = photograph_network("resnet50");
    let graph = architecture.to_graph().unwrap();
    assert_eq!(difference(resnet50, &graph), None);
    for block in architecture.blocks().into_iter().filter(|b| b.stage > 0 && b.index == 0) {
        let conv1 = &graph.nodes()[block.nodes.start];
        assert!(conv1.name.ends_with(".conv1"));
        // At a quarter of the positions.
        resnet50.macs -= graph.macs(conv1) * 3 / 4;
    }
    assert!(difference(resnet50, &graph).is_some());
}
