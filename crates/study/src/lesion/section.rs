use residua_resnet::BlockIndex;
use residua_train::plot::{Line, LineChart, LineStyle};

use super::{Deleted, Left, Lesion, LesionedNetwork, RandomDeletion, Swapped};
use crate::section::{mean, median, percent, points, standard_deviation};
use crate::{Chart, Score, Section, Table, grouped};

const ERROR: &str = "top-1 error (%)";

/// What random sets and swaps are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Block,
    Layer,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Layer => "layer",
        }
    }

    fn random(self, network: &LesionedNetwork) -> &[RandomDeletion] {
        match self {
            Self::Block => &network.random,
            Self::Layer => &network.random_layers,
        }
    }

    fn swaps(self, network: &LesionedNetwork) -> &[Swapped] {
        match self {
            Self::Block => &network.swaps,
            Self::Layer => &network.layer_swaps,
        }
    }

    /// What a plot of it is called.
    fn chart_name(self, of_blocks: &str) -> String {
        match self {
            Self::Block => of_blocks.to_owned(),
            Self::Layer => format!("{of_blocks}-layers"),
        }
    }
}

impl Lesion {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let is_any = |len: fn(&LesionedNetwork) -> usize| self.networks.iter().any(|n| len(n) > 0);
        let (mut charts, mut tables) = (vec![self.block_chart()], Vec::new());
        tables.extend(self.networks.iter().map(block_table));
        if is_any(|network| network.layers.len()) {
            charts.push(self.layer_chart());
            tables.extend(self.networks.iter().filter_map(layer_table));
        }
        for part in [Part::Block, Part::Layer] {
            if self.networks.iter().any(|network| !part.random(network).is_empty()) {
                charts.push(self.random_chart(part));
                tables.push(self.random_table(part));
            }
            if self.networks.iter().any(|network| !part.swaps(network).is_empty()) {
                charts.push(self.swap_chart(part));
                tables.extend(self.networks.iter().filter_map(|n| swap_table(n, part)));
            }
        }
        Section {
            title: format!("Deleted blocks: {}", self.names().join(", ")),
            question:
                "How much does a trained network depend on each of its blocks? (Veit et al. 2016, \
                       arXiv 1605.06431)"
                    .to_owned(),
            setting: self.setting(),
            charts,
            tables,
            findings: self.findings(),
            commands: Vec::new(),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.networks.iter().map(|network| network.name.as_str()).collect()
    }

    fn setting(&self) -> Vec<(String, String)> {
        let data = format!(
            "{}, {} set, {} samples",
            self.dataset,
            self.split,
            grouped(self.num_samples as u64)
        );
        let chance = format!("{} error", percent(self.chance_error()));
        let mut setting = vec![
            ("data".to_owned(), data),
            ("precision".to_owned(), self.precision.clone()),
            ("guessing".to_owned(), chance),
        ];
        if self.networks.iter().any(|network| !network.random.is_empty()) {
            setting.push(("seed of the random sets".to_owned(), self.seed.to_string()));
        }
        for network in &self.networks {
            let sha256 = format!("{}, weights {}", network.architecture, network.weights_sha256);
            setting.push((network.name.clone(), sha256));
        }
        setting
    }

    /// That of a class picked at random.
    fn chance_error(&self) -> f64 {
        100.0 * (1.0 - 1.0 / self.num_classes as f64)
    }

    fn block_chart(&self) -> Chart {
        Chart {
            name: "blocks".to_owned(),
            caption:
                "The error without one block; blocks without a mark can't be deleted. Dashed: of \
                      the intact network."
                    .to_owned(),
            lines: self.deletions("Error without a block", "deleted block", |n| &n.blocks),
        }
    }

    fn layer_chart(&self) -> Chart {
        Chart {
            name: "layers".to_owned(),
            caption:
                "The error with one layer replaced by the identity. Dashed: of the intact network."
                    .to_owned(),
            lines: self.deletions("Error without a layer", "deleted layer", |n| &n.layers),
        }
    }

