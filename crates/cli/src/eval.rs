//! `residua eval`: how well a model does on a split.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use residua_data::Split;
use residua_engine::Precision;
use residua_format::Model;
use residua_train::plot::confusion_matrix;
use residua_train::{EvalOptions, Evaluation, evaluate_with_progress};
use serde::Serialize;

use crate::arguments::{OpenArgs, PrecisionArg, ThreadArgs, one_of};
use crate::failure::Outcome;
use crate::picture::Picture;
use crate::{model_data, model_file, output, progress, table};

/// Measure a model: top-1 and top-5 error, precision and recall of each class, confusion matrix
///
/// The classes of DATA must be the model's; in another order they are matched by name. Images are
/// preprocessed as the model was trained.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct EvalArgs {
    /// Model file or run folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Part of DATA to measure on
    #[arg(long, value_name = "SPLIT", default_value = "dev",
          value_parser = one_of::<Split>(&["train", "dev", "test"]))]
    split: Split,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the confusion matrix, as .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<Picture>,
    /// Images that go through the network together; does not change the result
    #[arg(long, value_name = "NUMBER", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Number format of activations; `auto` is the fastest here [default: as in training]
    #[arg(long, value_name = "FORMAT", value_parser = PrecisionArg::parser())]
    precision: Option<PrecisionArg>,
    /// Take the mean of the outputs for an image and its mirror image
    #[arg(long)]
    test_time_flips: bool,
    /// Take the mean of the outputs for an image and two shifts of it by a pixel
    #[arg(long)]
    test_time_shifts: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    open: OpenArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua eval runs/first cifar-10-binary.tar.gz --split test
  residua eval runs/first/model.safetensors cifar-10-binary.tar.gz --json
  residua eval runs/photographs photographs/ --split test --plot confusion.svg";

/// An evaluation for machines.
#[derive(Serialize)]
struct Measured<'a> {
    architecture: &'a str,
    dataset: &'a str,
    split: Split,
    /// Whether the data and its splits are those of the training.
    trained_on_this_data: bool,
    trained_precision: &'a str,
    measured_precision: String,
    test_time_flips: bool,
    test_time_shifts: bool,
    classes: &'a [String],
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

pub(crate) fn run(args: &EvalArgs) -> Result<Outcome> {
    let model = model_file::load(&args.model)?;
    let (dataset, _) = model_data::open(&args.model, &model, &args.data, &args.open, args.split)?;
    let EvalArgs { split, test_time_flips, test_time_shifts, .. } = *args;
    let trained_precision = &model.provenance.precision;
    let precision = match args.precision {
        Some(precision) => precision.resolve()?,
        // What a file of another version may name is measured in f32.
        None => trained_precision.parse().unwrap_or(Precision::F32),
    };
    let batch_size = args.batch_size as usize;
    let options = EvalOptions { batch_size, precision, test_time_flips, test_time_shifts };
    let evaluation = progress::counting("evaluating", |on_progress| {
        args.threads
            .install(|| evaluate_with_progress(&model, &dataset, split, &options, on_progress))
    })??;
    if precision.to_string() != *trained_precision {
        output::note(format_args!(
            "note: trained in {trained_precision}, measured in {precision}; a few images near the \
             boundary between\nclasses may go to the other one"
        ));
    }
    if args.json {
        output::json(&Measured {
            architecture: model.architecture.name(),
            dataset: dataset.name(),
            split: args.split,
            trained_on_this_data: model_data::is_trained_on(&model, &dataset),
            trained_precision,
            measured_precision: precision.to_string(),
            test_time_flips,
            test_time_shifts,
            classes: &model.classes,
            evaluation: &evaluation,
        })?;
    } else {
        print(&model, dataset.name(), args.split, &evaluation)?;
    }
    if let Some(picture) = &args.plot {
        let title =
            format!("{} on {}, {} set", model.architecture.name(), dataset.name(), args.split);
        picture.draw(confusion_matrix(&title, &model.classes, &evaluation.confusion))?;
    }
    Ok(Outcome::Done)
}

fn print(model: &Model, dataset: &str, split: Split, evaluation: &Evaluation) -> Result<()> {
    output::line(format_args!(
        "{} on {dataset}, {split} set: {} samples",
        model.architecture.name(),
        table::grouped(evaluation.num_samples),
    ))?;
    output::line(format_args!("top-1 error {}", table::percent(evaluation.top1_error)))?;
    if let Some(top5_error) = evaluation.top5_error {
        output::line(format_args!("top-5 error {}", table::percent(top5_error)))?;
    }
    output::line(format_args!("mean loss   {:.4}\n", evaluation.mean_loss))?;
    output::line(table::text(&scores(evaluation)))?;
    match model.classes.len() {
        0..=20 => {
            output::line("Confusion: a row for each true class, a column for each predicted one")?;
            output::line(table::text(&confusion(evaluation)).trim_end())?;
        }
        _ => {
            output::line("Most frequent confusions (--json or --plot give all)")?;
            output::line(table::text(&most_confused(evaluation)).trim_end())?;
        }
    }
    Ok(())
}

fn scores(evaluation: &Evaluation) -> comfy_table::Table {
    let mut rows = table::new(["Class", ">precision", ">recall", ">samples"]);
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |s| table::percent(s * 100.0));
    for class in &evaluation.per_class {
        rows.add_row([
            class.name.clone(),
            share(class.precision),
            share(class.recall),
            table::grouped(class.support),
        ]);
    }
    rows
}

/// Columns are numbered, so that long names don't make the table wide.
fn confusion(evaluation: &Evaluation) -> comfy_table::Table {
    let numbers = (1..=evaluation.confusion.len()).map(|i| format!(">{i}"));
    let header: Vec<String> = ["", "true"].map(String::from).into_iter().chain(numbers).collect();
    let mut rows = table::new(header.iter().map(String::as_str));
    for (i, (class, row)) in evaluation.per_class.iter().zip(&evaluation.confusion).enumerate() {
        let counts = row.iter().map(|&count| match count {
            0 => "·".to_owned(),
            _ => table::grouped(count),
        });
        rows.add_row([(i + 1).to_string(), class.name.clone()].into_iter().chain(counts));
    }
    rows
}

fn most_confused(evaluation: &Evaluation) -> comfy_table::Table {
    const NUM_SHOWN: usize = 20;
    let classes = &evaluation.per_class;
    let mut pairs = Vec::new();
    for (i, row) in evaluation.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(j, &count)| i != j && count > 0);
        pairs.extend(wrong.map(|(j, &count)| (count, i, j)));
    }
    pairs.sort_by_key(|&(count, i, j)| (std::cmp::Reverse(count), i, j));
    let mut rows = table::new(["true", "predicted", ">samples", ">share of true"]);
    for (count, i, j) in pairs.into_iter().take(NUM_SHOWN) {
        rows.add_row([
            classes[i].name.clone(),
            classes[j].name.clone(),
            table::grouped(count),
            table::percent(count as f64 / classes[i].support as f64 * 100.0),
        ]);
    }
    rows
}
