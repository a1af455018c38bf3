//! `residua inspect`: the layers of a network, and what a trained one carries with it.

mod identity;
mod plan;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use residua_data::{Preprocessing, Resize};
use residua_format::{Model, Provenance};
use residua_graph::Shape;
use residua_resnet::{Architecture, Block, Family, Summary, summary};
use residua_train::Recipe;
use serde::Serialize;

use crate::arguments::{self, ArchitectureArgs, ThreadArgs};
use crate::bench::Task;
use crate::failure::Outcome;
use crate::{model_file, output, table};

/// Show the layers, parameters and multiply-adds of a network
///
/// NETWORK is the name of an architecture, a model file or run folder, or a .toml file with an
/// architecture. Of a trained network it also shows the classes, the preprocessing, where it comes
/// from, and the SHA-256 of its weights.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// Name of an architecture, model file, run folder, or .toml file
    #[arg(required_unless_present = "list")]
    network: Option<String>,
    /// List the names there are
    #[arg(long, conflicts_with_all = ["network", "input", "classes", "plan"])]
    list: bool,
    /// Shape of a sample, 3x224x224, or 784 of a vector [default: what the name is made for]
    #[arg(long, value_name = "SHAPE", value_parser = arguments::shape)]
    input: Option<Shape>,
    /// Number of classes [default: 1000 for photographs, 10 for others]
    #[arg(long, value_name = "NUMBER")]
    classes: Option<usize>,
    /// Show what runs here instead: the steps of a plan, with their kernels, operations, bytes and
    /// shares of the time of a step on random data
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true,
          default_missing_value = "train")]
    plan: Option<Task>,
    /// Show how near each block is to passing its input on instead: how large its branch's output is
    /// beside its input, on DATA; norms of weights alone without DATA
    #[arg(long, value_name = "DATA", num_args = 0..=1,
          conflicts_with_all = ["plan", "list"])]
    identity: Option<Option<String>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    identity_args: identity::IdentityArgs,
    #[command(flatten)]
    plan_args: plan::PlanArgs,
    #[command(flatten)]
    architecture: ArchitectureArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua inspect resnet20
  residua inspect resnet50 --input 3x192x192 --classes 100
  residua inspect dense-resnet --depth 10 --width 32 --input 784
  residua inspect runs/shapes-resnet20-s0
  residua inspect model.safetensors --json
  residua inspect resnet20 --plan
  residua inspect resnet50 --plan=infer --batch-size 32 --precision bf16
  residua inspect runs/first --identity cifar-10-binary.tar.gz
  residua inspect --list";

pub(crate) fn run(args: &InspectArgs) -> Result<Outcome> {
    let Some(network) = &args.network else {
        list(args.json)?;
        return Ok(Outcome::Done);
    };
    let path = Path::new(network);
    if let Some(data) = &args.identity {
        refuse_options(args, "--identity")?;
        args.identity_args.show(path, data.as_deref(), args.threads, args.json)?;
    } else if network.ends_with(".toml") {
        refuse_options(args, "a .toml file")?;
        args.show(&read_toml(path)?, None)?;
    } else if path.exists() || looks_like_path(network) {
        refuse_options(args, "a model file")?;
        let model = model_file::load(path)?;
        args.show(&model.architecture, Some(&model))?;
    } else {
        let options = args.architecture.options();
        let named = arguments::named_architecture(network, &options, args.input, args.classes)?;
        args.show(&named, None)?;
    }
    Ok(Outcome::Done)
}

impl InspectArgs {
    fn show(&self, architecture: &Architecture, model: Option<&Model>) -> Result<()> {
        match self.plan {
            Some(task) => plan::show(architecture, task, &self.plan_args, self.threads, self.json),
            None => show(architecture, model, self.json),
        }
    }
}

pub(crate) fn looks_like_path(network: &str) -> bool {
    network.contains(std::path::is_separator) || network.ends_with(".safetensors")
}

/// A file says all there is to say.
fn refuse_options(args: &InspectArgs, what: &str) -> Result<()> {
    let set = args.input.is_some() || args.classes.is_some() || !args.architecture.is_empty();
    ensure!(
        !set,
        "--input, --classes, --depth, --width, --shortcut and --no-norm go with a name, not with \
         {what}"
    );
    Ok(())
}

/// An architecture from a file of its own or from a run's config.
pub(crate) fn read_toml(path: &Path) -> Result<Architecture> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if text.lines().any(|line| line.trim() == "[architecture]") {
        let recipe = Recipe::from_toml(&text).with_context(|| path.display().to_string())?;
        return Ok(recipe.architecture);
    }
    Architecture::from_toml(&text).with_context(|| path.display().to_string())
}

fn list(json: bool) -> Result<()> {
    #[derive(Serialize)]
    struct Named {
        name: &'static str,
        about: &'static str,
    }
    let names = Architecture::names().iter();
    if json {
        let names: Vec<_> = names.map(|n| Named { name: n.name, about: n.about }).collect();
        return Ok(output::json(&names)?);
    }
    let mut rows = table::new(["Name", "What it is"]);
    names.for_each(|n| {
        rows.add_row([n.name, n.about]);
    });
    output::line(table::text(&rows))?;
    output::line(
        "Other depths work the same way. A width, a block, a shortcut and -no-norm may follow, in\n\
         this order: resnet20-w32, resnet110-bottleneck, resnet34-zero-pad, dense-resnet10-w32-no-norm.",
    )?;
    Ok(())
}

