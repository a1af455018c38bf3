use std::fs;
use std::path::Path;

use residua_train::plot::{ErrorCurve, error_chart};
use residua_train::{Recipe, SplitSummary, Summary, read_metrics};

use crate::section::percent;
use crate::{
    Chart, RECORD_FILE, Record, Section, StudyError, Table, duration, grouped, shell_line,
};

/// What a folder holds, as a person reads it: the record of a study, or a finished run of training.
///
/// # Errors
/// A folder with neither, or files that can't be read.
pub fn section_of_folder(folder: &Path) -> Result<Section, StudyError> {
    if folder.join(RECORD_FILE).exists() {
        return Ok(Record::load(folder)?.section());
    }
    if folder.join("summary.json").exists() {
        return training_section(folder);
    }
    Err(StudyError::Unsuitable {
        subject: folder.display().to_string(),
        got: "neither a study nor a finished run is there".to_owned(),
        expected: format!("a folder with {RECORD_FILE} or summary.json"),
    })
}

fn training_section(folder: &Path) -> Result<Section, StudyError> {
    let path = folder.join("summary.json");
    let bytes =
        fs::read(&path).map_err(|source| StudyError::Read { path: path.clone(), source })?;
    let summary: Summary =
        serde_json::from_slice(&bytes).map_err(|source| StudyError::Record { path, source })?;
    let recipe = Recipe::load(folder.join("config.toml"))?;
    let curve =
        ErrorCurve::new(&summary.architecture, &read_metrics(&folder.join("metrics.jsonl"))?);
    let name = format!("{} on {}", summary.architecture, summary.dataset);
    Ok(Section {
        title: format!("Training of {name}, {} steps", grouped(summary.steps)),
        question: "How well does the network do, on what it was trained on and on what it was not?".to_owned(),
        setting: setting(&summary, &recipe),
        charts: vec![Chart {
            name: "curves".to_owned(),
            caption: "Error over the steps of training: of the batches as they were fed in thin and dashed, \
                      of the dev set bold."
                .to_owned(),
            lines: error_chart(&name, &[curve]),
        }],
        tables: vec![errors(&summary)],
        findings: Vec::new(),
        commands: command(folder, &recipe).into_iter().collect(),
    })
}

/// What repeats a run beside it; not one that went on from weights, of which a recipe has the digest alone.
fn command(folder: &Path, recipe: &Recipe) -> Option<String> {
    let config = folder.join("config.toml").display().to_string();
    let out = format!("{}-again", folder.display());
    let words = ["residua", "train", &recipe.data, "--config", &config, "--out", &out];
    recipe.start_sha256.is_none().then(|| shell_line(words))
}

fn errors(summary: &Summary) -> Table {
    let mut table = Table::new("Errors at the end", ["", ">samples", ">error", ">loss"]);
    let splits = [("train", Some(summary.train)), ("dev", summary.dev), ("test", summary.test)];
    for (name, split) in splits {
        if let Some(SplitSummary { num_samples, top1_error, mean_loss }) = split {
            let loss = format!("{mean_loss:.4}");
            table.row([name.to_owned(), grouped(num_samples), percent(top1_error), loss]);
        }
    }
    table
}

fn setting(summary: &Summary, recipe: &Recipe) -> Vec<(String, String)> {
    let setting = [
        ("data", format!("{} (SHA-256 {})", summary.dataset, summary.dataset_fingerprint)),
        ("parameters", grouped(summary.num_parameters)),
        ("learning rate", recipe.lr.to_string()),
        ("weight decay", recipe.weight_decay.to_string()),
        (
            "length",
            format!(
                "{} steps of {}, {:.1} epochs",
                grouped(summary.steps),
                recipe.batch_size,
                summary.epochs
            ),
        ),
        ("seed", summary.seed.to_string()),
        ("precision", format!("{} on {}", summary.precision, summary.isa)),
        ("time", format!("{} on {} threads", duration(summary.seconds), summary.num_threads)),
        ("weights", format!("SHA-256 {}", summary.weights_sha256)),
    ];
    let start = recipe
        .start_sha256
        .as_ref()
        .map(|sha256| ("went on from", format!("weights, SHA-256 {sha256}")));
    let setting = setting.into_iter().chain(start);
    setting.map(|(name, value)| (name.to_owned(), value)).collect()
}
