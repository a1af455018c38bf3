use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::Samples;
use crate::fingerprint::update_sample;
use crate::image_file::Encoding;
use crate::image_folder::{self, Checked};
use crate::source::{self, Source};
use crate::{DataError, Dataset, Issue, Kind, OnProgress, OpenOptions, Split};

/// What a source holds, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The dataset's name.
    pub name: String,
    /// How its samples are held.
    pub kind: Kind,
    /// Class names, in the order of the labels.
    pub classes: Vec<String>,
    /// `[channels, height, width]` as fed to the network.
    pub sample_shape: [usize; 3],
    /// Train, dev and test, in this order.
    pub splits: Vec<SplitReport>,
    /// Width of the images as stored, in pixels; none for vectors.
    pub image_width: Option<Spread>,
    /// Height of the images as stored, in pixels; none for vectors.
    pub image_height: Option<Spread>,
    /// Per channel over the training split; images count from 0 to 1. Of a folder of photographs,
    /// over up to 1,000 of them at the network's size.
    pub mean: Vec<f32>,
    /// As `mean`; 1 where the channel is constant.
    pub std: Vec<f32>,
    /// See [`Dataset::fingerprint`].
    pub fingerprint: String,
    /// Files in an image folder that are no images by their ending, and folders in it that are not
    /// looked into: links inside a class, and what lies beside `train`, `val` and `test`.
    pub ignored_files: usize,
    /// Everything worth telling, by issue.
    pub findings: Vec<Finding>,
}

/// The samples of one split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Which one.
    pub split: Split,
    /// How many samples can be used.
    pub samples: usize,
    /// How many of each class.
    pub class_counts: Vec<usize>,
}

/// Least, middle and greatest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: usize,
    /// The middle; the greater of the two in the middle of an even count.
    pub median: usize,
    /// The greatest.
    pub max: usize,
}

/// Something about one sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub issue: Issue,
    /// The sample's split.
    pub split: Split,
    /// The file, or the sample's number in its split.
    pub sample: String,
    /// More about it.
    pub detail: String,
}

/// Opens a source, looks at every sample, and tells what is wrong instead of stopping at it.
///
/// # Errors
/// If nothing is left to tell about: as [`open`](crate::open), except that unusable images are
/// reported as long as the training split has others.
///
/// ```
/// use residua_data::{OpenOptions, check};
///
/// let source = "synthetic:shapes?train=100&dev=10&test=10";
/// let report = check(source, &OpenOptions::default(), &|_| {})?;
/// assert!(!report.has_faults());
/// println!("{report}");
/// # Ok::<(), residua_data::DataError>(())
/// ```
pub fn check(
    source: &str,
    options: &OpenOptions,
    on_progress: OnProgress<'_>,
) -> Result<Report, DataError> {
    options.validate()?;
    match source::find(source)? {
        Source::InMemory(found) => {
            let dataset = source::in_memory(found, options)?;
            let digests = sample_digests(&dataset);
            let names = Names { dataset: &dataset, paths: None };
            let findings = duplicates(&digests, &names);
            let size = match &dataset.samples {
                Samples::Pixels { shape, .. } => Some([shape.width, shape.height]),
                _ => None,
            };
            let spread = |size: usize| Spread { min: size, median: size, max: size };
            let sizes = size.map(|size| size.map(spread));
            Ok(report(&dataset, sizes, 0, findings))
        }
        Source::ImageFolder(root) => {
            let options = OpenOptions { skip_bad: true, ..options.clone() };
            let opened = image_folder::open(&root, &options, true, on_progress)?;
            let dataset = &opened.dataset;
            let names = Names { dataset, paths: Some(&opened.paths) };
            let digests: Vec<_> =
                opened.checked.iter().map(|c| c.pixel_digest.unwrap_or(c.digest)).collect();
            let mut findings = duplicates(&digests, &names);
            findings.extend(encoding_findings(&opened.checked, &names));
            findings.extend(dataset.skipped().iter().map(|bad| Finding {
                issue: bad.issue,
                split: bad.split,
                sample: bad.path.display().to_string(),
                detail: bad.reason.clone(),
            }));
            let of = |side: fn(&Checked) -> usize| Spread::of(opened.checked.iter().map(side));
            let sizes = of(|c| c.width).zip(of(|c| c.height)).map(|(w, h)| [w, h]);
            Ok(report(dataset, sizes, opened.num_ignored, findings))
        }
    }
}

