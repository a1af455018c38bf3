//! Architectures by name.
//!
//! ```text
//! [preact-|wide-|dense-] (resnet|plain) [DEPTH [-FACTOR]] [-wWIDTH] [-basic|-bottleneck]
//!                        [-zero-pad|-projection|-projection-all] [-no-norm]
//! ```

use std::fmt;

use residua_graph::Shape;

use crate::{
    Architecture, ArchitectureBuilder, ArchitectureError, Block, Family, Shortcut, StemKind,
    builder::MAX_NAME_LEN, suggest,
};

/// A name with a line about it, for help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedArchitecture {
    /// What [`Architecture::named`] takes.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
}

/// What a name leaves open, or is to be changed; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchitectureOptions {
    /// Layers with weights, the number in `resnet20`.
    pub depth: Option<usize>,
    /// Channels of the first stage, which the others multiply; hidden features of a fully
    /// connected network; the factor of a wide one.
    pub width: Option<usize>,
    /// What goes around the blocks; [`Shortcut::None`] makes a residual network plain.
    pub shortcut: Option<Shortcut>,
    /// With batch norms, or with biases instead.
    pub norm: Option<bool>,
}

macro_rules! named {
    ($($name:literal: $about:literal,)*) => {
        &[$(NamedArchitecture { name: $name, about: $about }),*]
    };
}

/// Those of the literature, and the start of each series.
pub(crate) const NAMES: &[NamedArchitecture] = named! {
    "resnet20": "small images, basic blocks; any depth 6n+2 (He et al. 2015)",
    "resnet32": "small images, basic blocks",
    "resnet44": "small images, basic blocks",
    "resnet56": "small images, basic blocks",
    "resnet110": "small images, basic blocks",
    "resnet1202": "small images, basic blocks",
    "resnet164": "small images, bottleneck blocks; any depth 9n+2 that is not 6n+2",
    "plain20": "resnet20 without shortcuts; so for each other name",
    "plain32": "resnet32 without shortcuts",
    "plain44": "resnet44 without shortcuts",
    "plain56": "resnet56 without shortcuts",
    "plain110": "resnet110 without shortcuts",
    "preact-resnet20": "small images, batch norm and ReLU first (He et al. 2016)",
    "preact-resnet56": "small images, pre-activation",
    "preact-resnet110": "small images, pre-activation",
    "preact-resnet164": "small images, pre-activation, bottleneck blocks",
    "preact-resnet1001": "small images, pre-activation, bottleneck blocks",
    "preact-plain20": "preact-resnet20 without shortcuts; so for each other depth",
    "wide-resnet16-4": "small images, pre-activation, 4 times as wide (Zagoruyko & Komodakis 2016)",
    "wide-resnet28-10": "small images, pre-activation, 10 times as wide; any depth 6n+4",
    "resnet18": "photographs, basic blocks (He et al. 2015, as torchvision has it)",
    "resnet34": "photographs, basic blocks",
    "resnet50": "photographs, bottleneck blocks",
    "resnet101": "photographs, bottleneck blocks",
    "resnet152": "photographs, bottleneck blocks",
    "plain18": "resnet18 without shortcuts",
    "plain34": "resnet34 without shortcuts",
    "dense-resnet": "vectors, fully connected; depth 20 and width 64 unless given",
    "dense-plain": "dense-resnet without shortcuts",
};

