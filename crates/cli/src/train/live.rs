//! A run as it goes on: a bar and a line for each evaluation, or only lines where stderr is no
//! terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use residua_data::{Dataset, Split};
use residua_train::{Event, MetricsRecord, Observer, Started, StepReport};

use crate::inspect::describe;
use crate::{output, table};

/// Tells a person how a run goes, on stderr.
pub(crate) struct Live {
    bar: ProgressBar,
    data: String,
    has_dev: bool,
    /// What the samples are.
    things: &'static str,
    total_steps: u64,
    last_drawn: Option<Instant>,
    last_line: Instant,
    last_step: Option<StepReport>,
}

/// The bar is drawn so often, however short the steps are.
const REDRAW: Duration = Duration::from_millis(100);
/// Without a terminal there is a line so often, or at each evaluation.
const LINE: Duration = Duration::from_secs(30);

impl Live {
    pub(crate) fn new(dataset: &Dataset) -> Self {
        let things = dataset.kind().things();
        let bar = ProgressBar::hidden();
        let style =
            ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} steps\n{wide_msg}");
        bar.set_style(style.expect("the template is well formed"));
        Self {
            bar,
            data: describe_data(dataset, things),
            has_dev: !dataset.is_empty(Split::Dev),
            things,
            total_steps: 0,
            last_drawn: None,
            last_line: Instant::now(),
            last_step: None,
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        match self.bar.is_hidden() {
            true => output::note(line),
            false => self.bar.println(line),
        }
    }

    fn start(&mut self, started: &Started<'_>) {
        let recipe = started.recipe;
        self.total_steps = started.total_steps;
        self.say(&describe(&recipe.architecture));
        self.say(&self.data);
        let from = match started.first_step {
            0 => String::new(),
            step => format!(", resumed after step {}", table::grouped(step)),
        };
        let threads = table::count(started.num_threads, "thread");
        self.say(&format!(
            "{} steps of {} {}, {:.1} epochs, lr {}, {}, {threads}, in {}{from}",
            table::grouped(started.total_steps),
            recipe.batch_size,
            self.things,
            started.total_steps as f64 / started.steps_per_epoch as f64,
            recipe.lr,
            recipe.precision,
            started.folder.display(),
        ));
        let rate = format!("{}/s", self.things);
        self.say(&row([
            "epoch",
            "step",
            "loss",
            "train error",
            "dev error",
            "lr",
            &rate,
            "data wait",
            "time left",
        ]));
        self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        self.bar.set_length(started.total_steps);
        self.bar.set_position(started.first_step);
        self.last_line = Instant::now();
    }

    fn step(&mut self, report: StepReport) {
        self.last_step = Some(report);
        let is_last = report.step == self.total_steps;
        if !is_last && self.last_drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.last_drawn = Some(Instant::now());
        self.bar.set_position(report.step);
        let dev =
            report.dev_error.map_or(String::new(), |e| format!(", dev {}", table::percent(e)));
        self.bar.set_message(match is_last {
            true => "measuring the train, dev and test error".to_owned(),
            false => format!(
                "{} left, {:.0} {}/s, loss {:.4}, error: train {}{dev}, data wait {:.0} %",
                table::duration(report.seconds_left),
                report.images_per_s,
                self.things,
                report.loss,
                table::percent(report.train_error),
                report.data_wait_share * 100.0,
            ),
        });
    }

    fn record(&mut self, record: &MetricsRecord) {
        let is_due = self.bar.is_hidden() && self.last_line.elapsed() > LINE;
        // Without a dev set, what is evaluated are the blocks alone.
        let is_evaluation = match self.has_dev {
            true => record.dev_error.is_some(),
            false => !record.branch_norms.is_empty(),
        };
        if !is_evaluation && !is_due {
            return;
        }
        self.last_line = Instant::now();
        self.say(&row([
            &format!("{:.1}", record.epoch),
            &table::grouped(record.step),
            &format!("{:.4}", record.loss),
            &table::percent(record.train_error),
            &record.dev_error.map_or("-".to_owned(), table::percent),
            &format!("{:.1e}", record.lr),
            &format!("{:.0}", record.images_per_s),
            &format!("{:.0} %", record.data_wait_share * 100.0),
            &self.last_step.map_or(String::new(), |step| table::duration(step.seconds_left)),
        ]));
    }
}

/// A line of what is told at each evaluation.
fn row(cells: [&str; 9]) -> String {
    const WIDTHS: [usize; 9] = [6, 8, 8, 12, 10, 9, 11, 11, 13];
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$}"));
    cells.collect()
}

impl Observer for Live {
    fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(started) => self.start(started),
            Event::Warning(warning) => self.say(&format!("warning: {warning}")),
            Event::Step(report) => self.step(*report),
            Event::Recorded(record) => self.record(record),
            Event::Finished(_) => self.finish(),
            _ => {}
        }
    }
}

/// `synthetic:shapes: 20,000 train, 2,000 dev and 4,000 test images in 10 classes`
fn describe_data(dataset: &Dataset, things: &str) -> String {
    let count = |split| format!("{} {split}", table::grouped(dataset.len(split) as u64));
    let [train, dev, test] = Split::ALL.map(count);
    let skipped = match dataset.skipped().len() {
        0 => String::new(),
        number => format!(" ({} left out)", table::count(number, "bad image")),
    };
    format!(
        "{}: {train}, {dev} and {test} {things} in {} classes{skipped}",
        dataset.name(),
        dataset.classes().len(),
    )
}
