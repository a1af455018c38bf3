use residua_train::plot::{Line, LineChart, LineStyle};

use super::{Identity, MeasuredOn, Response};
use crate::section::{mean, percent, percent_spread};
use crate::{Chart, Section, Table};

impl Identity {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let mut setting = vec![("network".to_owned(), self.model.clone())];
        if let Some(MeasuredOn { dataset, split, num_samples }) = &self.data {
            setting.push(("data".to_owned(), format!("{dataset}, {split} set")));
            setting.push(("samples".to_owned(), format!("the first {num_samples}")));
            setting.push(("computed".to_owned(), "in f32, with running statistics".to_owned()));
        }
        let mut tables = Vec::new();
        if self.data.is_some() {
            tables.extend([self.measures_table(), self.responses_table()]);
        }
        tables.push(self.norms_table());
        Section {
            title: format!("Identity measures of {}", self.model),
            question: "How near is each block to passing its input on?".to_owned(),
            setting,
            charts: if self.data.is_some() { self.charts() } else { Vec::new() },
            tables,
            findings: self.findings(),
            commands: Vec::new(),
        }
    }

    fn measures_table(&self) -> Table {
        let caption = "Blocks, means over samples: F(x) is what the branch puts out, x what is added to \
                       it (in plain networks the block's input); changed are outputs that differ from \
                       the input by more than 0.001 of its root mean square; cosine is that of input \
                       and output";
        let mut table = Table::new(caption, ["Block", ">‖F(x)‖/‖x‖", ">changed", ">cosine"]);
        for block in &self.blocks {
            table.row([
                block.block.clone(),
                shown(block.ratio),
                block.share_changed.map_or("-".to_owned(), |share| percent(100.0 * share)),
                shown(block.cosine),
            ]);
        }
        table
    }

    fn responses_table(&self) -> Table {
        let caption = "Standard deviation of what each layer puts out, after its batch norm, before \
                       ReLU and addition";
        let mut table = Table::new(caption, ["Layer", ">std"]);
        for Response { layer, std } in &self.responses {
            table.row([layer.clone(), format!("{std:.3}")]);
        }
        table
    }

    /// A row for each block, a column for each tensor that any of them has.
    fn norms_table(&self) -> Table {
        let mut names: Vec<&str> = Vec::new();
        for norm in self.blocks.iter().flat_map(|block| &block.norms) {
            if !names.contains(&norm.tensor.as_str()) {
                names.push(&norm.tensor);
            }
        }
        let header: Vec<String> = names.iter().map(|name| format!(">{name}")).collect();
        let header = ["Block"].into_iter().chain(header.iter().map(String::as_str));
        let mut table = Table::new("Euclidean norms of the weights and biases of branches", header);
        for block in &self.blocks {
            let cell = |name: &&str| {
                let norm = block.norms.iter().find(|norm| norm.tensor == **name);
                norm.map_or("-".to_owned(), |norm| format!("{:.3}", norm.norm))
            };
            table.row([block.block.clone()].into_iter().chain(names.iter().map(cell)));
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let ratios = self.blocks.iter().map(|block| (block.block.as_str(), block.ratio));
        let stds = self.responses.iter().map(|of| (of.layer.as_str(), Some(of.std)));
        vec![
            Chart {
                name: "identity-ratio".to_owned(),
                caption:
                    "How large what a block adds is beside what it adds it to; 0 is the identity."
                        .to_owned(),
                lines: chart(&self.model, ("block", "‖F(x)‖ / ‖x‖"), ratios),
            },
            Chart {
                name: "response-std".to_owned(),
                caption:
                    "Standard deviation of what each layer puts out, after batch norm, before ReLU \
                          and addition (figure 7 of He et al. 2015)."
                        .to_owned(),
                lines: chart(&self.model, ("layer", "standard deviation"), stds),
            },
        ]
    }

    fn findings(&self) -> Vec<String> {
        let measured = self.blocks.iter().filter_map(|block| Some((block, block.ratio?)));
        let mut ratios: Vec<(&str, f64)> =
            measured.map(|(block, ratio)| (block.block.as_str(), ratio)).collect();
        ratios.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut findings = Vec::new();
        if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
            let named = |(block, ratio): &(&str, f64)| format!("{block} ({ratio:.3})");
            let nearest: Vec<String> = ratios.iter().take(3).map(named).collect();
            findings
                .push(format!("Nearest to the identity by ‖F(x)‖/‖x‖: {}.", nearest.join(", ")));
            let values: Vec<f64> = ratios.iter().map(|(_, ratio)| *ratio).collect();
            findings.push(format!(
                "Over {} blocks ‖F(x)‖/‖x‖ is {:.3} in the mean, from {} to {}.",
                values.len(),
                mean(&values),
                named(least),
                named(most),
            ));
        }
        let changed = self.blocks.iter().filter_map(|block| block.share_changed);
        let changed: Vec<f64> = changed.map(|share| 100.0 * share).collect();
        if !changed.is_empty() {
            findings.push(format!(
                "Blocks that keep the shape ({}) change {} of their inputs.",
                changed.len(),
                percent_spread(&changed),
            ));
        }
        if !self.responses.is_empty() {
            let stds: Vec<f64> = self.responses.iter().map(|response| response.std).collect();
            findings.push(format!(
                "The layers' responses have a standard deviation of {:.3} in the mean.",
                mean(&stds)
            ));
        }
        findings
    }
}

/// Three decimals of a measure.
fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

/// Values over named places, which get numbers where they are many.
fn chart<'a>(
    title: &str,
    (x_label, y_label): (&str, &str),
    values: impl Iterator<Item = (&'a str, Option<f64>)>,
) -> LineChart {
    const MOST_NAMES: usize = 40;
    let (names, values): (Vec<&str>, Vec<Option<f64>>) = values.unzip();
    let point = |(i, value): (usize, &Option<f64>)| Some(((i + 1) as f64, (*value)?));
    let points = values.iter().enumerate().filter_map(point).collect();
    let x_names = match names.len() {
        0..=MOST_NAMES => names.into_iter().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let line = Line::new("", 0, points).style(LineStyle::Marked);
    LineChart { lines: vec![line], x_names, ..LineChart::new(title, x_label, y_label) }
}
