//! What is told of work that was timed again and again.

use serde::Serialize;

/// Median and spread of the time of a step or a batch, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Times {
    ms_p50: f64,
    ms_p10: f64,
    ms_p90: f64,
}

impl Times {
    pub(super) fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms[((ms.len() - 1) as f64 * share).round() as usize];
        Self { ms_p50: at(0.5), ms_p10: at(0.1), ms_p90: at(0.9) }
    }

    /// What the median makes a second, of something that there is so much of each time.
    pub(super) fn per_s(&self, each: f64) -> f64 {
        each / (self.ms_p50 / 1e3)
    }

    /// The median and the spread for a table.
    pub(super) fn cells(&self) -> [String; 2] {
        [format!("{:.2}", self.ms_p50), format!("{:.2}–{:.2}", self.ms_p10, self.ms_p90)]
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn the_median_and_the_spread_leave_outliers_out() {
        let mut ms: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        ms.push(1000.0);
        let times = Times::of(ms);
        assert_eq!((times.ms_p50, times.ms_p10, times.ms_p90), (6.0, 2.0, 10.0));
        assert_eq!(times.per_s(3.0), 500.0);
        assert_eq!(Times::of(vec![7.0]).cells(), ["7.00", "7.00–7.00"]);
    }
}
