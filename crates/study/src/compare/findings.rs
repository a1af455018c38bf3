use residua_resnet::{Block, Family};
use residua_train::plot::{ErrorCurve, Line, LineChart, LineStyle, error_chart};

use super::{Compare, CurvePoint, Network};
use crate::section::{SHOWN, mean, percent_spread, standard_deviation};
use crate::{Chart, Section, Table, grouped};

/// Networks that differ in nothing but their depth, shallow ones first.
struct Series<'a> {
    name: String,
    networks: Vec<&'a Network>,
}

impl Compare {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let series = self.series();
        let (title, question) = self.question();
        Section {
            title,
            question: question.to_owned(),
            setting: self.setting(),
            charts: self.charts(&series),
            tables: vec![self.table()],
            findings: self.findings(&series),
            commands: Vec::new(),
        }
    }

    /// The title and the question, by what differs.
    fn question(&self) -> (String, &'static str) {
        let differ = |differs: fn(&[Network]) -> bool| self.networks.windows(2).any(differs);
        let depth = self.networks.first().map_or(0, |network| network.depth);
        let of_depth = format!("networks of {depth} layers on {}", self.dataset);
        if differ(|pair| pair[0].depth != pair[1].depth) {
            let title = format!("Does depth hurt? Networks of growing depth on {}", self.dataset);
            let question = "Networks that can only gain by another layer, as it could be the identity: does \
                            their training error fall or rise when they get deeper, with and without \
                            shortcuts?";
            (title, question)
        } else if self.has_several_decays() {
            let question = "Weight decay draws the weights of a block's branch toward zero, and a residual \
                            block with small weights is the identity: how near to it do blocks come, and \
                            what does that cost or gain?";
            (format!("What weight decay does to blocks: {of_depth}"), question)
        } else if differ(|pair| pair[0].shortcut != pair[1].shortcut) {
            let question = "A shortcut without parameters passes its input on, a projection has to learn \
                            what to pass on: which of them comes to the lower error?";
            (format!("Which shortcut: {of_depth}"), question)
        } else {
            (format!("Compared: {of_depth}"), "Which comes to the lower error?")
        }
    }

    fn setting(&self) -> Vec<(String, String)> {
        let seeds: Vec<u64> =
            self.networks.iter().flat_map(|n| n.runs.iter().map(|r| r.seed)).collect();
        let num_seeds = seeds.iter().collect::<std::collections::BTreeSet<_>>().len();
        let mut setting = vec![
            ("data", format!("{} (SHA-256 {})", self.dataset, self.dataset_fingerprint)),
            ("learning rate", self.lr.to_string()),
            ("weight decay", self.weight_decays()),
            (
                "length",
                format!(
                    "{} steps of {}, {:.1} epochs",
                    grouped(self.steps),
                    self.batch_size,
                    self.epochs
                ),
            ),
            ("precision", self.precision.clone()),
            ("seeds", num_seeds.to_string()),
            (
                "the same for all",
                "initial weights where parameters are the same, batches and their order, settings"
                    .to_owned(),
            ),
        ];
        if self.num_missing > 0 {
            setting.push(("not finished", format!("{} runs", self.num_missing)));
        }
        setting.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// All there are, with commas between them.
    fn weight_decays(&self) -> String {
        let mut decays: Vec<f64> = self.networks.iter().map(|it| it.weight_decay).collect();
        decays.sort_by(f64::total_cmp);
        decays.dedup();
        decays.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
    }

    fn table(&self) -> Table {
        let caption = "Errors at the end, of the training set without augmentation first; mean ± standard \
                       deviation over seeds";
        let header = [
            "Network",
            ">layers",
            ">parameters",
            ">lr",
            ">seeds",
            ">train error",
            ">dev error",
            ">test error",
        ];
        let mut table = Table::new(caption, header);
        for network in self.networks.iter().filter(|network| !network.runs.is_empty()) {
            let diverged = network.runs.iter().filter(|run| run.errors.is_none()).count();
            let seeds = match diverged {
                0 => network.runs.len().to_string(),
                _ => format!("{} ({diverged} diverged)", network.runs.len()),
            };
            table.row([
                network.name.clone(),
                network.depth.to_string(),
                grouped(network.num_parameters),
                self.lr.to_string(),
                seeds,
                percent_spread(&network.train_errors()),
                percent_spread(&network.dev_errors()),
                percent_spread(&network.test_errors()),
            ]);
        }
        table
    }

    fn series(&self) -> Vec<Series<'_>> {
        let mut all: Vec<Series<'_>> = Vec::new();
        for network in self.networks.iter().filter(|network| !network.train_errors().is_empty()) {
            let name = self.series_name(network);
            match all.iter_mut().find(|series| series.name == name) {
                Some(series) => series.networks.push(network),
                None => all.push(Series { name, networks: vec![network] }),
            }
        }
        for series in &mut all {
            series.networks.sort_by_key(|network| network.depth);
        }
        all
    }

    /// What distinguishes a network beside its depth, as far as networks of this comparison differ in it.
    pub(super) fn series_name(&self, network: &Network) -> String {
        let mut name = match network.family {
            Family::Plain => "plain",
            Family::Residual => "residual",
            Family::Preact => "preact",
        }
        .to_owned();
        let differ = |differs: &dyn Fn(&Network) -> bool| self.networks.iter().any(differs);
        if network.family != Family::Plain
            && differ(&|n| n.family == network.family && n.shortcut != network.shortcut)
        {
            name += &format!(", {}", network.shortcut);
        }
        if network.block == Some(Block::Bottleneck) && differ(&|n| n.block != network.block) {
            name += ", bottleneck";
        }
        if differ(&|n| n.norm != network.norm) {
            name += if network.norm { ", batch norm" } else { ", no batch norm" };
        }
        if differ(&|n| n.weight_decay != network.weight_decay) {
            name += &format!(", decay {}", network.weight_decay);
        }
        name
    }

    fn charts(&self, series: &[Series<'_>]) -> Vec<Chart> {
        let mut depths: Vec<usize> =
            series.iter().flat_map(|series| series.networks.iter().map(|it| it.depth)).collect();
        depths.dedup();
        let mut charts = match depths[..] {
            [] => Vec::new(),
            [depth] => vec![curves_of_one_depth(series, depth)],
            _ => self.charts_over_depth(series),
        };
        charts.extend(self.decay_charts());
        charts
    }

    fn charts_over_depth(&self, series: &[Series<'_>]) -> Vec<Chart> {
        let curves: Vec<Vec<ErrorCurve>> = series.iter().map(Series::curves).collect();
        // The same for all, as they are looked at side by side.
        let y_max = shown_up_to(&curves.concat());
        let charts = series.iter().zip(curves);
        let mut charts: Vec<Chart> =
            charts.map(|(series, curves)| series.curves_chart(curves, y_max)).collect();
        type Values = fn(&Network) -> Vec<f64>;
        let splits: [(&str, Values); 2] =
            [("train", Network::train_errors), ("test", Network::test_errors)];
        for (split, values) in splits {
            let lines = LineChart {
                lines: series.iter().enumerate().map(|(i, s)| s.line(i, values)).collect(),
                ..LineChart::new(
                    format!("Error on the {split} set over depth"),
                    "layers",
                    format!("{split} error at the end (%)"),
                )
            };
            if lines.lines.iter().any(|line| !line.points.is_empty()) {
                let caption = format!(
                    "Error on the {split} set at the end of training, over depth; bars are standard \
                     deviations over seeds."
                );
                charts.push(Chart { name: format!("depth-{split}"), caption, lines });
            }
        }
        charts
    }

    fn findings(&self, series: &[Series<'_>]) -> Vec<String> {
        let mut findings: Vec<String> = series.iter().flat_map(Series::steps).collect();
        for plain in series.iter().filter(|series| series.networks[0].family == Family::Plain) {
            let others = series.iter().filter(|other| plain.is_twin(other));
            findings.extend(others.flat_map(|other| sign_differences(plain, other)));
        }
        for (i, other) in series.iter().enumerate() {
            let same_decay =
                |of: &&Series<'_>| of.networks[0].weight_decay == other.networks[0].weight_decay;
            let first = series[..i].iter().find(same_decay);
            findings.extend(first.and_then(|first| at_greatest_depth(first, other)));
        }
        findings.extend(self.decay_findings());
        for network in &self.networks {
            let mut diverged = network.runs.iter().filter(|run| run.errors.is_none());
            if let Some(run) = diverged.next() {
                findings.push(format!(
                    "{} diverged (the loss was no number at step {}, seed {}, lr {}).",
                    network.name, run.steps, run.seed, run.lr
                ));
            }
        }
        findings
    }
}

/// By how much the training error changes from one network to another.
struct Step {
    /// 0 of what would be shown as 0.00.
    points: f64,
    /// Whether it is no more than twice its standard error; unknown with a single seed.
    within_spread: Option<bool>,
}

impl Step {
    fn between(from: &Network, to: &Network) -> Self {
        let [from, to] = [from.train_errors(), to.train_errors()];
        let points = match mean(&to) - mean(&from) {
            points if points.abs() < SHOWN => 0.0,
            points => points,
        };
        let variance = |values: &[f64]| standard_deviation(values).powi(2) / values.len() as f64;
        let enough = from.len() > 1 && to.len() > 1;
        let within_spread =
            enough.then(|| points.abs() <= 2.0 * (variance(&from) + variance(&to)).sqrt());
        Self { points, within_spread }
    }

    /// With the words for more and for less error.
    fn describe(&self, [more, less, same]: [&str; 3]) -> String {
        let direction = match self.points {
            points if points > 0.0 => more,
            points if points < 0.0 => less,
            _ => return same.to_owned(),
        };
        let spread = match self.within_spread {
            Some(true) => ", less than twice the standard error over seeds",
            Some(false) => ", more than twice the standard error over seeds",
            None => "",
        };
        format!("{direction} by {:.2} points{spread}", self.points.abs())
    }
}

/// Of an error over depth.
const COURSE: [&str; 3] = ["rose", "fell", "stayed the same"];

impl Series<'_> {
    fn line(&self, color: usize, values: fn(&Network) -> Vec<f64>) -> Line {
        let of_depth = |network: &&Network| (network.depth as f64, values(network));
        let all = self.networks.iter().map(of_depth).filter(|(_, values)| !values.is_empty());
        let (points, spread) =
            all.map(|(depth, v)| ((depth, mean(&v)), standard_deviation(&v))).unzip();
        Line { spread, ..Line::new(&self.name, color, points).style(LineStyle::Marked) }
    }

    /// Training and dev error over steps of each depth.
    fn curves(&self) -> Vec<ErrorCurve> {
        let curve =
            |network: &&Network| error_curve(format!("{} layers,", network.depth), &network.curve);
        self.networks.iter().map(curve).collect()
    }

    /// Its curves, a colour for each depth.
    fn curves_chart(&self, curves: Vec<ErrorCurve>, y_max: f64) -> Chart {
        let is_plain = |c: char| c.is_alphanumeric();
        let words = self.name.split(|c: char| !is_plain(c)).filter(|word| !word.is_empty());
        let name = format!("curves-{}", words.collect::<Vec<_>>().join("-"));
        curves_chart(name, format!("Training, {}", self.name), curves, y_max)
    }

    /// Whether these are the networks with shortcuts that are the same in all else.
    fn is_twin(&self, other: &Self) -> bool {
        let [plain, other] = [self.networks[0], other.networks[0]];
        other.family != Family::Plain
            && (plain.block, plain.norm, plain.weight_decay)
                == (other.block, other.norm, other.weight_decay)
    }

    fn of_depth(&self, depth: usize) -> Option<&Network> {
        self.networks.iter().find(|network| network.depth == depth).copied()
    }

    /// Whether the training error rose or fell, for each step of depth.
    fn steps(&self) -> Vec<String> {
        let pairs = self.networks.iter().zip(self.networks.iter().skip(1));
        let finding = |(from, to): (&&Network, &&Network)| {
            format!(
                "{}: from {} to {} layers the training error {} (lr {}).",
                self.name,
                from.depth,
                to.depth,
                Step::between(from, to).describe(COURSE),
                to.runs[0].lr,
            )
        };
        pairs.map(finding).collect()
    }
}

/// Training and dev error over steps, a colour for each of several networks of one depth.
fn curves_of_one_depth(series: &[Series<'_>], depth: usize) -> Chart {
    let curve = |one: &Series<'_>| error_curve(format!("{},", one.name), &one.networks[0].curve);
    let curves: Vec<ErrorCurve> = series.iter().map(curve).collect();
    let y_max = shown_up_to(&curves);
    curves_chart("curves".to_owned(), format!("Training, {depth} layers"), curves, y_max)
}

pub(crate) fn error_curve(name: String, points: &[CurvePoint]) -> ErrorCurve {
    ErrorCurve {
        name,
        train: points.iter().map(|point| (point.step, point.train_error)).collect(),
        dev: points.iter().filter_map(|p| Some((p.step, p.dev_error?))).collect(),
    }
}

/// The error up to which curves are shown so that their ends can be told apart: twice the highest of these.
pub(crate) fn shown_up_to(curves: &[ErrorCurve]) -> f64 {
    let ends = curves.iter().filter_map(|curve| curve.dev.last().or(curve.train.last()));
    let highest = ends.map(|&(_, error)| error).fold(0.0, f64::max);
    (2.0 * highest / 5.0).ceil().max(1.0) * 5.0
}

/// Training and dev errors, of which those above `y_max` are cut off, if there are some far above it.
pub(crate) fn curves_chart(
    name: String,
    title: String,
    curves: Vec<ErrorCurve>,
    y_max: f64,
) -> Chart {
    let lines = error_chart(&title, &curves);
    let mut caption =
        "Error over the steps of training: of the batches as they were fed in thin and dashed, of \
                       the dev set bold (in the manner of Figure 6 of He et al. 2015)."
            .to_owned();
    let points = lines.lines.iter().flat_map(|line| &line.points);
    let is_cut = points.fold(0.0, |highest, &(_, error)| error.max(highest)) >= 1.5 * y_max;
    if is_cut {
        caption += &format!(" Errors above {y_max} % are cut off.");
    }
    Chart { name, caption, lines: LineChart { y_max: is_cut.then_some(y_max), ..lines } }
}

/// Whether depth does the opposite to both, for each step of depth that both have and for all of them.
fn sign_differences(plain: &Series<'_>, other: &Series<'_>) -> Vec<String> {
    let depths = plain.networks.iter().map(|network| network.depth);
    let depths: Vec<usize> = depths.filter(|&depth| other.of_depth(depth).is_some()).collect();
    let mut steps: Vec<[usize; 2]> = depths.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    if let [least, _, .., greatest] = depths[..] {
        steps.push([least, greatest]);
    }
    steps.into_iter().filter_map(|depths| sign_difference(plain, other, depths)).collect()
}

fn sign_difference(plain: &Series<'_>, other: &Series<'_>, depths: [usize; 2]) -> Option<String> {
    let [least, greatest] = depths;
    let step = |series: &Series<'_>| {
        Some(Step::between(series.of_depth(least)?, series.of_depth(greatest)?))
    };
    let (of_plain, of_other) = (step(plain)?, step(other)?);
    let verdict = match of_plain.points * of_other.points {
        product if product < 0.0 => "The signs differ",
        product if product > 0.0 => "The signs are the same",
        _ if of_plain.points == of_other.points => "Neither has a sign",
        _ => "One of them has no sign",
    };
    Some(format!(
        "{verdict}: from {least} to {greatest} layers the training error of {} {}, that of {} {}.",
        plain.name,
        of_plain.describe(COURSE),
        other.name,
        of_other.describe(COURSE),
    ))
}

/// How far two are from each other at the greatest depth that both have.
fn at_greatest_depth(first: &Series<'_>, other: &Series<'_>) -> Option<String> {
    let in_both = |network: &&&Network| other.of_depth(network.depth).is_some();
    let depth = first.networks.iter().rev().find(in_both)?.depth;
    let step = Step::between(first.of_depth(depth)?, other.of_depth(depth)?);
    let words = ["is higher", "is lower", "is the same"];
    Some(format!(
        "At {depth} layers, beside {}, the training error of {} {}.",
        first.name,
        other.name,
        step.describe(words),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_curves_can_be_told_apart() {
        let curve = |errors: &[f64]| ErrorCurve {
            dev: (1..).zip(errors.iter().copied()).collect(),
            ..ErrorCurve::default()
        };
        let chart = |curves: &[ErrorCurve]| {
            let (name, title) = ("curves".to_owned(), "Curves".to_owned());
            curves_chart(name, title, curves.to_vec(), shown_up_to(curves))
        };
        let cut = chart(&[curve(&[90.0, 9.0]), curve(&[80.0, 13.1])]);
        assert_eq!(cut.lines.y_max, Some(30.0));
        assert!(cut.caption.ends_with("Errors above 30 % are cut off."), "{}", cut.caption);
        // One that learns nothing is seen whole.
        let whole = chart(&[curve(&[90.0, 9.0]), curve(&[90.0, 66.0])]);
        assert_eq!(whole.lines.y_max, None);
        assert!(!whole.caption.contains("cut off"));
        assert_eq!(chart(&[]).lines.y_max, None);
    }
}
