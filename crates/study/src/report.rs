use askama::Template;

use crate::{Chart, Section};

/// A page that needs nothing beside itself: no scripts, no other files.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: &'a str,
    sections: Vec<Shown<'a>>,
}

impl Page<'_> {
    /// Tables with more are folded, for the reader to open.
    const MOST_ROWS_SHOWN: usize = 12;
}

/// A section with its charts drawn.
struct Shown<'a> {
    section: &'a Section,
    charts: Vec<Drawn<'a>>,
}

struct Drawn<'a> {
    caption: &'a str,
    svg: String,
}

impl<'a> From<&'a Chart> for Drawn<'a> {
    fn from(chart: &'a Chart) -> Self {
        Self { caption: &chart.caption, svg: chart.lines.figure().svg() }
    }
}

/// The HTML of a page with these sections, in this order. Plots are in it as SVG, so that it is one file;
/// it has no scripts. Long tables are folded.
pub fn report(title: &str, sections: &[Section]) -> String {
    let shown =
        |section| Shown { section, charts: section.charts.iter().map(Into::into).collect() };
    let page = Page { title, sections: sections.iter().map(shown).collect() };
    page.render().expect("a page of strings renders")
}
