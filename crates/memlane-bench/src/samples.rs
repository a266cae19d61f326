//! Medians, percentiles, and ratios of what was measured in turns.

/// The middle, or the mean of both middles; `None` of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// The smallest value that so many per cent of all do not exceed; `None` of nothing.
pub(crate) fn percentile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// How many times `to` is `of`: the median over the turns, as each turn saw the same machine.
pub(crate) fn ratio(of: &[f64], to: &[f64]) -> Option<f64> {
    median(of.iter().zip(to).map(|(of, to)| of / to))
}

#[cfg(test)]
mod tests {
    use super::{median, percentile, ratio};

    #[test]
    fn median_is_the_middle_in_any_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(percentile(values.clone(), 99), Some(990.0));
        assert_eq!(percentile(values, 100), Some(1000.0));
        assert_eq!(percentile(vec![5.0], 99), Some(5.0));
        assert_eq!(percentile(vec![1.0, 2.0], 0), Some(1.0));
        assert_eq!(percentile(vec![], 50), None);
    }

    #[test]
    fn ratio_compares_neighbours_not_medians() {
        // The machine was ten times slower in two of three turns: each turn still says 2.
        assert_eq!(ratio(&[2.0, 20.0, 20.0], &[1.0, 10.0, 10.0]), Some(2.0));
        // The ratio of the medians would be 3.
        assert_eq!(ratio(&[1.0, 3.0, 9.0], &[1.0, 1.0, 9.0]), Some(1.0));
        assert_eq!(ratio(&[], &[]), None);
    }
}