    fn deletions(
        &self,
        title: &str,
        x_label: &str,
        of: fn(&LesionedNetwork) -> &[Deleted],
    ) -> LineChart {
        let parts = |network| of(network).iter().map(|part| (part.name.clone(), part.score));
        let parts: Vec<Vec<_>> = self.networks.iter().map(|n| parts(n).collect()).collect();
        self.chart_over_names(title, x_label, &parts)
    }

    fn swap_chart(&self, part: Part) -> Chart {
        let parts = |network| {
            let swaps = part.swaps(network).iter();
            swaps.map(|swap| (swap.parts[0].clone(), swap.score)).collect()
        };
        let parts: Vec<Vec<_>> = self.networks.iter().map(parts).collect();
        let (word, title) = (part.word(), "Error with two neighbours swapped");
        let caption = format!(
            "The error with a {word} and the next one swapped. Dashed: of the intact network."
        );
        let lines = self.chart_over_names(title, &format!("{word} swapped with the next"), &parts);
        Chart { name: part.chart_name("swaps"), caption, lines }
    }

    /// A line for each network that has parts, and the dashed one of the intact network.
    fn chart_over_names(
        &self,
        title: &str,
        x_label: &str,
        parts: &[Vec<(String, Score)>],
    ) -> LineChart {
        let mut x_names: Vec<String> =
            parts.iter().flatten().map(|(name, _)| name.clone()).collect();
        x_names.sort_by_cached_key(|name| place(name));
        x_names.dedup();
        let x = |name: &str| x_names.iter().position(|x| x == name).map_or(0.0, |i| (i + 1) as f64);
        let mut lines = Vec::new();
        for (color, (network, parts)) in self.networks.iter().zip(parts).enumerate() {
            if parts.is_empty() {
                continue;
            }
            let points = parts.iter().map(|(name, score)| (x(name), score.top1_error)).collect();
            lines.push(Line::new(&network.name, color, points).style(LineStyle::Marked));
            lines.push(intact(network, color, [1.0, x_names.len() as f64]));
        }
        LineChart { lines, x_names, ..LineChart::new(title, x_label, ERROR) }
    }

    fn random_chart(&self, part: Part) -> Chart {
        let mut lines = Vec::new();
        for (color, network) in self.networks.iter().enumerate() {
            let sets = random_errors(part.random(network));
            let points: Vec<_> = sets.iter().map(|(k, all)| (*k as f64, mean(all))).collect();
            let Some(&(last, _)) = points.last() else { continue };
            let spread = sets.iter().map(|(_, errors)| standard_deviation(errors)).collect();
            let line = Line { spread, ..Line::new(&network.name, color, points) };
            lines.push(line.style(LineStyle::Marked));
            lines.push(intact(network, color, [0.0, last]));
        }
        let word = part.word();
        let title = format!("Error without random sets of {word}s");
        let chart = LineChart::new(title, format!("deleted {word}s"), ERROR);
        Chart {
            name: part.chart_name("random"),
            caption:
                "Mean and standard deviation of the error over random sets. Dashed: of the intact \
                      network."
                    .to_owned(),
            lines: LineChart { lines, ..chart },
        }
    }