impl Architecture {
    /// The names of the literature and the start of each series, with a line about each.
    pub fn names() -> &'static [NamedArchitecture] {
        NAMES
    }

    /// The architecture of this name, for samples of this shape and this many classes.
    ///
    /// | name | depth | input | blocks | shortcuts |
    /// |---|---|---|---|---|
    /// | `resnet18` `34` | | photographs | basic | projection |
    /// | `resnet50` `101` `152` | | photographs | bottleneck | projection |
    /// | `resnet20` … `110` `1202` | 6n+2 | small images | basic | zero-pad |
    /// | `resnet164` … | 9n+2 | small images | bottleneck | projection |
    /// | `preact-resnet…` | as above | as above | as above | as above |
    /// | `wide-resnetD-K` | 6n+4 | small images | basic, pre-activation | projection |
    /// | `dense-resnetD` | 2n+2, 2 without a block | vectors | dense | zero-pad |
    ///
    /// Where a depth fits several rows, the photographs' network wins, then (for 164 only, which is
    /// a bottleneck network in He et al. 2016) the bottleneck one, then the basic one; `-basic` and
    /// `-bottleneck` after the depth say otherwise, as in `resnet110-bottleneck`. Further endings
    /// are a width (`resnet20-w8`), a shortcut (`resnet34-zero-pad`) and `-no-norm`, in this order;
    /// [`named_with`](Self::named_with) sets the same. `plain` in place of `resnet` leaves the
    /// shortcuts out.
    ///
    /// # Errors
    /// A name that is none, with the nearest one; a depth there is not; an input that is too small.
    pub fn named(name: &str, input: Shape, classes: usize) -> Result<Self, ArchitectureError> {
        Self::named_with(name, input, classes, &ArchitectureOptions::default())
    }

    /// The architecture of this name with some of its properties set or changed.
    ///
    /// ```
    /// use residua_resnet::{Architecture, ArchitectureOptions, Shape, Shortcut};
    ///
    /// let options = ArchitectureOptions { depth: Some(10), width: Some(32), ..Default::default() };
    /// let spirals = Architecture::named_with("dense-resnet", Shape::vector(2), 3, &options)?;
    /// assert_eq!(spirals.name(), "dense-resnet10-w32");
    /// assert_eq!(spirals.depth(), 10);
    /// # Ok::<(), residua_resnet::ArchitectureError>(())
    /// ```
    ///
    /// # Errors
    /// As [`named`](Self::named); an option that the name contradicts.
    pub fn named_with(
        name: &str,
        input: Shape,
        classes: usize,
        options: &ArchitectureOptions,
    ) -> Result<Self, ArchitectureError> {
        let unknown = || ArchitectureError::UnknownName {
            name: name.to_owned(),
            suggestion: suggest::name(name),
        };
        let mut name = Name::parse(name).ok_or_else(unknown)?;
        name.apply(options)?;
        name.describe(input, classes)?.build()
    }
}

/// The name of the same architecture with another shortcut.
pub(crate) fn with_shortcut(name: &str, shortcut: Shortcut) -> String {
    if let Some(mut parsed) = Name::parse(name) {
        parsed.plain = shortcut == Shortcut::None;
        parsed.shortcut = (!parsed.plain).then_some(shortcut);
        if let Ok(layout) = parsed.layout() {
            return parsed.canonical(&layout);
        }
    }
    let endings = [Shortcut::ZeroPad, Shortcut::Projection, Shortcut::ProjectionAll];
    let base = endings
        .iter()
        .filter_map(|ending| name.strip_suffix(ending.as_str())?.strip_suffix('-'))
        .next()
        .or_else(|| name.strip_suffix("-plain"))
        .unwrap_or(name);
    let ending = match shortcut {
        Shortcut::None => "-plain".to_owned(),
        other => format!("-{other}"),
    };
    with_ending(base, &ending)
}

/// The name of the same architecture with so many blocks in its stages.
pub(crate) fn with_blocks(name: &str, blocks: &[usize]) -> String {
    let base = name.split_once(BLOCKS_PER_STAGE).map_or(name, |(base, _)| base);
    if let Some(name) = Name::parse(base).and_then(|parsed| parsed.with_blocks(blocks)) {
        return name;
    }
    let numbers: Vec<String> = blocks.iter().map(usize::to_string).collect();
    let ending = format!("{BLOCKS_PER_STAGE}{}", numbers.join("-"));
    with_ending(base, &ending)
}

/// Both in a row, the first one shortened as far as the limit asks for it.
fn with_ending(base: &str, ending: &str) -> String {
    let mut name = base.to_owned();
    while name.len() + ending.len() > MAX_NAME_LEN && name.pop().is_some() {}
    name + ending
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Series {
    Usual,
    Preact,
    Wide,
    Dense,
}

const SERIES: [(&str, Series); 4] = [
    ("preact-", Series::Preact),
    ("wide-", Series::Wide),
    ("dense-", Series::Dense),
    ("", Series::Usual),
];
const BLOCKS: [(&str, Block); 2] = [("-basic", Block::Basic), ("-bottleneck", Block::Bottleneck)];
const SHORTCUTS: [(&str, Shortcut); 3] = [
    ("-zero-pad", Shortcut::ZeroPad),
    ("-projection-all", Shortcut::ProjectionAll),
    ("-projection", Shortcut::Projection),
];
const NO_NORM: &str = "-no-norm";
const BLOCKS_PER_STAGE: &str = "-blocks-";

/// A name taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    series: Series,
    plain: bool,
    depth: Option<usize>,
    /// Of a wide network its factor.
    width: Option<usize>,
    block: Option<Block>,
    shortcut: Option<Shortcut>,
    norm: bool,
}

