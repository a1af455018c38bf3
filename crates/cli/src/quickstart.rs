//! `residua quickstart`: what shortcuts are for, in a minute and a half.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Args;
use image::ColorType;
use residua_data::{Augment, Dataset, OpenOptions, Split, open};
use residua_format::Model;
use residua_graph::Shape;
use residua_resnet::{Architecture, Insertion, insert_blocks};
use residua_study::{Chart, Section, Table, changed_model, difference, shell_line};
use residua_train::plot::{ErrorCurve, error_chart};
use residua_train::{
    EvalOptions, Length, Outcome as RunOutcome, Predictor, Recipe, Schedule, SplitSummary, Summary,
    Trainer, read_metrics,
};

use crate::arguments::ThreadArgs;
use crate::failure::Outcome;
use crate::model_file::MODEL_FILE;
use crate::train::{Live, explain, train};
use crate::{browser, interrupt, output, present, report, table};

/// Train a deep plain network and its residual twin on drawn shapes, and compare them
///
/// Both have the same layers, start from the same weights and see the same batches with the same
/// settings; the only difference is the shortcuts around the blocks. Then the residual one gets two more
/// blocks without changing its outputs. Takes about a minute and a half on two cores and needs no
/// data; it ends with a page that shows what came of it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct QuickstartArgs {
    /// Folder for all that is written; an earlier quickstart in it is replaced
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    out: PathBuf,
    /// Decides the initial weights, the order of the samples and their augmentation
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Steps of training; more make both networks better
    #[arg(long, value_name = "NUMBER", default_value_t = NUM_STEPS)]
    steps: u64,
    /// Leave the page closed; it is opened only if this is a terminal with a screen
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua quickstart
  residua quickstart --seed 1 --steps 2000 --out runs/longer";

const DATA: &str = "synthetic:shapes?train=8000&dev=500&test=1000&difficulty=0";
/// Other pictures than those of [`DATA`].
const NEW_DATA: &str = "synthetic:shapes?train=10&dev=0&test=10&seed=1000&difficulty=0";
const RESIDUAL: &str = "resnet32-w8";
const NUM_STEPS: u64 = 600;
/// The residual network with more blocks.
const DEEPER_FILE: &str = "deeper.safetensors";

pub(crate) fn run(args: &QuickstartArgs) -> Result<Outcome> {
    let stop = interrupt::stop_flag()?;
    output::note(
        "Two networks, the same but for the shortcuts, learn to tell 10 drawn shapes apart.\n",
    );
    let dataset = Arc::new(open(DATA, &OpenOptions::default())?);
    let [c, h, w] = dataset.sample_shape();
    let residual = Architecture::named(RESIDUAL, Shape::image(c, h, w), dataset.classes().len())?;
    let mut twins = Vec::new();
    for architecture in [residual.plain_twin(), residual] {
        match Twin::train(architecture, &dataset, args, &stop)? {
            Some(twin) => twins.push(twin),
            None => {
                output::note("stopped; `residua quickstart` starts again");
                return Ok(Outcome::Interrupted);
            }
        }
    }
    let residual = &twins[1];
    let sections = [comparison(&twins, args)?, deepen(residual, &dataset, args)?];
    for section in &sections {
        present::print(section)?;
        output::line("")?;
    }
    let page = args.out.join("report.html");
    report::write_page(&page, "Residual networks, quickly", &sections)?;
    let images = predict(residual, args)?;
    finish(residual, &page, &images, &dataset)?;
    if !args.no_open {
        browser::show(&page);
    }
    Ok(Outcome::Done)
}

/// What both networks are trained with.
fn recipe(architecture: Architecture, dataset: &Dataset, args: &QuickstartArgs) -> Recipe {
    Recipe {
        seed: args.seed,
        batch_size: 64,
        lr: 0.1,
        schedule: Schedule::OneCycle,
        length: Length::Steps(args.steps),
        eval_every: Some((args.steps / 10).max(1)),
        // So few steps leave no time to learn changed pictures too.
        augment: Augment::None,
        ..Recipe::new(DATA, OpenOptions::default(), dataset, architecture)
    }
}