fn report(
    dataset: &Dataset,
    sizes: Option<[Spread; 2]>,
    ignored_files: usize,
    mut findings: Vec<Finding>,
) -> Report {
    findings.sort_by(|a, b| (a.issue, a.split, &a.sample).cmp(&(b.issue, b.split, &b.sample)));
    let splits = Split::ALL.map(|split| SplitReport {
        split,
        samples: dataset.len(split),
        class_counts: dataset.class_counts(split),
    });
    Report {
        name: dataset.name().to_owned(),
        kind: dataset.kind(),
        classes: dataset.classes().to_vec(),
        sample_shape: dataset.sample_shape(),
        splits: splits.into(),
        image_width: sizes.map(|[width, _]| width),
        image_height: sizes.map(|[_, height]| height),
        mean: dataset.preprocessing().mean.clone(),
        std: dataset.preprocessing().std.clone(),
        fingerprint: dataset.fingerprint().to_owned(),
        ignored_files,
        findings,
    }
}

/// What to call a sample.
struct Names<'a> {
    dataset: &'a Dataset,
    paths: Option<&'a [PathBuf]>,
}

impl Names<'_> {
    fn of(&self, split: Split, i: usize) -> String {
        match self.paths {
            Some(paths) => paths[self.dataset.indices(split)[i] as usize].display().to_string(),
            None => format!("{split} {i}"),
        }
    }
}

/// Of the content of each sample, in the order of the samples.
fn sample_digests(dataset: &Dataset) -> Vec<[u8; 32]> {
    (0..dataset.labels.len())
        .into_par_iter()
        .map(|i| {
            let mut hash = Sha256::new();
            update_sample(&mut hash, &dataset.samples, i);
            hash.finalize().into()
        })
        .collect()
}

/// A finding for each dev or test sample whose content is also in a split before it.
fn duplicates(digests: &[[u8; 32]], names: &Names<'_>) -> Vec<Finding> {
    let dataset = names.dataset;
    let mut first: HashMap<[u8; 32], (Split, usize)> = HashMap::new();
    let mut findings = Vec::new();
    for split in Split::ALL {
        for (i, &index) in dataset.indices(split).iter().enumerate() {
            let &mut (other_split, other) =
                first.entry(digests[index as usize]).or_insert((split, i));
            if other_split == split {
                continue;
            }
            let mut detail = format!("same as {}", names.of(other_split, other));
            if names.paths.is_some() {
                detail += &format!(" in {other_split}");
            }
            let classes = [dataset.label(split, i), dataset.label(other_split, other)]
                .map(|label| dataset.classes()[label as usize].as_str());
            if classes[0] != classes[1] {
                detail += &format!(", but of class {} instead of {}", classes[0], classes[1]);
            }
            findings.push(Finding {
                issue: Issue::DuplicateAcrossSplits,
                split,
                sample: names.of(split, i),
                detail,
            });
        }
    }
    findings
}

fn encoding_findings<'a>(
    checked: &'a [Checked],
    names: &'a Names<'a>,
) -> impl Iterator<Item = Finding> + 'a {
    let samples = Split::ALL.into_iter().flat_map(|split| {
        names.dataset.indices(split).iter().enumerate().map(move |(i, &index)| (split, i, index))
    });
    samples.flat_map(move |(split, i, index)| {
        let image = &checked[index as usize];
        encoding_issues(&image.encoding, image.width * image.height).into_iter().map(
            move |(issue, detail)| Finding { issue, split, sample: names.of(split, i), detail },
        )
    })
}

