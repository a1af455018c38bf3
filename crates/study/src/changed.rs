use residua_data::Split;
use residua_format::Model;
use residua_resnet::{BlockIndex, ChangedNetwork};
use residua_train::plot::{Line, LineChart, LineStyle};
use serde::{Deserialize, Serialize};

use crate::section::percent;
use crate::{Chart, Difference, FineTuned, Section, Table, grouped};

/// A model whose network was changed: all else stays, and it tells which of its blocks were put in after
/// its training, as they are called now.
pub fn changed_model(model: &Model, changed: &ChangedNetwork) -> Model {
    let earlier = model.provenance.inserted_blocks.iter();
    let earlier =
        earlier.filter_map(|name| changed.block_now(&model.architecture, name.parse().ok()?));
    let mut inserted: Vec<BlockIndex> = earlier.chain(changed.new_blocks()).collect();
    inserted.sort_unstable();
    let mut now = Model {
        architecture: changed.architecture.clone(),
        weights: changed.weights.clone(),
        ..model.clone()
    };
    now.provenance.inserted_blocks = inserted.iter().map(ToString::to_string).collect();
    now
}

/// What was changed about a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Blocks were put in.
    Deepened,
    /// Shortcuts were put around the blocks of a plain network.
    ShortcutsAdded,
    /// The shortcuts of a residual network were taken off.
    ShortcutsStripped,
}

/// A changed network, and how far its outputs are from those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// What was changed.
    pub change: Change,
    /// Name of the architecture before.
    pub before: String,
    /// And after.
    pub after: String,
    /// Trainable parameters before.
    pub num_parameters_before: usize,
    /// And after.
    pub num_parameters_after: usize,
    /// The model file that was written.
    pub file: String,
    /// Name of the dataset that both were measured on, if they were.
    pub dataset: Option<String>,
    /// What part of it.
    pub split: Split,
    /// In each precision, before the network was trained any further; empty if it was not measured.
    pub verified: Vec<Verified>,
    /// After a little training, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<FineTuned>,
}

/// How far the outputs of two networks are from each other in a precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// The precision.
    pub precision: String,
    /// How far.
    #[serde(flatten)]
    pub difference: Difference,
}

impl Changed {
    /// Whether all that was measured is the same, bit for bit.
    pub fn is_none(&self) -> bool {
        self.verified.iter().all(|verified| verified.difference.is_none())
    }

    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let Self { before, after, .. } = self;
        let (title, question) = match self.change {
            Change::Deepened => (
                format!("{before}, deepened to {after}"),
                "Does a trained network change when blocks are put into it?",
            ),
            Change::ShortcutsAdded => (
                format!("{before} with shortcuts"),
                "What does a trained plain network compute when shortcuts go around its blocks, and are its \
                 weights a start for more training?",
            ),
            Change::ShortcutsStripped => (
                format!("{before} without its shortcuts"),
                "What is left of a trained residual network without its shortcuts, and are its weights a \
                 start for more training?",
            ),
        };
        let data = self.dataset.as_deref().unwrap_or("none");
        let setting = [
            ("data", format!("{data}, {} set", self.split)),
            (
                "parameters",
                format!(
                    "{}, {} before",
                    grouped(self.num_parameters_after as u64),
                    grouped(self.num_parameters_before as u64)
                ),
            ),
        ];
        Section {
            title,
            question: question.to_owned(),
            setting: setting.map(|(name, value)| (name.to_owned(), value)).into(),
            charts: vec![self.chart()],
            tables: std::iter::once(self.table()).chain(self.tuned_table()).collect(),
            findings: self.findings(),
            commands: Vec::new(),
        }
    }

    /// The error on the measured split after more training.
    fn tuned_error(&self) -> Option<f64> {
        let tuned = self.tuned.as_ref()?;
        match self.split {
            Split::Train => Some(tuned.train_error),
            Split::Dev => tuned.dev_error,
            Split::Test => tuned.test_error,
        }
    }

    fn chart(&self) -> Chart {
        let line = |(color, verified): (usize, &Verified)| {
            let Difference { top1_error_before, top1_error_after, .. } = verified.difference;
            let points = vec![(1.0, top1_error_before), (2.0, top1_error_after)];
            Line::new(&verified.precision, color, points).style(LineStyle::Marked)
        };
        let mut lines: Vec<Line> = self.verified.iter().enumerate().map(line).collect();
        let mut x_names = vec!["before".to_owned(), "changed".to_owned()];
        if let (Some(error), Some(tuned)) = (self.tuned_error(), &self.tuned) {
            let color = lines.len();
            lines.push(Line::new("trained on", color, vec![(3.0, error)]).style(LineStyle::Marks));
            x_names.push(format!("{} steps later", tuned.steps));
        }
        let y_label = format!("top-1 error on the {} set (%)", self.split);
        let title = format!("{} and {}", self.before, self.after);
        Chart {
            name: "changed".to_owned(),
            caption: "The error before and after the change, in each precision.".to_owned(),
            lines: LineChart { lines, x_names, ..LineChart::new(title, "network", y_label) },
        }
    }

    fn table(&self) -> Table {
        let caption = format!("The outputs of both networks on the {} set", self.split);
        let header = [
            "Precision",
            ">samples",
            ">outputs that differ",
            ">max |Δlogit|",
            ">error before",
            ">error after",
        ];
        let mut table = Table::new(caption, header);
        for Verified { precision, difference } in &self.verified {
            table.row([
                precision.clone(),
                grouped(difference.num_samples),
                grouped(difference.num_different),
                difference.max_abs.to_string(),
                percent(difference.top1_error_before),
                percent(difference.top1_error_after),
            ]);
        }
        table
    }

    fn tuned_table(&self) -> Option<Table> {
        let FineTuned { steps, lr, train_error, dev_error, test_error } = self.tuned?;
        let caption = format!("The changed network after {steps} more steps");
        let mut table = Table::new(caption, [">lr", ">train error", ">dev error", ">test error"]);
        let shown = |error: Option<f64>| error.map_or("-".to_owned(), percent);
        table.row([lr.to_string(), percent(train_error), shown(dev_error), shown(test_error)]);
        Some(table)
    }

    fn findings(&self) -> Vec<String> {
        let precisions: Vec<&str> = self.verified.iter().map(|it| it.precision.as_str()).collect();
        let precisions = precisions.join(" and ");
        let mut findings = match self.is_none() {
            true => vec![format!("All outputs stayed the same bit for bit, in {precisions}.")],
            false => self
                .verified
                .iter()
                .map(|Verified { precision, difference }| {
                    format!(
                        "In {precision} the error is {} where it was {}.",
                        percent(difference.top1_error_after),
                        percent(difference.top1_error_before),
                    )
                })
                .collect(),
        };
        findings.extend(self.tuned_error().zip(self.tuned).map(|(error, tuned)| {
            format!("After {} more steps at lr {} it is {}.", tuned.steps, tuned.lr, percent(error))
        }));
        findings
    }
}