/// One of the two networks, trained.
struct Twin {
    folder: PathBuf,
    summary: Summary,
}

impl Twin {
    fn train(
        architecture: Architecture,
        dataset: &Arc<Dataset>,
        args: &QuickstartArgs,
        stop: &AtomicBool,
    ) -> Result<Option<Self>> {
        let folder = args.out.join(architecture.name());
        let recipe = recipe(architecture, dataset, args);
        let options = args.threads.run_options();
        let trainer = Trainer::create(&folder, true, recipe, Arc::clone(dataset), options);
        let outcome = train(trainer.map_err(explain)?, &mut Live::new(dataset), stop)?;
        output::note("");
        Ok(match outcome {
            RunOutcome::Finished(summary) => Some(Self { folder, summary: *summary }),
            RunOutcome::Interrupted { .. } => None,
        })
    }

    fn name(&self) -> &str {
        &self.summary.architecture
    }
}

/// Where both ended, and which one is ahead.
fn comparison(twins: &[Twin], args: &QuickstartArgs) -> Result<Section> {
    let header = ["Network", ">parameters", ">train error", ">dev error", ">test error", ">time"];
    let mut rows = Table::new("Errors at the end", header);
    let mut curves = Vec::new();
    for twin in twins {
        let Twin { summary, folder } = twin;
        let percent = |split: Option<SplitSummary>| {
            split.map_or("-".to_owned(), |split| table::percent(split.top1_error))
        };
        rows.row([
            summary.architecture.clone(),
            table::grouped(summary.num_parameters),
            percent(Some(summary.train)),
            percent(summary.dev),
            percent(summary.test),
            table::duration(summary.seconds),
        ]);
        curves.push(ErrorCurve::new(twin.name(), &read_metrics(&folder.join("metrics.jsonl"))?));
    }
    let title = "Training with and without shortcuts";
    Ok(Section {
        title: title.to_owned(),
        question: "Two networks, the same but for the shortcuts, learn to tell 10 drawn shapes apart. Does \
                   the one without shortcuts get as far?"
            .to_owned(),
        setting: vec![
            ("data".to_owned(), DATA.to_owned()),
            ("steps".to_owned(), args.steps.to_string()),
            ("seed".to_owned(), args.seed.to_string()),
        ],
        charts: vec![Chart {
            name: "curves".to_owned(),
            caption: "Error on the training batches (thin, dashed) and on the dev set (bold).".to_owned(),
            lines: error_chart(title, &curves),
        }],
        tables: vec![rows],
        findings: vec![verdict(twins)],
        commands: vec![format!("residua quickstart --seed {} --steps {}", args.seed, args.steps)],
    })
}

fn verdict(twins: &[Twin]) -> String {
    let [plain, residual] = [&twins[0], &twins[1]].map(|twin| twin.summary.train.top1_error);
    match plain - residual {
        ahead if ahead > 0.5 => format!(
            "The residual network is ahead by {ahead:.1} points even on the images it was trained \
             on: this is\nnot overfitting. Without shortcuts a network of this depth is hard to \
             train (He et al. 2015)."
        ),
        ahead if ahead < -0.5 => format!(
            "Here the plain network is ahead by {:.1} points. Try another --seed, or deeper networks.",
            -ahead
        ),
        _ => "Here the two are about as good. Try another --seed, or deeper networks.".to_owned(),
    }
}

