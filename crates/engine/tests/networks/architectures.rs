//! Small networks of every kind, with weights like those of a network in training.

use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Node, Op, Role, ValueId, Weights};
use residua_resnet::{
    Architecture, ArchitectureBuilder, Block, Family, Pool, Shape, Shortcut, StemKind,
};
use residua_testkit::Generator;

/// Classes of every network here.
pub(crate) const NUM_CLASSES: usize = 7;

/// Every family, block, shortcut and stem, with and without batch norm. Widths are odd or fall
/// beside the lanes of vectors, images are no squares.
pub(crate) fn all() -> Vec<Architecture> {
    let image = |family| {
        Architecture::builder(Shape::image(3, 7, 9), NUM_CLASSES)
            .family(family)
            .stem(StemKind::Conv3x3, 5)
    };
    let dense = |family| {
        Architecture::builder(Shape::vector(11), NUM_CLASSES)
            .family(family)
            .block(Block::Dense)
            .stem(StemKind::Linear, 13)
    };
    let basic = |builder: ArchitectureBuilder| builder.stage(1, 5, 1).stage(2, 9, 2);
    let wide = |builder: ArchitectureBuilder| builder.stage(1, 17, 1).stage(1, 33, 2);
    let pooled = |builder: ArchitectureBuilder| builder.stage(1, 5, 1).pooled_stage(1, 6);
    let bottleneck = |builder: ArchitectureBuilder| {
        builder.block(Block::Bottleneck).stage(1, 2, 1).stage(2, 3, 2)
    };
    let layers = |builder: ArchitectureBuilder| builder.stage(2, 13, 1).stage(1, 19, 1);
    let square =
        basic(Architecture::builder(Shape::image(3, 9, 9), NUM_CLASSES).stem(StemKind::Conv3x3, 5));
    let photo = Architecture::builder(Shape::image(3, 25, 18), NUM_CLASSES)
        .stem(StemKind::Conv7x7Pool, 6)
        .stage(1, 6, 1)
        .stage(1, 7, 2);
    [
        ("plain", basic(image(Family::Plain))),
        ("plain-no-norm", basic(image(Family::Plain)).norm(false)),
        ("zero-pad", basic(image(Family::Residual))),
        ("zero-pad-no-norm", basic(image(Family::Residual)).norm(false)),
        ("zero-pad-wide", wide(image(Family::Residual))),
        ("projection", basic(image(Family::Residual)).shortcut(Shortcut::Projection)),
        ("projection-all", basic(image(Family::Residual)).shortcut(Shortcut::ProjectionAll)),
        ("bottleneck-zero-pad", bottleneck(image(Family::Residual))),
        (
            "bottleneck-projection",
            bottleneck(image(Family::Residual)).shortcut(Shortcut::Projection),
        ),
        ("preact-zero-pad", basic(image(Family::Preact))),
        ("preact-projection", basic(image(Family::Preact)).shortcut(Shortcut::Projection)),
        ("preact-none", basic(image(Family::Preact)).shortcut(Shortcut::None)),
        ("preact-bottleneck", bottleneck(image(Family::Preact)).shortcut(Shortcut::ProjectionAll)),
        ("transition", pooled(image(Family::Residual)).shortcut(Shortcut::Projection)),
        ("transition-no-norm", pooled(image(Family::Plain)).norm(false)),
        ("transition-preact", pooled(image(Family::Preact)).block(Block::Bottleneck)),
        ("max-pool-head", square.pool(Pool::Max)),
        ("photo", photo.clone()),
        ("photo-projection", photo.shortcut(Shortcut::Projection)),
        ("dense-plain", layers(dense(Family::Plain))),
        ("dense-plain-no-norm", layers(dense(Family::Plain)).norm(false)),
        ("dense-zero-pad", layers(dense(Family::Residual))),
        ("dense-zero-pad-no-norm", layers(dense(Family::Residual)).norm(false)),
        ("dense-projection", layers(dense(Family::Residual)).shortcut(Shortcut::Projection)),
        (
            "dense-projection-all-no-norm",
            layers(dense(Family::Residual)).shortcut(Shortcut::ProjectionAll).norm(false),
        ),
        ("dense-preact", layers(dense(Family::Preact))),
    ]
    .into_iter()
    .map(|(name, builder)| builder.name(name).build().expect("its parts go together"))
    .collect()
}

/// The one of this name.
pub(crate) fn named(name: &str) -> Architecture {
    all().into_iter().find(|architecture| architecture.name() == name).expect("a known name")
}

/// Weights and running statistics of which none is at a default or symmetric to another.
pub(crate) fn random_weights(graph: &Graph, generator: &mut Generator) -> Weights {
    let mut weights = Weights::zeros(graph);
    for spec in graph.params() {
        let fan_in: usize = spec.shape[1..].iter().product();
        let (offset, scale) = match spec.role {
            Role::NormWeight => (1.0, 0.15),
            Role::ConvWeight | Role::LinearWeight => (0.0, 1.4 / (fan_in as f32).sqrt()),
            _ => (0.0, 0.2),
        };
        let place = &mut weights.params[spec.range()];
        place.iter_mut().zip(generator.signed(spec.len())).for_each(|(to, x)| {
            *to = offset + scale * x;
        });
    }
    for spec in graph.buffers() {
        let (offset, scale) = match spec.role {
            Role::RunningVar => (1.0, 0.2),
            _ => (0.0, 0.3),
        };
        let place = &mut weights.buffers[spec.range()];
        place.iter_mut().zip(generator.signed(spec.len())).for_each(|(to, x)| {
            *to = offset + scale * x;
        });
    }
    weights
}

/// The same graph with some of its operations replaced, parameters and their order unchanged: for
/// negative controls.
pub(crate) fn edited(graph: &Graph, edit: impl Fn(&Node) -> Op) -> Result<Graph, GraphError> {
    let mut builder = GraphBuilder::new(graph.shape(graph.input()));
    let mut values = vec![builder.input()];
    for node in graph.nodes() {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|id| values[id.index()]).collect();
        let (name, input) = (node.name.as_str(), inputs[0]);
        let output = match edit(node) {
            Op::Conv2d { conv, .. } => builder.conv2d(name, input, conv)?,
            Op::Linear { out_features, bias: Some(_), .. } => {
                builder.linear(name, input, out_features)?
            }
            Op::Linear { out_features, .. } => {
                builder.linear_without_bias(name, input, out_features)?
            }
            Op::BatchNorm(_) => builder.batch_norm(name, input)?,
            Op::Relu => builder.relu(name, input),
            Op::Add => builder.add(name, input, inputs[1])?,
            Op::MaxPool(pool) => builder.max_pool(name, input, pool)?,
            Op::GlobalAvgPool => builder.global_avg_pool(name, input),
            Op::ZeroPad(pad) => {
                let channels = builder.shape(input).c + pad.pad_before + pad.pad_after;
                builder.zero_pad(name, input, channels, pad.stride)?
            }
            op => panic!("{name}: no rule for {op:?}"),
        };
        values.push(output);
    }
    Ok(builder.finish(values[graph.output().index()]))
}

/// The convolution of a node with other hyper-parameters.
pub(crate) fn with_conv(node: &Node, edit: impl Fn(Conv2d) -> Conv2d) -> Op {
    match &node.op {
        Op::Conv2d { conv, weight, bias } => {
            Op::Conv2d { conv: edit(*conv), weight: *weight, bias: *bias }
        }
        op => op.clone(),
    }
}
