//! Medians and their bootstrap intervals.

/// A median with the interval that holds 95% of its bootstrap resamples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

const RESAMPLES: usize = 10_000;

/// Median of the values, and the 95% percentile-bootstrap interval of that median; `None` of nothing.
///
/// The resamples come from a fixed seed: the same values give the same interval.
pub(super) fn estimate(values: &[f64]) -> Option<Estimate> {
    let median_of_all = median(&mut values.to_vec())?;
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let mut resample: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
            median(&mut resample)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    Some(Estimate {
        median: median_of_all,
        low: medians[RESAMPLES / 40],
        high: medians[RESAMPLES - 1 - RESAMPLES / 40],
    })
}

/// The middle value, or the mean of the two middle ones.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[values.len() / 2 - 1], upper) })
}

/// Marsaglia's xorshift64*.
struct Xorshift(u64);

impl Xorshift {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let wide = u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * bound as u128;
        (wide >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::{estimate, median};

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_more_values() {
        let few: Vec<f64> = (0..10).map(|n| 1.0 + f64::from(n) / 10.0).collect();
        let many: Vec<f64> = few.iter().copied().cycle().take(1000).collect();
        let (few, many) = (estimate(&few).expect("values"), estimate(&many).expect("values"));
        for estimate in [few, many] {
            assert!(estimate.low <= estimate.median && estimate.median <= estimate.high, "{estimate:?}");
        }
        assert!(many.high - many.low < few.high - few.low, "{many:?} {few:?}");
        assert!(few.high < 1.9 && few.low > 1.0, "{few:?}");
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let same = estimate(&[1.25; 30]).expect("values");
        assert_eq!((same.low, same.median, same.high), (1.25, 1.25, 1.25));
    }
}
