//! `residua study identity-task`: stacks of layers that learn to put out their input.

use anyhow::Result;
use clap::Args;
use residua_study::{IdentityTaskOptions, LayerKind, Study, identity_task};

use crate::arguments::{ThreadArgs, one_of};
use crate::failure::Outcome;
use crate::present::{PresentArgs, prepare, present};
use crate::progress;

/// Train stacks of layers to put out their input, without shortcuts and with them
///
/// The inputs are random and not negative, new ones in each step. Plain stacks are of layers
/// relu(W·x + b), residual ones of blocks relu(x + W₂·relu(W₁·x + b₁) + b₂). Each family and depth
/// gets the learning rate of the grid that comes to the lowest error with the first seed.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct IdentityTaskArgs {
    /// Numbers of layers, each even, with commas between them
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', default_value = "2,4,8,16,32")]
    depth: Vec<usize>,
    /// Kinds of layers, with commas between them
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "dense,conv",
          value_parser = one_of::<LayerKind>(&["dense", "conv"]))]
    kind: Vec<LayerKind>,
    /// Updates of the weights in each run
    #[arg(long, value_name = "NUMBER", default_value = "2000",
          value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Features of a vector, channels of an 8x8 image
    #[arg(long, value_name = "CHANNELS", default_value = "16",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    width: u32,
    /// Repetitions, with other initial weights and inputs
    #[arg(long, value_name = "NUMBER", default_value = "3",
          value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Learning rates to choose from, with commas between them
    #[arg(
        long,
        value_name = "NUMBER",
        value_delimiter = ',',
        default_value = "0.001,0.003,0.01,0.03,0.1,0.3"
    )]
    lr: Vec<f64>,
    #[command(flatten)]
    present: PresentArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua study identity-task
  residua study identity-task --kind dense --depth 2,8,32,64 --seeds 5
  residua study identity-task --steps 500 --lr 0.1,0.3 --out studies/identity";

pub(crate) fn run(args: &IdentityTaskArgs) -> Result<Outcome> {
    prepare(args.present.out.as_deref(), "identity-task")?;
    let options = IdentityTaskOptions {
        depths: args.depth.clone(),
        kinds: args.kind.clone(),
        steps: args.steps,
        width: args.width as usize,
        num_seeds: args.seeds.into(),
        lrs: args.lr.clone(),
    };
    let found = progress::counting("training", |on_progress| {
        args.threads.install(|| identity_task(&options, on_progress))
    })??;
    present(Study::IdentityTask(found), &args.present)?;
    Ok(Outcome::Done)
}
