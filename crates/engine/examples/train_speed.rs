//! Median time of a training step on random data: `train_speed [MODEL] [BATCH] [STEPS] [THREADS]`.
//!
//! The counterpart of a PyTorch loop of forward, loss, backward and SGD update.

use residua_engine::{Plan, PlanOptions, Sgd, ThreadPool, cross_entropy, sgd_step};
use residua_resnet::{Architecture, InitOptions, Shape, init_weights};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().unwrap_or_else(|| "resnet20".to_owned());
    let mut number = |default: usize| args.next().map_or(Ok(default), |arg| arg.parse());
    let (batch, steps, threads) = (number(128)?, number(14)?, number(2)?);
    let imagenet = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"];
    let (size, classes) = if imagenet.contains(&model.as_str()) { (224, 1000) } else { (32, 10) };
    let shape = Shape::image(3, size, size);
    let architecture = Architecture::named(&model, shape, classes)?;
    let graph = architecture.to_graph()?;
    let mut weights = init_weights(&architecture, &graph, &InitOptions::default());
    let options = PlanOptions::train(batch)?;
    let mut plan = Plan::new(&graph, &options)?;
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let input: Vec<f32> = (0..batch * shape.len()).map(|_| random() * 2.0 - 1.0).collect();
    let labels: Vec<u32> = (0..batch).map(|_| (random() * classes as f32) as u32).collect();
    let mut logits = vec![0.0; batch * classes];
    let (mut losses, mut grad_logits) = (vec![0.0; batch], vec![0.0; batch * classes]);
    let mut grads = vec![0.0; weights.params.len()];
    let mut velocity = vec![0.0; weights.params.len()];
    let sgd = Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 1e-4 };
    let pool = ThreadPool::new(Some(threads))?;
    let mut times: Vec<[f64; 4]> = Vec::new();
    pool.install(|| {
        for _ in 0..steps {
            let start = Instant::now();
            plan.forward_train(&mut weights, &input, &mut logits);
            let forward = start.elapsed().as_secs_f64();
            cross_entropy(&logits, &labels, classes, 0.0, &mut losses, &mut grad_logits);
            let loss = start.elapsed().as_secs_f64();
            plan.backward(&weights, &grad_logits, &mut grads);
            let backward = start.elapsed().as_secs_f64();
            sgd_step(options.isa, &sgd, &mut weights.params, &grads, &mut velocity);
            let total = start.elapsed().as_secs_f64();
            times.push([total, forward, backward - loss, total - backward]);
        }
    });
    times.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [total, forward, backward, update] = times[times.len() / 2];
    println!(
        "{model} batch {batch} {} threads {threads}: {:.2} ms a step (forward {:.2}, backward {:.2}, update {:.2}), {:.0} images/s, {:.0} GFLOP/s",
        options.isa,
        total * 1e3,
        forward * 1e3,
        backward * 1e3,
        update * 1e3,
        batch as f64 / total,
        6.0 * graph.total_macs() as f64 * batch as f64 / total / 1e9,
    );
    Ok(())
}
