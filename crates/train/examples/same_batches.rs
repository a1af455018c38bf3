//! Trains some steps and writes down what another framework needs to do the same: the initial
//! weights, every batch, and the losses. `tools/compare/torch_curves.py` reads them.
//!
//! usage: `same_batches DATA MODEL FOLDER [STEPS [LR]]`

use std::fs;
use std::path::Path;
use std::sync::Arc;

use residua_data::{LoaderOptions, OpenOptions, TrainLoader, default_workers, open};
use residua_engine::{Isa, ThreadPool};
use residua_graph::{Graph, Shape, Weights};
use residua_resnet::{Architecture, InitOptions, init_weights};
use residua_train::{Recipe, TrainStep};
use safetensors::tensor::{Dtype, TensorView};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, model, folder, options @ ..] = &args[..] else {
        return Err("usage: same_batches DATA MODEL FOLDER [STEPS [LR]]".into());
    };
    let folder = Path::new(folder);
    let num_steps = options.first().map_or(Ok(100), |steps| steps.parse::<usize>())?;
    let lr = options.get(1).map_or(Ok(0.1), |lr| lr.parse::<f64>())?;
    fs::create_dir_all(folder)?;

    let dataset = Arc::new(open(source, &OpenOptions::default())?);
    let [c, h, w] = dataset.sample_shape();
    let architecture = Architecture::named(model, Shape::image(c, h, w), dataset.classes().len())?;
    let graph = architecture.to_graph()?;
    let recipe = Recipe {
        lr,
        weight_decay: 1e-4,
        ..Recipe::new(source, OpenOptions::default(), &dataset, architecture)
    };
    let init = InitOptions { seed: recipe.seed, ..InitOptions::default() };
    let weights = init_weights(&recipe.architecture, &graph, &init);
    write_weights(&graph, &weights, &folder.join("weights.safetensors"))?;

    let mut train_step = TrainStep::new(&graph, weights, &recipe, Isa::best()?)?;
    let Recipe { batch_size, seed, augment, .. } = recipe;
    let options =
        LoaderOptions { batch_size, seed, augment, image_size: None, workers: default_workers() };
    let mut loader = TrainLoader::new(&dataset, &options, 0)?;
    let (mut inputs, mut labels, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    ThreadPool::new(None)?.install(|| {
        for _ in 0..num_steps {
            let batch = loader.next()?;
            let loss = train_step.run(&batch.input, &batch.labels, recipe.lr as f32);
            losses.push(loss.mean);
            inputs.extend_from_slice(&batch.input);
            labels.extend_from_slice(&batch.labels);
            loader.recycle(batch);
        }
        Ok::<(), Failure>(())
    })?;
    write_batches(num_steps, batch_size, [h, w, c], &inputs, &labels, folder)?;
    let run = serde_json::json!({
        "model": model,
        "seed": seed,
        "recipe": {
            "batch_size": batch_size,
            "lr": recipe.lr,
            "momentum": recipe.momentum,
            "nesterov": recipe.nesterov,
            "weight_decay": recipe.weight_decay,
        },
        "losses": losses,
    });
    fs::write(folder.join("run.json"), serde_json::to_string_pretty(&run)?)?;
    println!("{num_steps} steps of {model}: loss {} to {}", losses[0], losses[num_steps - 1]);
    Ok(())
}

fn write_weights(graph: &Graph, weights: &Weights, path: &Path) -> Result<(), Failure> {
    let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = graph
        .params()
        .iter()
        .map(|spec| {
            let values = &weights.params[spec.range()];
            (
                spec.name.as_str(),
                spec.shape.clone(),
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    safetensors::serialize_to_file(views, None, path)?;
    Ok(())
}

fn write_batches(
    num_steps: usize,
    n: usize,
    [h, w, c]: [usize; 3],
    inputs: &[f32],
    labels: &[u32],
    folder: &Path,
) -> Result<(), Failure> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|v| v.to_le_bytes()).collect();
    let labels: Vec<u8> = labels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let views = [
        ("input", TensorView::new(Dtype::F32, vec![num_steps, n, h, w, c], &inputs)?),
        ("labels", TensorView::new(Dtype::U32, vec![num_steps, n], &labels)?),
    ];
    safetensors::serialize_to_file(views, None, &folder.join("batches.safetensors"))?;
    Ok(())
}
