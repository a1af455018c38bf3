use residua_resnet::Family;
use residua_train::plot::{Line, LineChart, LineStyle};

use super::{IdentityTask, LayerKind, TaskResult};
use crate::section::{figures, mean, spread};
use crate::{Chart, Section, Table};

/// The relative error of the best output that is the same for all inputs: of absolute values of normal
/// numbers the mean is `sqrt(2/π)`, the mean square 1.
const CONSTANT_ERROR: f64 = 1.0 - std::f64::consts::FRAC_2_PI;
/// From this share of [`CONSTANT_ERROR`] on a stack is said to have learned no more than a constant.
const NO_BETTER: f64 = 0.95;

fn word(family: Family) -> &'static str {
    match family {
        Family::Plain => "plain",
        Family::Residual | Family::Preact => "residual",
    }
}

/// Where errors of 0 are drawn, which have no logarithm.
const DRAWN_FOR_ZERO: f64 = 1e-16;

fn drawn(error: f64) -> f64 {
    if error == 0.0 { DRAWN_FOR_ZERO } else { error }
}

impl TaskResult {
    /// The mean over seeds; none if all diverged.
    fn mean_error(&self) -> Option<f64> {
        let errors = self.errors();
        (!errors.is_empty()).then(|| mean(&errors))
    }

    fn error_text(&self) -> String {
        let num_diverged = self.curves.len() - self.errors().len();
        match num_diverged {
            0 => spread(&self.errors()),
            _ if num_diverged == self.curves.len() => "diverged".to_owned(),
            _ => format!("{}, {num_diverged} diverged", spread(&self.errors())),
        }
    }
}