    fn random_table(&self, part: Part) -> Table {
        let header = ["Network", ">deleted", ">sets", ">mean error", ">lowest", ">highest"];
        let caption = format!("Random sets of {}s deleted together", part.word());
        let mut table = Table::new(caption, header);
        for network in &self.networks {
            for (number, errors) in random_errors(part.random(network)) {
                let lowest = errors.iter().copied().fold(f64::INFINITY, f64::min);
                let highest = errors.iter().copied().fold(0.0, f64::max);
                table.row([
                    network.name.clone(),
                    number.to_string(),
                    errors.len().to_string(),
                    crate::section::percent_spread(&errors),
                    percent(lowest),
                    percent(highest),
                ]);
            }
        }
        table
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for network in &self.networks {
            let LesionedNetwork { intact, blocks, layers, .. } = network;
            let parts = |parts: &[Deleted]| -> Vec<_> {
                parts.iter().map(|part| (part.name.clone(), part.score)).collect()
            };
            let swaps = |part: Part| -> Vec<_> {
                let swaps = part.swaps(network).iter();
                swaps.map(|swap| (swap.parts.join(" and "), swap.score)).collect()
            };
            let all = [
                ("Without one of its blocks", parts(blocks)),
                ("Without one of its layers", parts(layers)),
                ("With two neighbouring blocks swapped", swaps(Part::Block)),
                ("With two neighbouring layers swapped", swaps(Part::Layer)),
            ];
            let all = all.iter().filter_map(|(what, parts)| change(what, *intact, parts));
            findings.extend(all.map(|text| format!("{}: {text}", network.name)));
            findings.extend(
                [Part::Block, Part::Layer]
                    .map(|part| random_finding(network, part))
                    .into_iter()
                    .flatten(),
            );
            findings.extend(left_out(network));
        }
        findings.extend(self.comparison());
        findings
    }

    /// Networks by what the loss of a block costs them, over the blocks that each of them can lose.
    fn comparison(&self) -> Option<String> {
        let has = |network: &LesionedNetwork, name: &str| {
            network.blocks.iter().any(|block| block.name == name)
        };
        let first = self.networks.first()?;
        let names = first.blocks.iter().map(|block| block.name.as_str());
        let common: Vec<&str> =
            names.filter(|name| self.networks.iter().all(|network| has(network, name))).collect();
        if self.networks.len() == 1 || common.is_empty() {
            return None;
        }
        let cost = |network: &LesionedNetwork| {
            let blocks = network.blocks.iter().filter(|block| common.contains(&&*block.name));
            let rises = blocks.map(|block| block.score.top1_error - network.intact.top1_error);
            median(&rises.collect::<Vec<_>>())
        };
        let mut costs: Vec<_> = self.networks.iter().map(|n| (cost(n), &n.name)).collect();
        costs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let costs = costs.iter().map(|(cost, name)| format!("{} for {name}", points(*cost)));
        Some(format!(
            "In the median over the {} blocks that each network can lose, the error changes by {}.",
            common.len(),
            costs.collect::<Vec<_>>().join(", "),
        ))
    }
}

/// The dashed line of an intact network.
fn intact(network: &LesionedNetwork, color: usize, [from, to]: [f64; 2]) -> Line {
    let error = network.intact.top1_error;
    Line::new("", color, vec![(from, error), (to, error)]).style(LineStyle::Dashed)
}

/// What names are sorted by: the block, then what is in it.
fn place(name: &str) -> (Option<BlockIndex>, String) {
    match name.parse::<BlockIndex>() {
        Ok(block) => (Some(block), String::new()),
        Err(_) => {
            let (block, rest) = name.rsplit_once('.').unwrap_or(("", name));
            (block.parse().ok(), rest.to_owned())
        }
    }
}

fn rise(network: &LesionedNetwork, score: Score) -> String {
    points(score.top1_error - network.intact.top1_error)
}

fn block_table(network: &LesionedNetwork) -> Table {
    let caption = format!("{}: one block deleted", network.name);
    let header = ["Block", "left of it", ">error", ">change", ">mean loss"];
    let mut table = Table::new(caption, header);
    let loss = |score: Score| format!("{:.4}", score.mean_loss);
    let intact = network.intact;
    table.row(["none", "", &percent(intact.top1_error), "", &loss(intact)]);
    for block in &network.blocks {
        let Deleted { name, left, score } = block;
        let left = match left {
            Left::Input => "its input",
            Left::ZeroPad => "zero-pad shortcut",
            Left::Projection => "projection shortcut",
        };
        let error = percent(score.top1_error);
        table.row([name, left, &error, &rise(network, *score), &loss(*score)]);
    }
    table
}

