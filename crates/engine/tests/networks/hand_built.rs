//! Small networks that no `Architecture` makes, though a graph can say them.

use crate::architectures::NUM_CLASSES;
use residua_graph::{Conv2d, Graph, GraphBuilder, GraphError, Shape, ValueId};

/// Values that are read twice, by neighbours or by one operation, or not at all.
pub(crate) fn all() -> Result<[(&'static str, Graph); 10], GraphError> {
    Ok([
        (
            "one-layer block",
            network(|b, input| {
                let x = conv_norm(b, "0", input)?;
                let x = b.relu("relu0", x);
                let f = conv_norm(b, "1", x)?;
                let sum = b.add("add", f, x)?;
                Ok(b.relu("relu1", sum))
            })?,
        ),
        (
            "block of one layer with a bias",
            network(|b, input| {
                let x = conv_norm(b, "0", input)?;
                let f = b.conv2d("conv1", x, Conv2d::square(CHANNELS, 3).padding(1).bias(true))?;
                let f = b.batch_norm("bn1", f)?;
                let sum = b.add("add", f, x)?;
                Ok(b.relu("relu1", sum))
            })?,
        ),
        (
            "two norms on one convolution",
            network(|b, input| {
                let c = conv(b, "conv", input)?;
                two_norms(b, c)
            })?,
        ),
        (
            "two norms on the input",
            network(|b, input| {
                let sum = two_norms(b, input)?;
                conv(b, "conv", sum)
            })?,
        ),
        (
            "a value added to itself",
            network(|b, input| {
                let x = conv(b, "conv", input)?;
                let sum = b.add("add", x, x)?;
                branches(b, sum)
            })?,
        ),
        (
            "a norm and what it reads",
            network(|b, input| {
                let x = conv(b, "conv", input)?;
                let norm = b.batch_norm("bn", x)?;
                let sum = b.add("add", norm, x)?;
                branches(b, sum)
            })?,
        ),
        (
            "a norm and what it reads, then a pool",
            network(|b, input| {
                let x = conv(b, "conv", input)?;
                let norm = b.batch_norm("bn", x)?;
                let sum = b.add("add", x, norm)?;
                let same = b.zero_pad("same", sum, CHANNELS, 1)?;
                branches(b, same)
            })?,
        ),
        (
            "a one-layer block with a zero-padding shortcut after three layers",
            network(|b, input| {
                let x = (0..3).try_fold(input, |x, i| {
                    let f = conv_norm(b, &format!("before{i}"), x)?;
                    Ok::<_, GraphError>(b.relu(&format!("before_relu{i}"), f))
                })?;
                padded_block(b, x)
            })?,
        ),
        (
            "a one-layer block with a zero-padding shortcut after a projection",
            network(|b, input| {
                let x = conv_norm(b, "0", input)?;
                let x = b.relu("relu0", x);
                let f = conv_norm(b, "1", x)?;
                let f = b.relu("relu1", f);
                let f = conv_norm(b, "2", f)?;
                let shortcut = conv_norm(b, "3", x)?;
                let sum = b.add("add", f, shortcut)?;
                let x = b.relu("relu2", sum);
                padded_block(b, x)
            })?,
        ),
        (
            "a norm that nothing reads",
            network(|b, input| {
                let x = conv(b, "conv", input)?;
                b.batch_norm("unread", x)?;
                Ok(x)
            })?,
        ),
    ])
}

/// The gradient of its sum is read twice by one step.
fn padded_block(b: &mut GraphBuilder, x: ValueId) -> Result<ValueId, GraphError> {
    let f = conv_norm(b, "padded", x)?;
    let shortcut = b.zero_pad("shortcut", x, CHANNELS, 1)?;
    b.add("padded_add", f, shortcut)
}

const CHANNELS: usize = 5;

/// A body, then a pool and a linear layer.
fn network(
    body: impl FnOnce(&mut GraphBuilder, ValueId) -> Result<ValueId, GraphError>,
) -> Result<Graph, GraphError> {
    let mut b = GraphBuilder::new(Shape::image(3, 5, 6));
    let input = b.input();
    let value = body(&mut b, input)?;
    let pooled = b.global_avg_pool("avgpool", value);
    let logits = b.linear("fc", pooled, NUM_CLASSES)?;
    Ok(b.finish(logits))
}

fn conv(b: &mut GraphBuilder, name: &str, input: ValueId) -> Result<ValueId, GraphError> {
    b.conv2d(name, input, Conv2d::square(CHANNELS, 3).padding(1))
}

fn conv_norm(b: &mut GraphBuilder, i: &str, input: ValueId) -> Result<ValueId, GraphError> {
    let c = conv(b, &format!("conv{i}"), input)?;
    b.batch_norm(&format!("bn{i}"), c)
}

fn two_norms(b: &mut GraphBuilder, input: ValueId) -> Result<ValueId, GraphError> {
    let left = b.batch_norm("left", input)?;
    let right = b.batch_norm("right", input)?;
    let sum = b.add("add", left, right)?;
    Ok(b.relu("relu", sum))
}

/// Three values that are needed at the same time.
fn branches(b: &mut GraphBuilder, input: ValueId) -> Result<ValueId, GraphError> {
    let first = conv(b, "first", input)?;
    let second = conv(b, "second", input)?;
    let third = conv(b, "third", input)?;
    let sum = b.add("two", first, second)?;
    b.add("three", sum, third)
}
