use residua_graph::{Graph, Node, Op};
use serde::Serialize;

use crate::{Architecture, shape};

/// One operation of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SummaryRow {
    /// Module name, `layer1.0.conv1`.
    pub name: String,
    /// The operation, `conv2d`.
    pub kind: &'static str,
    /// Its hyper-parameters, `3x3, stride 2, padding 1`; empty if it has none.
    pub detail: String,
    /// Shape of the output of one sample: `[c, h, w]`, or `[c]` of a vector.
    pub output: Vec<usize>,
    /// Trainable parameters, in elements.
    pub parameters: u64,
    /// Multiply-adds for one sample; of convolutions and linear layers, 0 of all else.
    pub macs: u64,
}

/// What `residua inspect` shows of an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The architecture's name.
    pub name: String,
    /// Shape of one sample: `[c, h, w]`, or `[c]` of a vector.
    pub input: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Layers with weights on the way through all branches.
    pub depth: usize,
    /// The operations, in execution order.
    pub rows: Vec<SummaryRow>,
    /// Trainable parameters, in elements.
    pub parameters: u64,
    /// Multiply-adds for one sample.
    pub macs: u64,
}

/// The operations of an architecture with their sizes, and the totals.
///
/// ```
/// use residua_resnet::{Architecture, Shape, summary};
///
/// let resnet50 = Architecture::named("resnet50", Shape::image(3, 224, 224), 1000)?;
/// let summary = summary(&resnet50);
/// assert_eq!(summary.parameters, 25_557_032);
/// assert_eq!(summary.macs, 4_089_184_256);
/// assert_eq!(summary.rows[0].output, [64, 112, 112]);
/// # Ok::<(), residua_resnet::ArchitectureError>(())
/// ```
pub fn summary(architecture: &Architecture) -> Summary {
    let graph = architecture.to_graph().expect("checked when it was made");
    Summary {
        name: architecture.name().to_owned(),
        input: shape::dims(architecture.input()),
        classes: architecture.classes(),
        depth: architecture.depth(),
        rows: graph.nodes().iter().map(|node| row(&graph, node)).collect(),
        parameters: graph.num_parameters() as u64,
        macs: graph.total_macs(),
    }
}

fn row(graph: &Graph, node: &Node) -> SummaryRow {
    let (kind, detail) = describe(&node.op);
    let parameters = node.op.params().map(|id| graph.params()[id.index()].len() as u64).sum();
    SummaryRow {
        name: node.name.clone(),
        kind,
        detail,
        output: shape::dims(graph.shape(node.output)),
        parameters,
        macs: graph.macs(node),
    }
}

fn describe(op: &Op) -> (&'static str, String) {
    match op {
        Op::Conv2d { conv, .. } => {
            let [kh, kw] = conv.kernel_size;
            ("conv2d", windows(&format!("{kh}x{kw}"), conv.stride, conv.padding))
        }
        Op::MaxPool(pool) => {
            let size = pool.kernel_size;
            ("max_pool", windows(&format!("{size}x{size}"), [pool.stride; 2], [pool.padding; 2]))
        }
        Op::ZeroPad(pad) => {
            let channels = pad.pad_before + pad.pad_after;
            ("zero_pad", windows(&format!("{channels} channels"), [pad.stride; 2], [0; 2]))
        }
        Op::Linear { .. } => ("linear", String::new()),
        Op::BatchNorm(_) => ("batch_norm", String::new()),
        Op::Relu => ("relu", String::new()),
        Op::Add => ("add", String::new()),
        Op::GlobalAvgPool => ("global_avg_pool", String::new()),
        _ => ("other", String::new()),
    }
}

/// `3x3, stride 2, padding 1`, leaving out what is usual.
fn windows(size: &str, stride: [usize; 2], padding: [usize; 2]) -> String {
    let pair = |[vertical, horizontal]: [usize; 2]| match vertical == horizontal {
        true => vertical.to_string(),
        false => format!("{vertical}x{horizontal}"),
    };
    let mut text = size.to_owned();
    if stride != [1; 2] {
        text += &format!(", stride {}", pair(stride));
    }
    if padding != [0; 2] {
        text += &format!(", padding {}", pair(padding));
    }
    text
}
