//! `residua train`.

pub(crate) mod from;
mod live;
pub(crate) mod recipe;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Error, Result, bail};
use clap::Args;
use residua_data::{Dataset, Split};
use residua_study::shell_line;
use residua_train::{Outcome as RunOutcome, Recipe, RunOptions, Summary, TrainError, Trainer};
use serde::Serialize;

pub(crate) use live::Live;
use recipe::RecipeArgs;

use crate::arguments::ThreadArgs;
use crate::failure::{Outcome, hinted};
use crate::{interrupt, output, progress, table};

/// Train a network; `residua train DATA` is enough
///
/// Every setting has a default that suits DATA. All that belongs to the run is in one folder: the
/// model, its learning curves (curves.svg), its measurements (metrics.jsonl, summary.json), its
/// settings (config.toml) and its checkpoints. Ctrl-C stops the run after a checkpoint; --resume
/// goes on with it and ends with the same bits as if it had never stopped.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TrainArgs {
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA", required_unless_present_any = ["resume", "config", "from"])]
    data: Option<String>,
    /// Folder of the run [default: runs/DATA-MODEL-sSEED]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the run that is in the folder
    #[arg(long)]
    overwrite: bool,
    /// Go on with the run in the folder, with its settings
    #[arg(long, conflicts_with_all = ["overwrite", "config"])]
    resume: bool,
    /// Take the settings of a config.toml; DATA and flags given here go before
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on from the weights of a model file or run folder, at a tenth of the learning rate; what momentum
    /// has gathered and the settings are kept where its run is there. Of a run that diverged or was stopped
    /// it takes the newest checkpoint. A network with new blocks (`residua deepen`) is measured against
    /// itself without them
    #[arg(long, value_name = "MODEL",
          conflicts_with_all = ["resume", "config", "overwrite", "model", "depth", "width", "shortcut", "no_norm",
                               "init", "whiten_stem", "zero_init_residual"])]
    from: Option<PathBuf>,
    /// Also keep the model as it is at the start and every so many steps, in the folder's models/; to be given
    /// again with --resume
    #[arg(long, value_name = "STEPS")]
    keep_every: Option<NonZeroU64>,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua train synthetic:shapes
  residua train cifar-10-binary.tar.gz --model resnet20 --epochs 10 --out runs/first
  residua train cifar-10-binary.tar.gz --model resnet110 --schedule paper --steps 64000 \\
      --warmup-steps 400 --weight-decay 1e-4
  residua train photographs/ --model resnet18 --image-size 224 --epochs 20
  residua train synthetic:spirals --model dense-resnet --depth 10 --width 32
  residua train --resume --out runs/first
  residua train --config runs/first/config.toml --seed 1
  residua train --from deeper.safetensors --steps 2000 --out runs/deeper";