fn encoding_issues(encoding: &Encoding, num_pixels: usize) -> Vec<(Issue, String)> {
    let mut issues = Vec::new();
    let mut add = |is_so: bool, issue: Issue, detail: &str| {
        if is_so {
            issues.push((issue, detail.to_owned()));
        }
    };
    add(encoding.cmyk, Issue::Cmyk, "converted to RGB");
    add(encoding.sixteen_bit, Issue::SixteenBit, "rounded to 8 bits");
    add(encoding.greyscale, Issue::Greyscale, "repeated to three channels");
    if let Some(transparent) = encoding.transparent_pixels {
        let detail = match transparent {
            0 => "dropped; all pixels are opaque".to_owned(),
            _ => format!("dropped; {transparent} of {num_pixels} pixels are not opaque"),
        };
        add(true, Issue::Alpha, &detail);
    }
    issues
}

impl Spread {
    fn of(numbers: impl Iterator<Item = usize>) -> Option<Self> {
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_unstable();
        let (&min, &max) = (numbers.first()?, numbers.last()?);
        Some(Self { min, median: numbers[numbers.len() / 2], max })
    }
}

impl Report {
    /// Whether a finding is more than a conversion.
    pub fn has_faults(&self) -> bool {
        self.findings.iter().any(|finding| finding.issue.is_fault())
    }

    /// How often each issue was found.
    pub fn issue_counts(&self) -> Vec<(Issue, usize)> {
        let mut counts: Vec<(Issue, usize)> = Vec::new();
        for finding in &self.findings {
            match counts.last_mut() {
                Some((issue, count)) if *issue == finding.issue => *count += 1,
                _ => counts.push((finding.issue, 1)),
            }
        }
        counts
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "min {}, median {}, max {}", self.min, self.median, self.max)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}: {}", self.issue, self.split, self.sample, self.detail)
    }
}

/// Plain text, one line per fact; the caller may prefer a table of its own.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [channels, height, width] = self.sample_shape;
        writeln!(f, "name         {}", self.name)?;
        writeln!(f, "kind         {}", self.kind)?;
        writeln!(f, "classes      {}", self.classes.len())?;
        writeln!(f, "input        {channels}×{height}×{width}")?;
        for split in &self.splits {
            writeln!(f, "{:<12} {} samples", split.split, split.samples)?;
        }
        let widest = self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for (label, class) in self.classes.iter().enumerate() {
            write!(f, "  {class:<widest$}")?;
            for split in &self.splits {
                write!(f, "  {} {}", split.split, split.class_counts[label])?;
            }
            writeln!(f)?;
        }
        if let (Some(width), Some(height)) = (self.image_width, self.image_height) {
            writeln!(f, "image width  {width}")?;
            writeln!(f, "image height {height}")?;
        }
        writeln!(f, "mean         {}", numbers(&self.mean))?;
        writeln!(f, "std          {}", numbers(&self.std))?;
        writeln!(f, "fingerprint  {}", self.fingerprint)?;
        if self.ignored_files > 0 {
            writeln!(
                f,
                "ignored      {} files and folders that are no images",
                self.ignored_files
            )?;
        }
        if self.findings.is_empty() {
            return writeln!(f, "findings     none");
        }
        let counts = self.issue_counts();
        let counts: Vec<_> =
            counts.iter().map(|(issue, count)| format!("{count} {issue}")).collect();
        writeln!(f, "findings     {}", counts.join(", "))?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

fn numbers(values: &[f32]) -> String {
    let shown = values.iter().take(8).map(|value| format!("{value:.4}"));
    let mut shown: Vec<_> = shown.collect();
    if values.len() > shown.len() {
        shown.push(format!("… ({} in all)", values.len()));
    }
    shown.join(" ")
}
