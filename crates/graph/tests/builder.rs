//! Shapes the builder resolves, and everything it refuses.

use residua_graph::{Conv2d, GraphBuilder, GraphError, MaxPool, Op, Role, Shape, Weights};

fn image(c: usize, h: usize, w: usize) -> GraphBuilder {
    GraphBuilder::new(Shape::image(c, h, w))
}

#[test]
fn convolutions_have_pytorch_shapes() {
    // input, kernel, stride, padding, output: floor((size + 2·padding − kernel) / stride) + 1.
    for (size, kernel, stride, padding, expected) in [
        (32, 3, 1, 1, 32),
        (32, 3, 2, 1, 16),
        (33, 3, 2, 1, 17),
        (224, 7, 2, 3, 112),
        (5, 5, 1, 0, 1),
        (3, 1, 2, 0, 2),
        (1, 3, 2, 1, 1),
    ] {
        let mut b = image(2, size, size + 4);
        let conv = Conv2d::square(7, kernel).stride(stride).padding(padding);
        let y = b.conv2d("conv", b.input(), conv).unwrap();
        assert_eq!(b.shape(y).h, expected, "{size} {kernel} {stride} {padding}");
        assert_eq!(b.shape(y).w, (size + 4 + 2 * padding - kernel) / stride + 1);
        let graph = b.finish(y);
        assert_eq!(graph.params()[0].shape, [7, 2, kernel, kernel]);
        assert_eq!(graph.params().len(), 1, "no bias unless asked for");
    }
}

#[test]
fn each_axis_has_its_own_kernel_stride_and_padding() {
    let mut b = image(3, 10, 20);
    let conv = Conv2d {
        out_channels: 4,
        kernel_size: [1, 5],
        stride: [3, 2],
        padding: [0, 2],
        bias: true,
    };
    let y = b.conv2d("conv", b.input(), conv).unwrap();
    assert_eq!(b.shape(y), Shape::image(4, 4, 10));
    let graph = b.finish(y);
    assert_eq!(graph.params()[0].shape, [4, 3, 1, 5]);
    assert_eq!(
        (graph.params()[1].name.as_str(), graph.params()[1].role),
        ("conv.bias", Role::Bias)
    );
    assert_eq!(graph.total_macs(), 4 * 4 * 10 * 3 * 5);
}

#[test]
fn tensors_lie_one_after_another_in_state_dict_order() {
    let mut b = image(3, 8, 8);
    let x = b.conv2d("conv1", b.input(), Conv2d::square(4, 3)).unwrap();
    let x = b.batch_norm("bn1", x).unwrap();
    let x = b.global_avg_pool("avgpool", x);
    let x = b.linear_without_bias("fc1", x, 6).unwrap();
    let x = b.batch_norm("bn2", x).unwrap();
    let x = b.linear("fc", x, 5).unwrap();
    assert_eq!(b.num_nodes(), 6);
    let graph = b.finish(x);
    let params: Vec<_> =
        graph.params().iter().map(|spec| (spec.name.as_str(), spec.offset, spec.len())).collect();
    assert_eq!(
        params,
        [
            ("conv1.weight", 0, 108),
            ("bn1.weight", 108, 4),
            ("bn1.bias", 112, 4),
            ("fc1.weight", 116, 24),
            ("bn2.weight", 140, 6),
            ("bn2.bias", 146, 6),
            ("fc.weight", 152, 30),
            ("fc.bias", 182, 5),
        ]
    );
    assert_eq!(graph.num_parameters(), 187);
    let buffers: Vec<_> =
        graph.buffers().iter().map(|spec| (spec.name.as_str(), spec.offset)).collect();
    let expected = [
        ("bn1.running_mean", 0),
        ("bn1.running_var", 4),
        ("bn2.running_mean", 8),
        ("bn2.running_var", 14),
    ];
    assert_eq!(buffers, expected);
    assert_eq!(graph.num_buffer_elements(), 20);
    let of_fc: Vec<_> = graph.nodes()[5].op.params().map(|id| id.index()).collect();
    assert_eq!(of_fc, [6, 7]);
    assert_eq!(graph.nodes()[2].op.params().count(), 0);
}

#[test]
fn weights_are_found_by_name() {
    let mut b = image(3, 8, 8);
    let x = b.batch_norm("bn1", b.input()).unwrap();
    let graph = b.finish(x);
    let mut weights = Weights::zeros(&graph);
    weights.get_mut(&graph, "bn1.running_var").unwrap().fill(2.0);
    weights.get_mut(&graph, "bn1.bias").unwrap().fill(3.0);
    assert_eq!(weights.get(&graph, "bn1.bias").unwrap(), [3.0; 3]);
    assert_eq!(weights.params, [0.0, 0.0, 0.0, 3.0, 3.0, 3.0]);
    assert_eq!(weights.buffers, [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]);
    assert_eq!(weights.get(&graph, "bn1"), None);
    assert_eq!(weights.get_mut(&graph, "bn2.bias"), None);
}

#[test]
fn the_zero_padding_shortcut_centres_its_channels() {
    let mut b = image(16, 7, 8);
    let y = b.zero_pad("downsample", b.input(), 33, 2).unwrap();
    assert_eq!(b.shape(y), Shape::image(33, 4, 4));
    let graph = b.finish(y);
    let Op::ZeroPad(pad) = graph.nodes()[0].op else { panic!("a zero pad") };
    assert_eq!((pad.stride, pad.pad_before, pad.pad_after), (2, 8, 9));
}

#[test]
fn max_pools_have_pytorch_shapes() {
    for (size, expected) in [(112, 56), (7, 4), (1, 1)] {
        let mut b = image(2, size, size);
        let pool = MaxPool { kernel_size: 3, stride: 2, padding: 1 };
        let y = b.max_pool("maxpool", b.input(), pool).unwrap();
        assert_eq!(b.shape(y), Shape::image(2, expected, expected));
    }
}