pub(crate) fn run(args: &TrainArgs) -> Result<Outcome> {
    if let Some(from) = &args.from {
        return from::run(args, from);
    }
    let (trainer, folder, dataset) = match args.resume {
        true => resume(args)?,
        false => create(args)?,
    };
    let mut live = Live::new(&dataset);
    let stop = interrupt::stop_flag()?;
    match train(trainer, &mut live, &stop)? {
        RunOutcome::Finished(summary) => {
            report(&summary, dataset.kind().things(), &folder, args.json)?;
            Ok(Outcome::Done)
        }
        RunOutcome::Interrupted { step } => {
            output::note(format_args!(
                "stopped after step {}; everything is in {}\nhint: go on with `{}`",
                table::grouped(step),
                folder.display(),
                resume_command(&folder),
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Runs a trainer, with a hint where it fails.
pub(crate) fn train(trainer: Trainer, live: &mut Live, stop: &AtomicBool) -> Result<RunOutcome> {
    let result = trainer.run(live, stop);
    live.finish();
    result.map_err(explain)
}

/// A new run.
fn create(args: &TrainArgs) -> Result<(Trainer, PathBuf, Arc<Dataset>)> {
    let (recipe, dataset) = match &args.config {
        Some(path) => {
            let mut recipe = Recipe::load(path)?;
            recipe.data = args.data.clone().unwrap_or(recipe.data);
            args.recipe.apply_open(&mut recipe.open);
            let dataset = Arc::new(progress::open(&recipe.data, &recipe.open)?);
            (args.recipe.apply(recipe, &dataset)?, dataset)
        }
        None => {
            let data = args.data.clone().expect("required without --config or --resume");
            new_recipe(data, &args.recipe)?
        }
    };
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&recipe, &dataset));
    let trainer =
        Trainer::create(&folder, args.overwrite, recipe, Arc::clone(&dataset), options(args))
            .map_err(explain)?;
    Ok((trainer, folder, dataset))
}

fn new_recipe(data: String, args: &RecipeArgs) -> Result<(Recipe, Arc<Dataset>)> {
    let mut open = Default::default();
    args.apply_open(&mut open);
    let dataset = Arc::new(progress::open(&data, &open)?);
    Ok((args.recipe(data, open, &dataset)?, dataset))
}

/// The run in a folder, which says how it is to go on.
fn resume(args: &TrainArgs) -> Result<(Trainer, PathBuf, Arc<Dataset>)> {
    let (folder, opened) = match (&args.out, &args.data) {
        (Some(folder), _) => (folder.clone(), None),
        (None, Some(data)) => {
            let (recipe, dataset) = new_recipe(data.clone(), &args.recipe)?;
            (default_folder(&recipe, &dataset), Some((recipe.open, dataset)))
        }
        (None, None) => bail!(hinted(
            "--resume needs the folder of a run",
            "residua train --resume --out runs/NAME",
        )),
    };
    let config = folder.join("config.toml");
    if !config.exists() {
        return Err(explain(TrainError::NoRun { path: folder }));
    }
    let recipe = Recipe::load(&config)?;
    let dataset = match opened {
        Some((open, dataset)) if open == recipe.open => dataset,
        _ => {
            let data = args.data.as_ref().unwrap_or(&recipe.data);
            Arc::new(progress::open(data, &recipe.open)?)
        }
    };
    refuse_other_settings(&recipe, args, &dataset, &folder)?;
    let trainer = Trainer::resume(&folder, Arc::clone(&dataset), options(args)).map_err(explain)?;
    Ok((trainer, folder, dataset))
}

/// A run goes on as it began: flags may repeat its settings, not change them.
fn refuse_other_settings(
    recipe: &Recipe,
    args: &TrainArgs,
    dataset: &Dataset,
    folder: &Path,
) -> Result<()> {
    let mut asked = recipe.clone();
    args.recipe.apply_open(&mut asked.open);
    let asked = args.recipe.apply(asked, dataset)?;
    if asked == *recipe {
        return Ok(());
    }
    let [asked, recipe] = [&asked, recipe].map(serde_json::to_value);
    let (asked, recipe) = (asked?, recipe?);
    let fields = asked.as_object().into_iter().flatten();
    let different = fields.filter(|(field, value)| recipe.get(field) != Some(value));
    let different: Vec<_> = different
        .map(|(field, asked)| {
            let recipe = recipe.get(field).map_or("not set".to_owned(), ToString::to_string);
            format!("{field} is {recipe} there, not {asked}")
        })
        .collect();
    Err(hinted(
        format!(
            "{}: the run was started with other settings: {}",
            folder.display(),
            different.join("; ")
        ),
        "leave these flags out to go on with the run, or choose another --out for a new one",
    ))
}

fn options(args: &TrainArgs) -> RunOptions {
    RunOptions { keep_every: args.keep_every, ..args.threads.run_options() }
}

/// `runs/shapes-resnet20-s0`
fn default_folder(recipe: &Recipe, dataset: &Dataset) -> PathBuf {
    let data = short_name(dataset.name());
    Path::new("runs").join(format!("{data}-{}-s{}", recipe.architecture.name(), recipe.seed))
}

/// The name of a dataset without what a folder's name does not need.
pub(crate) fn short_name(name: &str) -> String {
    let name = name.strip_prefix("synthetic:").unwrap_or(name);
    let name = name.split('?').next().unwrap_or(name);
    let endings = [".tar.gz", ".tgz", ".csv", ".npy", ".npz"];
    let name = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    match name.trim_start_matches('.') {
        "" => "data".to_owned(),
        name => name.to_owned(),
    }
}

/// What goes on with the run in a folder.
pub(crate) fn resume_command(folder: &Path) -> String {
    shell_line(["residua", "train", "--resume", "--out", &folder.display().to_string()])
}

/// Adds what to do to errors of training.
pub(crate) fn explain(error: TrainError) -> Error {
    let hint = match &error {
        TrainError::RunExists { path, .. } => format!(
            "go on with it by `{}`, or add --overwrite or another --out",
            resume_command(path)
        ),
        TrainError::NoRun { .. } => {
            "`residua train DATA --out DIR` starts a run; --resume goes on with one".to_owned()
        }
        TrainError::NotFinite { checkpoint: Some(checkpoint), .. } => {
            // DIR/checkpoints/step-N.ckpt
            let run = checkpoint.ancestors().nth(2).unwrap_or(checkpoint);
            let from = shell_line(["residua", "train", "--from", &run.display().to_string()]);
            format!("`{from} --out OTHER` goes on from there at a tenth of the learning rate")
        }
        TrainError::RunLocked { .. } => "wait for it, or choose another --out".to_owned(),
        _ => return error.into(),
    };
    hinted(error.to_string(), hint)
}

/// The end of a run, for machines.
#[derive(Serialize)]
struct Finished<'a> {
    folder: &'a Path,
    model: PathBuf,
    #[serde(flatten)]
    summary: &'a Summary,
}

fn report(summary: &Summary, things: &str, folder: &Path, json: bool) -> Result<()> {
    if json {
        let model = folder.join(crate::model_file::MODEL_FILE);
        return Ok(output::json(&Finished { folder, model, summary })?);
    }
    let mut rows = table::new(["", ">samples", ">error", ">loss"]);
    let splits = [
        (Split::Train, Some(summary.train)),
        (Split::Dev, summary.dev),
        (Split::Test, summary.test),
    ];
    for (split, of_split) in splits {
        if let Some(s) = of_split {
            rows.add_row([
                split.to_string(),
                table::grouped(s.num_samples),
                table::percent(s.top1_error),
                format!("{:.4}", s.mean_loss),
            ]);
        }
    }
    output::line(format_args!("{} on {}", summary.architecture, summary.dataset))?;
    output::line(table::text(&rows))?;
    output::line(format_args!(
        "{} steps ({:.1} epochs) in {}, {:.0} {things}/s in training",
        table::grouped(summary.steps),
        summary.epochs,
        table::duration(summary.seconds),
        summary.images_per_s,
    ))?;
    for (what, file) in
        [("model", "model.safetensors"), ("curves", "curves.svg"), ("config", "config.toml")]
    {
        output::line(format_args!("{what:<8} {}", folder.join(file).display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn folders_have_short_names() {
        for (name, short) in [
            ("synthetic:shapes?train=20&seed=3", "shapes"),
            ("cifar-10-binary.tar.gz", "cifar-10-binary"),
            ("my photos", "my-photos"),
            ("../x.csv", "-x"),
            ("..", "data"),
            ("", "data"),
        ] {
            assert_eq!(short_name(name), short, "{name}");
        }
    }
}
