//! `residua deepen`: more blocks in a trained network.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use residua_data::Split;
use residua_format::Model;
use residua_resnet::{
    ChangedNetwork, Insertion, NewBlocks, Place, Shortcut, SurgeryError, insert_blocks,
};
use residua_study::{Change, Changed, changed_model};
use residua_train::Start;

use crate::arguments::{OpenArgs, ThreadArgs, one_of};
use crate::failure::{Outcome, hinted};
use crate::train::from;
use crate::verify::{changed, show, verify};
use crate::{model_data, model_file, present};

/// Put blocks into a trained network without changing its outputs
///
/// The residual branch of each new block puts out zeros, so that the block passes its input on, and
/// can learn. Outputs stay the same bit for bit; --verify shows it on data and fails otherwise. Plain
/// networks have no such blocks: --plain shows what happens instead.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DeepenArgs {
    /// Model file or run folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Stage to put blocks into, from 1
    #[arg(long, value_name = "NUMBER")]
    stage: usize,
    /// New blocks
    #[arg(long, value_name = "NUMBER", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..))]
    blocks: u32,
    /// Where in the stage
    #[arg(long, value_enum, value_name = "PLACE", default_value = "end")]
    at: PlaceArg,
    /// How new blocks of a plain network start
    #[arg(long, value_enum, value_name = "KIND")]
    plain: Option<PlainStart>,
    /// Decides the random numbers in new blocks
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    seed: u64,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Compare the outputs of both networks on this data, in f32 and bf16; exit with 1 if they differ
    #[arg(long, value_name = "DATA")]
    verify: Option<String>,
    /// Part of the data to compare them on
    #[arg(long, value_name = "SPLIT", default_value = "test",
          value_parser = one_of::<Split>(&["train", "dev", "test"]))]
    split: Split,
    /// Folder for a record of the comparison with a plot, which `residua report` takes
    #[arg(long, value_name = "DIR", requires = "verify")]
    record: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    open: OpenArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua deepen runs/first --stage 3 --blocks 2 --out deeper.safetensors
  residua deepen runs/first --stage 3 --out deeper.safetensors --verify cifar-10-binary.tar.gz
  residua deepen runs/plain20 --stage 1 --plain dirac --out deeper.safetensors";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlaceArg {
    /// After half of its blocks
    Middle,
    /// After its last block
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlainStart {
    /// As before training
    Random,
    /// As kernels that put out their input
    Dirac,
}

pub(crate) fn run(args: &DeepenArgs) -> Result<Outcome> {
    model_file::prepare_out(&args.out)?;
    present::prepare(args.record.as_deref(), "changed")?;
    let model = model_file::load(&args.model)?;
    let network = deepen(args, &model)?;
    let deeper = changed_model(&model, &network);
    let open = |data| model_data::open(&args.model, &model, data, &args.open, args.split);
    let dataset = args.verify.as_deref().map(open).transpose()?.map(|(dataset, _)| dataset);
    deeper.save(&args.out)?;
    keep_state(args, &model, &network)?;
    let models = [&model, &deeper];
    let verified = match &dataset {
        Some(dataset) => verify(models, dataset, args.split, args.threads)?,
        None => Vec::new(),
    };
    let changed = changed(Change::Deepened, models, &args.out, dataset.as_deref(), args.split);
    let changed = Changed { verified, ..changed };
    let is_same = changed.is_none();
    show(changed, args.record.as_deref(), args.json)?;
    Ok(match is_same {
        true => Outcome::Done,
        false => Outcome::No,
    })
}

fn deepen(args: &DeepenArgs, model: &Model) -> Result<ChangedNetwork> {
    let insertion = Insertion {
        stage: args.stage,
        num_blocks: args.blocks as usize,
        place: match args.at {
            PlaceArg::Middle => Place::Middle,
            PlaceArg::End => Place::End,
        },
        start: match args.plain {
            None => NewBlocks::Identity,
            Some(PlainStart::Random) => NewBlocks::Random,
            Some(PlainStart::Dirac) => NewBlocks::Dirac,
        },
        seed: args.seed,
    };
    insert_blocks(&model.architecture, &model.weights, &insertion).map_err(|error| match error {
        SurgeryError::NoIdentity { .. } if model.architecture.shortcut() == Shortcut::None => {
            hinted(
                error.to_string(),
                "`--plain random` or `--plain dirac` inserts layers all the same",
            )
        }
        _ => error.into(),
    })
}

/// Keeps what momentum has gathered beside the model, where the run that made it is there.
fn keep_state(args: &DeepenArgs, model: &Model, changed: &ChangedNetwork) -> Result<()> {
    let Some(start) = from::start_of(&args.model, model)? else { return Ok(()) };
    let start = Start {
        weights: changed.weights.clone(),
        velocity: changed.carry(&start.velocity),
        recipe: start.recipe,
    };
    Ok(start.save(&from::state_file(&args.out))?)
}