/// What follows from a name: its defaults filled in.
struct Layout {
    depth: usize,
    stem: StemKind,
    block: Block,
    default_block: Block,
    default_shortcut: Shortcut,
    /// Channels of the first stage, or the factor of a wide network.
    width: usize,
    default_width: Option<usize>,
    blocks_per_stage: Vec<usize>,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text);
        let series = rest.take_one_of(&SERIES)?;
        let plain = rest.take("plain");
        if !plain && !rest.take("resnet") {
            return None;
        }
        let depth = rest.take_number_after("");
        let width = match series {
            Series::Wide if depth.is_some() => rest.take_number_after("-"),
            Series::Wide => None,
            Series::Usual | Series::Preact | Series::Dense => rest.take_number_after("-w"),
        };
        let block = match series {
            Series::Usual | Series::Preact => rest.take_one_of(&BLOCKS),
            Series::Wide | Series::Dense => None,
        };
        let shortcut = rest.take_one_of(&SHORTCUTS);
        let norm = !rest.take(NO_NORM);
        rest.0.is_empty().then_some(Self { series, plain, depth, width, block, shortcut, norm })
    }

    fn apply(&mut self, options: &ArchitectureOptions) -> Result<(), ArchitectureError> {
        let name = *self;
        if let (true, Some(shortcut)) = (self.plain, self.shortcut) {
            return Err(self.invalid("shortcut", shortcut.as_str(), "none in a plain network"));
        }
        name.merge("depth", &mut self.depth, options.depth)?;
        let width = if self.series == Series::Wide { "width factor" } else { "width" };
        name.merge(width, &mut self.width, options.width)?;
        match options.shortcut {
            None => {}
            Some(Shortcut::None) if self.shortcut.is_none() => self.plain = true,
            Some(shortcut) if self.plain => {
                return Err(self.invalid("shortcut", shortcut.as_str(), "none in a plain network"));
            }
            Some(shortcut) => match self.shortcut {
                Some(named) if named != shortcut => {
                    let expected = format!("{}, as the name says", named.as_str());
                    return Err(self.invalid("shortcut", shortcut.as_str(), &expected));
                }
                _ => self.shortcut = Some(shortcut),
            },
        }
        match options.norm {
            Some(true) if !self.norm => {
                Err(self.invalid("norm", "true", "false, as the name says"))
            }
            Some(false) => {
                self.norm = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn merge(
        &self,
        what: &str,
        named: &mut Option<usize>,
        option: Option<usize>,
    ) -> Result<(), ArchitectureError> {
        match (*named, option) {
            (Some(named), Some(option)) if named != option => {
                let expected = format!("{named}, as the name says");
                Err(self.invalid(what, &option.to_string(), &expected))
            }
            (named_value, option) => {
                *named = named_value.or(option);
                Ok(())
            }
        }
    }

    fn layout(&self) -> Result<Layout, ArchitectureError> {
        match self.series {
            Series::Dense => self.dense_layout(),
            Series::Wide => self.wide_layout(),
            Series::Usual | Series::Preact => {
                let depth = self.depth.ok_or_else(|| self.missing("depth", "20"))?;
                match photograph_blocks(depth) {
                    Some((block, blocks)) => self.photograph_layout(depth, block, blocks),
                    None => self.small_image_layout(depth),
                }
            }
        }
    }

    fn dense_layout(&self) -> Result<Layout, ArchitectureError> {
        let depth = self.depth.unwrap_or(20);
        let blocks_per_stage = match depth {
            2 => Vec::new(),
            _ => vec![self.blocks(depth, 2, 2)?],
        };
        Ok(Layout {
            depth,
            stem: StemKind::Linear,
            block: Block::Dense,
            default_block: Block::Dense,
            default_shortcut: Shortcut::ZeroPad,
            width: self.width.unwrap_or(64),
            default_width: Some(64),
            blocks_per_stage,
        })
    }

    fn wide_layout(&self) -> Result<Layout, ArchitectureError> {
        let missing = |what| self.missing(what, "28-10");
        let depth = self.depth.ok_or_else(|| missing("depth"))?;
        Ok(Layout {
            depth,
            stem: StemKind::Conv3x3,
            block: Block::Basic,
            default_block: Block::Basic,
            default_shortcut: Shortcut::Projection,
            width: self.width.ok_or_else(|| missing("width factor"))?,
            default_width: None,
            blocks_per_stage: vec![self.blocks(depth, 6, 4)?; 3],
        })
    }

    fn photograph_layout(
        &self,
        depth: usize,
        block: Block,
        blocks_per_stage: [usize; 4],
    ) -> Result<Layout, ArchitectureError> {
        if self.block.is_some() {
            let expected = "none, as the network for photographs of this depth has its own";
            return Err(self.invalid("block", "given", expected));
        }
        Ok(Layout {
            depth,
            stem: StemKind::Conv7x7Pool,
            block,
            default_block: block,
            default_shortcut: Shortcut::Projection,
            width: self.width.unwrap_or(64),
            default_width: Some(64),
            blocks_per_stage: blocks_per_stage.to_vec(),
        })
    }

    fn small_image_layout(&self, depth: usize) -> Result<Layout, ArchitectureError> {
        let default_block = match depth {
            // 6·27+2 as well; the one known by this depth (He et al. 2016) is 9·18+2.
            164 => Block::Bottleneck,
            _ if fits(depth, 6, 2) => Block::Basic,
            _ if fits(depth, 9, 2) => Block::Bottleneck,
            _ if self.block.is_some() => Block::Basic,
            _ => return Err(self.no_such_depth(depth)),
        };
        let block = self.block.unwrap_or(default_block);
        let (step, default_shortcut) = match block {
            Block::Bottleneck => (9, Shortcut::Projection),
            Block::Basic | Block::Dense => (6, Shortcut::ZeroPad),
        };
        Ok(Layout {
            depth,
            stem: StemKind::Conv3x3,
            block,
            default_block,
            default_shortcut,
            width: self.width.unwrap_or(16),
            default_width: Some(16),
            blocks_per_stage: vec![self.blocks(depth, step, 2)?; 3],
        })
    }

    fn no_such_depth(&self, depth: usize) -> ArchitectureError {
        let is_one = |&depth: &usize| {
            photograph_blocks(depth).is_some() || fits(depth, 6, 2) || fits(depth, 9, 2)
        };
        let below = (0..depth).rev().find(is_one).map(|depth| format!("{depth} or "));
        let above = (depth..).find(is_one).unwrap_or(8);
        let expected = format!("6n+2 or 9n+2, such as {}{above}", below.unwrap_or_default());
        self.invalid("depth", &depth.to_string(), &expected)
    }

    /// The name with so many blocks in each stage, if there is one.
    fn with_blocks(self, blocks: &[usize]) -> Option<String> {
        let layout = self.layout().ok()?;
        let layers = layout.block.depth();
        let rest = layout.depth - layout.blocks_per_stage.iter().sum::<usize>() * layers;
        let num_blocks = blocks.iter().try_fold(0_usize, |sum, &blocks| sum.checked_add(blocks))?;
        let depth = num_blocks.checked_mul(layers)?.checked_add(rest)?;
        let other = Self { depth: Some(depth), ..self };
        let other_layout = other.layout().ok()?;
        let same = other_layout.block == layout.block && other_layout.blocks_per_stage == blocks;
        same.then(|| other.canonical(&other_layout))
    }

    /// `n` of a depth `step·n + rest`.
    fn blocks(&self, depth: usize, step: usize, rest: usize) -> Result<usize, ArchitectureError> {
        if fits(depth, step, rest) {
            return Ok((depth - rest) / step);
        }
        let below = (depth.saturating_sub(rest) / step).max(1);
        let [below, above] =
            [below, below.saturating_add(1)].map(|n| n.saturating_mul(step).saturating_add(rest));
        let expected = format!("{step}n+{rest} with n of at least 1, such as {below} or {above}");
        Err(self.invalid("depth", &depth.to_string(), &expected))
    }

    fn describe(
        &self,
        input: Shape,
        classes: usize,
    ) -> Result<ArchitectureBuilder, ArchitectureError> {
        let layout = self.layout()?;
        let family = match (self.series, self.plain) {
            (Series::Preact | Series::Wide, _) => Family::Preact,
            (_, true) => Family::Plain,
            (_, false) => Family::Residual,
        };
        let shortcut = match self.plain {
            true => Shortcut::None,
            false => self.shortcut.unwrap_or(layout.default_shortcut),
        };
        let (stem_width, width) = match self.series {
            Series::Wide => (16, layout.width.saturating_mul(16)),
            _ => (layout.width, layout.width),
        };
        let mut builder = Architecture::builder(input, classes)
            .name(&self.canonical(&layout))
            .family(family)
            .block(layout.block)
            .shortcut(shortcut)
            .norm(self.norm)
            .stem(layout.stem, stem_width);
        for (i, &blocks) in layout.blocks_per_stage.iter().enumerate() {
            let stride = if i == 0 { 1 } else { 2 };
            builder = builder.stage(blocks, width.saturating_mul(1 << i), stride);
        }
        Ok(builder)
    }

    /// The name that says all that is not usual and nothing else.
    fn canonical(&self, layout: &Layout) -> String {
        let width = match self.series {
            Series::Wide => Some(layout.width),
            _ => Some(layout.width).filter(|_| layout.default_width != Some(layout.width)),
        };
        let block = Some(layout.block).filter(|&block| block != layout.default_block);
        let shortcut = self.shortcut.filter(|&shortcut| shortcut != layout.default_shortcut);
        Self { depth: Some(layout.depth), width, block, shortcut, ..*self }.to_string()
    }

    fn missing(&self, what: &str, example: &str) -> ArchitectureError {
        let bare = Self { depth: None, width: None, block: None, shortcut: None, ..*self };
        let bare = Self { norm: true, ..bare };
        self.invalid(what, "not given", &format!("one as in {bare}{example}"))
    }

    fn invalid(&self, what: &str, got: &str, expected: &str) -> ArchitectureError {
        ArchitectureError::Invalid {
            architecture: self.to_string(),
            what: what.to_owned(),
            got: got.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

/// What [`Name::parse`] reads.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&SERIES, self.series))?;
        f.write_str(if self.plain { "plain" } else { "resnet" })?;
        if let Some(depth) = self.depth {
            write!(f, "{depth}")?;
        }
        match (self.series, self.width) {
            (_, None) => {}
            (Series::Wide, Some(factor)) => write!(f, "-{factor}")?,
            (_, Some(width)) => write!(f, "-w{width}")?,
        }
        f.write_str(self.block.map_or("", |block| word(&BLOCKS, block)))?;
        f.write_str(self.shortcut.map_or("", |shortcut| word(&SHORTCUTS, shortcut)))?;
        f.write_str(if self.norm { "" } else { NO_NORM })
    }
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).map_or("", |(word, _)| word)
}

/// Whether a depth is `step·n + rest` with n of at least 1.
fn fits(depth: usize, step: usize, rest: usize) -> bool {
    depth >= step + rest && (depth - rest).is_multiple_of(step)
}

/// Table 1 of He et al. 2015.
fn photograph_blocks(depth: usize) -> Option<(Block, [usize; 4])> {
    match depth {
        18 => Some((Block::Basic, [2, 2, 2, 2])),
        34 => Some((Block::Basic, [3, 4, 6, 3])),
        50 => Some((Block::Bottleneck, [3, 4, 6, 3])),
        101 => Some((Block::Bottleneck, [3, 4, 23, 3])),
        152 => Some((Block::Bottleneck, [3, 8, 36, 3])),
        _ => None,
    }
}

/// What is left of a name.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn take(&mut self, prefix: &str) -> bool {
        match self.0.strip_prefix(prefix) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn take_one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Option<T> {
        words.iter().find(|(word, _)| self.take(word)).map(|&(_, value)| value)
    }

    /// Takes `{prefix}{number}`, or nothing at all.
    fn take_number_after(&mut self, prefix: &str) -> Option<usize> {
        let text = self.0.strip_prefix(prefix)?;
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u32 = text[..end].parse().ok()?;
        self.0 = &text[end..];
        usize::try_from(number).ok()
    }
}
