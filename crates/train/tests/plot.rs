//! What must be in the plots; how they look is for eyes.

use residua_train::plot::{ErrorCurve, confusion_matrix, error_curves};

fn curve(name: &str, num_points: u64, floor: f64) -> ErrorCurve {
    let error = |x: f64| floor + (90.0 - floor) * (-x * 8.0).exp();
    let point = |i: u64| (i * 400, error(i as f64 / num_points as f64));
    let dev = |i: u64| (i * 400, error(i as f64 / num_points as f64) + 4.0);
    ErrorCurve {
        name: name.to_owned(),
        train: (1..=num_points).map(point).collect(),
        dev: (1..=num_points).step_by(4).map(dev).collect(),
    }
}

/// Writes the plot where somebody asked to see it.
fn show(name: &str, svg: &str) {
    if let Some(folder) = std::env::var_os("RESIDUA_TEST_PLOTS") {
        std::fs::write(std::path::Path::new(&folder).join(name), svg).unwrap();
    }
}

#[test]
fn curves_of_several_networks_share_a_plot() {
    let curves = [curve("plain-20", 160, 9.0), curve("resnet-20 <a & b>", 160, 3.0)];
    let svg = error_curves("plain-20 and resnet-20", &curves).svg();
    show("curves.svg", &svg);
    assert!(svg.starts_with("<svg"), "{}", &svg[..40]);
    for text in ["plain-20 train", "plain-20 dev", "resnet-20 &lt;a &amp; b&gt; dev"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.starts_with("<svg viewBox=\"0 0 720 460\" "), "{}", &svg[..80]);
    assert!(svg.contains("step (thousands)") && svg.contains("error (%)"));
    assert_eq!(svg.matches("stroke-dasharray").count(), 4, "two dashed lines and their keys");
}

#[test]
fn a_run_without_points_or_with_one_still_draws() {
    let one = ErrorCurve { name: "one".into(), train: vec![(1, 90.0)], dev: vec![(1, 91.0)] };
    let nan = ErrorCurve { name: "nan".into(), train: vec![(1, f64::NAN)], dev: vec![] };
    for curves in [vec![], vec![ErrorCurve::default()], vec![one], vec![nan]] {
        let svg = error_curves("short", &curves).svg();
        assert!(svg.contains("</svg>") && !svg.contains("NaN"), "{curves:?}");
    }
}

#[test]
fn a_single_evaluation_is_a_mark_and_none_is_not_named() {
    let marks = |svg: &str| svg.matches("<circle").count();
    let whole = curve("whole", 40, 3.0);
    let svg = |dev: &[(u64, f64)]| {
        error_curves("x", &[ErrorCurve { dev: dev.to_vec(), ..whole.clone() }]).svg()
    };
    let [none, one, many] = [&whole.dev[..0], &whole.dev[..1], &whole.dev].map(svg);
    show("one-evaluation.svg", &one);
    assert!(!none.contains("whole dev") && one.contains("whole dev"));
    assert!(marks(&one) > marks(&many), "{} marks", marks(&one));
}

/// Where a text stands, as (x, y).
fn position(svg: &str, text: &str) -> (f64, f64) {
    let end = svg.find(&format!(">{text}</text>")).unwrap_or_else(|| panic!("{text} is missing"));
    let tag = &svg[svg[..end].rfind("<text").expect("a text element")..end];
    let attribute = |name: &str| {
        let (_, rest) = tag.split_once(&format!(" {name}=\"")).expect("a position");
        rest.split_once('"').and_then(|(value, _)| value.parse().ok()).expect("a number")
    };
    (attribute("x"), attribute("y"))
}

#[test]
fn a_confusion_matrix_has_true_classes_as_rows_from_the_top() {
    let classes: Vec<String> = ["airplane", "bird", "cat"].map(String::from).into();
    let confusion = [vec![871, 30, 31], vec![40, 542, 43], vec![5, 54, 155]];
    let figure = confusion_matrix("confusion, test", &classes, &confusion.map(Vec::from));
    let svg = figure.svg();
    show("confusion.svg", &svg);
    for class in &classes {
        assert_eq!(svg.matches(&format!(">{class}<")).count(), 2, "{class}: a row and a column");
    }
    for (label, count) in [("airplane", "871"), ("bird", "542"), ("cat", "155")] {
        let (_, label_y) = position(&svg, label); // rows are labelled before columns
        assert!((position(&svg, count).1 - label_y).abs() < 8.0, "{count} is not in row {label}");
    }
    let (x, y) = position(&svg, "40");
    assert!(x < position(&svg, "542").0 && y > position(&svg, "30").1);
    assert!(svg.contains("predicted class") && svg.contains("true class"));
}
