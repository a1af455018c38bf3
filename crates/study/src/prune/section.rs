use residua_data::Split;
use residua_train::plot::{Line, LineChart, LineStyle};

use super::{FineTuned, Limit, Prune, Round};
use crate::section::{percent, points};
use crate::{Chart, Section, Table, grouped};

/// What is shown of a round.
const NUM_SHOWN: usize = 5;

impl Prune {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let data = format!(
            "{}, {} set, {} samples",
            self.dataset,
            self.split,
            grouped(self.num_samples as u64)
        );
        let limit = match self.limit {
            Limit::NumBlocks(number) => format!("{number} blocks"),
            Limit::ErrorIncrease(by) => format!("an error higher by {}", points(by)),
        };
        let setting = [("data", data), ("precision", self.precision.clone()), ("limit", limit)];
        let rounds =
            self.rounds.iter().zip(1..).map(|(round, number)| self.round_table(round, number));
        let mut tables: Vec<Table> = rounds.collect();
        tables.push(self.removed_table());
        tables.push(self.size_table());
        Section {
            title: format!("Blocks that {} can do without", self.before.architecture),
            question: "Which blocks of a trained network matter least, and what does it gain without them?"
                .to_owned(),
            setting: setting.map(|(name, value)| (name.to_owned(), value)).into(),
            charts: vec![self.chart()],
            tables,
            findings: self.findings(),
            commands: Vec::new(),
        }
    }

    fn bound(&self) -> Option<f64> {
        match self.limit {
            Limit::NumBlocks(_) => None,
            Limit::ErrorIncrease(points) => Some(self.before.score.top1_error + points),
        }
    }

    fn chart(&self) -> Chart {
        let best = |round: &Round| Some(round.tried.first()?.score.top1_error);
        let tried = self.rounds.iter().filter_map(best);
        let errors = std::iter::once(self.before.score.top1_error).chain(tried);
        let all: Vec<(f64, f64)> = errors.enumerate().map(|(i, error)| (i as f64, error)).collect();
        let last = all.len() as f64 - 1.0;
        let mut lines = vec![Line::new("without the blocks", 0, all).style(LineStyle::Marked)];
        lines.extend(self.bound().map(|bound| {
            Line::new("limit", 1, vec![(0.0, bound), (last, bound)]).style(LineStyle::Dashed)
        }));
        let title = format!("{} with fewer and fewer blocks", self.before.architecture);
        let y_label = format!("top-1 error on the {} set (%)", self.split);
        Chart {
            name: "pruned".to_owned(),
            caption: "The error after each round, in which the block that matters least goes."
                .to_owned(),
            lines: LineChart { lines, ..LineChart::new(title, "removed blocks", y_label) },
        }
    }

    /// The first few of a round.
    fn round_table(&self, round: &Round, number: usize) -> Table {
        let all = round.tried.len();
        let shown = all.min(NUM_SHOWN);
        let caption =
            format!("Round {number}: {shown} of {all} blocks tried, those that matter least");
        let mut table = Table::new(caption, ["Without", ">error", ">change", ">mean loss"]);
        for tried in round.tried.iter().take(NUM_SHOWN) {
            let (error, loss) = (percent(tried.score.top1_error), tried.score.mean_loss);
            let change = points(tried.score.top1_error - self.before.score.top1_error);
            table.row([&tried.block, &error, &change, &format!("{loss:.4}")]);
        }
        table
    }

    fn removed_table(&self) -> Table {
        let mut table =
            Table::new("Removed", [">Round", "Block", ">error", ">change", ">mean loss"]);
        for (round, number) in self.rounds.iter().zip(1..) {
            let (Some(block), Some(tried)) = (&round.removed, round.tried.first()) else {
                continue;
            };
            let score = tried.score;
            let change = points(score.top1_error - self.before.score.top1_error);
            let (error, loss) = (percent(score.top1_error), format!("{:.4}", score.mean_loss));
            table.row([&number.to_string(), block, &error, &change, &loss]);
        }
        table
    }

    fn size_table(&self) -> Table {
        let [before, after] = [&self.before, &self.after];
        let mut table = Table::new("Before and after", ["", ">before", ">after", ">change"]);
        table.row(["network", &before.architecture, &after.architecture, ""]);
        for (what, a, b) in [
            ("blocks", before.num_blocks as u64, after.num_blocks as u64),
            ("parameters", before.num_parameters, after.num_parameters),
            ("multiply-adds", before.macs, after.macs),
        ] {
            table.row([what, &grouped(a), &grouped(b), &relative(a as f64, b as f64)]);
        }
        let on_split = (self.split.to_string(), before.score, after.score);
        let on_test = before.test.zip(after.test).map(|(a, b)| ("test".to_owned(), a, b));
        for (split, a, b) in [Some(on_split), on_test].into_iter().flatten() {
            let [a, b] = [a, b].map(|score| score.top1_error);
            table.row([format!("{split} error"), percent(a), percent(b), points(b - a)]);
        }
        for latency in &self.latencies {
            let [a, b] = [latency.ms_before, latency.ms_after];
            let what = format!("batch of {}, median of {}", latency.batch_size, latency.num_runs);
            table.row([what, format!("{a:.2} ms"), format!("{b:.2} ms"), relative(a, b)]);
        }
        table
    }

    fn findings(&self) -> Vec<String> {
        let removed: Vec<&str> = self.removed().collect();
        let [before, after] = [&self.before, &self.after];
        let mut findings = vec![match removed[..] {
            [] => "No block could be removed.".to_owned(),
            _ => format!(
                "Without {} of {} blocks ({}) the error on the {} set is {} instead of {}; parameters \
                 change by {}, multiply-adds by {}.",
                removed.len(),
                before.num_blocks,
                removed.join(", "),
                self.split,
                percent(after.score.top1_error),
                percent(before.score.top1_error),
                relative(before.num_parameters as f64, after.num_parameters as f64),
                relative(before.macs as f64, after.macs as f64),
            ),
        }];
        let stopped = self.rounds.last().filter(|round| round.removed.is_none());
        findings.extend(stopped.zip(self.bound()).and_then(|(round, bound)| {
            let next = round.tried.first()?;
            let [error, bound] = [next.score.top1_error, bound].map(percent);
            Some(format!(
                "Without {} next, it would be {error}, above the limit of {bound}.",
                next.block
            ))
        }));
        findings.extend(self.fine_tuned.map(|tuned| {
            let splits = [
                (Split::Train, Some(tuned.train_error)),
                (Split::Dev, tuned.dev_error),
                (Split::Test, tuned.test_error),
            ];
            let errors = splits.into_iter().filter_map(|(split, error)| {
                Some(format!("{} on the {split} set", percent(error?)))
            });
            let errors: Vec<String> = errors.collect();
            let FineTuned { steps, lr, .. } = tuned;
            format!("After {steps} more steps at lr {lr} the error is {}.", errors.join(", "))
        }));
        findings
    }
}

/// `−12.3 %`
fn relative(before: f64, after: f64) -> String {
    format!("{:+.1} %", (after / before - 1.0) * 100.0)
}
