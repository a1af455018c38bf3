use residua_train::plot::{Line, LineChart, LineStyle};

use super::{GradientStudy, GradientTraining, NUM_LAGS, NetworkGradients};
use crate::section::{figures, mean, spread, standard_deviation};
use crate::{Chart, Section, Table};

/// Gradients are said to vanish where their norm is below this share of that at the last block, and to
/// explode above its inverse.
const VANISHING: f64 = 1e-3;

impl NetworkGradients {
    /// The network, and the moment if it is measured at several.
    fn label(&self) -> String {
        match self.step {
            Some(step) => format!("{} at step {step}", self.network),
            None => self.network.clone(),
        }
    }

    /// The norm at the first block's input over that at the last one's; none where no gradient gets there.
    fn first_over_last(&self) -> Option<f64> {
        let norms = self.mean_norms();
        let (first, last) = (norms.first()?, norms.last()?);
        (*last > 0.0).then(|| first / last)
    }

    /// Over the seeds, for each block: the mean norm.
    fn mean_norms(&self) -> Vec<f64> {
        let over_runs = |i| mean(&self.runs.iter().map(|run| run.norms[i]).collect::<Vec<_>>());
        (0..self.blocks.len()).map(over_runs).collect()
    }

    /// Over the seeds: what is known of the correlation at a lag, from 1.
    fn at_lag(&self, lag: usize) -> Vec<f64> {
        self.runs.iter().filter_map(|run| *run.autocorrelation.get(lag - 1)?).collect()
    }

    fn finding(&self) -> String {
        let (name, norms) = (self.label(), self.mean_norms());
        let last = norms.last().copied().unwrap_or(0.0);
        if last == 0.0 {
            return format!("{name}: no gradient reaches its last block.");
        }
        let relative = || norms.iter().map(|norm| norm / last);
        let (least, most) = (relative().fold(f64::MAX, f64::min), relative().fold(0.0, f64::max));
        let bounds = format!("{VANISHING} and {} times that at the last block", 1.0 / VANISHING);
        let extent = match (least < VANISHING, most > 1.0 / VANISHING) {
            (true, _) => {
                format!("they vanish: down to {} of that at the last block", figures(least))
            }
            (_, true) => {
                format!("they explode: up to {} times that at the last block", figures(most))
            }
            _ => "they neither vanish nor explode".to_owned(),
        };
        format!(
            "{name}: over {} blocks the norms of the loss's gradient lie within a factor of {}; at the \
             first block it is {} times that at the last; {extent} (bounds: {bounds}).",
            norms.len(),
            figures(most / least),
            figures(norms[0] / last),
        )
    }
}

impl GradientStudy {
    /// What was found, as a person reads it.
    pub fn section(&self) -> Section {
        let num_seeds = self.networks.first().map_or(0, |network| network.runs.len());
        let named = |trained: bool| match self.named(trained) {
            names if names.is_empty() => "none".to_owned(),
            names => names.join(", "),
        };
        let mut setting = vec![
            ("as initialised", named(false)),
            ("trained", named(true)),
            ("data", format!("{}, train set", self.dataset)),
            ("loss", format!("mean cross-entropy over {} samples", self.batch_size)),
            (
                "line",
                format!("{} inputs from one sample to another, as one batch", self.num_points),
            ),
            (
                "seeds",
                format!(
                    "{num_seeds}, of samples and projections, and of the initial weights of networks as \
                     initialised"
                ),
            ),
            ("computed", "in f32, batch norms with the batch's statistics".to_owned()),
        ];
        if let Some(GradientTraining { steps, lr, batch_size, precision }) = &self.training {
            let precision = precision.as_ref().map_or(String::new(), |it| format!(", {it}"));
            let training = format!("{steps} steps of {batch_size}, lr {lr}, seed 0{precision}");
            setting.push(("training", training));
        }
        let mut findings: Vec<String> = self.ends().map(NetworkGradients::finding).collect();
        findings.extend([1, NUM_LAGS].map(|lag| self.correlation_finding(lag)));
        findings.extend(self.diverged());
        Section {
            title: "Gradients over depth and between neighbouring inputs".to_owned(),
            question: "Do gradients shrink on their way through the layers, and are those of \
                       neighbouring inputs alike?"
                .to_owned(),
            setting: setting.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            charts: self.charts(),
            tables: vec![self.norms_table(), self.correlation_table()],
            findings,
            commands: Vec::new(),
        }
    }