/// A network for machines.
#[derive(Serialize)]
struct Inspection<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    architecture: &'a Architecture,
    model: Option<Trained<'a>>,
}

/// What only a trained network has.
#[derive(Serialize)]
struct Trained<'a> {
    class_names: &'a [String],
    preprocessing: &'a Preprocessing,
    provenance: &'a Provenance,
    weights_sha256: String,
    num_non_finite: usize,
}

impl<'a> Trained<'a> {
    fn new(model: &'a Model) -> Result<Self> {
        Ok(Self {
            class_names: &model.classes,
            preprocessing: &model.preprocessing,
            provenance: &model.provenance,
            weights_sha256: model.weights_sha256()?,
            num_non_finite: model.num_non_finite(),
        })
    }
}

fn show(architecture: &Architecture, model: Option<&Model>, json: bool) -> Result<()> {
    let summary = summary(architecture);
    let model = model.map(Trained::new).transpose()?;
    if json {
        return Ok(output::json(&Inspection { summary: &summary, architecture, model })?);
    }
    output::line(describe(architecture))?;
    output::line("")?;
    output::line(table::text(&layers(&summary)))?;
    output::line(format_args!(
        "{} parameters, {} multiply-adds per sample",
        table::grouped(summary.parameters),
        table::grouped(summary.macs),
    ))?;
    if let Some(model) = model {
        output::line("")?;
        output::line(trained(&model))?;
    }
    Ok(())
}

/// `resnet20: residual network, 20 layers, 9 basic blocks, shortcuts: zero-pad; input 3x32x32, 10 classes`
pub(crate) fn describe(architecture: &Architecture) -> String {
    let family = match architecture.family() {
        Family::Plain => "plain network",
        Family::Residual => "residual network",
        Family::Preact => "pre-activation network",
    };
    let block = match architecture.block() {
        Block::Basic => "basic",
        Block::Bottleneck => "bottleneck",
        Block::Dense => "dense",
    };
    let norm = if architecture.norm() { "" } else { ", no batch norm" };
    let num_blocks = architecture.num_blocks();
    let blocks = if num_blocks == 1 { "block" } else { "blocks" };
    format!(
        "{}: {family}, {} layers, {num_blocks} {block} {blocks}, shortcuts: {}{norm}; input {}, {} classes",
        architecture.name(),
        architecture.depth(),
        architecture.shortcut(),
        architecture.input(),
        architecture.classes(),
    )
}

fn layers(summary: &Summary) -> comfy_table::Table {
    let header = ["Layer", "Operation", ">Output", ">Parameters", ">Multiply-adds"];
    let mut rows = table::new(header);
    let number = |number: u64| match number {
        0 => String::new(),
        _ => table::grouped(number),
    };
    for row in &summary.rows {
        let operation = match row.detail.as_str() {
            "" => row.kind.to_owned(),
            detail => format!("{} {detail}", row.kind),
        };
        rows.add_row([
            row.name.clone(),
            operation,
            dims(&row.output),
            number(row.parameters),
            number(row.macs),
        ]);
    }
    let total = [number(summary.parameters), number(summary.macs)];
    let [parameters, macs] = total;
    rows.add_row(["total".to_owned(), String::new(), String::new(), parameters, macs]);
    rows
}

fn dims(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// What a trained network carries, a line for each thing.
fn trained(model: &Trained<'_>) -> String {
    let Provenance {
        dataset,
        dataset_fingerprint,
        seed,
        steps,
        precision,
        residua_version,
        inserted_blocks,
    } = model.provenance;
    let mut lines = vec![
        ("classes", model.class_names.join(", ")),
        ("preprocessing", preprocessing(model.preprocessing)),
        ("trained on", format!("{dataset} (fingerprint {dataset_fingerprint})")),
        ("training", format!("{} steps in {precision}, seed {seed}", table::grouped(*steps))),
        ("made by", format!("residua {residua_version}")),
        ("weights", format!("SHA-256 {}", model.weights_sha256)),
    ];
    if !inserted_blocks.is_empty() {
        lines.push(("put in later", inserted_blocks.join(", ")));
    }
    if model.num_non_finite > 0 {
        let bad = table::grouped(model.num_non_finite as u64);
        lines.push(("warning", format!("{bad} weights are NaN or infinite")));
    }
    let lines = lines.iter().map(|(what, text)| format!("{what:<14} {text}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// `resized to 32x32; RGB; mean 0.491 0.482 0.447, std 0.247 0.243 0.262`
fn preprocessing(p: &Preprocessing) -> String {
    let resize = match p.resize {
        Resize::None => format!("vectors of {}", p.channels),
        Resize::Exact => format!("resized to {}x{}", p.height, p.width),
        Resize::ShortSide(side) => {
            format!("short side resized to {side}, centre {}x{} cropped", p.height, p.width)
        }
    };
    let channels = match (p.resize, p.channels) {
        (Resize::None, _) => "",
        (_, 1) => ", grey",
        (_, _) => ", RGB",
    };
    format!("{resize}{channels}; mean {}, std {}", table::figures(&p.mean), table::figures(&p.std))
}