/// Puts blocks into the residual network, and shows that its outputs stay.
fn deepen(twin: &Twin, dataset: &Arc<Dataset>, args: &QuickstartArgs) -> Result<Section> {
    let model = Model::load(twin.folder.join(MODEL_FILE))?;
    let insertion = Insertion::new(model.architecture.stages().len(), 2);
    let changed = insert_blocks(&model.architecture, &model.weights, &insertion)?;
    let deeper = changed_model(&model, &changed);
    let path = args.out.join(DEEPER_FILE);
    deeper.save(&path)?;
    let options = EvalOptions::new(64);
    let found = args
        .threads
        .install(|| difference(&model, &deeper, dataset, Split::Test, &options, &|_| ()))??;
    let mut rows = Table::new(
        "The same network with two more blocks",
        ["", ">layers", ">test error", ">largest difference of an output"],
    );
    let depth = |model: &Model| model.architecture.depth().to_string();
    let [before, after] = [found.top1_error_before, found.top1_error_after].map(table::percent);
    rows.row(["before".to_owned(), depth(&model), before, String::new()]);
    rows.row(["deepened".to_owned(), depth(&deeper), after, found.max_abs.to_string()]);
    let verdict = match found.is_none() {
        true => {
            "max |Δlogit| = 0: a residual block whose branch puts out zeros is the identity, so a trained \
                 network\ncan get deeper without being hurt, and can learn on from there."
        }
        false => "The outputs differ, which they should not: please report this.",
    };
    Ok(Section {
        title: "A deeper network that is no worse".to_owned(),
        question: "Does a trained network change when blocks are put into it?".to_owned(),
        setting: vec![("new blocks".to_owned(), deeper.provenance.inserted_blocks.join(", "))],
        tables: vec![rows],
        findings: vec![verdict.to_owned()],
        commands: vec![shell_line([
            "residua",
            "deepen",
            &twin.folder.display().to_string(),
            "--stage",
            &insertion.stage.to_string(),
            "--blocks",
            "2",
            "--out",
            &path.display().to_string(),
            "--verify",
            DATA,
        ])],
        ..Section::default()
    })
}

/// Draws a few new pictures and prints what the network takes them for.
fn predict(twin: &Twin, args: &QuickstartArgs) -> Result<PathBuf> {
    let model = Model::load(twin.folder.join(MODEL_FILE))?;
    let folder = args.out.join("images");
    let paths = write_images(&folder)?;
    let mut input = Vec::new();
    for path in &paths {
        input.extend(model.preprocessing.load_image(path)?);
    }
    let probabilities =
        args.threads.install(|| Predictor::new(&model, paths.len())?.probabilities(&input))??;
    let mut rows = table::new(["New image", "taken for", ">probability"]);
    for (path, row) in paths.iter().zip(probabilities.chunks_exact(model.classes.len())) {
        let (class, probability) = model
            .classes
            .iter()
            .zip(row)
            .max_by(|a, b| a.1.total_cmp(b.1))
            .context("a model has classes")?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.add_row([name, class.clone(), table::percent(f64::from(*probability) * 100.0)]);
    }
    output::line(table::text(&rows))?;
    Ok(folder)
}

fn write_images(folder: &Path) -> Result<Vec<PathBuf>> {
    let dataset = open(NEW_DATA, &OpenOptions::default())?;
    fs::create_dir_all(folder).with_context(|| format!("cannot write {}", folder.display()))?;
    let mut paths = Vec::new();
    for i in 0..dataset.len(Split::Test) {
        let pixels = dataset.pixels(Split::Test, i)?;
        let class = &dataset.classes()[dataset.label(Split::Test, i) as usize];
        let path = folder.join(format!("{class}.png"));
        let (width, height) = (pixels.width as u32, pixels.height as u32);
        image::save_buffer(&path, &pixels.data, width, height, ColorType::Rgb8)
            .with_context(|| format!("cannot write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

/// Says where everything is and what to try next.
fn finish(residual: &Twin, page: &Path, images: &Path, dataset: &Dataset) -> Result<()> {
    let folder = residual.folder.display();
    output::line(format_args!(
        "report   {}\n\
         model    {folder}/{MODEL_FILE}\n\
         \n\
         Next:\n  \
         residua eval {folder} '{}' --split test\n  \
         residua predict {folder} {}\n  \
         residua inspect {folder}\n  \
         residua compare DATA --depths 20,56 the same at other depths, on your own data\n  \
         residua train DATA                  your own images: a folder with a subfolder for each class",
        page.display(),
        dataset.name(),
        images.display(),
    ))?;
    Ok(())
}
