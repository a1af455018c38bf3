//! `residua predict`: what a model takes images for.

use std::path::PathBuf;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Args;
use rayon::prelude::*;
use residua_data::{ImageFiles, Preprocessing, Resize};
use residua_format::Model;
use residua_train::Predictor;
use serde::Serialize;

use crate::arguments::ThreadArgs;
use crate::failure::{Outcome, chain};
use crate::{failure, model_file, output, table};

/// Tell what images show, with probabilities
///
/// A folder stands for all images in it and below. A file that can't be decoded is reported, the
/// others go on; then the exit code is 1.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct PredictArgs {
    /// Model file or run folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Image files and folders of them
    #[arg(value_name = "IMAGE", required_unless_present = "vector")]
    images: Vec<PathBuf>,
    /// Input of a model that takes vectors: numbers with commas between them
    #[arg(long, value_name = "NUMBERS", allow_hyphen_values = true, conflicts_with = "images")]
    vector: Vec<String>,
    /// Classes to tell for each image, the likeliest first
    #[arg(long, value_name = "NUMBER", default_value = "3",
          value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Print JSON, one object in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua predict runs/first cat.jpg
  residua predict runs/first holiday/ --top 1
  residua predict runs/first cat.jpg dog.png --json
  residua predict runs/spirals --vector 0.5,-0.25";

/// Inputs that are decoded, and go through the network, together.
const BATCH_SIZE: usize = 32;

/// What is said of one image.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Predicted { input: &'a str, predictions: Vec<Prediction<'a>> },
    Failed { input: &'a str, error: String },
}

#[derive(Serialize)]
struct Prediction<'a> {
    class: &'a str,
    probability: f32,
}

/// Something to predict.
enum Input {
    Image(PathBuf),
    /// A folder without images.
    Nothing(PathBuf),
    Vector(String),
}

pub(crate) fn run(args: &PredictArgs) -> Result<Outcome> {
    let model = model_file::load(&args.model)?;
    check_kind(args, &model.preprocessing)?;
    let inputs = inputs(args)?;
    args.threads.install(|| predict(args, &model, &inputs))?
}

/// A model for vectors can't look at images, nor the other way round.
fn check_kind(args: &PredictArgs, preprocessing: &Preprocessing) -> Result<()> {
    let takes_vectors = preprocessing.resize == Resize::None;
    ensure!(
        takes_vectors != args.vector.is_empty(),
        match takes_vectors {
            true => failure::hinted(
                format!("the model takes vectors of {}, not images", preprocessing.channels),
                "give its input as --vector 0.5,-0.25",
            ),
            false => Error::msg("the model takes images, not vectors"),
        }
    );
    Ok(())
}

fn inputs(args: &PredictArgs) -> Result<Vec<Input>> {
    let mut inputs: Vec<Input> = args.vector.iter().cloned().map(Input::Vector).collect();
    for path in &args.images {
        if !path.is_dir() {
            inputs.push(Input::Image(path.clone()));
            continue;
        }
        let images = ImageFiles::find(path)?.paths;
        match images.is_empty() {
            true => inputs.push(Input::Nothing(path.clone())),
            false => inputs.extend(images.into_iter().map(Input::Image)),
        }
    }
    Ok(inputs)
}

fn predict(args: &PredictArgs, model: &Model, inputs: &[Input]) -> Result<Outcome> {
    let mut predictor = Predictor::new(model, BATCH_SIZE)?;
    let mut outcome = Outcome::Done;
    for inputs in inputs.chunks(BATCH_SIZE) {
        let decoded: Vec<Result<Vec<f32>>> =
            inputs.par_iter().map(|input| input.decode(&model.preprocessing)).collect();
        let good: Vec<f32> = decoded.iter().flatten().flatten().copied().collect();
        let probabilities = predictor.probabilities(&good)?;
        let mut rows = probabilities.chunks_exact(model.classes.len());
        for (input, decoded) in inputs.iter().zip(&decoded) {
            let name = input.name();
            let answer = match decoded {
                Ok(_) => {
                    let row = rows.next().expect("a row for each input that was decoded");
                    let predictions = likeliest(&model.classes, row, args.top as usize);
                    Answer::Predicted { input: &name, predictions }
                }
                Err(error) => {
                    outcome = Outcome::No;
                    Answer::Failed { input: &name, error: chain(error) }
                }
            };
            tell(&answer, args.json)?;
        }
    }
    Ok(outcome)
}

impl Input {
    fn name(&self) -> String {
        match self {
            Self::Image(path) | Self::Nothing(path) => path.display().to_string(),
            Self::Vector(text) => text.clone(),
        }
    }

    /// What the network takes.
    fn decode(&self, preprocessing: &Preprocessing) -> Result<Vec<f32>> {
        match self {
            Self::Image(path) => Ok(preprocessing.load_image(path)?),
            Self::Nothing(path) => bail!("{}: no images in this folder", path.display()),
            Self::Vector(text) => {
                let numbers = text.split(',').map(|number| {
                    let number = number.trim();
                    number.parse().with_context(|| format!("{text}: `{number}` is no number"))
                });
                Ok(preprocessing.vector(&numbers.collect::<Result<Vec<f32>>>()?)?)
            }
        }
    }
}

fn likeliest<'a>(classes: &'a [String], probabilities: &[f32], top: usize) -> Vec<Prediction<'a>> {
    let mut all: Vec<_> = classes
        .iter()
        .zip(probabilities)
        .map(|(class, &probability)| Prediction { class, probability })
        .collect();
    // Stable: of equals the first class comes first.
    all.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    all.truncate(top);
    all
}

fn tell(answer: &Answer<'_>, json: bool) -> Result<()> {
    if json {
        return Ok(output::json_line(answer)?);
    }
    match answer {
        Answer::Predicted { input, predictions } => {
            let predictions: Vec<_> = predictions
                .iter()
                .map(|p| {
                    format!("{} {}", p.class, table::percent(f64::from(p.probability) * 100.0))
                })
                .collect();
            output::line(format_args!("{input}: {}", predictions.join(", ")))?;
        }
        Answer::Failed { error, .. } => output::note(format_args!("residua: error: {error}")),
    }
    Ok(())
}