    fn named(&self, trained: bool) -> Vec<String> {
        let is_trained = |it: &NetworkGradients| it.trained && it.step != Some(0);
        let networks = self.networks.iter().filter(|network| is_trained(network) == trained);
        networks.map(NetworkGradients::label).collect()
    }

    /// The moments of one training, if they are any, or one network alone.
    fn trainings(&self) -> Vec<Vec<&NetworkGradients>> {
        let mut trainings: Vec<Vec<&NetworkGradients>> = Vec::new();
        for network in &self.networks {
            match trainings.last_mut() {
                Some(training)
                    if network.step > training[0].step
                        && network.network == training[0].network =>
                {
                    training.push(network);
                }
                _ => trainings.push(vec![network]),
            }
        }
        trainings
    }

    /// All, but of a training its first and its last moment alone.
    fn ends(&self) -> impl Iterator<Item = &NetworkGradients> {
        self.drawn().into_iter().map(|(_, _, network)| network)
    }

    /// The [`ends`](Self::ends) as they are drawn: a colour for each training, its first moment dashed.
    fn drawn(&self) -> Vec<(usize, LineStyle, &NetworkGradients)> {
        let mut drawn = Vec::new();
        for (color, training) in self.trainings().into_iter().enumerate() {
            let (first, last) = (training[0], training[training.len() - 1]);
            if training.len() > 1 {
                drawn.push((color, LineStyle::Dashed, first));
            }
            drawn.push((color, LineStyle::Marked, last));
        }
        drawn
    }

    /// Trainings that did not come to their end.
    fn diverged(&self) -> Vec<String> {
        let Some(&GradientTraining { steps, .. }) = self.training.as_ref() else {
            return Vec::new();
        };
        let last = |training: Vec<&NetworkGradients>| {
            let (network, step) = training.last().map(|it| (&it.network, it.step))?;
            step.filter(|&step| step < steps).map(|step| {
                format!("{network} diverged: its loss was no number at some step after {step}.")
            })
        };
        self.trainings().into_iter().filter_map(last).collect()
    }

    fn correlation_finding(&self, lag: usize) -> String {
        let of = |network: &NetworkGradients| match network.at_lag(lag)[..] {
            [] => format!("none in {}", network.label()),
            ref values => format!("{:.3} in {}", mean(values), network.label()),
        };
        let of: Vec<String> = self.ends().map(of).collect();
        format!("Correlation of gradients at lag {lag}: {}.", of.join(", "))
    }

    fn norms_table(&self) -> Table {
        let caption = "Norm of the loss's gradient at the input of each block, mean over seeds";
        let mut table = Table::new(caption, ["Network", "Block", ">norm", ">of the last"]);
        for network in self.ends() {
            let norms = network.mean_norms();
            for (block, norm) in network.blocks.iter().zip(&norms) {
                let relative = norms.last().filter(|&&last| last > 0.0).map(|last| norm / last);
                table.row([
                    network.label(),
                    block.clone(),
                    figures(*norm),
                    relative.map_or("-".to_owned(), figures),
                ]);
            }
        }
        table
    }