fn layer_table(network: &LesionedNetwork) -> Option<Table> {
    let caption = format!("{}: one layer replaced by the identity", network.name);
    let mut table = Table::new(caption, ["Layer", ">error", ">change", ">mean loss"]);
    for Deleted { name, score, .. } in &network.layers {
        let (error, loss) = (percent(score.top1_error), format!("{:.4}", score.mean_loss));
        table.row([name, &error, &rise(network, *score), &loss]);
    }
    (!table.rows.is_empty()).then_some(table)
}

fn swap_table(network: &LesionedNetwork, part: Part) -> Option<Table> {
    let caption = format!("{}: two neighbouring {}s swapped", network.name, part.word());
    let first = if part == Part::Block { "Block" } else { "Layer" };
    let mut table = Table::new(caption, [first, "and", ">error", ">change"]);
    for Swapped { parts: [a, b], score } in part.swaps(network) {
        table.row([a, b, &percent(score.top1_error), &rise(network, *score)]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// Errors for each size of a set, in rising order.
fn random_errors(sets: &[RandomDeletion]) -> Vec<(usize, Vec<f64>)> {
    let mut numbers: Vec<usize> = sets.iter().map(|set| set.parts.len()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let errors = |number: usize| {
        let sets = sets.iter().filter(|set| set.parts.len() == number);
        (number, sets.map(|set| set.score.top1_error).collect())
    };
    numbers.into_iter().map(errors).collect()
}

/// How the error changes with one part less or two swapped.
fn change(what: &str, intact: Score, parts: &[(String, Score)]) -> Option<String> {
    let error = |score: &Score| score.top1_error;
    let worst = parts.iter().max_by(|(_, a), (_, b)| error(a).total_cmp(&error(b)))?;
    let rises: Vec<f64> = parts.iter().map(|(_, score)| error(score) - error(&intact)).collect();
    let num_small = rises.iter().filter(|rise| rise.abs() < 1.0).count();
    Some(format!(
        "intact {}. {what} ({} tried) the error changes by {} in the median, by less than a point {} \
         times, and is highest, {}, for {}.",
        percent(error(&intact)),
        parts.len(),
        points(median(&rises)),
        num_small,
        percent(error(&worst.1)),
        worst.0,
    ))
}

fn random_finding(network: &LesionedNetwork, part: Part) -> Option<String> {
    let means: Vec<_> = random_errors(part.random(network))
        .into_iter()
        .map(|(number, errors)| (number, mean(&errors)))
        .collect();
    let rises = means.windows(2).all(|pair| pair[0].1 <= pair[1].1);
    let (&(first, first_mean), &(last, last_mean)) = (means.first()?, means.last()?);
    let how = if rises { "never falling" } else { "with falls" };
    (first < last).then(|| {
        format!(
            "{}: from {first} to {last} random {}s deleted, the mean error goes from {} to {}, {how} \
             in between.",
            network.name,
            part.word(),
            percent(first_mean),
            percent(last_mean),
        )
    })
}

/// What could not be deleted, by reason.
fn left_out(network: &LesionedNetwork) -> Vec<String> {
    let mut reasons: Vec<&str> = Vec::new();
    for left_out in &network.left_out {
        if !reasons.contains(&left_out.reason.as_str()) {
            reasons.push(&left_out.reason);
        }
    }
    let sentence = |reason: &&str| {
        let all = network.left_out.iter().filter(|left_out| left_out.reason == **reason);
        let names: Vec<&str> = all.map(|left_out| left_out.name.as_str()).collect();
        format!("{}: left out, for each, {reason}: {}.", network.name, names.join(", "))
    };
    reasons.iter().map(sentence).collect()
}