/// The message of an error, which always names the node.
fn refusal<T: std::fmt::Debug>(result: Result<T, GraphError>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("node: "), "{message}");
    message["node: ".len()..].to_owned()
}

#[test]
fn convolutions_that_do_not_fit_are_refused() {
    let mut b = image(3, 4, 9);
    let x = b.input();
    let mut conv = |conv| refusal(b.conv2d("node", x, conv));
    assert_eq!(
        conv(Conv2d::square(8, 7).padding(1)),
        "kernel [7, 7] with padding [1, 1] does not fit input 3x4x9"
    );
    assert_eq!(conv(Conv2d::square(0, 3)), "out_channels is 0, expected at least 1");
    assert_eq!(conv(Conv2d::square(8, 0)), "kernel_size is 0, expected at least 1");
    assert_eq!(conv(Conv2d::square(8, 3).stride(0)), "stride is 0, expected at least 1");
}

#[test]
fn pools_that_do_not_fit_are_refused() {
    let mut b = image(3, 2, 9);
    let x = b.input();
    let mut pool = |kernel_size, stride, padding| {
        refusal(b.max_pool("node", x, MaxPool { kernel_size, stride, padding }))
    };
    assert_eq!(pool(3, 1, 0), "kernel [3, 3] with padding [0, 0] does not fit input 3x2x9");
    // More padding than half the window would make windows of padding only.
    assert_eq!(pool(3, 1, 2), "padding is 2, expected at most half the kernel_size of 3");
    assert_eq!(pool(0, 1, 0), "kernel_size is 0, expected at least 1");
    assert_eq!(pool(2, 0, 0), "stride is 0, expected at least 1");
}

#[test]
fn linear_operations_that_do_not_fit_are_refused() {
    let mut b = image(3, 4, 4);
    let x = b.input();
    assert_eq!(refusal(b.linear("node", x, 10)), "input has shape 3x4x4, expected a vector");
    let message = refusal(b.linear_without_bias("node", x, 10));
    assert_eq!(message, "input has shape 3x4x4, expected a vector");
    let x = b.global_avg_pool("avgpool", x);
    assert_eq!(refusal(b.linear("node", x, 0)), "out_features is 0, expected at least 1");
    let mut b = GraphBuilder::new(Shape::vector(0));
    let x = b.input();
    assert_eq!(refusal(b.linear("node", x, 10)), "in_features is 0, expected at least 1");
}

#[test]
fn convolutions_of_nothing_are_refused() {
    let padded = |padding| Conv2d::square(4, 1).padding(padding);
    for (shape, expected) in [
        (Shape::image(0, 8, 8), "in_channels is 0, expected at least 1"),
        (Shape::image(3, 0, 8), "input height is 0, expected at least 1"),
        (Shape::image(3, 8, 0), "input width is 0, expected at least 1"),
    ] {
        let mut b = GraphBuilder::new(shape);
        let x = b.input();
        assert_eq!(refusal(b.conv2d("node", x, padded(1))), expected);
    }
    let mut b = image(3, 8, 8);
    let x = b.input();
    let message = refusal(b.conv2d("node", x, padded(usize::MAX / 2 + 1)));
    assert!(message.starts_with("kernel [1, 1] with padding"), "{message}");
}

#[test]
fn sums_and_paddings_that_do_not_fit_are_refused() {
    let mut b = image(16, 8, 8);
    let x = b.input();
    let y = b.conv2d("conv", x, Conv2d::square(16, 3)).unwrap();
    let message = refusal(b.add("node", x, y));
    assert_eq!(message, "operands have shapes 16x8x8 and 16x6x6, expected the same");
    let message = refusal(b.zero_pad("node", x, 15, 1));
    assert_eq!(message, "input has 16 channels, expected at most 15");
    assert_eq!(refusal(b.zero_pad("node", x, 16, 0)), "stride is 0, expected at least 1");
}

#[test]
fn a_name_is_given_once() {
    let mut b = image(4, 8, 8);
    let x = b.conv2d("node", b.input(), Conv2d::square(4, 3)).unwrap();
    let taken = "this name is taken";
    assert_eq!(refusal(b.conv2d("node", x, Conv2d::square(4, 3))), taken);
    assert_eq!(refusal(b.batch_norm("node", x)), taken);
    let x = b.global_avg_pool("avgpool", x);
    assert_eq!(refusal(b.linear("node", x, 3)), taken);
    assert!(b.linear("fc", x, 3).is_ok());
}

#[test]
fn a_refused_operation_leaves_no_trace() {
    let build = |with_refusals: bool| {
        let mut b = image(4, 8, 8);
        let x = b.batch_norm("bn", b.input()).unwrap();
        if with_refusals {
            b.conv2d("conv", x, Conv2d::square(4, 9)).unwrap_err();
            b.conv2d("conv", x, Conv2d::square(4, 3).stride(0)).unwrap_err();
            b.batch_norm("bn", x).unwrap_err();
            b.linear("conv", x, 3).unwrap_err();
        }
        let y = b.conv2d("conv", x, Conv2d::square(4, 3).bias(true)).unwrap();
        b.finish(y)
    };
    assert_eq!(build(true), build(false));
}

#[test]
fn shapes_print_as_channels_rows_columns() {
    assert_eq!(Shape::image(3, 224, 200).to_string(), "3x224x200");
    assert_eq!(Shape::vector(10).to_string(), "10");
    assert_eq!(Shape::image(2, 3, 4).len(), 24);
    assert!(Shape::image(2, 0, 4).is_empty());
}