impl IdentityTask {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let grid = self.results.first().map(|result| {
            result.grid.iter().map(|point| point.lr.to_string()).collect::<Vec<_>>().join(", ")
        });
        let batches = self.kinds().into_iter().map(|kind| match kind {
            LayerKind::Dense => format!("{} vectors of {}", kind.batch_size(), self.width),
            LayerKind::Conv => format!("{} images of {}x8x8", kind.batch_size(), self.width),
        });
        let setting = [
            ("task", "put out the input: absolute values of normal numbers".to_owned()),
            ("plain", "layers relu(W·x + b)".to_owned()),
            ("residual", "blocks relu(x + W₂·relu(W₁·x + b₁) + b₂)".to_owned()),
            ("steps", format!("{}, each on new inputs", self.steps)),
            ("batch", batches.collect::<Vec<_>>().join("; ")),
            ("optimiser", "SGD, momentum 0.9, mean squared error".to_owned()),
            (
                "lr",
                format!(
                    "of {}, that with the lowest final error on the first seed, for each family and \
                     depth",
                    grid.unwrap_or_default()
                ),
            ),
            ("seeds", self.num_seeds.to_string()),
        ];
        Section {
            title: "Learning the identity".to_owned(),
            question: "Can stacks of layers learn to put out their input, and does depth make it \
                       harder?"
                .to_owned(),
            setting: setting.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            charts: self.charts(),
            tables: vec![self.table()],
            findings: self.findings(),
            commands: Vec::new(),
        }
    }

    /// In the order in which they were named.
    fn kinds(&self) -> Vec<LayerKind> {
        let mut kinds: Vec<LayerKind> = self.results.iter().map(|result| result.kind).collect();
        kinds.dedup();
        kinds
    }

    fn of(&self, kind: LayerKind, family: Family) -> Vec<&TaskResult> {
        let is_asked = |result: &&TaskResult| result.kind == kind && result.family == family;
        self.results.iter().filter(is_asked).collect()
    }

    fn table(&self) -> Table {
        let caption = format!(
            "Final relative error ‖output − input‖²/‖input‖² on inputs that are not trained on; {} is \
             that of the best constant",
            figures(CONSTANT_ERROR)
        );
        let mut table = Table::new(caption, ["Layers", "Family", ">depth", ">lr", ">error"]);
        for result in &self.results {
            table.row([
                result.kind.to_string(),
                word(result.family).to_owned(),
                result.depth.to_string(),
                result.lr.to_string(),
                result.error_text(),
            ]);
        }
        table
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for kind in self.kinds() {
            for family in [Family::Plain, Family::Residual] {
                findings.extend(family_finding(kind, family, &self.of(kind, family)));
            }
            let deepest = |family| self.of(kind, family).into_iter().max_by_key(|it| it.depth);
            let deepest = (deepest(Family::Plain), deepest(Family::Residual));
            let (Some(plain), Some(residual)) = deepest else { continue };
            if let (Some(of_plain), Some(of_residual)) = (plain.mean_error(), residual.mean_error())
            {
                let beside = match of_residual {
                    0.0 => format!("{}, the residual one's is exactly 0", figures(of_plain)),
                    _ => format!("{} times the residual one's", figures(of_plain / of_residual)),
                };
                findings.push(format!(
                    "{kind}, {} layers: the plain stack's error is {beside}.",
                    plain.depth
                ));
            }
        }
        let at_end = self.results.iter().filter(|result| result.is_at_end_of_grid());
        let at_end: Vec<String> = at_end
            .map(|it| format!("{} {} {} ({})", it.kind, word(it.family), it.depth, it.lr))
            .collect();
        if !at_end.is_empty() {
            findings.push(format!(
                "The best learning rate is the grid's first or last, so that one beyond may be better, \
                 for: {}.",
                at_end.join(", ")
            ));
        }
        findings
    }

    fn charts(&self) -> Vec<Chart> {
        let mut charts = Vec::new();
        let errors = self.results.iter().flat_map(|result| result.curves.iter().flatten());
        let has_zeros = { errors }.any(|point| point.error == Some(0.0));
        let zeros = match has_zeros {
            true => format!(" Errors of exactly 0 are drawn at {DRAWN_FOR_ZERO:e}."),
            false => String::new(),
        };
        for kind in self.kinds() {
            charts.push(Chart {
                name: format!("identity-task-{kind}-depth"),
                caption: format!(
                    "Final relative error over depth, {kind} layers, mean over seeds; dashed: the best \
                     constant.{zeros}"
                ),
                lines: self.depth_chart(kind),
            });
            charts.push(Chart {
                name: format!("identity-task-{kind}-steps"),
                caption: format!(
                    "Relative error in the course of training, {kind} layers, first seed; dashed: \
                     plain, bold: residual.{zeros}"
                ),
                lines: self.steps_chart(kind),
            });
        }
        charts
    }

    fn depth_chart(&self, kind: LayerKind) -> LineChart {
        let families = [Family::Plain, Family::Residual].into_iter().enumerate();
        let mut lines: Vec<Line> = families
            .map(|(color, family)| {
                let point = |it: &&TaskResult| Some((it.depth as f64, drawn(it.mean_error()?)));
                let points = self.of(kind, family).iter().filter_map(point).collect();
                Line::new(word(family), color, points).style(LineStyle::Marked)
            })
            .collect();
        let depths = || self.results.iter().map(|result| result.depth as f64);
        let ends = [depths().fold(f64::MAX, f64::min), depths().fold(0.0, f64::max)];
        let constant = ends.map(|depth| (depth, CONSTANT_ERROR)).to_vec();
        lines.push(Line::new("constant", 6, constant).style(LineStyle::Dashed));
        LineChart {
            lines,
            log_x: true,
            log_y: true,
            ..LineChart::new(format!("Learning the identity, {kind}"), "layers", "relative error")
        }
    }

    fn steps_chart(&self, kind: LayerKind) -> LineChart {
        let styles = [(Family::Plain, LineStyle::Dashed), (Family::Residual, LineStyle::Bold)];
        let lines = styles.into_iter().flat_map(|(family, style)| {
            let results = self.of(kind, family).into_iter().enumerate();
            results.map(move |(color, result)| {
                let curve = result.curves.first().into_iter().flatten();
                let points =
                    curve.filter_map(|it| Some((it.step as f64, drawn(it.error?)))).collect();
                let name = format!("{} {}", word(family), result.depth);
                Line::new(name, color, points).style(style)
            })
        });
        LineChart {
            lines: lines.collect(),
            log_y: true,
            ..LineChart::new(format!("Learning the identity, {kind}"), "step", "relative error")
        }
    }
}

/// How the error of a family changes over depth.
fn family_finding(kind: LayerKind, family: Family, results: &[&TaskResult]) -> Option<String> {
    let at = |result: &TaskResult| {
        format!("{} with {} layers (lr {})", result.error_text(), result.depth, result.lr)
    };
    let (first, last) = (results.first()?, results.last()?);
    let mut text = format!("{kind}, {}: relative error {}", word(family), at(first));
    if last.depth != first.depth {
        text += &format!(", {}", at(last));
    }
    let learned_nothing = |result: &&&TaskResult| {
        result.mean_error().is_none_or(|error| error >= NO_BETTER * CONSTANT_ERROR)
    };
    let depths: Vec<String> =
        results.iter().filter(learned_nothing).map(|result| result.depth.to_string()).collect();
    if !depths.is_empty() {
        text += &format!(
            "; with {} layers no better than a constant ({} of whose error is the bound)",
            depths.join(", "),
            NO_BETTER
        );
    }
    Some(text + ".")
}