    fn correlation_table(&self) -> Table {
        const SHOWN: [usize; 5] = [1, 2, 4, 8, NUM_LAGS];
        let caption = "Mean correlation of gradients at inputs on a line, over how many places they are \
                       apart";
        let lags = SHOWN.map(|lag| format!(">lag {lag}"));
        let header = ["Network"].into_iter().chain(lags.iter().map(String::as_str));
        let mut table = Table::new(caption, header);
        for network in &self.networks {
            let cells = SHOWN.map(|lag| spread(&network.at_lag(lag)));
            table.row([network.label()].into_iter().chain(cells));
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let norms = self.drawn().into_iter().map(|(color, style, network)| {
            let norms = network.mean_norms();
            let points = norms.iter().enumerate().map(|(i, norm)| ((i + 1) as f64, *norm));
            Line::new(network.label(), color, points.collect()).style(style)
        });
        let correlations = self.drawn().into_iter().map(|(color, style, network)| {
            let known: Vec<(usize, Vec<f64>)> = (1..=NUM_LAGS)
                .map(|lag| (lag, network.at_lag(lag)))
                .filter(|(_, values)| !values.is_empty())
                .collect();
            let points = known.iter().map(|(lag, values)| (*lag as f64, mean(values))).collect();
            let spread = known.iter().map(|(_, values)| standard_deviation(values)).collect();
            Line { spread, ..Line::new(network.label(), color, points).style(style) }
        });
        let norm_chart = LineChart {
            lines: norms.collect(),
            log_y: true,
            ..LineChart::new("Gradient over depth", "block, from the input", "gradient norm")
        };
        let correlation_chart = LineChart {
            lines: correlations.collect(),
            ..LineChart::new("Gradients at neighbouring inputs", "lag", "correlation")
        };
        let dashed = if self.training.is_some() { " Dashed: before training." } else { "" };
        let mut charts = vec![
            Chart {
                name: "gradient-norm".to_owned(),
                caption: format!(
                    "Norm of the loss's gradient at the input of each block, mean over seeds.{dashed}"
                ),
                lines: norm_chart,
            },
            Chart {
                name: "gradient-autocorrelation".to_owned(),
                caption: format!(
                    "Correlation of gradients at inputs on the line between two samples, over their \
                     distance; bars are standard deviations over seeds.{dashed}"
                ),
                lines: correlation_chart,
            },
        ];
        charts.extend(self.training_charts());
        charts
    }

    /// How trainings go, where networks are measured on the way.
    fn training_charts(&self) -> Vec<Chart> {
        let mut trainings = self.trainings();
        trainings.retain(|training| training.len() > 1);
        if trainings.is_empty() {
            return Vec::new();
        }
        let lines = |measure: &dyn Fn(&NetworkGradients) -> Option<f64>| -> Vec<Line> {
            let line = |(color, training): (usize, &Vec<&NetworkGradients>)| {
                let point = |it: &&NetworkGradients| Some((it.step? as f64, measure(it)?));
                let points = training.iter().filter_map(point).collect();
                Line::new(&training[0].network, color, points).style(LineStyle::Marked)
            };
            trainings.iter().enumerate().map(line).collect()
        };
        let lag_1 = |it: &NetworkGradients| {
            let values = it.at_lag(1);
            (!values.is_empty()).then(|| mean(&values))
        };
        vec![
            Chart {
                name: "gradient-ratio-over-training".to_owned(),
                caption: "Norm of the loss's gradient at the first block over that at the last one, during \
                          training: 1 where gradients keep their size."
                    .to_owned(),
                lines: LineChart {
                    lines: lines(&NetworkGradients::first_over_last),
                    log_y: true,
                    ..LineChart::new("Gradients during training", "step", "first over last block")
                },
            },
            Chart {
                name: "autocorrelation-over-training".to_owned(),
                caption: "Correlation of gradients at inputs next to each other on the line between two \
                          samples, during training."
                    .to_owned(),
                lines: LineChart {
                    lines: lines(&lag_1),
                    ..LineChart::new(
                        "Gradients at neighbouring inputs during training",
                        "step",
                        "correlation at lag 1",
                    )
                },
            },
        ]
    }
}
