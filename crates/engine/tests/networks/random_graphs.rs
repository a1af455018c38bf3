//! Networks that are put together at random: for what nobody thought of when steps were joined.

use crate::architectures::NUM_CLASSES;
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, MaxPool, Shape, ValueId};
use residua_testkit::Generator;

const CHANNELS: usize = 4;

/// Up to so many operations on values of one shape, mostly on the last ones; what nothing reads is added
/// up for the linear layer.
pub(crate) fn random(seed: u64, num_operations: usize) -> Result<Graph, GraphError> {
    let mut generator = Generator::new(seed);
    let builder = GraphBuilder::new(Shape::image(CHANNELS, 4, 5));
    let input = Value { id: builder.input(), has_no_ties: true, is_read: false };
    let mut random = Random { builder, values: vec![input] };
    for i in 0..num_operations {
        random.add_operation(&format!("op{i}"), &mut generator)?;
    }
    let Random { mut builder, values } = random;
    let mut unread = values.iter().filter(|value| !value.is_read).map(|value| value.id);
    let mut sum = unread.next().expect("nothing reads the last value");
    for (i, value) in unread.enumerate() {
        sum = builder.add(&format!("sum{i}"), sum, value)?;
    }
    let pooled = builder.global_avg_pool("avgpool", sum);
    let logits = builder.linear("fc", pooled, NUM_CLASSES)?;
    Ok(builder.finish(logits))
}

struct Value {
    id: ValueId,
    /// Whether its elements differ from each other and from 0, as a ReLU and a max pool want it.
    has_no_ties: bool,
    is_read: bool,
}

struct Random {
    builder: GraphBuilder,
    values: Vec<Value>,
}

impl Random {
    /// Adds one, but no ReLU or pool to what may have ties.
    fn add_operation(&mut self, name: &str, generator: &mut Generator) -> Result<(), GraphError> {
        let operation =
            generator.pick(&["conv", "conv", "norm", "norm", "relu", "add", "add", "pad", "pool"]);
        let input = self.any(generator);
        let Value { id, has_no_ties, .. } = self.values[input];
        let (output, has_no_ties) = match operation {
            "conv" => {
                let bias = generator.pick(&[true, false, false]);
                let conv = Conv2d::square(CHANNELS, 3).padding(1).bias(bias);
                (self.builder.conv2d(name, id, conv)?, true)
            }
            "norm" => (self.builder.batch_norm(name, id)?, has_no_ties),
            "add" => {
                let right = self.any(generator);
                self.values[right].is_read = true;
                (self.builder.add(name, id, self.values[right].id)?, false)
            }
            "pad" => (self.builder.zero_pad(name, id, CHANNELS, 1)?, has_no_ties),
            "relu" if has_no_ties => (self.builder.relu(name, id), false),
            "pool" if has_no_ties => {
                let pool = MaxPool { kernel_size: 3, stride: 1, padding: 1 };
                (self.builder.max_pool(name, id, pool)?, false)
            }
            _ => return Ok(()),
        };
        self.values[input].is_read = true;
        self.values.push(Value { id: output, has_no_ties, is_read: false });
        Ok(())
    }

    /// One of the last three values, or of all.
    fn any(&self, generator: &mut Generator) -> usize {
        let last = self.values.len().saturating_sub(3)..self.values.len();
        let all = 0..self.values.len();
        let from: Vec<usize> =
            if generator.pick(&[true, true, false]) { last } else { all }.collect();
        generator.pick(&from)
    }
}
