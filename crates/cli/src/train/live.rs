//! A run as it goes on: a bar and a line for each evaluation, or only lines where stderr is no
//! terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use residua_data::{Dataset, Kind, Split};
use residua_train::{Event, MetricsRecord, Observer, Started, StepReport};

use crate::inspect::describe;
use crate::{output, table};

/// Tells a person how a run goes, on stderr.
pub(crate) struct Live {
    bar: ProgressBar,
    data: String,
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
        let things = match dataset.kind() {
            Kind::Vectors => "samples",
            Kind::SmallImages | Kind::ImageFolder => "images",
        };
        let bar = ProgressBar::hidden();
        let style =
            ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} steps\n{wide_msg}");
        bar.set_style(style.expect("the template is well formed"));
        Self {
            bar,
            data: describe_data(dataset, things),
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
            "{} steps of {} {}, {:.1} epochs, lr {}, {threads}, in {}{from}",
            table::grouped(started.total_steps),
            recipe.batch_size,
            self.things,
            started.total_steps as f64 / started.steps_per_epoch as f64,
            recipe.lr,
            started.folder.display(),
        ));
        self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        self.bar.set_length(started.total_steps);
        self.bar.set_position(started.first_step);
        self.last_line = Instant::now();
    }

    fn step(&mut self, report: StepReport) {
        self.last_step = Some(report);
        if self.last_drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.last_drawn = Some(Instant::now());
        self.bar.set_position(report.step);
        let dev =
            report.dev_error.map_or(String::new(), |e| format!(", dev {}", table::percent(e)));
        self.bar.set_message(format!(
            "{} left, {:.0} {}/s, loss {:.4}, error: train {}{dev}, waiting for data {:.0} %",
            table::duration(report.seconds_left),
            report.images_per_s,
            self.things,
            report.loss,
            table::percent(report.train_error),
            report.data_wait_share * 100.0,
        ));
    }

    fn record(&mut self, record: &MetricsRecord) {
        let is_due = self.bar.is_hidden() && self.last_line.elapsed() > LINE;
        if record.dev_error.is_none() && !is_due && record.step != self.total_steps {
            return;
        }
        self.last_line = Instant::now();
        let dev = match record.dev_error {
            Some(error) => format!("{:>8}", table::percent(error)),
            None => format!("{:>8}", "-"),
        };
        let left = self.last_step.map_or(0.0, |step| step.seconds_left);
        self.say(&format!(
            "epoch {:>5.1}  step {:>7}  loss {:.4}  error: train {:>8}  dev {dev}  lr {:.2e}  \
             {:>6.0} {}/s  waiting for data {:>2.0} %  {} left",
            record.epoch,
            table::grouped(record.step),
            record.loss,
            table::percent(record.train_error),
            record.lr,
            record.images_per_s,
            self.things,
            record.data_wait_share * 100.0,
            table::duration(left),
        ));
    }
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
