//! Learning rates against PyTorch's schedulers (`tools/golden/schedules.py`).

use residua_train::{Schedule, warmup_factor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    base_lr: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    schedule: Schedule,
    total_steps: u64,
    warmup_steps: u64,
    lr: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/schedules.json")).expect("the golden file parses")
}

/// The first step at which `schedule` leaves the expected learning rates, if any. PyTorch computes
/// the cosine by a recursion whose rounding adds up to a few 1e-16.
fn first_mismatch(case: &Case, base_lr: f64, schedule: &Schedule) -> Option<u64> {
    let lr = |step| {
        let warmup = warmup_factor(step, case.warmup_steps);
        base_lr * schedule.factor(step, case.total_steps) * warmup
    };
    (0..case.total_steps).find(|&step| (lr(step) - case.lr[step as usize]).abs() > 1e-14)
}

#[test]
fn schedules_match_pytorch() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 10);
    for case in &golden.cases {
        assert_eq!(case.lr.len() as u64, case.total_steps);
        let mismatch = first_mismatch(case, golden.base_lr, &case.schedule);
        assert_eq!(mismatch, None, "{:?} over {}", case.schedule, case.total_steps);
    }
}

#[test]
fn the_comparison_rejects_every_other_schedule() {
    let golden = golden();
    let step = |milestones: &[u64], gamma| Schedule::Step { milestones: milestones.into(), gamma };
    let wrong = [
        Schedule::Constant,
        Schedule::Paper,
        Schedule::Linear,
        Schedule::Cosine,
        Schedule::OneCycle,
        step(&[5, 7, 17], 0.3),
        step(&[5, 6, 17], 0.1),
    ];
    for case in golden.cases.iter().filter(|case| case.total_steps > 2) {
        for schedule in wrong.iter().filter(|&schedule| *schedule != case.schedule) {
            let mismatch = first_mismatch(case, golden.base_lr, schedule);
            assert!(mismatch.is_some(), "{schedule:?} passes for {:?}", case.schedule);
        }
        let late = Case {
            schedule: case.schedule.clone(),
            total_steps: case.total_steps,
            warmup_steps: case.warmup_steps + 2,
            lr: case.lr.clone(),
        };
        assert_eq!(first_mismatch(&late, golden.base_lr, &case.schedule), Some(0));
    }
}

#[test]
fn any_length_of_run_has_a_finite_learning_rate() {
    let step = Schedule::Step { milestones: vec![], gamma: 0.1 };
    let (linear, cosine) = (Schedule::Linear, Schedule::Cosine);
    for schedule in [Schedule::Constant, Schedule::Paper, step, linear, cosine, Schedule::OneCycle]
    {
        for total_steps in 1..20 {
            for step in 0..total_steps {
                let factor = schedule.factor(step, total_steps);
                assert!((0.0..=1.0).contains(&factor), "{schedule:?} {step}/{total_steps}");
            }
        }
    }
}
