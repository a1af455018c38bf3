//! `residua data info`: splits, classes, sizes and statistics.

use anyhow::Result;
use clap::Args;
use residua_data::{Augment, BadSample, Dataset, Kind, Preprocessing, Split};
use serde::Serialize;

use crate::arguments::OpenArgs;
use crate::failure::Outcome;
use crate::{inspect, output, progress, table};

/// Show the splits, class counts, sizes and channel statistics of a dataset
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    /// Archive, folder, file or synthetic set; `residua --help` lists them
    #[arg(value_name = "DATA")]
    data: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Decides which samples form the dev and test sets, where DATA has none
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    open: OpenArgs,
}

const EXAMPLES: &str = "\
Examples:
  residua data info cifar-10-binary.tar.gz
  residua data info photographs/ --val-fraction 0.2
  residua data info synthetic:shapes?train=5000 --json";

pub(crate) fn run(args: &InfoArgs) -> Result<Outcome> {
    let dataset = progress::open(&args.data, &args.open.options(args.seed))?;
    let info = Info::new(&dataset);
    match args.json {
        true => output::json(&info)?,
        false => output::line(info.text(&dataset))?,
    }
    Ok(Outcome::Done)
}

/// A dataset for machines.
#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    kind: Kind,
    sample_shape: [usize; 3],
    classes: Vec<Class<'a>>,
    samples: Counts,
    preprocessing: &'a Preprocessing,
    default_augment: Augment,
    skipped: &'a [BadSample],
    fingerprint: &'a str,
}

#[derive(Serialize)]
struct Class<'a> {
    name: &'a str,
    #[serde(flatten)]
    samples: Counts,
}

#[derive(Serialize)]
struct Counts {
    train: usize,
    dev: usize,
    test: usize,
}

impl Counts {
    fn new(count: impl Fn(Split) -> usize) -> Self {
        Self { train: count(Split::Train), dev: count(Split::Dev), test: count(Split::Test) }
    }
}

impl<'a> Info<'a> {
    fn new(dataset: &'a Dataset) -> Self {
        let counts = Split::ALL.map(|split| dataset.class_counts(split));
        let of_class = |(i, name): (usize, &'a String)| Class {
            name,
            samples: Counts::new(|split| counts[split as usize][i]),
        };
        Self {
            name: dataset.name(),
            kind: dataset.kind(),
            sample_shape: dataset.sample_shape(),
            classes: dataset.classes().iter().enumerate().map(of_class).collect(),
            samples: Counts::new(|split| dataset.len(split)),
            preprocessing: dataset.preprocessing(),
            default_augment: dataset.default_augment(),
            skipped: dataset.skipped(),
            fingerprint: dataset.fingerprint(),
        }
    }

    fn text(&self, dataset: &Dataset) -> String {
        let mut rows = table::new(["Class", ">train", ">dev", ">test"]);
        for Class { name, samples } in &self.classes {
            rows.add_row(row(name, samples));
        }
        rows.add_row(row("all", &self.samples));
        let [c, h, w] = self.sample_shape;
        let fed = match self.kind {
            Kind::Vectors => format!("vectors of {c}"),
            Kind::SmallImages | Kind::ImageFolder => format!("{c}x{h}x{w}"),
        };
        let classes = table::count(self.classes.len(), "class");
        let mut text = format!("{}: {}, {fed}, {classes}\n\n", self.name, self.kind);
        text += &table::text(&rows);
        text += "\n";
        let mut line = |what: &str, value: &str| text += &format!("{what:<14} {value}\n");
        line("mean", &inspect::numbers(&self.preprocessing.mean));
        line("std", &inspect::numbers(&self.preprocessing.std));
        line("augmentation", &dataset.default_augment().to_string());
        if !self.skipped.is_empty() {
            line("left out", &table::count(self.skipped.len(), "bad image"));
        }
        line("fingerprint", self.fingerprint);
        text.trim_end().to_owned()
    }
}

fn row(name: &str, counts: &Counts) -> [String; 4] {
    let number = |count| table::grouped(count as u64);
    [name.to_owned(), number(counts.train), number(counts.dev), number(counts.test)]
}
